"""A node beside the runtime node: keeps its diagnostics, asks, cancels, withholds sensors.

What figures are made of what it hears is `ros_overhead.py`'s and `ros_silences.py`'s matter.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ..runtime.errors import EngineError
from .ros_silences import SilenceWatch

#: How long anything may take.
PATIENCE_S = 600.0
#: A call of a service that nobody has answered is made again.
_ASK_AGAIN_S = 5.0
QUESTION = "What is in front of me?"
_MEMORY = "memory [MB], RSS"
_SHARED = "memory [MB], of it shared"
_WARN = b"\1"


class Listener:
    """Hears what the runtime node says of itself.

    Attributes:
        statuses: newest values of its diagnostics, by part.
        memory_mb: resident memory of its process, at each diagnostics.
        private_mb: the same without what it shares with others, where that is known.
        silences: sensors that answers lacked, against warnings.
    """

    def __init__(self, context: Any) -> None:
        """Subscribe.

        Args:
            context: of rclpy.
        """
        from diagnostic_msgs.msg import DiagnosticArray
        from rcl_interfaces.srv import SetParameters
        from rclpy.action import ActionClient
        from rclpy.node import Node

        from tailwire_msgs.action import Ask
        from tailwire_msgs.msg import Answer

        self._context = context
        self._node = Node("tailwire_bench", context=context)
        for kind, topic, take, depth in (
            (DiagnosticArray, "/diagnostics", self._keep, 50),
            (Answer, "/tailwire/answers", self._answered, 100),
        ):
            self._node.create_subscription(kind, topic, _informed(take), depth)
        self._client = ActionClient(self._node, Ask, "/tailwire/ask")
        self._drops = self._node.create_client(SetParameters, "/tailwire_replay/set_parameters")
        self.statuses: dict[str, dict[str, str]] = {}
        self.memory_mb: list[float] = []
        self.private_mb: list[float] = []
        self.silences = SilenceWatch()

    @contextmanager
    def spun(self) -> Iterator[None]:
        """Spin it in the background."""
        from rclpy.executors import SingleThreadedExecutor

        executor = SingleThreadedExecutor(context=self._context)
        executor.add_node(self._node)
        thread = threading.Thread(target=executor.spin, daemon=True)
        thread.start()
        try:
            yield
        finally:
            executor.shutdown()
            thread.join()
            self._client.destroy()
            self._node.destroy_node()

    def is_active(self) -> bool:
        """Whether the runtime node answers: only then does it tell of its answers' rounds."""
        return "rounds" in self.statuses.get("answers", {})

    def ask(self, max_new_tokens: int, replay: subprocess.Popen[bytes]) -> Asked | None:
        """Ask for free text, and wait for its first piece; None where the drive ended before."""
        from tailwire_msgs.action import Ask

        heard = threading.Event()
        first_s: list[float] = []

        def hear(message: Any) -> None:
            if message.feedback.text and not heard.is_set():
                first_s.append(time.perf_counter())
                heard.set()

        begun_s = time.perf_counter()
        goal = Ask.Goal(question=QUESTION, max_new_tokens=max_new_tokens)
        handle = done(self._client.send_goal_async(goal, hear))
        asked = Asked(handle, handle.get_result_async())
        # A quick model is at the end before its first piece is heard.
        while not heard.is_set() and not asked.result.done():
            if replay.poll() is not None:
                return None
            time.sleep(0.001)
        if first_s:
            asked.first_ms = 1e3 * (first_s[0] - begun_s)
        return asked

    def withhold(self, sensors: Sequence[str]) -> None:
        """Let the replay withhold these sensors from now on, and publish all others."""
        from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
        from rcl_interfaces.srv import SetParameters

        value = ParameterValue(
            type=ParameterType.PARAMETER_STRING_ARRAY, string_array_value=list(sensors) or [""]
        )
        request = SetParameters.Request(parameters=[Parameter(name="drop", value=value)])
        end_s = time.monotonic() + PATIENCE_S
        # An answer is lost where the node has not found its reader yet; asking again does no harm.
        while True:
            future = self._drops.call_async(request)
            again_s = time.monotonic() + _ASK_AGAIN_S
            while not future.done() and time.monotonic() < again_s:
                time.sleep(0.001)
            if future.done():
                break
            self._drops.remove_pending_request(future)
            if time.monotonic() > end_s:
                raise EngineError("the replay does not answer", field="drop")
        (result,) = future.result().results
        if not result.successful:
            raise EngineError(result.reason, field="drop")

    def _answered(self, message: Any, info: Mapping[str, Any]) -> None:
        lacking = [one.partition(":")[0] for one in message.dropped]
        self.silences.answered(lacking, _sent_s(info))

    def _keep(self, array: Any, info: Mapping[str, Any]) -> None:
        warned: dict[str, str] = {}
        told: set[str] = set()
        for status in array.status:
            part = status.name.partition(": ")[2]
            values = {one.key: one.value for one in status.values}
            self.statuses[part] = values
            if part.startswith("sensor "):
                sensor = part.removeprefix("sensor ")
                told.add(sensor)
                if status.level >= _WARN:
                    warned[sensor] = status.message
            if part == "machine" and (memory := number(values.get(_MEMORY))) is not None:
                self.memory_mb.append(memory)
                if (shared := number(values.get(_SHARED))) is not None:
                    self.private_mb.append(memory - shared)
        if told:
            self.silences.diagnosed(told, warned, _sent_s(info))


class Asked:
    """A goal that was accepted.

    Attributes:
        handle: of rclpy.
        result: future of it.
        first_ms: from sending the goal to hearing the first piece of text; None without one.
    """

    def __init__(self, handle: Any, result: Any) -> None:
        self.handle, self.result = handle, result
        self.first_ms: float | None = None


def _informed(take: Callable[[Any, Mapping[str, Any]], None]) -> Callable[..., None]:
    """The callback as this rclpy calls it: Humble's hands over the message alone."""
    from rclpy.subscription import Subscription

    if hasattr(Subscription, "CallbackType"):
        return take
    return lambda message: take(message, {})


def _sent_s(info: Mapping[str, Any]) -> float:
    return (int(info.get("source_timestamp") or 0) or time.time_ns()) * 1e-9


def sensor_counts(statuses: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, Any]]:
    """Messages by sensor, of diagnostics."""
    return {
        name.removeprefix("sensor "): {
            "received": int(values["received"]),
            "dropped": int(values["dropped"]),
            "rate_hz": number(values["rate [Hz]"]),
            "rounds_without": int(values["rounds without it"]),
        }
        for name, values in sorted(statuses.items())
        if name.startswith("sensor ")
    }


def wait(check: Callable[[], bool], process: subprocess.Popen[bytes], what: str) -> None:
    """Wait until something is true.

    Raises:
        EngineError: the process ended first, or it took too long; says `what`.
    """
    end_s = time.monotonic() + PATIENCE_S
    while not check():
        if process.poll() is not None or time.monotonic() > end_s:
            raise EngineError(what, field="ros", remedy="see what it printed above")
        time.sleep(0.002)


def done(future: Any) -> Any:
    """Wait for a future of rclpy that another thread spins.

    Raises:
        EngineError: it took too long.
    """
    end_s = time.monotonic() + PATIENCE_S
    while not future.done():
        if time.monotonic() > end_s:
            raise EngineError("the node does not answer", field="ros")
        time.sleep(0.001)
    return future.result()


def number(text: str | None) -> float | None:
    """A number in diagnostics; None where there is none."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
