"""Plays a drive through a runtime: sensor time decides what is seen, a clock what is skipped.

Two ways: as fast as possible, where every moment is answered from the frames up to it; or at a
rate, where the clock runs on while answers are made, the newest frame of each sensor wins, and
moments that pass in the meantime are skipped and counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from ...runtime.errors import ConfigError, DataError
from ...runtime.frames import SensorFrame
from ...runtime.plans import Answer
from ..source import DriveSource
from .asking import Answerer, PlannedQuestion, QuestionPlan, WatchList
from .clock import Clock, SteadyClock
from .drops import DropWindow
from .feed import Feed, SensorCount

_NS_PER_S = 1_000_000_000
_MS_PER_S = 1000.0


@dataclass(frozen=True)
class Moment:
    """A time at which questions are asked.

    Attributes:
        stamp_ns: sensor time.
        sample_token: of the keyframe, None where the drive has no keyframes.
    """

    stamp_ns: int
    sample_token: str | None


@dataclass(frozen=True)
class PlayedStep:
    """One moment that was answered.

    Attributes:
        moment: that was asked about.
        time_s: of the moment, since the start of the drive.
        planned: the questions.
        answers: one per question; sensors that were withheld or unreadable are among the dropped.
        step_ms: from the question to all answers, sensor encoders included.
        lag_ms: how long after the moment its answers were begun, in sensor time; 0 where nothing
            waits for a clock.
    """

    moment: Moment
    time_s: float
    planned: Sequence[PlannedQuestion]
    answers: Sequence[Answer]
    step_ms: float
    lag_ms: float


@dataclass(frozen=True)
class Pace:
    """How fast sensor time runs.

    Attributes:
        rate: seconds of the drive per second of the clock; None takes every moment as fast as
            the machine can.
        question_hz: moments per second of a drive without keyframes.
        clock: real time, or that of a test.
    """

    rate: float | None = None
    question_hz: float = 2.0
    clock: Clock = field(default_factory=SteadyClock)

    def __post_init__(self) -> None:
        for option, value in (("--rate", self.rate), ("--question-hz", self.question_hz)):
            if value is not None and not (0 < value < math.inf):
                raise ConfigError(
                    f"{value:g} is no rate", field=option, remedy="give a positive number"
                )


class Player:
    """One drive, played once."""

    def __init__(
        self,
        source: DriveSource,
        runtime: Answerer,
        plan: QuestionPlan,
        sensors: Sequence[str],
        *,
        pace: Pace | None = None,
        drops: Sequence[DropWindow] = (),
        on_frame: Callable[[SensorFrame], None] | None = None,
    ) -> None:
        """Read the first frame; nothing is asked yet.

        Args:
            source: the drive.
            runtime: with no standing questions and no frames of another drive.
            plan: what is asked.
            sensors: those of the drive that the runtime shall see.
            pace: how fast; None is as fast as possible.
            drops: windows in which frames are withheld.
            on_frame: told of each frame that was handed to the runtime.

        Raises:
            DataError: the drive has no frame that can be read.
        """
        self._source, self._runtime, self._plan = source, runtime, plan
        self._pace = pace or Pace()
        self._watched = WatchList(runtime)
        self._bad_before = dict(runtime.bad_frames)
        self.feed = Feed(source, sensors, drops, runtime.push, on_frame)
        if self.feed.next_ns is None:
            unreadable = sum(count.unreadable for count in self.feed.counts.values())
            raise DataError(
                f"the drive has no frame of {', '.join(sensors)} that can be read"
                + (f"; {unreadable} are broken" if unreadable else ""),
                field=source.title,
                remedy="check its sensor files, or play another drive",
            )
        #: Moments that passed while the runtime was busy.
        self.skipped = 0
        #: Heads that ran, and how long they took, seconds.
        self.heads, self.heads_s = 0, 0.0
        #: Seconds that one head took, the newest measurement.
        self._head_s = 0.0
        self._gap_ns = round(_NS_PER_S / self._pace.question_hz)
        self._moments = tuple(
            Moment(keyframe.stamp_ns, keyframe.sample_token)
            for keyframe in source.keyframes
            if plan.at(keyframe.sample_token)
        )
        self._steady = not source.keyframes

    @property
    def num_moments(self) -> int | None:
        """Keyframes with questions; None where the drive has no keyframes."""
        return None if self._steady else len(self._moments)

    @property
    def counts(self) -> dict[str, SensorCount]:
        """Frames per sensor so far, those that the runtime refused among them."""
        bad = self._runtime.bad_frames
        for sensor, count in self.feed.counts.items():
            count.refused = bad.get(sensor, 0) - self._bad_before.get(sensor, 0)
        return self.feed.counts

    def play(self) -> Iterator[PlayedStep]:
        """Take the moments one after the other.

        Yields:
            Each moment that was answered, when its answers are there.

        Raises:
            ConfigError: a question is too long for the model.
        """
        try:
            yield from self._all_moments() if self._pace.rate is None else self._in_time()
        finally:
            self._watched.switch_to(())

    @property
    def _start_ns(self) -> int:
        assert self.feed.start_ns is not None  # there is a first frame
        return self.feed.start_ns

    def _moment(self, index: int) -> Moment | None:
        """The moment of an index, None behind the last."""
        if not self._steady:
            return self._moments[index] if index < len(self._moments) else None
        stamp_ns = self._start_ns + (index + 1) * self._gap_ns
        newest_ns = self.feed.newest_ns
        over = self.feed.next_ns is None and (newest_ns is None or newest_ns < stamp_ns)
        return None if over else Moment(stamp_ns, None)

    def _all_moments(self) -> Iterator[PlayedStep]:
        index = 0
        while (moment := self._moment(index)) is not None:
            index += 1
            self.feed.advance(moment.stamp_ns)
            planned = self._prepare(moment)
            yield self._answer(moment, planned, lag_ms=0.0)

    def _in_time(self) -> Iterator[PlayedStep]:
        assert self._pace.rate is not None
        rate, clock = self._pace.rate, self._pace.clock
        first = self._moment(0)
        if first is None:
            return
        # A robot is ready before it drives off: the first heads do not count against it.
        self._prepare(first)
        start_ns, start_s = self._start_ns, clock.now_s()

        def now_ns() -> int:
            return start_ns + round((clock.now_s() - start_s) * rate * _NS_PER_S)

        index = self._next_in_time(0, now_ns())
        while (moment := self._moment(index)) is not None:
            planned = self._prepare(moment)
            self._wait_until(moment.stamp_ns, now_ns, rate)
            if index and self._moment(index) is None:
                return  # The drive turned out to end before; the first moment is always asked.
            now = now_ns()
            if now < self._deadline_ns(index, moment):
                yield self._answer(moment, planned, lag_ms=(now - moment.stamp_ns) / 1e6)
            else:
                self.skipped += 1
            self.feed.advance(now_ns())
            index = self._next_in_time(index + 1, now_ns())

    def _next_in_time(self, index: int, now_ns: int) -> int:
        """The first moment from `index` on that can be asked about before the one after it."""
        while (moment := self._moment(index)) is not None:
            ready_ns = max(moment.stamp_ns, now_ns + self._heads_ns(moment))
            if ready_ns < self._deadline_ns(index, moment):
                break
            self.skipped += 1
            index += 1
        return index

    def _deadline_ns(self, index: int, moment: Moment) -> int:
        """When a moment is overtaken by the next one; the last has as long as the others."""
        following = self._moment(index + 1)
        return moment.stamp_ns + self._gap_ns if following is None else following.stamp_ns

    def _heads_ns(self, moment: Moment) -> int:
        """Sensor time that passes while the heads of a moment's questions run."""
        assert self._pace.rate is not None
        heads = self._watched.unknown(self._plan.at(moment.sample_token))
        return round(heads * self._head_s * self._pace.rate * _NS_PER_S)

    def _wait_until(self, stamp_ns: int, now_ns: Callable[[], int], rate: float) -> None:
        """Let time pass up to a stamp, handing over frames as they come due."""
        while True:
            now = now_ns()
            self.feed.advance(now)
            # Handing over takes time too, so it is asked about the time from before.
            if now >= stamp_ns:
                return
            due_ns = stamp_ns if self.feed.next_ns is None else min(stamp_ns, self.feed.next_ns)
            self._pace.clock.wait_s((due_ns - now_ns()) / rate / _NS_PER_S)

    def _prepare(self, moment: Moment) -> list[PlannedQuestion]:
        """Have the heads of a moment's questions ready, and note how long one takes."""
        planned = self._plan.at(moment.sample_token)
        heads = self._watched.unknown(planned)
        begun_s = self._pace.clock.now_s()
        self._watched.switch_to(planned)
        if heads:
            took_s = self._pace.clock.now_s() - begun_s
            self._head_s = took_s / heads
            self.heads += heads
            self.heads_s += took_s
        return planned

    def _answer(
        self, moment: Moment, planned: Sequence[PlannedQuestion], *, lag_ms: float
    ) -> PlayedStep:
        self._forget_what_is_too_old(moment)
        begun_s = self._pace.clock.now_s()
        said = self._watched.step()
        step_ms = (self._pace.clock.now_s() - begun_s) * _MS_PER_S
        missing = self.feed.missing(max(moment.stamp_ns, self.feed.newest_ns or 0))
        answers = [
            said[one.question].model_copy(
                update={"dropped": {**said[one.question].dropped, **missing}}
            )
            for one in planned
        ]
        time_s = self.feed.time_s(moment.stamp_ns)
        return PlayedStep(moment, time_s, planned, answers, step_ms, lag_ms)

    def _forget_what_is_too_old(self, moment: Moment) -> None:
        """The runtime knows no time but that of its frames; where all stop, none looks old."""
        newest_ns = self.feed.newest_ns
        if newest_ns is not None:
            age_ms = (moment.stamp_ns - newest_ns) / 1e6
            if age_ms > self._runtime.max_age_ms:
                self._runtime.forget_frames()
