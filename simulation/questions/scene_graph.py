"""What stands where at one keyframe: the graph of objects that questions are asked about.

Objects are those of the annotations, of the ten classes of NuScenes-QA; their positions are in
the ego frame at the LiDAR's stamp. How well an object can be seen decides what may be asked:

- `unseen`: beyond 60 m, or without a LiDAR point and not more than 40 % visible. It is left out,
  as if it were not annotated.
- `seen`: within 50 m and hit by enough LiDAR points for its visibility level: 2 from `v60-80` up,
  5 for `v40-60` or where the data set gives no level, 20 below.
- doubtful: everything in between. No question is asked whose answer would depend on it.

The six relations are sectors of 60 degrees of the offset from one object (or from the ego
vehicle) to another, by its angle to the *ego* heading, counter-clockwise: `front` (-30, 30],
`front left` (30, 90], `back left` (90, 150], `front right` (-90, -30], `back right` (-150, -90],
`back` the rest (NuScenes-QA, Qian et al., 2305.14836, section 3). "The car to the back of the
bus" hence lies towards our own back from the bus, however the bus is turned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ...runtime.errors import DataError
from ..nuscenes import Annotation, NuScenes
from ..nuscenes.geometry import Float64, inverse_rigid, transform_points

Visibility = Literal["seen", "doubtful", "unseen"]

DIRECTIONS = ("front", "front left", "front right", "back", "back left", "back right")

_VEHICLE = ("moving", "stopped", "parked")
_CYCLE = ("with rider", "without rider")
_PEDESTRIAN = ("moving", "standing", "not standing")

#: The ten classes with the statuses that each may have; none for things that only stand there.
CLASS_STATUSES: dict[str, tuple[str, ...]] = {
    "car": _VEHICLE,
    "truck": _VEHICLE,
    "bus": _VEHICLE,
    "trailer": _VEHICLE,
    "construction vehicle": _VEHICLE,
    "motorcycle": _CYCLE,
    "bicycle": _CYCLE,
    "pedestrian": _PEDESTRIAN,
    "traffic cone": (),
    "barrier": (),
}
STATUSES = tuple(dict.fromkeys((*_VEHICLE, *_CYCLE, *_PEDESTRIAN)))

# nuScenes writes vehicle.bus.bendy, the devkit's detection names bus: both spellings are met.
_CLASS_OF_CATEGORY = {
    "vehicle.car": "car",
    "vehicle.truck": "truck",
    "vehicle.trailer": "trailer",
    "vehicle.construction": "construction vehicle",
    "vehicle.motorcycle": "motorcycle",
    "vehicle.bicycle": "bicycle",
    "movable_object.trafficcone": "traffic cone",
    "movable_object.barrier": "barrier",
    # Police cars are cars; an ambulance has the body of a van or light truck.
    "vehicle.emergency.police": "car",
    "vehicle.emergency.ambulance": "truck",
}
_CLASS_OF_PREFIX = {"vehicle.bus.": "bus", "human.pedestrian.": "pedestrian"}
# Not walking or standing people: they ride, sit in or push something that has no class here.
_IGNORED = frozenset(
    {
        "human.pedestrian.stroller",
        "human.pedestrian.wheelchair",
        "human.pedestrian.personal_mobility",
    }
)
_STATUS_OF_ATTRIBUTE = {
    "vehicle.moving": "moving",
    "vehicle.stopped": "stopped",
    "vehicle.parked": "parked",
    "cycle.with_rider": "with rider",
    "cycle.without_rider": "without rider",
    "pedestrian.moving": "moving",
    "pedestrian.standing": "standing",
    "pedestrian.sitting_lying_down": "not standing",
}

_SEEN_WITHIN_M = 50.0
_UNSEEN_BEYOND_M = 60.0
_MIN_POINTS = {None: 5, "v0-40": 20, "v40-60": 5, "v60-80": 2, "v80-100": 2}
_HIDDEN_LEVELS = (None, "v0-40")


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One object that is seen, or doubtful.

    Attributes:
        token: of its annotation.
        name: one of the ten classes.
        status: one of `CLASS_STATUSES[name]`; None where the class has none or nobody noted it.
        position: x forward, y left in the ego frame, metres.
        doubtful: True if it is barely visible.
    """

    token: str
    name: str
    status: str | None
    position: tuple[float, float]
    doubtful: bool = False

    @property
    def distance_m(self) -> float:
        """From the origin of the ego frame, on the ground."""
        return math.hypot(*self.position)


@dataclass(frozen=True, slots=True)
class SceneGraph:
    """The objects of one keyframe; relations follow from their positions.

    Attributes:
        sample_token: of the keyframe.
        objects: seen and doubtful ones, in the order of the annotations.
    """

    sample_token: str
    objects: tuple[SceneObject, ...]


def direction_of(
    position: tuple[float, float], origin: tuple[float, float] = (0.0, 0.0)
) -> str | None:
    """Which of the six relations a position has to another one.

    Args:
        position: x forward, y left in the ego frame, metres.
        origin: of what it is related to; the ego vehicle where left out.

    Returns:
        One of `DIRECTIONS`, None if both are the same place.
    """
    x, y = position[0] - origin[0], position[1] - origin[1]
    if x == 0 and y == 0:
        return None
    angle = math.degrees(math.atan2(y, x))
    for name, above, up_to in (
        ("front", -30, 30),
        ("front left", 30, 90),
        ("back left", 90, 150),
        ("front right", -90, -30),
        ("back right", -150, -90),
    ):
        if above < angle <= up_to:
            return name
    return "back"


def class_of(category: str) -> str | None:
    """The class of a nuScenes category; None for animals, debris and the like."""
    if category in _IGNORED:
        return None
    for prefix, name in _CLASS_OF_PREFIX.items():
        if category.startswith(prefix):
            return name
    return _CLASS_OF_CATEGORY.get(category)


def status_of(name: str, attributes: Sequence[str]) -> str | None:
    """The status among the attributes that an object of this class can have, None without."""
    for attribute in attributes:
        status = _STATUS_OF_ATTRIBUTE.get(attribute)
        if status in CLASS_STATUSES[name]:
            return status
    return None


def visibility_of(distance_m: float, num_lidar_pts: int, level: str | None) -> Visibility:
    """How well an object can be seen.

    Args:
        distance_m: from the ego vehicle, on the ground.
        num_lidar_pts: LiDAR points in its box.
        level: of nuScenes, e.g. `v60-80`; None where unknown.
    """
    hidden = num_lidar_pts == 0 and level in _HIDDEN_LEVELS
    if hidden or distance_m > _UNSEEN_BEYOND_M:
        return "unseen"
    # A level of another data set is trusted no more than a missing one.
    enough = num_lidar_pts >= _MIN_POINTS.get(level, _MIN_POINTS[None])
    return "seen" if enough and distance_m <= _SEEN_WITHIN_M else "doubtful"


def scene_graph(data: NuScenes, sample_token: str) -> SceneGraph:
    """The objects of a keyframe as they stand around the vehicle.

    Args:
        data: an opened data set, with annotations.
        sample_token: the keyframe.

    Raises:
        DataError: there is no such keyframe, the data set has no LiDAR, or a table is wrong.
        SensorError: the keyframe has no file of the LiDAR.
    """
    ego_from_global = inverse_rigid(keyframe_pose(data, sample_token))
    found = (_object(box, ego_from_global) for box in data.annotations(sample_token))
    return SceneGraph(sample_token, tuple(thing for thing in found if thing is not None))


def keyframe_pose(data: NuScenes, sample_token: str) -> Float64:
    """Where the vehicle was at the LiDAR's stamp of a keyframe: global_from_ego, `[4, 4]`.

    Raises:
        DataError: there is no such keyframe, or the data set has no LiDAR.
        SensorError: the keyframe has no file of the LiDAR.
    """
    lidar = next((name for name in data.sensors if name.startswith("lidar")), None)
    if lidar is None:
        raise DataError(
            "the data set has no LiDAR, whose pose tells where things are",
            field=str(data.dataroot / data.version),
            remedy="give a data set with a sensor LIDAR_TOP",
        )
    return data.ego_pose(data.sample_data(lidar, sample_token))


def _object(box: Annotation, ego_from_global: Float64) -> SceneObject | None:
    name = class_of(box.category)
    if name is None:
        return None
    x, y, _ = transform_points(ego_from_global, [box.translation])[0].tolist()
    visibility = visibility_of(math.hypot(x, y), box.num_lidar_pts, box.visibility)
    if visibility == "unseen":
        return None
    status = status_of(name, box.attributes)
    return SceneObject(box.token, name, status, (x, y), visibility == "doubtful")
