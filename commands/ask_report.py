"""What `tailwire ask` prints around an answer: what it rests on, and what it cost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ..runtime.files import readable_bytes
from ..runtime.metrics import PEAK_MEMORY_METHOD, peak_memory_bytes
from .printing import print_fact

if TYPE_CHECKING:
    from ..runtime.config import RuntimeConfig
    from ..runtime.plans import Answer
    from ..runtime.questions import Question
    from ..simulation.nuscenes import Sample
    from .drives import Drive


def print_heading(drive: Drive, sample: Sample, question: Question, *, chosen: bool) -> None:
    """Say what is asked of which keyframe, above the answer that is about to come.

    Args:
        drive: where the keyframe is from.
        sample: the keyframe.
        question: that is asked.
        chosen: whether the user named the keyframe.
    """
    why = "" if chosen else " (the first one; --sample TOKEN takes another)"
    print_fact("keyframe", f"{sample.token}, {drive.title}{why}")
    print_fact("question", question.text)
    print(f"{'answer':<11} ", end="", flush=True)


def print_details(
    answer: Answer, question: Question, config: RuntimeConfig, num_blocks: int, load_ms: float
) -> None:
    """Say what an answer rests on and what it cost.

    Args:
        answer: the answer.
        question: that was asked.
        config: that was used.
        num_blocks: of the whole language model.
        load_ms: how long it took to load the runtime.
    """
    meaning = (
        "geometric mean of the tokens' probabilities"
        if question.answers is None
        else f"over {len(question.answers)} allowed answers"
    )
    print_fact("confidence", f"{answer.confidence:.2f} ({meaning})")
    if not answer.pack_trained:
        print_fact("warning", f"untrained pack ({answer.pack}): the answer means nothing yet")
    print_fact("sensors", _sensors(answer))
    for reason in answer.dropped.values():
        print_fact("dropped", reason)
    stages = ", ".join(f"{stage} {ms:.1f}" for stage, ms in answer.timings_ms.items())
    print_fact("time", f"{sum(answer.timings_ms.values()):.1f} ms ({stages})")
    plan = answer.plan
    print_fact(
        "compute",
        f"{answer.flops / 1e9:.2f} GFLOP; tail of {plan.tail_blocks} of {num_blocks} blocks, "
        f"{plan.precision}, {config.threads} threads",
    )
    _print_plan(answer)
    print_fact("memory", f"{readable_bytes(peak_memory_bytes())}, {PEAK_MEMORY_METHOD}")
    print_fact("loaded in", f"{load_ms / 1e3:.1f} s")


def _print_plan(answer: Answer) -> None:
    """Say what was decided, where anything was, and what came of a deadline."""
    plan = answer.plan
    if plan.policy != "fixed":
        share = "" if plan.expected is None else f", {plan.expected:.0%} expected to be right"
        print_fact("plan", f"{plan.policy}: {', '.join(plan.sensors) or 'no sensor'}{share}")
    if plan.note is not None:
        print_fact("note", plan.note)
    if answer.cut is not None:
        print_fact("cut short", answer.cut)
    if answer.late_ms is not None:
        print_fact("late", f"{answer.late_ms:.0f} ms behind the deadline")


def print_json(
    answer: Answer, config: RuntimeConfig, drive: Drive, sample: Sample, load_ms: float
) -> None:
    """Print one line of JSON: the fields of `Answer`, then those of the run."""
    run: dict[str, object] = {
        "dataroot": str(drive.data.dataroot),
        "version": drive.data.version,
        "sample": sample.token,
        "load_ms": load_ms,
        "peak_memory_bytes": peak_memory_bytes(),
        "memory_method": PEAK_MEMORY_METHOD,
        "config": config.model_dump(mode="json"),
    }
    print(json.dumps(answer.model_dump(mode="json") | run))


def _sensors(answer: Answer) -> str:
    if not answer.sensors:
        return "none (the answer is the language model's own)"
    return ", ".join(f"{name} {use.age_ms:.0f} ms" for name, use in answer.sensors.items()) + " old"
