"""A small made-up drive in nuScenes format, drawn within seconds with the core alone; for tests.

One straight street of blocks with cars, a bus, a truck, people, cones and barriers, seen by the
six cameras and the LiDAR of the nuScenes rig. It shows that the pipeline runs and where things
are; it is a cartoon, and no accuracy measured on it says anything about real sensors: no lens
distortion, no motion during a LiDAR turn, no weather, no sweeps. The story is told for six
seconds; a longer drive merely goes on down the street.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import ConfigError
from .nuscenes.geometry import (
    Float64,
    points_in_box,
    rigid_transform,
    transform_points,
    yaw_quaternion,
)
from .nuscenes.writer import VISIBILITY_LEVELS, NuScenesWriter
from .rig import CAMERAS, KEYFRAME_HZ, LIDAR
from .sketch_render import Block, Blocks, SketchCamera, painted
from .sketch_street import CROSSING_X, EGO_LANE_Y, Actor, cast_of, scenery_of

IMAGE_SIZE = (800, 450)

_EGO_SPEED_MPS = 5.0
_FIRST_STAMP_NS = 1_700_000_000_000_000_000
_RANGE_NOISE_M = 0.01
_ANNOTATED_WITHIN_M = 60.0

# The street lies turned and far from the origin, as real ones do, so that a mixed-up frame shows.
_STREET_YAW_RAD = 0.6
_GLOBAL_FROM_STREET = rigid_transform((612.0, 1604.0, 0.0), yaw_quaternion(_STREET_YAW_RAD))


def make_sketch_drive(out: Path, seed: int = 7, seconds: float = 6.0) -> Path:
    """Render a drive and write it as a nuScenes data set, version `v1.0-mini`.

    Args:
        out: the dataroot to make; must not exist.
        seed: of colours, of what stands where, and of the range noise.
        seconds: length; two keyframes a second, no sweeps.

    Returns:
        `out`.

    Raises:
        ConfigError: the length or the seed makes no drive.
        DataError: `out` is there already.
    """
    if not 0.5 <= seconds <= 120 or seed < 0:
        raise ConfigError(
            f"seconds is {seconds} and seed is {seed}",
            field="sketch drive",
            remedy="take 0.5 to 120 seconds and a seed from 0",
        )
    rng = np.random.default_rng(seed)
    length = seconds * _EGO_SPEED_MPS + 120
    actors, scenery = cast_of(rng, length), scenery_of(rng, length)
    cameras: dict[str, SketchCamera] = {}
    with NuScenesWriter(Path(out)) as writer:
        for mount in CAMERAS:
            intrinsic = mount.intrinsic(IMAGE_SIZE[0])
            writer.add_sensor(mount.channel, "camera", mount.translation, mount.rotation, intrinsic)
            cameras[mount.channel] = SketchCamera(intrinsic, IMAGE_SIZE, mount.ego_from_camera)
        writer.add_sensor(LIDAR.channel, "lidar", LIDAR.translation, LIDAR.rotation)
        writer.begin_scene(
            "scene-0001",
            "Sketch of a street: parked cars, people on the pavements, a zebra crossing",
            logfile="sketch",
            location="sketch-street",
            date_captured="2023-11-14",
        )
        for keyframe in range(int(seconds * KEYFRAME_HZ)):
            _write_keyframe(writer, keyframe / KEYFRAME_HZ, actors, scenery, cameras, rng)
    return Path(out)


def _write_keyframe(
    writer: NuScenesWriter,
    time_s: float,
    actors: Sequence[Actor],
    scenery: Sequence[Block],
    cameras: dict[str, SketchCamera],
    rng: np.random.Generator,
) -> None:
    stamp_ns = _FIRST_STAMP_NS + round(time_s * 1e9)
    writer.begin_sample(stamp_ns)
    for mount in CAMERAS:
        channel, earlier_us = mount.channel, mount.leads_by_us
        moment_s = time_s - earlier_us / 1e6
        blocks = Blocks([*scenery, *(b for actor in actors for b in actor.blocks(moment_s))])
        jpeg = io.BytesIO()
        picture = cameras[channel].picture(blocks, _street_from_ego(moment_s), CROSSING_X)
        picture.save(jpeg, format="JPEG", quality=88)
        _add_frame(writer, channel, stamp_ns - earlier_us * 1000, jpeg.getvalue(), moment_s)

    blocks = Blocks([*scenery, *(b for actor in actors for b in actor.blocks(time_s))])
    street_from_lidar = _street_from_ego(time_s) @ LIDAR.ego_from_lidar
    cloud = _sweep(blocks, street_from_lidar, rng)
    _add_frame(writer, LIDAR.channel, stamp_ns, cloud, time_s)
    _annotate(writer, time_s, actors, blocks, street_from_lidar, cloud)


def _annotate(
    writer: NuScenesWriter,
    time_s: float,
    actors: Sequence[Actor],
    blocks: Blocks,
    street_from_lidar: Float64,
    cloud: NDArray[np.float32],
) -> None:
    """Annotate the things near by on which the LiDAR has a point."""
    # Points are counted in the global frame, from the float32 values that the file holds.
    points = transform_points(_GLOBAL_FROM_STREET @ street_from_lidar, cloud[:, :3])
    eye = street_from_lidar[:3, 3]
    near = [
        actor
        for actor in actors
        if math.dist(actor.position(time_s), eye[:2]) < _ANNOTATED_WITHIN_M
    ]
    for actor, visibility in zip(near, _visibilities(blocks, near, time_s, eye), strict=True):
        centre = transform_points(_GLOBAL_FROM_STREET, [actor.centre(time_s)])[0]
        rotation = yaw_quaternion(actor.yaw_rad + _STREET_YAW_RAD)
        num_points = int(points_in_box(points, centre, actor.size_wlh, rotation).sum())
        if num_points:
            writer.add_annotation(
                actor.name,
                actor.category,
                actor.attributes(time_s),
                centre.tolist(),
                actor.size_wlh,
                rotation,
                num_lidar_pts=num_points,
                visibility=visibility,
            )


def _add_frame(
    writer: NuScenesWriter,
    channel: str,
    stamp_ns: int,
    payload: bytes | NDArray[np.float32],
    time_s: float,
) -> None:
    ego = transform_points(_GLOBAL_FROM_STREET, _street_from_ego(time_s)[None, :3, 3])[0]
    writer.add_frame(channel, stamp_ns, payload, ego.tolist(), yaw_quaternion(_STREET_YAW_RAD))


def _street_from_ego(time_s: float) -> Float64:
    return rigid_transform((_EGO_SPEED_MPS * time_s, EGO_LANE_Y, 0.0), (1.0, 0.0, 0.0, 0.0))


def _sweep(
    blocks: Blocks, street_from_lidar: Float64, rng: np.random.Generator
) -> NDArray[np.float32]:
    """One turn of the LiDAR, taken at one moment: float32 `[n, 5]` in its own frame."""
    rings = np.arange(len(LIDAR.elevations_deg))
    azimuth = math.pi - np.arange(LIDAR.columns)[:, None] * (2 * math.pi / LIDAR.columns)
    elevation = np.radians(LIDAR.elevations_deg)[None]
    x, y = np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth)
    rays = np.stack([x, y, np.broadcast_to(np.sin(elevation), x.shape)], axis=-1).reshape(-1, 3)
    ring = np.tile(rings, LIDAR.columns)

    origin, directions = street_from_lidar[:3, 3], rays @ street_from_lidar[:3, :3].T
    ranges, rows, cosines = blocks.cast(origin, directions, LIDAR.range_m)
    reflectance = np.array([block.reflectance for block in blocks.blocks])[rows]
    with np.errstate(divide="ignore"):
        to_ground = np.where(directions[:, 2] < 0, -origin[2] / directions[:, 2], np.inf)
    ground = to_ground < ranges
    ranges = np.minimum(ranges, to_ground)
    met = origin + directions[ground] * to_ground[ground, None]
    on_paint = painted(met[:, 0], met[:, 1], CROSSING_X)
    reflectance[ground] = np.where(on_paint, 0.5, 0.1)
    cosines[ground] = -directions[ground, 2]

    back = ranges < LIDAR.range_m
    ranges = ranges[back] + rng.normal(0, _RANGE_NOISE_M, int(back.sum()))
    intensity = np.round(255 * reflectance[back] * (0.25 + 0.75 * cosines[back]))
    points = rays[back] * ranges[:, None]
    return np.column_stack([points, intensity, ring[back]]).astype(np.float32)


def _visibilities(
    blocks: Blocks, actors: Sequence[Actor], time_s: float, eye: Float64
) -> list[str]:
    """The nuScenes level of each thing: how much of it is seen, told at 27 places in its box.

    nuScenes means the six cameras; here the eye is the LiDAR on the roof.
    """
    steps = (-0.4, 0.0, 0.4)
    grid = np.array([[a, b, c] for a in steps for b in steps for c in steps])
    places = [
        transform_points(
            rigid_transform(actor.centre(time_s), yaw_quaternion(actor.yaw_rad)),
            grid * np.array(actor.size_wlh)[[1, 0, 2]],
        )
        for actor in actors
    ]
    offsets = np.array(places).reshape(-1, 3) - eye
    distances = np.linalg.norm(offsets, axis=1)
    ranges, rows, _ = blocks.cast(eye, offsets / distances[:, None], LIDAR.range_m)
    owners = np.array([block.owner for block in blocks.blocks] + [""])[rows]
    own = owners == np.repeat([actor.name for actor in actors], len(grid))
    shares = (own | (ranges >= distances)).reshape(-1, len(grid)).mean(axis=1)
    return [VISIBILITY_LEVELS[int(level)] for level in np.digitize(shares, (0.4, 0.6, 0.8))]
