"""A made world as rays meet it: what never moves is one set of triangles, what moves is cast in
its own frame, so that nothing has to be rebuilt when time goes on.

Only geometry and ownership are here; what comes back from a surface is in `returns.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..meshes import MATERIALS, Mesh, MeshKey
from ..meshes.library import MeshLibrary
from ..nuscenes.geometry import Float64
from ..world import Placed, World
from .triangles import FirstHits, Float32, Triangles

GROUND = 0
"""Row of the ground among the things of a world."""

_GROUND_PAINT = (0.5, 0.5, 0.5)
_STEP_M = 0.01
"""A ray that goes through a surface starts again so far behind it."""


@dataclass(frozen=True, eq=False)
class Hits:
    """What rays met first.

    Attributes:
        distances: float32 `[n]`, metres; infinite where a ray met nothing.
        normals: float32 `[n, 3]`, unit length, world frame; of any sign.
        materials: uint8 `[n]`, rows of `MATERIALS`; 0 where a ray met nothing.
        things: int32 `[n]`, rows of `RayWorld.owners` and `RayWorld.paints`; -1 where a ray met
            nothing.
    """

    distances: Float32
    normals: Float32
    materials: NDArray[np.uint8]
    things: NDArray[np.int32]

    def replace(self, rows: NDArray[np.integer], others: Hits) -> None:
        """Put other hits in place of some."""
        self.distances[rows] = others.distances
        self.normals[rows] = others.normals
        self.materials[rows] = others.materials
        self.things[rows] = others.things


@dataclass(frozen=True, eq=False)
class _Solid:
    """A mesh in its own frame."""

    triangles: Triangles
    materials: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class _Mover:
    """What moves, at a moment; its triangles are asked for by the first ray that comes near."""

    placed: Placed
    thing: int
    solid: Callable[[MeshKey], _Solid]


class RayWorld:
    """One world, for rays.

    Attributes:
        owners: names of agents; empty for the ground and for scenery.
        paints: float32 `[t, 3]`, sRGB of the painted materials of each thing.
    """

    def __init__(self, world: World, library: MeshLibrary, reach_m: float = 90.0) -> None:
        """Gather what never moves.

        Args:
            world: to look at.
            library: where its meshes are from.
            reach_m: what is never nearer to the vehicle than this is left out.

        Raises:
            ConfigError: a model of the world is not in the library.
            EngineError: embreex is not installed.
        """
        self._world, self._library, self._reach_m = world, library, reach_m
        self._solids: dict[MeshKey, _Solid] = {}
        way = np.array([(state.x, state.y) for state in world.ego.states])
        standing = [agent for agent in world.agents if len(agent.track.states) == 1]
        self._moving = [agent for agent in world.agents if len(agent.track.states) > 1]
        still = {agent.name for agent in standing}
        placed = [thing for thing in world.placed_agents(0.0) if thing.owner in still]
        placed += [*world.scenery, *world.placed_signals(0.0)]
        near = [thing for thing in placed if self._gap(thing, way) < reach_m]
        self.owners = ["", *(thing.owner for thing in near), *(a.name for a in self._moving)]
        self.paints = np.array(
            [_GROUND_PAINT, *(t.paint for t in near), *(a.paint for a in self._moving)], np.float32
        )
        self._first_mover = 1 + len(near)
        self._static = _gathered(world.ground, [(t, library.mesh(t.mesh)) for t in near])

    def at(self, time_s: float) -> Moment:
        """The world at a moment."""
        there = {thing.owner: thing for thing in self._world.placed_agents(time_s)}
        ego = self._world.ego_pose(time_s)
        movers = [
            _Mover(there[agent.name], thing, self._solid)
            for thing, agent in enumerate(self._moving, start=self._first_mover)
            if agent.name in there
            and self._gap(there[agent.name], ego[None, :2, 3]) < self._reach_m
        ]
        return Moment(self._static, movers)

    def mesh(self, key: MeshKey) -> Mesh:
        """A mesh of the world in its own frame."""
        return self._library.mesh(key)

    def _gap(self, thing: Placed, way: Float64) -> float:
        width, length, _ = thing.mesh.size_wlh
        gaps = np.hypot(way[:, 0] - thing.x, way[:, 1] - thing.y)
        return float(gaps.min()) - float(np.hypot(width, length)) / 2

    def _solid(self, key: MeshKey) -> _Solid:
        if key not in self._solids:
            mesh = self._library.mesh(key)
            self._solids[key] = _Solid(
                Triangles(mesh.positions, mesh.faces), mesh.materials[mesh.faces[:, 0]]
            )
        return self._solids[key]


@dataclass(frozen=True, eq=False)
class _Static:
    triangles: Triangles
    materials: NDArray[np.uint8]
    things: NDArray[np.int32]


class Moment:
    """A world at one moment; made by `RayWorld.at`."""

    def __init__(self, static: _Static, movers: Sequence[_Mover]) -> None:
        self._static, self._movers = static, movers

    def first_hits(self, origins: Float32, directions: Float32) -> Hits:
        """Cast rays.

        Args:
            origins: `[n, 3]`, or `[1, 3]` for one origin of all rays (faster); world frame.
            directions: `[n, 3]`, unit length.
        """
        count = len(directions)
        all_origins = np.broadcast_to(origins, (count, 3))
        met = self._static.triangles.first_hits(all_origins, directions)
        hits = Hits(
            met.distances,
            np.zeros((count, 3), np.float32),
            np.zeros(count, np.uint8),
            np.full(count, -1, np.int32),
        )
        rows = np.flatnonzero(met.faces >= 0)
        faces = met.faces[rows]
        hits.normals[rows] = self._static.triangles.normals[faces]
        hits.materials[rows] = self._static.materials[faces]
        hits.things[rows] = self._static.things[faces]
        for mover in self._movers:
            _cast_at_mover(mover, origins, all_origins, directions, hits)
        return hits

    def hits_behind_gaps(
        self, origins: Float32, directions: Float32, rng: np.random.Generator, layers: int = 3
    ) -> Hits:
        """Cast rays, of which some go through glass and foliage as their opacity tells.

        Args:
            origins: as `first_hits`.
            directions: as `first_hits`.
            rng: draws which go through.
            layers: that a ray can go through at most.
        """
        hits = self.first_hits(origins, directions)
        all_origins = np.broadcast_to(origins, directions.shape)
        rays = np.arange(len(directions))
        for _ in range(layers):
            through = rng.random(len(rays)) >= _OPACITY[hits.materials[rays]]
            rays = rays[through & np.isfinite(hits.distances[rays])]
            if not len(rays):
                break
            gone = hits.distances[rays] + np.float32(_STEP_M)
            behind = all_origins[rays] + directions[rays] * gone[:, None]
            further = self.first_hits(behind.astype(np.float32), directions[rays])
            hits.replace(
                rays,
                Hits(further.distances + gone, further.normals, further.materials, further.things),
            )
        return hits


def _cast_at_mover(
    mover: _Mover, origins: Float32, all_origins: Float32, directions: Float32, hits: Hits
) -> None:
    """Put in the hits on one moving thing where they are the nearest."""
    placed = mover.placed
    radius = math.hypot(*placed.mesh.size_wlh) / 2
    centre = np.array([placed.x, placed.y, placed.z + placed.mesh.size_wlh[2] / 2])
    # Rays that pass the ball around it, and do not end in front of it.
    to_centre = centre.astype(np.float32) - origins
    if len(origins) == 1:
        along = directions @ to_centre[0]
    else:
        along = np.einsum("ij,ij->i", directions, to_centre)
    aside = np.einsum("ij,ij->i", to_centre, to_centre) - along * along
    near = (aside <= radius**2) & (along > -radius)
    rows = np.flatnonzero(near & (along - radius < hits.distances))
    if not len(rows):
        return
    # In the mesh's frame; a turn and a shift keep distances.
    solid = mover.solid(placed.mesh)
    shifted = all_origins[rows] - np.array([placed.x, placed.y, placed.z], np.float32)
    inverse = placed.transform[:3, :3].astype(np.float32)
    met: FirstHits = solid.triangles.first_hits(
        (shifted @ inverse).astype(np.float32), directions[rows] @ inverse
    )
    nearer = np.flatnonzero(met.distances < hits.distances[rows])
    faces = met.faces[nearer]
    hits.replace(
        rows[nearer],
        Hits(
            met.distances[nearer],
            solid.triangles.normals[faces] @ inverse.T,
            solid.materials[faces],
            np.full(len(nearer), mover.thing, np.int32),
        ),
    )


def _gathered(ground: Mesh, things: Sequence[tuple[Placed, Mesh]]) -> _Static:
    """The ground and everything that stands, as triangles of the world frame."""
    positions, faces = [ground.positions], [ground.faces]
    materials = [ground.materials[ground.faces[:, 0]]]
    owners = [np.full(len(ground.faces), GROUND, np.int32)]
    first = len(ground.positions)
    for row, (placed, mesh) in enumerate(things, start=GROUND + 1):
        transform = placed.transform
        moved = mesh.positions @ transform[:3, :3].T + transform[:3, 3]
        positions.append(moved.astype(np.float32))
        faces.append(mesh.faces + np.int32(first))
        materials.append(mesh.materials[mesh.faces[:, 0]])
        owners.append(np.full(len(mesh.faces), row, np.int32))
        first += len(mesh.positions)
    return _Static(
        Triangles(np.concatenate(positions), np.concatenate(faces)),
        np.concatenate(materials),
        np.concatenate(owners),
    )


_OPACITY = np.array([material.opacity for material in MATERIALS], np.float32)
