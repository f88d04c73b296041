"""What `tailwire adapt` tells while it learns, and when it is over."""

from __future__ import annotations

import json

from ..benchmarks.measure import machine_card
from ..runtime.adaptation.outcome import AdaptationProgress, AdaptationResult
from ..runtime.config import RuntimeConfig
from ..runtime.files import readable_bytes
from ..runtime.pack import PackManifest
from .progress import duration

_PHASES = {
    "preparing": "reading the tail's weights",
    "measuring": "measuring the speed of training",
    "heads": "encoding texts",
    "checking": "examining held-out questions",
    "over": "done",
}
_STOPPED = {
    "finished": "all steps were made",
    "time": "time was up",
    "flops": "the FLOPs were spent",
    "asked": "stopped by Ctrl-C",
    "cancelled": "cancelled",
    "diverged": "it diverged",
}


def progress_text(done: AdaptationProgress) -> str:
    """One line for the terminal."""
    if done.phase != "training":
        return f"{_PHASES[done.phase]}, {duration(done.elapsed_s)}"
    loss = "" if done.loss is None else f", loss {done.loss:.3f}"
    held_out = "" if done.held_out is None else f", held out {done.held_out:.1%} right"
    left = "" if done.left_s is None else f", {duration(done.left_s)} left"
    speed = f"{done.samples_per_s:.1f} samples/s"
    return f"step {done.step} of {done.steps}{loss}{held_out}, {speed}{left}"


def report(result: AdaptationResult, old: PackManifest) -> None:
    """Print what was chosen, what came out, and what it cost.

    Args:
        result: of the adaptation.
        old: the pack that was adapted.
    """
    print(f"{result.outcome}: {result.reason}")
    print(f"  pack     {old.name} {old.version}, it stays as it is")
    print(f"  sensors  {_list(result.old_sensors)} -> {_list(result.new_sensors)}")
    print(f"  chosen   {result.choice}; {result.trained_weights:,} weights trained")
    print(
        f"  learned  {result.train_questions} questions, {result.steps} steps, "
        f"{result.epochs:.1f} epochs, {result.samples_per_s:.1f} samples/s; "
        f"{_STOPPED[result.stopped]}"
    )
    if result.accuracy is not None:
        one = result.accuracy
        print(
            f"  held out {result.held_out_questions} questions of "
            f"{len(result.held_out_blocks)} scenes"
        )
        print(f"           sensors of before: {one.old_before:.1%} -> {one.old_after:.1%}")
        print(f"           sensors of now:    {one.new_before:.1%} -> {one.new_after:.1%}")
        print(f"           of what was right, {one.kept:.1%} stays right")
    total = result.training_flops + result.examining_flops + result.head_flops
    memory = result.memory_bytes
    measured = "unknown" if memory is None else readable_bytes(memory)
    print(
        f"  cost     {total:.3g} FLOPs ({result.training_flops:.3g} of training), memory "
        f"{measured} (about {readable_bytes(result.memory_estimate_bytes)} expected), "
        f"{duration(result.wall_s)}"
    )
    if result.folder is not None:
        print(f"  written  {result.folder} ({result.pack})")
    else:
        print("  written  nothing")


def result_of(result: AdaptationResult, config: RuntimeConfig) -> None:
    """Print the JSON line."""
    one = result.accuracy
    print(
        json.dumps(
            {
                "outcome": result.outcome,
                "accuracy_before": None if one is None else one.old_before,
                "accuracy_after": None if one is None else one.new_after,
                **result.model_dump(mode="json", exclude={"outcome"}),
                "model": config.model,
                "precision": config.precision,
                "machine": machine_card(config.threads, ("torch",)),
            },
            separators=(",", ":"),
        )
    )


def _list(sensors: tuple[str, ...]) -> str:
    return ", ".join(sensors) or "none"
