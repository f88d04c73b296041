"""How long all plans of a space take at one moment: sums of the parts' times, as arrays.

Times of parts are straight lines along sizes, so nearly all of a plan's time adds up over sensors,
or depends on which encoders run and on how many tokens there are in all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .part_times import PartSnapshot
from .plan_costs import (
    CONNECT,
    DECODE,
    GIGA,
    PREPARE,
    REST,
    PlanCosts,
    encode_part,
    load_part,
    tail_part,
)
from .plan_space import REUSE, RUN, Float, PlanSpace

Indices = NDArray[np.intp]
Mask = NDArray[np.bool_]
Numbers = NDArray[np.float64]

#: By which share limits are undercut; float32 is a tenth as coarse.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class StateParts:
    """What the states of a space have in common, so that it is worked out once.

    Attributes:
        encoders: in the order of their first sensor.
        encoder_of: `[sensors]`, their numbers.
        prepare_flops: `[sensors]`, of the connection for each sensor's new tokens.
        patterns: `[patterns, encoders]`, whether each encoder runs.
        pattern: `[states]`, number in `patterns`.
        tokens: `[states]`, number of the sum of tokens among all such sums.
        joint: `[states]`, number of the pair of both.
        joint_pattern: `[pairs]`, number in `patterns`.
        joint_tokens: `[pairs]`, number of the sum.
    """

    encoders: tuple[str, ...]
    encoder_of: Indices
    prepare_flops: Numbers
    patterns: Mask
    pattern: Indices
    tokens: Indices
    joint: Indices
    joint_pattern: Indices
    joint_tokens: Indices


class PlanTimes:
    """Times of all plans of a space at one moment, whatever is asked."""

    def __init__(
        self,
        space: PlanSpace,
        parts: StateParts,
        costs: PlanCosts,
        unprepared: Mask,
        *,
        of_p90: bool,
    ) -> None:
        """Read the times of the parts.

        Args:
            space: the plans.
            parts: of its states.
            costs: times and loaded encoders of now.
            unprepared: `[sensors]`, whose reused tokens the connection must prepare.
            of_p90: whether the parts' p90s are summed, else their medians.
        """
        self._space = space
        self._parts = parts
        line = _Lines(costs.times, of_p90)
        connect_base, self._connect_slope = line.of(CONNECT)
        prepare_base, prepare_slope = line.of(PREPARE)
        encode = [line.of(encode_part(name)) for name in parts.encoders]
        # What adds up over sensors: a frame more in a batch, and tokens more to prepare.
        self._per_action = np.zeros((len(space.sensors), 3), dtype=np.float32)
        prepared_ms = parts.prepare_flops * (self._connect_slope / GIGA)
        slopes = np.array([slope for _, slope in encode])[parts.encoder_of]
        self._per_action[:, RUN] = prepared_ms + slopes + prepare_slope
        self._per_action[:, REUSE] = prepared_ms * unprepared
        starts = [
            base if costs.is_loaded(name) else base + line.of(load_part(name))[0]
            for name, (base, _) in zip(parts.encoders, encode, strict=True)
        ]
        fixed = connect_base + line.of(REST, absent=0.0)[0]
        self._by_pattern = np.array(
            [
                sum((ms for ms, runs in zip(starts, row, strict=True) if runs), fixed)
                + (prepare_base if any(row) else 0.0)
                for row in parts.patterns.tolist()
            ]
        )
        self._decode = line.of(DECODE)
        tails = np.array([line.of(tail_part(*variant)) for variant in space.variants], np.float32)
        self._tail_bases, self._tail_slopes = tails.reshape(-1, 2, 1).transpose(1, 0, 2)

    def of(
        self,
        connect_gflop: Numbers,
        tail_gflop: Float,
        questions: int,
        at: Indices | None = None,
    ) -> Float:
        """Times of all plans, or of some states.

        Args:
            connect_gflop: `[sums]` of the connection, by the sum of tokens.
            tail_gflop: float32 `[variants, states]`, of all states or of those of `at`.
            questions: how many there are.
            at: numbers of states, None for all.

        Returns:
            float32 `[variants, states]` milliseconds, infinite where a part was never measured.
        """
        total: Float = tail_gflop * self._tail_slopes
        total += self._beside_tail(connect_gflop, questions, at)
        total += self._tail_bases
        return total

    def within(
        self,
        limit_ms: float,
        connect_gflop: Numbers,
        tail_gflop: Float,
        questions: int,
        at: Indices | None = None,
    ) -> Mask:
        """Which plans take at most `limit_ms`; other arguments and shape as those of `of`.

        Times are float32, so the limit is undercut by a millionth: exact sums then keep it.
        """
        limits = np.float32(limit_ms * (1 - _ROUNDING)) - self._tail_bases
        total: Float = tail_gflop * self._tail_slopes
        total += self._beside_tail(connect_gflop, questions, at)
        return total <= limits

    def _beside_tail(self, connect_gflop: Numbers, questions: int, at: Indices | None) -> Float:
        """`[states]`: all but the tail."""
        parts, (decode_base, decode_slope) = self._parts, self._decode
        by_tokens = connect_gflop * self._connect_slope
        decode_ms = decode_base + decode_slope * questions
        if at is None:
            together = self._by_pattern[parts.joint_pattern] + by_tokens[parts.joint_tokens]
            together += decode_ms
            state_ms = together.astype(np.float32)[parts.joint]
            state_ms += self._adding_up
            return state_ms
        sensors = np.arange(len(self._space.sensors))
        added = self._per_action[sensors, self._space.states[at]].sum(axis=1)
        together = self._by_pattern[parts.pattern[at]] + by_tokens[parts.tokens[at]]
        return (together + (added + decode_ms)).astype(np.float32)

    @cached_property
    def _adding_up(self) -> Float:
        return self._space.totals(self._per_action)


class _Lines:
    """Times of parts as base and slope, at the median or at p90."""

    def __init__(self, times: Mapping[str, PartSnapshot], of_p90: bool) -> None:
        self._times = times
        self._of_p90 = of_p90

    def of(self, part: str, absent: float = np.inf) -> tuple[float, float]:
        """Base and slope; what was never measured takes `absent`, by default for ever."""
        time = self._times.get(part)
        if time is None:
            return absent, 0.0
        factor = time.p90_factor if self._of_p90 else 1.0
        return time.base_ms * factor, time.per_size_ms * factor
