"""The boxes of a made keyframe: which things are annotated, and how much of each is seen.

As in nuScenes a thing is annotated that the LiDAR has a point on. Its visibility is the share of
its surface, as far as it faces the vehicle, that the six images show: what hides it and what lies
outside every image is told by one ray for each of a few dozen places on its mesh.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .lidar import Moment, RayWorld
from .meshes import Mesh, MeshKey
from .nuscenes.geometry import (
    Float64,
    inverse_rigid,
    points_in_box,
    transform_points,
    yaw_quaternion,
)
from .nuscenes.scene_writer import VISIBILITY_LEVELS
from .rig import CAMERAS, LIDAR
from .world import Agent, Placed, World

ANNOTATED_WITHIN_M = 80.0
#: Boxes are so much larger than what they hold, to every side but the ground, that the noise of
#: the LiDAR does not carry points on a flat side out of them.
BOX_MARGIN_M = 0.02

#: Places on a mesh, and how many of those that face a camera are looked for.
_PLACES = 300
_RAYS = 60
_NATIVE_WIDTH, _NATIVE_HEIGHT = 1600, 900
#: A place is seen where its ray ends no further before it than this.
_TOLERANCE_M = 0.06


@dataclass(frozen=True)
class Box:
    """One annotation, all but its tokens; see `NuScenesWriter.add_annotation`."""

    instance: str
    category: str
    attributes: tuple[str, ...]
    translation: tuple[float, float, float]
    size_wlh: tuple[float, float, float]
    rotation: tuple[float, float, float, float]
    num_lidar_pts: int
    visibility: str


class Annotator:
    """Annotates keyframes of one world."""

    def __init__(self, world: World, rays: RayWorld) -> None:
        """Annotate nothing yet.

        Args:
            world: that is annotated.
            rays: the same world, for rays.
        """
        self._world, self._rays = world, rays
        self._places: dict[MeshKey, tuple[Float64, Float64]] = {}
        self._thing_of = {owner: row for row, owner in enumerate(rays.owners) if owner}

    def boxes(self, time_s: float, moment: Moment, cloud: NDArray[np.float32]) -> list[Box]:
        """The boxes of a keyframe.

        Args:
            time_s: of the LiDAR.
            moment: `RayWorld.at` this time.
            cloud: `[n, 5]`, its sweep, as it is written.
        """
        world = self._world
        world_from_ego = world.ego_pose(time_s)
        global_from_lidar = world.global_from_world @ world_from_ego @ LIDAR.ego_from_lidar
        # Points are counted in the global frame, from the float32 values that the file holds.
        points = transform_points(global_from_lidar, cloud[:, :3])
        eye = world_from_ego[:3, 3]
        found: list[tuple[Placed, Box]] = []
        for placed in world.placed_agents(time_s):
            if math.hypot(placed.x - eye[0], placed.y - eye[1]) > ANNOTATED_WITHIN_M:
                continue
            agent = world.agents_by_name[placed.owner]
            box = _box(world, agent, placed, time_s, points)
            if box.num_lidar_pts:
                found.append((placed, box))
        shares = self._shares([placed for placed, _ in found], world_from_ego, moment)
        levels = [VISIBILITY_LEVELS[row] for row in np.digitize(shares, (0.4, 0.6, 0.8))]
        return [
            Box(**{**vars(box), "visibility": level})
            for (_, box), level in zip(found, levels, strict=True)
        ]

    def _shares(self, things: Sequence[Placed], world_from_ego: Float64, moment: Moment) -> Float64:
        """Of each thing, which share of the surface that faces the vehicle is in an image."""
        if not things:
            return np.zeros(0)
        points, normals, owners = [], [], []
        for placed in things:
            own_points, own_normals = self._places_on(placed.mesh)
            points.append(transform_points(placed.transform, own_points))
            normals.append(own_normals @ placed.transform[:3, :3].T)
            owners.append(np.full(len(own_points), self._thing_of[placed.owner]))
        places, outward = np.concatenate(points), np.concatenate(normals)
        owner = np.concatenate(owners)
        thing = np.repeat(np.arange(len(things)), [len(own) for own in points])

        eyes, in_image = _eyes(places, world_from_ego)
        to_eye = eyes - places
        distances = np.linalg.norm(to_eye, axis=1)
        faces_us = np.einsum("ij,ij->i", outward, to_eye) > 0.05 * distances
        rows = _thinned(np.flatnonzero(faces_us), thing)
        directions = -to_eye[rows] / distances[rows, None]
        hits = moment.first_hits(eyes[rows].astype(np.float32), directions.astype(np.float32))
        reached = hits.distances >= distances[rows] - _TOLERANCE_M
        # What its own body hides would be hidden without the others too.
        alone = reached | (hits.things != owner[rows])
        # In fog nothing is seen beyond the range of visibility, whatever stands in the way.
        clear = distances[rows] < self._world.condition.visibility_m
        seen = reached & in_image[rows] & clear
        total = np.bincount(thing[rows][alone], minlength=len(things))
        shown = np.bincount(thing[rows][seen], minlength=len(things))
        return shown / np.maximum(total, 1)

    def _places_on(self, key: MeshKey) -> tuple[Float64, Float64]:
        """Places on a mesh and the normals there, in its own frame."""
        if key not in self._places:
            self._places[key] = _sampled(self._rays.mesh(key))
        return self._places[key]


def _box(world: World, agent: Agent, placed: Placed, time_s: float, points: Float64) -> Box:
    state = agent.track.at(time_s)
    width, length, height = agent.size_wlh
    size = (width + 2 * BOX_MARGIN_M, length + 2 * BOX_MARGIN_M, height + BOX_MARGIN_M)
    centre = transform_points(
        world.global_from_world, [(placed.x, placed.y, placed.z + size[2] / 2)]
    )[0]
    turn = world.global_from_world
    rotation = yaw_quaternion(placed.yaw_rad + math.atan2(turn[1, 0], turn[0, 0]))
    return Box(
        agent.name,
        agent.category,
        (state.attribute,) if state is not None and state.attribute else (),
        (float(centre[0]), float(centre[1]), float(centre[2])),
        size,
        rotation,
        _num_points(points, centre, size, rotation),
        VISIBILITY_LEVELS[0],
    )


def _num_points(
    points: Float64,
    centre: Float64,
    size: tuple[float, float, float],
    rotation: tuple[float, float, float, float],
) -> int:
    reach = math.hypot(size[0], size[1]) / 2 + 0.01
    near = (np.abs(points[:, 0] - centre[0]) < reach) & (np.abs(points[:, 1] - centre[1]) < reach)
    return int(points_in_box(points[near], centre, size, rotation).sum())


def _sampled(mesh: Mesh) -> tuple[Float64, Float64]:
    """Places spread evenly over a mesh's surface, always the same of a mesh."""
    rng = np.random.default_rng(0)
    corners = mesh.positions[mesh.faces].astype(np.float64)
    edges = corners[:, 1:] - corners[:, :1]
    crossed = np.cross(edges[:, 0], edges[:, 1])
    areas = np.linalg.norm(crossed, axis=1) / 2
    ends = np.cumsum(areas)
    # Even steps along the area, so that no part of it goes without a place by chance.
    steps = (np.arange(_PLACES) + 0.5) / _PLACES * ends[-1]
    faces = np.minimum(np.searchsorted(ends, steps), len(areas) - 1)
    a, b = rng.random((2, _PLACES, 1))
    folded = a + b > 1
    a, b = np.where(folded, 1 - a, a), np.where(folded, 1 - b, b)
    points = corners[faces, 0] + a * edges[faces, 0] + b * edges[faces, 1]
    return points, crossed[faces] / (2 * areas[faces, None])


def _thinned(rows: NDArray[np.intp], thing: NDArray[np.intp]) -> NDArray[np.intp]:
    """Of each thing some of its rows, evenly."""
    kept = [
        own[np.linspace(0, len(own) - 1, min(len(own), _RAYS)).round().astype(np.intp)]
        for own in np.split(rows, np.flatnonzero(np.diff(thing[rows])) + 1)
    ]
    return np.concatenate(kept)


def _eyes(places: Float64, world_from_ego: Float64) -> tuple[Float64, NDArray[np.bool_]]:
    """For each place the camera that sees it if any does, else some camera; and whether one does.

    Returns:
        Places of cameras, float64 `[n, 3]`, world frame; bool `[n]`, in the image.
    """
    eyes = np.tile((world_from_ego @ CAMERAS[0].ego_from_camera)[:3, 3], (len(places), 1))
    in_image = np.zeros(len(places), np.bool_)
    for camera in CAMERAS:
        world_from_camera = world_from_ego @ camera.ego_from_camera
        local = transform_points(inverse_rigid(world_from_camera), places)
        depth = np.maximum(local[:, 2], 1e-6)
        u = camera.focal_px * local[:, 0] / depth + camera.centre_px[0]
        v = camera.focal_px * local[:, 1] / depth + camera.centre_px[1]
        inside = (local[:, 2] > 0.1) & (u >= 0) & (u < _NATIVE_WIDTH)
        inside &= (v >= 0) & (v < _NATIVE_HEIGHT)
        eyes[inside] = world_from_camera[:3, 3]
        in_image |= inside
    return eyes, in_image
