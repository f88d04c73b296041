"""Counts of questions by type, hop, template and answer; they can be taken while items pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from .items import QaItem


@dataclass
class Summary:
    """What a set of questions consists of.

    Attributes:
        splits: split to number of questions.
        by_type_and_hop: type and number of hops to number of questions.
        answers: type to its answers with how often each is right.
        template_answers: the same for each template, of the questions that name one.
    """

    splits: Counter[str] = field(default_factory=Counter)
    by_type_and_hop: Counter[tuple[str, int]] = field(default_factory=Counter)
    answers: dict[str, Counter[str]] = field(default_factory=dict)
    template_answers: dict[str, Counter[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, items: Iterable[QaItem]) -> Summary:
        """The summary of these questions."""
        summary = cls()
        for item in items:
            summary.add(item)
        return summary

    def add(self, item: QaItem) -> None:
        """Count one question."""
        self.splits[item.split] += 1
        self.by_type_and_hop[item.template_type, item.num_hop] += 1
        self.answers.setdefault(item.template_type, Counter())[item.answer] += 1
        if item.template is not None:
            self.template_answers.setdefault(item.template, Counter())[item.answer] += 1

    @property
    def total(self) -> int:
        """Number of questions."""
        return self.splits.total()

    def majority_share(self, template_type: str) -> float:
        """Share of the most frequent answer among the questions of a type, 0 without any."""
        return majority_share(self.answers.get(template_type, Counter()))


def majority_share(answers: Counter[str]) -> float:
    """Share of the most frequent answer, 0 without any."""
    return max(answers.values(), default=0) / max(answers.total(), 1)
