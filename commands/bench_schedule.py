"""`tailwire bench schedule`: the scheduler beside fixed plans, and live on a disturbed machine."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.errors import CacheError, ConfigError
from .arguments import (
    add_question_sources,
    add_runtime_arguments,
    comma_list,
    read_arguments,
)
from .bench_schedule_report import print_schedule
from .progress import ProgressLine
from .train_common import not_negative, positive

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from ..benchmarks.schedule_drives import ScheduleDrive
    from ..runtime.config import RuntimeConfig
    from ..runtime.runtime import Runtime

__all__ = ["add_schedule", "print_schedule", "run_schedule"]

_PARTS = ("accuracy", "decisions", "live")
_POLICIES = "round_robin,greedy,optimal"
_HZ, _EVERY, _STANDING, _POINTS = 4.0, 3, 5, 10
_FRAMES, _ALONE, _EACH, _DECISIONS = 2000, 200, 40, 2000
_MOST_TICKS = 24


def add_schedule(benches: _SubParsersAction[ArgumentParser]) -> None:
    """Declare the sub-command."""
    parser = benches.add_parser(
        "schedule", help="policies beside fixed plans at equal FLOPs; deadlines, budgets, faults"
    )
    number = {"metavar": "N", "type": int}
    what = "held-out drives in nuScenes format, with questions in them"
    add_question_sources(parser, "--dataroot", what=what)
    parser.add_argument(
        "--split", metavar="val|train|all", default="val", help="questions of this split (val)"
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        required=True,
        help="for what was computed, figures and pictures; the same command goes on there",
    )
    parser.add_argument(
        "--parts",
        metavar="LIST",
        default=",".join(_PARTS),
        help=f"measured now, the others are taken from --out ({','.join(_PARTS)})",
    )
    parser.add_argument("--policies", metavar="LIST", default=_POLICIES, help=f"({_POLICIES})")
    parser.add_argument(
        "--budgets", metavar="LIST", help="GFLOP a frame (even steps over all fixed plans)"
    )
    parser.add_argument("--points", **number, default=_POINTS, help=f"such steps ({_POINTS})")
    parser.add_argument(
        "--hz", metavar="X", type=float, default=_HZ, help=f"decisions a second ({_HZ:g})"
    )
    parser.add_argument(
        "--every", **number, default=_EVERY, help=f"score each N-th keyframe ({_EVERY})"
    )
    parser.add_argument(
        "--standing", **number, default=_STANDING, help=f"questions at once ({_STANDING})"
    )
    parser.add_argument("--keyframes", **number, help="most scored ones of a drive (all)")
    parser.add_argument(
        "--frames", **number, default=_FRAMES, help=f"under the disturbance ({_FRAMES})"
    )
    parser.add_argument(
        "--alone", **number, default=_ALONE, help=f"before, for the median ({_ALONE})"
    )
    parser.add_argument(
        "--each", **number, default=_EACH, help=f"frames of a budget, of a fault ({_EACH})"
    )
    parser.add_argument(
        "--minutes", metavar="X", type=float, help="of disturbance at most, whatever --frames says"
    )
    parser.add_argument("--seed", **number, default=0, help="of disturbance and requests (0)")
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON line")
    add_runtime_arguments(parser)


def run_schedule(arguments: Namespace) -> dict[str, Any]:
    """Measure what is asked for, and put it together with what the folder has.

    Raises:
        TailwireError: an option is wrong, or drives, pack or model cannot be used.
    """
    counts = (
        "hz",
        "every",
        "standing",
        "points",
        "frames",
        "alone",
        "each",
        "keyframes",
        "minutes",
    )
    positive(arguments, *counts)
    not_negative(arguments, "seed")
    parts = _named(arguments.parts, "--parts", _PARTS)
    config = read_arguments(arguments).model_copy(update={"policy": "optimal"})
    from ..assembly import open_runtime
    from ..benchmarks.exam import set_exam
    from ..benchmarks.measure import machine_card
    from ..benchmarks.schedule_drives import schedule_drives

    found: dict[str, Any] = {}
    with ProgressLine(arguments.json) as line:
        line("reading drives and questions")
        exam = set_exam(
            arguments.dataroot,
            version=arguments.version,
            files=arguments.questions,
            split=arguments.split,
        )
        with open_runtime(config, line) as runtime:
            line("learning blind guesses")
            drives = schedule_drives(
                exam,
                [name for name in runtime.known_sensors if _is_real(runtime, name)],
                rate_hz=arguments.hz,
                every=arguments.every,
                questions=arguments.standing,
                keyframes=arguments.keyframes,
                with_guesses="accuracy" in parts,
            )
            if "accuracy" in parts:
                found["accuracy"] = _accuracy(arguments, config, runtime, drives, line)
            if "decisions" in parts:
                found["decisions"] = _decisions(arguments, runtime)
            if "live" in parts:
                found["live"] = _live(arguments, runtime, drives, line)
    for name in parts:
        _write(arguments.out, name, found[name])
    whole = {name: found.get(name) or _read(arguments.out, name) for name in _PARTS}
    return _result(arguments, whole, machine_card(config.threads, ["tailwire"]))


def _accuracy(
    arguments: Namespace,
    config: RuntimeConfig,
    runtime: Runtime,
    drives: list[ScheduleDrive],
    line: ProgressLine,
) -> dict[str, Any]:
    from ..benchmarks.schedule import ScheduleBench
    from ..benchmarks.schedule_planning import Planning
    from ..benchmarks.schedule_plots import draw_schedule
    from ..benchmarks.schedule_store import ScheduleStore
    from ..benchmarks.schedule_world import ScheduleWorld
    from ..runtime.policies import POLICY_NAMES, make_policy

    names = _named(arguments.policies, "--policies", POLICY_NAMES)
    planning = Planning(runtime.parts, runtime.depths, runtime.parts.utility)
    store = ScheduleStore(arguments.out, _identity(arguments, runtime))
    try:
        world = ScheduleWorld(runtime.parts, planning.depths, store)
        bench = ScheduleBench(
            world,
            planning,
            drives,
            {name: lambda name=name: make_policy(name) for name in names},
            max_age_ms=config.max_age_ms,
            budgets=_budgets(arguments.budgets),
            points=arguments.points,
        )
        bench.run(line)
    finally:
        store.close()
    figures = bench.figures()
    picture = arguments.out / "schedule.png"
    figures["figure"] = _drawn(picture, lambda: draw_schedule(picture, figures))
    settings = ("hz", "every", "standing", "keyframes", "split")
    figures["settings"] = {name: getattr(arguments, name) for name in settings} | {
        "depths": list(planning.depths),
        "precision": planning.precision,
        "max_age_ms": config.max_age_ms,
        "pack": f"{runtime.pack.name} {runtime.pack.version}",
    }
    return figures


def _decisions(arguments: Namespace, runtime: Runtime) -> dict[str, Any]:
    from ..benchmarks.schedule_decisions import bench_decisions
    from ..runtime.policies import make_policy

    found = {
        name: bench_decisions(
            make_policy(name),
            runtime.parts,
            runtime.parts.utility,
            decisions=_DECISIONS,
            seed=arguments.seed,
        )
        for name in ("greedy", "optimal")
    }
    return {"policies": found}


def _live(
    arguments: Namespace, runtime: Runtime, drives: list[ScheduleDrive], line: ProgressLine
) -> dict[str, Any]:
    from ..benchmarks.schedule_live import LiveBench
    from ..benchmarks.schedule_plots import draw_live

    drive = drives[0]
    runtime.switch_sensors(list(drive.frames))
    for one in drive.windows[0]:
        runtime.watch(one.question)
    ticks = [
        [drive.data.read(drive.frames[name][place]) for name, place in moment.newest.items()]
        for moment in drive.moments[:_MOST_TICKS]
    ]
    bench = LiveBench(
        runtime,
        ticks,
        questions=len(drive.windows[0]),
        rate_hz=arguments.hz,
        seed=arguments.seed,
        progress=line,
    )
    found = {
        "disturbed": bench.disturbed(arguments.frames, arguments.alone, arguments.minutes),
        "budget_steps": bench.budget_steps(arguments.each),
        "sensors_dying": bench.sensors_dying(arguments.each, list(drive.frames)),
    }
    picture = arguments.out / "schedule-live.png"
    return {**found, "figure": _drawn(picture, lambda: draw_live(picture, found))}


def _result(
    arguments: Namespace, parts: dict[str, dict[str, Any] | None], machine: dict[str, Any]
) -> dict[str, Any]:
    accuracy, live, decisions = (parts[name] or {} for name in ("accuracy", "live", "decisions"))
    optimal = decisions.get("policies", {}).get("optimal", {})
    return {
        "benchmark": "schedule",
        "gain_points_at_equal_flops": accuracy.get("gain_points_at_equal_flops"),
        "flops_ratio_at_equal_accuracy": accuracy.get("flops_ratio_at_equal_accuracy"),
        "deadline_miss_rate": live.get("disturbed", {}).get("deadline_miss_rate"),
        "decision_us_p99": optimal.get("p99"),
        "data": [str(root) for root in arguments.dataroot],
        "machine": machine,
        "method": _METHOD,
        "accuracy": accuracy or None,
        "decisions": decisions or None,
        "live": _without_timelines(live) or None,
    }


#: What the figures mean, in the result itself.
_METHOD = (
    "accuracy: steps at the drive's rate; the questions of a scored keyframe stand from the scored "
    "keyframe before it; right if the answer that stands at the keyframe is, no older than "
    "max_age_ms; FLOPs of encoders that run, connection and tail, averaged over all steps, without "
    "decoding; fixed plans are chosen in hindsight and may spend the budget on average, policies "
    "keep to it in each step; gain_points_at_equal_flops is the mean over the sweep; intervals are "
    "95 % over scenes drawn again. live: frames back to back through the runtime, deadline 1.5 "
    "times the median without disturbance. decisions: of a policy alone, random requests"
)


def _identity(arguments: Namespace, runtime: Runtime) -> dict[str, Any]:
    """All that tokens and replies depend on and their keys do not name."""
    parts, manifest = runtime.parts, runtime.pack
    files = {file for spec in manifest.encoders.values() for file in spec.files}
    files.add(manifest.connection.file)
    return {
        "dataroots": [str(root.resolve()) for root in arguments.dataroot],
        "hz": arguments.hz,
        "weights": {file: manifest.files[file].sha256 for file in sorted(files)},
        "prompt": manifest.prompt.model_dump(),
        "model": parts.model.manifest.content_hash,
        "precision": parts.model.manifest.precision,
    }


def _is_real(runtime: Runtime, sensor: str) -> bool:
    """Ground truth is no sensor of a robot."""
    manifest = runtime.pack
    return manifest.encoders[manifest.sensor_encoders[sensor]].modality != "objects"


def _named(text: str, option: str, known: tuple[str, ...]) -> list[str]:
    names = list(dict.fromkeys(comma_list(text, option)))
    for name in names:
        if name not in known:
            raise ConfigError(
                f"there is no '{name}'", field=option, remedy=f"use some of {', '.join(known)}"
            )
    return names


def _budgets(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        found = sorted({int(float(part) * 1e9) for part in comma_list(text, "--budgets")})
    except (ValueError, OverflowError) as error:
        raise ConfigError(
            f"'{text}' is no list of numbers", field="--budgets", remedy="write e.g. 4,6,8.5"
        ) from error
    if found[0] <= 0:
        raise ConfigError(
            f"{found[0] / 1e9:g} GFLOP are no budget", field="--budgets", remedy="give some above 0"
        )
    return found


def _drawn(path: Path, draw: Any) -> str | None:
    """Where a picture is; without matplotlib a sentence on stderr instead."""
    try:
        draw()
    except ConfigError as error:
        print(error, file=sys.stderr)
        return None
    return str(path)


def _file(folder: Path, part: str) -> Path:
    return folder / f"schedule-{part}.json"


def _write(folder: Path, part: str, found: dict[str, Any]) -> None:
    from ..runtime.files import write_atomic

    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(_file(folder, part), json.dumps(found, indent=1) + "\n")


def _read(folder: Path, part: str) -> dict[str, Any] | None:
    path = _file(folder, part)
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CacheError(
            f"figures of an earlier run cannot be read: {error}",
            field=str(path),
            remedy="remove the file, and measure this part again",
        ) from error


def _without_timelines(found: dict[str, Any]) -> dict[str, Any]:
    """The last line is read by people too; time-lines are in the file of the part."""
    return {
        name: {k: v for k, v in value.items() if k != "timeline"}
        if isinstance(value, dict)
        else value
        for name, value in found.items()
    }
