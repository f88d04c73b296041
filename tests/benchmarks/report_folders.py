"""A folder of results as the commands write them, small, with every kind of thing in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tailwire.benchmarks.paper_numbers import paper_json
from tailwire.benchmarks.result_file import stamped, write_result

MACHINE = {"cpu": "a <processor>", "threads": 2, "date": "2026-01-02", "versions": {"numpy": "2"}}
TIMES = {"median": 10.0, "p10": 9.0, "p90": 12.0, "p99": 15.0, "min": 8.0, "runs": 5}
QUESTIONS = ("Is there a <bus> behind me?", "How many cars are there?")


def frame_result(**changes: Any) -> dict[str, Any]:
    result = {
        "benchmark": "frame",
        "p50_ms": 30.0,
        "p99_ms": 40.0,
        "p99_over_p50": 4 / 3,
        "ms": {**TIMES, "median": 30.0, "p99": 40.0},
        "stages_ms": {"prepare": TIMES, "encode camera": TIMES, "tail": TIMES},
        "flops": 20_000_000_000,
        "ceiling_ms": 11.0,
        "peak_memory_bytes": 600_000_000,
        "memory_method": "process peak RSS",
        "settings": {
            "sensors": ["cam_front", "lidar_top"],
            "questions": 2,
            "tail_blocks": 6,
            "precision": "int8",
            "frames": 5,
            "drive": "the clip",
        },
        "machine": MACHINE,
        "method": "stated & named",
    }
    return stamped({**result, **changes}, "1.0")


def scale_result() -> dict[str, Any]:
    growth = {"slope": 2.0, "intercept": 1.0, "exponent": 0.9, "steepest_over_first": 1.0}
    axis = {
        "what": "asked",
        "sizes": [1, 2, 4],
        "ms": [3.0, 5.0, 9.0],
        "flops": [1e9, 2e9, 4e9],
        "time": growth,
        "counted": growth,
        "no_faster_than_linear": True,
    }
    return stamped({"benchmark": "scale", "axes": {"questions": axis}, "machine": MACHINE}, "1.0")


def memory_result() -> dict[str, Any]:
    methods = {
        "peak_rss": {"method": "getrusage", "peak_bytes": 600_000_000},
        "pss": {"method": "sampled", "peak_bytes": 500_000_000},
    }
    return stamped(
        {
            "benchmark": "memory",
            "peak_memory_bytes": 600_000_000,
            "memory_method": "getrusage",
            "methods": methods,
            "counted_by_part": {"connection": 7_000_000, "language model blocks": 120_000_000},
            "machine": MACHINE,
        },
        "1.0",
    )


def paper_result() -> dict[str, Any]:
    def row(method: str, depth: int | None, flops: float, peak: float) -> dict[str, Any]:
        ratio = 80e9 / flops
        return {
            "method": method,
            "tail_blocks": depth,
            "flops_per_sample": flops,
            "flops_ratio_vs_full": ratio,
            "flops_ratio_vs_full_heads_computed": ratio / 2,
            "peak_bytes": peak,
        }

    table = [row("tail-10", 10, 5e9, 1e9), row("tail-5", 5, 2e9, 5e8), row("full", None, 80e9, 4e9)]
    return stamped(
        {
            "benchmark": "paper",
            "table": table,
            "paper": paper_json(),
            "comparable": "Only columns beside <full>.",
            "machine": MACHINE,
        },
        "1.0",
    )


def answer(step: int, question: str, **changes: Any) -> dict[str, Any]:
    """A line of `answers.jsonl` as the demo writes it."""
    used = {"stamp_ns": step, "age_ms": 1.0, "reused": step == 1}
    row: dict[str, Any] = {
        "question": question,
        "text": "yes",
        "confidence": 0.9,
        "stamp_ns": step,
        "sensors": {"cam_front": used},
        "dropped": {"lidar_top": "broken"} if step == 2 else {},
        "plan": {
            "sensors": {"cam_front": "run"},
            "tail_blocks": 6,
            "precision": "int8",
            "flops": 1,
        },
        "timings_ms": {"encode camera": 20.0 + step, "tail": 5.0},
        "flops": 10_000_000_000 + step,
        "pack": "driving 1",
        "pack_trained": True,
        "sample_token": f"token-{step}",
        "expected": "yes" if step != 1 else "no",
        "right": step != 1,
    }
    return {**row, **changes}


def write_run(folder: Path, *, steps: int = 4, lines: tuple[str, ...] = ()) -> Path:
    folder.mkdir(parents=True)
    rows = [answer(step, question) for step in range(steps) for question in QUESTIONS]
    text = "".join(json.dumps(row) + "\n" for row in rows) + "".join(f"{line}\n" for line in lines)
    (folder / "answers.jsonl").write_text(text)
    (folder / "config.yaml").write_text("budget: {flops: 12000000000, latency_ms: null}\n")
    return folder


def schedule_figures() -> dict[str, Any]:
    def point(gflop: float, accuracy: float) -> dict[str, Any]:
        return {
            "policy": "one camera",
            "budget_gflop": gflop,
            "mean_gflop": gflop,
            "accuracy": accuracy,
            "accuracy_interval_95": [accuracy - 0.05, accuracy + 0.05],
        }

    return {
        "curves": {"optimal": [point(3, 0.6), point(8, 0.7)], "greedy": [point(3, 0.2)]},
        "best_fixed": [point(5, 0.5)],
        "fixed": [{"plan": "one camera, tail 4", "mean_gflop": 5.0, "accuracy": 0.5}],
        "blind_accuracy": 0.36,
        "majority_accuracy": 0.36,
    }


def write_folder(root: Path) -> Path:
    """Everything at once."""
    for result in (frame_result(), scale_result(), memory_result(), paper_result()):
        write_result(root / "bench" / f"{result['benchmark']}.json", result)
    (root / "schedule-accuracy.json").write_text(json.dumps(schedule_figures()))
    write_run(root / "demo")
    return root
