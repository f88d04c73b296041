"""The spherical projection of a LiDAR cloud: one sweep becomes one range image.

Three twins give the same bits: numpy here, C (`arrays.c`) and CUDA (`range_image.cu`), the latter
two with the bodies of `range_image.h`. It knows one sensor and its own frame; it moves no points
and fuses no sweeps.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .array_library import ArrayLibrary

Float = NDArray[np.float32]

#: Order of the channels, and the number of columns that are read from a cloud (x y z intensity).
CHANNELS = ("range", "x", "y", "z", "intensity")
POINT_COLUMNS = 4

#: Channel statistics of RangeNet++ (SemanticKITTI), kept by RangeViT and mPnP-LLM for nuScenes.
RANGE_MEAN = (12.12, 10.88, 0.23, -1.04, 0.21)
RANGE_STD = (12.32, 11.47, 6.91, 0.86, 0.16)


def range_image(
    points: NDArray[np.float32],
    height: int = 32,
    width: int = 2048,
    fov_up_deg: float = 10.0,
    fov_down_deg: float = -30.0,
    *,
    intensity_max: float = 255.0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    library: ArrayLibrary | None = None,
) -> NDArray[np.float32]:
    """Project a cloud onto a cylinder of `height` elevations and `width` azimuths.

    Columns run clockwise seen from above and start behind the x axis: column 0 looks along -x,
    `width/4` along +y, `width/2` along +x, `3*width/4` along -y; the image wraps around. So with
    REP-103 axes (x forward, y left) the columns are back, left, front, right, and in the nuScenes
    LIDAR_TOP frame (x right, y forward) they are left, front, right, back. Row 0 is `fov_up_deg`.
    Points above or below the field of view fall into the first or last row.

    The nearest point of a pixel wins. Of points at the same range the one that is smallest in
    (x, y, z, intensity) wins, so the image does not depend on the order of the points. Points
    with a value that is not finite, and points at range zero (no return), are ignored.

    Source: Milioto et al., RangeNet++ (IROS 2019), eq. 1; sizes and field of view as in RangeViT
    (Ando et al., CVPR 2023) and mPnP-LLM (arXiv 2312.07886). Unlike RangeNet++ an azimuth of
    exactly -180 degrees wraps to column 0, the same direction as +180 degrees.

    Args:
        points: float32 `[n, 4+]`: x y z in metres in the sensor frame, intensity; more columns
            (ring, time) are ignored.
        height: rows of the image.
        width: columns of the image.
        fov_up_deg: elevation of the upper edge in degrees.
        fov_down_deg: elevation of the lower edge in degrees, below `fov_up_deg`.
        intensity_max: the sensor's full scale; intensity is divided by it. nuScenes stores 0..255,
            but the statistics above belong to 0..1. RangeViT feeds nuScenes undivided: give 1 for
            weights that were trained that way.
        mean: subtracted per channel; only together with `std`. None leaves metres and 0..1.
        std: divides each channel.
        library: None computes in numpy, with the same result.

    Returns:
        float32 `[5, height, width]` in the order of `CHANNELS`. The mask of the pixels that a point
        hit is applied after normalisation: an empty pixel is exactly 0 in all channels, which
        reads as "the mean" and not as a point at range 0.

    Raises:
        ValueError: `points` has another dtype or shape, no usable point is left, or a parameter
            makes no image.
    """
    _check_parameters(points, height, width, fov_up_deg, fov_down_deg, intensity_max, mean, std)
    parameters = range_parameters(
        height, width, fov_up_deg, fov_down_deg, intensity_max=intensity_max, mean=mean, std=std
    )
    if library is not None:
        image = _compiled(points, parameters, library)
    else:
        image = _vectorised(points, parameters)
    if image is None:
        raise ValueError(
            f"none of the {len(points)} points is usable (finite and not at range zero)"
            if len(points)
            else "the cloud is empty"
        )
    return image


class RangeParameters(ctypes.Structure):
    """`RangeImage` of `range_image.h`; `stride` is for the caller to fill in."""

    _fields_ = (
        ("stride", ctypes.c_int64),
        ("height", ctypes.c_int32),
        ("width", ctypes.c_int32),
        *((name, ctypes.c_float) for name in ("fov_up", "rows_per_radian", "half_width")),
        ("columns_per_radian", ctypes.c_float),
        ("intensity_max", ctypes.c_float),
        ("normalised", ctypes.c_int32),
        ("mean", ctypes.c_float * 5),
        ("std", ctypes.c_float * 5),
    )


def range_parameters(
    height: int,
    width: int,
    fov_up_deg: float,
    fov_down_deg: float,
    *,
    intensity_max: float,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> RangeParameters:
    """What all twins are given, rounded once; arguments as those of `range_image`."""
    half_width = np.float32(width / 2)
    fov = np.float32(np.deg2rad(fov_up_deg - fov_down_deg))
    return RangeParameters(
        stride=POINT_COLUMNS,
        height=height,
        width=width,
        fov_up=np.float32(np.deg2rad(fov_up_deg)),
        rows_per_radian=np.float32(height) / fov,
        half_width=half_width,
        columns_per_radian=half_width / np.float32(np.pi),
        intensity_max=intensity_max,
        normalised=mean is not None,
        mean=(0.0,) * 5 if mean is None else tuple(mean),
        std=(1.0,) * 5 if std is None else tuple(std),
    )


def _compiled(points: Float, parameters: RangeParameters, library: ArrayLibrary) -> Float | None:
    points = np.ascontiguousarray(points)
    parameters.stride = points.shape[1]
    height, width = parameters.height, parameters.width
    image = np.empty((len(CHANNELS), height, width), np.float32)
    pixels = np.empty(len(points), np.int32)
    winners = np.empty(height * width, np.int32)
    used = library.range_image(
        ctypes.addressof(parameters),
        points.ctypes.data,
        len(points),
        *(array.ctypes.data for array in (pixels, winners, image)),
    )
    return image if used else None


def _vectorised(points: Float, parameters: RangeParameters) -> Float | None:
    columns, distance = _usable(points)
    if not len(distance):
        return None
    size = parameters.height * parameters.width
    pixel = _pixels(columns, parameters)
    nearest = _nearest(pixel, distance, columns, size)

    values = np.empty((len(CHANNELS), len(nearest)), np.float32)
    np.take(distance, nearest, out=values[0])
    np.take(columns, nearest, axis=1, out=values[1:])
    values[4] /= np.float32(parameters.intensity_max)
    if parameters.normalised:
        values -= np.asarray(parameters.mean, np.float32)[:, None]
        values /= np.asarray(parameters.std, np.float32)[:, None]

    image = np.zeros((len(CHANNELS), size), np.float32)
    hit = pixel[nearest]
    for channel, value in zip(image, values, strict=True):
        channel[hit] = value
    return image.reshape(len(CHANNELS), parameters.height, parameters.width)


def _check_parameters(
    points: NDArray[np.float32],
    height: int,
    width: int,
    fov_up_deg: float,
    fov_down_deg: float,
    intensity_max: float,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> None:
    if points.dtype != np.float32 or points.ndim != 2 or points.shape[1] < POINT_COLUMNS:
        raise ValueError(
            f"a cloud is float32 [n, {POINT_COLUMNS}+], got {points.dtype} {list(points.shape)}"
        )
    if height < 1 or width < 1:
        raise ValueError(f"the range image would be {height} x {width}")
    if not -90 <= fov_down_deg < fov_up_deg <= 90:
        raise ValueError(f"the field of view is {fov_down_deg} to {fov_up_deg} degrees")
    if not 0 < intensity_max < np.inf:
        raise ValueError(f"intensity_max is {intensity_max}")
    if (mean is None) != (std is None):
        raise ValueError("mean and std are given together or not at all")
    if mean is not None and std is not None:
        if len(mean) != len(CHANNELS) or len(std) != len(CHANNELS):
            raise ValueError(f"mean and std have one value for each of {', '.join(CHANNELS)}")
        if min(std) <= 0:
            raise ValueError(f"std is {list(std)}, but must be positive")


def _usable(points: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The usable points as columns `[4, n]` and their range `[n]`."""
    columns = np.ascontiguousarray(points[:, :POINT_COLUMNS].T)
    x, y, z, intensity = columns
    # Coordinates beyond 1e19 overflow to an infinite range and are dropped like infinite ones.
    with np.errstate(over="ignore", invalid="ignore"):
        distance = np.sqrt(x * x + y * y + z * z)
        usable = (distance > 0) & (distance < np.inf) & np.isfinite(intensity)
    if not usable.all():
        columns, distance = columns[:, usable], distance[usable]
    return columns, distance


def arc_tangent(y: Float, x: Float) -> Float:
    """`arctan2` within 3e-7, as `tw_atan2` of `range_image.h` computes it, bit for bit.

    numpy's own depends on the machine: on some it runs vector code that is rounded otherwise.
    """
    one = np.float32(1)
    ax, ay = np.abs(x), np.abs(y)
    large = np.maximum(ax, ay)
    ratio = np.divide(np.minimum(ax, ay), large, out=np.zeros_like(large), where=large > 0)
    beyond = ratio > np.float32(0.41421356)
    t = np.where(beyond, (ratio - one) / (ratio + one), ratio)
    z = t * t
    r = np.float32(8.05374449538e-2) * z - np.float32(1.38776856032e-1)
    r = r * z + np.float32(1.99777106478e-1)
    r = r * z - np.float32(3.33329491539e-1)
    r = r * z * t + t
    r = np.where(beyond, r + np.float32(0.78539816), r)
    r = np.where(ay > ax, np.float32(1.57079633) - r, r)
    r = np.where(x < 0, np.float32(3.14159265) - r, r)
    return np.where(y < 0, -r, r)


def _pixels(columns: Float, parameters: RangeParameters) -> NDArray[np.intp]:
    """The pixel of each point, `row * width + column`."""
    x, y, z, _ = columns
    azimuth = arc_tangent(y, x)
    # An arc tangent and not arcsin(z / range): it has no argument above 1 to fail at.
    elevation = arc_tangent(z, np.sqrt(x * x + y * y))
    half_width = np.float32(parameters.half_width)
    column = np.floor(half_width - azimuth * np.float32(parameters.columns_per_radian))
    row = np.floor(
        (np.float32(parameters.fov_up) - elevation) * np.float32(parameters.rows_per_radian)
    )
    row = np.clip(row, 0, parameters.height - 1).astype(np.intp)
    return row * parameters.width + column.astype(np.intp) % parameters.width


def _nearest(
    pixel: NDArray[np.intp],
    distance: NDArray[np.float32],
    columns: NDArray[np.float32],
    pixels: int,
) -> NDArray[np.intp]:
    """The index of the winning point of each pixel that was hit."""
    z_buffer = np.full(pixels, np.inf, np.float32)
    np.minimum.at(z_buffer, pixel, distance)
    winners = np.flatnonzero(distance == z_buffer[pixel])
    if len(winners) == np.count_nonzero(z_buffer < np.inf):
        return winners

    shared = np.bincount(pixel[winners], minlength=pixels)[pixel[winners]] > 1
    ties = winners[shared]
    x, y, z, intensity = columns[:, ties]
    ties = ties[np.lexsort((intensity, z, y, x, pixel[ties]))]
    first = np.append(True, np.diff(pixel[ties]) != 0)
    return np.concatenate([winners[~shared], ties[first]])
