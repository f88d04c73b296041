"""Frames as encoders take them: pictures, range images, sweeps from above, tokens.

Everything that depends on where a sensor was is worked out here; engines see arrays only.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..kernels.bev_grid import bev_grid
from ..kernels.direction_tokens import RADAR_COLUMNS, radar_directions, sound_directions
from ..kernels.image import decode_image, placement, preprocess_image
from ..kernels.object_tokens import OBJECT_COLUMNS, SECTOR_MIDDLES_DEG, object_tokens
from ..kernels.range_image import range_image
from .compiled_kernels import compiled_arrays
from .encoder_specs import BevInput, CameraInput, LidarInput
from .errors import SensorError
from .frames import Float64, SensorFrame, SensorGeometry

Float = NDArray[np.float32]

_MOUNT_REMEDY = (
    "send its SensorFrame.geometry with the frame, or give the sensor a mount in the pack.yaml"
)
_X, _YAW, _VX = (OBJECT_COLUMNS.index(name) for name in ("x", "yaw", "vx"))


def image_of(frame: SensorFrame, spec: CameraInput) -> Float:
    """The picture of a camera, float32 `spec.shape`.

    Raises:
        SensorError: it is none, or damaged.
    """
    target = (spec.height, spec.width, spec.mean, spec.std)
    library, _ = compiled_arrays()
    try:
        if isinstance(frame.payload, bytes):
            return decode_image(frame.payload, *target, library=library)
        if isinstance(frame.payload, np.ndarray):
            return preprocess_image(frame.payload, *target, library=library)  # pyright: ignore[reportArgumentType] - dtype is checked there
    except ValueError as error:
        raise SensorError(
            str(error),
            field=frame.sensor,
            remedy="send uint8 RGB [H, W, 3] or a whole JPEG or PNG file; "
            "for damaged files check the camera's driver and link",
        ) from error
    raise _unknown_payload(frame, "uint8 RGB [H, W, 3] or the bytes of a JPEG or PNG file")


def camera_geometry_of(frame: SensorFrame, spec: CameraInput) -> Float:
    """How the encoder's picture (not the camera's) projects, and where the camera was.

    Args:
        frame: whose picture `image_of` accepts.
        spec: of the encoder's picture.

    Returns:
        float32 `[16]`: fx, fy, cx, cy in pixels of the encoder's picture, then the upper 3x4 of
        ego_from_camera row by row, metres.

    Raises:
        SensorError: the frame does not say so.
    """
    geometry = _required(frame)
    if geometry.intrinsic is None:
        raise SensorError(
            "how the camera projects is not known: there is no intrinsic matrix",
            field=frame.sensor,
            remedy=_MOUNT_REMEDY + " with its intrinsic",
        )
    placed = placement(frame.payload, spec.height, spec.width)  # pyright: ignore[reportArgumentType] - a picture
    width, height = geometry.image_size or (placed.picture_width, placed.picture_height)
    # The matrix may be of the sensor's full resolution, and the picture have come smaller.
    sent_x, sent_y = placed.picture_width / width, placed.picture_height / height
    (fx, _, cx), (_, fy, cy), _ = geometry.intrinsic
    lens = (
        fx * sent_x * placed.scale_x,
        fy * sent_y * placed.scale_y,
        (cx * sent_x - placed.left) * placed.scale_x,
        (cy * sent_y - placed.top) * placed.scale_y,
    )
    return np.concatenate([lens, geometry.ego_from_sensor[:3].reshape(-1)]).astype(np.float32)


def range_image_of(frame: SensorFrame, spec: LidarInput) -> Float:
    """A sweep as a range image, float32 `spec.shape`.

    Raises:
        SensorError: the payload is no cloud, or empty.
    """
    if not isinstance(frame.payload, np.ndarray):
        raise _unknown_payload(frame, "float32 [n, 4+]")
    try:
        return range_image(
            frame.payload,  # pyright: ignore[reportArgumentType] - dtype is checked there
            spec.height,
            spec.width,
            spec.fov_up_deg,
            spec.fov_down_deg,
            intensity_max=spec.intensity_max,
            mean=spec.mean,
            std=spec.std,
            library=compiled_arrays()[0],
        )
    except ValueError as error:
        raise _bad_cloud(frame, error) from error


def bev_grid_of(frame: SensorFrame, previous: SensorFrame | None, spec: BevInput) -> Float:
    """A sweep from above in its ego frame, an earlier one moved into the same, `spec.shape`.

    The earlier sweep is left out where one of both does not say where the vehicle was.

    Raises:
        SensorError: the payload is no cloud, or empty, or where the LiDAR sits is not known.
    """
    geometry = _required(frame)
    moved = None if previous is None else _earlier_in(geometry, previous)
    library, _ = compiled_arrays()
    make = partial(bev_grid, range_m=spec.range_m, cell_m=spec.cell_m, library=library)
    try:
        points = _transformed(frame, geometry.ego_from_sensor)
        if previous is None or moved is None:
            return make(points)
        seconds = (frame.stamp_ns - previous.stamp_ns) * 1e-9
        return make(points, moved, seconds)
    except ValueError as error:
        raise _bad_cloud(frame, error) from error


def sweep_in_frame_of(now: SensorFrame, sweep: SensorFrame) -> Float | None:
    """Points of a sweep, x y z intensity, in the ego frame at the stamp of another one.

    Returns:
        float32 `[n, 4]`, None where one of both does not say where the vehicle was.

    Raises:
        SensorError: where the LiDAR of `now` sits is not known, or the payload is no cloud.
    """
    return _earlier_in(_required(now), sweep)


def object_tokens_of(frame: SensorFrame, tokens: int) -> Float:
    """Object tokens of given objects, float32 `[tokens, 64]`.

    Raises:
        SensorError: the payload is no list of objects.
    """
    objects = frame.payload
    if not isinstance(objects, np.ndarray):
        raise _unknown_payload(frame, f"float32 [n, {len(OBJECT_COLUMNS)}]")
    try:
        if frame.geometry is not None and objects.shape[1:] == (len(OBJECT_COLUMNS),):
            objects = _objects_in_ego(objects, frame.geometry.ego_from_sensor)
        return object_tokens(objects, tokens)  # pyright: ignore[reportArgumentType] - dtype is checked there
    except ValueError as error:
        raise SensorError(
            str(error),
            field=frame.sensor,
            remedy=f"send float32 [n, {len(OBJECT_COLUMNS)}] of {' '.join(OBJECT_COLUMNS)}, "
            "status -1 and velocities NaN where unknown",
        ) from error


def radar_tokens_of(frame: SensorFrame) -> Float:
    """Direction tokens of radar returns, float32 `[6, 64]`.

    Raises:
        SensorError: the payload is no list of returns.
    """
    returns = _array_of(frame, f"float32 [n, {len(RADAR_COLUMNS)}]")
    geometry = frame.geometry
    try:
        if geometry is not None and returns.shape[1:] == (len(RADAR_COLUMNS),):
            moved = returns.copy()
            rotation = geometry.ego_from_sensor[:2, :2]
            moved[:, :2] = returns[:, :2] @ rotation.T + geometry.ego_from_sensor[:2, 3]
            returns = moved
        return radar_directions(returns)
    except ValueError as error:
        raise SensorError(
            str(error),
            field=frame.sensor,
            remedy=f"send float32 [n, {len(RADAR_COLUMNS)}] of {' '.join(RADAR_COLUMNS)}",
        ) from error


def sound_tokens_of(frame: SensorFrame) -> Float:
    """Direction tokens of levels of sound, float32 `[6, 64]`.

    Raises:
        SensorError: the payload is no levels.
    """
    try:
        return sound_directions(_array_of(frame, "float32 [moments, 6, 8]"))
    except ValueError as error:
        raise SensorError(
            str(error),
            field=frame.sensor,
            remedy="send float32 [moments, 6 microphones, 8 octave bands], dB over 20 uPa",
        ) from error


def directions_in_view(geometry: Float, width: int) -> NDArray[np.bool_]:
    """Of the six directions, those whose middle a camera looks to.

    Args:
        geometry: see `camera_geometry_of`.
        width: of the encoder's picture, pixels.
    """
    focal, ego_from_camera = float(geometry[0]), geometry[4:].reshape(3, 4)
    ahead = math.atan2(float(ego_from_camera[1, 2]), float(ego_from_camera[0, 2]))
    apart = np.deg2rad(SECTOR_MIDDLES_DEG) - ahead
    return np.abs(np.arctan2(np.sin(apart), np.cos(apart))) < math.atan2(width / 2, focal)


def _array_of(frame: SensorFrame, wanted: str) -> Float:
    if not isinstance(frame.payload, np.ndarray) or frame.payload.dtype != np.float32:
        raise _unknown_payload(frame, wanted)
    return frame.payload  # pyright: ignore[reportReturnType] - dtype is checked


def _required(frame: SensorFrame) -> SensorGeometry:
    if frame.geometry is None:
        raise SensorError(
            "where the sensor sits on the vehicle is not known, and its encoder needs it",
            field=frame.sensor,
            remedy=_MOUNT_REMEDY,
        )
    return frame.geometry


def _earlier_in(now: SensorGeometry, previous: SensorFrame) -> Float | None:
    """The points of an earlier frame in the present ego frame, None where motion is not known."""
    then = previous.geometry
    if then is None or then.global_from_ego is None or now.global_from_ego is None:
        return None
    present, past = now.global_from_ego, then.global_from_ego
    now_from_then = np.eye(4)
    now_from_then[:3, :3] = present[:3, :3].T @ past[:3, :3]
    # Places on a map are far from its origin, so their difference is taken before all else.
    now_from_then[:3, 3] = present[:3, :3].T @ (past[:3, 3] - present[:3, 3])
    return _transformed(previous, now_from_then @ then.ego_from_sensor)


def _transformed(frame: SensorFrame, transform: Float64) -> Float:
    """x y z moved, and intensity, float32 `[n, 4]`."""
    points = frame.payload
    if not isinstance(points, np.ndarray):
        raise _unknown_payload(frame, "float32 [n, 4+]")
    if points.dtype != np.float32 or points.ndim != 2 or points.shape[1] < 4:
        raise ValueError(f"a cloud is float32 [n, 4+], got {points.dtype} {list(points.shape)}")
    result = np.array(points[:, :4], np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        # Points that are not finite stay so, and are left out where the grid is made.
        moved = points[:, :3] @ transform[:3, :3].T.astype(np.float32)
        result[:, :3] = moved + transform[:3, 3].astype(np.float32)
    return result


def _objects_in_ego(objects: NDArray[np.generic], ego_from_sensor: Float64) -> NDArray[np.generic]:
    rotation = ego_from_sensor[:3, :3]
    moved = objects.copy()
    with np.errstate(invalid="ignore", over="ignore"):
        moved[:, _X : _X + 3] = objects[:, _X : _X + 3] @ rotation.T + ego_from_sensor[:3, 3]
        moved[:, _YAW] += math.atan2(rotation[1, 0], rotation[0, 0])
        moved[:, _VX : _VX + 2] = objects[:, _VX : _VX + 2] @ rotation[:2, :2].T
    return moved


def _bad_cloud(frame: SensorFrame, error: ValueError) -> SensorError:
    return SensorError(
        str(error),
        field=frame.sensor,
        remedy="send float32 [n, 4+] of x y z intensity with at least one finite point; "
        "for empty clouds check the LiDAR's driver and its field of view",
    )


def _unknown_payload(frame: SensorFrame, wanted: str) -> SensorError:
    return SensorError(
        f"the payload is a {type(frame.payload).__name__}",
        field=frame.sensor,
        remedy=f"send {wanted}",
    )
