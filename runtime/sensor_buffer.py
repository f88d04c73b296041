"""The newest frame of each sensor, with its age; never blocks, never waits for the others.

Optional sensors rule out an all-or-nothing synchroniser: one dead camera would stall the rest.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from .errors import SensorError
from .frames import SensorFrame


class SensorBuffer:
    """Newest frame per sensor; safe to push from many threads."""

    def __init__(self, sensors: Iterable[str]) -> None:
        self._known = frozenset(sensors)
        self._frames: dict[str, SensorFrame] = {}
        self._dropped: dict[str, int] = dict.fromkeys(self._known, 0)
        self._lock = threading.Lock()

    def push(self, frame: SensorFrame) -> bool:
        """Keep the frame if it is newer than what is held.

        Returns:
            Whether it was kept; late frames are dropped and counted.

        Raises:
            SensorError: the sensor is unknown.
        """
        if frame.sensor not in self._known:
            raise SensorError(
                f"there is no sensor '{frame.sensor}'",
                field="sensor",
                remedy=f"use one of {', '.join(sorted(self._known))}",
            )
        with self._lock:
            held = self._frames.get(frame.sensor)
            if held is not None and held.stamp_ns > frame.stamp_ns:
                self._dropped[frame.sensor] += 1
                return False
            self._frames[frame.sensor] = frame
            return True

    def snapshot(self) -> dict[str, SensorFrame]:
        """The newest frame of each sensor that has sent one."""
        with self._lock:
            return dict(self._frames)

    def forget(self, sensor: str | None = None) -> None:
        """Drop what is held of one sensor, or of all (e.g. when time jumps back)."""
        with self._lock:
            if sensor is None:
                self._frames.clear()
            else:
                self._frames.pop(sensor, None)

    @property
    def dropped(self) -> dict[str, int]:
        """Late frames per sensor."""
        with self._lock:
            return dict(self._dropped)
