"""Meshes by key, made when first asked for and kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .materials import material_index
from .mesh import Mesh, MeshKey


class MeshLibrary:
    """Makes and keeps meshes; every thread and process has its own."""

    def __init__(self, folder: Path | None = None) -> None:
        """Start with nothing made.

        Args:
            folder: of glTF or OBJ files that stand in for our own shapes, e.g. `car/sedan.glb`
                or `car.glb`; None for our own alone.
        """
        self._folder = folder
        self._made: dict[MeshKey, Mesh] = {}

    def mesh(self, key: MeshKey) -> Mesh:
        """The mesh of a key.

        Raises:
            ConfigError: there is no such model, or its file cannot be read.
        """
        if key not in self._made:
            self._made[key] = _box(key)
        return self._made[key]


def _box(key: MeshKey) -> Mesh:
    width, length, height = key.size_wlh
    size = np.array([length, width, height], np.float32)
    corners, normals, uvs = [], [], []
    for axis in range(3):
        u, v = (axis + 1) % 3, (axis + 2) % 3
        for sign in (1, -1):
            normal = np.zeros(3, np.float32)
            normal[axis] = sign
            for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))[::sign]:
                corner = np.zeros(3, np.float32)
                corner[[axis, u, v]] = sign, a, b
                corners.append(corner * size / 2 + (0, 0, height / 2))
                normals.append(normal)
                uvs.append((a * size[u] / 2, b * size[v] / 2))
    faces = [face for k in range(0, 24, 4) for face in ((k, k + 1, k + 2), (k, k + 2, k + 3))]
    material = "plaster" if key.model.startswith("building") else "car_paint"
    return Mesh(
        np.array(corners, np.float32),
        np.array(normals, np.float32),
        np.array(uvs, np.float32),
        np.full(24, material_index(material), np.uint8),
        np.array(faces, np.int32),
    )
