"""What the node says of itself on `/diagnostics`: sensors, answers, what is loaded, the machine."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tailwire.runtime.energy import EnergyAbsent, EnergyMeter, EnergyReading, open_energy_meter
from tailwire.runtime.metrics import resident_memory_bytes
from tailwire.runtime.plans import Plan

from .answering import AnsweringLoop
from .core import Core
from .sensor_input import SensorInput

OK, WARN, ERROR = b"\0", b"\1", b"\2"
_THERMAL = Path("/sys/class/thermal")
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Status:
    """One line of diagnostics, before it becomes `diagnostic_msgs/DiagnosticStatus`.

    Attributes:
        name: behind the name of the node.
        level: `OK`, `WARN` or `ERROR`.
        message: in a few words.
        values: by name, as text.
    """

    name: str
    level: bytes
    message: str
    values: Mapping[str, str]


def messages(node: str, statuses: Iterable[Status]) -> list[Any]:
    """`diagnostic_msgs/DiagnosticStatus`, named `<node>: <part>`."""
    from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

    return [
        DiagnosticStatus(
            level=status.level,
            name=f"{node}: {status.name}",
            message=status.message,
            hardware_id=node,
            values=[KeyValue(key=key, value=value) for key, value in status.values.items()],
        )
        for status in statuses
    ]


def unloaded_status(broken: str) -> Status:
    """Of a node that has loaded nothing, perhaps because its engines broke."""
    return Status("answers", WARN, broken or "nothing is loaded", {})


def active_statuses(
    core: Core,
    loop: AnsweringLoop | None,
    inputs: Sequence[SensorInput],
    *,
    now_ns: int,
    silence_s: float,
) -> list[Status]:
    """Sensors that are switched on, and answers; nothing of a node that is not active.

    Args:
        core: what answers.
        loop: of an active node.
        inputs: its sensors.
        now_ns: by the clock that stamps messages.
        silence_s: no answer for longer is an error.
    """
    if loop is None:
        return []
    limit_ms, missed = core.runtime.max_age_ms, loop.newly_missed()
    found = [
        sensor_status(one, loop, missed[one.where.sensor], now_ns=now_ns, max_age_ms=limit_ms)
        for one in inputs
        if one.where.sensor in core.runtime.sensors
    ]
    return [*found, answers_status(loop, core, silence_s)]


def sensor_status(
    one: SensorInput, loop: AnsweringLoop, missed: int, *, now_ns: int, max_age_ms: float
) -> Status:
    """Rate, age and losses of a sensor; a silent, old or missing one is a warning.

    Args:
        one: the sensor.
        loop: tells why answers lack it.
        missed: rounds of answers that lacked it since the last diagnostics.
        now_ns: by the clock that stamps its messages.
        max_age_ms: of frames that may be used.
    """
    counts, now_s = one.counts, time.monotonic()
    # By the machine's clock: a simulated one may stand still, or run at another rate.
    silent_ms = 1e3 * (now_s - counts.arrived_s)
    lost = counts.late + counts.bad + counts.unstamped + counts.future + counts.refused
    values = {
        "topic": one.where.topic,
        "received": str(counts.received),
        "rate [Hz]": f"{counts.rate_hz(now_s):.1f}",
        "dropped": str(lost),
        "dropped, late": str(counts.late),
        "dropped, bad": str(counts.bad + counts.refused),
        "dropped, without stamp": str(counts.unstamped),
        "dropped, from the future": str(counts.future),
        "rounds without it": str(loop.missed[one.where.sensor]),
    }
    if counts.problem:
        values["newest problem"] = counts.problem
    age_ms = None if counts.newest_ns is None else (now_ns - counts.newest_ns) / 1e6
    if age_ms is not None:
        values["age [ms]"] = f"{age_ms:.0f}"
    if age_ms is None and not counts.arrived_s:
        reason = counts.problem or "it has sent nothing"
        return Status(f"sensor {one.where.sensor}", WARN, f"no frame: {reason}", values)
    if silent_ms > max_age_ms:
        text = f"silent for {silent_ms / 1e3:.1f} s"
        return Status(f"sensor {one.where.sensor}", WARN, text, values)
    if age_ms is None:
        text = "no frame since time has jumped back"
        return Status(f"sensor {one.where.sensor}", WARN, text, values)
    if age_ms > max_age_ms:
        text = f"its frames are {age_ms:.0f} ms old when they come"
        return Status(f"sensor {one.where.sensor}", WARN, text, values)
    if missed:
        # It may be back already; a short gap between two diagnostics must be seen all the same.
        text = f"missing from {missed} rounds: {loop.why_missed.get(one.where.sensor, '')}"
        return Status(f"sensor {one.where.sensor}", WARN, text, values)
    return Status(f"sensor {one.where.sensor}", OK, "", values)


def answers_status(loop: AnsweringLoop, core: Core, silence_s: float) -> Status:
    """How answering goes; too long without an answer is an error."""
    since_s = time.monotonic() - loop.answered_s
    values = {
        "standing questions": str(core.num_standing),
        "rounds": str(loop.rounds),
        "rounds failed": str(loop.failures),
        "answers late or cut": str(loop.late),
        "since the last [s]": f"{since_s:.1f}",
        "policy": core.runtime.policy,
        **_percentiles("step", loop.step_ms),
        **_percentiles("overhead", loop.overhead_ms),
        **_percentiles("overhead on free cores", loop.free_overhead_ms),
    }
    if loop.plan is not None:
        values["plan"] = plan_line(loop.plan)
    if loop.problem:
        values["problem"] = loop.problem
    if not core.num_standing:
        return Status("answers", OK, "there is no standing question", values)
    if since_s > silence_s:
        text = loop.problem or "no frame has come to answer from"
        return Status("answers", ERROR, f"no answer for {since_s:.0f} s: {text}", values)
    return Status("answers", WARN if loop.problem else OK, loop.problem, values)


def plan_line(plan: Plan) -> str:
    """For people: `run cam_front, reuse lidar_top; 16 tail blocks, int8`."""
    sensors = ", ".join(f"{action} {sensor}" for sensor, action in plan.sensors.items())
    return f"{sensors or 'no sensor'}; {plan.tail_blocks} tail blocks, {plan.precision}"


def loaded_status(core: Core) -> Status:
    """What is loaded, with the hashes that tell it from others."""
    runtime = core.runtime
    pack, model = runtime.pack, runtime.model.manifest
    values = {
        "pack": f"{pack.name} {pack.version}",
        "pack trained": str(pack.trained).lower(),
        "connection sha256": pack.files[pack.connection.file].sha256,
        "language model": model.name,
        "language model sha256": model.content_hash,
        "precision": model.precision,
        "tail blocks": str(runtime.tail_blocks),
        "sensors": " ".join(runtime.sensors),
    }
    for name, spec in pack.encoders.items():
        if spec.files:
            values[f"encoder {name} sha256"] = " ".join(
                pack.files[one].sha256 for one in spec.files
            )
    for sensor, count in runtime.bad_frames.items():
        if count:
            values[f"frames of {sensor} refused"] = str(count)
    on_cpu = runtime.engines_on_cpu
    for graph, why in on_cpu.items():
        values[f"on the CPU, {graph}"] = why
    problems = [] if pack.trained else ["the pack is not trained, answers mean nothing"]
    if on_cpu:
        problems.append(f"{len(on_cpu)} engines run on the CPU, as the device cannot take them")
    return Status("loaded", WARN if problems else OK, "; ".join(problems), values)


def shared_memory_bytes(status: Path = _STATUS) -> int | None:
    """What of the resident memory is shared with other processes, None where Linux does not tell.

    It is mostly the middleware's: rings of a fixed size that are counted as they are first used.

    Args:
        status: of this process, see proc(5).
    """
    try:
        lines = status.read_text().splitlines()
        (kilobytes,) = (line.split()[1] for line in lines if line.startswith("RssShmem:"))
    except (OSError, ValueError, IndexError):
        return None
    return int(kilobytes) * 1024


class Machine:
    """Memory, temperature and power, where the machine tells them."""

    def __init__(self, root: Path = _THERMAL) -> None:
        """Look for meters.

        Args:
            root: folder of the thermal zones.
        """
        self._zones = sorted(root.glob("thermal_zone*")) if root.is_dir() else []
        self._meter: EnergyMeter | EnergyAbsent = open_energy_meter()
        self._last: EnergyReading | None = None

    def status(self) -> Status:
        """Read now."""
        resident = resident_memory_bytes()
        values = {"memory [MB], RSS": "not known" if resident is None else f"{resident / 1e6:.1f}"}
        shared = shared_memory_bytes()
        if shared is not None:
            values["memory [MB], of it shared"] = f"{shared / 1e6:.1f}"
        for zone in self._zones:
            try:
                kind = (zone / "type").read_text().strip()
                celsius = int((zone / "temp").read_text()) / 1000
            except (OSError, ValueError):
                continue
            values[f"temperature [C], {kind}"] = f"{celsius:.1f}"
        values.update(self._power())
        return Status("machine", OK, "", values)

    def _power(self) -> Mapping[str, str]:
        if isinstance(self._meter, EnergyAbsent):
            return {"power [W]": f"not known: {self._meter.reason}"}
        before, self._last = self._last, self._meter.read()
        if before is None:
            return {}
        used = self._meter.between(before, self._last)
        if used.joules is None or used.seconds <= 0:
            return {"power [W]": f"not known: {used.reason}"}
        return {f"power [W], {used.method}": f"{used.joules / used.seconds:.2f}"}


def _percentiles(name: str, values_ms: Sequence[float] | Iterable[float]) -> Mapping[str, str]:
    found = np.array(list(values_ms))
    if not len(found):
        return {}
    middle, high = np.percentile(found, [50, 99])
    return {
        f"{name} p50 [ms]": f"{middle:.2f}",
        f"{name} p99 [ms]": f"{high:.2f}",
        f"{name}, of rounds": str(len(found)),
    }
