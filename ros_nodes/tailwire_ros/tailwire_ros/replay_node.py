"""Publishes a drive as its robot would: sensors, calibrations, transforms and the clock, in time.

Messages go out as they lie in the bag, byte for byte. At the end the answers that were given
meanwhile can be written into a bag beside the sensors.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock

from tailwire.runtime.errors import ConfigError, SensorError, TailwireError
from tailwire.simulation.bags.answers import AnswerMessage, write_answers
from tailwire.simulation.bags.contract import CLOCK_TOPIC, QOS, TF_STATIC_TOPIC, TF_TOPIC, TopicQos
from tailwire.simulation.bags.write import BagMessage
from tailwire.simulation.replay.drops import DropWindow, check_drops, parse_drop

from .conversion import stamp_ns, time_message
from .drive_messages import DriveMessages, sensor_of
from .parameters import Parameters
from .settings import Setting, texts
from .spinning import run

SETTINGS: Mapping[str, Setting] = {
    "path": Setting("", "nuScenes dataroot, rosbag2 folder, or .mcap or .db3 file"),
    "scene": Setting("", "name of the scene; '' the only one, or the first of a data set"),
    "rate": Setting(1.0, "seconds of the drive per second", 0.01, 100),
    "loop": Setting(False, "begin again at the end"),
    "objects": Setting(False, "publish annotations of a data set as boxes (ground truth)"),
    "sensors": Setting([""], "sensors that are published; '' all"),
    "drop": Setting(
        [""], "sensors that are withheld for a while, e.g. cam_front@5s..8s", live=True
    ),
    "wait_s": Setting(600.0, "wait this long for somebody who listens to a sensor", 0, 1e5),
    "record": Setting("", "bag to write with the sensors and the answers given; '' none"),
    "answers": Setting("tailwire/answers", "topic of the answers to record"),
    "settle_s": Setting(1.0, "wait this long at the end for the last answers", 0, 3600),
}
#: Between two ticks of the clock in the time of the drive, as `ros2 bag play --clock` has it: every
#: node that follows the clock pays for each.
_CLOCK_GAP_NS = 25_000_000
#: Not under the namespace of one robot, unless they are remapped.
_GLOBAL = (CLOCK_TOPIC, TF_TOPIC, TF_STATIC_TOPIC)


class ReplayNode(Node):
    """Plays one drive."""

    def __init__(self, name: str = "tailwire_replay", **options: Any) -> None:
        """Open the drive; nothing is published before `start`.

        Args:
            name: of the node, unless it is remapped.
            **options: of `rclpy.node.Node`.

        Raises:
            TailwireError: a parameter does not fit, or there is no drive.
        """
        super().__init__(name, **options)
        self.parameters = parameters = Parameters(self, self._apply)
        parameters.declare(SETTINGS)
        parameters.check_unknown()
        parameters.frozen = True
        if not parameters["path"]:
            raise ConfigError("no drive is named", field="path", remedy=SETTINGS["path"].about)
        self._drive = DriveMessages(
            Path(parameters["path"]).expanduser(),
            parameters["scene"],
            objects=parameters["objects"],
        )
        self._drive.check_sensors(texts(parameters["sensors"]), "sensors")
        self._drops = self._windows(parameters["drop"])
        self._record = Path(parameters["record"]).expanduser() if parameters["record"] else None
        if self._record is not None and self._record.exists():
            raise ConfigError("it is there already", field="record", remedy="name a new folder")
        self._outlets: dict[str, Any] = {}
        self._answers: list[AnswerMessage] = []
        #: Messages published and withheld, by topic.
        self.published: Counter[str] = Counter()
        self.withheld: Counter[str] = Counter()
        self._left_out: dict[str, str] = {}
        self._now_ns = self._clock_ns = 0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        #: Whether all has been published and recorded, and what went wrong with that.
        self.over = threading.Event()
        self.failure = ""
        self._clock_outlet = self.create_publisher(Clock, CLOCK_TOPIC, 10)
        if self._record is not None:
            from tailwire_msgs.msg import Answer

            self.create_subscription(Answer, parameters["answers"], self._keep, 100)

    def _windows(self, given: Sequence[str]) -> list[DropWindow]:
        drops = [parse_drop(text, "drop") for text in texts(given)]
        check_drops(drops, self._drive.source.sensors, "drop")
        return drops

    def _apply(self, changed: Mapping[str, Any]) -> None:
        if "drop" in changed:
            try:
                self._drops = self._windows(changed["drop"])
            except SensorError as error:
                raise ConfigError(error.problem, field="drop", remedy=error.remedy) from error

    def start(self) -> None:
        """Play in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="tailwire-replay", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._open()
            if self._wait_for_listeners():
                self._play()
            if self._record is not None and not self._stopping.is_set():
                self._write(self._record)
        except TailwireError as error:
            self.failure = str(error)
            self.get_logger().error(str(error))
        finally:
            self.over.set()

    def _open(self) -> None:
        """Open the publishers, so that listeners find them before the first message."""
        for message in self._drive:
            self._outlet(message)
        for topic, reason in self._left_out.items():
            self.get_logger().warning(f"{topic} is left out: {reason}")
        self.get_logger().info(f"{self._drive.title}: {len(self._outlets)} topics")

    def _outlet(self, message: BagMessage) -> Any:
        topic = message.topic
        if topic == CLOCK_TOPIC or topic in self._left_out or not self._is_wanted(message):
            return None
        if topic not in self._outlets:
            kind = _message_class(message.type)
            if kind is None:
                self._left_out[topic] = f"the type {message.type} is not installed"
                return None
            # Without the slash, so that a namespace of the node is one of its robot.
            name = topic if topic in _GLOBAL else topic.lstrip("/")
            self._outlets[topic] = self.create_publisher(kind, name, _profile(topic))
        return self._outlets[topic]

    def _is_wanted(self, message: BagMessage) -> bool:
        sensor, wanted = sensor_of(message), texts(self.parameters["sensors"])
        return sensor is None or not wanted or sensor in wanted

    def _wait_for_listeners(self) -> bool:
        """Whether somebody listens to a sensor, within the time that is allowed."""
        sensors = [
            self._outlets[message.topic]
            for message in self._first_of_each()
            if sensor_of(message) is not None and message.topic in self._outlets
        ]
        end_s = time.monotonic() + self.parameters["wait_s"]
        while not any(outlet.get_subscription_count() for outlet in sensors):
            if time.monotonic() >= end_s:
                self.get_logger().warning("nobody listens to any sensor; playing all the same")
                return True
            if self._stopping.wait(0.05):
                return False
        # Others of the same listener may be found a moment later.
        return not self._stopping.wait(0.5)

    def _first_of_each(self) -> list[BagMessage]:
        found: dict[str, BagMessage] = {}
        for message in self._drive:
            found.setdefault(message.topic, message)
        return list(found.values())

    def _play(self) -> None:
        while True:
            self._play_once()
            if not self.parameters["loop"] or self._stopping.is_set():
                return

    def _play_once(self) -> None:
        rate = self.parameters["rate"]
        first_ns: int | None = None
        begun_s = time.monotonic()
        for message in self._drive:
            first_ns = message.log_time_ns if first_ns is None else first_ns
            drive_s = (message.log_time_ns - first_ns) / 1e9
            if self._stopping.wait(max(begun_s + drive_s / rate - time.monotonic(), 0)):
                return
            self._now_ns = message.log_time_ns
            if abs(self._now_ns - self._clock_ns) >= _CLOCK_GAP_NS:
                self._clock_ns = self._now_ns
                self._clock_outlet.publish(Clock(clock=time_message(self._now_ns)))
            outlet = self._outlet(message)
            if outlet is None:
                continue
            if self._is_dropped(message, drive_s):
                self.withheld[message.topic] += 1
                continue
            outlet.publish(bytes(message.data))
            self.published[message.topic] += 1
        total, withheld = sum(self.published.values()), sum(self.withheld.values())
        self.get_logger().info(f"played {total} messages, {withheld} were withheld")

    def _is_dropped(self, message: BagMessage, drive_s: float) -> bool:
        sensor = sensor_of(message)
        return sensor is not None and any(one.covers(sensor, drive_s) for one in self._drops)

    def _keep(self, message: Any) -> None:
        self._answers.append(recorded_answer(message, self._now_ns))

    def _write(self, out: Path) -> None:
        time.sleep(self.parameters["settle_s"])
        summary = write_answers(self._drive.source, self._answers, out)
        self.get_logger().info(f"{len(self._answers)} answers beside the sensors in {summary.path}")

    def stop(self) -> None:
        """Stop playing; nothing is recorded then."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def destroy_node(self) -> None:
        """Stop playing and free everything."""
        self.stop()
        super().destroy_node()


def recorded_answer(message: Any, given_ns: int) -> AnswerMessage:
    """A `tailwire_msgs/Answer` for a bag.

    Args:
        message: of rclpy.
        given_ns: when it was given, in the time of the drive.
    """
    return AnswerMessage(
        stamp_ns=stamp_ns(message.header.stamp),
        given_ns=given_ns,
        question_id=message.question_id,
        question=message.question,
        text=message.text,
        confidence=message.confidence,
        expected=message.expected,
        sensors=tuple(message.sensors),
        sensor_ages_ms=tuple(message.sensor_ages_ms),
        dropped=tuple(message.dropped),
        held=message.held,
        cut=message.cut,
        late_ms=message.late_ms,
        flops=message.flops,
        latency_ms=message.latency_ms,
        stages_ms=dict(zip(message.stages, message.stages_ms, strict=False)),
        pack=message.pack,
        pack_trained=message.pack_trained,
        plan_json=message.plan_json,
    )


def _message_class(name: str) -> Any:
    """The class of a type such as `sensor_msgs/msg/Image`, None where it is not installed."""
    package, kind, message = name.split("/")
    try:
        return getattr(import_module(f"{package}.{kind}"), message)
    except (ImportError, AttributeError):
        return None


def _profile(topic: str) -> QoSProfile:
    """As in the bags of Tailwire: reliable, which best-effort listeners hear too."""
    qos = QOS.get(topic, TopicQos())
    latched, volatile = QoSDurabilityPolicy.TRANSIENT_LOCAL, QoSDurabilityPolicy.VOLATILE
    return QoSProfile(depth=qos.depth, durability=latched if qos.latched else volatile)


def main() -> int:
    """Play a drive and end."""

    def start(node: ReplayNode) -> bool:
        node.start()
        return True

    return run(
        ReplayNode,
        start=start,
        over=lambda node: node.over.is_set(),
        failed=lambda node: bool(node.failure),
    )
