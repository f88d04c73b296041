"""One question with its answer, as files of NuScenes-QA hold it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "val"]


@dataclass(frozen=True, slots=True)
class QaItem:
    """A question about one keyframe.

    Attributes:
        sample_token: of the keyframe.
        question: the text.
        answer: one of `NUSCENES_QA_ANSWERS`.
        template_type: `exist`, `count`, `object`, `status` or `comparison`.
        num_hop: 0 or 1, how many relations between places the question follows.
        split: `train` or `val`, as the file says.
        template: which of our templates; None in files of others.
    """

    sample_token: str
    question: str
    answer: str
    template_type: str
    num_hop: int
    split: str
    template: str | None = None
