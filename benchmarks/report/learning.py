"""The section about learning a sensor: costs of all methods, beside the paper's own table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .charts import Chart, Rows, bars

LEAD = (
    "A sensor comes beside those that serve. Tails of N blocks train in front of a language model "
    "that stays as it is; full, lora and prompt put sensors at its input and train through all "
    "blocks."
)


def learning_charts(paper: Mapping[str, Any]) -> list[tuple[str, Chart]]:
    """Charts of a result of `bench paper`, with captions."""
    table = paper["table"]
    costs = {row["method"]: row["flops_per_sample"] / 1e9 for row in table}
    others = [row["method"] for row in table if row["tail_blocks"] is None]
    charts: list[tuple[str, Chart]] = [
        ("Operations of learning one answer", bars(costs, "GFLOP", others=others))
    ]
    peaks = {row["method"]: row["peak_bytes"] / 1e6 for row in table if row.get("peak_bytes")}
    if peaks:
        title = "Peak memory while learning, above what was there before"
        charts.append((title, bars(peaks, "MB", others=others)))
    charts.append(("Beside full fine-tuning, ours and the paper's", Chart("", _rows(paper))))
    return charts


def _rows(paper: Mapping[str, Any]) -> Rows:
    theirs = {_name(row): row for row in paper["paper"]["table"]}
    rows: Rows = [
        (
            "",
            "operations, full over it",
            "with heads in each step",
            "memory of full",
            "the paper's: operations",
            "the paper's: memory of full",
        )
    ]
    full = next((row for row in paper["table"] if row["method"] == "full"), {})
    for row in paper["table"]:
        same = theirs.get(row["method"])
        peak, whole = row.get("peak_bytes"), full.get("peak_bytes")
        rows.append(
            (
                row["method"],
                f"{row['flops_ratio_vs_full']:.1f} x",
                f"{row['flops_ratio_vs_full_heads_computed']:.1f} x",
                "" if not peak or not whole else f"{peak / whole:.0%}",
                "" if same is None else f"{same['flops_ratio_vs_full']:.2f} x",
                "" if same is None else f"{same['memory_ratio_vs_full']:.0%}",
            )
        )
    # Memory is not always measured.
    filled = [column for column in zip(*rows, strict=True) if any(column[1:])]
    return [tuple(row) for row in zip(*filled, strict=True)]


def _name(row: Mapping[str, Any]) -> str:
    """The method of ours that a row of the paper stands beside."""
    if row["tail_blocks"] is not None:
        return f"tail-{row['tail_blocks']}"
    method = str(row["method"])
    return {"Full LLM": "full", "PromptFuse": "prompt"}.get(method, method)
