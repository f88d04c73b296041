"""Sensor frames: what a sensor hands to the runtime, immutable from then on.

Holds the type and its checks. Decoding of files and messages is done by whoever makes the frame.
"""

from __future__ import annotations

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
    """

    sensor: str
    modality: Modality
    stamp_ns: int
    frame_id: str
    payload: NDArray[np.uint8] | NDArray[np.float32] | bytes

    def __post_init__(self) -> None:
        if self.stamp_ns < 0:
            raise SensorError(
                f"stamp_ns is {self.stamp_ns}, but stamps are nanoseconds since the epoch",
                field=self.sensor,
                remedy="fill the header stamp of the message",
            )
        if isinstance(self.payload, np.ndarray):
            self.payload.flags.writeable = False
