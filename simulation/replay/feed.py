"""Hands the frames of a drive to the runtime up to a moment, and keeps the books per sensor.

When that moment is, is the player's matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from ...runtime.errors import SensorError
from ...runtime.frames import SensorFrame
from ..source import DriveSource
from .drops import DropWindow

_NS_PER_S = 1_000_000_000


@dataclass
class SensorCount:
    """Frames of one sensor in one drive.

    Attributes:
        pushed: handed to the runtime.
        late: of these, those that came after a newer one.
        withheld: taken away by a drop window.
        unreadable: that the drive could not read.
        refused: that the runtime could not use.
        newest_ns: stamp of the newest frame handed over, None before the first.
    """

    pushed: int = 0
    late: int = 0
    withheld: int = 0
    unreadable: int = 0
    refused: int = 0
    newest_ns: int | None = None


@dataclass
class Feed:
    """The frames of one drive on their way to the runtime.

    Attributes:
        source: the drive.
        sensors: those that take part.
        drops: windows in which frames are withheld.
        push: takes a frame; tells whether it was kept.
        on_frame: told of each frame that was handed over, e.g. a recorder.
    """

    source: DriveSource
    sensors: Sequence[str]
    drops: Sequence[DropWindow]
    push: Callable[[SensorFrame], bool]
    on_frame: Callable[[SensorFrame], None] | None = None
    counts: dict[str, SensorCount] = field(init=False)
    start_ns: int | None = field(init=False, default=None)
    _broken: dict[str, tuple[int, str]] = field(init=False, default_factory=dict)
    _next: SensorFrame | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.counts = {sensor: SensorCount() for sensor in self.sensors}
        self._frames: Iterator[SensorFrame] = iter(
            self.source.frames(list(self.sensors), self._note_unreadable)
        )
        self._next = next(self._frames, None)
        stamps = [keyframe.stamp_ns for keyframe in self.source.keyframes[:1]]
        if self._next is not None:
            stamps.append(self._next.stamp_ns)
        self.start_ns = min(stamps, default=None)

    @property
    def next_ns(self) -> int | None:
        """Stamp of the next frame, None behind the last."""
        return None if self._next is None else self._next.stamp_ns

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the newest frame handed over, of all sensors."""
        stamps = [c.newest_ns for c in self.counts.values() if c.newest_ns is not None]
        return max(stamps, default=None)

    def advance(self, stamp_ns: int) -> None:
        """Hand over all frames up to and with a stamp."""
        while self._next is not None and self._next.stamp_ns <= stamp_ns:
            self._hand_over(self._next)
            self._next = next(self._frames, None)

    def missing(self, stamp_ns: int) -> dict[str, str]:
        """Why the newest frame of a sensor is not there, by sensor, at a moment."""
        time_s = self.time_s(stamp_ns)
        reasons = {
            sensor: reason
            for sensor, (broken_ns, reason) in self._broken.items()
            # Frames are read one ahead, so a broken one may be known before its time.
            if (self.counts[sensor].newest_ns or 0) < broken_ns <= stamp_ns
        }
        for drop in self.drops:
            if drop.covers(drop.sensor, time_s):
                reasons[drop.sensor] = f"withheld by the drop window {drop}"
        return reasons

    def time_s(self, stamp_ns: int) -> float:
        """Seconds since the start of the drive."""
        return 0.0 if self.start_ns is None else (stamp_ns - self.start_ns) / _NS_PER_S

    def _hand_over(self, frame: SensorFrame) -> None:
        count = self.counts[frame.sensor]
        time_s = self.time_s(frame.stamp_ns)
        if any(drop.covers(frame.sensor, time_s) for drop in self.drops):
            count.withheld += 1
            return
        count.pushed += 1
        if self.push(frame):
            count.newest_ns = frame.stamp_ns
        else:
            count.late += 1
        if self.on_frame is not None:
            self.on_frame(frame)

    def _note_unreadable(self, sensor: str, stamp_ns: int, error: SensorError) -> None:
        if sensor in self.counts:
            self.counts[sensor].unreadable += 1
            self._broken[sensor] = (stamp_ns, str(error))
