"""What the rows of an adaptation benchmark come to: the table, recoveries and ratios.

Pure counting over rows; a figure that cannot be had yet is None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .adaptation_plan import SPEED_DEPTH
from .adaptation_record import KEYS, Row

if TYPE_CHECKING:
    from .adaptation_data import Exam

#: By change, its short name in figures.
NAMES = {"C->C+L": "add", "C->L": "replace", "C": "same"}


def figures(
    rows: Sequence[Row],
    exams: Mapping[str, Exam],
    conditions: Sequence[str],
    ships: int,
    methods: Sequence[str],
) -> dict[str, Any]:
    """All figures of a benchmark.

    Args:
        rows: that are there.
        exams: by condition.
        conditions: after the day.
        ships: depth that the ratios are about.
        methods: of the table, in its order.

    Returns:
        `flops_ratio_vs_full` and `memory_ratio_vs_full` (adding the coming sensor at the first
        condition), `night_recovery` (of that condition, by change), `samples_per_second`, then
        `ratios`, `recovery`, `table`, `baselines`, `timing` (by method) and `rows`.
    """
    first = conditions[0] if conditions else None
    ours = f"tail-{ships}"
    ratios = {
        condition: {
            NAMES[change]: _ratios(
                _switch(rows, ours, condition, change), _switch(rows, "full", condition, change)
            )
            for change in NAMES
        }
        for condition in conditions
    }
    recovery = {
        method: {
            condition: {
                NAMES[change]: _recovery(rows, method, condition, change)
                for change in ("C->C+L", "C->L")
            }
            for condition in conditions
        }
        for method in methods
    }
    timing = {
        row["method"]: row for row in rows if row["phase"] == "timing" and "failed" not in row
    }
    timed = timing.get(f"tail-{SPEED_DEPTH}", timing.get(ours))
    added = ratios.get(first or "", {}).get("add", {})
    return {
        "flops_ratio_vs_full": added.get("flops"),
        "memory_ratio_vs_full": added.get("memory"),
        "night_recovery": recovery[ours][first] if first is not None and ours in recovery else None,
        "samples_per_second": None if timed is None else timed["samples_per_second"],
        "ratios": ratios,
        "recovery": recovery,
        "table": [_line(rows, method, conditions) for method in methods],
        "baselines": {
            name: {"questions": one.questions, "blind": one.blind, "majority": one.majority}
            for name, one in exams.items()
        },
        "timing": timing,
        "rows": list(rows),
    }


def flops_to_reach(row: Row, accuracy: float) -> int | None:
    """Operations of switching until the accuracy or a better one was first seen."""
    for point in row["points"]:
        if point["accuracy"] >= accuracy:
            return point["flops"]
    return None


def best_accuracy(row: Row) -> float:
    """The highest of a run."""
    return max(point["accuracy"] for point in row["points"])


def find_row(rows: Sequence[Row], phase: str, method: str, *keys: str) -> Row | None:
    """A row that did not fail; `keys` are condition and change."""
    condition, change = keys or (None, None)
    for row in rows:
        found = tuple(row.get(key) for key in KEYS)
        if found == (phase, method, condition, change) and "failed" not in row:
            return row
    return None


def _switch(rows: Sequence[Row], method: str, condition: str, change: str) -> Row | None:
    return find_row(rows, "switch", method, condition, change)


def _ratios(ours: Row | None, full: Row | None) -> dict[str, float | None]:
    """Costs of full fine-tuning over ours, and peak memory of ours over that of the other."""
    if ours is None or full is None:
        return dict.fromkeys(("flops", "flops_equal_samples", "memory", "accuracy_gain"))
    goal = best_accuracy(full)
    needed, theirs = flops_to_reach(ours, goal), flops_to_reach(full, goal)
    peaks = ours["peak_bytes"], full["peak_bytes"]
    return {
        "flops": None if needed is None or theirs is None else theirs / needed,
        "flops_equal_samples": (full["flops"] / full["points"][-1]["samples"])
        / (ours["flops"] / ours["points"][-1]["samples"]),
        "memory": peaks[0] / peaks[1] if peaks[0] is not None and peaks[1] else None,
        "accuracy_gain": best_accuracy(ours) - goal,
    }


def _recovery(rows: Sequence[Row], method: str, condition: str, change: str) -> float | None:
    """Share of the fall behind the day that the change wins back."""
    day, after = find_row(rows, "day", method), _switch(rows, method, condition, change)
    if day is None or after is None:
        return None
    before = day["by_condition"][condition]
    fall = day["by_condition"]["day"] - before
    return (after["accuracy"] - before) / fall if fall > 0 else None


def _line(rows: Sequence[Row], method: str, conditions: Sequence[str]) -> dict[str, Any]:
    """One line of the paper's table, for all conditions."""
    day = find_row(rows, "day", method)
    line: dict[str, Any] = {
        "method": method,
        "day": None if day is None else day["accuracy"],
        "conditions": {},
    }
    for condition in conditions:
        cells: dict[str, Any] = {
            "before": None if day is None else day["by_condition"][condition],
        }
        for change, name in NAMES.items():
            row = _switch(rows, method, condition, change)
            kept = ("accuracy", "flops", "flops_per_epoch", "peak_bytes", "epoch_seconds")
            cells[name] = None if row is None else {key: row[key] for key in kept}
        line["conditions"][condition] = cells
    return line
