"""One sensor of the node: its messages become frames, and what is wrong with them is counted.

A message never stops the node: what cannot be used is dropped with a reason.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tailwire.runtime.errors import SensorError
from tailwire.runtime.frames import SensorFrame

from .conversion import frame_of, stamp_ns
from .frame_tree import FrameTree
from .settings import SensorTopic

#: A frame that is older than the newest of its sensor by more than this has not been overtaken:
#: time has jumped back.
JUMP_BACK_NS = 1_000_000_000
_RATE_WINDOW_S = 5.0
_MOST_ARRIVALS = 1000
_LONGEST_WAIT_S = 10.0


@dataclass
class SensorCounts:
    """Messages of one sensor since the node was activated.

    Attributes:
        received: all.
        late: that came after a newer one.
        bad: that were no whole frame.
        unstamped: with a stamp of zero.
        future: that were stamped ahead of the clock.
        refused: that the runtime could not use.
        problem: what was wrong with the newest of these; empty before the first.
        newest_ns: stamp of the newest frame handed over, None before the first.
        arrived_s: `time.monotonic()` of it.
        arrivals: of messages, the newest ones.
    """

    received: int = 0
    late: int = 0
    bad: int = 0
    unstamped: int = 0
    future: int = 0
    refused: int = 0
    problem: str = ""
    newest_ns: int | None = None
    arrived_s: float = 0.0
    arrivals: deque[float] = field(default_factory=lambda: deque(maxlen=_MOST_ARRIVALS))

    def rate_hz(self, now_s: float) -> float:
        """Messages a second lately."""
        # A copy, for another thread may add to it.
        recent = [at for at in list(self.arrivals) if now_s - at <= _RATE_WINDOW_S]
        if len(recent) < 2:
            return 0.0
        # Where messages have stopped coming, the rate falls.
        return (len(recent) - 1) / max(now_s - recent[0], 1e-9)


class SensorInput:
    """Takes in the messages of one sensor."""

    def __init__(
        self,
        where: SensorTopic,
        tree: FrameTree,
        push: Callable[[SensorFrame], bool],
        *,
        now_ns: Callable[[], int],
        future_ns: Callable[[], int],
        on_frame: Callable[[str, float], None],
        on_jump: Callable[[], None],
    ) -> None:
        """Be ready for messages.

        Args:
            where: they come from.
            tree: tells where the sensor is.
            push: takes a frame; tells whether it was kept.
            now_ns: by the clock that stamps messages; 0 where it does not run yet.
            future_ns: how far ahead of the clock a stamp may be.
            on_frame: told the sensor when there is a new frame, and when its message came.
            on_jump: told when stamps jump back, before the frame is pushed.
        """
        self.where = where
        self.counts = SensorCounts()
        self._tree, self._push = tree, push
        self._now_ns, self._future_ns = now_ns, future_ns
        self._on_frame, self._on_jump = on_frame, on_jump

    def take(self, message: Any, info: Mapping[str, Any]) -> None:
        """A message came; called from one thread at a time.

        Args:
            message: of rclpy.
            info: of rclpy; tells when the middleware had the message.
        """
        counts, arrived_s = self.counts, _arrival_s(info)
        counts.received += 1
        counts.arrivals.append(arrived_s)
        stamp = stamp_ns(message.header.stamp)
        if reason := self._unusable_stamp(stamp):
            counts.problem = reason
            return
        sensor, kind = self.where.sensor, self.where.kind
        try:
            geometry = self._tree.geometry(sensor, message.header.frame_id, stamp)
            frame = frame_of(sensor, kind, message, geometry)
            kept = self._push(frame)
        except (ValueError, SensorError, MemoryError) as error:
            counts.bad += 1
            counts.problem = str(error) or type(error).__name__
            return
        if not kept:
            counts.late += 1
            counts.problem = "it came after a newer one"
            return
        counts.newest_ns, counts.arrived_s = stamp, arrived_s
        self._on_frame(sensor, arrived_s)

    def _unusable_stamp(self, stamp: int) -> str:
        counts = self.counts
        if stamp <= 0:
            counts.unstamped += 1
            return "its header has no stamp; let the driver fill it"
        now = self._now_ns()
        # A simulated clock says nothing before its first message.
        if now > 0 and stamp - now > self._future_ns():
            counts.future += 1
            return f"its stamp is {(stamp - now) / 1e6:.0f} ms ahead of the clock"
        newest = counts.newest_ns
        if newest is not None and newest - stamp > JUMP_BACK_NS:
            self._on_jump()
        return ""

    def forget(self) -> None:
        """Time has jumped: the newest stamp is none any more."""
        self.counts.newest_ns = None


def _arrival_s(info: Mapping[str, Any]) -> float:
    """`time.monotonic()` when the middleware had a message; now, where it does not tell."""
    waited_s = (time.time_ns() - int(info.get("received_timestamp") or 0)) * 1e-9
    # The system's clock may have been set meanwhile.
    return time.monotonic() - (waited_s if 0 <= waited_s < _LONGEST_WAIT_S else 0.0)
