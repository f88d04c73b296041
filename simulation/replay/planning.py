"""Chooses from the questions of a file those that a drive can be asked."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ...runtime.errors import DataError
from ...runtime.questions import NUSCENES_QA_ANSWERS, Question
from ..questions.items import QaItem
from .asking import PlannedQuestion


@dataclass(frozen=True)
class Selection:
    """The questions of a file that a drive can be asked.

    Attributes:
        items: in the order of the file.
        elsewhere: of the wanted split, about keyframes that the drive does not have.
        over_limit: left out because their keyframe has enough.
        other_split: of another split.
    """

    items: Sequence[QaItem]
    elsewhere: int
    over_limit: int
    other_split: int


def select(
    items: Sequence[QaItem],
    sample_tokens: Collection[str],
    *,
    split: str,
    limit: int | None = None,
    file: str = "questions",
) -> Selection:
    """Choose the questions that can be asked.

    Args:
        items: of a file.
        sample_tokens: keyframes that are going to be played.
        split: `train`, `val` or another one of the file, or `all`.
        limit: most questions of a keyframe, taken evenly over those that the file has of it.
        file: named in errors.

    Raises:
        DataError: no question is left.
    """
    known = frozenset(sample_tokens)
    wanted = [item for item in items if split in ("all", item.split)]
    here = [item for item in wanted if item.sample_token in known]
    if not here:
        _fail(items, wanted, split, file)
    kept = here if limit is None else _evenly(here, limit)
    return Selection(
        items=kept,
        elsewhere=len(wanted) - len(here),
        over_limit=len(here) - len(kept),
        other_split=len(items) - len(wanted),
    )


def planned_by_sample(
    items: Sequence[QaItem], guesses: Mapping[str, Sequence[str]]
) -> dict[str, list[PlannedQuestion]]:
    """The questions by keyframe.

    Args:
        items: chosen by `select`.
        guesses: of each baseline, one per question.
    """
    planned: dict[str, list[PlannedQuestion]] = {}
    for index, item in enumerate(items):
        planned.setdefault(item.sample_token, []).append(
            PlannedQuestion(
                Question(item.question, NUSCENES_QA_ANSWERS),
                item,
                {name: answers[index] for name, answers in guesses.items()},
            )
        )
    return planned


def _fail(items: Sequence[QaItem], wanted: Sequence[QaItem], split: str, file: str) -> None:
    if not items:
        raise DataError("there is no question in it", field=file, remedy="name another file")
    if not wanted:
        found = ", ".join(sorted({item.split for item in items}))
        raise DataError(
            f"there is no question of the split '{split}'; there are {found}",
            field=file,
            remedy="choose another with --split, or --split all",
        )
    raise DataError(
        f"none of its {len(wanted)} questions is about a keyframe of this drive",
        field=file,
        remedy="name the questions of this data set, or another scene",
    )


def _evenly(items: Sequence[QaItem], limit: int) -> list[QaItem]:
    """At most `limit` of each keyframe; the first would be of one kind where a file is sorted."""
    by_sample: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        by_sample.setdefault(item.sample_token, []).append(index)
    kept: list[int] = []
    for indices in by_sample.values():
        count = min(limit, len(indices))
        kept += [indices[place * len(indices) // count] for place in range(count)]
    return [items[index] for index in sorted(kept)]
