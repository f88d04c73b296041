"""The topics, types, frames and QoS of a bag made from nuScenes, in one place.

Frames follow REP-105: `map` -> `odom` -> `base_link` -> sensors. The pose of nuScenes is already
localised in the map, so `map` -> `odom` is the identity (static) and `odom` -> `base_link` carries
the ego poses. Camera frames look along z (REP-103), so their names end in `_optical`; the LiDAR
frame is the one of nuScenes (x right, y forward), its points are not turned.

Stamps: header stamp = log time = capture time; nuScenes counts microseconds, so the nanoseconds
are exact.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ...runtime.frames import Modality

MAP_FRAME, ODOM_FRAME, BASE_FRAME = "map", "odom", "base_link"

TF_TOPIC, TF_STATIC_TOPIC = "/tf", "/tf_static"
ODOM_TOPIC, CLOCK_TOPIC = "/odom", "/clock"
KEYFRAME_TOPIC = "/keyframe"
"""Tokens of nuScenes samples; the log time is the stamp of the sample."""
ANNOTATIONS_TOPIC = "/annotations"
"""Ground-truth boxes, a cube each, in the map frame, at keyframes."""
OBJECTS_TOPIC = "/objects"
"""Boxes of the sensor `objects`; in bags of data sets they are ground truth, on request."""
ANSWERS_TOPIC, ANSWER_TEXT_TOPIC = "/tailwire/answers", "/tailwire/answer_text"

COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
IMAGE = "sensor_msgs/msg/Image"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
POINT_CLOUD = "sensor_msgs/msg/PointCloud2"
TF_MESSAGE = "tf2_msgs/msg/TFMessage"
ODOMETRY = "nav_msgs/msg/Odometry"
CLOCK = "rosgraph_msgs/msg/Clock"
STRING = "std_msgs/msg/String"
MARKER_ARRAY = "visualization_msgs/msg/MarkerArray"
DETECTIONS = "vision_msgs/msg/Detection3DArray"
ANSWER = "tailwire_msgs/msg/Answer"
OBJECT_VELOCITIES = "tailwire_msgs/msg/ObjectVelocities"

ANSWER_DEFINITION = """\
# An answer to one question, stamped with the oldest sensor frame that it rests on.
std_msgs/Header header
uint32 question_id         # of a standing question, 0 of one that was asked once
string question            # as asked
string text                # the answer
float32 confidence         # 0 to 1; allowed answers: probability among them
string expected            # empty where the right answer is not known
string[] sensors           # that were used
float32[] sensor_ages_ms   # of their frames against the newest of all, in the same order
string[] dropped           # sensors that could not be used, each with its reason
bool held                  # the answer of an earlier frame, given again
string cut                 # why the frame was cut short, empty if it was not
float32 late_ms            # by how much it missed its deadline, 0 if it did not or had none
float64 flops              # of the frame, for all its answers together
float32 latency_ms         # from the newest frame to the answer
string[] stages            # of the frame's computation
float32[] stages_ms        # what each took, in the same order
string pack                # name and version
bool pack_trained          # false: the connections know nothing yet, the answer means nothing
string plan_json           # the plan, as JSON
"""
"""As in `ros_nodes/tailwire_msgs`."""

OBJECT_VELOCITIES_DEFINITION = """\
# What Detection3DArray has no place for; on the topic <that of the boxes>/velocities.
std_msgs/Header header               # equal to that of the boxes
geometry_msgs/Vector3[] velocities   # m/s over ground, along the axes of the header's frame,
                                     # one for each box in its order; NaN where unknown
"""

VISION_DEFINITIONS: dict[str, str] = {
    "vision_msgs/msg/ObjectHypothesis": "string class_id\nfloat64 score\n",
    "vision_msgs/msg/ObjectHypothesisWithPose": (
        "ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose\n"
    ),
    "vision_msgs/msg/BoundingBox3D": "geometry_msgs/Pose center\ngeometry_msgs/Vector3 size\n",
    "vision_msgs/msg/Detection3D": (
        "std_msgs/Header header\nObjectHypothesisWithPose[] results\nBoundingBox3D bbox\n"
        "string id\n"
    ),
    DETECTIONS: "std_msgs/Header header\nDetection3D[] detections\n",
}
"""Fields of vision_msgs 4, which came with Humble; version 3 and older lay them out otherwise."""

SENSOR_MODALITIES: dict[str, Modality] = {
    COMPRESSED_IMAGE: "camera",
    IMAGE: "camera",
    POINT_CLOUD: "lidar",
    DETECTIONS: "objects",
}
"""Message types that become frames."""

CLOUD_FIELDS = ("x", "y", "z", "intensity", "ring")
"""Each a little-endian float32, as in the files of nuScenes; a point is 20 bytes."""
POINT_STEP = 4 * len(CLOUD_FIELDS)

# What tells the kind of message, not the sensor, at the end of a topic.
_KIND = re.compile(
    r"image|image_(raw|rect|color|mono|rect_color|raw_color)|raw|compressed|camera_info"
    r"|points|points_raw|points2|point_?cloud2?|cloud"
)


@dataclass(frozen=True, slots=True)
class TopicQos:
    """The quality of service that the recorder saw offered.

    Every topic is offered reliable, sensors too: a player offers what was recorded, and while a
    best-effort subscriber hears a reliable publisher, a reliable one (rviz, a recorder) gets
    nothing from a best-effort publisher. On a robot the drivers decide; in a bag nothing is won
    by losing messages.

    Attributes:
        depth: of the keep-last history.
        latched: transient local, so that a late subscriber gets the last message.
    """

    depth: int = 10
    latched: bool = False


QOS: dict[str, TopicQos] = {
    TF_TOPIC: TopicQos(depth=100),
    TF_STATIC_TOPIC: TopicQos(depth=1, latched=True),
}
"""Of the topics that do not have the default."""


def image_topic(sensor: str) -> str:
    """Topic of the JPEG or PNG images of a camera."""
    return f"/{sensor}/image_raw/compressed"


def camera_info_topic(sensor: str) -> str:
    """Topic of the calibration of a camera, one message an image."""
    return f"/{sensor}/camera_info"


def points_topic(sensor: str) -> str:
    """Topic of the sweeps of a LiDAR."""
    return f"/{sensor}/points"


def velocities_topic(topic: str) -> str:
    """Topic of the velocities of boxes on a topic."""
    return f"{topic.rstrip('/')}/velocities"


def sensor_frame(sensor: str, modality: Modality) -> str:
    """Coordinate frame of the messages of a sensor."""
    return f"{sensor}_optical" if modality == "camera" else sensor


def sensor_of_topic(topic: str) -> str:
    """The name of the sensor behind a topic of any robot.

    Parts at the end that tell the kind of message (`image_raw`, `compressed`, `points`,
    `camera_info`, ...) are dropped, the rest is joined with `_` in lower case:
    `/cam_front/image_raw/compressed` is `cam_front`, `/camera/color/image_raw` is `camera_color`.
    Where nothing would be left, the first part is the name: `/points` is `points`.
    """
    parts = [part for part in topic.lower().split("/") if part]
    kept = list(parts)
    while kept and _KIND.fullmatch(kept[-1]):
        kept.pop()
    name = "_".join(kept or parts[:1])
    return re.sub(r"[^a-z0-9_]", "_", name) or "sensor"
