"""One frame: see what `FrameLook` decides, connect, run the tail, decode; in time, or marked."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from .answering import AskedQuestion, Reply, reply_to_all
from .frame_clock import FrameClock, Part
from .frame_look import Decided, Experience, FrameLook, FrameOrders, lengths
from .language_model import TailResult
from .last_answers import FrameFacts
from .parts import RuntimeParts
from .passes import question_passes
from .plan_costs import CONNECT, DECODE, GIGA
from .plans import Answer
from .scene import Scene
from .sensor_buffer import SensorBuffer


class FrameLoop:
    """Answers questions from the newest frames; one call at a time."""

    def __init__(
        self,
        parts: RuntimeParts,
        buffer: SensorBuffer,
        *,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Put the parts to work.

        Args:
            parts: engines and weights; connection, pack and policy may be exchanged in it.
            buffer: the newest frames.
            now: seconds, of any origin.
        """
        self._parts, self.now = parts, now
        self.experience = Experience(parts.perception, parts.plan_formulas())
        self.looking = FrameLook(parts, buffer, self.experience)

    def refresh(self) -> None:
        """Take in that the connection or the pack in the parts is another one."""
        self.experience.formulas = self._parts.plan_formulas()
        self.experience.last_answers.forget()

    def forget(self) -> None:
        """Drop what frames of another time have left."""
        self._parts.perception.forget()
        self.experience.forget()

    def clock(self, began: float | None = None) -> FrameClock:
        """A clock for the next frame; see `FrameClock`."""
        return FrameClock(self.now, began=began)

    def head_flops(self, asked: AskedQuestion, tail_blocks: int) -> int:
        """What a question's head took."""
        cost, boundary = self.looking.cost, max(asked.head.states)
        return cost.head(len(asked.head.token_ids), boundary, tail_blocks)

    def answer(
        self,
        asked: Sequence[AskedQuestion],
        orders: FrameOrders,
        clock: FrameClock,
        flops: int = 0,
    ) -> list[Answer]:
        """Answer questions.

        Args:
            asked: with heads for all depths of the orders.
            orders: what holds for this frame.
            clock: of the frame.
            flops: that it has taken already.

        Raises:
            BudgetError: no plan fits the budget, however fast the machine is.
        """
        if not asked:
            return []
        calling = self._parts.perception.calling
        # Last, so that a thread that measures may run anywhere.
        with self.experience.memory.frame(), self.experience.energy.frame(), calling.kept():
            decided = self.looking.look(asked, orders, clock)
            replies, passes = self._replies(asked, decided, orders, clock)
        for part in passes:
            flops += self._pass_flops([asked[i] for i in part], [replies[i] for i in part], decided)
        return self._finish(asked, replies, decided, orders, clock, flops)

    def stream_answer(
        self,
        asked: AskedQuestion,
        reply: Reply,
        decided: Decided,
        orders: FrameOrders,
        clock: FrameClock,
        flops: int,
    ) -> Answer:
        """The whole answer of a stream that began with a look and a tail."""
        flops += self._pass_flops([asked], [reply], decided)
        return self._finish([asked], {0: reply}, decided, orders, clock, flops)[0]

    def tail(
        self, asked: Sequence[AskedQuestion], decided: Decided, clock: FrameClock
    ) -> TailResult:
        """Connect what was seen to questions and run them through the tail, as one pass."""
        parts, scene = self._parts, decided.scene
        depth = scene.plan.tail_blocks
        heads = [one.head for one in asked]
        connect_size, (name, tail_size) = self._sizes(asked, decided, clock)
        with clock.stage("connect", part=CONNECT, size=connect_size):
            rows = parts.perception.rows(list(scene.uses), parts.connection, decided.here)
            prefix = parts.connection.connect(rows, heads, depth)
        with clock.stage("tail", part=name, size=tail_size):
            model = parts.model_at(scene.plan.precision)
            return model.tail(heads, prefix, depth, parts.connection.lora(depth))

    def _sizes(
        self, asked: Sequence[AskedQuestion], decided: Decided, clock: FrameClock
    ) -> tuple[float | None, Part]:
        """GFLOP of the connection, and the tail with its own; nothing where no times are kept."""
        if not clock.keeps_times:
            return None, ("tail", None)
        sensors = list(decided.scene.uses)
        (_, connect), tail, _ = self.looking.answering_parts(asked, decided.scene.plan, sensors)
        new = [sensor for sensor in sensors if not self.looking.is_connected(sensor, decided.here)]
        prepare = sum(self.looking.cost.prepare(sensor) for sensor in new)
        return (connect or 0.0) + prepare / GIGA, tail

    def _replies(
        self,
        asked: Sequence[AskedQuestion],
        decided: Decided,
        orders: FrameOrders,
        clock: FrameClock,
    ) -> tuple[dict[int, Reply], list[list[int]]]:
        """Replies by index of the question, and which of them went through the tail together."""
        chosen = decided.scene.plan.questions
        order = list(range(len(asked))) if chosen is None else list(chosen)
        if clock.deadline_ms is not None:
            # What matters most is in the passes that there is most likely time for.
            order.sort(key=lambda i: -asked[i].question.priority)
        replies: dict[int, Reply] = {}
        passes: list[list[int]] = []
        for cut in question_passes(lengths([asked[i] for i in order])):
            part = self._in_time(order[cut], asked, decided, orders, clock)
            if not part:
                continue
            questions = [asked[i] for i in part]
            result = self.tail(questions, decided, clock)
            with clock.stage("decode", part=DECODE, size=len(part)):
                model = self._parts.model_at(decided.scene.plan.precision)
                found = reply_to_all(model, result, questions)
            replies |= dict(zip(part, found, strict=True))
            passes.append(part)
        return replies, passes

    def _in_time(
        self,
        part: Sequence[int],
        asked: Sequence[AskedQuestion],
        decided: Decided,
        orders: FrameOrders,
        clock: FrameClock,
    ) -> list[int]:
        """Questions of a pass that there is time for, and those that have no other answer."""
        if clock.deadline_ms is None:
            return list(part)
        plan, sensors = decided.scene.plan, list(decided.scene.uses)

        def late_ms(some: Sequence[int]) -> float | None:
            return clock.lacks_time_for(
                self.looking.answering_parts([asked[i] for i in some], plan, sensors)
            )

        if late_ms(part) is None:
            return list(part)
        ages = {
            i: self.experience.last_answers.age_ms(
                asked[i].question, decided.newest_ns, orders.max_age_ms
            )
            for i in part
        }
        unanswered = [i for i in part if ages[i] is None]
        others = sorted(
            (i for i in part if ages[i] is not None),
            key=lambda i: (-asked[i].question.priority, -(ages[i] or 0.0)),
        )
        while others and late_ms(unanswered + others) is not None:
            others.pop()
        if len(unanswered) + len(others) < len(part):
            left = len(part) - len(unanswered) - len(others)
            clock.cut(f"no time for {left} of {len(asked)} questions")
        return sorted(unanswered + others)

    def _pass_flops(
        self, asked: Sequence[AskedQuestion], replies: Sequence[Reply], decided: Decided
    ) -> int:
        """What one pass through the tail took, with its decoding."""
        scene, tokens_of = decided.scene, lengths(asked)
        cost = self.looking.cost_at(scene.plan.precision)
        depth = scene.plan.tail_blocks
        boundary = self._parts.model.boundary(depth)
        tokens = sum(cost.encoders[sensor].tokens for sensor in scene.uses)
        flops = sum(cost.answering(tokens, boundary, tokens_of, depth))
        return flops + cost.answers(scene.uses, boundary, tokens_of, replies, depth)

    def _finish(
        self,
        asked: Sequence[AskedQuestion],
        replies: Mapping[int, Reply],
        decided: Decided,
        orders: FrameOrders,
        clock: FrameClock,
        flops: int,
    ) -> list[Answer]:
        """Answers in the order of the questions; last ones where there is no reply."""
        clock.end()
        scene, pack = decided.scene, self._parts.pack
        flops += self._seeing_flops(scene)
        elapsed_ms, deadline_ms = clock.elapsed_ms, clock.deadline_ms
        frame = FrameFacts(
            newest_ns=decided.newest_ns,
            plan=scene.plan,
            dropped=scene.dropped,
            timings_ms=clock.stages_ms,
            flops=flops,
            cut=clock.cut_reason,
            late_ms=None
            if deadline_ms is None or elapsed_ms <= deadline_ms
            else elapsed_ms - deadline_ms,
            pack=f"{pack.name} {pack.version}",
            pack_trained=pack.trained,
        )
        keeps = self.looking.is_steered or deadline_ms is not None
        answers: list[Answer] = []
        for index, one in enumerate(asked):
            if index not in replies:
                answers.append(
                    self.experience.last_answers.again(one.question, frame, orders.max_age_ms)
                )
                continue
            reply = replies[index]
            answers.append(frame.answer(one.question, reply.text, reply.confidence, scene.uses))
            if keeps:
                self.experience.last_answers.note(one.question, answers[-1], decided.newest_ns)
        return answers

    def _seeing_flops(self, scene: Scene) -> int:
        """Encoders that ran, and what the connection made of new tokens."""
        cost, flops = self.looking.cost, 0
        for sensor, action in scene.actions.items():
            if action == "run":
                flops += cost.encoders[sensor].flops
            if action == "run" or sensor not in scene.connected:
                flops += cost.prepare(sensor)
        return flops
