"""One scene of a made drive: its world, looked at by the sensors at the times of nuScenes.

Keyframes stand every half second; the LiDAR's stamp is that of the keyframe, and each camera fires
a little earlier, as on the vehicle of nuScenes. Frames between keyframes are sweeps.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .drive_parameters import DriveParameters
from .lidar import LidarScanner, RayWorld
from .made_annotations import Annotator
from .meshes.library import MeshLibrary
from .nuscenes.geometry import yaw_quaternion
from .nuscenes.scene_writer import Mounts, SceneWriter
from .rig import CAMERAS, KEYFRAME_HZ, LIDAR, CameraMount
from .world import World

#: The first keyframe; the cameras fire before it, and the world has to be there already.
_LEAD_IN_S = 0.1
_JPEG_QUALITY = 88
_US = 1_000_000


class Renderer(Protocol):
    """What makes pictures of a world."""

    def render(
        self, world: World, time_s: float, mount: CameraMount, width: int
    ) -> NDArray[np.uint8]:
        """The image of a camera at a moment, uint8 `[height, width, 3]` RGB, 16 : 9."""
        ...


@dataclass(frozen=True)
class _Shot:
    """One frame to take.

    Attributes:
        stamp_us: since the start of the scene.
        camera: None for the LiDAR.
        is_key_frame: False for a sweep.
    """

    stamp_us: int
    camera: CameraMount | None
    is_key_frame: bool


def made_world(parameters: DriveParameters, index: int) -> World:
    """The world of a scene.

    Args:
        parameters: of the drive.
        index: of the scene, from 0.

    Raises:
        DataError: the file of layouts is no such file.
    """
    duration_s = parameters.seconds + 2 * _LEAD_IN_S
    condition = parameters.condition(index)
    if parameters.layouts is None:
        from .world import make_world

        return make_world(parameters.seed, index, duration_s, condition)
    from .world import read_layouts, world_of_layout

    layouts = read_layouts(parameters.layouts)
    # A layout that is taken again gets other surroundings.
    (seed,) = np.random.SeedSequence([parameters.seed, index]).generate_state(1).tolist()
    return world_of_layout(layouts[index % len(layouts)], seed, duration_s, condition)


def make_scene(
    root: Path,
    parameters: DriveParameters,
    index: int,
    on_keyframe: Callable[[int], None] = lambda _: None,
) -> None:
    """As `write_scene`, with the renderer and the meshes that the parameters name.

    Raises:
        EngineError: the renderer is not to be had here.
    """
    from .cameras import open_renderer

    # Each scene has meshes of its own, so that nothing piles up over many scenes.
    library = MeshLibrary(parameters.meshes)
    with closing(open_renderer(parameters.renderer, library)) as renderer:
        write_scene(root, parameters, index, library, renderer, on_keyframe)


def write_scene(
    root: Path,
    parameters: DriveParameters,
    index: int,
    library: MeshLibrary,
    renderer: Renderer,
    on_keyframe: Callable[[int], None] = lambda _: None,
) -> None:
    """Make a scene and write it below a data set's folder.

    Args:
        root: the data set's folder, while it is written.
        parameters: of the drive.
        index: of the scene, from 0.
        library: of meshes.
        renderer: for the cameras.
        on_keyframe: told how many keyframes of the scene are done.

    Raises:
        ConfigError: the world cannot be made of these parameters.
        EngineError: rays cannot be cast here.
        DataError: the file of layouts or a record of the scene is wrong.
    """
    world = made_world(parameters, index)
    start = parameters.start(index)
    writer = SceneWriter(
        root,
        _mounts(parameters.image_width),
        parameters.scene_name(index),
        world.description,
        logfile=parameters.logfile(index, world.location),
        location=world.location,
        date_captured=f"{start:%Y-%m-%d}",
        data_set=parameters.identity,
    )
    start_us = round(start.timestamp()) * _US
    rays = RayWorld(world, library)
    scanner = LidarScanner(world, rays, (parameters.seed, index))
    annotator = Annotator(world, rays)
    # A real layout may be shorter than asked for.
    end_us = world.duration_s * _US
    for keyframe in range(parameters.keyframes_per_scene):
        stamp_us = round(_LEAD_IN_S * _US) + keyframe * _US // KEYFRAME_HZ
        if stamp_us > end_us:
            break
        writer.begin_sample((start_us + stamp_us) * 1000)
        for shot in _shots(parameters, stamp_us):
            if shot.stamp_us > end_us:
                continue
            time_s = shot.stamp_us / _US
            if shot.camera is not None:
                payload = _jpeg(renderer.render(world, time_s, shot.camera, parameters.image_width))
            else:
                moment = rays.at(time_s)
                payload = scanner.sweep(time_s, moment).cloud
                if shot.is_key_frame:
                    for box in annotator.boxes(time_s, moment, payload):
                        writer.add_annotation(**vars(box))
            writer.add_frame(
                LIDAR.channel if shot.camera is None else shot.camera.channel,
                (start_us + shot.stamp_us) * 1000,
                payload,
                *_global_ego_pose(world, time_s),
                is_key_frame=shot.is_key_frame,
            )
        on_keyframe(keyframe + 1)
    writer.finish()


def _shots(parameters: DriveParameters, keyframe_us: int) -> Iterator[_Shot]:
    """The frames from one keyframe to just before the next."""
    for step in range(parameters.camera_hz // KEYFRAME_HZ):
        later_us = round(step * _US / parameters.camera_hz)
        for camera in CAMERAS:
            yield _Shot(keyframe_us + later_us - camera.leads_by_us, camera, step == 0)
    for step in range(parameters.lidar_hz // KEYFRAME_HZ):
        yield _Shot(keyframe_us + round(step * _US / parameters.lidar_hz), None, step == 0)


def _mounts(image_width: int) -> Mounts:
    mounts = Mounts()
    for camera in CAMERAS:
        intrinsic = camera.intrinsic(image_width)
        mounts.add(camera.channel, "camera", camera.translation, camera.rotation, intrinsic)
    mounts.add(LIDAR.channel, "lidar", LIDAR.translation, LIDAR.rotation)
    return mounts


def _global_ego_pose(
    world: World, time_s: float
) -> tuple[list[float], tuple[float, float, float, float]]:
    pose = world.global_from_world @ world.ego_pose(time_s)
    return pose[:3, 3].tolist(), yaw_quaternion(math.atan2(pose[1, 0], pose[0, 0]))


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="JPEG", quality=_JPEG_QUALITY)
    return stream.getvalue()
