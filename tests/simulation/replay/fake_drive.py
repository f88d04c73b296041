"""A drive of made frames, a runtime that counts, and a clock that a test turns by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tailwire.runtime.errors import SensorError
from tailwire.runtime.frames import SensorFrame
from tailwire.runtime.plans import Answer, Plan, SensorUse
from tailwire.runtime.questions import NUSCENES_QA_ANSWERS, Question
from tailwire.simulation.questions.items import QaItem
from tailwire.simulation.replay.asking import PlannedQuestion, QuestionPlan
from tailwire.simulation.source import Keyframe

START_NS = 1_600_000_000_000_000_000
SENSORS = ("cam_front", "lidar_top")


def ns(seconds: float) -> int:
    """A stamp so many seconds behind the start of the drive."""
    return START_NS + round(seconds * 1e9)


def frame(sensor: str, seconds: float) -> SensorFrame:
    """A frame that nobody decodes."""
    if sensor.startswith("cam"):
        return SensorFrame(sensor, "camera", ns(seconds), sensor, b"\xff\xd8\xff some \xff\xd9")
    return SensorFrame(sensor, "lidar", ns(seconds), sensor, np.zeros((1, 5), np.float32))


class FakeDrive:
    """A camera every 0.1 s and a LiDAR every 0.25 s, from 0 to the end."""

    title = "a made drive"

    def __init__(
        self,
        seconds: float = 2.0,
        keyframes_s: Sequence[float] = (0.0, 0.5, 1.0, 1.5),
        broken: Sequence[tuple[str, float]] = (),
    ) -> None:
        self.sensors = SENSORS
        self.keyframes = tuple(
            Keyframe(f"sample-{place}", ns(at)) for place, at in enumerate(keyframes_s)
        )
        stamps = [("cam_front", i / 10) for i in range(round(seconds * 10) + 1)]
        stamps += [("lidar_top", i / 4) for i in range(round(seconds * 4) + 1)]
        self.stamps = sorted(stamps, key=lambda one: (one[1], one[0]))
        self._broken = set(broken)

    def frames(
        self,
        sensors: Sequence[str] | None = None,
        on_drop: Callable[[str, int, SensorError], None] | None = None,
    ) -> Iterator[SensorFrame]:
        for sensor, seconds in self.stamps:
            if sensors is not None and sensor not in sensors:
                continue
            if (sensor, seconds) in self._broken:
                assert on_drop is not None
                on_drop(sensor, ns(seconds), SensorError("cut off", field=sensor))
                continue
            yield frame(sensor, seconds)


class HandClock:
    """Passes time when it is waited for, and when the runtime works."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def now_s(self) -> float:
        return self.seconds

    def wait_s(self, seconds: float) -> None:
        self.seconds += max(0.0, seconds)


class FakeRuntime:
    """Answers `yes` after a set time; remembers what it was given.

    Attributes:
        stepped: newest frame of each sensor, as seconds of the drive, at each step.
        heads: texts of the questions whose heads ran, in order.
    """

    max_age_ms = 1000.0

    def __init__(
        self,
        clock: HandClock | None = None,
        *,
        step_s: float = 0.0,
        head_s: float = 0.0,
        reply: Callable[[str], str] = lambda _: "yes",
    ) -> None:
        self.clock, self.step_s, self.head_s = clock or HandClock(), step_s, head_s
        self.reply = reply
        self.held: dict[str, SensorFrame] = {}
        self.pushed: list[tuple[str, int]] = []
        self.watched: dict[int, Question] = {}
        self.stepped: list[dict[str, float]] = []
        self.heads: list[str] = []
        self.forgot = 0
        self.late_frames: dict[str, int] = dict.fromkeys(SENSORS, 0)
        self.bad_frames: dict[str, int] = dict.fromkeys(SENSORS, 0)

    def watch(self, question: Question) -> int:
        self.clock.wait_s(self.head_s)
        self.heads.append(question.text)
        self.watched[len(self.heads)] = question
        return len(self.heads)

    def unwatch(self, key: int) -> None:
        del self.watched[key]

    def push(self, frame: SensorFrame) -> bool:
        self.pushed.append((frame.sensor, frame.stamp_ns))
        held = self.held.get(frame.sensor)
        if held is not None and held.stamp_ns > frame.stamp_ns:
            self.late_frames[frame.sensor] += 1
            return False
        self.held[frame.sensor] = frame
        return True

    def forget_frames(self) -> None:
        self.held.clear()
        self.forgot += 1

    def step(self) -> list[Answer]:
        self.stepped.append({name: (f.stamp_ns - START_NS) / 1e9 for name, f in self.held.items()})
        self.clock.wait_s(self.step_s)
        newest = max((f.stamp_ns for f in self.held.values()), default=0)
        uses = {
            name: SensorUse(stamp_ns=f.stamp_ns, age_ms=(newest - f.stamp_ns) / 1e6, reused=False)
            for name, f in self.held.items()
        }
        plan = Plan(sensors={}, tail_blocks=1, precision="fp32", flops=1)
        return [
            Answer(
                question=question.text,
                text=self.reply(question.text),
                confidence=1,
                stamp_ns=min((use.stamp_ns for use in uses.values()), default=None),
                sensors=uses,
                dropped={},
                plan=plan,
                timings_ms={},
                flops=1,
                pack="fake 1",
                pack_trained=False,
            )
            for question in self.watched.values()
        ]


def item(
    text: str,
    answer: str = "yes",
    *,
    sample: str = "sample-0",
    kind: str = "exist",
    hop: int = 0,
    split: str = "val",
) -> QaItem:
    """A question of a file."""
    return QaItem(sample, text, answer, kind, hop, split)


def planned(one: QaItem, **guesses: str) -> PlannedQuestion:
    """The question as it is asked."""
    return PlannedQuestion(Question(one.question, NUSCENES_QA_ANSWERS), one, guesses)


def plan_for(drive: FakeDrive, per_keyframe: int = 1) -> QuestionPlan:
    """Questions of their own at each keyframe."""
    return QuestionPlan(
        by_sample={
            keyframe.sample_token: [
                planned(item(f"{keyframe.sample_token} question {n}", sample=keyframe.sample_token))
                for n in range(per_keyframe)
            ]
            for keyframe in drive.keyframes
        }
    )


def standing(*texts: str) -> QuestionPlan:
    """Questions that are asked at every moment."""
    return QuestionPlan(standing=[PlannedQuestion(Question(text, ("yes", "no"))) for text in texts])
