"""Boxes of a detector as frames: for robots that already have one, under names instead of numbers.

A driver that has arrays makes the `SensorFrame` itself; its payload is described there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..kernels.object_tokens import OBJECT_CLASSES, OBJECT_COLUMNS, OBJECT_STATUSES
from .errors import SensorError
from .frames import SensorFrame, SensorGeometry


@dataclass(frozen=True, slots=True)
class DetectedObject:
    """One box.

    Attributes:
        name: its class, one of `kernels.object_tokens.OBJECT_CLASSES`.
        position: its centre, x y z, metres.
        size: length, width, height, metres.
        yaw: of its length, radians, counter-clockwise from x.
        velocity: x y over ground, m/s; None where unknown.
        status: one of `OBJECT_STATUSES`; None where unknown.
        score: 0 to 1, how sure the detector is.
    """

    name: str
    position: tuple[float, float, float]
    size: tuple[float, float, float]
    yaw: float
    velocity: tuple[float, float] | None = None
    status: str | None = None
    score: float = 1.0


def objects_frame(
    sensor: str,
    stamp_ns: int,
    objects: Sequence[DetectedObject],
    *,
    frame_id: str = "base_link",
    geometry: SensorGeometry | None = None,
) -> SensorFrame:
    """A frame of modality `objects`.

    Args:
        sensor: its name in the pack.
        stamp_ns: when the objects were where they are said to be.
        objects: any number, none too, in the ego frame unless `geometry` says otherwise.
        frame_id: coordinate frame of the objects.
        geometry: where the detector's frame lies in the ego frame; None where it is the ego frame.

    Raises:
        SensorError: a class or status is unknown, or the stamp is wrong. Numbers are checked by
            the encoder, as those of any frame.
    """
    unknown = (math.nan, math.nan)
    rows = [
        (
            _index(one.name, OBJECT_CLASSES, f"{sensor}: class"),
            one.score,
            *one.position,
            *one.size,
            one.yaw,
            *(unknown if one.velocity is None else one.velocity),
            -1 if one.status is None else _index(one.status, OBJECT_STATUSES, f"{sensor}: status"),
        )
        for one in objects
    ]
    payload = np.array(rows, np.float32).reshape(len(rows), len(OBJECT_COLUMNS))
    return SensorFrame(sensor, "objects", stamp_ns, frame_id, payload, geometry)


def _index(name: str, names: Sequence[str], field: str) -> int:
    if name not in names:
        raise SensorError(
            f"'{name}' is unknown", field=field, remedy=f"use one of {', '.join(names)}"
        )
    return names.index(name)
