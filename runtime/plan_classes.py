"""States of a space that cost the same: they differ only in which of several like sensors do what.

Cameras that share an encoder cost the same, so what counts is how many of them run and how many
give tokens that are there. Six cameras, a LiDAR and objects have 6,561 states in 252 classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .frame_cost import FrameCost
from .plan_space import REUSE, RUN, PlanSpace

Indices = NDArray[np.intp]
Mask = NDArray[np.bool_]
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class LikeSensors:
    """Sensors that cost the same whatever is asked.

    Attributes:
        encoder: their own.
        prepared: whether the connection has prepared the tokens that are there.
        count: how many there are.
    """

    encoder: str
    prepared: bool
    count: int

    @property
    def ways(self) -> int:
        """Pairs of how many reuse and how many run; a single sensor does one of three things."""
        return 3 if self.count == 1 else (self.count + 1) ** 2

    @property
    def run_stride(self) -> int:
        """By how much the number of a way grows with each sensor that runs."""
        return 2 if self.count == 1 else self.count + 1


@dataclass(frozen=True)
class PlanClasses:
    """Classes of states, for one partition into like sensors.

    Some numbers belong to no state, such as that of two of two sensors that run and one that
    reuses.

    Attributes:
        encoders: by name.
        runs: `[classes, encoders]`, frames that each encodes.
        tokens: `[classes]`, number of the sum of tokens in `token_sums`.
        token_sums: sums of tokens, rising.
        encode_flops: `[classes]`.
        prepare_flops: `[classes]`, of the connection for new tokens and for those not prepared.
    """

    encoders: tuple[str, ...]
    runs: Numbers
    tokens: Indices
    token_sums: tuple[int, ...]
    encode_flops: Numbers
    prepare_flops: Numbers

    @cached_property
    def running(self) -> Numbers:
        """`[classes, encoders]`, 1 where an encoder runs."""
        return (self.runs > 0).astype(np.float64)

    @cached_property
    def any_running(self) -> Numbers:
        """`[classes]`, 1 where any encoder runs."""
        return np.asarray(self.running.any(axis=1), dtype=np.float64)

    @classmethod
    def of(
        cls,
        likes: Sequence[LikeSensors],
        sensors: Sequence[str],
        frame: FrameCost,
        numbers: Indices | None = None,
    ) -> PlanClasses:
        """Classes of a partition.

        Args:
            likes: its parts.
            sensors: one of each part.
            frame: formulas of the runtime.
            numbers: of the classes that are wanted; None for all, those of no state among them.
        """
        encoders = tuple(dict.fromkeys(like.encoder for like in likes))
        if numbers is None:
            numbers = np.arange(np.prod([like.ways for like in likes], dtype=np.intp))
        total, left = len(numbers), numbers
        runs = np.zeros((total, len(encoders)))
        tokens = np.zeros(total, dtype=np.int64)
        encode, prepare = np.zeros(total), np.zeros(total)
        # The last part changes fastest, as in `index_of`.
        for like, sensor in reversed(list(zip(likes, sensors, strict=True))):
            left, way = np.divmod(left, like.ways)
            running, reusing = np.divmod(way, like.run_stride)
            cost = frame.encoders[sensor]
            runs[:, encoders.index(like.encoder)] += running
            tokens += (running + reusing) * cost.tokens
            encode += running * float(cost.flops)
            prepare += (running + reusing * (not like.prepared)) * float(frame.prepare(sensor))
        sums, at = np.unique(tokens, return_inverse=True)
        return cls(encoders, runs, at, tuple(sums.tolist()), encode, prepare)


def partition(
    space: PlanSpace, encoders: Sequence[str], prepared: Sequence[bool]
) -> tuple[tuple[LikeSensors, ...], tuple[str, ...], Indices]:
    """Put like sensors together.

    Args:
        space: the plans.
        encoders: of its sensors.
        prepared: whether the connection has prepared the tokens of each.

    Returns:
        The parts; one sensor of each; and the class of each state, `[states]`.
    """
    members: dict[tuple[str, bool], list[int]] = {}
    for number, kind in enumerate(zip(encoders, prepared, strict=True)):
        members.setdefault(kind, []).append(number)
    likes = tuple(LikeSensors(*kind, len(numbers)) for kind, numbers in members.items())
    firsts = tuple(space.sensors[numbers[0]] for numbers in members.values())
    per_action = np.zeros((len(space.sensors), 3), dtype=np.float32)
    stride = 1
    for like, numbers in reversed(list(zip(likes, members.values(), strict=True))):
        per_action[numbers, REUSE] = stride
        per_action[numbers, RUN] = stride * like.run_stride
        stride *= like.ways
    # Exact: there are never more classes than states, far below 2^24.
    return likes, firsts, space.totals(per_action).astype(np.intp)
