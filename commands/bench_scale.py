"""`tailwire bench scale`: how costs grow with questions, sensors, depth, words and tokens."""

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

_QUESTIONS, _TEXT_TOKENS, _ROWS_PER_SENSOR = 5, 24, 4
_QUESTION_SIZES, _LENGTHS, _TOKENS = (1, 2, 4, 8, 16), (8, 16, 32, 64), (2, 4, 8, 16, 32)


def add_scale(benches: _SubParsersAction[ArgumentParser]) -> None:
    """Declare the sub-command."""
    parser = benches.add_parser("scale", help="cost against questions, sensors, depth and lengths")
    add_runtime_options(parser)
    add_drive_options(parser)
    parser.add_argument("--rounds", type=int, default=7, help="counted runs of each size (7)")
    add_result_options(parser)


def run_scale(arguments: Namespace) -> dict[str, Any]:
    """Load, and measure axis by axis.

    Raises:
        TailwireError: an option is wrong, the drive is broken, or something cannot be loaded.
    """
    from ..benchmarks import scaling_axes
    from ..benchmarks.measure import machine_card
    from ..benchmarks.result_file import figure
    from ..benchmarks.scaling import METHOD, measure_axis

    with open_assembly(arguments).runtime() as runtime:
        playback = open_playback(arguments, runtime)
        frames = list(playback.read(0, runtime.sensors).snapshot.frames.values())
        model, depth, sensors = runtime.model, runtime.tail_blocks, len(frames)
        # One question many times, so that sizes differ in nothing but the number.
        one = standing_questions(runtime, 1)
        rows = _ROWS_PER_SENSOR * sensors
        limit = model.manifest.max_text_tokens
        axes = [
            scaling_axes.question_axis(runtime, frames, one * _QUESTION_SIZES[-1], _QUESTION_SIZES),
            scaling_axes.depth_axis(model, questions=_QUESTIONS, tokens=_TEXT_TOKENS, rows=rows),
            scaling_axes.length_axis(
                model,
                depth=depth,
                questions=_QUESTIONS,
                rows=rows,
                sizes=[size for size in _LENGTHS if size <= limit],
            ),
            scaling_axes.token_axis(
                model,
                depth=depth,
                questions=_QUESTIONS,
                tokens=_TEXT_TOKENS,
                sensors=sensors,
                # Engines have positions for so many rows only.
                sizes=[s for s in _TOKENS if sensors * s + _QUESTIONS * _TEXT_TOKENS <= limit],
            ),
        ]
        for text, answers in standing_questions(runtime, _QUESTIONS):
            runtime.watch(text, answers)
        # Last, for it switches sensors.
        axes.append(scaling_axes.sensor_axis(runtime, frames, _QUESTIONS))
        found: dict[str, Any] = {}
        for axis in axes:
            say(f"measuring {axis.name}")
            found[axis.name] = measure_axis(
                axis, rounds=arguments.rounds, progress=counter(arguments, "round")
            )
        return {
            "benchmark": "scale",
            "no_faster_than_linear": {
                name: one["no_faster_than_linear"] for name, one in found.items()
            },
            "time_no_faster_than_linear": {
                name: one["time_no_faster_than_linear"] for name, one in found.items()
            },
            "axes": found,
            "settings": {
                "model": model.manifest.name,
                "precision": model.manifest.precision,
                "pack": f"{runtime.pack.name} {runtime.pack.version}",
                "tail_blocks": depth,
                "rounds": arguments.rounds,
                "drive": playback.title,
            },
            "figures": {
                f"axes.{name}.{key}": figure("lower", counted=key.startswith("counted"))
                for name in found
                for key in ("time.slope", "counted.slope")
            },
            "machine": machine_card(arguments.threads),
            "method": METHOD,
        }


def print_scale(result: dict[str, Any]) -> None:
    """Print a table for each axis, with its slopes."""
    print_machine(result)
    for name, one in result["axes"].items():
        print(f"  {name} ({one['what']})")
        rows = [(name, "ms", "GFLOP")]
        for size, ms, flops in zip(one["sizes"], one["ms"], one["flops"], strict=True):
            rows.append((str(size), f"{ms:.2f}", f"{flops / 1e9:.3f}"))
        print_rows(rows)
        time, counted = one["time"], one["counted"]
        steepest = counted["steepest_over_first"]
        linear = (
            "no faster than linear"
            if one["no_faster_than_linear"]
            else f"FLOPs of one more grow by up to {steepest or 0:.2f}"
        )
        print(
            f"  each more: {time['slope']:+.2f} ms, {counted['slope'] / 1e9:+.4f} GFLOP; FLOPs "
            f"grow with the power {counted['exponent']:.2f} of it, time with "
            f"{time['exponent']:.2f}: {linear}"
        )
