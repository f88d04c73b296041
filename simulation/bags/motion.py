"""The twist of a vehicle by finite differences of its poses."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..nuscenes.geometry import rotation_matrix
from ..nuscenes.records import RigidNumbers

_HALF_WINDOW_NS = 50_000_000


def twists(
    poses: Mapping[int, RigidNumbers],
) -> dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Linear and angular velocity at each stamp, in the frame of the vehicle.

    Differences reach at least 50 ms to either side where there are poses: neighbouring sensors
    fire a few ms apart, and rounding of their poses would look like motion.

    Args:
        poses: stamp in ns to global from ego, in stamp order.

    Returns:
        Stamp to (m/s `[3]`, rad/s `[3]`); zeros where there is one pose only.
    """
    stamps = np.fromiter(poses, dtype=np.int64, count=len(poses))
    places = np.array([pose.translation for pose in poses.values()]).reshape(-1, 3)
    turns = [rotation_matrix(pose.rotation) for pose in poses.values()]
    before = np.searchsorted(stamps, stamps - _HALF_WINDOW_NS, side="right") - 1
    after = np.searchsorted(stamps, stamps + _HALF_WINDOW_NS, side="left")
    before, after = before.clip(0), after.clip(max=len(stamps) - 1)
    result = {}
    for row, stamp in enumerate(stamps.tolist()):
        first, last = int(before[row]), int(after[row])
        seconds = (int(stamps[last]) - int(stamps[first])) / 1e9
        if seconds == 0:
            result[stamp] = (np.zeros(3), np.zeros(3))
            continue
        linear = turns[row].T @ (places[last] - places[first]) / seconds
        turned = _rotation_vector(turns[first].T @ turns[last])
        # Seen from `first`; the vehicle at `row` has turned away from there a little.
        angular = turns[row].T @ turns[first] @ turned / seconds
        result[stamp] = (linear, angular)
    return result


def _rotation_vector(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Axis times angle of a turn of less than half a revolution."""
    skew = np.array(
        [
            rotation[2, 1] - rotation[1, 2],
            rotation[0, 2] - rotation[2, 0],
            rotation[1, 0] - rotation[0, 1],
        ]
    )
    sine = float(np.linalg.norm(skew)) / 2
    angle = float(np.arctan2(sine, (np.trace(rotation) - 1) / 2))
    return skew / 2 if sine < 1e-12 else skew / (2 * sine) * angle
