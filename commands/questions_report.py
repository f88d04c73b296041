"""What `tailwire questions` tells: counts, balance of the answers, accuracy without any sensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ..simulation.questions.baselines import Baselines, blind_score
from ..simulation.questions.items import QaItem
from ..simulation.questions.scores import Score
from ..simulation.questions.summary import Summary
from ..simulation.questions.templates import TEMPLATE_TYPES


@dataclass(frozen=True)
class QuestionsReport:
    """Figures of a set of questions.

    Attributes:
        files: where they are.
        summary: their counts.
        keyframes: how many they are about.
        elsewhere: questions of a checked file that are about keyframes of other data sets.
        baselines: name of each baseline to its score on `val`, fitted on `train`; empty unless
            both splits are there.
    """

    files: Sequence[Path]
    summary: Summary
    keyframes: int
    elsewhere: int
    baselines: Mapping[str, Score]

    @classmethod
    def of(
        cls, items: Sequence[QaItem], files: Sequence[Path], elsewhere: int = 0
    ) -> QuestionsReport:
        """Count `items` and measure what they give away without a sensor."""
        train = [item for item in items if item.split == "train"]
        val = [item for item in items if item.split == "val"]
        baselines = Baselines.fit(train).scores(val) if train and val else {}
        keyframes = len({item.sample_token for item in items})
        return cls(files, Summary.of(items), keyframes, elsewhere, baselines)

    def as_json(self) -> dict[str, object]:
        """The figures as what JSON can hold; shares from 0 to 1."""
        return {
            "files": [str(file) for file in self.files],
            "questions": self.summary.total,
            "questions_elsewhere": self.elsewhere,
            "keyframes": self.keyframes,
            "splits": dict(self.summary.splits),
            "by_type_and_hop": {
                f"{kind}, {hop}": count
                for (kind, hop), count in sorted(self.summary.by_type_and_hop.items())
            },
            "templates": len(self.summary.template_answers),
            "majority_share": {
                kind: round(self.summary.majority_share(kind), 4) for kind in self._kinds
            },
            "blind": None if not self.baselines else blind_score(self.baselines)[0],
            "baselines": {name: _score_json(found) for name, found in self.baselines.items()},
        }

    def print(self) -> None:
        """Print tables."""
        console = Console()
        table = Table("type", "0 hop", "1 hop", "answers", "majority answer", title="Questions")
        for kind in self._kinds:
            answers = self.summary.answers[kind]
            (word, _), *_ = answers.most_common(1)
            counts = (str(self.summary.by_type_and_hop[kind, hop]) for hop in (0, 1))
            share = f"{word} {_percent(self.summary.majority_share(kind))}"
            table.add_row(kind, *counts, str(len(answers)), share)
        console.print(table)
        per_keyframe = self.summary.total / max(self.keyframes, 1)
        splits = ", ".join(f"{count} {split}" for split, count in self.summary.splits.items())
        console.print(
            f"{self.summary.total} questions ({splits}) about {self.keyframes} keyframes, "
            f"{per_keyframe:.1f} each"
        )
        if self.elsewhere:
            noun = "question is" if self.elsewhere == 1 else "questions are"
            console.print(f"{self.elsewhere} more {noun} about keyframes of other data sets")
        if self.baselines:
            console.print(self._accuracy_table())
            name, blind = blind_score(self.baselines)
            console.print(f"blind: {_percent(blind.overall.accuracy)} ({name})")
        else:
            console.print("blind: not measured, it needs questions of both splits, train and val")
        for file in self.files:
            console.print(str(file), soft_wrap=True, markup=False, highlight=False)

    @property
    def _kinds(self) -> list[str]:
        return [kind for kind in TEMPLATE_TYPES if kind in self.summary.answers]

    def _accuracy_table(self) -> Table:
        """A row for each baseline, fitted on train and tested on val."""
        title = "Accuracy on val without any sensor, %"
        table = Table("baseline", *self._kinds, "0 hop", "1 hop", "all", title=title)
        for name, found in self.baselines.items():
            shares = [found.by_type.get(kind) for kind in self._kinds]
            shares += [found.by_hop.get(0), found.by_hop.get(1), found.overall]
            cells = (_percent(share and share.accuracy).removesuffix(" %") for share in shares)
            table.add_row(name, *cells)
        return table


def _score_json(found: Score) -> dict[str, object]:
    return {
        "overall": found.overall.accuracy,
        "by_type": {kind: share.accuracy for kind, share in sorted(found.by_type.items())},
        "by_hop": {str(hop): share.accuracy for hop, share in sorted(found.by_hop.items())},
    }


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
