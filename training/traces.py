"""Which objects a question is about: dense supervision that made drives have for free.

A question's program selects objects; whether a token stands for one of them is known for every
row, where its answer is a single word. Training looks at these rows beside the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..kernels.object_tokens import OBJECT_CLASSES, POSITION_SCALE_M, nearest_first
from ..runtime.adaptation.samples import ROLES, ROW_BYTES
from ..simulation.annotated_objects import OBJECTS
from ..simulation.nuscenes import NuScenes
from ..simulation.questions.items import QaItem
from ..simulation.questions.parse import program_of
from ..simulation.questions.programs import GraphIndex, Program, Selection
from ..simulation.questions.scene_graph import scene_graph
from .moments import TrainingMoment
from .question_samples import Trace

#: A detection belongs to an object of its class that is no farther away than this.
_NEAR_M = 2.5
_X, _Y = 18, 19


class Traces:
    """Traces of questions about some keyframes, one scene graph held at a time."""

    def __init__(self, moments: Sequence[TrainingMoment]) -> None:
        self._data = {moment.token: moment.data for moment in moments}
        self._programs: dict[str, Program | None] = {}
        self._held: tuple[str, Tracer] | None = None

    def __call__(self, item: QaItem) -> Trace | None:
        """Of a question; None where its text is not one of ours."""
        data = self._data.get(item.sample_token)
        if data is None:
            return None
        if item.question not in self._programs:
            self._programs[item.question] = program_of(item.question)
        program = self._programs[item.question]
        if program is None:
            return None
        if self._held is None or self._held[0] != item.sample_token:
            self._held = (item.sample_token, Tracer(data, item.sample_token))
        return self._held[1].bits(program)


class Tracer:
    """Tells the rows of the scene graph that questions about one keyframe select."""

    def __init__(self, data: NuScenes, sample_token: str) -> None:
        self._index = GraphIndex(scene_graph(data, sample_token))

    def bits(self, program: Program) -> Trace:
        """Bits of the objects that are meant for certain, and of those that might be.

        Returns:
            uint8 `[3, ROW_BYTES]` each: of the first selection, the second, and the anchors.
        """
        certain = np.zeros((ROLES, ROW_BYTES * 8), np.bool_)
        possible = np.zeros_like(certain)
        anchors = [p.anchor for p in (program.first, program.second) if p is not None]
        roles: Sequence[tuple[int, Selection | None]] = [
            (0, program.first),
            (1, program.second),
            *((2, anchor) for anchor in anchors),
        ]
        for role, selection in roles:
            found = None if selection is None else self._index.selected(selection)
            if found is not None:
                for flags, rows in zip((certain, possible), found, strict=True):
                    flags[role, [row for row in rows if row < flags.shape[1]]] = True
        return np.packbits(certain, axis=-1), np.packbits(possible, axis=-1)


def matches_of(
    tokens: Mapping[str, NDArray[np.floating]], objects: NDArray[np.float32]
) -> dict[str, NDArray[np.int16]]:
    """By sensor, the object that each token stands for, -1 for none.

    Args:
        tokens: `[tokens, 64]` by sensor, of one keyframe.
        objects: its annotated objects, `[n, 12]`.
    """
    found: dict[str, NDArray[np.int16]] = {}
    for sensor, rows in tokens.items():
        match = np.full(len(rows), -1, np.int16)
        if sensor == OBJECTS:
            order = nearest_first(objects)[: len(rows)]
            match[: len(order)] = order
        elif len(objects):
            there = np.flatnonzero(rows.any(axis=1))
            place = rows[there][:, [_X, _Y]].astype(np.float32) * POSITION_SCALE_M
            away = np.linalg.norm(place[:, None] - objects[None, :, 2:4], axis=-1)
            name = rows[there][:, : len(OBJECT_CLASSES)].argmax(axis=1)
            away += np.where(name[:, None] == objects[None, :, 0], 0, _NEAR_M)
            nearest = away.argmin(axis=1)
            near = away[np.arange(len(there)), nearest] < _NEAR_M
            match[there[near]] = nearest[near]
        found[sensor] = match
    return found
