"""Memory of a runtime, phase by phase, by several methods at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..runtime.metrics import (
    PEAK_MEMORY_METHOD,
    begin_peak,
    peak_memory_bytes,
    peak_since_begin,
    resident_memory_bytes,
)
from ..runtime.process_memory import trim
from .memory_meters import MemoryMeter, PeakSampler, read_all, settle

METHOD = (
    "A fresh process goes through phases; after each, freed memory is given back to the system "
    "(malloc_trim) and every meter is read. Peaks: of the process by getrusage (ru_maxrss); of a "
    "phase by the kernel's VmHWM, set back before it; of the other meters by a thread that reads "
    "them every 20 ms, so that shorter peaks may be missed there. Engines map no weights, so "
    "their pages are private."
)


def measure_phases(
    phases: Sequence[tuple[str, Callable[[], object]]], meters: Sequence[MemoryMeter]
) -> dict[str, Any]:
    """Run phases in order and read memory.

    Args:
        phases: name and what is done.
        meters: read after each phase, and sampled within.

    Returns:
        `phases` by name, and `peaks` of the whole by method.
    """
    rows: dict[str, Any] = {}
    peaks: dict[str, int] = {}
    samples = 0
    for name, work in phases:
        trim()
        settle()
        before, has_peak = resident_memory_bytes(), begin_peak()
        with PeakSampler(meters) as sampler:
            work()
        kernel = peak_since_begin() if has_peak else None
        trim()
        settle()
        after = resident_memory_bytes()
        rows[name] = {
            "peak_bytes": kernel,
            "resident_before_bytes": before,
            "resident_after_bytes": after,
            "grew_bytes": None if before is None or after is None else after - before,
            "after_bytes": read_all(meters),
            "sampled_peaks_bytes": dict(sampler.peaks),
        }
        samples += sampler.samples
        for meter, value in sampler.peaks.items():
            peaks[meter] = max(peaks.get(meter, 0), value)
    return {"phases": rows, "peaks": peaks, "samples": samples}


def memory_result(
    measured: Mapping[str, Any], meters: Sequence[MemoryMeter], absent: Mapping[str, str]
) -> dict[str, Any]:
    """What was measured, with the methods' names.

    Args:
        measured: of `measure_phases`.
        meters: that were read.
        absent: meters that this machine lacks, with the reason.
    """
    kernel = [row["peak_bytes"] for row in measured["phases"].values()]
    known = [peak for peak in kernel if peak is not None]
    methods: dict[str, Any] = {
        "peak_rss": {"method": PEAK_MEMORY_METHOD, "peak_bytes": peak_memory_bytes()}
    }
    if known:
        methods["vm_hwm"] = {
            "method": "highest VmHWM of /proc/self/status over the phases, set back before each",
            "peak_bytes": max(known),
        }
    for meter in meters:
        if meter.name in measured["peaks"]:
            methods[meter.name] = {
                "method": f"sampled: {meter.method}",
                "peak_bytes": measured["peaks"][meter.name],
            }
    resident = [
        methods[name]["peak_bytes"] for name in ("peak_rss", "vm_hwm", "rss") if name in methods
    ]
    return {
        "peak_memory_bytes": methods["peak_rss"]["peak_bytes"],
        "memory_method": PEAK_MEMORY_METHOD,
        "methods": methods,
        "absent": dict(absent),
        "agreement_of_resident": min(resident) / max(resident),
        "phases": measured["phases"],
        "samples": measured["samples"],
    }
