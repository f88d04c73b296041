"""Another split of scenes than the one in the files of questions, and fewer questions.

The files hold out every fifth scene. Where errors are those of scenes, more of them make smaller
ones; where a step is expensive, fewer questions about each keyframe are enough.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..runtime.errors import ConfigError
from ..simulation.questions.items import QaItem
from .moments import TrainingMoment


@dataclass(frozen=True)
class QuestionSplit:
    """What is learned and what is asked.

    Attributes:
        held_out: so many scenes of so many, evenly over those of each condition; None for the
            split of the files.
        learned: questions of a keyframe to learn, None for all.
        asked: questions of a held-out keyframe, None for all.
    """

    held_out: tuple[int, int] | None = None
    learned: int | None = None
    asked: int | None = None

    def as_json(self) -> dict[str, str | int]:
        """What is not as in the files, for a record."""
        found: dict[str, str | int] = {}
        if self.held_out is not None:
            found["held_out_scenes"] = f"{self.held_out[0]} of {self.held_out[1]}"
        if self.learned is not None:
            found["questions_learned"] = self.learned
        if self.asked is not None:
            found["questions_asked"] = self.asked
        return found


def split_anew(
    moments: Sequence[TrainingMoment], items: Sequence[QaItem], split: QuestionSplit, seed: int
) -> list[QaItem]:
    """Questions about some keyframes, split by scene.

    Args:
        moments: keyframes; questions about others are left out.
        items: questions.
        split: what is wanted.
        seed: of the choice of questions.

    Returns:
        In their order; those to learn come first where the split is another one.

    Raises:
        ConfigError: the scenes of a condition are too few for the share that is held out.
    """
    rows = {moment.token: row for row, moment in enumerate(moments)}
    items = [item for item in items if item.sample_token in rows]
    if split.held_out is not None:
        held = _held_out(moments, *split.held_out)
        parts = ["val" if rows[item.sample_token] in held else "train" for item in items]
        items = [replace(item, split=part) for item, part in zip(items, parts, strict=True)]
        items.sort(key=lambda item: item.split)
    about: dict[tuple[int, str], list[int]] = defaultdict(list)
    for place, item in enumerate(items):
        about[rows[item.sample_token], item.split].append(place)
    kept: list[int] = []
    for (row, part), own in about.items():
        most = split.learned if part == "train" else split.asked
        kept += np.random.default_rng([seed, row]).permutation(own)[:most].tolist()
    return [items[place] for place in sorted(kept)]


def _held_out(moments: Sequence[TrainingMoment], some: int, of: int) -> set[int]:
    """Rows of held-out keyframes."""
    scenes: dict[str, dict[tuple[int, str], list[int]]] = defaultdict(lambda: defaultdict(list))
    for row, moment in enumerate(moments):
        scenes[moment.condition][id(moment.data), moment.scene].append(row)
    found: set[int] = set()
    for condition, by_scene in scenes.items():
        kept = [rows for place, rows in enumerate(by_scene.values()) if _takes(place, some, of)]
        if not kept or len(kept) == len(by_scene):
            raise ConfigError(
                f"of {len(by_scene)} scenes by {condition}, {some} of {of} cannot be held out",
                field="--held-out",
                remedy=f"give at least {of} scenes of each condition, or leave {condition} out "
                "(--conditions)",
            )
        found.update(row for rows in kept for row in rows)
    return found


def _takes(place: int, some: int, of: int) -> bool:
    """Whether the scene at this place is one of `some` in `of`, evenly."""
    return (place + 1) * some // of > place * some // of
