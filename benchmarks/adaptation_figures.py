"""What the rows of an adaptation benchmark come to: the table, recoveries and ratios.

Pure counting over rows; a figure that cannot be had yet is None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .adaptation_errors import (
    ROUNDING,
    costs_at_equal_accuracy,
    drawn_accuracies,
    interval,
    standard_error,
    unpacked,
)
from .adaptation_plan import SPEED_DEPTH
from .adaptation_pooled import pooled
from .adaptation_record import KEYS, Row
from .input_level_methods import BASELINES, METHODS, PREFIX_METHODS

if TYPE_CHECKING:
    from .adaptation_data import Exam

#: By change, its short name in figures.
NAMES = {"C->C+L": "add", "C->L": "replace", "C": "same"}
#: Those in which a sensor comes.
_COMING = ("C->C+L", "C->L")
#: What full fine-tuning is, the first that has rows: at the input, or behind the prefix.
FULL = ("full", PREFIX_METHODS[0])
#: At equal accuracy a look of ours is as right as the baseline's best one, or better.
TOLERANCE = 0.0
_POINT = 0.01
_DAY = "day"


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
        condition) and `full_is`, the method that they are about; `night_recovery` (of that
        condition, by change), `samples_per_second`, then `ratios` (by condition, change and
        baseline, see `compared`), `pooled` (by baseline, over all conditions in which the coming
        sensor was added or replaced the others, see `pooled`), `day_ratios` (by input-level
        model, of what the day took, where it was learned), `recovery`, `table`, `baselines`,
        `timing` (by method) and `rows`.
    """
    first = conditions[0] if conditions else None
    ours = f"tail-{ships}"
    there = [name for name in BASELINES if name in methods]
    ratios = {
        condition: {
            NAMES[change]: {
                name: compared(
                    _switch(rows, ours, condition, change),
                    _switch(rows, name, condition, change),
                    exams[condition],
                )
                for name in there
            }
            for change in NAMES
        }
        for condition in conditions
    }
    recovery = {
        method: {
            condition: {
                NAMES[change]: _recovery(rows, method, condition, change) for change in _COMING
            }
            for condition in conditions
        }
        for method in methods
    }
    timing = {
        row["method"]: row for row in rows if row["phase"] == "timing" and "failed" not in row
    }
    timed = timing.get(f"tail-{SPEED_DEPTH}", timing.get(ours))
    full = full_is(rows, first, "C->C+L") if first is not None else None
    added = {} if full is None or first is None else ratios[first]["add"].get(full, {})
    return {
        "flops_ratio_vs_full": added.get("flops"),
        "memory_ratio_vs_full": added.get("memory"),
        "full_is": full,
        "night_recovery": recovery[ours][first] if first is not None and ours in recovery else None,
        "samples_per_second": None if timed is None else timed["samples_per_second"],
        "ratios": ratios,
        "pooled": {name: pooled(_pairs(rows, ours, name, conditions), exams) for name in there},
        "day_ratios": {
            name: compared(_learned_day(rows, ours), _learned_day(rows, name), exams[_DAY])
            for name in there
            if name in METHODS
        },
        "recovery": recovery,
        "table": [_line(rows, method, conditions) for method in methods],
        "baselines": {
            name: {
                "questions": one.questions,
                "blind": one.blind,
                "majority": one.majority,
                one.blocks_are + "s": len(np.unique(one.block)),
            }
            for name, one in exams.items()
        },
        "timing": timing,
        "rows": list(rows),
    }


def flops_to_reach(row: Row, accuracy: float) -> int | None:
    """Operations of switching until the accuracy or a better one was first seen."""
    for point in row["points"]:
        if point["accuracy"] >= accuracy - ROUNDING:
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


def _pairs(
    rows: Sequence[Row], ours: str, name: str, conditions: Sequence[str]
) -> list[tuple[str, Row, Row]]:
    """Switches to the coming sensor that both have made."""
    found: list[tuple[str, Row, Row]] = []
    for condition in conditions:
        for change in _COMING:
            both = [_switch(rows, method, condition, change) for method in (ours, name)]
            if both[0] is not None and both[1] is not None:
                found.append((condition, both[0], both[1]))
    return found


def _learned_day(rows: Sequence[Row], method: str) -> Row | None:
    """The day as a run; tails are looked at behind their last step alone."""
    day = find_row(rows, "day", method)
    if day is None or not day["flops"]:
        return None
    if "points" in day:
        return day
    last = {**day["looks"][_DAY], "samples": day["samples"], "flops": day["flops"]}
    return {**day, "points": [last]}


def full_is(rows: Sequence[Row], condition: str, change: str) -> str | None:
    """The method that stands for full fine-tuning, None where no run of one is there."""
    return next((name for name in FULL if _switch(rows, name, condition, change)), None)


def compared(ours: Row | None, theirs: Row | None, exam: Exam) -> dict[str, Any]:
    """Costs of a baseline over ours for one change, and how much more of it is right.

    Args:
        ours: a switch.
        theirs: the same switch by the baseline.
        exam: that both were asked.

    Returns:
        `flops` until the baseline's best look over those of ours until its first look that is as
        right (None where none is, or where nothing had to be learned for it), `flops_interval`
        (95 %, scenes drawn again; an end is None where ours is never as right), `flops_reached`
        (share of the draws in which it is), `flops_one_point_less` (for a look of ours that is at
        most a point worse), `tolerance`; `flops_equal_samples`; `memory`, ours over theirs;
        `accuracy_gain` of best looks with its `accuracy_gain_error` (paired by question, over
        scenes), `accuracy` and `standard_error` of both best looks.
    """
    keys = ("flops", "flops_interval", "flops_reached", "flops_one_point_less", "tolerance")
    keys += ("flops_equal_samples", "memory", "accuracy_gain", "accuracy_gain_error")
    if ours is None or theirs is None:
        return dict.fromkeys((*keys, "accuracy", "standard_error"))
    goal = best_accuracy(theirs)
    peaks = ours["peak_bytes"], theirs["peak_bytes"]
    looks = _best_look(ours), _best_look(theirs)
    return {
        "flops": _at_equal_accuracy(ours, theirs, goal),
        **_interval(ours, theirs, exam),
        "flops_one_point_less": _at_equal_accuracy(ours, theirs, goal, _POINT),
        "tolerance": TOLERANCE,
        "flops_equal_samples": (theirs["flops"] / theirs["points"][-1]["samples"])
        / (ours["flops"] / ours["points"][-1]["samples"]),
        "memory": peaks[0] / peaks[1] if peaks[0] is not None and peaks[1] else None,
        "accuracy_gain": best_accuracy(ours) - goal,
        "accuracy_gain_error": _gain_error(*looks, exam),
        "accuracy": {"ours": looks[0]["accuracy"], "theirs": goal},
        "standard_error": dict(
            zip(("ours", "theirs"), (one.get("standard_error") for one in looks), strict=True)
        ),
    }


def _at_equal_accuracy(
    ours: Row, theirs: Row, goal: float, tolerance: float = TOLERANCE
) -> float | None:
    needed, cost = flops_to_reach(ours, goal - tolerance), flops_to_reach(theirs, goal)
    return cost / needed if needed and cost else None


def _best_look(row: Row) -> dict[str, Any]:
    """The first of the best ones."""
    return max(row["points"], key=lambda point: point["accuracy"])


def _gain_error(ours: dict[str, Any], theirs: dict[str, Any], exam: Exam) -> float | None:
    right = [unpacked([look], exam.questions) for look in (ours, theirs)]
    if right[0] is None or right[1] is None:
        return None
    return standard_error(right[0][0].astype(np.float64) - right[1][0], exam.block)


def _interval(ours: Row, theirs: Row, exam: Exam) -> dict[str, Any]:
    """The ratio at equal accuracy when scenes are drawn again."""
    right = [unpacked(row["points"], exam.questions) for row in (ours, theirs)]
    if right[0] is None or right[1] is None or len(np.unique(exam.block)) < 2:
        return {"flops_interval": None, "flops_reached": None}
    our_draws, their_draws = drawn_accuracies([right[0], right[1]], exam.block)
    our_flops, their_flops = (
        np.array([point["flops"] for point in row["points"]], np.float64) for row in (ours, theirs)
    )
    costs = costs_at_equal_accuracy(our_draws, their_draws, our_flops, their_flops)
    cost, needed, reached = costs
    with np.errstate(divide="ignore", invalid="ignore"):
        # Where nothing had to be learned, ours needs nothing either.
        ratios = np.where(cost > 0, cost / needed, 1.0)
    ends = interval(np.where(reached, ratios, 0.0))
    return {
        "flops_interval": [end if np.isfinite(end) and end > 0 else None for end in ends],
        "flops_reached": float(reached.mean()),
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
            cells[name] = None
            if row is not None:
                error = row.get("standard_error")
                cells[name] = {**{key: row[key] for key in kept}, "standard_error": error}
        line["conditions"][condition] = cells
    return line
