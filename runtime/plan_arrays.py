"""What all plans of a space cost at one moment, as arrays: the same figures as `plan_costs.py`.

What never changes is worked out once per space, what depends on the questions once per list of
their lengths. What changes with every frame, times and tokens that are prepared already, costs a
few microseconds: operations add up over sensors but for those of the connection and the tail, which
depend on how many tokens there are in all.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .plan_costs import GIGA, MemoryUse, PlanCosts, PlanFormulas
from .plan_space import OFF, REUSE, RUN, Float, PlanSpace
from .plan_times import Indices, Mask, Numbers, PlanTimes, StateParts
from .plans import Budget

#: Lists of lengths whose arrays are kept; a set of standing questions needs few.
_KEPT_LENGTHS = 32
#: Times in arrays are float32: a limit is undercut by this share, so that sums of exact times hold.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class _Answering:
    """What answering questions of some lengths costs.

    Attributes:
        questions: how many.
        connect_gflop: `[sums]` of the connection, by the sum of tokens.
        tail_gflop: float32 `[variants, states]`.
        flops: `[variants, states]`, with encoders and with what the connection prepares of frames
            that run; exact, as all counts are far below 2^53.
    """

    questions: int
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
        frame, sensors = self._frames[0], space.sensors
        encoders = [formulas.encoders[sensor] for sensor in sensors]
        names = tuple(dict.fromkeys(encoders))
        encoder_of = np.array([names.index(name) for name in encoders], dtype=np.intp)
        runs, used = space.states == RUN, space.states != OFF
        sizes = np.array([frame.encoders[sensor].tokens for sensor in sensors], dtype=np.int64)
        self._token_sums, tokens = np.unique(used @ sizes, return_inverse=True)
        prepare = np.array([frame.prepare(sensor) for sensor in sensors], dtype=np.float64)
        encode = np.array([frame.encoders[sensor].flops for sensor in sensors], dtype=np.float64)
        self._run_flops: Numbers = runs.astype(np.float64) @ (encode + prepare)
        # Which encoders run is all that batches, loading and memory depend on.
        running = np.zeros(len(runs), dtype=np.int64)
        for number in range(len(names)):
            running |= runs[:, encoder_of == number].any(axis=1).astype(np.int64) << number
        patterns, pattern = np.unique(running, return_inverse=True)
        sums = len(self._token_sums)
        pairs, joint = np.unique(pattern * sums + tokens, return_inverse=True)
        self.parts = StateParts(
            encoders=names,
            encoder_of=encoder_of,
            prepare_flops=prepare,
            patterns=(patterns[:, None] >> np.arange(len(names))) & 1 == 1,
            pattern=pattern,
            tokens=tokens,
            joint=joint,
            joint_pattern=pairs // sums,
            joint_tokens=pairs % sums,
        )
        self._answering: OrderedDict[tuple[int, ...], _Answering] = OrderedDict()

    def at(self, costs: PlanCosts, connected: Iterable[str]) -> Moment:
        """Costs at one moment.

        Args:
            costs: times, loaded encoders, memory and energy of now.
            connected: sensors whose reused tokens the connection has prepared already.
        """
        return Moment(self, costs, frozenset(connected))

    def answering(self, lengths: tuple[int, ...]) -> _Answering:
        """What does not change from frame to frame, of questions of these lengths."""
        found = self._answering.get(lengths)
        if found is None:
            found = self._answering[lengths] = self._worked_out(lengths)
            if len(self._answering) > _KEPT_LENGTHS:
                self._answering.popitem(last=False)
        else:
            self._answering.move_to_end(lengths)
        return found

    def _worked_out(self, lengths: tuple[int, ...]) -> _Answering:
        connect = np.zeros(len(self._token_sums))
        tails: list[Numbers] = []
        for (depth, _), frame in zip(self.space.variants, self._frames, strict=True):
            boundary = self._formulas.boundary(depth)
            pairs = [
                frame.answering(tokens, boundary, lengths, depth)
                for tokens in self._token_sums.tolist()
            ]
            # The connection makes keys and values of its deepest tail, whatever the depth.
            connect = np.array([pair[0] for pair in pairs], dtype=np.float64)
            tails.append(np.array([pair[1] for pair in pairs], dtype=np.float64))
        # Picked along the second axis, arrays come out in an order that is slow to go through.
        tail = np.ascontiguousarray(np.stack(tails)[:, self.parts.tokens])
        return _Answering(
            questions=len(lengths),
            connect_gflop=connect / GIGA,
            tail_gflop=(tail / GIGA).astype(np.float32),
            flops=tail + (connect[self.parts.tokens] + self._run_flops),
        )


class Moment:
    """Costs of all plans of a space at one moment, whatever is asked."""

    def __init__(self, arrays: PlanArrays, costs: PlanCosts, connected: frozenset[str]) -> None:
        self.costs = costs
        self._arrays = arrays
        self._unprepared = np.array([s not in connected for s in arrays.space.sensors], dtype=bool)

    def asking(self, lengths: Sequence[int]) -> CostArrays:
        """Costs with questions of these lengths, at least one, answered now."""
        return CostArrays(self, self._arrays.answering(tuple(lengths)))

    @cached_property
    def p90(self) -> PlanTimes:
        """Sums of the parts' p90s."""
        return self._times(of_p90=True)

    @cached_property
    def median(self) -> PlanTimes:
        """Sums of the parts' medians."""
        return self._times(of_p90=False)

    def _times(self, *, of_p90: bool) -> PlanTimes:
        arrays = self._arrays
        return PlanTimes(arrays.space, arrays.parts, self.costs, self._unprepared, of_p90=of_p90)

    @cached_property
    def reconnecting(self) -> Numbers | None:
        """FLOPs `[states]` for tokens that are reused and must be prepared; None for none."""
        if not self._unprepared.any():
            return None
        per_sensor = self._arrays.parts.prepare_flops * self._unprepared
        return (self._arrays.space.states == REUSE) @ per_sensor

    def memory_bytes(self, memory: MemoryUse) -> Numbers:
        """`[states]`."""
        parts = self._arrays.parts
        extra = [memory.encoder_bytes.get(name, 0) for name in parts.encoders]
        by_pattern: Numbers = parts.patterns @ np.array(extra, dtype=np.float64)
        by_pattern += memory.base_bytes + memory.working_bytes
        return by_pattern[parts.pattern]


class CostArrays:
    """Costs of all plans of a space at one moment, for some questions."""

    def __init__(self, moment: Moment, answering: _Answering) -> None:
        self._moment = moment
        self._answering = answering

    def flops(self) -> Numbers:
        """`[variants, states]`, whole numbers; not to be changed."""
        extra = self._moment.reconnecting
        return self._answering.flops if extra is None else self._answering.flops + extra

    def memory_bytes(self) -> Numbers | None:
        """`[states]`, or None where memory was not measured."""
        memory = self._moment.costs.memory
        return None if memory is None else self._moment.memory_bytes(memory)

    def latency_ms(self) -> Float:
        """`[variants, states]`, infinite where a part was never measured."""
        return self._times(self._moment.p90)

    def energy_mj(self) -> Float | None:
        """`[variants, states]`, or None where nothing measures energy."""
        rate = self._moment.costs.mj_per_ms
        return None if rate is None else self._times(self._moment.median) * np.float32(rate)

    def within(self, budget: Budget, allowed: Mask, at: Indices | None = None) -> Mask:
        """Which plans keep all limits.

        What was not measured at all does not bind; a plan with a part that was never measured,
        where others were, keeps no limit of time or energy.

        Args:
            budget: the limits.
            allowed: `[states]`, or as many as `at`.
            at: numbers of states to look at, None for all.

        Returns:
            `[variants, states]`, or as many states as `at`.
        """
        costs = self._moment.costs
        if budget.memory_bytes is not None and costs.memory is not None:
            memory = self._moment.memory_bytes(costs.memory)
            allowed = allowed & (_some(memory, at) <= budget.memory_bytes)
        if budget.flops is None:
            found = np.repeat(allowed[None], len(self._answering.flops), axis=0)
        else:
            flops, extra = _some(self._answering.flops, at), self._moment.reconnecting
            if extra is not None:
                flops = flops + _some(extra, at)
            found = (flops <= budget.flops) & allowed
        if costs.times and budget.latency_ms is not None:
            found &= self._times(self._moment.p90, at) <= _below(budget.latency_ms)
        if costs.times and budget.energy_mj is not None and costs.mj_per_ms is not None:
            limit_ms = budget.energy_mj / costs.mj_per_ms
            found &= self._times(self._moment.median, at) <= _below(limit_ms)
        return found

    def _times(self, times: PlanTimes, at: Indices | None = None) -> Float:
        asked = self._answering
        tail = asked.tail_gflop if at is None else asked.tail_gflop[:, at]
        return times.of(asked.connect_gflop, tail, asked.questions, at)


def _some(numbers: Numbers, at: Indices | None) -> Numbers:
    return numbers if at is None else numbers[..., at]


def _below(limit: float) -> np.float32:
    return np.float32(limit * (1 - _ROUNDING))
