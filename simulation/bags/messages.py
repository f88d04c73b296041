"""The ROS 2 messages of the contract, built from poses, calibrations, files and boxes.

Each function gives serialised CDR. Numbers are carried over as they are: no pose is turned or
rounded, no image decoded, no point changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..nuscenes.records import Annotation, RigidNumbers
from .contract import (
    BASE_FRAME,
    CAMERA_INFO,
    CLOCK,
    CLOUD_FIELDS,
    COMPRESSED_IMAGE,
    MAP_FRAME,
    MARKER_ARRAY,
    ODOM_FRAME,
    ODOMETRY,
    POINT_CLOUD,
    POINT_STEP,
    STRING,
    TF_MESSAGE,
)
from .typestore import message_class, serialize

IDENTITY = RigidNumbers((0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0))
_FLOAT32 = 7
#: Red, green, blue of the boxes; others are grey.
_COLOURS = {
    "vehicle": (1.0, 0.6, 0.0),
    "human": (0.1, 0.3, 1.0),
    "movable_object": (0.5, 0.8, 0.2),
}


def time(stamp_ns: int) -> Any:
    """`builtin_interfaces/Time`."""
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    return message_class("builtin_interfaces/msg/Time")(sec=seconds, nanosec=nanoseconds)


def header(stamp_ns: int, frame: str) -> Any:
    """`std_msgs/Header`."""
    return message_class("std_msgs/msg/Header")(stamp=time(stamp_ns), frame_id=frame)


def encodable(text: str) -> str:
    """The text with what UTF-8 cannot hold (lone surrogates of a JSON file) replaced."""
    return text.encode("utf-8", "replace").decode()


def clock(stamp_ns: int) -> bytes:
    """`rosgraph_msgs/Clock`."""
    return serialize(message_class(CLOCK)(clock=time(stamp_ns)), CLOCK)


def string(text: str) -> bytes:
    """`std_msgs/String`."""
    return serialize(message_class(STRING)(data=encodable(text)), STRING)


def transforms(stamp_ns: int, edges: Iterable[tuple[str, str, RigidNumbers]]) -> bytes:
    """`tf2_msgs/TFMessage` of (parent, child, parent from child)."""
    stamped = message_class("geometry_msgs/msg/TransformStamped")
    transform = message_class("geometry_msgs/msg/Transform")
    message = message_class(TF_MESSAGE)(
        transforms=[
            stamped(
                header=header(stamp_ns, parent),
                child_frame_id=child,
                transform=transform(
                    translation=vector_message(numbers.translation),
                    rotation=_quaternion(numbers.rotation),
                ),
            )
            for parent, child, numbers in edges
        ]
    )
    return serialize(message, TF_MESSAGE)


def odometry(
    stamp_ns: int, pose: RigidNumbers, linear: Sequence[float], angular: Sequence[float]
) -> bytes:
    """`nav_msgs/Odometry`: pose in `odom`, twist in `base_link`, covariances zero (unknown).

    Args:
        stamp_ns: of the pose.
        pose: odom from base.
        linear: x y z, m/s, in the frame of the vehicle.
        angular: x y z, rad/s, in the frame of the vehicle.
    """
    twist = message_class("geometry_msgs/msg/Twist")(
        linear=vector_message(linear), angular=vector_message(angular)
    )
    unknown = np.zeros(36, np.float64)
    message = message_class(ODOMETRY)(
        header=header(stamp_ns, ODOM_FRAME),
        child_frame_id=BASE_FRAME,
        pose=message_class("geometry_msgs/msg/PoseWithCovariance")(
            pose=pose_message(pose.translation, pose.rotation), covariance=unknown
        ),
        twist=message_class("geometry_msgs/msg/TwistWithCovariance")(
            twist=twist, covariance=unknown
        ),
    )
    return serialize(message, ODOMETRY)


def compressed_image(stamp_ns: int, frame: str, content: bytes) -> bytes:
    """`sensor_msgs/CompressedImage` of the bytes of a JPEG or PNG file, untouched."""
    message = message_class(COMPRESSED_IMAGE)(
        header=header(stamp_ns, frame),
        format="png" if content.startswith(b"\x89PNG") else "jpeg",
        data=np.frombuffer(content, dtype=np.uint8),
    )
    return serialize(message, COMPRESSED_IMAGE)


def camera_info(
    stamp_ns: int, frame: str, intrinsic: NDArray[np.float64], width: int, height: int
) -> bytes:
    """`sensor_msgs/CameraInfo` of a rectified camera: no distortion, P = [K | 0].

    Args:
        stamp_ns: of the image.
        frame: the optical frame.
        intrinsic: float64 `[3, 3]`, pixels.
        width: of the image.
        height: of the image.
    """
    region = message_class("sensor_msgs/msg/RegionOfInterest")(
        x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
    )
    message = message_class(CAMERA_INFO)(
        header=header(stamp_ns, frame),
        height=height,
        width=width,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=np.array(intrinsic, np.float64).reshape(9),
        r=np.eye(3).reshape(9),
        p=np.hstack([intrinsic, np.zeros((3, 1))]).reshape(12),
        binning_x=0,
        binning_y=0,
        roi=region,
    )
    return serialize(message, CAMERA_INFO)


def point_cloud(stamp_ns: int, frame: str, content: bytes) -> bytes:
    """`sensor_msgs/PointCloud2` of a LiDAR file of nuScenes, its float32 bytes untouched."""
    field = message_class("sensor_msgs/msg/PointField")
    count = len(content) // POINT_STEP
    values = np.frombuffer(content, dtype="<f4")
    message = message_class(POINT_CLOUD)(
        header=header(stamp_ns, frame),
        height=1,
        width=count,
        fields=[
            field(name=name, offset=4 * place, datatype=_FLOAT32, count=1)
            for place, name in enumerate(CLOUD_FIELDS)
        ],
        is_bigendian=False,
        point_step=POINT_STEP,
        row_step=POINT_STEP * count,
        data=np.frombuffer(content, dtype=np.uint8),
        is_dense=bool(np.isfinite(values).all()),
    )
    return serialize(message, POINT_CLOUD)


def annotation_markers(stamp_ns: int, annotations: Sequence[Annotation]) -> bytes:
    """`visualization_msgs/MarkerArray`: the boxes of a keyframe, after the last ones are cleared.

    The namespace is the category, the text holds category and attributes.
    """
    nothing = Annotation("", "", "", "", (), (0, 0, 0), (0, 0, 0), (1, 0, 0, 0), 0, 0, None)
    markers = [_marker(stamp_ns, 0, nothing, action="DELETEALL")]
    markers += [_marker(stamp_ns, number, box, "ADD") for number, box in enumerate(annotations)]
    return serialize(message_class(MARKER_ARRAY)(markers=markers), MARKER_ARRAY)


def _marker(stamp_ns: int, number: int, box: Annotation, action: str) -> Any:
    kind = message_class("visualization_msgs/msg/Marker")
    red, green, blue = _COLOURS.get(box.category.split(".")[0], (0.6, 0.6, 0.6))
    width, length, height = box.size_wlh
    empty = np.zeros(0, np.uint8)
    return kind(
        header=header(stamp_ns, MAP_FRAME),
        ns=encodable(box.category),
        id=number,
        type=kind.CUBE,
        action=getattr(kind, action),
        pose=pose_message(box.translation, box.rotation),
        # The length of a box lies along its own x.
        scale=vector_message((length, width, height)),
        color=message_class("std_msgs/msg/ColorRGBA")(r=red, g=green, b=blue, a=0.4),
        lifetime=message_class("builtin_interfaces/msg/Duration")(sec=0, nanosec=0),
        frame_locked=False,
        points=[],
        colors=[],
        texture_resource="",
        texture=message_class(COMPRESSED_IMAGE)(header=header(0, ""), format="", data=empty),
        uv_coordinates=[],
        text=encodable(" ".join((box.category, *box.attributes)).strip()),
        mesh_resource="",
        mesh_file=message_class("visualization_msgs/msg/MeshFile")(filename="", data=empty),
        mesh_use_embedded_materials=False,
    )


def vector_message(values: Sequence[float]) -> Any:
    """`geometry_msgs/Vector3` of x y z."""
    x, y, z = (float(value) for value in values)
    return message_class("geometry_msgs/msg/Vector3")(x=x, y=y, z=z)


def _quaternion(wxyz: Sequence[float]) -> Any:
    w, x, y, z = (float(value) for value in wxyz)
    return message_class("geometry_msgs/msg/Quaternion")(x=x, y=y, z=z, w=w)


def pose_message(translation: Sequence[float], rotation: Sequence[float]) -> Any:
    """`geometry_msgs/Pose` of x y z and w x y z."""
    x, y, z = (float(value) for value in translation)
    point = message_class("geometry_msgs/msg/Point")(x=x, y=y, z=z)
    return message_class("geometry_msgs/msg/Pose")(
        position=point, orientation=_quaternion(rotation)
    )
