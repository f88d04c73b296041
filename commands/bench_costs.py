"""`tailwire bench card` and `frame`: what a pack costs, and what a frame takes on this machine."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from .bench_common import (
    add_drive_options,
    add_result_options,
    add_runtime_options,
    counter,
    open_assembly,
    open_playback,
    print_machine,
    print_rows,
    say,
    standing_questions,
)

if TYPE_CHECKING:
    from argparse import _SubParsersAction
    from collections.abc import Sequence

    from ..assembly import Assembly
    from ..runtime.answering import AskedQuestion
    from ..runtime.runtime import Runtime

_FRAMES, _WARM_UP, _HEAD_ROUNDS = 60, 5, 10


def add_costs(benches: _SubParsersAction[ArgumentParser]) -> None:
    """Declare the sub-commands."""
    card = benches.add_parser(
        "card", help="parameters, FLOPs and bytes of a pack, and this machine's ceilings"
    )
    add_runtime_options(card)
    card.add_argument("--questions", type=int, default=None, help="how many (the pack's own)")
    card.add_argument("--no-probes", action="store_true", help="count only, measure no ceilings")
    add_result_options(card)
    frame = benches.add_parser("frame", help="sensors to answers, end to end, on a drive")
    add_runtime_options(frame)
    add_drive_options(frame)
    frame.add_argument("--questions", type=int, default=None, help="how many (the pack's own)")
    frame.add_argument("--frames", type=int, default=_FRAMES, help=f"counted ({_FRAMES})")
    frame.add_argument(
        "--warm-up", type=int, default=_WARM_UP, help=f"frames before that ({_WARM_UP})"
    )
    frame.add_argument("--no-probes", action="store_true", help="without this machine's ceiling")
    add_result_options(frame)


def run_card(arguments: Namespace) -> dict[str, Any]:
    """Count.

    Raises:
        TailwireError: an option is wrong, or something cannot be loaded.
    """
    from ..benchmarks.measure import machine_card
    from ..benchmarks.result_file import figure

    assembly = open_assembly(arguments)
    with assembly.runtime() as runtime:
        questions = standing_questions(runtime, arguments.questions)
        asked = [runtime.prepare(text, answers) for text, answers in questions]
        found = _card(arguments, runtime, assembly, asked)
        full = _full_plan(found, runtime)
        return {
            "benchmark": "card",
            "flops": None if full is None else full["flops"],
            "weight_bytes": None if full is None else full["weight_bytes"],
            "ceiling_ms": None if full is None else full["ceiling_ms"],
            "parameters": sum(part["parameters"] for part in found["parts"].values()),
            **found,
            "settings": {
                "model": runtime.model.manifest.name,
                "precision": runtime.model.manifest.precision,
                "pack": f"{runtime.pack.name} {runtime.pack.version}",
                "tail_blocks": runtime.tail_blocks,
                "questions": len(found["questions"]),
            },
            "figures": {
                "flops": figure("lower", counted=True),
                "weight_bytes": figure("lower", counted=True),
                "parameters": figure("lower", counted=True),
                **{f"memory.{name}": figure("lower", counted=True) for name in found["memory"]},
            },
            "machine": machine_card(arguments.threads),
        }


def _full_plan(card: dict[str, Any], runtime: Runtime) -> dict[str, Any] | None:
    """All sensors at the depth that serves; None for a pack without sensors."""
    served = f"all sensors, tail {runtime.tail_blocks}"
    return next((one for one in card["plans"] if one["plan"] == served), None)


def _card(
    arguments: Namespace,
    runtime: Runtime,
    assembly: Assembly,
    asked: Sequence[AskedQuestion],
) -> dict[str, Any]:
    """The cost card of a runtime for some questions."""
    from ..benchmarks.cost_card import cost_card
    from ..benchmarks.machine_probes import probe_machine
    from .drives import perceiving

    peaks = None
    if not arguments.no_probes:
        say("measuring this machine's peaks")
        peaks = probe_machine(arguments.threads)
    found = cost_card(runtime.parts, asked, assembly.graphs, perceiving(runtime), peaks)
    found["peaks"] = None if peaks is None else peaks.as_json()
    return found


def _flops_of(
    runtime: Runtime, asked: Sequence[AskedQuestion], plan: dict[str, Any], rows: int
) -> dict[str, int]:
    """FLOPs of connection and tail where this many tokens made rows."""
    cost, depth = runtime.parts.frame_cost(), plan["tail_blocks"]
    lengths = [len(one.head.token_ids) for one in asked]
    connect, tail = cost.answering(rows, runtime.model.boundary(depth), lengths, depth)
    prepared = sum(cost.prepare(sensor) for sensor in plan["sensors"])
    return {**plan["flops_by_stage"], "connect": prepared + connect, "tail": tail}


def run_frame(arguments: Namespace) -> dict[str, Any]:
    """Step through a drive.

    Raises:
        TailwireError: an option is wrong, the drive is broken, or something cannot be loaded.
    """
    from ..benchmarks.frame_stream import StreamMoment, bench_frame, time_heads
    from ..benchmarks.stage_rates import METHOD, stage_rates

    assembly = open_assembly(arguments)
    with assembly.runtime() as runtime:
        playback = open_playback(arguments, runtime)
        questions = standing_questions(runtime, arguments.questions)
        for text, answers in questions:
            runtime.watch(text, answers)

        def moment(step: int) -> StreamMoment:
            seen = playback.read(step, runtime.sensors)
            return StreamMoment(list(seen.snapshot.frames.values()), seen.begins)

        result = bench_frame(
            runtime,
            moment,
            frames=arguments.frames,
            warm_up=arguments.warm_up,
            threads=arguments.threads,
            progress=counter(arguments, "frame"),
        )
        result["settings"]["drive"] = playback.title
        asked = [runtime.prepare(text, answers) for text, answers in questions]
        heads = time_heads(runtime, asked, _HEAD_ROUNDS).summary()
        result["head_ms"] = heads
        card = _card(arguments, runtime, assembly, asked)
        plan = _full_plan(card, runtime)
        ceiling = None if plan is None else plan["ceiling_ms"]
        result["ceiling_ms"] = ceiling
        result["of_ceiling"] = None if ceiling is None else ceiling / result["p50_ms"]
        result["peaks"] = card["peaks"]
        result["stage_rates"] = (
            {}
            if plan is None
            else stage_rates(
                card,
                {**plan, "flops_by_stage": _flops_of(runtime, asked, plan, result["rows"])},
                result["stages_ms"],
                card["peaks"],
                runtime.model.manifest.precision,
                heads["median"],
            )
        )
        result["stage_rates_method"] = METHOD
        return result


def print_card(result: dict[str, Any]) -> None:
    """Print parts, memory and plans."""
    print_machine(result)
    if result["peaks"] is not None:
        peaks = ", ".join(f"{k} {v:.0f}" for k, v in result["peaks"]["gflop_per_s"].items())
        print(
            f"measured peaks: {peaks} GFLOP/s; memory {result['peaks']['read_gb_per_s']:.1f} GB/s "
            f"read, {result['peaks']['copy_gb_per_s']:.1f} GB/s copied"
        )
    rows = [("part", "parameters", "weights MB", "GFLOP a frame")]
    for name, part in result["parts"].items():
        flops = part.get("flops")
        if flops is None:
            flops = part["tail_flops_by_depth"].get(str(result["settings"]["tail_blocks"]), 0)
        rows.append(
            (
                name,
                f"{part['parameters']:,}",
                f"{part['weight_bytes'] / 1e6:.1f}",
                f"{flops / 1e9:.3f}",
            )
        )
    print_rows(rows)
    print("memory: " + ", ".join(f"{k} {v / 1e6:.1f} MB" for k, v in result["memory"].items()))
    plans = [("plan", "GFLOP", "MB read", "FLOP/byte", "ceiling ms")]
    for plan in result["plans"]:
        ceiling = plan["ceiling_ms"]
        plans.append(
            (
                plan["plan"],
                f"{plan['flops'] / 1e9:.3f}",
                f"{plan['weight_bytes'] / 1e6:.1f}",
                f"{plan['flops_per_byte']:.0f}",
                "-" if ceiling is None else f"{ceiling:.1f}",
            )
        )
    print_rows(plans)


def print_frame(result: dict[str, Any]) -> None:
    """Print times by stage."""
    print_machine(result)
    rows: list[tuple[str, ...]] = [("stage", "p50 ms", "p90 ms", "p99 ms")]
    for name, one in [*result["stages_ms"].items(), ("whole frame", result["ms"])]:
        rows.append((name, *(f"{one[key]:.2f}" for key in ("median", "p90", "p99"))))
    print_rows(rows)
    _print_rates(result["stage_rates"])
    ceiling = result["ceiling_ms"]
    reached = "" if ceiling is None else f", {result['of_ceiling']:.0%} of the ceiling's speed"
    print(
        f"  p99 is {result['p99_over_p50']:.2f} x p50; {result['flops'] / 1e9:.2f} GFLOP a frame, "
        f"{result['gflop_per_s']:.1f} GFLOP/s{reached}"
    )
    print(
        f"  memory {result['peak_memory_bytes'] / 1e6:.0f} MB ({result['memory_method']}); "
        f"{result['answers']} answers, {result['answers_missing']} missing"
    )


def _print_rates(rates: dict[str, Any]) -> None:
    rows: list[tuple[str, ...]] = [
        ("stage", "GFLOP", "GFLOP/s", "of peak", "MB of weights", "GB/s", "of peak")
    ]
    for name, one in rates.items():
        rows.append(
            (
                name,
                f"{one['flops'] / 1e9:.2f}",
                f"{one['gflop_per_s']:.1f}",
                _percent(one["of_peak_flops"]),
                f"{one['bytes'] / 1e6:.1f}",
                f"{one['gb_per_s']:.2f}",
                _percent(one["of_peak_bytes"]),
            )
        )
    if len(rows) > 1:
        print_rows(rows)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"
