"""Triangles that rays are cast at, held by Embree. What the triangles are made of is kept beside
them by number, so that a ray knows what it met."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import EngineError

Float32 = NDArray[np.float32]


class FirstHits(NamedTuple):
    """Where rays met the first triangle.

    Attributes:
        distances: float32 `[n]`, metres; infinite where a ray met nothing.
        faces: int32 `[n]`, number of the triangle; -1 where a ray met nothing.
    """

    distances: Float32
    faces: NDArray[np.int32]


class Triangles:
    """Triangles in one frame, ready for rays.

    Attributes:
        normals: float32 `[f, 3]`, of the triangles, unit length, by the order of their corners.
    """

    def __init__(self, positions: Float32, faces: NDArray[np.int32]) -> None:
        """Build the tree over the triangles, about 1.5 ms for a thousand.

        Args:
            positions: `[v, 3]`, metres.
            faces: `[f, 3]`, rows of `positions`; none is all right.

        Raises:
            EngineError: embreex is not installed.
        """
        embree = _embree()
        positions = np.ascontiguousarray(positions, np.float32)
        corners = positions[faces]
        edges = corners[:, 1:] - corners[:, :1]
        normals = np.cross(edges[:, 0], edges[:, 1])
        lengths = np.linalg.norm(normals, axis=1, keepdims=True)
        self.normals = (normals / np.where(lengths == 0, 1, lengths)).astype(np.float32)
        self._scene: Any = None
        if len(faces):
            self._scene = embree.EmbreeScene()
            embree.TriangleMesh(
                scene=self._scene,
                vertices=positions,
                indices=np.ascontiguousarray(faces, np.int32),
            )

    def first_hits(self, origins: Float32, directions: Float32) -> FirstHits:
        """Cast rays.

        Args:
            origins: `[n, 3]`, metres.
            directions: `[n, 3]`, unit length.
        """
        count = len(directions)
        if self._scene is None or not count:
            return FirstHits(np.full(count, np.inf, np.float32), np.full(count, -1, np.int32))
        met = self._scene.run(
            np.ascontiguousarray(origins, np.float32),
            np.ascontiguousarray(directions, np.float32),
            output=1,
        )
        faces = met["primID"]
        return FirstHits(np.where(faces >= 0, met["tfar"], np.float32(np.inf)), faces)


class _Embree(NamedTuple):
    EmbreeScene: Any
    TriangleMesh: Any


def _embree() -> _Embree:
    try:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene
    except ImportError as error:
        raise EngineError(
            "rays cannot be cast without the package embreex (there is one for x86-64 only)",
            field="embreex",
            remedy="run: pip install 'tailwire[sim]'",
        ) from error
    return _Embree(EmbreeScene, TriangleMesh)
