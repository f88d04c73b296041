"""What finished runs of `tailwire bench adaptation` say about the paper's measures.

Reads the folder of its runs and nothing else, so that accuracies of hours on a GPU stand beside
costs that are counted anywhere; no torch.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..runtime.errors import DataError
from .adaptation_figures import best_accuracy, find_row, flops_to_reach
from .adaptation_record import Row

#: Names of the changes as rows have them, by the paper's column.
_CHANGES = {"added": "C->C+L", "replaced": "C->L", "adapted": "C"}
COMMAND = (
    "tailwire bench adaptation --dataroot DIR --encoders-from WORKDIR --out RUNS --device cuda"
)
REMEDY = (
    f"on a GPU: {COMMAND}, or on any machine from a pack that is there already: tailwire bench "
    "adaptation --dataroot DIR --encoders-from PACK --from PACK --steps 0 --out RUNS; then "
    "--runs RUNS"
)


def read_runs(folder: Path) -> tuple[dict[str, Any], list[Row]]:
    """Settings and finished rows.

    Raises:
        DataError: it is no folder of the adaptation benchmark.
    """
    try:
        settings = json.loads((folder / "adaptation-settings.json").read_text("utf-8"))
        lines = (folder / "adaptation-runs.jsonl").read_text("utf-8").splitlines()
        if not isinstance(settings, dict) or "conditions" not in settings:
            raise ValueError("its settings name no conditions")
    except (OSError, ValueError) as error:
        raise DataError(
            f"no runs can be read: {error}",
            field=str(folder),
            remedy="name the folder that `tailwire bench adaptation --out` wrote",
        ) from error
    rows: list[Row] = []
    for line in lines:
        # A line that was being written when the machine went is no run.
        with contextlib.suppress(json.JSONDecodeError):
            rows.append(json.loads(line))
    return settings, rows


def accuracies(
    rows: Sequence[Row], methods: Sequence[str], condition: str
) -> dict[str, dict[str, Any]]:
    """Of each method, shares: `day`, `before`, `added`, `replaced`, `adapted`; None if not there.

    Standard errors of the last three stand beside them as `added_error` and so on.

    Args:
        rows: finished.
        methods: names as in the runs.
        condition: behind the day.
    """
    found: dict[str, dict[str, Any]] = {}
    for method in methods:
        day = find_row(rows, "day", method)
        cells: dict[str, Any] = {
            "day": None if day is None else day["accuracy"],
            "before": None if day is None else day["by_condition"].get(condition),
        }
        for name, change in _CHANGES.items():
            row = find_row(rows, "switch", method, condition, change)
            cells[name] = None if row is None else row["accuracy"]
            cells[f"{name}_error"] = None if row is None else row.get("standard_error")
        found[method] = cells
    return found


def equal_accuracy(
    rows: Sequence[Row], ours: Sequence[str], baselines: Sequence[str], condition: str
) -> dict[str, Any]:
    """FLOPs of each baseline until its best look over those of ours until as good a look.

    Of a change that adds the sensor. Ours is, for each baseline, the method that gets there with
    the fewest.

    Args:
        rows: finished.
        ours: methods.
        baselines: methods.
        condition: behind the day.

    Returns:
        By baseline `ratio`, `method`, `accuracy` and its `standard_error` (None in rows of
        before); `ratio` is None where none of ours is as good or nothing had to be learned for
        it, and the baseline is left out where it has no run.
    """
    added = _CHANGES["added"]
    runs = {name: find_row(rows, "switch", name, condition, added) for name in (*ours, *baselines)}
    found: dict[str, Any] = {}
    for baseline in baselines:
        theirs = runs[baseline]
        if theirs is None:
            continue
        goal = best_accuracy(theirs)
        cost = flops_to_reach(theirs, goal)
        needed = {n: flops_to_reach(row, goal) for n in ours if (row := runs[n]) is not None}
        reached: Mapping[str, int] = {n: f for n, f in needed.items() if f}
        first = min(reached, key=lambda name: reached[name], default=None)
        ratio = None if first is None or not cost else cost / reached[first]
        error = max(theirs["points"], key=lambda one: one["accuracy"]).get("standard_error")
        found[baseline] = {
            "ratio": ratio,
            "method": first,
            "accuracy": goal,
            "standard_error": error,
        }
    return found
