"""The subscriptions of an active node: sensors, their calibrations, and transforms."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from rclpy.qos import QoSDurabilityPolicy, QoSProfile, qos_profile_sensor_data
from rclpy.qos_overriding_options import QoSOverridingOptions

from tailwire.runtime.frames import SensorFrame

from .conversion import message_type
from .frame_tree import FrameTree
from .reading import Elsewhere, Reader, Take
from .sensor_input import SensorInput
from .settings import SensorTopic

_TF = QoSProfile(depth=100)
_TF_STATIC = QoSProfile(depth=100, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)


class SensorTopics:
    """Everything that an active node listens to."""

    def __init__(
        self,
        node: Any,
        wanted: Sequence[SensorTopic],
        push: Callable[[SensorFrame], bool],
        *,
        base_frame: str,
        future_ns: Callable[[], int],
        on_frame: Callable[[str, float], None],
        on_jump: Callable[[], None],
    ) -> None:
        """Subscribe.

        Args:
            node: of rclpy.
            wanted: topics by sensor.
            push: takes a frame.
            base_frame: of the vehicle.
            future_ns: how far ahead of the clock a stamp may be.
            on_frame: told the sensor of each new frame.
            on_jump: told when stamps jump back.
        """
        from sensor_msgs.msg import CameraInfo
        from tf2_msgs.msg import TFMessage

        self._node = node
        self._tree = FrameTree(base_frame)
        self._group = Elsewhere()
        self._subscriptions: list[tuple[Any, Take]] = []
        self.inputs = [
            SensorInput(
                one,
                self._tree,
                push,
                now_ns=lambda: node.get_clock().now().nanoseconds,
                future_ns=future_ns,
                on_frame=on_frame,
                on_jump=on_jump,
            )
            for one in wanted
        ]
        # Transforms and calibrations first: frames that came with them are seen with them.
        self._subscribe(TFMessage, "/tf", partial(self._move, static=False), _TF)
        self._subscribe(TFMessage, "/tf_static", partial(self._move, static=True), _TF_STATIC)
        for where in (one.where for one in self.inputs if one.where.camera_info):
            calibrate = partial(self._calibrate, where.sensor)
            self._subscribe(CameraInfo, where.camera_info, calibrate, qos_profile_sensor_data)
        for one in self.inputs:
            kind = message_type(one.where.kind)
            self._subscribe(kind, one.where.topic, one.take, qos_profile_sensor_data)
        self._reader = Reader(node.context, self._subscriptions, node.get_logger().error)

    @property
    def newest_arrival_s(self) -> float:
        """`time.monotonic()` when the newest message came; 0 before the first."""
        return max((one.counts.arrived_s for one in self.inputs), default=0.0)

    @property
    def subscriptions(self) -> list[Any]:
        """Those that are open."""
        return [subscription for subscription, _ in self._subscriptions]

    def forget(self) -> None:
        """Time has jumped back."""
        self._tree.forget_motion()
        for one in self.inputs:
            one.forget()

    def close(self) -> None:
        """End all subscriptions."""
        self._reader.stop()
        for subscription, _ in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()

    def _move(self, message: Any, _: Mapping[str, Any], *, static: bool) -> None:
        self._tree.add_transforms(message, static=static)

    def _calibrate(self, sensor: str, message: Any, _: Mapping[str, Any]) -> None:
        self._tree.add_camera(sensor, message)

    def _subscribe(self, kind: Any, topic: str, take: Take, qos: QoSProfile) -> None:
        subscription = self._node.create_subscription(
            kind,
            topic,
            # Never called: the reader takes the messages.
            lambda _: None,
            qos,
            callback_group=self._group,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        self._subscriptions.append((subscription, take))
