"""Ground truth as a sensor: the annotated objects of keyframes, as a perfect detector gives them.

The sensor is called `objects`. It sees what questions may be asked about, and is given only where
it is asked for by name: answers from it bound what other sensors can reach, they are no perception.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ..kernels.object_tokens import OBJECT_CLASSES, OBJECT_COLUMNS, OBJECT_STATUSES
from ..runtime.errors import DataError, SensorError
from ..runtime.frames import SensorFrame, SensorGeometry
from .nuscenes import Annotation, NuScenes, Scene
from .nuscenes.geometry import Float64, inverse_rigid, rotation_matrix, transform_points
from .nuscenes.source import NuScenesDrive
from .questions.scene_graph import class_of, keyframe_pose, status_of, visibility_of
from .source import Keyframe

OBJECTS = "objects"
"""Name of the sensor, and its modality."""

#: How sure the detector is of what can be seen and of what barely can.
_SCORES = {"seen": 1.0, "doubtful": 0.5}


def annotated_objects(data: NuScenes, sample_token: str) -> NDArray[np.float32]:
    """The objects of a keyframe that can be seen, if barely, in the ego frame at the LiDAR's stamp.

    Args:
        data: an opened data set, with annotations.
        sample_token: the keyframe.

    Returns:
        float32 `[n, 12]` in the columns of `kernels.object_tokens.OBJECT_COLUMNS`, in the order of
        the annotations: score 1, or 0.5 where an object is barely visible; velocities over ground,
        NaN where unknown; status -1 where unknown.

    Raises:
        DataError: there is no such keyframe, the data set has no LiDAR, or a table is wrong.
        SensorError: the keyframe has no file of the LiDAR.
    """
    ego_from_global = inverse_rigid(keyframe_pose(data, sample_token))
    boxes, velocities = data.annotations(sample_token), data.velocities(sample_token)
    rows = (
        _row(box, velocity, ego_from_global)
        for box, velocity in zip(boxes, velocities, strict=True)
    )
    found = [row for row in rows if row is not None]
    return np.array(found, np.float32).reshape(len(found), len(OBJECT_COLUMNS))


def objects_frame_of(data: NuScenes, keyframe: Keyframe) -> SensorFrame:
    """The frame of the sensor `objects` at a keyframe.

    Raises:
        DataError: see `annotated_objects`.
        SensorError: the keyframe has no file of the LiDAR.
    """
    pose = keyframe_pose(data, keyframe.sample_token)
    return SensorFrame(
        sensor=OBJECTS,
        modality="objects",
        stamp_ns=keyframe.stamp_ns,
        frame_id="ego",
        payload=annotated_objects(data, keyframe.sample_token),
        geometry=SensorGeometry(np.eye(4), global_from_ego=pose),
    )


class AnnotatedDrive(NuScenesDrive):
    """A scene that can also give its annotations as frames of the sensor `objects`."""

    def __init__(
        self, data: NuScenes, scene: Scene | str, wanted: Callable[[int], bool] | None = None
    ) -> None:
        """Find the scene and read the tables of annotations.

        Args:
            data: the opened data set.
            scene: the record, its token or its name.
            wanted: tells by its stamp in ns whether a frame takes part; None takes all.

        Raises:
            DataError: there is no such scene, or no annotation.
        """
        super().__init__(data, scene, wanted)
        if not data.has_annotations:
            raise DataError(
                f"the data set has no annotations that the sensor '{OBJECTS}' could be made of",
                field=str(data.dataroot / data.version),
                remedy=f"leave '{OBJECTS}' out, or give a split with annotations",
            )

    @property
    def sensors(self) -> tuple[str, ...]:
        """The cameras and LiDARs that have a file in this scene, and `objects`."""
        return (*super().sensors, OBJECTS)

    def frames(
        self,
        sensors: Sequence[str] | None = None,
        on_drop: Callable[[str, int, SensorError], None] | None = None,
    ) -> Iterator[SensorFrame]:
        """Its frames in stamp order, one file read a step.

        Args:
            sensors: names; None takes all cameras and LiDARs, and not `objects`.
            on_drop: told sensor, stamp in ns and reason of a frame that cannot be read.

        Raises:
            SensorError: a sensor is unknown, or a file is bad and there is no `on_drop`.
        """
        if sensors is None or OBJECTS not in sensors:
            return super().frames(sensors, on_drop)
        others = super().frames([name for name in sensors if name != OBJECTS], on_drop)
        # Objects come last of one stamp: the sensors that they bound have seen it by then.
        return heapq.merge(others, self._objects(on_drop), key=lambda frame: frame.stamp_ns)

    def _objects(
        self, on_drop: Callable[[str, int, SensorError], None] | None
    ) -> Iterator[SensorFrame]:
        for keyframe in self.keyframes:
            if self._wanted is not None and not self._wanted(keyframe.stamp_ns):
                continue
            try:
                frame = objects_frame_of(self.data, keyframe)
            except SensorError as error:
                if on_drop is None:
                    raise
                on_drop(OBJECTS, keyframe.stamp_ns, error)
                continue
            yield frame


def _row(
    box: Annotation, velocity: NDArray[np.float64], ego_from_global: Float64
) -> tuple[float, ...] | None:
    name = class_of(box.category)
    if name is None:
        return None
    x, y, z = transform_points(ego_from_global, [box.translation])[0].tolist()
    score = _SCORES.get(visibility_of(math.hypot(x, y), box.num_lidar_pts, box.visibility))
    if score is None:
        return None
    turn = ego_from_global[:3, :3] @ rotation_matrix(box.rotation)
    vx, vy, _ = (ego_from_global[:3, :3] @ velocity).tolist()
    width, length, height = box.size_wlh
    status = status_of(name, box.attributes)
    return (
        OBJECT_CLASSES.index(name),
        score,
        *(x, y, z),
        *(length, width, height),
        math.atan2(turn[1, 0], turn[0, 0]),
        *(vx, vy),
        -1 if status is None else OBJECT_STATUSES.index(status),
    )
