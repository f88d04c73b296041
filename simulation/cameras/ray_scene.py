"""A world as camera rays meet it: triangles with the normals, textures and paint of their corners.

What stands is gathered once per world, what may move once per picture; the tree over the triangles
is the LiDAR's. No light is worked out here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..lidar.triangles import Triangles
from ..meshes import Mesh, MeshLibrary
from ..nuscenes.geometry import Float64
from ..world import Placed, World
from .ray_textures import Floats
from .view import AGENTS_WITHIN_M, COARSE_BEYOND_M

_GROUND_PAINT = (0.5, 0.5, 0.5)
_STEP_M = 2e-3
_CULLED_LAYERS = 6


@dataclass(frozen=True, eq=False)
class SurfaceHits:
    """What camera rays met first.

    Attributes:
        distances: float32 `[n]`, metres; infinite where a ray met nothing.
        normals: float32 `[n, 3]`, smooth as the mesh has them, unit length, outward.
        uvs: float32 `[n, 2]`, metres along the surface.
        materials: uint8 `[n]`, rows of `MATERIALS`; 0 where a ray met nothing.
        paints: float32 `[n, 3]`, sRGB of painted materials.
        lights: uint8 `[n]`, 1 for lights that are on, 2 for braking.
    """

    distances: Floats
    normals: Floats
    uvs: Floats
    materials: NDArray[np.uint8]
    paints: Floats
    lights: NDArray[np.uint8]

    def rows(self, rows: NDArray[np.intp]) -> SurfaceHits:
        """Those of some rays."""
        return SurfaceHits(
            self.distances[rows],
            self.normals[rows],
            self.uvs[rows],
            self.materials[rows],
            self.paints[rows],
            self.lights[rows],
        )


class _Surfaces:
    """Meshes in the world frame, for rays."""

    def __init__(self, parts: Sequence[tuple[Mesh, Placed | None]]) -> None:
        count = sum(len(mesh.positions) for mesh, _ in parts)
        positions = np.empty((count, 3), np.float32)
        self._normals = np.empty((count, 3), np.float32)
        faces: list[NDArray[np.int32]] = []
        owners: list[NDArray[np.int32]] = []
        first = 0
        for row, (mesh, placed) in enumerate(parts):
            here = slice(first, first + len(mesh.positions))
            if placed is None:
                positions[here], self._normals[here] = mesh.positions, mesh.normals
            else:
                transform = placed.transform
                rotation = transform[:3, :3]
                positions[here] = mesh.positions @ rotation.T + transform[:3, 3]
                self._normals[here] = mesh.normals @ rotation.T
            faces.append(mesh.faces + np.int32(first))
            owners.append(np.full(len(mesh.faces), row, np.int32))
            first = here.stop
        meshes = [mesh for mesh, _ in parts]
        self._uvs = _joined([mesh.uvs for mesh in meshes], (0, 2), np.float32)
        self._materials = _joined([mesh.materials for mesh in meshes], (0,), np.uint8)
        self._faces = _joined(faces, (0, 3), np.int32)
        self._owners = _joined(owners, (0,), np.int32)
        things = [placed for _, placed in parts]
        paints = [_GROUND_PAINT if thing is None else thing.paint for thing in things]
        self._paints = np.array(paints, np.float32).reshape(-1, 3)
        self._lights = np.array(
            [0 if t is None else t.lights_on * 1 + t.braking * 2 for t in things], np.uint8
        )
        self._positions = positions
        self._triangles = Triangles(positions, self._faces)

    def block(self, origins: Floats, directions: Floats) -> NDArray[np.bool_]:
        """Which rays meet anything, from whichever side; bool `[n]`."""
        return self._triangles.first_hits(origins, directions).faces >= 0

    def first_faces(self, origins: Floats, directions: Floats) -> tuple[Floats, NDArray[np.int32]]:
        """Distances and triangles of the first surface whose outside a ray meets."""
        distances, faces = self._triangles.first_hits(origins, directions)
        distances, faces = distances.copy(), faces.copy()
        rows = np.arange(len(directions))
        for _ in range(_CULLED_LAYERS):
            met = rows[faces[rows] >= 0]
            away = np.einsum("ij,ij->i", self._triangles.normals[faces[met]], directions[met])
            rows = met[away > 0]
            if not len(rows):
                break
            gone = distances[rows] + np.float32(_STEP_M)
            behind = origins[rows] + directions[rows] * gone[:, None]
            further = self._triangles.first_hits(behind, directions[rows])
            distances[rows], faces[rows] = further.distances + gone, further.faces
        return distances, faces

    def look(self, points: Floats, faces: NDArray[np.int32], distances: Floats) -> SurfaceHits:
        """What the corners of triangles tell about points on them."""
        corners = self._faces[faces]
        a, b, c = (self._positions[corners[:, k]] for k in range(3))
        ab, ac, ap = b - a, c - a, points - a
        bb, bc, cc = _dots(ab, ab), _dots(ab, ac), _dots(ac, ac)
        pb, pc = _dots(ap, ab), _dots(ap, ac)
        scale = 1 / np.maximum(bb * cc - bc * bc, np.float32(1e-20))
        of_b = np.clip((cc * pb - bc * pc) * scale, 0, 1)
        of_c = np.clip((bb * pc - bc * pb) * scale, 0, 1)
        shares = np.stack([np.clip(1 - of_b - of_c, 0, 1), of_b, of_c], axis=1)
        normals = np.einsum("nk,nkc->nc", shares, self._normals[corners])
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-6)
        owners = self._owners[faces]
        return SurfaceHits(
            distances,
            normals,
            np.einsum("nk,nkc->nc", shares, self._uvs[corners]),
            self._materials[corners[:, 0]],
            self._paints[owners],
            self._lights[owners],
        )


class StandingSurfaces(_Surfaces):
    """Ground and scenery of a world."""

    def __init__(self, world: World, library: MeshLibrary) -> None:
        """Gather them, about 1.5 ms for a thousand triangles."""
        scenery = [(library.mesh(placed.mesh), placed) for placed in world.scenery]
        super().__init__([(world.ground, None), *scenery])


class RayScene:
    """A world at the moment of one picture.

    Attributes:
        agents: those that are near enough to be drawn.
    """

    def __init__(
        self,
        standing: StandingSurfaces,
        agents: Sequence[Placed],
        library: MeshLibrary,
        eye: Float64,
    ) -> None:
        """Put the agents in.

        Args:
            standing: of the world.
            agents: at the moment; far ones are left out.
            library: for their meshes.
            eye: `[3]`, of the camera, metres.
        """
        self.agents: list[Placed] = []
        parts: list[tuple[Mesh, Placed | None]] = []
        for placed in agents:
            middle = placed.x, placed.y, placed.z + placed.mesh.size_wlh[2] / 2
            distance = float(np.linalg.norm(eye - middle))
            if distance < AGENTS_WITHIN_M:
                detail = int(distance > COARSE_BEYOND_M)
                parts.append((library.mesh(placed.mesh, detail), placed))
                self.agents.append(placed)
        self._sets = (standing, _Surfaces(parts))

    def first_hits(self, eye: Floats, directions: Floats) -> SurfaceHits:
        """Cast rays at the outsides of surfaces.

        Args:
            eye: `[3]`, where all rays start, metres.
            directions: `[n, 3]`, unit length.
        """
        origins = np.broadcast_to(eye, directions.shape)
        cast = [surfaces.first_faces(origins, directions) for surfaces in self._sets]
        nearest = np.argmin(np.stack([distances for distances, _ in cast]), axis=0)
        count = len(directions)
        hits = SurfaceHits(
            np.full(count, np.inf, np.float32),
            np.zeros((count, 3), np.float32),
            np.zeros((count, 2), np.float32),
            np.zeros(count, np.uint8),
            np.zeros((count, 3), np.float32),
            np.zeros(count, np.uint8),
        )
        for row, (surfaces, (distances, faces)) in enumerate(zip(self._sets, cast, strict=True)):
            met = np.flatnonzero((nearest == row) & (faces >= 0))
            points = eye + directions[met] * distances[met, None]
            seen = surfaces.look(points, faces[met], distances[met])
            hits.distances[met] = seen.distances
            hits.normals[met] = seen.normals
            hits.uvs[met] = seen.uvs
            hits.materials[met] = seen.materials
            hits.paints[met] = seen.paints
            hits.lights[met] = seen.lights
        return hits

    def in_shadow(self, points: Floats, to_sun: Floats) -> NDArray[np.bool_]:
        """Whether anything stands between points `[n, 3]` and the sun; bool `[n]`."""
        rays = np.broadcast_to(to_sun, points.shape)
        standing, agents = self._sets
        dark = standing.block(points, rays)
        lit = np.flatnonzero(~dark)
        dark[lit] = agents.block(points[lit], rays[lit])
        return dark


def _dots(a: Floats, b: Floats) -> Floats:
    return np.einsum("ij,ij->i", a, b)


def _joined(
    parts: Sequence[NDArray[np.generic]], empty: tuple[int, ...], dtype: type[np.generic]
) -> NDArray:
    return np.concatenate(parts).astype(dtype) if parts else np.zeros(empty, dtype)
