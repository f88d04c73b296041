"""Records a replay for the viewer of Rerun: images, points, boxes, and answers as a text log.

Sensors hang below `ego`, mounted as the drive says; time is sensor time.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...kernels.object_tokens import OBJECT_CLASSES
from ...runtime.errors import ConfigError, SensorError
from ...runtime.files import partial_name
from ...runtime.frames import SensorFrame
from ..nuscenes import Calibration
from ..nuscenes.geometry import (
    inverse_rigid,
    rotation_matrix,
    transform_points,
)
from ..nuscenes.source import NuScenesDrive
from ..source import DriveSource
from .player import PlayedStep

_TIMELINE = "sensor_time"
_POINT_RADIUS_M = 0.04


def check_rerun() -> Any:
    """The module of Rerun.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import rerun  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigError(
            "the SDK of Rerun is not installed",
            field="--rerun",
            remedy="pip install 'tailwire[viz]'",
        ) from error
    return rerun


class RerunRecording:
    """One `.rrd` file; use it in a `with` block. The file takes its name when the block ends."""

    def __init__(self, path: Path) -> None:
        """Begin to write beside `path`.

        Raises:
            ConfigError: Rerun is not installed, or the file cannot be written.
        """
        self._rr = check_rerun()
        self._path = path
        self._temporary = path.with_name(partial_name(path.name))
        self._stream: Any = self._rr.RecordingStream("tailwire_replay")
        try:
            # Rerun reports a file it cannot write much later and in its own words.
            self._temporary.touch(exist_ok=False)
            self._stream.save(self._temporary)
        except (OSError, RuntimeError) as error:
            raise _not_writable(path, error) from error
        self._drive: DriveSource | None = None

    def __enter__(self) -> RerunRecording:
        return self

    def __exit__(self, *_: object) -> None:
        # What has been recorded until an interrupt is worth having.
        self._stream.flush()
        self._stream.disconnect()
        try:
            self._temporary.replace(self._path)
        except OSError as error:
            raise _not_writable(self._path, error) from error
        finally:
            with suppress(OSError):
                self._temporary.unlink()

    def begin(self, drive: DriveSource) -> None:
        """Begin a drive: its sensors are mounted."""
        self._drive = drive
        if drive.keyframes:
            self._set_time(drive.keyframes[0].stamp_ns)
        for sensor, calibration in _calibrations(drive).items():
            mounted = calibration.ego_from_sensor
            entity = f"ego/{sensor}"
            self._stream.log(
                entity, self._rr.Transform3D(translation=mounted[:3, 3], mat3x3=mounted[:3, :3])
            )
            if calibration.intrinsic is not None:
                self._stream.log(
                    entity,
                    self._rr.Pinhole(
                        image_from_camera=calibration.intrinsic,
                        camera_xyz=self._rr.ViewCoordinates.RDF,
                    ),
                )

    def frame(self, frame: SensorFrame) -> None:
        """Record a frame that the runtime has got."""
        self._set_time(frame.stamp_ns)
        entity = f"ego/{frame.sensor}"
        if isinstance(frame.payload, bytes):
            self._stream.log(
                entity,
                self._rr.EncodedImage(
                    contents=frame.payload, media_type=_media_type(frame.payload)
                ),
            )
        elif frame.modality == "camera":
            self._stream.log(entity, self._rr.Image(np.asarray(frame.payload)))
        elif frame.modality == "objects":
            self._objects(entity, np.asarray(frame.payload, np.float32))
        else:
            cloud = np.asarray(frame.payload, np.float32)
            self._stream.log(
                entity,
                self._rr.Points3D(cloud[:, :3], colors=_grey(cloud[:, 3]), radii=_POINT_RADIUS_M),
            )

    def _objects(self, entity: str, objects: NDArray[np.float32]) -> None:
        if not len(objects):
            self._stream.log(entity, self._rr.Clear(recursive=False))
            return
        self._stream.log(
            entity,
            self._rr.Boxes3D(
                centers=objects[:, 2:5],
                half_sizes=objects[:, 5:8] / 2,
                rotation_axis_angles=[
                    self._rr.RotationAxisAngle(axis=(0, 0, 1), radians=float(yaw))
                    for yaw in objects[:, 8]
                ],
                labels=[OBJECT_CLASSES[int(number)] for number in objects[:, 0]],
            ),
        )

    def step(self, step: PlayedStep) -> None:
        """Record the boxes of a keyframe and the answers to its questions."""
        self._set_time(step.moment.stamp_ns)
        if isinstance(self._drive, NuScenesDrive) and step.moment.sample_token is not None:
            self._boxes(self._drive, step.moment.sample_token)
        for planned, answer in zip(step.planned, step.answers, strict=True):
            verdict, level = "", self._rr.TextLogLevel.INFO
            if planned.expected is not None:
                right = planned.expected == answer.text
                verdict = " (right)" if right else f" (expected {planned.expected})"
                level = self._rr.TextLogLevel.INFO if right else self._rr.TextLogLevel.WARN
            text = f"{answer.question} {answer.text}{verdict}"
            self._stream.log("answers", self._rr.TextLog(text, level=level))
        self._stream.log("step_ms", self._rr.Scalars(step.step_ms))

    def _boxes(self, drive: NuScenesDrive, sample_token: str) -> None:
        try:
            lidar = next(name for name in drive.sensors if name.startswith("lidar"))
            ego = drive.data.ego_pose(drive.data.sample_data(lidar, sample_token))
        except (StopIteration, SensorError):
            return
        boxes = drive.data.annotations(sample_token)
        if not boxes:
            self._stream.log("ego/boxes", self._rr.Clear(recursive=False))
            return
        ego_from_global = inverse_rigid(ego)
        yaws = [_yaw(ego_from_global[:3, :3] @ rotation_matrix(box.rotation)) for box in boxes]
        self._stream.log(
            "ego/boxes",
            self._rr.Boxes3D(
                centers=transform_points(ego_from_global, [box.translation for box in boxes]),
                half_sizes=[
                    (length / 2, width / 2, height / 2)
                    for width, length, height in (box.size_wlh for box in boxes)
                ],
                rotation_axis_angles=[
                    self._rr.RotationAxisAngle(axis=(0, 0, 1), radians=yaw) for yaw in yaws
                ],
                labels=[box.category for box in boxes],
            ),
        )

    def _set_time(self, stamp_ns: int) -> None:
        self._stream.set_time(_TIMELINE, timestamp=np.datetime64(stamp_ns, "ns"))


def _calibrations(drive: DriveSource) -> Mapping[str, Calibration]:
    if isinstance(drive, NuScenesDrive):
        found: dict[str, Calibration] = {}
        for sensor in drive.sensors:
            with suppress(SensorError):
                found[sensor] = drive.data.calibration(sensor, drive.keyframes[0].sample_token)
        return found
    calibrations = getattr(drive, "calibrations", None)
    return {} if calibrations is None else calibrations()


def _media_type(payload: bytes) -> str:
    return "image/png" if payload.startswith(b"\x89PNG") else "image/jpeg"


def _yaw(rotation: Any) -> float:
    return float(np.arctan2(rotation[1, 0], rotation[0, 0]))


def _grey(intensity: Any) -> Any:
    """Brightness by intensity, uint8 `[n, 3]`; the dark points of asphalt stay visible."""
    level = 70 + 185 * np.sqrt(np.clip(intensity, 0, 255) / 255)
    return np.repeat(level.astype(np.uint8)[:, None], 3, axis=1)


def _not_writable(path: Path, error: Exception) -> ConfigError:
    return ConfigError(
        f"the recording cannot be written: {error}",
        field=str(path),
        remedy="name a file in a folder that can be written with --rerun",
    )
