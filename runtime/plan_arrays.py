"""What all plans of a space cost at one moment, as arrays: the same figures as `plan_costs.py`.

What never changes is worked out once per space, what depends on the questions once per list of
their lengths. What changes with every frame, times and tokens that are prepared already, costs a
few microseconds: operations add up over sensors but for those of the connection and the tail, which
depend on how many tokens there are in all, and times are straight lines along sizes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .plan_costs import (
    CONNECT,
    DECODE,
    GIGA,
    PREPARE,
    REST,
    PlanCosts,
    PlanFormulas,
    encode_part,
    load_part,
    tail_part,
)
from .plan_space import REUSE, RUN, Float, PlanSpace
from .plans import Budget

Mask = NDArray[np.bool_]
Numbers = NDArray[np.float64]

#: Lists of lengths whose arrays are kept; a set of standing questions needs few.
_KEPT_LENGTHS = 32
#: Times in arrays are float32: a limit is undercut by this share, so that sums of exact times hold.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class _Answering:
    """What answering questions of some lengths costs.

    Attributes:
        connect_gflop: `[sums]` of the connection, by number in `PlanArrays.token_sums`.
        tail_gflop: float32 `[variants, states]`.
        flops: `[variants, states]`, with encoders and with what the connection prepares of frames
            that run; exact, as all counts are far below 2^53.
    """

    connect_gflop: Numbers
    tail_gflop: Float
    flops: Numbers


class PlanArrays:
    """Costs of all plans of a space, of one runtime."""

    def __init__(self, space: PlanSpace, formulas: PlanFormulas) -> None:
        """Work out what never changes.

        Raises:
            ConfigError: the language model is not loaded at a precision of the space.
        """
        self.space = space
        self._formulas = formulas
        self._frames = [formulas.of(precision) for _, precision in space.variants]
        frame = self._frames[0]
        encoders = [formulas.encoders[sensor] for sensor in space.sensors]
        #: Encoders in the order of their first sensor.
        self.encoders = tuple(dict.fromkeys(encoders))
        self.encoder_of = np.array([self.encoders.index(name) for name in encoders], dtype=np.intp)
        states = space.states
        runs, used = states == RUN, states != 0
        costs = [frame.encoders[sensor] for sensor in space.sensors]
        tokens = used @ np.array([cost.tokens for cost in costs], dtype=np.int64)
        self.token_sums, self.tokens = np.unique(tokens, return_inverse=True)
        #: Of the connection, for each sensor's new tokens.
        self.prepare_flops = np.array([frame.prepare(s) for s in space.sensors], dtype=np.float64)
        run_flops = np.array([cost.flops for cost in costs], dtype=np.float64) + self.prepare_flops
        self._run_flops: Numbers = runs.astype(np.float64) @ run_flops
        # Which encoders run is all that batches, loading and memory depend on.
        running = np.zeros(len(states), dtype=np.int64)
        for number in range(len(self.encoders)):
            running |= runs[:, self.encoder_of == number].any(axis=1).astype(np.int64) << number
        patterns, which = np.unique(running, return_inverse=True)
        #: `[patterns, encoders]`, whether each encoder runs; and the pattern of each state.
        self.patterns = (patterns[:, None] >> np.arange(len(self.encoders))) & 1 == 1
        self.pattern = which
        # Times that do not add up over sensors depend on the encoders and the tokens together.
        joint = which * len(self.token_sums) + self.tokens
        pairs, self.joint = np.unique(joint, return_inverse=True)
        self.joint_pattern, self.joint_tokens = np.divmod(pairs, len(self.token_sums))
        self._answering: OrderedDict[tuple[int, ...], _Answering] = OrderedDict()

    def at(self, costs: PlanCosts, connected: Iterable[str], lengths: Sequence[int]) -> CostArrays:
        """Costs at one moment.

        Args:
            costs: times, loaded encoders, memory and energy of now.
            connected: sensors whose reused tokens the connection has prepared already.
            lengths: tokens of each question that is answered now, at least one.
        """
        known = frozenset(connected)
        unprepared = np.array([s not in known for s in self.space.sensors], dtype=bool)
        return CostArrays(self, costs, unprepared, self._answer(tuple(lengths)), len(lengths))

    def _answer(self, lengths: tuple[int, ...]) -> _Answering:
        found = self._answering.get(lengths)
        if found is None:
            found = self._answering[lengths] = self._worked_out(lengths)
            if len(self._answering) > _KEPT_LENGTHS:
                self._answering.popitem(last=False)
        else:
            self._answering.move_to_end(lengths)
        return found

    def _worked_out(self, lengths: tuple[int, ...]) -> _Answering:
        connect = np.zeros(len(self.token_sums))
        tails: list[Numbers] = []
        for (depth, _), frame in zip(self.space.variants, self._frames, strict=True):
            boundary = self._formulas.boundary(depth)
            pairs = [
                frame.answering(int(tokens), boundary, lengths, depth) for tokens in self.token_sums
            ]
            # The connection makes keys and values of its deepest tail, whatever the depth.
            connect = np.array([pair[0] for pair in pairs], dtype=np.float64)
            tails.append(np.array([pair[1] for pair in pairs], dtype=np.float64))
        tail = np.stack(tails)
        return _Answering(
            connect_gflop=connect / GIGA,
            tail_gflop=np.ascontiguousarray((tail / GIGA)[:, self.tokens], dtype=np.float32),
            flops=(tail + connect)[:, self.tokens] + self._run_flops,
        )


class CostArrays:
    """Costs of all plans of a space at one moment; made by `PlanArrays.at`."""

    def __init__(
        self,
        arrays: PlanArrays,
        costs: PlanCosts,
        unprepared: Mask,
        answering: _Answering,
        questions: int,
    ) -> None:
        self._arrays = arrays
        self._costs = costs
        self._unprepared = unprepared
        self._answering = answering
        self._questions = questions

    def flops(self) -> Numbers:
        """`[variants, states]`, whole numbers; not to be changed."""
        extra = self._reconnected()
        return self._answering.flops if extra is None else self._answering.flops + extra

    def memory_bytes(self) -> Numbers | None:
        """`[states]`, or None where memory was not measured."""
        memory = self._costs.memory
        return None if memory is None else self._memory_of_patterns()[self._arrays.pattern]

    def latency_ms(self) -> Float:
        """`[variants, states]`, infinite where a part was never measured."""
        return self._times(of_p90=True)

    def energy_mj(self) -> Float | None:
        """`[variants, states]`, or None where nothing measures energy."""
        rate = self._costs.mj_per_ms
        return None if rate is None else self._times(of_p90=False) * np.float32(rate)

    def within(self, budget: Budget, allowed: Mask) -> Mask:
        """Which plans keep all limits.

        What was not measured at all does not bind; a plan with a part that was never measured,
        where others were, keeps no limit of time or energy.

        Args:
            budget: the limits.
            allowed: `[states]`.

        Returns:
            `[variants, states]`.
        """
        if budget.memory_bytes is not None and self._costs.memory is not None:
            fits = self._memory_of_patterns() <= budget.memory_bytes
            allowed = allowed & fits[self._arrays.pattern]
        found: Mask
        if budget.flops is None:
            found = np.repeat(allowed[None], len(self._arrays.space.variants), axis=0)
        else:
            found = (self.flops() <= budget.flops) & allowed
        if self._costs.times:
            if budget.latency_ms is not None:
                found &= self.latency_ms() <= _below(budget.latency_ms)
            if budget.energy_mj is not None and self._costs.mj_per_ms is not None:
                limit_ms = budget.energy_mj / self._costs.mj_per_ms
                found &= self._times(of_p90=False) <= _below(limit_ms)
        return found

    def _reconnected(self) -> Float | Numbers | None:
        """FLOPs `[states]` for tokens that are reused and that the connection must prepare."""
        if not self._unprepared.any():
            return None
        per_sensor = np.where(self._unprepared, self._arrays.prepare_flops, 0)
        return (self._arrays.space.states == REUSE) @ per_sensor

    def _memory_of_patterns(self) -> Numbers:
        memory = self._costs.memory
        assert memory is not None
        extra = [memory.encoder_bytes.get(name, 0) for name in self._arrays.encoders]
        base = memory.base_bytes + memory.working_bytes
        return self._arrays.patterns @ np.array(extra, dtype=np.float64) + base

    def _times(self, *, of_p90: bool) -> Float:
        """Sum of the parts' medians, or of their p90s, for all plans."""
        arrays, line = self._arrays, _Lines(self._costs, of_p90)
        connect_base, connect_slope = line.of(CONNECT)
        prepare_base, prepare_slope = line.of(PREPARE)
        encode = [line.of(encode_part(name)) for name in arrays.encoders]
        # What adds up over sensors: a frame more in a batch, and tokens more to prepare.
        per_action = np.zeros((len(arrays.space.sensors), 3), dtype=np.float32)
        prepared_ms = arrays.prepare_flops * (connect_slope / GIGA)
        encode_slopes = np.array([slope for _, slope in encode])
        per_action[:, RUN] = prepared_ms + prepare_slope + encode_slopes[arrays.encoder_of]
        per_action[:, REUSE] = np.where(self._unprepared, prepared_ms, 0)
        starts = [base for base, _ in encode]
        for at, name in enumerate(arrays.encoders):
            if not self._costs.is_loaded(name):
                starts[at] += line.of(load_part(name))[0]
        fixed = connect_base + line.at(DECODE, self._questions) + line.of(REST, absent=0.0)[0]
        by_pattern = np.array(
            [
                sum((ms for ms, runs in zip(starts, row, strict=True) if runs), fixed)
                + (prepare_base if any(row) else 0.0)
                for row in arrays.patterns.tolist()
            ]
        )
        by_tokens = self._answering.connect_gflop * connect_slope
        together = by_pattern[arrays.joint_pattern] + by_tokens[arrays.joint_tokens]
        state_ms = arrays.space.totals(per_action)
        state_ms += together.astype(np.float32)[arrays.joint]
        tails = [line.of(tail_part(*variant)) for variant in arrays.space.variants]
        slopes = np.array([[slope] for _, slope in tails], dtype=np.float32)
        bases = np.array([[base] for base, _ in tails], dtype=np.float32)
        total: Float = self._answering.tail_gflop * slopes
        total += state_ms
        total += bases
        return total


class _Lines:
    """Times of parts as base and slope, at the median or at p90."""

    def __init__(self, costs: PlanCosts, of_p90: bool) -> None:
        self._times = costs.times
        self._of_p90 = of_p90

    def of(self, part: str, absent: float = np.inf) -> tuple[float, float]:
        """Base and slope; what was never measured takes `absent`, by default for ever."""
        time = self._times.get(part)
        if time is None:
            return absent, 0.0
        factor = time.p90_factor if self._of_p90 else 1.0
        return time.base_ms * factor, time.per_size_ms * factor

    def at(self, part: str, size: float) -> float:
        base, slope = self.of(part)
        return base + slope * size


def _below(limit: float) -> np.float32:
    return np.float32(limit * (1 - _ROUNDING))
