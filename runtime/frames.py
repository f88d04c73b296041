"""Sensor frames: what a sensor hands to the runtime, immutable from then on.

Holds the type and its checks. Decoding of files and messages is done by whoever makes the frame.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .errors import SensorError

Modality = Literal["camera", "lidar"]


@dataclass(frozen=True)
class SensorFrame:
    """One message of one sensor.

    Attributes:
        sensor: name of the sensor as configured, e.g. `cam_front`.
        modality: `camera` or `lidar`.
        stamp_ns: capture time in nanoseconds.
        frame_id: coordinate frame of the payload.
        payload: camera: uint8 image `[H, W, 3]` RGB, or the undecoded JPEG/PNG bytes;
            lidar: float32 cloud `[n, 4+]` of x y z intensity [ring], metres, sensor frame.
            An array is handed over, not copied: it becomes read-only, so that a driver which
            fills it again fails at once. Such a driver hands over copies.

    Raises:
        SensorError: the stamp is negative or no whole number.
    """

    sensor: str
    modality: Modality
    stamp_ns: int
    frame_id: str
    payload: NDArray[np.uint8] | NDArray[np.float32] | bytes

    def __post_init__(self) -> None:
        try:
            stamp_ns = operator.index(self.stamp_ns)
        except TypeError:
            stamp_ns = -1
        if stamp_ns < 0:
            raise SensorError(
                f"stamp_ns is {self.stamp_ns}, but stamps are whole nanoseconds since the epoch",
                field=self.sensor,
                remedy="fill the header stamp of the message",
            )
        # numpy's integers become Python's, which do not overflow and can be written as JSON.
        object.__setattr__(self, "stamp_ns", stamp_ns)
        if isinstance(self.payload, np.ndarray):
            self.payload.flags.writeable = False
