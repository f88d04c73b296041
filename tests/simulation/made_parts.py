"""Parts of made drives for tests: box meshes whose surfaces are known, and a quick renderer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tailwire.simulation.meshes import Mesh, MeshKey, material_index
from tailwire.simulation.meshes.library import MeshLibrary
from tailwire.simulation.rig import CameraMount
from tailwire.simulation.world import World


def box_mesh(size_wlh: tuple[float, float, float], material: str) -> Mesh:
    """A closed box of one material."""
    width, length, height = size_wlh
    corners, normals, faces = [], [], []
    for axis in range(3):
        for sign in (1.0, -1.0):
            u, v = np.roll(np.eye(3), 1, axis=0)[axis], np.roll(np.eye(3), -1, axis=0)[axis]
            normal = np.eye(3)[axis] * sign
            if np.dot(np.cross(u, v), normal) < 0:
                u, v = v, u
            first = len(corners)
            corners += [normal + a * u + b * v for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
            normals += [normal] * 4
            faces += [(first, first + 1, first + 2), (first, first + 2, first + 3)]
    positions = np.array(corners) * np.array([length, width, height]) / 2 + (0, 0, height / 2)
    return Mesh(
        positions.astype(np.float32),
        np.array(normals, np.float32),
        np.zeros((24, 2), np.float32),
        np.full(24, material_index(material), np.uint8),
        np.array(faces, np.int32),
    )


class BoxLibrary(MeshLibrary):
    """Every mesh is a box that fills its box frame."""

    def __init__(self, materials: dict[str, str] | None = None) -> None:
        super().__init__()
        self._materials = materials or {}

    def mesh(self, key: MeshKey, detail: int = 0) -> Mesh:
        return box_mesh(key.size_wlh, self._materials.get(key.model, "concrete"))


class FlatRenderer:
    """Pictures of one grey that tells the time."""

    def render(
        self, world: World, time_s: float, mount: CameraMount, width: int
    ) -> NDArray[np.uint8]:
        return np.full((width * 9 // 16, width, 3), round(time_s * 100) % 256, np.uint8)

    def close(self) -> None:
        pass
