"""What a plan offers to a question, in a few numbers: how much of what is asked about each modality
sees, and how fresh.

Coverage comes from the geometry of the pack's mounts: a camera covers the share of the asked
direction that lies in its field of view. Nothing is fitted here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .frames import SensorGeometry
from .pack import PackManifest
from .question_kinds import DIRECTIONS, Topic

Float64 = NDArray[np.float64]

_SECTOR_DEG = 60.0
_CAMERA = "camera"


@dataclass(frozen=True)
class SensorTraits:
    """What is known of the sensors of a pack.

    Attributes:
        modalities: by sensor, in the pack's order.
        views: middle and width of what a camera sees, degrees, counter-clockwise from the front; a
            sensor that is not in it sees everything around.
    """

    modalities: Mapping[str, str]
    views: Mapping[str, tuple[float, float]]

    @classmethod
    def of(cls, manifest: PackManifest) -> SensorTraits:
        """Read them from a manifest; a camera without mount or lens is taken to see all around."""
        modalities = {
            sensor: manifest.encoders[name].modality
            for sensor, name in manifest.sensor_encoders.items()
        }
        views = {
            sensor: view
            for sensor, geometry in manifest.mounts.items()
            if modalities[sensor] == _CAMERA and (view := _view(geometry)) is not None
        }
        return cls(modalities, views)

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """Modalities, in the order in which they come."""
        return tuple(dict.fromkeys(self.modalities.values()))

    def group_of(self, sensor: str) -> int | None:
        """Number of a sensor's modality; None of a sensor that the pack does not have."""
        modality = self.modalities.get(sensor)
        return None if modality is None else self.groups.index(modality)

    def coverage(self, sensor: str, topic: Topic) -> float:
        """Share of what a topic is about that a sensor sees, 0 to 1."""
        view = self.views.get(sensor)
        if view is None:
            return 1.0
        middle, width = view
        if not topic.directions:
            return min(1.0, width / 360)
        shares = [_overlap(middle, width, DIRECTIONS[one], _SECTOR_DEG) for one in topic.directions]
        return sum(shares) / len(shares)

    def coverages(self, sensors: Sequence[str], topics: Sequence[Topic]) -> Float64:
        """`[topics, sensors]`."""
        rows = [[self.coverage(sensor, topic) for sensor in sensors] for topic in topics]
        return np.array(rows, np.float64).reshape(len(topics), len(sensors))


def _view(geometry: SensorGeometry) -> tuple[float, float] | None:
    if geometry.intrinsic is None or geometry.image_size is None:
        return None
    # A camera looks along its z axis.
    x, y, _ = geometry.ego_from_sensor[:3, 2].tolist()
    half = math.atan2(geometry.image_size[0] / 2, float(geometry.intrinsic[0, 0]))
    return math.degrees(math.atan2(y, x)), 2 * math.degrees(half)


def _overlap(middle: float, width: float, sector: float, sector_width: float) -> float:
    """Share of a sector that lies in a view, both by middle and width in degrees."""
    apart = abs((middle - sector + 180) % 360 - 180)
    seen = 0.0
    # The view may come round from the other side.
    for distance in (apart, 360 - apart):
        low = max(-sector_width / 2, distance - width / 2)
        high = min(sector_width / 2, distance + width / 2)
        seen += max(0.0, high - low)
    return min(1.0, seen / sector_width)
