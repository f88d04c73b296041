"""Writes answers into a bag of their own, as they come; other topics are `ros2 bag record`'s."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rclpy.node import Node

from tailwire.runtime.errors import ConfigError
from tailwire.simulation.bags import messages as ros
from tailwire.simulation.bags.contract import ANSWER, ANSWER_TEXT_TOPIC, ANSWERS_TOPIC, STRING
from tailwire.simulation.bags.writer import BagWriter

from .parameters import Parameters
from .replay_node import recorded_answer
from .settings import Setting
from .spinning import run

SETTINGS: Mapping[str, Setting] = {
    "out": Setting("", "folder of the bag to make; must not exist"),
    "answers": Setting("tailwire/answers", "topic of the answers"),
}


class RecorderNode(Node):
    """Keeps answers; the bag gets its name when the node ends."""

    def __init__(self, name: str = "tailwire_recorder", **options: Any) -> None:
        """Open the bag.

        Args:
            name: of the node, unless it is remapped.
            **options: of `rclpy.node.Node`.

        Raises:
            TailwireError: the bag cannot be made.
        """
        super().__init__(name, **options)
        parameters = Parameters(self, lambda _: None)
        parameters.declare(SETTINGS)
        parameters.check_unknown()
        if not parameters["out"]:
            raise ConfigError("no bag is named", field="out", remedy=SETTINGS["out"].about)
        self._lock = threading.Lock()
        self._writer: BagWriter | None = BagWriter(Path(parameters["out"]).expanduser())
        self._writer.__enter__()
        self._writer.add_topic(ANSWERS_TOPIC, ANSWER)
        self._writer.add_topic(ANSWER_TEXT_TOPIC, STRING)
        #: Answers written.
        self.written = 0
        from tailwire_msgs.msg import Answer

        self.create_subscription(Answer, parameters["answers"], self._keep, 100)

    def _keep(self, message: Any) -> None:
        now_ns = self.get_clock().now().nanoseconds
        answer = recorded_answer(message, now_ns)
        with self._lock:
            if self._writer is None:
                return
            self._writer.write(ANSWERS_TOPIC, ANSWER, now_ns, answer.to_cdr())
            self._writer.write(ANSWER_TEXT_TOPIC, STRING, now_ns, ros.string(answer.line()))
            self.written += 1

    def close(self) -> None:
        """End the bag; it has its name from then on."""
        with self._lock:
            writer, self._writer = self._writer, None
        if writer is not None:
            writer.__exit__(None, None, None)

    def destroy_node(self) -> None:
        """End the bag and free everything."""
        self.close()
        super().destroy_node()


def main() -> int:
    """Record until told to end."""
    return run(RecorderNode)
