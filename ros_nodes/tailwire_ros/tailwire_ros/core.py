"""The runtime behind a node: another pack can take its place while standing questions stay.

Knows nothing of ROS. Whoever calls may do so from any thread.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tailwire.runtime.decoding import TextPiece
from tailwire.runtime.errors import ConfigError, SensorError
from tailwire.runtime.frames import SensorFrame
from tailwire.runtime.plans import Answer, Budget
from tailwire.runtime.questions import Question

from .turns import Turns

if TYPE_CHECKING:
    from tailwire.runtime.runtime import Runtime

_NS_PER_MS = 1_000_000
#: Text of a streamed answer is made for so long before standing questions have their turn again.
_TEXT_TURN_S = 0.1


@dataclass(frozen=True)
class StandingAnswer:
    """An answer to a standing question.

    Attributes:
        question_id: of the question.
        answer: to it.
    """

    question_id: int
    answer: Answer


class Core:
    """One runtime, its standing questions, and the newest stamp it was handed."""

    def __init__(self, runtime: Runtime, now_ns: Callable[[], int]) -> None:
        """Take over a runtime; the core closes it.

        Args:
            runtime: to answer with.
            now_ns: by the clock that stamps frames.
        """
        self._runtime = runtime
        self._now_ns = now_ns
        # Held while something happens that frames must not come between.
        self._lock = Turns()
        self._ids = itertools.count(1)
        #: Question and key in the runtime by number, in the order in which the runtime answers.
        self._standing: dict[int, tuple[Question, int]] = {}
        self._newest_ns: int | None = None

    @property
    def runtime(self) -> Runtime:
        """What answers now."""
        return self._runtime

    @property
    def num_standing(self) -> int:
        """How many standing questions there are."""
        return len(self._standing)

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the newest frame of all sensors, None before the first."""
        return self._newest_ns

    def close(self) -> None:
        """Free everything."""
        with self._lock:
            self._runtime.close()

    def push(self, frame: SensorFrame) -> bool:
        """Hand over a frame; see `Runtime.push`."""
        kept = self._runtime.push(frame)
        if kept and (self._newest_ns is None or frame.stamp_ns > self._newest_ns):
            self._newest_ns = frame.stamp_ns
        return kept

    def forget_frames(self) -> None:
        """Drop all frames and tokens: time has jumped back, or all sensors have been silent."""
        with self._lock:
            self._newest_ns = None
            self._runtime.forget_frames()

    def forget_if_silent(self) -> bool:
        """Drop frames where even the newest is too old.

        The runtime knows no time but that of its frames; where all stop, none looks old.

        Returns:
            Whether they were dropped.
        """
        newest_ns = self._newest_ns
        limit_ns = self._runtime.max_age_ms * _NS_PER_MS
        if newest_ns is None or self._now_ns() - newest_ns <= limit_ns:
            return False
        self.forget_frames()
        return True

    def watch(self, question: Question) -> int:
        """Keep a standing question; its head runs now.

        Raises:
            ConfigError: see `Runtime.watch`.
        """
        with self._lock:
            key = self._runtime.watch(question)
            number = next(self._ids)
            self._standing[number] = (question, key)
            return number

    def unwatch(self, number: int) -> None:
        """Drop a standing question.

        Raises:
            ConfigError: there is none of this number.
        """
        with self._lock:
            if number not in self._standing:
                raise ConfigError(
                    f"there is no standing question {number}",
                    field="question_id",
                    remedy="use a number that Watch returned",
                )
            _, key = self._standing.pop(number)
            self._runtime.unwatch(key)

    def step(self) -> list[StandingAnswer]:
        """Answer all standing questions from the newest frames; see `Runtime.step`."""
        with self._lock:
            numbers = list(self._standing)
            answers = self._runtime.step()
        return [StandingAnswer(*pair) for pair in zip(numbers, answers, strict=True)]

    def ask(self, question: Question, sensors: Sequence[str] = ()) -> Answer:
        """Answer once; see `Runtime.ask`.

        Args:
            question: with allowed answers or without.
            sensors: that may be used for this question; empty: those switched on.

        Raises:
            SensorError: a sensor is unknown.
        """
        with self._lock, _Switched(self._runtime, sensors):
            return self._runtime.ask((), question)

    def stream(
        self, question: Question, sensors: Sequence[str] = ()
    ) -> Generator[TextPiece | Answer, None, None]:
        """Answer once in free text; see `Runtime.stream`.

        Frames are looked at before the first piece; from then on, pieces and standing questions
        take turns. Whoever iterates shall do nothing slow between two pieces, and close it.
        """
        pieces = self._runtime.stream((), question)
        # What is seen is decided with the first piece; sensors are free again before the second.
        with self._lock, _Switched(self._runtime, sensors):
            first = next(pieces)
        yield first
        while True:
            with self._lock:
                end_s = time.monotonic() + _TEXT_TURN_S
                while time.monotonic() < end_s:
                    piece = next(pieces, None)
                    if piece is None:
                        return
                    yield piece

    def set_budget(self, budget: Budget, policy: str = "") -> None:
        """Limit frames from the next one on, and choose who decides; empty keeps the policy.

        Raises:
            ConfigError: there is no such policy.
        """
        with self._lock:
            if policy and policy != self._runtime.policy:
                self._runtime.set_policy(policy)
            self._runtime.budget = budget

    def replace(self, open_another: Callable[[], Runtime]) -> None:
        """Let another runtime answer; the present one goes on if that fails.

        Args:
            open_another: opens it; answers are given meanwhile.

        Raises:
            TailwireError: it cannot be opened, or refuses a standing question.
        """
        another = open_another()
        try:
            # Heads run while the old one answers; what is watched or dropped meanwhile is
            # settled below.
            keys = {n: (q, another.watch(q)) for n, (q, _) in list(self._standing.items())}
            with self._lock:
                for number in [number for number in keys if number not in self._standing]:
                    another.unwatch(keys.pop(number)[1])
                for number, (question, _) in self._standing.items():
                    if number not in keys:
                        keys[number] = (question, another.watch(question))
                another.budget = self._runtime.budget
                old, self._runtime = self._runtime, another
                self._standing, self._newest_ns = keys, None
        except BaseException:
            another.close()
            raise
        old.close()


def self_test(runtime: Runtime) -> None:
    """Run every engine once, so that what is broken is found now and not at the first frame.

    Raises:
        TailwireError: an engine does not run.
    """
    for encoder in runtime.encoders.values():
        encoder.rehearse(1)
    runtime.ask((), "Is this a test?", ["yes", "no"])


class _Switched:
    """Other sensors for one question."""

    def __init__(self, runtime: Runtime, sensors: Sequence[str]) -> None:
        self._runtime, self._sensors = runtime, tuple(sensors)
        self._before: tuple[str, ...] = ()

    def __enter__(self) -> None:
        if self._sensors:
            self._before = self._runtime.sensors
            try:
                self._runtime.switch_sensors(self._sensors)
            except SensorError:
                self._sensors = ()
                raise

    def __exit__(self, *_: object) -> None:
        if self._sensors:
            self._runtime.switch_sensors(self._before)
