"""The subscriptions of an active node: sensors, their calibrations, and transforms."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, qos_profile_sensor_data
from rclpy.qos_overriding_options import QoSOverridingOptions

from tailwire.runtime.frames import SensorFrame

from .conversion import message_type
from .frame_tree import FrameTree
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
        self._subscriptions: list[Any] = []
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
        frames = MutuallyExclusiveCallbackGroup()
        moving = partial(self._tree.add_transforms, static=False)
        static = partial(self._tree.add_transforms, static=True)
        self._subscribe(TFMessage, "/tf", moving, _TF, frames)
        self._subscribe(TFMessage, "/tf_static", static, _TF_STATIC, frames)
        for one in self.inputs:
            where = one.where
            # Sensors side by side, the messages of one in order.
            group = MutuallyExclusiveCallbackGroup()
            self._subscribe(
                message_type(where.kind), where.topic, one.take, qos_profile_sensor_data, group
            )
            if where.camera_info:
                take = partial(self._tree.add_camera, where.sensor)
                self._subscribe(
                    CameraInfo, where.camera_info, take, qos_profile_sensor_data, frames
                )

    @property
    def newest_arrival_s(self) -> float:
        """`time.monotonic()` when the newest message came; 0 before the first."""
        return max((one.counts.arrived_s for one in self.inputs), default=0.0)

    def forget(self) -> None:
        """Time has jumped back."""
        self._tree.forget_motion()
        for one in self.inputs:
            one.forget()

    def close(self) -> None:
        """End all subscriptions."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()

    def _subscribe(self, kind: Any, topic: str, take: Any, qos: QoSProfile, group: Any) -> None:
        self._subscriptions.append(
            self._node.create_subscription(
                kind,
                topic,
                take,
                qos,
                callback_group=group,
                qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            )
        )
