"""Sweeps as small as their noise allows: one range and one intensity per beam that came back.

A spinning LiDAR fires its beams at fixed angles, so that a point is where its beam's range says.
Ranges are kept in centimetres and angles to the nearest firing: of made sweeps, whose beams jitter
by 0.02 degrees, points come back within a centimetre along the beam and 0.1 degrees across it.
No point is left out.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import DataError

Cloud = NDArray[np.float32]
Int = NDArray[np.int64]

_HEADER = struct.Struct("<4sHHI")
_MAGIC = b"TWB1"
_CM_PER_M = 100.0
_MOST_CM = 65_535
#: A turn of today's largest sensors has about 128 rings of 4,000 firings.
_MOST_RINGS, _MOST_COLUMNS = 256, 8192


def encode_sweep(cloud: Cloud, elevations_deg: NDArray[np.float64], columns: int) -> bytes:
    """Write a sweep as ranges of its beams.

    Args:
        cloud: float32 `[n, 5]`: x y z in metres in the sensor frame, intensity 0 to 255, ring.
        elevations_deg: `[rings]`, of the beams.
        columns: firings of a turn, evenly spread, clockwise from the left (-x).

    Raises:
        DataError: two points are of one beam, or one has a ring, range or intensity out of range.
    """
    x, y, z, intensity, ring = cloud.astype(np.float64).T
    ranges = np.rint(np.sqrt(x * x + y * y + z * z) * _CM_PER_M).astype(np.int64)
    rows = ring.astype(np.int64)
    turns = (np.pi - np.arctan2(y, x)) / (2 * np.pi)
    column = np.rint(turns * columns).astype(np.int64) % columns
    fits = (
        ((rows >= 0) & (rows < len(elevations_deg)) & (rows == ring))
        & ((ranges > 0) & (ranges <= _MOST_CM))
        & ((intensity >= 0) & (intensity <= 255))
    )
    place = rows * columns + column
    if not len(cloud) or not fits.all() or len(np.unique(place)) != len(place):
        raise DataError(
            "the sweep does not fit its beams: points share one, or are out of range",
            field="cloud",
            remedy="give a sweep of the LiDAR that tailwire simulate writes",
        )
    order = np.argsort(place)
    mask = np.zeros(len(elevations_deg) * columns, np.bool_)
    mask[place] = True
    steps = np.diff(ranges[order], prepend=0)
    # Small differences of either sign become small numbers, whose upper bytes are nearly all 0.
    folded = (steps << 1) ^ (steps >> 63)
    return b"".join(
        (
            _HEADER.pack(_MAGIC, len(elevations_deg), columns, len(cloud)),
            elevations_deg.astype("<f4").tobytes(),
            np.packbits(mask).tobytes(),
            *((folded >> shift & 255).astype(np.uint8).tobytes() for shift in (16, 8, 0)),
            np.rint(intensity[order]).astype(np.uint8).tobytes(),
        )
    )


def decode_sweep(data: bytes, name: str) -> Cloud:
    """The sweep behind `encode_sweep`, column by column, clockwise from the left.

    Args:
        data: all of its bytes.
        name: named in errors.

    Returns:
        float32 `[n, 5]`.

    Raises:
        DataError: the bytes are cut off or none of a sweep.
    """
    if len(data) < _HEADER.size:
        raise _broken(name)
    magic, rings, columns, count = _HEADER.unpack_from(data)
    if magic != _MAGIC or not (0 < rings <= _MOST_RINGS and 0 < columns <= _MOST_COLUMNS):
        raise _broken(name)
    mask_bytes = (rings * columns + 7) // 8
    if len(data) != _HEADER.size + 4 * rings + mask_bytes + 4 * count:
        raise _broken(name)
    elevations = np.frombuffer(data, "<f4", rings, _HEADER.size).astype(np.float64)
    at = _HEADER.size + 4 * rings
    bits = np.unpackbits(np.frombuffer(data, np.uint8, mask_bytes, at), count=rings * columns)
    place = np.flatnonzero(bits)
    if len(place) != count or not np.isfinite(elevations).all():
        raise _broken(name)
    planes = np.frombuffer(data, np.uint8, 4 * count, at + mask_bytes)
    upper, middle, lower, intensity = planes.reshape(4, count)
    folded: Int = (upper.astype(np.int64) << 16) | (middle.astype(np.int64) << 8) | lower
    ranges = np.cumsum((folded >> 1) ^ -(folded & 1)) / _CM_PER_M
    ring, column = np.divmod(place, columns)
    azimuth, elevation = np.pi - 2 * np.pi * column / columns, np.deg2rad(elevations[ring])
    across = ranges * np.cos(elevation)
    points = (
        across * np.cos(azimuth),
        across * np.sin(azimuth),
        ranges * np.sin(elevation),
        intensity,
        ring,
    )
    return np.column_stack(points).astype(np.float32)[np.lexsort((ring, column))]


def _broken(name: str) -> DataError:
    return DataError(
        "these are not the bytes of a sweep",
        field=name,
        remedy="make the archive again",
    )
