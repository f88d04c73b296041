"""Sensor frames: what a sensor hands to the runtime, immutable from then on.

Holds the types and their checks. Decoding of files and messages is done by whoever makes the frame.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import SensorError

Modality = Literal["camera", "lidar", "objects", "radar", "audio"]
Float64 = NDArray[np.float64]

#: How far a rotation may be from orthonormal: calibrations come in float32 and with few digits.
_RIGID_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class SensorGeometry:
    """Where a sensor was when it took a frame, and how a camera projects.

    Frames of vehicles follow REP-103: ego x forward, y left, z up from the ground; a camera x
    right, y down, z forward. Pixel coordinates grow from the corner of the image, so that the
    centre of the first pixel is at (0.5, 0.5). Arrays are copied and read-only.

    Attributes:
        ego_from_sensor: float64 `[4, 4]`, metres.
        intrinsic: float64 `[3, 3]` of a pinhole camera, in pixels of the whole image; None of
            other sensors.
        image_size: width and height of the image that `intrinsic` is of, pixels; None takes the
            size of the frame's own picture.
        global_from_ego: float64 `[4, 4]`, metres: where the vehicle was at the frame's stamp, in
            any frame that stands still; None where nobody knows.

    Raises:
        SensorError: naming the field that has another shape, is not finite, no rigid transform, or
            no pinhole matrix.
    """

    ego_from_sensor: Float64
    intrinsic: Float64 | None = None
    image_size: tuple[int, int] | None = None
    global_from_ego: Float64 | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "ego_from_sensor", _rigid(self.ego_from_sensor, "ego_from_sensor"))
        if self.intrinsic is not None:
            object.__setattr__(self, "intrinsic", _pinhole(self.intrinsic))
        if self.image_size is not None:
            object.__setattr__(self, "image_size", _size(self.image_size))
        if self.global_from_ego is not None:
            pose = _rigid(self.global_from_ego, "global_from_ego")
            object.__setattr__(self, "global_from_ego", pose)


@dataclass(frozen=True)
class SensorFrame:
    """One message of one sensor.

    Attributes:
        sensor: name of the sensor as configured, e.g. `cam_front`.
        modality: `camera`, `lidar`, `objects`, `radar` or `audio`.
        stamp_ns: capture time in nanoseconds.
        frame_id: coordinate frame of the payload.
        payload: camera: uint8 image `[H, W, 3]` RGB, or the undecoded JPEG/PNG bytes;
            lidar: float32 cloud `[n, 4+]` of x y z intensity [ring], metres, sensor frame;
            objects: float32 `[n, 12]` in the columns of `kernels.object_tokens.OBJECT_COLUMNS`,
            perhaps none, in the ego frame unless `geometry` says otherwise;
            radar: float32 `[n, 4]` in `kernels.direction_tokens.RADAR_COLUMNS`, frames as objects;
            audio: float32 `[moments, 6, 8]`, levels in dB by microphone and octave band, see
            `kernels.direction_tokens.sound_directions`.
            An array is handed over, not copied: it becomes read-only, so that a driver which
            fills it again fails at once. Such a driver hands over copies.
        geometry: where the sensor was; None leaves it to the pack's `mount` of the sensor.

    Raises:
        SensorError: the stamp is negative or no whole number.
    """

    sensor: str
    modality: Modality
    stamp_ns: int
    frame_id: str
    payload: NDArray[np.uint8] | NDArray[np.float32] | bytes
    geometry: SensorGeometry | None = None

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


def _rigid(matrix: ArrayLike, field: str) -> Float64:
    checked = _matrix(matrix, 4, field)
    rotation = checked[:3, :3]
    off = float(np.abs(rotation.T @ rotation - np.eye(3)).max())
    if off > _RIGID_TOLERANCE or np.linalg.det(rotation) < 0:
        raise SensorError(
            "its upper left 3x3 is no rotation"
            + (" but a reflection" if off <= _RIGID_TOLERANCE else ""),
            field=field,
            remedy="give a rotation and a translation, without scale",
        )
    if not np.array_equal(checked[3], [0, 0, 0, 1]):
        raise SensorError(
            f"its last row is {checked[3].tolist()}",
            field=field,
            remedy="give a 4x4 transform of points as columns, with the last row 0 0 0 1",
        )
    return checked


def _pinhole(matrix: ArrayLike) -> Float64:
    checked = _matrix(matrix, 3, "intrinsic")
    focal = min(checked[0, 0], checked[1, 1])
    if focal <= 0 or not np.array_equal(checked[2], [0, 0, 1]):
        raise SensorError(
            f"{checked.tolist()} is no matrix of a pinhole camera",
            field="intrinsic",
            remedy="give fx 0 cx, 0 fy cy, 0 0 1 in pixels; a driver that sends zeros is not "
            "calibrated",
        )
    return checked


def _matrix(matrix: ArrayLike, size: int, field: str) -> Float64:
    try:
        checked = np.array(matrix, dtype=np.float64)
    except (TypeError, ValueError):
        checked = np.empty(0)
    if checked.shape != (size, size):
        raise SensorError(
            f"not a matrix of shape [{size}, {size}]"
            + (f" but {list(checked.shape)}" if checked.size else ""),
            field=field,
            remedy=f"give numbers of shape [{size}, {size}]",
        )
    if not np.isfinite(checked).all():
        raise SensorError("it is not finite", field=field, remedy="calibrate the sensor again")
    checked.flags.writeable = False
    return checked


def _size(given: tuple[int, int]) -> tuple[int, int]:
    try:
        width, height = (operator.index(side) for side in given)
    except (TypeError, ValueError):
        width, height = 0, 0
    if min(width, height) < 1:
        raise SensorError(
            f"{given} is no size of an image", field="image_size", remedy="give width and height"
        )
    return width, height
