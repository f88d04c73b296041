"""Cheap numbers of one frame: how bright, how sharp, how far, how many, and whether it is usable.

A frame is looked at through a coarse sample of its pixels or points, so that the numbers cost well
under a millisecond. What they say about light and weather is decided in `context.py`.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..kernels.image import decode_small
from .errors import SensorError
from .frames import SensorFrame

#: About how many rows and columns of a picture, and how many points of a cloud, are looked at.
SAMPLED_ROWS, SAMPLED_COLUMNS, SAMPLED_POINTS = 64, 112, 8192
#: Within this distance rain and fog send most of their echoes back, metres.
NEAR_M = 5.0

# Above the ground, metres; roads are not flat, and clouds without a mount have no ground at all.
_OFF_GROUND_M = 0.5
# The sensor sees the vehicle that carries it: what is nearer than this is not counted as near.
_OWN_BODY_M = 1.0
# Edges of the grid in which a near point without neighbours counts as scattered.
_LONELY_CELL_M = 0.5
_AZIMUTH_BINS = 36
# Squares of larger numbers would overflow; no sensor sends them.
_LARGEST = np.float32(1e9)
# Black and saturated pixels of 8 bits: all three channels are below or above these.
_BLACK, _SATURATED = 8, 250


@dataclass(frozen=True)
class CameraStatistics:
    """Of one picture; luminance is (R + 2 G + B) / 4, 0 to 255.

    Attributes:
        brightness: mean luminance.
        low: 5th percentile of luminance.
        high: 95th percentile of luminance.
        contrast: standard deviation of luminance.
        black: share of pixels whose channels are all below 8.
        saturated: share of pixels whose channels are all above 250.
        sharpness: mean squared difference of neighbouring samples over the variance of luminance;
            0 of a picture of one colour. Files, decoded at a fraction, have less than arrays.
        colour: mean difference of the largest and smallest channel, 0 to 255.
        digest: of the sample; equal ones mean the same picture.
    """

    brightness: float
    low: float
    high: float
    contrast: float
    black: float
    saturated: float
    sharpness: float
    colour: float
    digest: int


@dataclass(frozen=True)
class LidarStatistics:
    """Of one cloud.

    Attributes:
        points: in the cloud that can be used; estimated from the sample.
        near: share of points 1 to 5 m from the sensor and off the ground.
        lonely: share of points as in `near` that are alone in their half metre, as drops are.
        low_m: 10th percentile of range, metres.
        median_m: of range.
        high_m: 90th percentile of range.
        intensity: mean, in the sensor's own unit.
        intensity_high: 95th percentile.
        empty_rings: share of rings, up to the highest seen, without a point; 0 without rings.
        empty_directions: share of (ring, 10 degrees of azimuth) without a point; of azimuths
            alone where the cloud has no rings.
        digest: of the sample; equal ones mean the same cloud.
    """

    points: int
    near: float
    lonely: float
    low_m: float
    median_m: float
    high_m: float
    intensity: float
    intensity_high: float
    empty_rings: float
    empty_directions: float
    digest: int


FrameStatistics = CameraStatistics | LidarStatistics


def frame_statistics(frame: SensorFrame) -> FrameStatistics | None:
    """The numbers of a frame; None of sensors that are neither camera nor LiDAR.

    A picture that comes as a file is decoded at a fraction of its size for this.

    Raises:
        SensorError: the payload is no picture or cloud; the field names the sensor.
    """
    if frame.modality == "camera":
        picture = frame.payload
        if isinstance(picture, bytes):
            try:
                picture = decode_small(picture, SAMPLED_ROWS, SAMPLED_COLUMNS)
            except ValueError as error:
                raise SensorError(
                    str(error), field=frame.sensor, remedy="hand over whole JPEG or PNG files"
                ) from error
        return camera_statistics(picture, frame.sensor)
    if frame.modality == "lidar":
        mount = None if frame.geometry is None else frame.geometry.ego_from_sensor
        return lidar_statistics(frame.payload, mount, frame.sensor)
    return None


def camera_statistics(image: object, sensor: str = "camera") -> CameraStatistics:
    """The numbers of a picture.

    Args:
        image: uint8 `[H, W, 3]` RGB.
        sensor: named in errors.

    Raises:
        SensorError: another dtype or shape, or fewer than 2 by 2 pixels.
    """
    if (
        not isinstance(image, np.ndarray)
        or image.dtype != np.uint8
        or image.ndim != 3
        or image.shape[2] != 3
        or min(image.shape[:2]) < 2
    ):
        raise SensorError(
            f"a picture is uint8 [H, W, 3], got {_described(image)}",
            field=sensor,
            remedy="hand over RGB pictures of at least 2 by 2 pixels",
        )
    rows = max(1, image.shape[0] // SAMPLED_ROWS)
    columns = max(1, image.shape[1] // SAMPLED_COLUMNS)
    sample = np.ascontiguousarray(image[rows // 2 :: rows, columns // 2 :: columns])
    red, green, blue = (sample[..., channel].astype(np.int16) for channel in range(3))
    luminance = (red + 2 * green + blue).astype(np.float32) / 4
    lowest = np.minimum(np.minimum(red, green), blue)
    highest = np.maximum(np.maximum(red, green), blue)
    low, high = _percentiles(luminance.ravel(), 5, 95)
    variance = float(luminance.var())
    steps = float(np.square(np.diff(luminance, axis=1)).mean()) if luminance.shape[1] > 1 else 0.0
    steps += float(np.square(np.diff(luminance, axis=0)).mean()) if luminance.shape[0] > 1 else 0.0
    return CameraStatistics(
        brightness=float(luminance.mean()),
        low=low,
        high=high,
        contrast=variance**0.5,
        black=float((highest < _BLACK).mean()),
        saturated=float((lowest > _SATURATED).mean()),
        sharpness=steps / 2 / variance if variance > 0 else 0.0,
        colour=float((highest - lowest).mean()),
        digest=zlib.crc32(sample.tobytes()),
    )


def lidar_statistics(
    cloud: object, ego_from_sensor: NDArray[np.float64] | None = None, sensor: str = "lidar"
) -> LidarStatistics:
    """The numbers of a cloud.

    Args:
        cloud: float32 `[n, 4+]` of x y z intensity [ring], metres, perhaps without any point.
            Points with a number that is not finite, or beyond 1e9, are left out.
        ego_from_sensor: float64 `[4, 4]`; without it the ground is taken to be 1.8 m below the
            sensor, and the sensor to stand upright.
        sensor: named in errors.

    Raises:
        SensorError: another dtype or shape.
    """
    if (
        not isinstance(cloud, np.ndarray)
        or cloud.dtype != np.float32
        or cloud.ndim != 2
        or cloud.shape[1] < 4
    ):
        raise SensorError(
            f"a cloud is float32 [n, 4+], got {_described(cloud)}",
            field=sensor,
            remedy="hand over x y z intensity [ring] of each point",
        )
    # An odd stride: sensors write their rings in turn, and an even one would miss half of them.
    sample = np.ascontiguousarray(cloud[:: (len(cloud) // SAMPLED_POINTS) | 1, :5])
    digest = zlib.crc32(sample.tobytes(), len(cloud))
    usable = (np.abs(sample) < _LARGEST).all(axis=1)
    sample = sample[usable]
    if not len(sample):
        return LidarStatistics(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, digest)
    xyz, intensity = sample[:, :3], sample[:, 3]
    ranges = np.sqrt(np.einsum("ij,ij->i", xyz, xyz))
    up = np.array([0, 0, 1, 1.8]) if ego_from_sensor is None else ego_from_sensor[2]
    height = xyz @ up[:3].astype(np.float32) + np.float32(up[3])
    near = (ranges < NEAR_M) & (ranges > _OWN_BODY_M) & (height > _OFF_GROUND_M)
    lonely = _lonely(xyz[near])
    low, median, high = _percentiles(ranges, 10, 50, 90)
    (bright,) = _percentiles(intensity, 95)
    rings = sample[:, 4] if sample.shape[1] > 4 else np.zeros(len(sample), np.float32)
    empty_rings, empty_directions = _empty(xyz, rings)
    return LidarStatistics(
        points=round(len(cloud) * float(usable.mean())),
        near=float(near.mean()),
        lonely=float(lonely.sum() / len(sample)),
        low_m=low,
        median_m=median,
        high_m=high,
        intensity=float(intensity.mean()),
        intensity_high=bright,
        empty_rings=empty_rings,
        empty_directions=empty_directions,
        digest=digest,
    )


def _lonely(points: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which near points, `[n, 3]`, have their cell of the grid for themselves."""
    side = int(2 * NEAR_M / _LONELY_CELL_M)
    cells = np.clip((points + NEAR_M) / _LONELY_CELL_M, 0, side - 1).astype(np.intp)
    flat = (cells[:, 0] * side + cells[:, 1]) * side + cells[:, 2]
    return np.bincount(flat, minlength=side**3)[flat] == 1


def _empty(xyz: NDArray[np.float32], rings: NDArray[np.float32]) -> tuple[float, float]:
    """Shares of rings and of directions without a point."""
    turns = np.arctan2(xyz[:, 1], xyz[:, 0]) / np.float32(2 * np.pi) + np.float32(0.5)
    azimuth = np.minimum((turns * _AZIMUTH_BINS).astype(np.intp), _AZIMUTH_BINS - 1)
    ring = np.clip(rings, 0, 255).astype(np.intp)
    count = int(ring.max()) + 1
    seen = np.bincount(ring * _AZIMUTH_BINS + azimuth, minlength=count * _AZIMUTH_BINS) > 0
    seen = seen.reshape(count, _AZIMUTH_BINS)
    return 1 - float(seen.any(axis=1).mean()), 1 - float(seen.mean())


def _percentiles(values: NDArray[np.floating], *percents: int) -> tuple[float, ...]:
    """Nearest ranks; `values` are `[n]`."""
    ranks = [round(percent / 100 * (len(values) - 1)) for percent in percents]
    parted = np.partition(values, ranks)
    return tuple(float(parted[rank]) for rank in ranks)


def _described(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    return type(value).__name__
