"""The step loop: newest frames in, answers out.

Holds the parts together and nothing else: the policy chooses, perception encodes, the connection
connects, the language model answers. Built by `tailwire.open_runtime`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from .adaptable import Adaptable
from .answering import AskedQuestion, Reply, reply_to_all, stream_reply
from .asking import Preparer, as_question
from .connections import Connection
from .decoding import TextPiece
from .errors import ConfigError
from .frames import SensorFrame
from .language_model import LanguageModel, TailResult
from .metrics import StageClock
from .pack import PackManifest
from .parts import RuntimeParts
from .passes import split_passes
from .plan_costs import PlanCosts, PlanFormulas
from .plans import Answer, Budget, Plan
from .questions import Question
from .scene import Lookout, Scene
from .scheduler import PlanRequest, QuestionDemand, SensorState
from .serving import Serving, check_swap

Frames = Iterable[SensorFrame] | Mapping[str, SensorFrame]


class Runtime(Adaptable):
    """Answers questions about what sensors see.

    Safe to call from several threads; frames are processed one at a time.
    """

    def __init__(
        self,
        parts: RuntimeParts,
        *,
        tail_blocks: int | None = None,
        sensors: Sequence[str] | None = None,
        max_age_ms: float = 1000.0,
        budget: Budget | None = None,
    ) -> None:
        """Start with the given parts.

        Args:
            parts: loaded engines and weights; the runtime closes them.
            tail_blocks: tail depth, or None for the pack's own.
            sensors: sensors switched on, or None for all.
            max_age_ms: frames older than this, against the newest of all, are not used.
            budget: limits per frame.

        Raises:
            ConfigError: the depth does not fit the pack, or the age is not positive.
            SensorError: a sensor is unknown.
        """
        if not max_age_ms > 0:
            raise ConfigError(
                f"max_age_ms is {max_age_ms}", field="max_age_ms", remedy="give a positive number"
            )
        super().__init__(parts)
        self._previous: Serving | None = None
        self.max_age_ms = max_age_ms
        self._ids = itertools.count(1)
        self._preparer = Preparer(parts.model, parts.pack.prompt)
        self._cost = parts.frame_cost()
        self.budget = budget or Budget()
        depth = parts.pack.tail_blocks if tail_blocks is None else tail_blocks
        self._tail_blocks = parts.checked_depth(depth)
        self._sensors = parts.checked_sensors(sensors)

    @property
    def pack(self) -> PackManifest:
        """The manifest of the loaded pack."""
        return self._parts.pack

    @property
    def model(self) -> LanguageModel:
        """The language model."""
        return self._parts.model

    @property
    def sensors(self) -> tuple[str, ...]:
        """Sensors that are switched on."""
        return self._sensors

    @property
    def known_sensors(self) -> tuple[str, ...]:
        """All sensors of the pack."""
        return self._parts.perception.sensors

    @property
    def tail_blocks(self) -> int:
        """Depth of the tail that attends to the sensors."""
        return self._tail_blocks

    def close(self) -> None:
        """Free all engines; from then on questions raise EngineError.

        An adaptation that runs is cancelled and waited for.
        """
        with self._lock:
            self._closed = True
        self._end_adaptation()
        with self._lock:
            self._parts.close()

    def __enter__(self) -> Runtime:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def switch_sensors(self, sensors: Sequence[str] | None) -> None:
        """Choose which sensors are on, from the next frame; None for all.

        Raises:
            SensorError: a sensor is unknown.
        """
        with self._lock:
            self._sensors = self._parts.checked_sensors(sensors)

    def set_tail(self, tail_blocks: int) -> None:
        """Choose the tail depth, from the next frame.

        Raises:
            ConfigError: the depth does not fit the pack.
        """
        with self._lock:
            depth = self._parts.checked_depth(tail_blocks)
            # Only heads that end too early run again.
            self._watched |= {
                key: self._prepare(asked.question, depth)
                for key, asked in self._lacking(self.model.boundary(depth)).items()
            }
            self._tail_blocks = depth

    def _lacking(self, boundary: int) -> dict[int, AskedQuestion]:
        """Standing questions whose head has no states at a boundary."""
        with self._lock:
            watched = self._watched.items()
            return {k: asked for k, asked in watched if boundary not in asked.head.states}

    def swap_connection(self, connection: Connection) -> Connection:
        """Use other connection weights from the next frame.

        Args:
            connection: made by `Connection.with_weights`; both share one engine.

        Returns:
            The old one, for roll-back.

        Raises:
            ConfigError: the connection is of another shape.
        """
        with self._lock:
            return self.serve(replace(self.serving, connection=connection)).connection

    @property
    def connection(self) -> Connection:
        """The connection in use."""
        return self._parts.connection

    @property
    def serving(self) -> Serving:
        """All that answers now."""
        with self._lock:
            parts = self._parts
            return Serving(parts.connection, self._sensors, self._tail_blocks, parts.pack)

    def serve(self, serving: Serving) -> Serving:
        """Use other weights, sensors and depth, all from the same frame on.

        Heads that the new depth needs run before, question by question between frames, so that
        the swap itself is a few assignments.

        Returns:
            What served before, for roll-back.

        Raises:
            ConfigError: the connection is of another shape, or the depth does not fit.
            SensorError: a sensor is unknown.
        """
        parts, depth = self._parts, serving.tail_blocks
        check_swap(parts.connection, serving.connection)
        parts.checked_depth(depth)
        sensors = parts.checked_sensors(serving.sensors)
        boundary = self.model.boundary(depth)
        ready: dict[int, AskedQuestion] = {}
        for key, asked in self._lacking(boundary).items():
            with self._lock:
                ready[key] = self._prepare(asked.question, depth)
        with self._lock:
            self._check_open()
            old = self.serving
            for key, asked in self._lacking(boundary).items():
                # One that was watched meanwhile has none ready.
                self._watched[key] = ready.get(key) or self._prepare(asked.question, depth)
            parts.connection, parts.pack = serving.connection, serving.pack
            self._sensors, self._tail_blocks = sensors, depth
            self._cost = parts.frame_cost()
            self._previous = old
            return old

    def roll_back(self) -> Serving:
        """Serve with what served before the last swap; a second call takes that back.

        Returns:
            What served until now.

        Raises:
            ConfigError: nothing was swapped yet.
        """
        with self._lock:
            previous = self._previous
        if previous is None:
            raise ConfigError(
                "nothing was swapped yet", field="roll_back", remedy="adapt or swap first"
            )
        return self.serve(previous)

    def watch(self, question: str | Question, answers: Sequence[str] | None = None) -> int:
        """Keep a standing question; its head runs now, once.

        Args:
            question: as text, or a `Question`.
            answers: allowed answers, or None for free text.

        Returns:
            A number for `unwatch`.

        Raises:
            ConfigError: the question is too long, or its answers cannot be told apart.
        """
        wanted = as_question(question, answers)
        with self._lock:
            asked = self._prepare(wanted, self._tail_blocks)
            key = next(self._ids)
            self._watched[key] = asked
            return key

    def unwatch(self, key: int) -> None:
        """Drop a standing question.

        Raises:
            ConfigError: there is none of this number.
        """
        with self._lock:
            if self._watched.pop(key, None) is None:
                raise ConfigError(
                    f"there is no standing question {key}",
                    field="question",
                    remedy="use a number that watch() returned",
                )

    def push(self, frame: SensorFrame) -> bool:
        """Hand over a frame; late ones are dropped. See `SensorBuffer.push`."""
        return self._buffer.push(frame)

    @property
    def late_frames(self) -> dict[str, int]:
        """Frames per sensor that came after a newer one, since the start."""
        return self._buffer.dropped

    @property
    def bad_frames(self) -> dict[str, int]:
        """Frames per sensor that could not be used (truncated, empty, ...), since the start."""
        return self._parts.perception.bad_frames

    def forget_frames(self) -> None:
        """Drop all frames and tokens, e.g. when time jumps back or a new drive starts."""
        with self._lock:
            self._buffer.forget()
            self._parts.perception.forget()

    def step(self, frames: Frames = ()) -> list[Answer]:
        """Answer all standing questions from the newest frames.

        Args:
            frames: handed over before answering, as if by `push`.

        Returns:
            One answer per standing question, in the order of `watch`.

        Raises:
            SensorError: a frame is of an unknown sensor.
            BudgetError: no plan fits the budget.
        """
        self._take(frames)
        with self._lock:
            return self._answer(list(self._watched.values()), StageClock())

    def ask(
        self,
        frames: Frames,
        question: str | Question,
        answers: Sequence[str] | None = None,
    ) -> Answer:
        """Answer one question from the newest frames; see `step` and `watch`.

        Its head runs now, so the answer's time and FLOPs have it in them.
        """
        wanted = as_question(question, answers)
        self._take(frames)
        with self._lock:
            clock = StageClock()
            asked, flops = self._head(wanted, clock)
            return self._answer([asked], clock, flops)[0]

    def prepare(
        self, question: str | Question, answers: Sequence[str] | None = None
    ) -> AskedQuestion:
        """Run a question's head for `answer`; whoever calls keeps it, nobody watches it.

        Raises:
            ConfigError: as `watch`.
        """
        wanted = as_question(question, answers)
        with self._lock:
            return self._prepare(wanted, self._tail_blocks)

    def answer(self, asked: Sequence[AskedQuestion], frames: Frames = ()) -> list[Answer]:
        """Answer prepared questions from the newest frames, as `step` does the standing ones.

        Args:
            asked: made by `prepare` at the tail depth of now.
            frames: handed over before answering.

        Raises:
            ConfigError: a question was prepared for another tail depth.
        """
        self._take(frames)
        with self._lock:
            return self._answer(list(asked), StageClock())

    def stream(self, frames: Frames, question: str | Question) -> Iterator[TextPiece | Answer]:
        """Answer in free text, piece by piece; the last item is the whole `Answer`.

        Other calls may come between two pieces, also from other threads; they change nothing in
        this answer.

        Raises:
            ConfigError: the question has allowed answers.
        """
        wanted = as_question(question)
        if wanted.answers is not None:
            raise ConfigError("only free text can be streamed", field="answers", remedy="use ask()")
        self._take(frames)
        with self._lock:
            clock = StageClock()
            asked, flops = self._head(wanted, clock)
            scene = self._look([asked], clock)
            pieces = stream_reply(self.model, self._tail([asked], scene, clock), 0, asked)
        # The lock is not held while the caller has a piece: it may never come back for the next.
        while True:
            with self._lock, clock.stage("decode"):
                self._check_open()
                try:
                    piece = next(pieces)
                except StopIteration as end:
                    reply: Reply = end.value
                    break
            yield piece
        yield self._finish([asked], [reply], scene, clock, flops)[0]

    def _take(self, frames: Frames) -> None:
        for frame in frames.values() if isinstance(frames, Mapping) else frames:
            self._buffer.push(frame)

    def _prepare(self, question: Question, depth: int) -> AskedQuestion:
        self._check_open()
        # Conditioned connections read the states at the deepest boundary, whatever the depth.
        return self._preparer.prepare(question, (depth, self._parts.connection.spec.tail_blocks))

    def _head(self, question: Question, clock: StageClock) -> tuple[AskedQuestion, int]:
        """A question that is asked once, and the FLOPs of its head."""
        with clock.stage("head"):
            asked = self._prepare(question, self._tail_blocks)
        boundary, tokens = max(asked.head.states), len(asked.head.token_ids)
        return asked, self._cost.head(tokens, boundary, self._tail_blocks)

    def _answer(
        self, asked: Sequence[AskedQuestion], clock: StageClock, flops: int = 0
    ) -> list[Answer]:
        self._check_open()
        if not asked:
            return []
        scene = self._look(asked, clock)
        replies: list[Reply] = []
        for part in split_passes(_lengths(asked)):
            result = self._tail(asked[part], scene, clock)
            with clock.stage("decode"):
                replies += reply_to_all(self.model, result, asked[part])
        return self._finish(asked, replies, scene, clock, flops)

    def _look(self, asked: Sequence[AskedQuestion], clock: StageClock) -> Scene:
        """Choose a plan and encode what it runs."""
        parts, precision = self._parts, self.model.manifest.precision
        encoders = {s: parts.perception.encoder_of(s)[0] for s in parts.perception.sensors}
        formulas = PlanFormulas({precision: self._cost}, encoders, self.model.boundary)

        def connected(sensor: str) -> bool:
            return parts.perception.has_rows(sensor, parts.connection)

        def choose(states: Mapping[str, SensorState]) -> Plan:
            return parts.policy.choose(
                PlanRequest(
                    sensors=states,
                    questions=[QuestionDemand("other", n) for n in _lengths(asked)],
                    tail_blocks=self._tail_blocks,
                    precision=precision,
                    depths=(self._tail_blocks,),
                    precisions=(precision,),
                    budget=self.budget,
                    condition=None,
                    costs=PlanCosts(formulas),
                )
            )

        lookout = Lookout(parts.perception, self._buffer.snapshot(), self.max_age_ms)
        return lookout.look(self._sensors, choose, connected, clock)

    def _tail(self, asked: Sequence[AskedQuestion], scene: Scene, clock: StageClock) -> TailResult:
        parts = self._parts
        heads = [one.head for one in asked]
        with clock.stage("connect"):
            rows = parts.perception.rows(list(scene.uses), parts.connection)
            prefix = parts.connection.connect(rows, heads, scene.plan.tail_blocks)
        with clock.stage("tail"):
            depth = scene.plan.tail_blocks
            return parts.model.tail(heads, prefix, depth, parts.connection.lora(depth))

    def _finish(
        self,
        asked: Sequence[AskedQuestion],
        replies: Sequence[Reply],
        scene: Scene,
        clock: StageClock,
        flops: int,
    ) -> list[Answer]:
        depth, lengths = scene.plan.tail_blocks, _lengths(asked)
        boundary = self.model.boundary(depth)
        flops += self._cost.look(scene.actions, scene.connected, boundary, lengths, depth)
        flops += self._cost.answers(scene.uses, boundary, lengths, replies, depth)
        return [
            Answer(
                question=one.question.text,
                text=reply.text,
                confidence=reply.confidence,
                stamp_ns=scene.stamp_ns,
                sensors=scene.uses,
                dropped=scene.dropped,
                plan=scene.plan,
                timings_ms=dict(clock.stages_ms),
                flops=flops,
                pack=f"{self.pack.name} {self.pack.version}",
                pack_trained=self.pack.trained,
            )
            for one, reply in zip(asked, replies, strict=True)
        ]


def _lengths(asked: Sequence[AskedQuestion]) -> list[int]:
    return [len(one.head.token_ids) for one in asked]
