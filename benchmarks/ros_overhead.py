"""What ROS costs around the core: a drive in real time over DDS into the runtime node.

Drive and node are processes of their own, as on a robot; this one listens, asks and cancels. The
node itself measures its overhead: from the middleware having a message to its answers being
published, without the core's step and without waiting for the step before.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime.errors import ConfigError, EngineError

_PATIENCE_S = 600.0
_MEMORY = "memory [MB], RSS"
_PROFILE = "FASTRTPS_DEFAULT_PROFILES_FILE"
_QUESTION = "What is in front of me?"


def check_ros() -> None:
    """Refuse to go on without ROS.

    Raises:
        ConfigError: rclpy, the interfaces or the nodes are not there.
    """
    for name in ("rclpy", "tailwire_msgs", "tailwire_ros"):
        # A folder of this name is no installed package.
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            raise ConfigError(
                f"{name} is not there",
                field="ros",
                remedy="source a ROS 2 workspace with ros_nodes in it, or run `make ros` and use "
                ".venv/ros/bin/python -m tailwire.cli",
            )


def bench_ros(
    drive: Path,
    parameters: dict[str, str],
    *,
    scene: str = "",
    rate: float = 1.0,
    loop_s: float = 0.0,
    cancels: int = 5,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Play a drive into the node, and look at what it says of itself.

    Args:
        drive: nuScenes dataroot or bag.
        parameters: of the runtime node, as `-p` takes them.
        scene: of the drive; empty takes the first.
        rate: seconds of the drive per second.
        loop_s: play the drive again and again for so many seconds; 0 plays it once.
        cancels: streamed answers that are cancelled meanwhile.
        progress: told what is being done.

    Raises:
        ConfigError: ROS is not there.
        EngineError: the node or the drive ended too early.
    """
    check_ros()
    import rclpy

    context = rclpy.Context()
    rclpy.init(context=context)
    try:
        listener = _Listener(context)
        node = {"use_sim_time": "true", "diagnostics_period_s": "0.5", **parameters}
        played = {
            "path": str(drive),
            "scene": scene or "''",
            "rate": str(rate),
            "loop": "true" if loop_s else "false",
            "wait_s": str(_PATIENCE_S),
        }
        with listener.spun(), _process("runtime_node", node) as runtime:
            progress("the node loads its engines")
            _wait(listener.is_active, runtime, "the node did not become active")
            progress("the drive plays")
            with _process("replay_node", played) as replay:
                cancelled = listener.cancel_some(cancels, replay)
                if loop_s:
                    time.sleep(loop_s)
                elif replay.wait(_PATIENCE_S):
                    raise EngineError("the drive could not be played", field="replay_node")
            return {**listener.summary(), **cancelled, "rate": rate}
    finally:
        rclpy.try_shutdown(context=context)


class _Listener:
    """A node that keeps diagnostics, and asks."""

    def __init__(self, context: Any) -> None:
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.action import ActionClient
        from rclpy.node import Node

        from tailwire_msgs.action import Ask

        self._context = context
        self._node = Node("tailwire_bench", context=context)
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._keep, 50)
        self._client = ActionClient(self._node, Ask, "/tailwire/ask")
        self._statuses: dict[str, dict[str, str]] = {}
        self._memory_mb: list[float] = []

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
        return "rounds" in self._statuses.get("answers", {})

    def cancel_some(self, number: int, replay: subprocess.Popen[bytes]) -> dict[str, Any]:
        """Ask, and cancel in the middle of the answer; milliseconds."""
        from tailwire_msgs.action import Ask

        cancel_ms: list[float] = []
        first_ms: list[float] = []
        _wait(lambda: self._statuses["answers"]["rounds"] != "0", replay, "nothing is answered")
        for _ in range(number):
            pieces = threading.Event()
            begun = time.perf_counter()

            def hear(message: Any, pieces: threading.Event = pieces, begun: float = begun) -> None:
                if message.feedback.text and not pieces.is_set():
                    first_ms.append(1e3 * (time.perf_counter() - begun))
                    pieces.set()

            goal = Ask.Goal(question=_QUESTION, max_new_tokens=256)
            handle = _done(self._client.send_goal_async(goal, hear))
            result = handle.get_result_async()
            # A quick model is at the end before its first piece is heard.
            _wait(lambda p=pieces, r=result: p.is_set() or r.done(), replay, "no answer streams")
            if result.done():
                continue
            begun = time.perf_counter()
            handle.cancel_goal_async()
            if _done(result).result.message == "cancelled":
                cancel_ms.append(1e3 * (time.perf_counter() - begun))
        return {
            "cancels": len(cancel_ms),
            "cancel_max_ms": round(max(cancel_ms), 1) if cancel_ms else None,
            "first_piece_p50_ms": round(float(np.median(first_ms)), 1) if first_ms else None,
        }

    def summary(self) -> dict[str, Any]:
        """What the node last said."""
        answers, memory = self._statuses.get("answers", {}), self._memory_mb
        quarter = max(1, len(memory) // 4)
        growth = None
        if len(memory) >= 8:
            # The first quarter still fills buffers.
            early = np.median(memory[quarter : 2 * quarter])
            growth = round(float(np.median(memory[-quarter:]) / early - 1), 4)
        found: dict[str, Any] = {
            f"{name}_{part}_ms": _number(answers.get(f"{name} {part} [ms]"))
            for name in ("overhead", "step")
            for part in ("p50", "p99")
        }
        sensors = {
            name.removeprefix("sensor "): {
                "received": int(values["received"]),
                "dropped": int(values["dropped"]),
                "rate_hz": _number(values["rate [Hz]"]),
            }
            for name, values in sorted(self._statuses.items())
            if name.startswith("sensor ")
        }
        return {
            **found,
            "rounds": int(answers.get("rounds", 0)),
            "rounds_failed": int(answers.get("rounds failed", 0)),
            "sensors": sensors,
            "memory_mb": memory[-1] if memory else None,
            "memory_growth": growth,
            "memory_method": "resident memory of the node's process, medians of two quarters",
        }

    def _keep(self, array: Any) -> None:
        for status in array.status:
            part = status.name.partition(": ")[2]
            values = {one.key: one.value for one in status.values}
            self._statuses[part] = values
            if part == "machine" and (memory := _number(values.get(_MEMORY))) is not None:
                self._memory_mb.append(memory)


@contextmanager
def _process(node: str, parameters: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A node, interrupted at the end."""
    words = [word for key, value in parameters.items() for word in ("-p", f"{key}:={value}")]
    code = f"import sys; from tailwire_ros.{node} import main; sys.exit(main())"
    command: Sequence[str] = [sys.executable, "-c", code, "--ros-args", *words]
    process = subprocess.Popen(command, env=_environment())
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _environment() -> dict[str, str]:
    """Ours, with room for point clouds in shared memory unless it says otherwise."""
    import tailwire_ros

    package = Path(tailwire_ros.__file__).parents[1]
    prefixes = [Path(one) for one in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)]
    folders = [package, *(prefix / "share" / "tailwire_ros" for prefix in prefixes)]
    found = [folder / "config" / "fastdds.xml" for folder in folders]
    profile = next((str(path) for path in found if path.is_file()), None)
    return {**({_PROFILE: profile} if profile else {}), **os.environ}


def _wait(check: Callable[[], bool], process: subprocess.Popen[bytes], what: str) -> None:
    end_s = time.monotonic() + _PATIENCE_S
    while not check():
        if process.poll() is not None or time.monotonic() > end_s:
            raise EngineError(what, field="ros", remedy="see what it printed above")
        time.sleep(0.002)


def _done(future: Any) -> Any:
    end_s = time.monotonic() + _PATIENCE_S
    while not future.done():
        if time.monotonic() > end_s:
            raise EngineError("the node does not answer", field="ros")
        time.sleep(0.001)
    return future.result()


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
