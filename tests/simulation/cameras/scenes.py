"""Worlds for tests of cameras, and what to measure in their pictures."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tailwire.simulation.cameras import CameraRenderer
from tailwire.simulation.meshes import MeshKey
from tailwire.simulation.nuscenes.geometry import Float64, inverse_rigid, project, transform_points
from tailwire.simulation.rig import CAMERAS, CameraMount
from tailwire.simulation.world import Condition, Placed, State, Track, World

from ..tiny_world import tiny_world

Picture = NDArray[np.uint8]
Rgb = tuple[float, float, float]

AZIMUTH, ELEVATION = math.radians(50), math.radians(40)
SUNNY = Condition("day", AZIMUTH, ELEVATION, 0.2)
OVERCAST = Condition("day", AZIMUTH, ELEVATION, 1.0)
NIGHT = Condition("night", AZIMUTH, math.radians(-18), 0.4)
RAIN = Condition("rain", AZIMUTH, ELEVATION, 1.0, 12.0, 2_000.0, 0.8)
FOG = Condition("fog", AZIMUTH, ELEVATION, 1.0, 0.0, 80.0, 0.3)
CONDITIONS = {"sunny": SUNNY, "overcast": OVERCAST, "night": NIGHT, "rain": RAIN, "fog": FOG}

MOUNTS: dict[str, CameraMount] = {mount.channel: mount for mount in CAMERAS}
FRONT = MOUNTS["CAM_FRONT"]


def only(name: str, paint: Rgb, condition: Condition = OVERCAST) -> World:
    """The tiny world with one of its agents, painted."""
    world = tiny_world(condition)
    return replace(world, agents=(replace(world.agents_by_name[name], paint=paint),))


def painted_pixels(
    renderer: CameraRenderer, name: str, time_s: float, mount: CameraMount, width: int
) -> NDArray[np.bool_]:
    """Where the paint of an agent shows: what changes when it is painted over.

    Its shade on the ground is the same for any paint. Half of the strongest change is the edge of
    what has been smoothed.
    """
    red, blue = (
        renderer.render(only(name, paint), time_s, mount, width).astype(np.int16)
        for paint in ((0.9, 0.1, 0.1), (0.1, 0.1, 0.9))
    )
    change = np.abs(red - blue).sum(axis=2)
    return change > 0.5 * np.percentile(change[change > 20], 90)


def pixels_of(
    world: World, time_s: float, mount: CameraMount, width: int, points: Float64
) -> Float64:
    """Where points of the world frame `[n, 3]` are in a picture, by the data set's geometry."""
    camera_from_world = inverse_rigid(world.ego_pose(time_s) @ mount.ego_from_camera)
    pixels, depths = project(mount.intrinsic(width), transform_points(camera_from_world, points))
    assert (depths > 0).all()
    return pixels


def patch(picture: Picture, pixel: Float64, half: int = 2) -> float:
    """Mean brightness around a pixel."""
    u, v = (int(value) for value in pixel)
    return float(picture[v - half : v + half + 1, u - half : u + half + 1].mean())


def light_of(brightness: float) -> float:
    """Light of a grey of 0 to 255: the camera's curve, backwards."""
    developed = (brightness / 255) ** 2
    return -math.log(1 - (developed - 0.002) / 0.985) / 1.25


def standing(world: World, x: float) -> World:
    """The same with the ego vehicle at rest."""
    return replace(world, ego=Track((0.0,), (State(x, 0.0, 0.0, 0.0),)))


def driving(world: World, speed_mps: float) -> World:
    """The same with the ego vehicle at a speed, at x = 5 m after a second."""
    ends = (0.0, 2.0)
    states = [State(5 + speed_mps * (t - 1), 0.0, 0.0, 0.0, speed_mps) for t in ends]
    return replace(world, ego=Track(ends, states))


def boxes_at(places: dict[float, float], paint: Rgb, condition: Condition) -> World:
    """Painted boxes of 3 m straight ahead, at a distance x each with its own y."""
    key = MeshKey("car/sedan", (3.0, 3.0, 3.0))
    scenery = tuple(Placed(key, x, y, 0.0, 0.0, paint) for x, y in places.items())
    world = replace(tiny_world(condition), agents=(), scenery=scenery)
    return standing(world, 0.0)
