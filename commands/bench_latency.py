"""`tailwire bench adaptation-latency`: how long frames take while a sensor is being learned."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.errors import ConfigError, SensorError

if TYPE_CHECKING:
    from argparse import _SubParsersAction
    from collections.abc import Sequence

    from ..runtime.frames import SensorFrame
    from ..runtime.runtime import Runtime
    from ..simulation.nuscenes.reader import NuScenes

_FRAMES, _SWAPS, _RATE_HZ, _SENSOR = 120, 20, 2.0, "lidar_top"
_MOST_TICKS = 20


def add_latency(benches: _SubParsersAction[ArgumentParser]) -> None:
    """Declare the sub-command."""
    parser = benches.add_parser(
        "adaptation-latency", help="frames alone, beside an adaptation, and at its swap"
    )
    parser.add_argument("--model", default=None, help="registry name, GGUF file or folder")
    parser.add_argument("--precision", default="int8", choices=("fp32", "int8", "int4"))
    parser.add_argument("--pack", default=None, help="folder or name (that of the model)")
    parser.add_argument("--threads", type=int, default=2, help="of engines (2)")
    parser.add_argument("--nuscenes", metavar="DIR", type=Path, help="frames (the shipped clip)")
    parser.add_argument("--add", metavar="SENSOR", default=_SENSOR, help=f"learned ({_SENSOR})")
    parser.add_argument(
        "--rate", metavar="HZ", type=float, default=_RATE_HZ, help=f"frames a second ({_RATE_HZ})"
    )
    parser.add_argument("--frames", type=int, default=_FRAMES, help=f"alone ({_FRAMES})")
    parser.add_argument("--swaps", type=int, default=_SWAPS, help=f"afterwards ({_SWAPS})")
    parser.add_argument(
        "--seconds", metavar="S", type=float, default=120.0, help="time budget of learning (120)"
    )
    parser.add_argument("--batch", type=int, default=None, help="questions of a training step")
    parser.add_argument("--nice", type=int, default=None, help="of the training thread")
    parser.add_argument("--training-threads", type=int, default=None, help="of training")
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON line")


def run_latency(arguments: Namespace) -> dict[str, Any]:
    """Load, and measure.

    Raises:
        TailwireError: an option is wrong, the drive lacks the sensor, or torch is missing.
    """
    for name in ("rate", "frames", "swaps", "seconds", "threads"):
        value = getattr(arguments, name)
        if not 0 < value < float("inf"):
            raise ConfigError(
                f"{value} is no such number", field=f"--{name}", remedy="give one above 0"
            )
    from ..assembly import open_runtime
    from ..benchmarks.adaptation_latency import bench_adaptation_latency
    from ..runtime.adaptation.adapting import check_torch
    from ..runtime.config import read_config
    from .drives import open_drive

    check_torch()
    request = _request(arguments)
    drive = open_drive(arguments.nuscenes, None, _say)
    config = read_config(
        None,
        model=arguments.model,
        pack=arguments.pack,
        precision=arguments.precision,
        threads=arguments.threads,
    )
    with open_runtime(config, _say) as runtime:
        there = [name for name in runtime.known_sensors if name in drive.data.sensors]
        if arguments.add not in there:
            raise SensorError(
                f"there is no sensor '{arguments.add}' in both pack and drive",
                field="--add",
                remedy=f"use one of {', '.join(there) or 'another pack or drive'}",
            )
        runtime.switch_sensors([name for name in there if name != arguments.add])
        ticks = _ticks(drive.data, there)
        asked = _watch(runtime)
        return bench_adaptation_latency(
            runtime,
            ticks,
            request,
            questions=asked,
            rate_hz=arguments.rate,
            frames=arguments.frames,
            swaps=arguments.swaps,
            threads=arguments.threads,
            progress=_say,
        )


def _request(arguments: Namespace):
    from pydantic import ValidationError

    from ..runtime.adaptation.request import AdaptationBudget, AdaptationRequest

    given = {
        "batch": arguments.batch,
        "nice": arguments.nice,
        "threads": arguments.training_threads,
    }
    try:
        return AdaptationRequest(
            add=(arguments.add,),
            budget=AdaptationBudget(time_s=arguments.seconds),
            epochs=1000.0,
            # What is learned is made up, and old sensors have no say in it.
            tolerance=1.0,
            **{name: value for name, value in given.items() if value is not None},
        )
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        option = "training-threads" if name == "threads" else name
        raise ConfigError(
            str(first["msg"]), field=f"--{option}", remedy="correct this option"
        ) from error


def _ticks(data: NuScenes, sensors: Sequence[str]) -> list[list[SensorFrame]]:
    """Frames of the keyframes of the first scene, as they lie in its files."""
    scene = data.scenes[0]
    ticks: list[list[SensorFrame]] = []
    for sample in data.samples(scene)[:_MOST_TICKS]:
        ticks.append([data.read(data.sample_data(sensor, sample.token)) for sensor in sensors])
    return ticks


def _watch(runtime: Runtime) -> int:
    """The pack's own questions, or some others; returns how many."""
    suggested = [(one.text, one.answers) for one in runtime.pack.questions]
    others = [(f"Are there any {what} in front of me?", ("yes", "no")) for what in _THINGS]
    chosen = suggested or others
    for text, answers in chosen:
        runtime.watch(text, answers)
    return len(chosen)


_THINGS = ("cars", "pedestrians", "trucks", "buses", "bicycles")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def print_latency(result: dict[str, Any]) -> None:
    """Print the table."""
    machine, adaptation = result["machine"], result["adaptation"]
    print(f"{result['benchmark']}: {result['settings']}")
    print(f"{machine['cpu']}, {machine['threads']} threads, {machine['versions']}")
    for name, ms in result["ms"].items():
        print(
            f"  {name:<9} {ms['runs']:4d} frames   p50 {ms['median']:8.1f} ms   p90 "
            f"{ms['p90']:8.1f}   p99 {ms['p99']:8.1f}   max {ms['max']:8.1f}"
        )
    print(
        f"  adaptation {adaptation['outcome']} after {adaptation['steps']} steps, "
        f"{adaptation['samples_per_s']:.1f} samples/s, {adaptation['wall_s']:.0f} s"
    )
    print(f"  other processes kept {result['cores_of_other_processes']} cores busy")
    print(f"  {result['missing']} answers missing; frames late: {result['late']}")
