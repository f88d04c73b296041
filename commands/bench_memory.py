"""`tailwire bench memory`: memory of a runtime from its start to its frames, by several methods."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from contextlib import ExitStack, suppress
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from ..runtime.errors import TailwireError
from .bench_common import (
    add_drive_options,
    add_result_options,
    add_runtime_options,
    open_assembly,
    open_playback,
    print_machine,
    print_rows,
    say,
    standing_questions,
)

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from ..runtime.config import RuntimeConfig
    from ..runtime.runtime import Runtime

_FRAMES = 20


def add_memory(benches: _SubParsersAction[ArgumentParser]) -> None:
    """Declare the sub-command."""
    parser = benches.add_parser("memory", help="peak memory, by every method that there is")
    add_runtime_options(parser)
    add_drive_options(parser)
    parser.add_argument("--questions", type=int, default=None, help="how many (the pack's own)")
    parser.add_argument("--frames", type=int, default=_FRAMES, help=f"stepped through ({_FRAMES})")
    add_result_options(parser)


def run_memory(arguments: Namespace) -> dict[str, Any]:
    """Load, ask, step, and read memory meanwhile.

    Raises:
        TailwireError: an option is wrong, or something cannot be loaded.
    """
    from ..benchmarks.cost_card import cost_card
    from ..benchmarks.measure import machine_card
    from ..benchmarks.memory_meters import find_meters
    from ..benchmarks.memory_phases import METHOD, measure_phases, memory_result
    from ..benchmarks.result_file import figure
    from .drives import perceiving

    assembly = open_assembly(arguments)
    # Building engines is not what is measured, so another process does it where it is needed.
    builder = get_context("spawn").Process(target=_build, args=(assembly.config,))
    builder.start()
    builder.join()
    with ExitStack() as stack:
        opened: list[Runtime] = []

        def load() -> None:
            opened.append(stack.enter_context(assembly.runtime()))

        def ask() -> None:
            for text, answers in standing_questions(opened[0], arguments.questions):
                opened[0].watch(text, answers)

        def step() -> None:
            runtime = opened[0]
            playback = open_playback(arguments, runtime)
            for number in range(arguments.frames):
                seen = playback.read(number, runtime.sensors)
                if seen.begins:
                    runtime.forget_frames()
                runtime.step(list(seen.snapshot.frames.values()))

        meters, absent = find_meters()
        phases = [("load", load), ("heads of questions", ask), ("frames", step)]
        measured = measure_phases(phases, meters)
        runtime = opened[0]
        asked = [
            runtime.prepare(text, answers)
            for text, answers in standing_questions(runtime, arguments.questions)
        ]
        card = cost_card(runtime.parts, asked, assembly.graphs, perceiving(runtime), None)
        result = memory_result(measured, meters, absent)
        return {
            "benchmark": "memory",
            **result,
            "counted_by_part": card["memory"],
            "encoders_held_bytes": {
                name: engine.held_bytes
                for name, engine in runtime.parts.perception.reloadable.items()
            },
            "settings": {
                "model": runtime.model.manifest.name,
                "precision": runtime.model.manifest.precision,
                "pack": f"{runtime.pack.name} {runtime.pack.version}",
                "sensors": list(perceiving(runtime)),
                "questions": len(asked),
                "frames": arguments.frames,
            },
            "figures": {
                **{f"methods.{name}.peak_bytes": figure("lower") for name in result["methods"]},
                **{f"counted_by_part.{k}": figure("lower", counted=True) for k in card["memory"]},
            },
            "machine": machine_card(arguments.threads),
            "method": METHOD,
        }


def _build(config: RuntimeConfig) -> None:
    """Fill the engine cache; what fails here fails again, and is told, where it is measured."""
    from ..assembly import open_runtime

    with suppress(TailwireError):
        open_runtime(config, say).close()


def print_memory(result: dict[str, Any]) -> None:
    """Print methods and phases."""
    print_machine(result)
    print_rows(
        [
            ("method", "peak MB"),
            *(
                (f"{name}: {one['method']}", f"{one['peak_bytes'] / 1e6:.1f}")
                for name, one in result["methods"].items()
            ),
        ]
    )
    for name, why in result["absent"].items():
        print(f"  {name}: absent, {why}")
    rows: list[tuple[str, ...]] = [("phase", "peak MB", "after MB", "grew MB")]
    for name, one in result["phases"].items():
        keys = ("peak_bytes", "resident_after_bytes", "grew_bytes")
        rows.append((name, *("-" if one[k] is None else f"{one[k] / 1e6:.1f}" for k in keys)))
    print_rows(rows)
    parts = ", ".join(f"{k} {v / 1e6:.1f} MB" for k, v in result["counted_by_part"].items())
    print(f"  counted: {parts}")
