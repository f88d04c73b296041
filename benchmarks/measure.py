"""Times variants side by side: interleaved, warmed up, with percentiles and the machine's card.

Machines drift; so every round runs all variants, in an order that rotates, and ratios are taken
round by round. Knows nothing of models.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
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
        "cores": _cores(),
        "memory_bytes": _memory_bytes(),
        "governor": _governor(),
        "power_mode": power_mode(),
        # Of all processes, so it says whether the machine was busy with something else.
        "load_average_1min": _load(),
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


def power_mode(root: Path = Path("/")) -> str:
    """Which power mode the machine is in, or that it does not tell.

    Args:
        root: folder that holds `sys`; the tool of Jetsons is only asked with the real one.
    """
    if root == Path("/") and shutil.which("nvpmodel"):
        try:
            told = subprocess.run(
                ["nvpmodel", "-q"], capture_output=True, text=True, timeout=10, check=True
            ).stdout
            return " ".join(line.strip() for line in told.splitlines() if line.strip())
        except (OSError, subprocess.SubprocessError):
            pass
    for name in ("sys/firmware/acpi/platform_profile", _GOVERNOR):
        mode = _first_line(root / name)
        if mode is not None:
            return f"{mode} ({Path(name).name})"
    return "not told by this machine"


_GOVERNOR = "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"


def _governor() -> str | None:
    return _first_line(Path("/", _GOVERNOR))


def _first_line(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None


def _cores() -> int:
    """Those that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def _load() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
