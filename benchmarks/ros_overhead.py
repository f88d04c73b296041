"""What ROS costs around the core: a drive in real time over DDS into the runtime node.

Drive and node are processes of their own, as on a robot; this one listens, asks and cancels. The
node itself measures its overhead: from the middleware having a message to its answers being
published, without the core's step and without waiting for the step before. On a machine that does
other work, rounds in which no thread of the node waited for a core are told apart. First tokens are
heard on the far side of DDS, and held against those of the core alone.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime.errors import ConfigError, EngineError
from .ros_first_token import core_first_tokens
from .ros_listener import PATIENCE_S, QUESTION, Listener, done, number, sensor_counts, wait
from .ros_silences import Withheld

_PROFILE = "FASTRTPS_DEFAULT_PROFILES_FILE"
#: What plays the robot shall not take the core from what is measured.
_STEP_BACK = 5
#: Between two interim reports of a long run, seconds.
_REPORT_S = 300.0
#: Between two questions whose first token is timed, seconds: sensors have something new.
_GAP_S = 0.5


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


@dataclass(frozen=True)
class Play:
    """What is played, and what is done meanwhile.

    Attributes:
        drive: nuScenes dataroot or bag.
        scene: of the drive; empty takes the first.
        rate: seconds of the drive per second.
        loop_s: the drive is played again and again for so many seconds; 0 plays it once.
        cancels: streamed answers that are cancelled meanwhile.
        withhold_s: while it is looped, a sensor is withheld after every so many seconds until the
            node warns of it; 0 never.
        first_tokens: questions whose first token is timed, in a play of their own without standing
            questions; 0 leaves that out.
    """

    drive: Path
    scene: str = ""
    rate: float = 1.0
    loop_s: float = 0.0
    cancels: int = 5
    withhold_s: float = 120.0
    first_tokens: int = 10


def bench_ros(
    play: Play,
    parameters: Mapping[str, str],
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Play a drive into the node, and look at what it says of itself.

    Args:
        play: what is played.
        parameters: of the runtime node, as `-p` takes them.
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
        found: dict[str, Any] = {"rate": play.rate}
        if play.first_tokens:
            found.update(_first_tokens(context, play, parameters, progress))
        with _played(context, play, parameters, progress) as (listener, runtime, replay):
            begun = time.monotonic(), cpu_seconds(runtime.pid)
            found.update(_cancel_some(listener, play.cancels, replay))
            if play.loop_s:
                found.update(_loop(listener, play, replay, progress))
            elif replay.wait(PATIENCE_S):
                raise EngineError("the drive could not be played", field="replay_node")
            found.update(_summary(listener))
            ended = time.monotonic(), cpu_seconds(runtime.pid)
            found["node_cores"] = _cores(begun, ended)
        return found
    finally:
        rclpy.try_shutdown(context=context)


@contextmanager
def _played(
    context: Any,
    play: Play,
    parameters: Mapping[str, str],
    progress: Callable[[str], None],
    *,
    loop: bool = False,
) -> Iterator[tuple[Listener, subprocess.Popen[bytes], subprocess.Popen[bytes]]]:
    """A listener, the active node, and the drive that plays."""
    listener = Listener(context)
    node = {
        "use_sim_time": "true",
        "diagnostics_period_s": "0.5",
        "core_waits": "true",
        **parameters,
    }
    played = _drive(play, loop=loop or play.loop_s > 0)
    with listener.spun(), _process("runtime_node", node) as runtime:
        progress("the node loads its engines")
        wait(listener.is_active, runtime, "the node did not become active")
        progress("the drive plays")
        with _process("replay_node", played, _STEP_BACK) as replay:
            yield listener, runtime, replay


def cpu_seconds(pid: int, processes: Path = Path("/proc")) -> float | None:
    """Time that a process has had on cores, all threads together; None where nobody tells."""
    try:
        # Its name, in brackets, may hold anything.
        words = (processes / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None


def _cores(begun: tuple[float, float | None], ended: tuple[float, float | None]) -> float | None:
    """Cores that were busy in the mean; both ends are wall time and time on cores."""
    if begun[1] is None or ended[1] is None or ended[0] <= begun[0]:
        return None
    return round((ended[1] - begun[1]) / (ended[0] - begun[0]), 3)


def _drive(play: Play, *, loop: bool, wait_s: float = PATIENCE_S) -> dict[str, str]:
    """Parameters of the replay."""
    return {
        "path": str(play.drive),
        "scene": play.scene or "''",
        "rate": str(play.rate),
        "loop": "true" if loop else "false",
        "wait_s": str(wait_s),
    }


def _first_tokens(
    context: Any, play: Play, parameters: Mapping[str, str], progress: Callable[[str], None]
) -> dict[str, Any]:
    """The first piece of text over DDS against that of the core alone; milliseconds.

    The node has no standing question meanwhile, for waiting for another answer is no overhead. The
    drive plays at its full rate for both, to nobody where the core is alone.
    """
    progress("the core alone: first tokens")
    with _process("replay_node", _drive(play, loop=True, wait_s=0.0), _STEP_BACK):
        own = core_first_tokens(play.drive, play.scene, parameters, QUESTION, play.first_tokens)
    none = {
        name: value for name, value in parameters.items() if name.partition(".")[0] != "question"
    }
    none["questions"] = "['']"
    heard: list[float] = []
    inside: list[float] = []
    with _played(context, play, none, progress, loop=True) as (listener, _, replay):
        wait(
            lambda: all(one["received"] for one in _rated(listener)),
            replay,
            "the node hears no sensor",
        )
        for number_asked in range(play.first_tokens + 1):
            asked = listener.ask(8, replay)
            if asked is None:
                raise EngineError("the drive ended too early", field="replay_node")
            result = done(asked.result).result
            # The first one is not counted: the core has none either.
            if number_asked and asked.first_ms is not None:
                heard.append(asked.first_ms)
                inside.append(result.first_piece_ms)
            time.sleep(_GAP_S)
    if not own or not heard:
        return {"first_token_ratio": None}
    core_ms, node_ms = float(np.median(own)), float(np.median(heard))
    return {
        "core_first_token_p50_ms": round(core_ms, 1),
        "first_token_p50_ms": round(node_ms, 1),
        "first_token_in_node_p50_ms": round(float(np.median(inside)), 1),
        "first_token_ratio": round(node_ms / core_ms, 3),
        "first_tokens": len(heard),
    }


def _rated(listener: Listener) -> list[dict[str, Any]]:
    """Sensors that have ever sent something; one that counts as silent where none has."""
    counts = list(sensor_counts(listener.statuses).values())
    return [one for one in counts if one["received"]] or [{"received": 0}]


def _cancel_some(
    listener: Listener, wanted: int, replay: subprocess.Popen[bytes]
) -> dict[str, Any]:
    """Ask, and cancel in the middle of the answer; milliseconds. Ends early with the drive."""
    cancel_ms: list[float] = []
    first_ms: list[float] = []
    wait(lambda: listener.statuses["answers"]["rounds"] != "0", replay, "nothing is answered")
    for _ in range(wanted):
        asked = listener.ask(256, replay)
        if asked is None:
            break
        if asked.first_ms is not None:
            first_ms.append(asked.first_ms)
        if asked.result.done():
            continue
        begun_s = time.perf_counter()
        asked.handle.cancel_goal_async()
        if done(asked.result).result.message == "cancelled":
            cancel_ms.append(1e3 * (time.perf_counter() - begun_s))
    return {
        "cancels": len(cancel_ms),
        "cancel_max_ms": round(max(cancel_ms), 1) if cancel_ms else None,
        "first_token_busy_p50_ms": round(float(np.median(first_ms)), 1) if first_ms else None,
    }


def _loop(
    listener: Listener,
    play: Play,
    replay: subprocess.Popen[bytes],
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Play for long, withhold a sensor from time to time, and tell what has come of it so far."""
    withheld, over = Withheld(), threading.Event()
    begun_s = time.monotonic()
    next_report_s, next_withheld_s = begun_s + _REPORT_S, begun_s + play.withhold_s
    place = 0
    while (now_s := time.monotonic()) < begun_s + play.loop_s:
        if replay.poll() is not None:
            raise EngineError("the drive ended too early", field="replay_node")
        sensors = [name for name, one in sensor_counts(listener.statuses).items() if one["rate_hz"]]
        if play.withhold_s and now_s >= next_withheld_s and sensors:
            withheld.one(sensors[place % len(sensors)], listener.silences, listener.withhold, over)
            place += 1
            next_withheld_s += play.withhold_s
        if now_s >= next_report_s:
            next_report_s += _REPORT_S
            so_far = {**_summary(listener), **withheld.summary(listener.silences)}
            progress(f"after {now_s - begun_s:.0f} s: {json.dumps(so_far)}")
        time.sleep(0.2)
    return withheld.summary(listener.silences)


def _summary(listener: Listener) -> dict[str, Any]:
    """What the node last said."""
    answers, memory = listener.statuses.get("answers", {}), listener.memory_mb
    found: dict[str, Any] = {
        f"{name}_{part}_ms": number(answers.get(f"{name} {part} [ms]"))
        for name in ("overhead", "step")
        for part in ("p50", "p99")
    }
    free = "overhead on free cores"
    for part in ("p50", "p99"):
        found[f"overhead_free_{part}_ms"] = number(answers.get(f"{free} {part} [ms]"))
    found["overhead_free_rounds"] = int(answers.get(f"{free}, of rounds", 0))
    parts, private = _tenths(memory), _tenths(listener.private_mb)
    return {
        **found,
        "rounds": int(answers.get("rounds", 0)),
        "rounds_failed": int(answers.get("rounds failed", 0)),
        "sensors": sensor_counts(listener.statuses),
        "memory_mb": memory[-1] if memory else None,
        "memory_tenths_mb": [round(one, 1) for one in parts],
        "memory_growth": _growth(parts),
        "memory_private_tenths_mb": [round(one, 1) for one in private],
        "memory_private_growth": _growth(private),
        "memory_method": "resident memory of the node, and the same without what it shares;"
        " medians of the second and the last tenth of the time",
    }


def _tenths(memory: Sequence[float]) -> list[float]:
    """Medians of ten parts; none where there is too little."""
    if len(memory) <= 20:
        return []
    return [float(np.median(part)) for part in np.array_split(memory, 10)]


def _growth(tenths: Sequence[float]) -> float | None:
    # The first part still fills buffers.
    return round(tenths[-1] / tenths[1] - 1, 4) if tenths else None


@contextmanager
def _process(
    node: str, parameters: Mapping[str, str], step_back: int = 0
) -> Iterator[subprocess.Popen[bytes]]:
    """A node, interrupted at the end.

    Args:
        node: its module.
        parameters: as `-p` takes them.
        step_back: added to its niceness.
    """
    words = [word for key, value in parameters.items() for word in ("-p", f"{key}:={value}")]
    code = f"import os, sys; from tailwire_ros.{node} import main; os.nice({step_back});"
    code += " sys.exit(main())"
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
