"""The step loop: newest frames in, answers out.

Holds the parts together and nothing else: `frame_loop.py` works on a frame, `steering.py` is told
what frames may cost, `swapping.py` exchanges what answers. Built by `tailwire.open_runtime`.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from .answering import AskedQuestion, Reply, stream_reply
from .asking import as_question
from .blas_threads import OneThread
from .decoding import TextPiece
from .errors import ConfigError
from .frame_clock import FrameClock
from .frames import SensorFrame
from .parts import RuntimeParts
from .plans import Answer, Budget
from .questions import Question
from .steering import Steering

Frames = Iterable[SensorFrame] | Mapping[str, SensorFrame]


class Runtime(Steering):
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
        policy: str | None = None,
        budget: Budget | None = None,
        depths: Sequence[int] | None = None,
        measure: bool | None = None,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Start with the given parts.

        Args:
            parts: loaded engines and weights; the runtime closes them.
            tail_blocks: tail depth, or None for the pack's own.
            sensors: sensors switched on, or None for all.
            max_age_ms: frames older than this, against the newest of all, are not used.
            policy: name of what chooses plans, None for that of the parts.
            budget: limits per frame.
            depths: tail depths that a policy may choose beside `tail_blocks`; None for all that the
                engines and the pack allow.
            measure: whether to measure what parts take; None where a policy or a limit needs it.
            now: clock of the frames, seconds.

        Raises:
            ConfigError: a depth does not fit the pack, the age is not positive, or there is no such
                policy.
            SensorError: a sensor is unknown.
        """
        super().__init__(
            parts,
            tail_blocks=tail_blocks,
            sensors=sensors,
            max_age_ms=max_age_ms,
            policy=policy,
            budget=budget or Budget(),
            depths=depths,
            measure=measure,
            now=now,
        )
        self._ids = itertools.count(1)
        self._one_thread = OneThread()

    def close(self) -> None:
        """Free all engines; from then on questions raise EngineError.

        An adaptation that runs is cancelled and waited for.
        """
        with self._lock:
            self._closed = True
        self._end_adaptation()
        with self._lock:
            self._loop.experience.energy.close()
            self._parts.close()
        self._one_thread.close()

    def __enter__(self) -> Runtime:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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
        wanted = self._demanded(as_question(question, answers))
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

    @property
    def engines_on_cpu(self) -> dict[str, str]:
        """By graph that a device could not take, for lack of memory say, why; it runs on the CPU.

        Empty where every graph runs where the configuration wants it.
        """
        return dict(self._parts.spares.used)

    def forget_frames(self) -> None:
        """Drop all frames and tokens, e.g. when time jumps back or a new drive starts."""
        with self._lock:
            self._buffer.forget()
            self._loop.forget()

    def step(self, frames: Frames = ()) -> list[Answer]:
        """Answer all standing questions from the newest frames.

        Args:
            frames: handed over before answering, as if by `push`.

        Returns:
            One answer per standing question, in the order of `watch`.

        Raises:
            SensorError: a frame is of an unknown sensor.
            BudgetError: no plan fits the budget; being late for a deadline is no error, see
                `Answer.cut`, `Answer.held` and `Answer.late_ms`.
        """
        clock = self._loop.clock()
        self._take(frames)
        with self._lock:
            return self._answer(list(self._watched.values()), clock)

    def ask(
        self,
        frames: Frames,
        question: str | Question,
        answers: Sequence[str] | None = None,
    ) -> Answer:
        """Answer one question from the newest frames; see `step` and `watch`.

        Its head runs now, so the answer's time and FLOPs have it in them.
        """
        wanted = self._demanded(as_question(question, answers))
        clock = self._loop.clock()
        self._take(frames)
        with self._lock:
            asked, flops = self._head(wanted, clock)
            return self._answer([asked], clock, flops)[0]

    def prepare(
        self, question: str | Question, answers: Sequence[str] | None = None
    ) -> AskedQuestion:
        """Run a question's head for `answer`; whoever calls keeps it, nobody watches it.

        Raises:
            ConfigError: as `watch`.
        """
        wanted = self._demanded(as_question(question, answers))
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
        clock = self._loop.clock()
        self._take(frames)
        with self._lock:
            return self._answer(list(asked), clock)

    def stream(self, frames: Frames, question: str | Question) -> Iterator[TextPiece | Answer]:
        """Answer in free text, piece by piece; the last item is the whole `Answer`.

        Other calls may come between two pieces, also from other threads; they change nothing in
        this answer.

        Raises:
            ConfigError: the question has allowed answers.
        """
        wanted = self._demanded(as_question(question))
        if wanted.answers is not None:
            raise ConfigError("only free text can be streamed", field="answers", remedy="use ask()")
        clock = self._loop.clock()
        self._take(frames)
        with self._lock:
            asked, flops = self._head(wanted, clock)
            orders = self._orders()
            decided = self._loop.looking.look([asked], orders, clock)
            result = self._loop.tail([asked], decided, clock)
            # From here on the caller sets the pace.
            clock.end()
            model = self._parts.model_at(decided.scene.plan.precision)
            pieces = stream_reply(model, result, 0, asked)
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
        with self._lock:
            answer = self._loop.stream_answer(asked, reply, decided, orders, clock, flops)
        yield answer

    def _take(self, frames: Frames) -> None:
        for frame in frames.values() if isinstance(frames, Mapping) else frames:
            self._buffer.push(frame)

    def _head(self, question: Question, clock: FrameClock) -> tuple[AskedQuestion, int]:
        """A question that is asked once, and the FLOPs of its head."""
        with clock.stage("head"):
            asked = self._prepare(question, self._tail_blocks)
        return asked, self._loop.head_flops(asked, self._tail_blocks)

    def _answer(
        self, asked: Sequence[AskedQuestion], clock: FrameClock, flops: int = 0
    ) -> list[Answer]:
        self._check_open()
        return self._loop.answer(asked, self._orders(), clock, flops)
