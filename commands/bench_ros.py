"""`tailwire bench ros`: what the ROS 2 node costs around the core."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.errors import ConfigError

if TYPE_CHECKING:
    from argparse import _SubParsersAction
    from collections.abc import Sequence


def add_ros(benches: _SubParsersAction[ArgumentParser]) -> None:
    """Declare the sub-command."""
    parser = benches.add_parser(
        "ros", help="overhead of the ROS 2 node beside the core, in a replay over DDS"
    )
    parser.add_argument(
        "--drive", metavar="DIR", type=Path, help="dataroot or bag (the shipped clip)"
    )
    parser.add_argument("--scene", metavar="NAME", default="", help="of the drive (the first)")
    parser.add_argument("--model", default=None, help="registry name, GGUF file or folder")
    parser.add_argument("--precision", default="int8", choices=("fp32", "int8", "int4"))
    parser.add_argument("--pack", default=None, help="folder or name (that of the model)")
    parser.add_argument("--threads", type=int, default=2, help="of engines (2)")
    parser.add_argument(
        "--rate", metavar="R", type=float, default=1.0, help="seconds of drive per second (1)"
    )
    parser.add_argument(
        "--seconds", metavar="S", type=float, default=0.0, help="loop the drive for so long (0)"
    )
    parser.add_argument(
        "--withhold",
        metavar="S",
        type=float,
        default=120.0,
        help="with --seconds: withhold a sensor this often, until it is warned of (120; 0 never)",
    )
    parser.add_argument(
        "--max-rate-hz", metavar="HZ", type=float, default=0.0, help="most rounds a second (0: any)"
    )
    parser.add_argument(
        "--question",
        metavar="TEXT",
        action="append",
        default=[],
        help="a standing one, answered yes or no; may be repeated (those that the pack suggests)",
    )
    parser.add_argument("--cancels", type=int, default=5, help="answers that are cancelled (5)")
    parser.add_argument(
        "--first-tokens",
        metavar="N",
        type=int,
        default=10,
        help="questions whose first token is timed, beside the core's own (10; 0 none)",
    )
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON line")


def run_ros(arguments: Namespace) -> dict[str, Any]:
    """Play, and measure.

    Raises:
        TailwireError: an option is wrong, or ROS is not there.
    """
    for name in ("rate", "seconds", "cancels", "withhold", "max-rate-hz", "first-tokens"):
        value = getattr(arguments, name.replace("-", "_"))
        least = 0 if name != "rate" else 1e-3
        if not least <= value < float("inf"):
            raise ConfigError(
                f"{value} is no such number", field=f"--{name}", remedy=f"give at least {least:g}"
            )
    from ..benchmarks.ros_overhead import Play, bench_ros, check_ros
    from .drives import open_drive

    check_ros()
    given = {"model": arguments.model, "pack": arguments.pack, "precision": arguments.precision}
    parameters = {name: value for name, value in given.items() if value is not None}
    drive = arguments.drive or open_drive(None, None, _say).data.dataroot
    play = Play(
        Path(drive),
        arguments.scene,
        rate=arguments.rate,
        loop_s=arguments.seconds,
        cancels=arguments.cancels,
        withhold_s=arguments.withhold,
        first_tokens=arguments.first_tokens,
    )
    parameters |= {
        "threads": str(arguments.threads),
        "max_rate_hz": str(float(arguments.max_rate_hz)),
    }
    return bench_ros(play, {**parameters, **_questions(arguments.question)}, progress=_say)


def _questions(texts: Sequence[str]) -> dict[str, str]:
    """Parameters of the node; values are YAML."""
    if not texts:
        return {}
    names = [f"q{number}" for number in range(len(texts))]
    given = {"questions": json.dumps(names)}
    for name, text in zip(names, texts, strict=True):
        given[f"question.{name}.text"] = json.dumps(text)
        given[f"question.{name}.answers"] = json.dumps(["yes", "no"])
    return given


def print_ros(result: dict[str, Any]) -> None:
    """The figures for people."""
    print(f"{result['rounds']} rounds, {result['rounds_failed']} failed")
    for name, what in (("step", "core's step"), ("overhead", "node beside it")):
        print(f"{what}: p50 {result[f'{name}_p50_ms']} ms, p99 {result[f'{name}_p99_ms']} ms")
    print(
        f"of {result['overhead_free_rounds']} rounds in which it never waited for a core: "
        f"p50 {result['overhead_free_p50_ms']} ms, p99 {result['overhead_free_p99_ms']} ms"
    )
    print(f"cancel seen within {result['cancel_max_ms']} ms ({result['cancels']} cancels)")
    if result.get("first_token_ratio") is not None:
        print(
            f"first token: {result['first_token_p50_ms']} ms, of which in the node "
            f"{result['first_token_in_node_p50_ms']} ms; of the core alone "
            f"{result['core_first_token_p50_ms']} ms, ratio {result['first_token_ratio']}"
        )
    for sensor, counts in result["sensors"].items():
        print(
            f"{sensor}: {counts['received']} received, {counts['dropped']} dropped, "
            f"missing from {counts['rounds_without']} rounds"
        )
    if "withheld" in result:
        print(
            f"withheld {result['withheld']} times, warned of {result['withheld_reported']} times; "
            f"answers began to lack a sensor {result['lacked']} times, without a warning "
            f"{result['lacked_unreported']} times"
        )
    if result["node_cores"] is not None:
        print(f"the node kept {result['node_cores']} cores busy in the mean")
    print(
        f"memory {result['memory_mb']} MB, growth {result['memory_growth']}, "
        f"without what it shares with others {result['memory_private_growth']}"
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
