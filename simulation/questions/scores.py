"""Accuracy as NuScenes-QA reports it: exact matches, over all, by type, by hop and by both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...runtime.errors import DataError
from .items import QaItem


@dataclass
class Share:
    """Right answers among questions.

    Attributes:
        right: how many were answered right.
        questions: how many were asked.
    """

    right: int = 0
    questions: int = 0

    @property
    def accuracy(self) -> float | None:
        """0 to 1; None without questions."""
        return self.right / self.questions if self.questions else None


@dataclass
class Score:
    """Accuracy of a set of answers.

    Attributes:
        overall: every question counts the same (micro average).
        by_type: by type of question.
        by_hop: by number of hops.
        by_type_and_hop: by both.
        confused: expected and given answer to how often, of wrong answers.
    """

    overall: Share = field(default_factory=Share)
    by_type: dict[str, Share] = field(default_factory=dict)
    by_hop: dict[int, Share] = field(default_factory=dict)
    by_type_and_hop: dict[tuple[str, int], Share] = field(default_factory=dict)
    confused: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, item: QaItem, answer: str | None) -> None:
        """Count one answer; None, no answer, is a wrong one."""
        right = answer == item.answer
        for share in (
            self.overall,
            self.by_type.setdefault(item.template_type, Share()),
            self.by_hop.setdefault(item.num_hop, Share()),
            self.by_type_and_hop.setdefault((item.template_type, item.num_hop), Share()),
        ):
            share.questions += 1
            share.right += right
        if not right:
            self.confused[item.answer, answer or ""] += 1


def score(items: Sequence[QaItem], answers: Sequence[str | None]) -> Score:
    """Score answers against the right ones, by exact match.

    Args:
        items: the questions.
        answers: one for each, None where there was no answer.

    Raises:
        DataError: there is not one answer for each question.
    """
    if len(items) != len(answers):
        raise DataError(
            f"there are {len(answers)} answers to {len(items)} questions",
            field="answers",
            remedy="give one answer per question, None where there is none",
        )
    result = Score()
    for item, answer in zip(items, answers, strict=True):
        result.add(item, answer)
    return result
