"""What all plans of a space cost at one moment: the same figures as `plan_costs.py`, by class.

What never changes is worked out once per space and partition into like sensors, what depends on the
questions once per list of their lengths. Times change with every frame. All of it is done for
classes of states (`plan_classes.py`); only what is asked of all states is spread over them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .frame_cost import FrameCost, LookFlops
from .plan_classes import Indices, LikeSensors, Mask, Numbers, PlanClasses, partition
from .plan_costs import MemoryUse, PlanCost, PlanCosts, PlanFormulas, tail_part
from .plan_space import PlanSpace
from .plan_times import PlanTimes
from .plans import Budget

#: Lists of lengths, and partitions, that are kept; a set of standing questions needs few.
_KEPT_LENGTHS, _KEPT_PARTITIONS = 64, 256
#: Limits of time are undercut by this share: sums in another order differ by less.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class _Answering:
    """What the connection and the tail do for questions of some lengths.

    Attributes:
        questions: how many.
        connect: FLOPs `[sums]` of the connection, by the sum of tokens.
        tail: FLOPs `[variants, sums]`.
        flops: `[variants, classes]`, of the whole frame; exact, as all counts are far below 2^53.
    """

    questions: int
    connect: Numbers
    tail: Numbers
    flops: Numbers


class _Partition:
    """A partition with its answers."""

    def __init__(self, classes: PlanClasses, place: Indices) -> None:
        self.classes = classes
        #: Where each number that a class may have is among those in use.
        self.place = place
        self.answering: OrderedDict[tuple[int, ...], _Answering] = OrderedDict()

    @classmethod
    def of(
        cls,
        likes: Sequence[LikeSensors],
        sensors: Sequence[str],
        frame: FrameCost,
        numbers: Indices,
    ) -> _Partition:
        """Prepare; `numbers` are of the classes of all states, others as in `PlanClasses.of`."""
        # Marked rather than sorted, which would take longer than all the rest.
        place = np.zeros(numbers.max() + 1, dtype=np.intp)
        place[numbers] = 1
        used = np.flatnonzero(place)
        place[used] = np.arange(len(used))
        return cls(PlanClasses.of(likes, sensors, frame, used), place)


class PlanArrays:
    """Costs of all plans of a space, of one runtime."""

    def __init__(self, space: PlanSpace, formulas: PlanFormulas) -> None:
        """Get ready.

        Raises:
            ConfigError: the language model is not loaded at a precision of the space.
        """
        self.space = space
        self._formulas = formulas
        self._frames = [formulas.of(precision) for _, precision in space.variants]
        self._encoders = [formulas.encoders[sensor] for sensor in space.sensors]
        self._partitions: dict[tuple[LikeSensors, ...], _Partition] = {}
        self._sums: dict[tuple[tuple[int, ...], tuple[int, ...]], tuple[Numbers, Numbers]] = {}
        self._indices: OrderedDict[tuple[bool, ...], tuple[_Partition, Indices]] = OrderedDict()

    def at(self, costs: PlanCosts, connected: Iterable[str]) -> Moment:
        """Costs at one moment.

        Args:
            costs: times, loaded encoders, memory and energy of now.
            connected: sensors whose reused tokens the connection has prepared already.
        """
        known = frozenset(connected)
        prepared = tuple(sensor in known for sensor in self.space.sensors)
        found = self._indices.get(prepared)
        if found is None:
            likes, sensors, numbers = partition(self.space, self._encoders, prepared)
            # Which numbers are in use is the same for all partitions into these parts.
            part = self._partitions.get(likes)
            if part is None:
                part = _Partition.of(likes, sensors, self._frames[0], numbers)
                self._partitions[likes] = part
            found = self._indices[prepared] = part, part.place.take(numbers)
            if len(self._indices) > _KEPT_PARTITIONS:
                self._indices.popitem(last=False)
        return Moment(self, costs, *found)

    def answering(self, part: _Partition, lengths: tuple[int, ...]) -> _Answering:
        """What does not change from frame to frame, of questions of these lengths."""
        found = part.answering.get(lengths)
        if found is None:
            found = part.answering[lengths] = self._worked_out(part.classes, lengths)
            if len(part.answering) > _KEPT_LENGTHS:
                part.answering.popitem(last=False)
        else:
            part.answering.move_to_end(lengths)
        return found

    def _worked_out(self, classes: PlanClasses, lengths: tuple[int, ...]) -> _Answering:
        connect, tail = self._by_sums(classes.token_sums, lengths)
        beside = classes.encode_flops + classes.prepare_flops
        return _Answering(
            questions=len(lengths),
            connect=connect,
            tail=tail,
            flops=(tail + connect).take(classes.tokens, axis=1) + beside,
        )

    def _by_sums(self, sums: tuple[int, ...], lengths: tuple[int, ...]) -> tuple[Numbers, Numbers]:
        """See `_Answering.connect` and `tail`; the same for all partitions."""
        found = self._sums.get((sums, lengths))
        if found is not None:
            return found
        # All frames have one connection, which makes keys and values of its deepest tail, whatever
        # the depth.
        first = self._frames[0]
        connect = np.array([first.connect(s, lengths) for s in sums], dtype=np.float64)
        rows = np.array([first.connection.rows(s) for s in sums], dtype=np.float64)
        tail = np.empty((len(self.space.variants), len(sums)))
        for number, (depth, _) in enumerate(self.space.variants):
            boundary = self._formulas.boundary(depth)
            line = self._frames[number].tail_line(boundary, lengths, depth)
            tail[number] = line.fixed + line.per_row * rows
        if len(self._sums) >= _KEPT_LENGTHS:
            self._sums.clear()
        self._sums[sums, lengths] = connect, tail
        return connect, tail


class Moment:
    """Costs of all plans of a space at one moment, whatever is asked."""

    def __init__(
        self, arrays: PlanArrays, costs: PlanCosts, part: _Partition, index: Indices
    ) -> None:
        self.costs = costs
        self.classes = part.classes
        #: `[states]`, class of each.
        self.index = index
        self._arrays = arrays
        self._part = part

    def asking(self, lengths: Sequence[int]) -> CostArrays:
        """Costs with questions of these lengths, at least one, answered now."""
        return CostArrays(self, self._arrays.answering(self._part, tuple(lengths)))

    @cached_property
    def p90(self) -> PlanTimes:
        """Sums of the parts' p90s."""
        return PlanTimes(self.classes, self._arrays.space.variants, self.costs, of_p90=True)

    @cached_property
    def median(self) -> PlanTimes:
        """Sums of the parts' medians."""
        return PlanTimes(self.classes, self._arrays.space.variants, self.costs, of_p90=False)

    def memory_bytes(self, memory: MemoryUse) -> Numbers:
        """`[classes]`."""
        extra = [memory.encoder_bytes.get(name, 0) for name in self.classes.encoders]
        found: Numbers = self.classes.running @ np.array(extra, dtype=np.float64)
        found += memory.base_bytes + memory.working_bytes
        return found

    def one(self, asked: _Answering, variant: int, state: int) -> PlanCost:
        """Cost of one plan that answers these questions."""
        space, at = self._arrays.space, int(self.index[state])
        sums = int(self.classes.tokens[at])
        flops = LookFlops(
            encode=int(self.classes.encode_flops[at]),
            connect=int(self.classes.prepare_flops[at] + asked.connect[sums]),
            tail=int(asked.tail[variant, sums]),
        )
        name = tail_part(*space.variants[variant])
        return self.costs.of_stages(flops, space.actions(state), asked.questions, name)


class CostArrays:
    """Costs of all plans of a space at one moment, for some questions, all by class.

    Shapes are `[variants, classes]`; `index` spreads them over the states.
    """

    def __init__(self, moment: Moment, answering: _Answering) -> None:
        self._moment = moment
        self._answering = answering

    @property
    def index(self) -> Indices:
        """`[states]`, class of each."""
        return self._moment.index

    def one(self, variant: int, state: int) -> PlanCost:
        """The very figures that `PlanCosts.of` gives of a plan."""
        return self._moment.one(self._answering, variant, state)

    @property
    def flops(self) -> Numbers:
        """Whole numbers; not to be changed."""
        return self._answering.flops

    @cached_property
    def memory_bytes(self) -> Numbers | None:
        """None where memory was not measured."""
        memory = self._moment.costs.memory
        if memory is None:
            return None
        return np.broadcast_to(self._moment.memory_bytes(memory), self.flops.shape)

    @cached_property
    def latency_ms(self) -> Numbers:
        """Infinite where a part was never measured."""
        return self._times(self._moment.p90)

    @cached_property
    def energy_mj(self) -> Numbers | None:
        """None where nothing measures energy."""
        rate = self._moment.costs.mj_per_ms
        return None if rate is None else self._times(self._moment.median) * rate

    def within(self, budget: Budget) -> Mask:
        """Which plans keep all limits.

        What was not measured at all does not bind; a plan with a part that was never measured,
        where others were, keeps no limit of time or energy.
        """
        if budget.flops is None:
            found = np.ones(self.flops.shape, dtype=bool)
        else:
            found = self.flops <= budget.flops
        if budget.memory_bytes is not None and self.memory_bytes is not None:
            found &= self.memory_bytes <= budget.memory_bytes
        if self._moment.costs.times:
            if budget.latency_ms is not None:
                found &= self.latency_ms <= budget.latency_ms * (1 - _ROUNDING)
            if budget.energy_mj is not None and self.energy_mj is not None:
                found &= self.energy_mj <= budget.energy_mj * (1 - _ROUNDING)
        return found

    def _times(self, times: PlanTimes) -> Numbers:
        asked = self._answering
        return times.of(asked.connect, asked.tail, asked.questions)
