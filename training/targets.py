"""What a detector should say of a scene: heat around the centres, and what is at each centre."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..kernels.object_tokens import HEIGHT_SCALE_M, OBJECT_CLASSES, SPEED_SCALE_MPS
from ..runtime.detectors import BEV_STRIDE, IMAGE_STRIDE, REFERENCE_FOCAL_PX

Float = NDArray[np.float32]

#: Objects that are doubtful get heat just below 1: neither wanted nor punished.
_DOUBTFUL = 0.9
_SMALLEST_SPREAD = 0.6
_REACH = 3
_NEAREST_M, _FARTHEST_M = 0.5, 65.0


@dataclass(frozen=True)
class Targets:
    """Targets of one picture or grid.

    Attributes:
        heat: float32 `[10, rows, columns]`, 1 at the centres.
        cells: int64 `[n]`, `row * columns + column` of each centre.
        values: float32 `[n, d]`, the maps there, in the order of the detector's maps.
        known: float32 `[n, d]`, weight of each value, 0 where it is not known.
        status: int64 `[n]`, -1 where unknown.
    """

    heat: Float
    cells: NDArray[np.int64]
    values: Float
    known: Float
    status: NDArray[np.int64]


def bev_targets(objects: Float, cells: int, range_m: float) -> Targets:
    """Targets of a grid of `kernels.bev_grid`.

    Args:
        objects: `[n, 12]`, see `kernels.object_tokens`, in the ego frame of the grid.
        cells: along a side of the grid; the maps have half of them.
        range_m: of the grid.
    """
    size = cells // BEV_STRIDE
    cell_m = 2 * range_m / size
    inside = (np.abs(objects[:, 2:4]) < range_m).all(axis=1)
    objects = objects[inside]
    place = (objects[:, 2:4] + range_m) / cell_m
    extent = np.minimum(objects[:, 5], objects[:, 6]) / cell_m
    z = objects[:, 4:5] / HEIGHT_SCALE_M
    yaw = objects[:, 8:9]
    velocity = objects[:, 9:11] / SPEED_SCALE_MPS
    details = [np.log(objects[:, 5:8]), np.sin(yaw), np.cos(yaw), velocity]
    values = np.concatenate([z, *details], axis=1)
    return _targets(objects, place[:, 0], place[:, 1], extent, values, (size, size))


def image_targets(objects: Float, geometry: Float, size: tuple[int, int]) -> Targets:
    """Targets of a picture.

    Args:
        objects: `[n, 12]` in the ego frame.
        geometry: `[16]`, see `decoding.image_tokens`.
        size: rows and columns of the encoder's picture.
    """
    fx, fy, cx, cy = geometry[:4]
    ego_from_camera = geometry[4:].reshape(3, 4)
    rotation, translation = ego_from_camera[:, :3], ego_from_camera[:, 3]
    x, y, z = ((objects[:, 2:5] - translation) @ rotation).T
    depth = np.maximum(z, _NEAREST_M)
    u, v = fx * x / depth + cx, fy * y / depth + cy
    rows, columns = size[0] // IMAGE_STRIDE, -(-size[1] // IMAGE_STRIDE)
    seen = (z > _NEAREST_M) & (z < _FARTHEST_M)
    seen &= (u >= 0) & (u < size[1]) & (v >= 0) & (v < size[0])
    objects, x, z, u, v = objects[seen], x[seen], z[seen], u[seen], v[seen]
    forward = np.stack([np.cos(objects[:, 8]), np.sin(objects[:, 8])], axis=1)
    along = forward @ rotation[:2]
    relative = np.arctan2(along[:, 0], along[:, 2]) - np.arctan2(x, z)
    extent = np.sqrt(objects[:, 6] * objects[:, 7]) * fx / z / IMAGE_STRIDE
    values = np.concatenate(
        [
            np.log(z * REFERENCE_FOCAL_PX / fx)[:, None],
            np.log(objects[:, 5:8]),
            np.sin(relative)[:, None],
            np.cos(relative)[:, None],
        ],
        axis=1,
    )
    found = _targets(objects, v / IMAGE_STRIDE, u / IMAGE_STRIDE, extent, values, (rows, columns))
    # Offsets in a picture are (across, down), in a grid (row, column).
    found.values[:, :2] = found.values[:, 1::-1].copy()
    return found


def _targets(
    objects: Float,
    row: NDArray[np.floating],
    column: NDArray[np.floating],
    extent: NDArray[np.floating],
    values: NDArray[np.floating],
    size: tuple[int, int],
) -> Targets:
    """Put heat and values in their places; of two centres in one cell the surer one counts."""
    heat = np.zeros((len(OBJECT_CLASSES), *size), np.float32)
    at_row, at_column = row.astype(np.int64), column.astype(np.int64)
    spread = np.maximum(_SMALLEST_SPREAD, extent / 4)
    peak = np.where(objects[:, 1] >= 1, 1.0, _DOUBTFUL)
    for index in range(len(objects)):
        place = (int(at_row[index]), int(at_column[index]))
        _add_heat(heat[int(objects[index, 0])], place, float(spread[index]), float(peak[index]))
    cells = at_row * size[1] + at_column
    offset = np.stack([row - at_row, column - at_column], axis=1)
    order = np.argsort(-objects[:, 1], kind="stable")
    _, first = np.unique(cells[order], return_index=True)
    kept = order[np.sort(first)]
    full = np.concatenate([offset, values], axis=1)[kept].astype(np.float32)
    known = np.isfinite(full) * np.where(objects[kept, 1:2] >= 1, 1.0, 0.3)
    return Targets(
        heat,
        cells[kept],
        np.nan_to_num(full),
        known.astype(np.float32),
        objects[kept, 11].astype(np.int64),
    )


def _add_heat(heat: Float, place: tuple[int, int], spread: float, peak: float) -> None:
    reach = max(1, min(_REACH, int(np.ceil(2 * spread))))
    rows, columns = heat.shape
    top, bottom = max(0, place[0] - reach), min(rows, place[0] + reach + 1)
    left, right = max(0, place[1] - reach), min(columns, place[1] + reach + 1)
    down = np.arange(top, bottom)[:, None] - place[0]
    across = np.arange(left, right)[None, :] - place[1]
    bump = peak * np.exp(-(down**2 + across**2) / (2 * spread**2))
    patch = heat[top:bottom, left:right]
    np.maximum(patch, bump, out=patch)
