# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
"""A robot for tests: it publishes sensors, asks, and keeps what it is told."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from geometry_msgs.msg import TransformStamped
from PIL import Image as Picture
from rclpy.action import ActionClient
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image, PointCloud2, PointField
from tf2_msgs.msg import TFMessage

from tailwire.runtime.frames import SensorFrame
from tailwire_msgs.action import Ask
from tailwire_msgs.msg import Answer, PlanStatus
from tailwire_ros.conversion import time_message

#: How long anything may take on a machine that is busy with other things.
PATIENCE_S = 60.0
RELIABLE = QoSProfile(depth=10)
BEST_EFFORT = QoSProfile(depth=5, reliability=QoSReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)


def overrides(values: dict[str, Any]) -> list[Parameter]:
    """Values as a parameter file would give them."""
    return [Parameter(name, value=value) for name, value in values.items()]


def wait_for(check: Callable[[], Any], what: str = "") -> Any:
    """Wait until something is true, and give it back."""
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        if found := check():
            return found
        time.sleep(0.005)
    raise AssertionError(f"waited in vain for {what or check}")


def jpeg(seed: int, height: int = 48, width: int = 80) -> bytes:
    """A picture of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    data = io.BytesIO()
    Picture.fromarray(pixels).save(data, format="JPEG")
    return data.getvalue()


def points(seed: int, count: int = 300) -> np.ndarray:
    """A cloud, float32 `[n, 5]`."""
    return np.random.default_rng(seed).normal(0, 10, (count, 5)).astype(np.float32)


class Robot(Node):
    """Publishes and listens."""

    def __init__(
        self,
        namespace: str = "",
        *,
        qos: QoSProfile = RELIABLE,
        **options: Any,
    ) -> None:
        super().__init__("robot", namespace=namespace, **options)
        self.answers: list[Answer] = []
        self.plans: list[PlanStatus] = []
        self.diagnostics: dict[str, Any] = {}
        self._target = f"{namespace}/tailwire"
        self._publishers_by_topic: dict[str, Any] = {}
        self._qos = qos
        from diagnostic_msgs.msg import DiagnosticArray

        self.create_subscription(Answer, f"{self._target}/answers", self.answers.append, 10)
        self.create_subscription(PlanStatus, f"{self._target}/plan_status", self.plans.append, 10)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._keep, 10)
        self._static = self.create_publisher(TFMessage, "/tf_static", LATCHED)
        self._asking = ActionClient(
            self,
            Ask,
            f"{self._target}/ask",
            callback_group=MutuallyExclusiveCallbackGroup(),
            feedback_sub_qos_profile=QoSProfile(depth=100),
        )

    def _keep(self, array: Any) -> None:
        for status in array.status:
            self.diagnostics[status.name] = status

    def status(self, part: str) -> Any:
        """The newest diagnostics of a part of the node."""
        return self.diagnostics.get(f"{self._target.lstrip('/')}: {part}")

    def values(self, part: str) -> dict[str, str]:
        """The values in it."""
        status = self.status(part)
        return {} if status is None else {one.key: one.value for one in status.values}

    def send(self, topic: str, message: Any) -> None:
        """Publish, once somebody listens."""
        if topic not in self._publishers_by_topic:
            publisher = self.create_publisher(type(message), topic, self._qos)
            self._publishers_by_topic[topic] = publisher
            wait_for(publisher.get_subscription_count, f"a subscription to {topic}")
        self._publishers_by_topic[topic].publish(message)

    def camera(self, sensor: str, stamp_ns: int, data: bytes) -> SensorFrame:
        """Send a picture; returns the frame that it stands for."""
        message = CompressedImage(format="jpeg", data=data)
        message.header.stamp = time_message(max(stamp_ns, 0))
        message.header.frame_id = f"{sensor}_optical"
        self.send(f"{sensor}/image_raw/compressed", message)
        return SensorFrame(sensor, "camera", stamp_ns, message.header.frame_id, data)

    def raw(self, sensor: str, stamp_ns: int, **fields: Any) -> None:
        """Send an image as it is given."""
        message = Image(**fields)
        message.header.stamp = time_message(stamp_ns)
        self.send(f"{sensor}/image_raw", message)

    def lidar(self, sensor: str, stamp_ns: int, cloud: np.ndarray) -> SensorFrame:
        """Send a sweep; returns the frame that it stands for."""
        names = ("x", "y", "z", "intensity", "ring")
        message = PointCloud2(
            height=1,
            width=len(cloud),
            fields=[
                PointField(name=name, offset=4 * place, datatype=PointField.FLOAT32, count=1)
                for place, name in enumerate(names)
            ],
            point_step=20,
            row_step=20 * len(cloud),
            data=cloud.tobytes(),
            is_dense=True,
        )
        message.header.stamp = time_message(stamp_ns)
        message.header.frame_id = sensor
        self.send(f"{sensor}/points", message)
        return SensorFrame(sensor, "lidar", stamp_ns, sensor, cloud.copy())

    def mount(self, *frames: str) -> None:
        """Say where sensors sit."""
        edges = []
        for height, frame in enumerate(frames, 1):
            edge = TransformStamped(child_frame_id=frame)
            edge.header.frame_id = "base_link"
            edge.transform.translation.z = float(height)
            edge.transform.rotation.w = 1.0
            edges.append(edge)
        self._static.publish(TFMessage(transforms=edges))

    def now_ns(self) -> int:
        """A stamp of now."""
        return self.get_clock().now().nanoseconds

    def call(self, kind: Any, name: str, **fields: Any) -> Any:
        """Call a service of the node."""
        client = self.create_client(kind, f"{self._target}/{name}")
        assert client.wait_for_service(PATIENCE_S), name
        future = client.call_async(kind.Request(**fields))
        wait_for(future.done, name)
        self.destroy_client(client)
        return future.result()

    def ask(self, on_feedback: Callable[[Any], None] = lambda _: None, **fields: Any) -> Any:
        """Send a goal; returns its handle when it is accepted."""
        assert self._asking.wait_for_server(PATIENCE_S)
        future = self._asking.send_goal_async(Ask.Goal(**fields), on_feedback)
        wait_for(future.done, "the goal to be accepted")
        return future.result()

    @staticmethod
    def result(handle: Any) -> Any:
        """Wait for the result of a goal: its status and what it says."""
        future = handle.get_result_async()
        wait_for(future.done, "the result")
        return future.result()


def names(answers: Sequence[Answer]) -> set[str]:
    """The questions that were answered."""
    return {answer.question for answer in answers}
