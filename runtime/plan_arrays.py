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

from .frame_cost import LookFlops
from .plan_costs import GIGA, MemoryUse, PlanCost, PlanCosts, PlanFormulas, tail_part
from .plan_space import OFF, REUSE, RUN, Float, PlanSpace
from .plan_times import Indices, Mask, Numbers, PlanTimes, StateParts
from .plans import Budget

#: Lists of lengths whose arrays are kept; a set of standing questions needs few.
_KEPT_LENGTHS = 32


@dataclass
class _Answering:
    """What answering questions of some lengths costs.

    Attributes:
        questions: how many.
        connect_flops: `[sums]` of the connection, by the sum of tokens.
        tail_flops: `[variants, sums]`.
        connect_gflop: as `connect_flops`.
        tail_gflop: float32 `[variants, states]`.
        flops: `[variants, states]`, with encoders and with what the connection prepares of frames
            that run; exact, as all counts are far below 2^53.
        kept: the last limit of FLOPs, and `[variants, states]`, which plans keep it.
    """

    questions: int
    connect_flops: Numbers
    tail_flops: Numbers
    connect_gflop: Numbers
    tail_gflop: Float
    flops: Numbers
    kept: tuple[int, Mask] | None = None


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
        running_sensors = runs.astype(np.float64)
        #: Of the connection, for the new tokens of frames that run, `[states]`.
        self.run_prepare_flops: Numbers = running_sensors @ prepare
        self._run_flops: Numbers = running_sensors @ encode + self.run_prepare_flops
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
        by_sum = np.stack(tails)
        tail = np.ascontiguousarray(by_sum[:, self.parts.tokens])
        return _Answering(
            questions=len(lengths),
            connect_flops=connect,
            tail_flops=by_sum,
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

    def one(self, asked: _Answering, variant: int, state: int) -> PlanCost:
        """Cost of one plan that answers these questions."""
        arrays, costs = self._arrays, self.costs
        space, parts = arrays.space, arrays.parts
        prepare = 0.0
        for number, action in enumerate(space.states[state].tolist()):
            if action == RUN or (action == REUSE and self._unprepared[number]):
                prepare += parts.prepare_flops[number]
        sums = parts.tokens[state]
        connect, tail = asked.connect_flops[sums], asked.tail_flops[variant, sums]
        encode = asked.flops[variant, state] - arrays.run_prepare_flops[state] - connect - tail
        flops = LookFlops(int(encode), int(prepare + connect), int(tail))
        actions, name = space.actions(state), tail_part(*space.variants[variant])
        return costs.of_stages(flops, actions, asked.questions, name)

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

    def one(self, variant: int, state: int) -> PlanCost:
        """The very figures that `PlanCosts.of` gives of a plan."""
        return self._moment.one(self._answering, variant, state)

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
        costs, asked = self._moment.costs, self._answering
        if budget.memory_bytes is not None and costs.memory is not None:
            memory = self._moment.memory_bytes(costs.memory)
            allowed = allowed & (_some(memory, at) <= budget.memory_bytes)
        if budget.flops is None:
            found = np.repeat(allowed[None], len(asked.flops), axis=0)
        else:
            found = self._within_flops(budget.flops, at) & allowed
        limits: list[tuple[PlanTimes, float]] = []
        if costs.times and budget.latency_ms is not None:
            limits.append((self._moment.p90, budget.latency_ms))
        if costs.times and budget.energy_mj is not None and costs.mj_per_ms is not None:
            limits.append((self._moment.median, budget.energy_mj / costs.mj_per_ms))
        tail = asked.tail_gflop if at is None or not limits else asked.tail_gflop[:, at]
        for times, limit_ms in limits:
            found &= times.within(limit_ms, asked.connect_gflop, tail, asked.questions, at)
        return found

    def _within_flops(self, limit: int, at: Indices | None) -> Mask:
        """Kept for as long as the limit stays, as it mostly does from frame to frame."""
        asked, extra = self._answering, self._moment.reconnecting
        if at is not None or extra is not None:
            flops = _some(asked.flops, at)
            return (flops if extra is None else flops + _some(extra, at)) <= limit
        if asked.kept is None or asked.kept[0] != limit:
            asked.kept = (limit, asked.flops <= limit)
        return asked.kept[1]

    def _times(self, times: PlanTimes) -> Float:
        asked = self._answering
        return times.of(asked.connect_gflop, asked.tail_gflop, asked.questions)


def _some(numbers: Numbers, at: Indices | None) -> Numbers:
    return numbers if at is None else numbers[..., at]
