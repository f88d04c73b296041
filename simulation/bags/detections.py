"""Boxes of detectors as `vision_msgs/Detection3DArray`: written for our own bags, read of any.

A detection has one hypothesis per statement, as `vision_msgs` names classes by strings: `car` with
the score of the box, and, where the status is known, `car.moving` with the same score, a narrower
class of the same thing. Who reads only the first or the surest one gets the class. Velocities have
no place in the message; they come on a topic beside it (`contract.OBJECT_VELOCITIES_DEFINITION`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...kernels.object_tokens import OBJECT_CLASSES, OBJECT_COLUMNS, OBJECT_STATUSES
from ...runtime.frames import SensorFrame
from ..nuscenes.geometry import rotation_matrix, yaw_quaternion
from ..questions.scene_graph import class_of
from . import messages as ros
from .contract import DETECTIONS, OBJECT_VELOCITIES
from .typestore import message_class, serialize

#: What detectors trained on pictures call them.
_ALIASES = {
    "person": "pedestrian",
    "motorbike": "motorcycle",
    "trafficcone": "traffic cone",
    "cone": "traffic cone",
}
_NAMED = 4
#: Half a turn in float32, which is a little more than half a turn.
_HALF_TURN = float(np.float32(np.pi))


def detections(frame: SensorFrame) -> bytes:
    """`vision_msgs/Detection3DArray` of a frame of modality `objects`.

    Args:
        frame: its payload is float32 `[n, 12]`, in the coordinate frame that it names.
    """
    stamp = ros.header(frame.stamp_ns, frame.frame_id)
    message = message_class(DETECTIONS)(
        header=stamp, detections=[_detection(stamp, row) for row in _rows(frame)]
    )
    return serialize(message, DETECTIONS)


def velocities(frame: SensorFrame) -> bytes:
    """`tailwire_msgs/ObjectVelocities` of the same frame; z is 0, NaN where nothing is known."""
    vx, vy = OBJECT_COLUMNS.index("vx"), OBJECT_COLUMNS.index("vy")
    message = message_class(OBJECT_VELOCITIES)(
        header=ros.header(frame.stamp_ns, frame.frame_id),
        velocities=[ros.vector_message((row[vx], row[vy], 0.0 * row[vx])) for row in _rows(frame)],
    )
    return serialize(message, OBJECT_VELOCITIES)


def velocity_rows(message: Any) -> NDArray[np.float64]:
    """The vectors of a `tailwire_msgs/ObjectVelocities`, float64 `[n, 3]`."""
    rows = [(one.x, one.y, one.z) for one in message.velocities]
    return np.array(rows, np.float64).reshape(len(rows), 3)


def detected_objects(
    message: Any,
    velocities: NDArray[np.float64] | None = None,
    ego_from_frame: NDArray[np.float64] | None = None,
) -> NDArray[np.float32]:
    """The boxes of a `vision_msgs/Detection3DArray` that are of a known class.

    Each takes the surest of its hypotheses whose class is known. Names are those of
    `OBJECT_CLASSES` in any case, with `_` or `-` for spaces, those of nuScenes, or a few of COCO;
    behind a dot may follow one of `OBJECT_STATUSES`.

    Args:
        message: decoded.
        velocities: float64 `[n, 3]` of its boxes, m/s over ground; None where nobody knows.
        ego_from_frame: float64 `[4, 4]` moves and turns the boxes; None leaves them.

    Returns:
        float32 `[n, 12]` in the columns of `OBJECT_COLUMNS`; -1 and NaN where status and velocity
        are unknown. Their numbers are checked by who encodes them.

    Raises:
        ValueError: there are boxes and none is of a known class, an orientation is no rotation, or
            velocities are not as many as boxes.
    """
    boxes = message.detections
    if velocities is not None and len(velocities) != len(boxes):
        raise ValueError(f"{len(velocities)} velocities come with {len(boxes)} boxes")
    rows: list[tuple[float, ...]] = []
    unknown: dict[str, None] = {}
    for number, box in enumerate(boxes):
        named = _class_of_box(box)
        if named is None:
            unknown.update(dict.fromkeys(result.hypothesis.class_id for result in box.results))
            continue
        speed = np.full(3, np.nan) if velocities is None else velocities[number]
        rows.append(_row(number, box, named, speed, ego_from_frame))
    if boxes and not rows:
        some = ", ".join(repr(name) for name in list(unknown)[:_NAMED]) or "no name at all"
        raise ValueError(
            f"none of {len(boxes)} boxes is of a known class but of {some}; known are "
            f"{', '.join(OBJECT_CLASSES)}"
        )
    return np.array(rows, np.float32).reshape(len(rows), len(OBJECT_COLUMNS))


def _rows(frame: SensorFrame) -> list[list[float]]:
    return np.asarray(frame.payload, np.float32).tolist()


def _detection(stamp: Any, row: list[float]) -> Any:
    number, score, x, y, z, length, width, height, yaw, _, _, status = row
    name = OBJECT_CLASSES[int(number)]
    names = [name]
    if status >= 0:
        names.append(f"{name}.{OBJECT_STATUSES[int(status)]}".replace(" ", "_"))
    if abs(yaw) == _HALF_TURN:
        # So that it does not come back from the other side.
        yaw = math.copysign(math.pi, yaw)
    pose = ros.pose_message((x, y, z), yaw_quaternion(yaw))
    with_covariance = message_class("geometry_msgs/msg/PoseWithCovariance")(
        pose=pose, covariance=np.zeros(36, np.float64)
    )
    hypothesis = message_class("vision_msgs/msg/ObjectHypothesis")
    result = message_class("vision_msgs/msg/ObjectHypothesisWithPose")
    return message_class("vision_msgs/msg/Detection3D")(
        header=stamp,
        results=[
            result(hypothesis=hypothesis(class_id=one, score=score), pose=with_covariance)
            for one in names
        ],
        bbox=message_class("vision_msgs/msg/BoundingBox3D")(
            center=pose, size=ros.vector_message((length, width, height))
        ),
        id="",
    )


def _class_of_box(box: Any) -> tuple[int, float, int] | None:
    """Number of the class, score, number of the status or -1; None of an unknown class."""
    found = [
        (result.hypothesis.score, *named)
        for result in box.results
        if (named := _parsed(result.hypothesis.class_id)) is not None
    ]
    if not found:
        return None
    score, kind, status = max(found, key=lambda one: one[0])
    if status < 0:
        # The surest that says of the same class what it does.
        narrower = [one for one in found if one[1] == kind and one[2] >= 0]
        status = max(narrower, key=lambda one: one[0])[2] if narrower else -1
    return kind, score, status


def _parsed(class_id: str) -> tuple[int, int] | None:
    """Numbers of class and status (-1 if none is named) behind a name."""
    name, dot, behind = class_id.rpartition(".")
    if dot and (kind := _class_number(name)) is not None and _plain(behind) in OBJECT_STATUSES:
        return kind, OBJECT_STATUSES.index(_plain(behind))
    kind = _class_number(class_id)
    return None if kind is None else (kind, -1)


def _class_number(name: str) -> int | None:
    plain = _ALIASES.get(_plain(name), _plain(name))
    known = plain if plain in OBJECT_CLASSES else class_of(name.strip().lower())
    return None if known is None else OBJECT_CLASSES.index(known)


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", " ").replace("-", " ")


def _row(
    number: int,
    box: Any,
    named: tuple[int, float, int],
    velocity: NDArray[np.float64],
    ego_from_frame: NDArray[np.float64] | None,
) -> tuple[float, ...]:
    kind, score, status = named
    place, turn, size = box.bbox.center.position, box.bbox.center.orientation, box.bbox.size
    quaternion = (turn.w, turn.x, turn.y, turn.z)
    # NaN fails the comparison.
    if not 0.5 < math.hypot(*quaternion) < 2:
        raise ValueError(f"the orientation {quaternion} of box {number} is no rotation")
    center, axes = np.array((place.x, place.y, place.z)), rotation_matrix(quaternion)
    if ego_from_frame is not None and not np.array_equal(ego_from_frame, np.eye(4)):
        rotation = ego_from_frame[:3, :3]
        center = rotation @ center + ego_from_frame[:3, 3]
        axes, velocity = rotation @ axes, rotation @ velocity
    yaw = math.atan2(axes[1, 0], axes[0, 0])
    return (
        *(kind, score, *center.tolist()),
        *(size.x, size.y, size.z, yaw),
        *(velocity[:2].tolist()),
        status,
    )
