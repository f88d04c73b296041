"""Poses and boxes as nuScenes writes them: quaternions w x y z, sizes width length height.

Pure array mathematics in float64; no file is read here and nothing is checked that a table
check has already refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float64 = NDArray[np.float64]


def rotation_matrix(quaternion: ArrayLike) -> Float64:
    """Rotation matrix of a quaternion.

    Args:
        quaternion: `[4]`, w x y z. Its length is divided out, so rounding in a table does not
            scale the result.

    Returns:
        float64 `[3, 3]`.
    """
    q = np.asarray(quaternion, dtype=np.float64)
    w, x, y, z = q / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def yaw_quaternion(yaw_rad: float) -> tuple[float, float, float, float]:
    """Quaternion w x y z of a turn about the vertical axis, radians, counter-clockwise."""
    return (math.cos(yaw_rad / 2), 0.0, 0.0, math.sin(yaw_rad / 2))


def rigid_transform(translation: ArrayLike, quaternion: ArrayLike) -> Float64:
    """The transform that takes points of a child frame to its parent frame.

    Args:
        translation: `[3]`, metres: the child's origin in the parent frame.
        quaternion: `[4]`, w x y z.

    Returns:
        float64 `[4, 4]`.
    """
    transform = np.eye(4)
    transform[:3, :3] = rotation_matrix(quaternion)
    transform[:3, 3] = translation
    return transform


def inverse_rigid(transform: Float64) -> Float64:
    """Inverse of a rigid `[4, 4]` transform; exact where a general inverse would round."""
    inverse = np.eye(4)
    inverse[:3, :3] = transform[:3, :3].T
    inverse[:3, 3] = -transform[:3, :3].T @ transform[:3, 3]
    return inverse


def transform_points(transform: Float64, points: ArrayLike) -> Float64:
    """Apply a `[4, 4]` transform to points `[n, 3]`; float64 `[n, 3]`."""
    return np.asarray(points, dtype=np.float64) @ transform[:3, :3].T + transform[:3, 3]


def project(intrinsic: Float64, points_sensor: Float64) -> tuple[Float64, Float64]:
    """Pinhole projection.

    Args:
        intrinsic: `[3, 3]`.
        points_sensor: `[n, 3]` in the camera frame (x right, y down, z forward), metres.

    Returns:
        Pixels float64 `[n, 2]` (u, v) and depths float64 `[n]`, metres. Pixels of points with
        a depth of zero or less mean nothing.
    """
    depth = points_sensor[:, 2]
    safe = np.where(depth == 0, np.finfo(np.float64).tiny, depth)
    return (points_sensor @ intrinsic.T)[:, :2] / safe[:, None], depth


def box_corners(translation: ArrayLike, size_wlh: Sequence[float], rotation: ArrayLike) -> Float64:
    """The eight corners of a box.

    Args:
        translation: `[3]`, the centre, metres.
        size_wlh: width, length, height, metres; the length lies along the box's own x.
        rotation: `[4]`, w x y z.

    Returns:
        float64 `[8, 3]` in the frame of the translation; the first four are the front (+x).
    """
    width, length, height = size_wlh
    signs = np.array([[x, y, z] for x in (1, -1) for z in (1, -1) for y in (1, -1)], np.float64)
    corners = signs * (np.array([length, width, height]) / 2)
    return corners @ rotation_matrix(rotation).T + np.asarray(translation, dtype=np.float64)


def points_in_box(
    points: ArrayLike, translation: ArrayLike, size_wlh: Sequence[float], rotation: ArrayLike
) -> NDArray[np.bool_]:
    """Which points lie in a box, faces included, as nuScenes counts `num_lidar_pts`.

    Args:
        points: `[n, 3]`, metres, in the frame of the box.
        translation: `[3]`, the centre.
        size_wlh: width, length, height.
        rotation: `[4]`, w x y z.

    Returns:
        bool `[n]`.
    """
    width, length, height = size_wlh
    offsets = np.asarray(points, dtype=np.float64) - np.asarray(translation, dtype=np.float64)
    local = offsets @ rotation_matrix(rotation)
    return np.all(np.abs(local) <= np.array([length, width, height]) / 2, axis=1)
