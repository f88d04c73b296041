"""Feeds the context estimator with frames, so that policies know the condition and sick sensors.

Frames that come as compressed pictures cost as much to look at as all others together, so one of
them is looked at per frame, in turn.
"""

from __future__ import annotations

from collections.abc import Mapping

from .context import Context, ContextEstimator
from .frames import SensorFrame

#: Looks at sensors may lie this far apart; ages of frames are judged where frames are chosen.
_STALE_MS = 10_000.0


class Surroundings:
    """What the robot is in; for one thread at a time."""

    def __init__(self) -> None:
        self._estimator = ContextEstimator(stale_ms=_STALE_MS)
        self._looked_ns: dict[str, int] = {}

    @property
    def context(self) -> Context:
        """As of the last look."""
        return self._estimator.context

    def look(self, held: Mapping[str, SensorFrame]) -> dict[str, str]:
        """Take in the newest frames.

        Args:
            held: by sensor.

        Returns:
            By sensor, why its frame is not worth encoding.
        """
        newest_ns = max((frame.stamp_ns for frame in held.values()), default=0)
        compressed = {
            sensor: frame
            for sensor, frame in held.items()
            if isinstance(frame.payload, bytes) and self._looked_ns.get(sensor) != frame.stamp_ns
        }
        in_turn = min(compressed, key=lambda one: self._looked_ns.get(one, -1), default=None)
        chosen = {
            sensor: frame
            for sensor, frame in held.items()
            if (sensor == in_turn or not isinstance(frame.payload, bytes))
            and (newest_ns - frame.stamp_ns) / 1e6 <= _STALE_MS
        }
        for sensor, frame in chosen.items():
            self._looked_ns[sensor] = frame.stamp_ns
        context = self._estimator.update(chosen)
        return {
            sensor: f"its frame is not worth encoding: {', '.join(health.reasons)}"
            for sensor, health in context.health.items()
            if not health.usable and sensor in held
        }

    def forget(self) -> None:
        """Begin anew, e.g. when time jumps back."""
        self._estimator.reset()
        self._looked_ns.clear()
