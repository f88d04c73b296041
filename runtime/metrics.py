"""Stage clocks and memory readings; every figure carries the method it was measured with."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class StageClock:
    """Milliseconds per stage of one frame; a stage that runs twice adds up."""

    stages_ms: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a `with` block as stage `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            elapsed = (time.perf_counter() - start) * 1e3
            self.stages_ms[name] = self.stages_ms.get(name, 0.0) + elapsed

    @property
    def total_ms(self) -> float:
        return sum(self.stages_ms.values())


#: How `peak_memory_bytes` measures.
PEAK_MEMORY_METHOD = "process peak RSS (getrusage ru_maxrss)"


def peak_memory_bytes() -> int:
    """Highest resident memory of this process since its start."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def resident_memory_bytes() -> int | None:
    """Resident memory of this process now, or None where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * resource.getpagesize()
