"""From messages to frames and from answers to messages; nothing here runs a model or holds state.

Pictures, clouds and boxes are taken apart by the same code that reads bags, without cv_bridge.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailwire.runtime.frames import Modality, SensorFrame, SensorGeometry
from tailwire.runtime.plans import Answer, Budget, Plan
from tailwire.simulation.bags.clouds import cloud_points
from tailwire.simulation.bags.detections import detected_objects
from tailwire.simulation.bags.images import compressed_payload, raw_image

Payload = NDArray[np.uint8] | NDArray[np.float32] | bytes

NS_PER_S = 1_000_000_000

#: By the kind that a parameter names: the modality, and how a payload is made of a message.
KINDS: Mapping[str, tuple[Modality, Callable[[Any], Payload]]] = {
    "compressed": ("camera", compressed_payload),
    "image": ("camera", raw_image),
    "points": ("lidar", cloud_points),
    "detections": ("objects", detected_objects),
}
DEFAULT_KIND: Mapping[str, str] = {
    "camera": "compressed",
    "lidar": "points",
    "objects": "detections",
}
#: Behind the sensor's name, as in the bags of Tailwire.
DEFAULT_TOPIC: Mapping[str, str] = {
    "compressed": "{}/image_raw/compressed",
    "image": "{}/image_raw",
    "points": "{}/points",
    "detections": "{}",
}


def message_type(kind: str) -> Any:
    """The class of the messages of a kind."""
    from sensor_msgs.msg import CompressedImage, Image, PointCloud2

    if kind == "detections":
        from vision_msgs.msg import Detection3DArray

        return Detection3DArray
    return {"compressed": CompressedImage, "image": Image, "points": PointCloud2}[kind]


def stamp_ns(stamp: Any) -> int:
    """`builtin_interfaces/Time` in nanoseconds."""
    return int(stamp.sec) * NS_PER_S + int(stamp.nanosec)


def time_message(nanoseconds: int) -> Any:
    """`builtin_interfaces/Time`."""
    from builtin_interfaces.msg import Time

    seconds, rest = divmod(nanoseconds, NS_PER_S)
    return Time(sec=seconds, nanosec=rest)


def frame_of(
    sensor: str, kind: str, message: Any, geometry: SensorGeometry | None = None
) -> SensorFrame:
    """A message as a frame.

    Args:
        sensor: its name.
        kind: one of `KINDS`.
        message: of rclpy.
        geometry: where the sensor was; for boxes, where they are seen from.

    Raises:
        ValueError: the message is no whole picture, cloud or list of boxes.
        SensorError: its stamp is none.
    """
    modality, payload_of = KINDS[kind]
    if kind == "detections":
        base_from_frame = None if geometry is None else geometry.ego_from_sensor
        payload: Payload = detected_objects(message, None, base_from_frame)
        # Boxes are moved already, and turned, which a frame's geometry cannot do.
        if geometry is not None:
            geometry = SensorGeometry(np.eye(4), global_from_ego=geometry.global_from_ego)
    else:
        payload = payload_of(message)
    header = message.header
    return SensorFrame(sensor, modality, stamp_ns(header.stamp), header.frame_id, payload, geometry)


def answer_message(
    answer: Answer, *, now_ns: int, frame_id: str, question_id: int = 0, latency_ms: float = 0.0
) -> Any:
    """`tailwire_msgs/Answer`.

    Args:
        answer: of the runtime.
        now_ns: stamps an answer that rests on no sensor.
        frame_id: of the vehicle.
        question_id: of a standing question.
        latency_ms: from the newest frame to the answer.
    """
    from tailwire_msgs.msg import Answer as Message

    message = Message()
    message.header.stamp = time_message(now_ns if answer.stamp_ns is None else answer.stamp_ns)
    message.header.frame_id = frame_id
    message.question_id = question_id
    message.question, message.text = answer.question, answer.text
    message.confidence = float(answer.confidence)
    message.sensors = list(answer.sensors)
    message.sensor_ages_ms = [float(use.age_ms) for use in answer.sensors.values()]
    message.dropped = [f"{sensor}: {reason}" for sensor, reason in answer.dropped.items()]
    message.held, message.cut = answer.held, answer.cut or ""
    message.late_ms = float(answer.late_ms or 0.0)
    message.flops = float(answer.flops)
    message.latency_ms = float(latency_ms)
    message.stages = list(answer.timings_ms)
    message.stages_ms = [float(value) for value in answer.timings_ms.values()]
    message.pack, message.pack_trained = answer.pack, answer.pack_trained
    message.plan_json = answer.plan.model_dump_json()
    return message


def answer_line(answer: Answer) -> str:
    """For people: `Is there a car? yes (0.91), cam_front lidar_top`."""
    sensors = " ".join(answer.sensors) or "no sensor"
    return f"{answer.question} {answer.text} ({answer.confidence:.2f}), {sensors}"


def budget_message(budget: Budget) -> Any:
    """`tailwire_msgs/Budget`; limits that there are not are 0."""
    from tailwire_msgs.msg import Budget as Message

    return Message(
        flops=float(budget.flops or 0),
        memory_bytes=int(budget.memory_bytes or 0),
        latency_ms=float(budget.latency_ms or 0),
        energy_mj=float(budget.energy_mj or 0),
    )


def budget_of(flops: float, memory_bytes: float, latency_ms: float, energy_mj: float) -> Budget:
    """A budget from numbers of which 0 is no limit.

    Raises:
        ValueError: one is negative or no number.
    """
    limits = {
        "flops": flops,
        "memory_bytes": memory_bytes,
        "latency_ms": latency_ms,
        "energy_mj": energy_mj,
    }
    for name, value in limits.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"budget.{name} is {value:g}, give 0 for no limit or more")
    return Budget(
        flops=round(flops) or None,
        memory_bytes=round(memory_bytes) or None,
        latency_ms=latency_ms or None,
        energy_mj=energy_mj or None,
    )


def plan_message(plan: Plan | None, budget: Budget) -> Any:
    """`tailwire_msgs/PlanStatus` without header and what was measured."""
    from tailwire_msgs.msg import PlanStatus

    message = PlanStatus(budget=budget_message(budget))
    for name in ("expected", "latency_ms", "memory_bytes", "energy_mj"):
        value = None if plan is None else getattr(plan, name)
        setattr(message, name, math.nan if value is None else float(value))
    if plan is not None:
        message.policy, message.note = plan.policy, plan.note or ""
        message.sensors = list(plan.sensors)
        message.actions = list(plan.sensors.values())
        message.tail_blocks, message.precision = plan.tail_blocks, plan.precision
        message.flops = float(plan.flops)
        message.plan_json = plan.model_dump_json()
    return message
