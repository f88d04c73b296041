"""Triangles with materials, and the name under which a shape is made and cached.

A mesh is in its own box frame: the origin in the middle of the footprint, on the ground; x to the
front, y to the left, z up; metres. It fills its box exactly, so that annotated boxes fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class MeshKey(NamedTuple):
    """What shape to make; the same key always gives the same mesh.

    Attributes:
        model: kind and style, e.g. `car/sedan`, `pedestrian/adult`, `building/brick`.
        size_wlh: width, length, height of the box it fills, metres.
        pose: of its limbs, e.g. `walk3`, `stand`; empty where it has none.
        variant: seed of details.
    """

    model: str
    size_wlh: tuple[float, float, float]
    pose: str = ""
    variant: int = 0


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles; corners that differ in normal or material are separate vertices.

    Attributes:
        positions: float32 `[v, 3]`, metres.
        normals: float32 `[v, 3]`, unit length, outward.
        uvs: float32 `[v, 2]`, metres along the surface, for textures.
        materials: uint8 `[v]`, index into `MATERIALS`; the same for the corners of a triangle.
        faces: int32 `[f, 3]`, counter-clockwise seen from outside.
    """

    positions: NDArray[np.float32]
    normals: NDArray[np.float32]
    uvs: NDArray[np.float32]
    materials: NDArray[np.uint8]
    faces: NDArray[np.int32]

    @classmethod
    def joined(cls, meshes: list[Mesh]) -> Mesh:
        """One mesh of several, in their common frame."""
        firsts = np.cumsum([0, *(len(mesh.positions) for mesh in meshes[:-1])])
        return cls(
            np.concatenate([mesh.positions for mesh in meshes]),
            np.concatenate([mesh.normals for mesh in meshes]),
            np.concatenate([mesh.uvs for mesh in meshes]),
            np.concatenate([mesh.materials for mesh in meshes]),
            np.concatenate(
                [mesh.faces + first for mesh, first in zip(meshes, firsts, strict=True)]
            ).astype(np.int32),
        )
