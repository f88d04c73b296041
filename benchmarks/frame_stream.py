"""Frames of a drive, one after the other, end to end: from sensor messages to answers.

Every frame is encoded anew and nothing else runs in between, so a frame's time is the latency of an
idle robot; what background work does to it is for `adaptation_latency.py` and `schedule_live.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..runtime.answering import AskedQuestion
from ..runtime.frames import SensorFrame
from ..runtime.metrics import (
    PEAK_MEMORY_METHOD,
    begin_peak,
    peak_memory_bytes,
    peak_since_begin,
)
from ..runtime.plans import Answer
from ..runtime.runtime import Runtime
from .measure import Timings, machine_card
from .result_file import figure

METHOD = (
    "Frames of a drive through Runtime.step, one after the other without pause, each with new "
    "stamps, so that all encoders run; the clock begins when sensor messages are handed over "
    "(pictures as compressed in the drive; files are read before) and ends with the answers of "
    "all standing questions. Stages as the runtime times them, rest: what is between them. "
    "Percentiles over all frames, warm-up left out. flops: counted, the median frame's, as plans "
    "are: with all tokens of an encoder. rows: that tokens really made, the median frame's."
)


@dataclass(frozen=True)
class StreamMoment:
    """What is handed over at a step.

    Attributes:
        frames: of all sensors, read and with stamps that only go forward.
        begins: whether it is another place than the step before.
    """

    frames: Sequence[SensorFrame]
    begins: bool = False


@dataclass(frozen=True)
class _Step:
    ms: float
    answers: Sequence[Answer]
    rows: int

    @property
    def stages(self) -> dict[str, float]:
        stages = self.answers[0].timings_ms
        return {**stages, "rest": max(self.ms - sum(stages.values()), 0.0)}


def bench_frame(
    runtime: Runtime,
    moment: Callable[[int], StreamMoment],
    *,
    frames: int,
    warm_up: int,
    threads: int,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Step through a drive and time every frame.

    Args:
        runtime: with standing questions.
        moment: what there is at step 0, 1, ... without end.
        frames: counted ones.
        warm_up: frames before that are not counted.
        threads: of the engines, for the record.
        progress: called with (frames done, frames in all).
    """
    steps: list[_Step] = []
    has_peak = False
    for number in range(-warm_up, frames):
        given = moment(number + warm_up)
        if given.begins:
            runtime.forget_frames()
        if number == 0:
            has_peak = begin_peak()
        start = time.perf_counter()
        answers = runtime.step(given.frames)
        elapsed = (time.perf_counter() - start) * 1e3
        if number >= 0:
            steps.append(_Step(elapsed, answers, _rows(runtime, answers[0])))
            if progress is not None:
                progress(number + 1, frames)
    peak = peak_since_begin() if has_peak else None
    return _result(runtime, steps, peak, threads, warm_up)


def _rows(runtime: Runtime, answer: Answer) -> int:
    """Rows that the tokens of a frame made; tokens without an object make none."""
    parts = runtime.parts
    seen = [name for name in answer.plan.sensors if parts.perception.tokens(name) is not None]
    return sum(one.tokens for one in parts.perception.rows(seen, parts.connection))


def time_heads(runtime: Runtime, asked: Sequence[AskedQuestion], rounds: int) -> Timings:
    """Time the heads of questions, one pass each, all of them in a round.

    Args:
        runtime: whose language model.
        asked: the questions.
        rounds: counted ones; one more comes before.
    """
    times: list[float] = []
    for number in range(-1, rounds):
        start = time.perf_counter()
        for one in asked:
            runtime.model.encode(list(one.head.token_ids), [runtime.tail_blocks])
        if number >= 0:
            times.append((time.perf_counter() - start) * 1e3)
    return Timings(np.array(times))


def _result(
    runtime: Runtime, steps: Sequence[_Step], peak: int | None, threads: int, warm_up: int
) -> dict[str, Any]:
    times = Timings(np.array([step.ms for step in steps]))
    summary = times.summary()
    flops = np.array([step.answers[0].flops for step in steps])
    names = list(dict.fromkeys(name for step in steps for name in step.stages))
    stages = {
        name: Timings(np.array([step.stages.get(name, 0.0) for step in steps])).summary()
        for name in names
    }
    last = steps[-1].answers[0]
    return {
        "benchmark": "frame",
        "p50_ms": summary["median"],
        "p90_ms": summary["p90"],
        "p99_ms": summary["p99"],
        "p99_over_p50": summary["p99"] / summary["median"],
        "ms": summary,
        "stages_ms": stages,
        "flops": int(np.median(flops)),
        "flops_min": int(flops.min()),
        "flops_max": int(flops.max()),
        "rows": int(np.median([step.rows for step in steps])),
        "gflop_per_s": float(np.median(flops / times.ms)) / 1e6,
        "peak_memory_bytes": peak_memory_bytes(),
        "memory_method": PEAK_MEMORY_METHOD,
        "peak_memory_of_frames_bytes": peak,
        "memory_of_frames_method": "VmHWM of /proc/self/status, set back before the first frame",
        "answers": sum(len(step.answers) for step in steps),
        "answers_missing": len(steps) * len(steps[0].answers)
        - sum(len(step.answers) for step in steps),
        "frames_dropped": sum(len(step.answers[0].dropped) for step in steps),
        "timeline_ms": [round(step.ms, 3) for step in steps],
        "settings": {
            "model": runtime.model.manifest.name,
            "precision": runtime.model.manifest.precision,
            "pack": f"{runtime.pack.name} {runtime.pack.version}",
            "tail_blocks": last.plan.tail_blocks,
            "sensors": list(last.plan.sensors),
            "questions": len(steps[0].answers),
            "frames": len(steps),
            "warm_up": warm_up,
        },
        "figures": {
            "p50_ms": figure("lower"),
            "p99_ms": figure("lower"),
            "flops": figure("lower", counted=True),
            "peak_memory_bytes": figure("lower"),
        },
        "machine": machine_card(threads),
        "method": METHOD,
    }
