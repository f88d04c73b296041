"""The step loop: newest frames in, answers out.

Holds the parts together and nothing else: the policy chooses, perception encodes, the connection
connects, the language model answers. Built by `tailwire.open_runtime`.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .answering import AskedQuestion, Reply, reply_to_all, stream_reply
from .connections import Connection
from .cost import LanguageModelCost, connection_flops
from .decoding import TextPiece
from .errors import ConfigError, SensorError
from .frames import SensorFrame
from .language_model import LanguageModel, TailResult
from .metrics import StageClock
from .pack import PackManifest
from .perception import Perception
from .plans import Answer, Budget, Plan, SensorUse
from .questions import AnswerTrie, Question
from .scheduler import PlanRequest, Policy, SensorAction
from .sensor_buffer import SensorBuffer

#: Tokens of all questions of one tail pass. Attention between questions is computed and masked;
#: with passes of this size it stays below a tenth of the linear layers.
MAX_PACKED_TOKENS = 192


@dataclass
class RuntimeParts:
    """What a runtime is made of."""

    model: LanguageModel
    pack: PackManifest
    perception: Perception
    connection: Connection
    policy: Policy
    encoder_flops: Mapping[str, int]


@dataclass(frozen=True)
class _Scene:
    """What a frame knows before any question: which sensors, how old, at what cost."""

    plan: Plan
    uses: dict[str, SensorUse]
    dropped: dict[str, str]
    stamp_ns: int | None


class Runtime:
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
            ConfigError: the depth does not fit the pack.
            SensorError: a sensor is unknown.
        """
        self._parts = parts
        self._lock = threading.RLock()
        self._buffer = SensorBuffer(parts.perception.sensors)
        self._watched: dict[int, AskedQuestion] = {}
        self._ids = itertools.count(1)
        self._cost = LanguageModelCost(parts.model.config)
        self.max_age_ms = max_age_ms
        self.budget = budget or Budget()
        self._tail_blocks = self._checked_depth(tail_blocks or parts.pack.tail_blocks)
        self._sensors = self._checked_sensors(sensors)

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
        """Free all engines."""
        with self._lock:
            self._parts.perception.close()
            self._parts.connection.close()
            self._parts.model.close()

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
            self._sensors = self._checked_sensors(sensors)

    def set_tail(self, tail_blocks: int) -> None:
        """Choose the tail depth, from the next frame.

        Raises:
            ConfigError: the depth does not fit the pack.
        """
        with self._lock:
            self._tail_blocks = self._checked_depth(tail_blocks)
            for key, asked in self._watched.items():
                self._watched[key] = self._prepare(asked.question)

    def swap_connection(self, connection: Connection) -> Connection:
        """Use other connection weights from the next frame; returns the old ones for roll-back."""
        with self._lock:
            old, self._parts.connection = self._parts.connection, connection
            return old

    def watch(self, question: str | Question, answers: Sequence[str] | None = None) -> int:
        """Keep a standing question; its head runs now, once.

        Args:
            question: as text, or a `Question`.
            answers: allowed answers, or None for free text.

        Returns:
            A number for `unwatch`.
        """
        asked = self._prepare(_as_question(question, answers))
        with self._lock:
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
        """Late frames per sensor since the start."""
        return self._buffer.dropped

    def forget_frames(self) -> None:
        """Drop all frames and tokens, e.g. when time jumps back or a new drive starts."""
        with self._lock:
            self._buffer.forget()
            self._parts.perception.forget()

    def step(self, frames: Iterable[SensorFrame] | Mapping[str, SensorFrame] = ()) -> list[Answer]:
        """Answer all standing questions from the newest frames.

        Args:
            frames: handed over before answering, as if by `push`.

        Returns:
            One answer per standing question, in the order of `watch`.

        Raises:
            BudgetError: no plan fits the budget.
        """
        self._take(frames)
        with self._lock:
            return self._answer(list(self._watched.values()))

    def ask(
        self,
        frames: Iterable[SensorFrame] | Mapping[str, SensorFrame],
        question: str | Question,
        answers: Sequence[str] | None = None,
    ) -> Answer:
        """Answer one question from the newest frames; see `step`."""
        asked = self._prepare(_as_question(question, answers))
        self._take(frames)
        with self._lock:
            return self._answer([asked])[0]

    def stream(
        self, frames: Iterable[SensorFrame] | Mapping[str, SensorFrame], question: str | Question
    ) -> Iterator[TextPiece | Answer]:
        """Answer in free text, piece by piece; the last item is the whole `Answer`."""
        asked = self._prepare(_as_question(question, None))
        self._take(frames)
        with self._lock:
            clock = StageClock()
            scene = self._look([asked], clock)
            result = self._tail([asked], scene, clock)
            reply = yield from stream_reply(self.model, result, 0, asked)
            yield self._finish([asked], [reply], scene, clock)[0]

    def _take(self, frames: Iterable[SensorFrame] | Mapping[str, SensorFrame]) -> None:
        for frame in frames.values() if isinstance(frames, Mapping) else frames:
            self._buffer.push(frame)

    def _prepare(self, question: Question) -> AskedQuestion:
        parts = self._parts
        tokens = parts.model.tokenizer.encode(parts.pack.prompt.render(question.text)).ids
        depths = {self._tail_blocks, parts.pack.connection.tail_blocks}
        head = parts.model.encode(tokens, sorted(depths))
        trie = None
        if question.answers is not None:
            trie = AnswerTrie(question.answers, self._spell, self._end_token())
        return AskedQuestion(question, head, trie)

    def _spell(self, answer: str) -> Sequence[int]:
        parts = self._parts
        text = parts.pack.prompt.answer_prefix + answer
        return parts.model.tokenizer.encode(text, add_special_tokens=False).ids

    def _end_token(self) -> int:
        ends = self.model.config.eos_token_ids
        if not ends:
            raise ConfigError(
                "the language model names no end-of-text token",
                field="eos_token_id",
                remedy="add it to the model's configuration",
            )
        return ends[0]

    def _answer(self, asked: Sequence[AskedQuestion]) -> list[Answer]:
        if not asked:
            return []
        clock = StageClock()
        scene = self._look(asked, clock)
        replies: list[Reply] = []
        for chunk in _chunks(asked):
            result = self._tail(chunk, scene, clock)
            with clock.stage("decode"):
                replies += reply_to_all(self.model, result, chunk)
        return self._finish(asked, replies, scene, clock)

    def _look(self, asked: Sequence[AskedQuestion], clock: StageClock) -> _Scene:
        """Choose a plan and encode what it runs."""
        perception = self._parts.perception
        held = self._buffer.snapshot()
        newest_ns = max((frame.stamp_ns for frame in held.values()), default=0)
        wanted = {sensor: held[sensor] for sensor in self._sensors if sensor in held}
        dropped = {s: "it has sent no frame yet" for s in self._sensors if s not in held}
        for sensor, frame in list(wanted.items()):
            age_ms = (newest_ns - frame.stamp_ns) / 1e6
            if age_ms > self.max_age_ms:
                dropped[sensor] = f"its frame is {age_ms:.0f} ms old, allowed {self.max_age_ms:.0f}"
                del wanted[sensor]
        lengths = [len(one.head.token_ids) for one in asked]
        plan = self._parts.policy.choose(
            PlanRequest(
                sensors={s: perception.is_new(frame) for s, frame in wanted.items()},
                tail_blocks=self._tail_blocks,
                precision=self.model.manifest.precision,
                budget=self.budget,
                flops=lambda actions, depth: self._flops(actions, depth, lengths),
            )
        )
        to_run = [wanted[sensor] for sensor, action in plan.sensors.items() if action == "run"]
        dropped |= perception.encode(to_run, clock)
        uses: dict[str, SensorUse] = {}
        for sensor in plan.sensors:
            tokens = perception.tokens(sensor)
            # A frame that failed leaves the tokens of an earlier one, if that is young enough.
            if tokens is None:
                continue
            age_ms = (newest_ns - tokens.frame.stamp_ns) / 1e6
            if age_ms <= self.max_age_ms:
                uses[sensor] = SensorUse(
                    stamp_ns=tokens.frame.stamp_ns,
                    age_ms=age_ms,
                    reused=plan.sensors[sensor] == "reuse" or sensor in dropped,
                )
        stamp = min((use.stamp_ns for use in uses.values()), default=None)
        return _Scene(plan, uses, dropped, stamp)

    def _tail(self, asked: Sequence[AskedQuestion], scene: _Scene, clock: StageClock) -> TailResult:
        parts = self._parts
        heads = [one.head for one in asked]
        with clock.stage("connect"):
            rows = parts.perception.rows(list(scene.uses), parts.connection)
            prefix = parts.connection.connect(rows, heads, scene.plan.tail_blocks)
        with clock.stage("tail"):
            return parts.model.tail(heads, prefix, scene.plan.tail_blocks)

    def _finish(
        self,
        asked: Sequence[AskedQuestion],
        replies: Sequence[Reply],
        scene: _Scene,
        clock: StageClock,
    ) -> list[Answer]:
        used: dict[str, SensorAction] = {
            sensor: "reuse" if use.reused else "run" for sensor, use in scene.uses.items()
        }
        flops = self._flops(
            used, scene.plan.tail_blocks, [len(one.head.token_ids) for one in asked]
        )
        for one, reply in zip(asked, replies, strict=True):
            keys = len(one.head.token_ids) + reply.passes
            flops += reply.passes * self._cost.decode_step(keys)
            flops += self._cost.logits(reply.scored_full) + self._cost.logits(1, reply.scored_rows)
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

    def _flops(
        self, actions: Mapping[str, SensorAction], tail_blocks: int, lengths: Sequence[int]
    ) -> int:
        """Counted operations of a frame: encoders that run, connection, tail."""
        parts = self._parts
        total, shapes = 0, []
        for sensor, action in actions.items():
            name, encoder = parts.perception.encoder_of(sensor)
            shapes.append((encoder.spec.tokens, encoder.spec.width))
            total += parts.encoder_flops[name] if action == "run" else 0
        spec = parts.connection.spec
        rows = sum(tokens for tokens, _ in shapes)
        if spec.kind == "conditioned" and shapes:
            rows = len(lengths) * (1 + rows)
        total += connection_flops(spec, parts.model.config, shapes, lengths)
        boundary = parts.model.boundary(tail_blocks)
        for chunk in _chunk_lengths(lengths):
            share = rows * len(chunk) // len(lengths) if spec.kind == "conditioned" else rows
            total += self._cost.tail(chunk, boundary, share)
        return total

    def _checked_depth(self, tail_blocks: int) -> int:
        deepest = self._parts.connection.spec.tail_blocks
        if not 0 < tail_blocks <= deepest:
            raise ConfigError(
                f"tail depth {tail_blocks} does not fit the pack",
                field="tail",
                remedy=f"give 1 to {deepest}",
            )
        return tail_blocks

    def _checked_sensors(self, sensors: Sequence[str] | None) -> tuple[str, ...]:
        known = self._parts.perception.sensors
        if sensors is None:
            return known
        unknown = [sensor for sensor in sensors if sensor not in known]
        if unknown:
            raise SensorError(
                f"there is no sensor '{unknown[0]}'",
                field="sensors",
                remedy=f"use one of {', '.join(known)}",
            )
        # The pack's order, whatever the caller's: prefixes are joined in it.
        return tuple(sensor for sensor in known if sensor in sensors)


def _as_question(question: str | Question, answers: Sequence[str] | None) -> Question:
    if isinstance(question, Question):
        return question
    return Question(question, None if answers is None else tuple(answers))


def _chunk_lengths(lengths: Sequence[int]) -> list[list[int]]:
    chunks: list[list[int]] = []
    for length in lengths:
        if chunks and sum(chunks[-1]) + length <= MAX_PACKED_TOKENS:
            chunks[-1].append(length)
        else:
            chunks.append([length])
    return chunks


def _chunks(asked: Sequence[AskedQuestion]) -> Iterator[Sequence[AskedQuestion]]:
    sizes = [len(chunk) for chunk in _chunk_lengths([len(one.head.token_ids) for one in asked])]
    ends = np.cumsum(sizes)
    for end, size in zip(ends, sizes, strict=True):
        yield asked[end - size : end]
