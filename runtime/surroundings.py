"""Feeds the context estimator with frames, so that policies know the condition and sick sensors.

Looking at a picture costs up to a millisecond, and much more where it comes compressed. So a few
pictures are looked at per frame, in turn; clouds always are.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from .context import Context, ContextEstimator
from .frames import SensorFrame

#: Pictures that are looked at per frame: decoded and compressed ones.
_MOST_DECODED, _MOST_COMPRESSED = 3, 1
#: Looks at sensors may lie this far apart; ages of frames are judged where frames are chosen.
_STALE_MS = 10_000.0


class Surroundings:
    """What the robot is in; for one thread at a time."""

    def __init__(self) -> None:
        self._estimator = ContextEstimator(stale_ms=_STALE_MS)
        self._looked_ns: dict[str, int] = {}
        self._turns: dict[str, int] = {}
        self._counter = itertools.count()

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
        young = {
            sensor: frame
            for sensor, frame in held.items()
            if (newest_ns - frame.stamp_ns) / 1e6 <= _STALE_MS
        }
        pictures = [
            sensor
            for sensor, frame in young.items()
            if frame.modality == "camera" and self._looked_ns.get(sensor) != frame.stamp_ns
        ]
        # Those that were looked at longest ago come first.
        pictures.sort(key=lambda sensor: self._turns.get(sensor, -1))
        compressed = [s for s in pictures if isinstance(young[s].payload, bytes)]
        decoded = [s for s in pictures if not isinstance(young[s].payload, bytes)]
        left = {*decoded[_MOST_DECODED:], *compressed[_MOST_COMPRESSED:]}
        chosen = {sensor: frame for sensor, frame in young.items() if sensor not in left}
        for sensor in pictures:
            if sensor in chosen:
                self._looked_ns[sensor] = chosen[sensor].stamp_ns
                self._turns[sensor] = next(self._counter)
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
        self._turns.clear()
