"""Object tokens: a fixed number of rows, each saying what stands where in the ego frame.

The common language of all modalities: detectors of cameras and LiDARs end in such rows, and boxes
of other detectors become them here. Direction and distance are in them in several forms, so that
what reads them need not learn trigonometry.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]

#: The classes and statuses of NuScenes-QA (Qian et al., 2305.14836), in the order of the columns.
OBJECT_CLASSES = (
    "car",
    "truck",
    "bus",
    "trailer",
    "construction vehicle",
    "motorcycle",
    "bicycle",
    "pedestrian",
    "traffic cone",
    "barrier",
)
#: The first classes have statuses, the others only stand there.
WITH_STATUS = 8
OBJECT_STATUSES = (
    "moving",
    "stopped",
    "parked",
    "with rider",
    "without rider",
    "standing",
    "not standing",
)

#: Columns of a list of objects: class and status are indices (status -1: unknown), positions and
#: sizes in metres, yaw in radians, speeds in m/s, all in the ego frame (x forward, y left).
OBJECT_COLUMNS = (
    "class",
    "score",
    "x",
    "y",
    "z",
    "length",
    "width",
    "height",
    "yaw",
    "vx",
    "vy",
    "status",
)

#: Width of a token; `ObjectParts` says in what order it is filled.
TOKEN_WIDTH = 64

POSITION_SCALE_M = 50.0
HEIGHT_SCALE_M = 5.0
SPEED_SCALE_MPS = 10.0
AZIMUTH_HARMONICS = (1, 2, 3, 4)
WAVELENGTHS_M = (100.0, 50.0, 25.0, 12.5)
#: Upper edges of the six 60 degree sectors, counter-clockwise from the one that begins at -180.
SECTOR_EDGES_DEG = (-150.0, -90.0, -30.0, 30.0, 90.0, 150.0)
#: Their middles, in the order of a token's columns.
SECTOR_MIDDLES_DEG = (180.0, -120.0, -60.0, 0.0, 60.0, 120.0)

_SMALLEST_SIZE_M = 0.05


@dataclass(frozen=True)
class ObjectParts:
    """What a token is made of.

    Attributes:
        classes: `[..., 10]` 1 at the class.
        score: `[...]` 0 to 1, how sure it is that there is an object.
        statuses: `[..., 7]` 1 at the status; all 0 where unknown.
        center: `[..., 3]` metres.
        size: `[..., 3]` length, width, height, metres.
        heading: `[..., 2]` sine and cosine of the yaw.
        velocity: `[..., 2]` m/s.
        velocity_known: `[...]` 1 where the velocity was measured, else 0.
    """

    classes: Float
    score: Float
    statuses: Float
    center: Float
    size: Float
    heading: Float
    velocity: Float
    velocity_known: Float


def object_tokens(objects: NDArray[np.float32], tokens: int) -> Float:
    """Tokens of a list of objects, the nearest first; rows behind the last object are 0.

    Args:
        objects: float32 `[n, 12]`, see `OBJECT_COLUMNS`; NaN where a velocity is unknown.
        tokens: rows to give; farther objects are left out.

    Returns:
        float32 `[tokens, 64]`.

    Raises:
        ValueError: another dtype or shape, an unknown class or status, or a value that is not
            finite.
    """
    _check(objects, tokens)
    found = objects[nearest_first(objects)[:tokens]]
    result = np.zeros((tokens, TOKEN_WIDTH), np.float32)
    result[: len(found)] = rows_of(_parts_of(found))
    return result


def nearest_first(objects: NDArray[np.float32]) -> NDArray[np.intp]:
    """The order of objects in their tokens: by distance, ties by what they are."""
    return np.lexsort((*objects.T, np.hypot(objects[:, 2], objects[:, 3])))


def rows_of(parts: ObjectParts) -> Float:
    """Fill token rows from their parts.

    Args:
        parts: of any leading shape.

    Returns:
        float32 `[..., 64]`: classes (10), score, statuses (7), x, y, z and range, sine and cosine
        of multiples of the azimuth (8), of x and y at four wavelengths (16), logarithms of the
        size (3), heading (2), velocity and speed (3), whether it is known, presence, sector (6).
    """
    x, y, z = np.moveaxis(parts.center, -1, 0)
    reach = np.sqrt(x * x + y * y)
    azimuth = np.arctan2(y, x)
    vx, vy = np.moveaxis(parts.velocity, -1, 0) / np.float32(SPEED_SCALE_MPS)
    columns = [
        *np.moveaxis(parts.classes, -1, 0),
        parts.score,
        *np.moveaxis(parts.statuses, -1, 0),
        x / np.float32(POSITION_SCALE_M),
        y / np.float32(POSITION_SCALE_M),
        z / np.float32(HEIGHT_SCALE_M),
        reach / np.float32(POSITION_SCALE_M),
    ]
    for harmonic in AZIMUTH_HARMONICS:
        columns += [np.sin(harmonic * azimuth), np.cos(harmonic * azimuth)]
    for wavelength in WAVELENGTHS_M:
        turn = np.float32(2 * np.pi / wavelength)
        columns += [np.sin(turn * x), np.cos(turn * x), np.sin(turn * y), np.cos(turn * y)]
    columns += [np.log(size) for size in np.moveaxis(parts.size, -1, 0)]
    columns += [*np.moveaxis(parts.heading, -1, 0)]
    columns += [vx, vy, np.sqrt(vx * vx + vy * vy), parts.velocity_known, np.ones_like(x)]
    columns += sectors_of(azimuth)
    filled = np.stack(columns, axis=-1).astype(np.float32)
    rest = TOKEN_WIDTH - filled.shape[-1]
    return np.concatenate([filled, np.zeros((*filled.shape[:-1], rest), np.float32)], axis=-1)


def mirrored_rows() -> tuple[NDArray[np.int64], Float]:
    """How a token changes when left and right change places.

    Returns:
        Columns int64 `[64]` and signs float32 `[64]`: `tokens[..., columns] * signs` are the tokens
        of the mirrored objects.
    """
    columns, signs = np.arange(TOKEN_WIDTH), np.ones(TOKEN_WIDTH, np.float32)
    first = len(OBJECT_CLASSES) + 1 + len(OBJECT_STATUSES)
    signs[first + 1] = -1
    harmonics = first + 4
    waves = harmonics + 2 * len(AZIMUTH_HARMONICS)
    signs[harmonics:waves:2] = -1
    sizes = waves + 4 * len(WAVELENGTHS_M)
    signs[waves + 2 : sizes : 4] = -1
    heading = sizes + 3
    signs[[heading, heading + 3]] = -1  # Sine of the yaw, and the second velocity.
    sectors = heading + 7
    middles = list(SECTOR_MIDDLES_DEG)
    for place, middle in enumerate(middles):
        columns[sectors + place] = sectors + middles.index(middle if middle == 180 else -middle)
    return columns, signs


def sectors_of(azimuth: Float) -> list[Float]:
    """Whether an azimuth (radians, counter-clockwise from the front) lies in each sector.

    The sectors are the six relations of NuScenes-QA: back, back right, front right, front, front
    left, back left.
    """
    above = [(azimuth > np.deg2rad(edge)).astype(np.float32) for edge in SECTOR_EDGES_DEG]
    between = [low - high for low, high in itertools.pairwise(above)]
    return [1 - above[0] + above[-1], *between]


def _parts_of(objects: NDArray[np.float32]) -> ObjectParts:
    classes = objects[:, 0].astype(np.int64)
    statuses = objects[:, 11].astype(np.int64)
    known = np.isfinite(objects[:, 9]) & np.isfinite(objects[:, 10])
    one_of = np.eye(len(OBJECT_STATUSES), dtype=np.float32)
    return ObjectParts(
        classes=np.eye(len(OBJECT_CLASSES), dtype=np.float32)[classes],
        score=objects[:, 1],
        statuses=np.where((statuses >= 0)[:, None], one_of[np.maximum(statuses, 0)], 0),
        center=objects[:, 2:5],
        size=np.maximum(objects[:, 5:8], _SMALLEST_SIZE_M),
        heading=np.stack([np.sin(objects[:, 8]), np.cos(objects[:, 8])], axis=-1),
        velocity=np.where(known[:, None], objects[:, 9:11], 0),
        velocity_known=known.astype(np.float32),
    )


def _check(objects: NDArray[np.float32], tokens: int) -> None:
    width = len(OBJECT_COLUMNS)
    if objects.dtype != np.float32 or objects.ndim != 2 or objects.shape[1] != width:
        raise ValueError(
            f"objects are float32 [n, {width}], got {objects.dtype} {list(objects.shape)}"
        )
    if tokens < 1:
        raise ValueError(f"{tokens} tokens hold no object")
    for column, name in enumerate(OBJECT_COLUMNS):
        values = objects[:, column]
        bad = ~np.isfinite(values)
        if name in ("vx", "vy"):
            bad = np.isinf(values)
        elif name == "class":
            bad |= (values < 0) | (values >= len(OBJECT_CLASSES)) | (values % 1 != 0)
        elif name == "status":
            bad |= (values < -1) | (values >= len(OBJECT_STATUSES)) | (values % 1 != 0)
        elif name == "score":
            bad |= (values < 0) | (values > 1)
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise ValueError(f"{name} of object {row} is {values[row]}")
