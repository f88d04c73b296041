"""Where sensors of a bag were: mounted by `/tf_static`, moved by `/tf` or odometry, or unknown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailwire.simulation.bags import open_bag

from .conftest import STAMP_NS, Message, cloud, header, ros, write_foreign

CLOUD = "sensor_msgs/msg/PointCloud2"
LAYOUT = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4")])
TF, ODOMETRY = "tf2_msgs/msg/TFMessage", "nav_msgs/msg/Odometry"


def quaternion(yaw: float) -> Any:
    w, z = float(np.cos(yaw / 2)), float(np.sin(yaw / 2))
    return ros("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=z, w=w)


def tf(stamp_ns: int, parent: str, child: str, x: float, yaw: float) -> Any:
    place = ros("geometry_msgs/msg/Vector3", x=x, y=0.0, z=0.0)
    one = ros(
        "geometry_msgs/msg/TransformStamped",
        header=header(stamp_ns, parent),
        child_frame_id=child,
        transform=ros("geometry_msgs/msg/Transform", translation=place, rotation=quaternion(yaw)),
    )
    return ros(TF, transforms=[one])


def odometry(stamp_ns: int, x: float, yaw: float, child: str = "base_link") -> Any:
    zero = ros("geometry_msgs/msg/Vector3", x=0.0, y=0.0, z=0.0)
    pose = ros(
        "geometry_msgs/msg/Pose",
        position=ros("geometry_msgs/msg/Point", x=x, y=0.0, z=0.0),
        orientation=quaternion(yaw),
    )
    unknown = np.zeros(36)
    return ros(
        ODOMETRY,
        header=header(stamp_ns, "odom"),
        child_frame_id=child,
        pose=ros("geometry_msgs/msg/PoseWithCovariance", pose=pose, covariance=unknown),
        twist=ros(
            "geometry_msgs/msg/TwistWithCovariance",
            twist=ros("geometry_msgs/msg/Twist", linear=zero, angular=zero),
            covariance=unknown,
        ),
    )


def clouds(*milliseconds: int) -> list[Message]:
    points = np.ones(2, LAYOUT)
    stamps = [STAMP_NS + one * 1_000_000 for one in milliseconds]
    return [("/top/points", CLOUD, stamp, cloud(points, stamp)) for stamp in stamps]


def moving(kind: str, milliseconds: int, x: float, yaw: float) -> Message:
    stamp = STAMP_NS + milliseconds * 1_000_000
    if kind == TF:
        return ("/tf", TF, stamp, tf(stamp, "odom", "base_link", x, yaw))
    return ("/wheels", ODOMETRY, stamp, odometry(stamp, x, yaw))


MOUNTED = ("/tf_static", TF, STAMP_NS, tf(STAMP_NS, "base_link", "somewhere", 1.5, np.pi / 2))


@pytest.mark.parametrize("kind", [TF, ODOMETRY])
def test_poses_of_frames_lie_between_those_of_the_bag(tmp_path: Path, kind: str) -> None:
    messages = [
        MOUNTED,
        moving(kind, 0, 10.0, np.pi - 0.1),
        moving(kind, 100, 12.0, -np.pi + 0.1),  # the short way, through pi
        moving(kind, 900, 20.0, 0.0),
        ("/eye/odom", ODOMETRY, STAMP_NS, odometry(STAMP_NS, 99.0, 0.0, "eye")),
        *clouds(-900, -100, 0, 50, 100, 500, 901),
    ]
    drive = open_bag(write_foreign(tmp_path / "bag", messages))
    found = [frame.geometry for frame in drive.frames()]
    poses = []
    for geometry in found:
        assert geometry is not None
        np.testing.assert_allclose(
            geometry.ego_from_sensor[:3], [[0, -1, 0, 1.5], [1, 0, 0, 0], [0, 0, 1, 0]], atol=1e-12
        )
        poses.append(geometry.global_from_ego)
    # Long before the first and within a gap of 0.8 s nobody knows.
    assert [pose is None for pose in poses] == [True, False, False, False, False, True, False]
    places = [pose[0, 3] for pose in poses if pose is not None]
    np.testing.assert_allclose(places, [10, 10, 11, 12, 20])
    np.testing.assert_allclose(poses[3][:2, :2], [[-1, 0], [0, -1]], atol=1e-12)


def test_a_bag_that_does_not_say_how_a_sensor_is_mounted(tmp_path: Path) -> None:
    messages = [moving(TF, 0, 10.0, 0.0), *clouds(0)]
    (frame,) = open_bag(write_foreign(tmp_path / "bag", messages)).frames()
    assert frame.geometry is None


def test_a_mounted_sensor_without_motion_has_no_pose(tmp_path: Path) -> None:
    (frame,) = open_bag(write_foreign(tmp_path / "bag", [MOUNTED, *clouds(0)])).frames()
    geometry = frame.geometry
    assert geometry is not None and geometry.global_from_ego is None
    assert geometry.intrinsic is None and geometry.image_size is None
