"""Normals and texture coordinates of triangles whose places and materials are known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .mesh import Mesh

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FLAT = 1.0  # degrees: no two faces that differ are smoothed
ROUND = 69.0  # degrees: above, all faces about a point are smoothed, which is cheaper


def finished(
    points: Floats, faces: Ints, materials: Ints, creases: Floats, own_uvs: Floats
) -> Mesh:
    """Triangles with normals and texture coordinates.

    Args:
        points: `[n, 3]`, metres.
        faces: `[f, 3]`.
        materials: `[f]`, rows in `MATERIALS`.
        creases: `[f]`, cosine of the angle up to which a face is smoothed with its neighbours.
        own_uvs: `[n, 2]`; not a number where they are to follow from place and normal.
    """
    corners = points[faces]
    crosses = cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    doubled = np.linalg.norm(crosses, axis=1)
    keep = doubled > 1e-9
    if not keep.all():
        faces, materials, creases = faces[keep], materials[keep], creases[keep]
        crosses, doubled = crosses[keep], doubled[keep]
    units = crosses / doubled[:, None]
    face_normals = np.repeat(units, 3, axis=0)
    plane = creases > np.cos(np.radians(6 * FLAT))
    flat = np.repeat(plane, 3)
    normals = face_normals.copy()
    round_all_over = creases < np.cos(np.radians(ROUND))
    for chosen, normals_of in (
        (round_all_over, _point_normals),
        (~plane & ~round_all_over, _corner_normals),
    ):
        if chosen.any():
            normals[np.repeat(chosen, 3)] = normals_of(
                faces[chosen], units[chosen], crosses[chosen], creases[chosen]
            )
    # Curved skins take their texture from the side they face most, so that it runs on unbroken.
    axis = np.argmax(np.abs(face_normals), axis=1)
    sign = np.sign(np.take_along_axis(face_normals, axis[:, None], 1))
    facing = np.where(flat[:, None], face_normals, np.eye(3)[axis] * sign)
    across = np.column_stack([-facing[:, 1], facing[:, 0], np.zeros(len(facing))])
    level = np.hypot(facing[:, 0], facing[:, 1])
    lying = level < 1e-3
    across[lying] = (1, 0, 0)
    across[~lying] /= level[~lying, None]
    upward = cross(facing, across)
    ids = faces.reshape(-1)
    places = points[ids]
    uvs = np.column_stack([(places * across).sum(1), (places * upward).sum(1)])
    given = own_uvs[ids]
    uvs = np.where(np.isnan(given), uvs, given)
    rows = np.repeat(materials, 3)
    coarse = np.round((normals + 1) * 500).astype(np.int64)
    side = np.where(flat, 0, 1 + axis * 2 + (sign[:, 0] > 0))
    key = ids
    for part, room in (
        (coarse[:, 0], 1001),
        (coarse[:, 1], 1001),
        (coarse[:, 2], 1001),
        (rows, 64),
        (side, 8),
    ):
        key = key * room + part
    _, first, back = np.unique(key, return_index=True, return_inverse=True)
    return Mesh(
        places[first].astype(np.float32),
        normals[first].astype(np.float32),
        uvs[first].astype(np.float32),
        rows[first].astype(np.uint8),
        back.reshape(-1, 3).astype(np.int32),
    )


def _point_normals(faces: Ints, units: Floats, crosses: Floats, creases: Floats) -> Floats:
    """Unit normals `[3 f, 3]`: mean, by area, of all faces about a point."""
    ids = faces.reshape(-1)
    weights = np.repeat(crosses, 3, axis=0)
    sums = np.stack([np.bincount(ids, weights[:, axis]) for axis in range(3)], 1)[ids]
    sizes = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.where(sizes > 1e-12, sums / np.maximum(sizes, 1e-12), np.repeat(units, 3, axis=0))


def _corner_normals(faces: Ints, units: Floats, crosses: Floats, creases: Floats) -> Floats:
    """Unit normals `[3 f, 3]`: mean, by area, of the faces about a corner within the crease."""
    ids = faces.reshape(-1)
    order = np.argsort(ids, kind="stable")
    counts = np.bincount(ids)
    group = np.repeat(counts, counts)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    offsets = np.cumsum(group) - group
    left = np.repeat(order, group) // 3
    within = np.arange(group.sum()) - np.repeat(offsets, group)
    right = order[np.repeat(starts, group) + within] // 3
    alike = np.einsum("ij,ij->i", units[left], units[right]) >= creases[left]
    sums = np.add.reduceat(crosses[right] * alike[:, None], offsets, axis=0)
    normals = np.empty_like(sums)
    normals[order] = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    return normals


def cross(a: Floats, b: Floats) -> Floats:
    """Cross product; np.cross costs several times as much on small arrays."""
    out = np.empty(np.broadcast_shapes(a.shape, b.shape))
    out[..., 0] = a[..., 1] * b[..., 2] - a[..., 2] * b[..., 1]
    out[..., 1] = a[..., 2] * b[..., 0] - a[..., 0] * b[..., 2]
    out[..., 2] = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    return out
