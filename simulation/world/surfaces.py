"""The ground as one mesh: roads, kerbs, pavements and lawns cut out of a distance field.

Squares that no border crosses stay whole, the others are halved down to a metre and cut along
the borders, so that curves are smooth, nothing overlaps and there is no gap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..meshes.materials import material_index
from ..meshes.mesh import Mesh

Float64 = NDArray[np.float64]
Distance = Callable[[Float64], Float64]

_ROOT_M = 32.0
_FINEST_M = 1.0
_STEEPEST = 1.45  # of a distance field with rounded corners


def ground_mesh(
    distance: Distance,
    bounds: tuple[float, float, float, float],
    borders: Sequence[float],
    bands: Sequence[tuple[str, float]],
) -> Mesh:
    """Triangles over a rectangle, banded by distance.

    Args:
        distance: signed distance of points `[n, 2]` to the kerb, metres.
        bounds: x and y at least, x and y at most.
        borders: growing distances between the bands; a kerb face stands where heights differ.
        bands: material and height of each band, one more than borders.

    Returns:
        The mesh, world frame, uvs in metres.
    """
    squares, band, fine = _squares(distance, bounds, borders)
    offsets = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float64)
    parts: list[Mesh] = []
    for number, (material, height) in enumerate(bands):
        chosen = squares[band == number]
        quads = chosen[:, None, :2] + offsets * chosen[:, None, 2:]
        parts.append(flat_quads(quads, material, height))
    corners = fine[:, None, :] + offsets * _FINEST_M
    triangles = np.concatenate([corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]])
    values = distance(triangles.reshape(-1, 2)).reshape(-1, 3)
    for number, (material, height) in enumerate(bands):
        if number == len(borders):
            parts.append(_flat(triangles, material, height))
            break
        inside, (triangles, values), edges = _split(triangles, values, borders[number])
        parts.append(_flat(inside, material, height))
        top = bands[number + 1][1]
        if top != height:
            parts.append(_walls(edges, height, top, "kerb"))
    return Mesh.joined([part for part in parts if len(part.faces)])


def flat_quads(quads: Float64, material: str, height: float) -> Mesh:
    """Level quadrilaterals `[n, 4, 2]`, counter-clockwise, as a mesh."""
    return _flat(quads[:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3, 2), material, height)


def _squares(
    distance: Distance, bounds: tuple[float, float, float, float], borders: Sequence[float]
) -> tuple[Float64, NDArray[np.int64], Float64]:
    """Whole squares `[n, 3]` (x, y, side), their bands `[n]`, and corners of fine ones `[m, 2]`."""
    x, y = (
        np.arange(np.floor(low / _ROOT_M) * _ROOT_M, high, _ROOT_M)
        for low, high in zip(bounds[:2], bounds[2:], strict=True)
    )
    cells = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)
    levels = np.asarray(borders)
    whole: list[Float64] = []
    bands: list[NDArray[np.int64]] = []
    side = _ROOT_M
    while True:
        middle = distance(cells + side / 2)
        nearest = np.abs(middle[:, None] - levels).min(axis=1)
        mixed = nearest < _STEEPEST * side * np.sqrt(0.5)
        done = cells[~mixed]
        whole.append(np.column_stack([done, np.full(len(done), side)]))
        bands.append(np.searchsorted(levels, middle[~mixed]))
        cells = cells[mixed]
        if side <= _FINEST_M:
            return np.concatenate(whole), np.concatenate(bands), cells
        side /= 2
        quarter = np.array([[0, 0], [side, 0], [0, side], [side, side]])
        cells = (cells[:, None] + quarter).reshape(-1, 2)


def _split(
    triangles: Float64, values: Float64, level: float
) -> tuple[Float64, tuple[Float64, Float64], Float64]:
    """Cut triangles `[n, 3, 2]` where their values `[n, 3]` cross a level.

    Returns:
        Those below, those above with their values, and the cuts `[k, 2, 2]`, directed with the
        part below on the left.
    """
    below = values < level
    count = below.sum(axis=1)
    low = [triangles[count == 3]]
    high, high_values = [triangles[count == 0]], [values[count == 0]]
    cuts: list[Float64] = []
    for lone_is_below in (True, False):
        picked = count == (1 if lone_is_below else 2)
        flags = below[picked] if lone_is_below else ~below[picked]
        first = flags.argmax(axis=1)
        order = (first[:, None] + np.arange(3)) % 3
        points = np.take_along_axis(triangles[picked], order[:, :, None], axis=1)
        level_of = np.take_along_axis(values[picked], order, axis=1)
        a, b, c = points[:, 0], points[:, 1], points[:, 2]
        va, vb, vc = level_of.T
        ab = a + ((level - va) / (vb - va))[:, None] * (b - a)
        ac = a + ((level - va) / (vc - va))[:, None] * (c - a)
        at = np.full(len(a), level)
        tip = np.stack([a, ab, ac], axis=1)
        rest = np.concatenate([np.stack([ab, b, c], axis=1), np.stack([ab, c, ac], axis=1)])
        if lone_is_below:
            low.append(tip)
            high.append(rest)
            values_of = [np.stack([at, vb, vc], axis=1), np.stack([at, vc, at], axis=1)]
            high_values.append(np.concatenate(values_of))
            cuts.append(np.stack([ab, ac], axis=1))
        else:
            low.append(rest)
            high.append(tip)
            high_values.append(np.stack([va, at, at], axis=1))
            cuts.append(np.stack([ac, ab], axis=1))
    return (
        np.concatenate(low),
        (np.concatenate(high), np.concatenate(high_values)),
        np.concatenate(cuts),
    )


def _flat(triangles: Float64, material: str, height: float) -> Mesh:
    count = len(triangles)
    flat = triangles.reshape(-1, 2).astype(np.float32)
    positions = np.column_stack([flat, np.full(3 * count, height, np.float32)])
    normals = np.tile(np.array([0, 0, 1], np.float32), (3 * count, 1))
    faces = np.arange(3 * count, dtype=np.int32).reshape(-1, 3)
    return Mesh(
        positions, normals, flat, np.full(3 * count, material_index(material), np.uint8), faces
    )


def _walls(edges: Float64, bottom: float, top: float, material: str) -> Mesh:
    """Upright quads on cuts; they face the part below, which lies to the left of the cut."""
    count = len(edges)
    along = edges[:, 1] - edges[:, 0]
    length = np.maximum(np.hypot(*along.T), 1e-9)
    facing = np.column_stack([-along[:, 1], along[:, 0]]) / length[:, None]
    a, b = edges[:, 0], edges[:, 1]
    low, high = np.full(count, bottom), np.full(count, top)
    corners = np.stack(
        [
            np.column_stack([b, low]),
            np.column_stack([a, low]),
            np.column_stack([a, high]),
            np.column_stack([b, high]),
        ],
        axis=1,
    )
    zero = np.zeros(count)
    uvs = np.stack(
        [
            np.column_stack([zero, low]),
            np.column_stack([length, low]),
            np.column_stack([length, high]),
            np.column_stack([zero, high]),
        ],
        axis=1,
    )
    normals = np.repeat(np.column_stack([facing, zero]), 4, axis=0)
    first = 4 * np.arange(count)[:, None]
    faces = np.concatenate([first + np.array(k) for k in ((0, 1, 2), (0, 2, 3))]).astype(np.int32)
    return Mesh(
        corners.reshape(-1, 3).astype(np.float32),
        normals.astype(np.float32),
        uvs.reshape(-1, 2).astype(np.float32),
        np.full(4 * count, material_index(material), np.uint8),
        faces,
    )
