"""The first half of a frame: choose a plan, make room, encode, and leave off in time.

What was asked for and what may be spent comes in as `FrameOrders`. What frames have taught is in
`Experience`; where nothing but FLOPs is limited and nothing is chosen, none of it is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from .answering import AskedQuestion
from .encoder_memory import EncoderMemory
from .errors import BudgetError
from .frame_clock import FrameClock, Part
from .frame_cost import FrameCost
from .frame_energy import FrameEnergy
from .frame_times import FrameTimes
from .last_answers import LastAnswers
from .model_config import Precision
from .part_times import PartSnapshot
from .parts import RuntimeParts
from .perception import Perception
from .plan_costs import (
    CONNECT,
    DECODE,
    GIGA,
    PREPARE,
    PlanCosts,
    PlanFormulas,
    encode_part,
    load_part,
    tail_part,
)
from .plans import Budget, Plan
from .question_kinds import topic_of
from .scene import Lookout, Scene
from .scheduler import FixedPolicy, Pin, PlanRequest, QuestionDemand, SensorState
from .sensor_buffer import SensorBuffer
from .standpoint import Standpoint
from .surroundings import Surroundings


@dataclass(frozen=True)
class FrameOrders:
    """What holds for one frame.

    Attributes:
        sensors: switched on, in the pack's order.
        tail_blocks: depth that was configured.
        depths: that a policy may choose.
        max_age_ms: frames and answers older than this are not used.
        budget: limits.
        pins: sensors that are pinned on or off.
    """

    sensors: tuple[str, ...]
    tail_blocks: int
    depths: tuple[int, ...]
    max_age_ms: float
    budget: Budget = field(default_factory=Budget)
    pins: Mapping[str, Pin] = field(default_factory=dict)


_NO_LIMIT = Budget()


class Experience:
    """What frames have taught, and what holds as long as one pack serves."""

    def __init__(self, perception: Perception, formulas: PlanFormulas) -> None:
        self.formulas = formulas
        self.times = FrameTimes()
        self.memory = EncoderMemory(perception)
        self.energy = FrameEnergy()
        self.surroundings = Surroundings()
        self.last_answers = LastAnswers()

    def forget(self) -> None:
        """Drop what belongs to frames of another time."""
        self.surroundings.forget()
        self.last_answers.forget()


@dataclass(frozen=True)
class Decided:
    """A plan that was carried out as far as encoding.

    Attributes:
        scene: what was decided and seen.
        newest_ns: stamp of the newest frame of all sensors.
        here: where the vehicle is, None where no frame says so.
    """

    scene: Scene
    newest_ns: int
    here: Standpoint | None


class FrameLook:
    """Chooses plans and encodes what they run; one call at a time."""

    def __init__(self, parts: RuntimeParts, buffer: SensorBuffer, experience: Experience) -> None:
        """Put the parts to work.

        Args:
            parts: engines and weights; connection, pack and policy may be exchanged in it.
            buffer: the newest frames.
            experience: that frames add to.
        """
        self._parts, self._buffer, self._known = parts, buffer, experience

    @property
    def is_steered(self) -> bool:
        """Whether a policy chooses, and so needs to know more than FLOPs."""
        return not isinstance(self._parts.policy, FixedPolicy)

    def is_connected(self, sensor: str, here: Standpoint | None) -> bool:
        """Whether the connection has prepared the tokens of a sensor, as they are used here."""
        return self._parts.perception.has_rows(sensor, self._parts.connection, here)

    @property
    def cost(self) -> FrameCost:
        """FLOPs of frames at the precision of the language model."""
        return self.cost_at(self._parts.model.manifest.precision)

    def cost_at(self, precision: Precision) -> FrameCost:
        """FLOPs of frames whose tail is of this precision."""
        return self._known.formulas.of(precision)

    def look(
        self, asked: Sequence[AskedQuestion], orders: FrameOrders, clock: FrameClock
    ) -> Decided:
        """Choose a plan and encode what it runs."""
        perception, budget = self._parts.perception, _with_deadline(orders.budget, asked)
        steered, clock.deadline_ms = self.is_steered, budget.latency_ms
        # What is kept for a limit or a policy is not paid for where there is neither.
        if steered or budget.latency_ms is not None or budget.energy_mj is not None:
            clock.keep_times(self._known.times)
        if budget.memory_bytes != self._known.memory.limit:
            self._known.memory.keep_within(budget.memory_bytes)
        held = self._buffer.snapshot()
        here = Standpoint.of(held.values())
        connected = partial(self.is_connected, here=here)
        unusable = self._known.surroundings.look(held) if steered else {}
        lookout = Lookout(perception, held, orders.max_age_ms, unusable, here)
        wanted = [sensor for sensor in orders.sensors if orders.pins.get(sensor) != "off"]
        states, dropped = lookout.states(wanted, connected, orders.pins)
        plan = self._choose(asked, states, orders, budget, clock, lookout.newest_ns)
        if budget.memory_bytes is not None:
            self._known.memory.make_room(
                {states[sensor].encoder for sensor, do in plan.sensors.items() if do == "run"}
            )
        # One by one needs less memory, and leaves off in time; a CPU is no slower at it.
        most = None if budget.memory_bytes is None and budget.latency_ms is None else 1
        scene = lookout.encode(
            plan,
            dropped,
            connected,
            clock,
            most=most,
            skip=None
            if budget.latency_ms is None
            else self._leaving_out(asked, plan, states, orders, clock, lookout.newest_ns),
        )
        return Decided(scene, lookout.newest_ns, here)

    def _choose(
        self,
        asked: Sequence[AskedQuestion],
        states: Mapping[str, SensorState],
        orders: FrameOrders,
        budget: Budget,
        clock: FrameClock,
        newest_ns: int,
    ) -> Plan:
        model, precision = self._parts.model, self._parts.model.manifest.precision
        condition = self._known.surroundings.context.condition if self.is_steered else None
        heads = [one.head.states for one in asked]
        depths = [
            depth
            for depth in orders.depths
            if all(model.boundary(depth) in there for there in heads)
        ]

        precisions = self._parts.precisions

        def request(limits: Budget, times: Mapping[str, PartSnapshot]) -> PlanRequest:
            return PlanRequest(
                sensors=states,
                questions=[self._demand(one, orders, newest_ns, condition) for one in asked],
                tail_blocks=orders.tail_blocks,
                precision=precision,
                depths=tuple(depths) or (orders.tail_blocks,),
                precisions=precisions,
                budget=limits,
                condition=condition,
                costs=self.costs(times, budget),
                utility=self._parts.utility,
            )

        left = budget
        if self.is_steered and budget.latency_ms is not None:
            precisions = self._timed_precisions(depths, clock)
            depths = self._timed(depths, orders, precisions, clock)
            if self._lacks_times(states, clock):
                # Nothing is learned of parts that wait until they are known.
                left = budget = budget.model_copy(update={"latency_ms": None})
        if budget.latency_ms is not None and 0 < clock.elapsed_ms < budget.latency_ms:
            left = budget.model_copy(update={"latency_ms": budget.latency_ms - clock.elapsed_ms})
        try:
            return self._parts.policy.choose(request(left, clock.known))
        except BudgetError as error:
            if error.field != "budget.latency_ms":
                raise
            # Nothing is in time just now; what would be at the usual pace goes as far as it can.
            plan = self._parts.policy.choose(request(budget, self._known.times.usual()))
            note = f"at present nothing is in time: {error.problem}"
            return plan.model_copy(update={"note": "; ".join(filter(None, (plan.note, note)))})

    def _timed_precisions(self, depths: list[int], clock: FrameClock) -> tuple[Precision, ...]:
        """Precisions of which the time of some depth is known; that of the language model else."""
        known: list[Precision] = [
            precision
            for precision in self._parts.precisions
            if any(tail_part(depth, precision) in clock.known for depth in depths)
        ]
        return tuple(known) or self._parts.precisions[:1]

    def _timed(
        self,
        depths: list[int],
        orders: FrameOrders,
        precisions: Sequence[Precision],
        clock: FrameClock,
    ) -> list[int]:
        """Depths whose times are known, or the configured one, which then becomes known."""
        known = [
            depth
            for depth in depths
            if all(tail_part(depth, precision) in clock.known for precision in precisions)
        ]
        return known or [orders.tail_blocks]

    def _lacks_times(self, states: Mapping[str, SensorState], clock: FrameClock) -> bool:
        waiting = {state.encoder for state in states.values() if state.fresh_age_ms is not None}
        needed = {CONNECT, DECODE, *map(encode_part, waiting)}
        return not needed | ({PREPARE} if waiting else set()) <= clock.known.keys()

    def costs(self, times: Mapping[str, PartSnapshot], budget: Budget) -> PlanCosts:
        """What plans cost now.

        Args:
            times: of parts.
            budget: decides what must be known.
        """
        if not (self.is_steered or budget.memory_bytes or budget.energy_mj or times):
            return PlanCosts(self._known.formulas)
        if budget.energy_mj is not None:
            self._known.energy.start()
        return PlanCosts(
            self._known.formulas,
            times,
            self._known.memory.loaded,
            self._known.memory.use() if self.is_steered or budget.memory_bytes else None,
            self._known.energy.mj_per_ms,
            self._known.energy.absent,
        )

    def _demand(
        self, asked: AskedQuestion, orders: FrameOrders, newest_ns: int, condition: str | None
    ) -> QuestionDemand:
        question, last = asked.question, self._known.last_answers
        key = topic_of(question.text, question.answers).key
        age_ms = last.age_ms(question, newest_ns, orders.max_age_ms)
        # Without limits all are answered, and nobody asks what the last answer is worth.
        weighed = self.is_steered and age_ms is not None and orders.budget != _NO_LIMIT
        share = (
            last.share(question, key, condition, newest_ns, self._parts.utility)
            if weighed
            else None
        )
        return QuestionDemand(
            kind=key,
            length=len(asked.head.token_ids),
            priority=question.priority,
            sensors=question.sensors,
            held_age_ms=age_ms,
            held_share=share,
        )

    def imagined(
        self, asked: Sequence[AskedQuestion], orders: FrameOrders, condition: str | None
    ) -> PlanRequest:
        """The request of a frame in which every sensor that is on has a new frame.

        Args:
            asked: questions that have no last answer.
            orders: what holds for the frame.
            condition: of light and weather.
        """
        states: dict[str, SensorState] = {}
        for sensor in orders.sensors:
            name, encoder = self._parts.perception.encoder_of(sensor)
            spec, pin = encoder.spec, orders.pins.get(sensor)
            states[sensor] = SensorState(
                name, spec.modality, spec.tokens, 0.0, None, connected=False, pin=pin
            )
        precision = self._parts.model.manifest.precision
        return PlanRequest(
            sensors=states,
            questions=[
                QuestionDemand(
                    topic_of(one.question.text, one.question.answers).key,
                    len(one.head.token_ids),
                    one.question.priority,
                    one.question.sensors,
                )
                for one in asked
            ],
            tail_blocks=orders.tail_blocks,
            precision=precision,
            depths=orders.depths,
            precisions=self._parts.precisions,
            budget=orders.budget,
            condition=condition,
            costs=self.costs(self._known.times.parts.snapshot(), orders.budget),
            utility=self._parts.utility,
        )

    def _leaving_out(
        self,
        asked: Sequence[AskedQuestion],
        plan: Plan,
        states: Mapping[str, SensorState],
        orders: FrameOrders,
        clock: FrameClock,
        newest_ns: int,
    ) -> Callable[[str, int], str | None]:
        """What is asked before each batch of an encoder, see `Perception.encode`."""
        sees = any(states[sensor].held_age_ms is not None for sensor in plan.sensors)
        last = self._known.last_answers
        unanswered = any(
            last.age_ms(one.question, newest_ns, orders.max_age_ms) is None for one in asked
        )
        # A question that is answered whatever happens is answered from one look at least: without
        # any, answers are worth nothing.
        must_look = unanswered and not sees

        def skip(encoder: str, frames: int) -> str | None:
            nonlocal must_look
            if must_look:
                must_look = False
                return None
            return self._no_time_for(encoder, frames, asked, plan, clock)

        return skip

    def _no_time_for(
        self,
        encoder: str,
        frames: int,
        asked: Sequence[AskedQuestion],
        plan: Plan,
        clock: FrameClock,
    ) -> str | None:
        """Why frames are left out: with them, there would be no time for the answers."""
        chosen = asked if plan.questions is None else [asked[i] for i in plan.questions]
        parts: list[Part] = [(encode_part(encoder), float(frames))]
        if encoder not in self._known.memory.loaded:
            parts.append((load_part(encoder), None))
        parts += self.answering_parts(chosen, plan, list(plan.sensors))
        late_ms = clock.lacks_time_for(parts)
        if late_ms is None:
            return None
        clock.cut(f"no time for the encoder {encoder}")
        return f"its frame was left out, the answers would have been {late_ms:.0f} ms late"

    def answering_parts(
        self, asked: Sequence[AskedQuestion], plan: Plan, sensors: Sequence[str]
    ) -> list[Part]:
        """Connection, tail and decoding of questions behind these sensors."""
        depth = plan.tail_blocks
        cost = self.cost_at(plan.precision)
        tokens = sum(cost.encoders[sensor].tokens for sensor in sensors)
        connect, tail = cost.answering(
            tokens, self._parts.model.boundary(depth), lengths(asked), depth
        )
        return [
            (CONNECT, connect / GIGA),
            (tail_part(depth, plan.precision), tail / GIGA),
            (DECODE, float(len(asked))),
        ]


def lengths(asked: Sequence[AskedQuestion]) -> list[int]:
    """Tokens of each question."""
    return [len(one.head.token_ids) for one in asked]


def _with_deadline(budget: Budget, asked: Sequence[AskedQuestion]) -> Budget:
    """The budget, with the tightest deadline of a question where that is tighter."""
    deadlines = [one.question.deadline_ms for one in asked if one.question.deadline_ms is not None]
    if budget.latency_ms is not None:
        deadlines.append(budget.latency_ms)
    tightest = min(deadlines, default=None)
    if tightest == budget.latency_ms:
        return budget
    return budget.model_copy(update={"latency_ms": tightest})
