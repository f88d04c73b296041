"""Real street layouts: annotated boxes and ego poses of nuScenes, without sensor files.

The file is the list of keyframes ("infos") that detection code bases make of nuScenes, as JSON.
Boxes of following keyframes are joined to tracks here; `layout_world` makes a world of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import DataError
from ..nuscenes.geometry import rigid_transform

Float64 = NDArray[np.float64]

CLASSES = (
    "car", "truck", "bus", "trailer", "construction_vehicle", "pedestrian", "motorcycle",
    "bicycle", "traffic_cone", "barrier",
)  # fmt: skip
_NEW_SCENE_AFTER_S = 2.0
_FORGOTTEN_AFTER_S = 1.6
_REMEDY = "check that the file is the JSON of nuScenes infos, whole and unchanged"


@dataclass(frozen=True, eq=False)
class LayoutTrack:
    """One thing over time.

    Attributes:
        kind: one of `CLASSES`.
        size_wlh: of its box, metres.
        times_s: float64 `[n]`, seconds since the scene's first keyframe.
        poses: float64 `[n, 3]`: x, y, yaw, world frame.
    """

    kind: str
    size_wlh: tuple[float, float, float]
    times_s: Float64
    poses: Float64


@dataclass(frozen=True, eq=False)
class Layout:
    """One scene: who was where.

    Attributes:
        name: from its first keyframe's token.
        location: of nuScenes.
        times_s: float64 `[k]` of the keyframes, from 0.
        ego: float64 `[k, 3]`: x, y, yaw, world frame; the first is at its origin.
        global_from_world: float64 `[4, 4]`, the shift to the first ego position.
        tracks: all that was annotated.
    """

    name: str
    location: str
    times_s: Float64
    ego: Float64
    global_from_world: Float64
    tracks: tuple[LayoutTrack, ...]


@dataclass(frozen=True, eq=False)
class _Keyframe:
    token: str
    location: str
    stamp_s: float
    ego: Float64  # x y yaw, global
    kinds: list[str]
    sizes: Float64
    poses: Float64  # x y yaw, global
    velocities: Float64  # global


def read_layouts(path: Path | str) -> tuple[Layout, ...]:
    """Read the scenes of a file.

    Args:
        path: JSON with a list `infos` of keyframes: `token`, `timestamp` (microseconds),
            `location`, `lidar2ego_*`, `ego2global_*`, `gt_boxes` (x y z w l h yaw in the LiDAR
            frame, yaw turned clockwise from its y axis), `gt_names`, `gt_velocity`.

    Returns:
        The scenes in the order of their stamps.

    Raises:
        DataError: the file cannot be read, or a record is wrong; its field is named.
    """
    path = Path(path)
    try:
        data: object = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"the layouts cannot be read: {error.strerror}", field=str(path),
            remedy="name a file of nuScenes infos in JSON",
        ) from error  # fmt: skip
    except (ValueError, RecursionError) as error:
        raise DataError("this is not JSON", field=str(path), remedy=_REMEDY) from error
    infos = cast("dict[str, object]", data).get("infos") if isinstance(data, dict) else None
    if not isinstance(infos, list) or not infos:
        raise DataError("there is no list of keyframes", field=f"{path}: infos", remedy=_REMEDY)
    rows = cast("list[object]", infos)
    frames = [_keyframe(row, f"{path}: infos[{number}]") for number, row in enumerate(rows)]
    frames.sort(key=lambda frame: frame.stamp_s)
    scenes: list[list[_Keyframe]] = []
    for frame in frames:
        if not scenes or frame.stamp_s - scenes[-1][-1].stamp_s > _NEW_SCENE_AFTER_S:
            scenes.append([])
        scenes[-1].append(frame)
    return tuple(_layout(scene) for scene in scenes if len(scene) > 1)


def _keyframe(row: object, where: str) -> _Keyframe:
    if not isinstance(row, dict):
        raise DataError("a keyframe is not a record", field=where, remedy=_REMEDY)
    record = cast("Mapping[str, Any]", row)
    token = record.get("token")
    location = record.get("location", "unknown")
    if not isinstance(token, str) or not token:
        raise DataError("a token is missing", field=f"{where}.token", remedy=_REMEDY)
    if not isinstance(location, str):
        raise DataError("a location is not text", field=f"{where}.location", remedy=_REMEDY)
    stamp = float(_numbers(record, "timestamp", (), where))
    boxes = _numbers(record, "gt_boxes", (None, 7), where)
    names = record.get("gt_names")
    if not isinstance(names, list) or len(cast("list[object]", names)) != len(boxes):
        raise DataError("there is not one name for each box", field=f"{where}.gt_names",
                        remedy=_REMEDY)  # fmt: skip
    velocities = _numbers(record, "gt_velocity", (len(boxes), 2), where, may_be_unknown=True)
    lidar = rigid_transform(
        _numbers(record, "lidar2ego_translation", (3,), where),
        _numbers(record, "lidar2ego_rotation", (4,), where),
    )
    ego = rigid_transform(
        _numbers(record, "ego2global_translation", (3,), where),
        _numbers(record, "ego2global_rotation", (4,), where),
    )
    if len(boxes) and not (boxes[:, 3:6] > 0).all():
        raise DataError("a box has no size", field=f"{where}.gt_boxes", remedy=_REMEDY)
    known = [k for k, name in enumerate(cast("list[object]", names)) if name in CLASSES]
    boxes, velocities = boxes[known], velocities[known]
    pose = ego @ lidar
    yaw = -boxes[:, 6] - math.pi / 2
    front = np.stack([np.cos(yaw), np.sin(yaw), np.zeros(len(yaw))], axis=1) @ pose[:3, :3].T
    places = boxes[:, :3] @ pose[:3, :3].T + pose[:3, 3]
    flat = np.column_stack([velocities, np.zeros(len(velocities))]) @ pose[:3, :3].T
    return _Keyframe(
        token, location, stamp / 1e6,
        np.array([ego[0, 3], ego[1, 3], math.atan2(ego[1, 0], ego[0, 0])]),
        [str(cast("list[object]", names)[k]) for k in known], boxes[:, 3:6],
        np.column_stack([places[:, :2], np.arctan2(front[:, 1], front[:, 0])]), flat[:, :2],
    )  # fmt: skip


def _numbers(
    record: Mapping[str, Any],
    name: str,
    shape: Sequence[int | None],
    where: str,
    *,
    may_be_unknown: bool = False,
) -> Float64:
    """A field as float64 of a shape, None for any length; unknown (NaN) numbers become 0."""
    try:
        values = np.asarray(record[name], dtype=np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError("numbers are missing", field=f"{where}.{name}", remedy=_REMEDY) from error
    if values.size == 0 and shape and shape[0] in (None, 0):
        values = values.reshape([0 if side is None else side for side in shape])
    fits = len(values.shape) == len(shape) and all(
        want is None or want == have for want, have in zip(shape, values.shape, strict=True)
    )
    if not fits:
        raise DataError(f"the shape is {list(values.shape)}", field=f"{where}.{name}",
                        remedy=_REMEDY)  # fmt: skip
    if may_be_unknown:
        values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    if not np.isfinite(values).all():
        raise DataError("a number is not finite", field=f"{where}.{name}", remedy=_REMEDY)
    if "rotation" in name and not 0.9 < float(np.linalg.norm(values)) < 1.1:
        raise DataError("a quaternion is not of length 1", field=f"{where}.{name}", remedy=_REMEDY)
    return values


@dataclass
class _Open:
    """A track that may go on."""

    kind: str
    size: Float64
    times: list[float]
    poses: list[Float64]
    velocity: Float64

    def expected(self, time_s: float) -> Float64:
        return self.poses[-1][:2] + self.velocity * (time_s - self.times[-1])


def _layout(frames: list[_Keyframe]) -> Layout:
    start = frames[0].stamp_s
    tracks: list[_Open] = []
    for frame in frames:
        now = frame.stamp_s - start
        open_tracks = [track for track in tracks if now - track.times[-1] < _FORGOTTEN_AFTER_S]
        taken = _pairs(open_tracks, frame, now)
        for box, kind in enumerate(frame.kinds):
            track = taken.get(box)
            if track is None:
                track = _Open(kind, frame.sizes[box], [], [], frame.velocities[box])
                tracks.append(track)
            track.times.append(now)
            track.poses.append(frame.poses[box])
            track.velocity = frame.velocities[box]
    origin = frames[0].ego[:2]
    shift = np.eye(4)
    shift[:2, 3] = origin
    return Layout(
        f"scene-{frames[0].token[:8]}",
        frames[0].location,
        np.array([frame.stamp_s - start for frame in frames]),
        np.array([frame.ego for frame in frames]) - [*origin, 0.0],
        shift,
        tuple(
            LayoutTrack(
                track.kind,
                (float(track.size[0]), float(track.size[1]), float(track.size[2])),
                np.array(track.times),
                np.array(track.poses) - [*origin, 0.0],
            )
            for track in tracks
        ),
    )


def _pairs(tracks: list[_Open], frame: _Keyframe, now: float) -> dict[int, _Open]:
    """Which box goes on which track, nearest pairs first.

    An instance of nuScenes keeps its box size for good, so class and size tell nearly all.
    """
    pairs: list[tuple[float, int, int]] = []
    for number, track in enumerate(tracks):
        same = np.abs(frame.sizes - track.size).max(axis=1) < 2e-3
        expected = track.expected(now)
        speed = float(np.hypot(*track.velocity))
        gate = 1.5 + (now - track.times[-1]) * (1.5 + 0.4 * speed)
        for box in np.flatnonzero(same).tolist():
            apart = float(np.hypot(*(frame.poses[box, :2] - expected)))
            if frame.kinds[box] == track.kind and apart < gate:
                pairs.append((apart, number, box))
    used: set[int] = set()
    taken: dict[int, _Open] = {}
    for _, number, box in sorted(pairs):
        if number not in used and box not in taken:
            used.add(number)
            taken[box] = tracks[number]
    return taken
