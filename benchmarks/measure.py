"""Times variants side by side: interleaved, warmed up, with percentiles and the machine's card.

Machines drift; so every round runs all variants, in an order that rotates, and ratios are taken
round by round. Knows nothing of models.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Variant = Callable[[], object]


@dataclass(frozen=True)
class Timings:
    """Milliseconds of one variant, one per round."""

    ms: NDArray[np.float64]

    def summary(self) -> dict[str, float]:
        """Median, percentiles and extremes, in milliseconds."""
        names = {"p10": 10, "median": 50, "p90": 90, "p99": 99}
        values = {name: float(np.percentile(self.ms, q)) for name, q in names.items()}
        return {"min": float(self.ms.min()), **values, "runs": len(self.ms)}


def interleave(
    variants: Mapping[str, Variant],
    *,
    rounds: int,
    warm_up: int = 3,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Timings]:
    """Time variants in turn.

    Args:
        variants: what to time.
        rounds: counted runs of each.
        warm_up: runs before that are not counted.
        progress: called with (rounds done, rounds in all).
    """
    names = list(variants)
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-warm_up, rounds):
        # Rotated, so that none always runs behind the same neighbour's cache and heat.
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            start = time.perf_counter()
            variants[name]()
            elapsed = (time.perf_counter() - start) * 1e3
            if number >= 0:
                times[name].append(elapsed)
        if progress is not None and number >= 0:
            progress(number + 1, rounds)
    return {name: Timings(np.asarray(ms)) for name, ms in times.items()}


def paired_ratio(slow: Timings, fast: Timings) -> dict[str, float]:
    """Ratio slow / fast, round by round: median and quartiles."""
    ratios = slow.ms / fast.ms
    low, middle, high = (float(np.percentile(ratios, q)) for q in (25, 50, 75))
    return {"p25": low, "median": middle, "p75": high}


def machine_card(threads: int, packages: Sequence[str] = ()) -> dict[str, Any]:
    """Processor, system and versions, to be stored with every result."""
    return {
        "cpu": _cpu_name(),
        "architecture": platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "threads": threads,
        "governor": _governor(),
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "versions": {name: _version(name) for name in ("onnxruntime", "numpy", *packages)},
    }


def _cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or "unknown"
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model"):
            return value.strip()
    return platform.processor() or "unknown"


def _governor() -> str | None:
    path = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
