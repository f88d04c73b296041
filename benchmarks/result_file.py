"""Results of benchmarks as files: one JSON object each, of a stated format, and two compared.

A result names its own figures that may be compared (`figures`): by which way they are better, and
whether they are counted or timed. So the comparison knows nothing of any benchmark.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ..runtime.errors import CacheError, ConfigError
from ..runtime.files import write_atomic

#: Of result files. A reader refuses others, so it is raised when a key changes its meaning.
FORMAT_VERSION = 1

#: By which share a time may be worse before it is marked.
TOLERANCE = 0.1

Better = Literal["lower", "higher"]

#: Parts of the machine's card that make times comparable.
_SAME_MACHINE = ("cpu", "architecture", "threads", "power_mode")


def figure(better: Better, *, counted: bool = False) -> dict[str, Any]:
    """How one figure of a result is compared.

    Args:
        better: which way.
        counted: any difference is marked; else only one beyond the tolerance.
    """
    return {"better": better, "counted": counted}


def stamped(result: Mapping[str, Any], version: str) -> dict[str, Any]:
    """A result with the version of its format and that of Tailwire in front."""
    return {"format_version": FORMAT_VERSION, "tailwire": version, **result}


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """Keep a result.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(result, indent=1) + "\n")
    except (CacheError, OSError) as error:
        reason = error.problem if isinstance(error, CacheError) else error.strerror or str(error)
        raise ConfigError(
            f"the result cannot be written: {reason}",
            field=str(path),
            remedy="name a file that can be written",
        ) from error


def read_result(path: Path) -> dict[str, Any]:
    """Read a kept result.

    Raises:
        ConfigError: there is no such file, or it is no result, or one of another format.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"no result can be read: {error}", field=str(path), remedy="name a kept result"
        ) from error
    if not isinstance(found, dict) or "benchmark" not in found:
        raise ConfigError(
            "this is no result of a benchmark",
            field=str(path),
            remedy="name a file that 'tailwire bench ... --save' wrote",
        )
    version = found.get("format_version")
    if version != FORMAT_VERSION:
        raise ConfigError(
            f"the result is of format {version}, this Tailwire reads {FORMAT_VERSION}",
            field=str(path),
            remedy="measure again with this version",
        )
    return found


def compare_results(
    old: Mapping[str, Any], new: Mapping[str, Any], *, tolerance: float = TOLERANCE
) -> dict[str, Any]:
    """What has changed between two results of one benchmark.

    Args:
        old: the earlier one.
        new: the later one; its `figures` are compared.
        tolerance: by which share a time may be worse.

    Returns:
        `rows` by figure, with `old`, `new`, `change` (a share) and `verdict` (same, better,
        regression, changed, missing); `regressions` names those marked; `notes` say what makes
        the comparison weak.

    Raises:
        ConfigError: they are of different benchmarks.
    """
    if old["benchmark"] != new["benchmark"]:
        raise ConfigError(
            f"the earlier result is of '{old['benchmark']}', not of '{new['benchmark']}'",
            field="--compare",
            remedy="name a result of the same benchmark",
        )
    rows = {
        name: _compared(_at(old, name), _at(new, name), rule, tolerance)
        for name, rule in new.get("figures", {}).items()
    }
    return {
        "with": {"tailwire": old.get("tailwire"), "date": old.get("machine", {}).get("date")},
        "tolerance": tolerance,
        "regressions": [name for name, row in rows.items() if row["verdict"] == "regression"],
        "rows": rows,
        "notes": _differences(old, new),
    }


def _compared(
    old: float | None, new: float | None, rule: Mapping[str, Any], tolerance: float
) -> dict[str, Any]:
    row: dict[str, Any] = {"old": old, "new": new, "change": None}
    if old is None or new is None:
        return {**row, "verdict": "same" if old is new else "missing"}
    row["change"] = None if old == 0 else (new - old) / abs(old)
    worse = new - old if rule["better"] == "lower" else old - new
    limit = 0.0 if rule["counted"] else tolerance * abs(old)
    if worse > limit:
        return {**row, "verdict": "regression"}
    return {**row, "verdict": "better" if worse < -limit else "same"}


def _at(result: Mapping[str, Any], path: str) -> float | None:
    """The number at a dotted path; None if there is none."""
    value: Any = result
    for key in path.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return None
        value = value[key]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Why times of two results may differ without anything having become faster or slower."""
    notes: list[str] = []
    for part, names in (("machine", _SAME_MACHINE), ("settings", None)):
        before, now = old.get(part) or {}, new.get(part) or {}
        for name in names or sorted({*before, *now}):
            if before.get(name) != now.get(name):
                notes.append(f"{part}.{name} was {before.get(name)}, is {now.get(name)}")
    return notes
