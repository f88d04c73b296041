"""Coarse meshes for things far away: corners gathered in cells, small faces gone.

Vertex clustering after Rossignac and Borrel (1993): every corner in a cell becomes one point, and
triangles that lose a corner vanish. Faces of small area go first where that is not enough.
"""

from __future__ import annotations

import numpy as np

from .mesh import Mesh
from .shading import Floats, Ints, finished

COARSE_TRIANGLES = 400


def coarse_mesh(mesh: Mesh) -> Mesh:
    """A mesh of at most `COARSE_TRIANGLES` triangles with about the same outline and colours.

    It has the same bounds. It need not be closed.
    """
    if len(mesh.faces) <= COARSE_TRIANGLES:
        return mesh
    points = mesh.positions.astype(np.float64)
    low, high = points.min(0), points.max(0)
    size = np.maximum(high - low, 1e-6)
    materials = mesh.materials[mesh.faces[:, 0]].astype(np.int64)
    corners = points[mesh.faces]
    areas = np.linalg.norm(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
    )
    best = None
    for cells in (24, 20, 17, 14, 12, 10, 8, 6, 4):
        # Cells about as deep as wide, at least two along every side.
        counts = np.maximum(np.round(size / size.max() * cells), 2)
        index = np.minimum((points - low) / size * counts, counts - 1).astype(np.int64)
        code = (index[:, 0] * 64 + index[:, 1]) * 64 + index[:, 2]
        _, cluster = np.unique(code, return_inverse=True)
        cluster = cluster.reshape(-1)
        # Corners weigh by their distance from the middle: the farthest out keeps the outline.
        weight = (np.linalg.norm((points - (low + high) / 2) / size, axis=1) + 1e-3) ** 8
        total = np.bincount(cluster, weight)
        middles = np.stack(
            [np.bincount(cluster, weight * points[:, axis]) / total for axis in range(3)], 1
        )
        faces = cluster[mesh.faces]
        whole = (
            (faces[:, 0] != faces[:, 1])
            & (faces[:, 1] != faces[:, 2])
            & (faces[:, 2] != faces[:, 0])
        )
        kept = _unlike(faces, areas, np.flatnonzero(whole))
        best = middles, faces[kept], materials[kept]
        if len(kept) <= COARSE_TRIANGLES:
            break
    assert best is not None  # the loop runs
    middles, faces, materials = best
    if len(faces) > COARSE_TRIANGLES:
        corners = middles[faces]
        area = np.linalg.norm(
            np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
        )
        largest = np.sort(np.argsort(-area)[:COARSE_TRIANGLES])
        faces, materials = faces[largest], materials[largest]
    used, back = np.unique(faces, return_inverse=True)
    middles, faces = middles[used], back.reshape(-1, 3)
    least, most = middles.min(0), middles.max(0)
    middles = low + (middles - least) / np.maximum(most - least, 1e-9) * (high - low)
    creases = np.full(len(faces), np.cos(np.radians(50)))
    return finished(middles, faces, materials, creases, np.full((len(middles), 2), np.nan))


def _unlike(faces: Ints, areas: Floats, rows: Ints) -> Ints:
    """Of triangles that lie on each other, the largest that faces the way most of them do.

    Where as much faces one way as the other (a limb that has become flat) one of each stays.

    Args:
        faces: `[f, 3]`.
        areas: `[f]`, how much each counts.
        rows: those to choose from.
    """
    rows = rows[np.argsort(-areas[rows], kind="stable")]
    chosen = faces[rows]
    ordered = np.sort(chosen, axis=1)
    key = (ordered[:, 0] << 40) + (ordered[:, 1] << 20) + ordered[:, 2]
    _, group = np.unique(key, return_inverse=True)
    group = group.reshape(-1)
    start = np.argmin(chosen, axis=1)[:, None]
    second = np.take_along_axis(chosen, (start + 1) % 3, 1)[:, 0]
    way = np.where(second == ordered[:, 1], 1, -1)
    net = np.bincount(group, way * areas[rows])[group]
    total = np.bincount(group, areas[rows])[group]
    wanted = (way * net > 0) | (np.abs(net) < 0.1 * total)
    rows, group, way = rows[wanted], group[wanted], way[wanted]
    _, first = np.unique(group * 2 + (way > 0), return_index=True)
    return np.sort(rows[first])
