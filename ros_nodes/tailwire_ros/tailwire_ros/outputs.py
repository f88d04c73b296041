"""What the node publishes: answers, the plan behind them, the pack that gives them, diagnostics."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from std_msgs.msg import String

from tailwire_msgs.msg import Answer, PackInfo, PlanStatus

from . import diagnostics
from .answering import Round
from .conversion import answer_line, answer_message, plan_message
from .core import Core
from .reading import Elsewhere
from .services import pack_message

_LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)


class Outputs:
    """Publishers of a life-cycle node; answers are silent while it is not active."""

    def __init__(self, node: Any) -> None:
        """Open the publishers.

        Args:
            node: of rclpy.
        """
        self._node = node
        group = Elsewhere()
        always = partial(node.create_publisher, callback_group=group)
        active = partial(node.create_lifecycle_publisher, callback_group=group)
        self._diagnostics = always(DiagnosticArray, "/diagnostics", 10)
        self._answers = active(Answer, "~/answers", 10)
        self._texts = active(String, "~/answer_text", 10)
        self._plans = active(PlanStatus, "~/plan_status", 10)
        self._pack = always(PackInfo, "~/pack", _LATCHED)

    @property
    def publishers(self) -> list[Any]:
        """All of them."""
        return [self._diagnostics, self._answers, self._texts, self._plans, self._pack]

    def answers(self, core: Core, done: Round, newest_arrival_s: float, frame_id: str) -> None:
        """Publish a round.

        Args:
            core: that answered.
            done: the round.
            newest_arrival_s: `time.monotonic()` of the newest message of all sensors.
            frame_id: of the vehicle.
        """
        now_ns = self._node.now_ns()
        since_s = min(newest_arrival_s, done.begun_s) if newest_arrival_s else done.begun_s
        message: Any = None
        for one in done.answers:
            message = answer_message(
                one.answer,
                now_ns=now_ns,
                frame_id=frame_id,
                question_id=one.question_id,
                latency_ms=1e3 * (time.monotonic() - since_s),
            )
            self._answers.publish(message)
            self._texts.publish(String(data=answer_line(one.answer)))
        if message is not None:
            status = plan_message(done.answers[0].answer.plan, core.runtime.budget)
            status.header = message.header
            status.step_ms = 1e3 * (done.ended_s - done.begun_s)
            status.questions = len(done.answers)
            self._plans.publish(status)

    def problem(self, core: Core, reason: str) -> None:
        """Publish that a round was not answered, and why."""
        status = plan_message(None, core.runtime.budget)
        status.policy, status.problem = core.runtime.policy, reason
        status.header.stamp = self._node.get_clock().now().to_msg()
        self._plans.publish(status)

    def pack(self, path: str, core: Core) -> None:
        """Publish which pack answers."""
        self._pack.publish(pack_message(path, core.runtime.pack))

    def diagnostics(self, statuses: Sequence[diagnostics.Status]) -> None:
        """Publish how the node is."""
        array = DiagnosticArray()
        # Not by a simulated clock, which may stand still.
        array.header.stamp = Clock(clock_type=ClockType.SYSTEM_TIME).now().to_msg()
        name = self._node.get_fully_qualified_name().lstrip("/")
        array.status = diagnostics.messages(name, statuses)
        self._diagnostics.publish(array)
