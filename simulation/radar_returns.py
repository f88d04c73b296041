"""What radars around the vehicle would return of a keyframe: points with radial speed and size.

Made from annotated boxes and the LiDAR sweep of the same moment, by the radar equation: a return
weakens with the fourth power of its distance, its strength fluctuates (Swerling's first case), and
what lies behind another box is weakened. Poles, walls and kerbs that the LiDAR hit give returns
that stand still. Made drives have no radar of their own, and this is none: no multipath, no
interference, no antenna pattern.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..kernels.object_tokens import OBJECT_CLASSES, OBJECT_COLUMNS

Float = NDArray[np.float32]
Float64 = NDArray[np.float64]

#: Position in the ego frame (metres), speed away from the vehicle over ground, strength.
RADAR_COLUMNS = ("x", "y", "radial_mps", "rcs_dbsm")

#: Mean cross-sections at 77 GHz, dB over a square metre: people about -8 to -5, cars about 10,
#: trucks and buses about 20; cones are plastic with a thin coat.
_RCS_DBSM = {
    "car": 10.0,
    "truck": 18.0,
    "bus": 20.0,
    "trailer": 17.0,
    "construction vehicle": 15.0,
    "motorcycle": 4.0,
    "bicycle": 0.0,
    "pedestrian": -6.0,
    "traffic cone": -12.0,
    "barrier": 0.0,
}
#: At this distance one square metre is found every other time.
_RANGE_M = 80.0
#: How soon detection changes with strength, dB.
_SOFTNESS_DB = 3.0
_BEHIND_DB = 12.0
_RETURNS_PER_M = 1.2
_RANGE_SIGMA_M, _AZIMUTH_SIGMA_RAD, _SPEED_SIGMA_MPS = 0.15, 0.008, 0.1
_CLUTTER, _CLUTTER_DBSM = 48, (-6.0, 6.0)
_CLUTTER_HEIGHT_M = (0.3, 2.5)
#: Of the own vehicle about the ego frame (rear axle): to the back, to the front, to a side.
_OWN_BOX_M = (-1.5, 4.5, 1.3)


def radar_returns(objects: Float, cloud: Float, rng: np.random.Generator) -> Float:
    """Returns of one moment.

    Args:
        objects: float32 `[n, 12]` in the columns of `kernels.object_tokens.OBJECT_COLUMNS`, ego
            frame, velocities over ground (NaN: taken as standing).
        cloud: float32 `[m, 3+]`, LiDAR points in the ego frame; may be empty.
        rng: draws what is found and how it is measured.

    Returns:
        float32 `[returns, 4]`, see `RADAR_COLUMNS`, nearest first.
    """
    column = {name: objects[:, i].astype(np.float64) for i, name in enumerate(OBJECT_COLUMNS)}
    found = [np.zeros((0, 4))]
    for index in range(len(objects)):
        points = _facing(column, index, rng)
        strength = _RCS_DBSM[OBJECT_CLASSES[int(column["class"][index])]] - 10 * np.log10(
            len(points)
        )
        speed = np.nan_to_num([column["vx"][index], column["vy"][index]])
        hidden = _behind_another(points, column, index)
        found.append(_measured(points, speed, strength - _BEHIND_DB * hidden, rng))
    found.append(_clutter(column, cloud, rng))
    returns = np.concatenate(found)
    order = np.argsort(np.hypot(returns[:, 0], returns[:, 1]), kind="stable")
    return returns[order].astype(np.float32)


def _facing(column: dict[str, Float64], index: int, rng: np.random.Generator) -> Float64:
    """Points on the sides of a box that face the vehicle, `[n, 2]`, one at least."""
    middle = np.array([column["x"][index], column["y"][index]])
    half = np.array([column["length"][index], column["width"][index]]) / 2
    yaw = column["yaw"][index]
    along = np.array([np.cos(yaw), np.sin(yaw)])
    axes = np.stack([along, [-along[1], along[0]]])
    sides: list[tuple[Float64, Float64, float]] = []
    for axis, other in ((0, 1), (1, 0)):
        # Of two parallel sides the one whose outside looks to the vehicle.
        sign = -np.sign(middle @ axes[axis]) or 1.0
        sides.append((middle + sign * half[axis] * axes[axis], axes[other], half[other]))
    points: list[Float64] = []
    for at, direction, reach in sides:
        count = max(1, round(float(2 * reach * _RETURNS_PER_M)))
        points.append(at + rng.uniform(-reach, reach, (count, 1)) * direction)
    return np.concatenate(points)


def _behind_another(points: Float64, column: dict[str, Float64], index: int) -> NDArray[np.bool_]:
    """Whether the way to each point passes a circle that fills another, nearer box."""
    distance = np.hypot(points[:, 0], points[:, 1])
    direction = points / np.maximum(distance, 1e-6)[:, None]
    hidden = np.zeros(len(points), np.bool_)
    for other in range(len(column["x"])):
        if other == index:
            continue
        middle = np.array([column["x"][other], column["y"][other]])
        radius = min(column["length"][other], column["width"][other]) / 2
        ahead = direction @ middle
        aside = np.abs(direction[:, 0] * middle[1] - direction[:, 1] * middle[0])
        hidden |= (ahead > 0) & (ahead + radius < distance) & (aside < radius)
    return hidden


def _measured(
    points: Float64, speed: Float64, strength_dbsm: Float64, rng: np.random.Generator
) -> Float64:
    """Those of the points that are found, as they are measured."""
    distance = np.maximum(np.hypot(points[:, 0], points[:, 1]), 0.5)
    azimuth = np.arctan2(points[:, 1], points[:, 0])
    radial = (points @ speed) / distance
    # Swerling's first case: the power of a return is exponentially distributed.
    rcs = strength_dbsm + 10 * np.log10(np.maximum(rng.exponential(1.0, len(points)), 1e-6))
    margin = rcs - 40 * np.log10(distance / _RANGE_M)
    seen = rng.random(len(points)) < 1 / (1 + np.exp(-margin / _SOFTNESS_DB))
    distance = distance + rng.normal(0, _RANGE_SIGMA_M, len(points))
    azimuth = azimuth + rng.normal(0, _AZIMUTH_SIGMA_RAD, len(points))
    radial = radial + rng.normal(0, _SPEED_SIGMA_MPS, len(points))
    made = np.stack([distance * np.cos(azimuth), distance * np.sin(azimuth), radial, rcs], axis=1)
    return made[seen]


def _clutter(column: dict[str, Float64], cloud: Float, rng: np.random.Generator) -> Float64:
    """Returns of things that stand there and are not annotated, where the LiDAR hit them."""
    points = cloud[:, :3].astype(np.float64)
    low, high = _CLUTTER_HEIGHT_M
    points = points[(points[:, 2] > low) & (points[:, 2] < high)]
    back, front, aside = _OWN_BOX_M
    ahead, across = points[:, 0], np.abs(points[:, 1])
    # The LiDAR hits its own vehicle too.
    inside = (ahead > back) & (ahead < front) & (across < aside)
    for index in range(len(column["x"])):
        offset = points[:, :2] - [column["x"][index], column["y"][index]]
        yaw = column["yaw"][index]
        along = offset @ [np.cos(yaw), np.sin(yaw)]
        across = offset @ [-np.sin(yaw), np.cos(yaw)]
        half = column["length"][index] / 2 + 0.3, column["width"][index] / 2 + 0.3
        inside |= (np.abs(along) < half[0]) & (np.abs(across) < half[1])
    points = points[~inside, :2]
    chosen = points[rng.permutation(len(points))[:_CLUTTER]]
    strength = rng.normal(*_CLUTTER_DBSM, len(chosen))
    return _measured(chosen, np.zeros(2), strength, rng)
