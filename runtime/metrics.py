"""Stage clocks and memory readings; every figure carries the method it was measured with."""

from __future__ import annotations

import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class StageClock:
    """Milliseconds per stage of one frame; a stage that runs twice adds up.

    Attributes:
        stages_ms: so far.
        now: seconds, of any origin.
    """

    stages_ms: dict[str, float] = field(default_factory=dict)
    now: Callable[[], float] = time.perf_counter

    @contextmanager
    def stage(
        self, name: str, *, part: str | None = None, size: float | None = None
    ) -> Iterator[None]:
        """Time a `with` block as stage `name`.

        Args:
            name: of the stage.
            part: its name in `PartTimes`, that of the stage if not given.
            size: of this run of the part, for parts with a size.
        """
        start = self.now()
        elapsed = 0.0
        try:
            yield
        finally:
            elapsed = (self.now() - start) * 1e3
            self.stages_ms[name] = self.stages_ms.get(name, 0.0) + elapsed
        # What failed took another time than what succeeds.
        self.note(part or name, elapsed, size)

    def note(self, part: str, ms: float, size: float | None) -> None:
        """Told of every part that ran through; here nobody keeps it."""

    @property
    def total_ms(self) -> float:
        return sum(self.stages_ms.values())


#: How `peak_memory_bytes` measures.
PEAK_MEMORY_METHOD = "process peak RSS (getrusage ru_maxrss)"

_CLEAR_REFS, _SET_PEAK_BACK = Path("/proc/self/clear_refs"), "5"
_STATUS = Path("/proc/self/status")


class _Peak:
    """The highest peak before the kernel's counter was set back, which is the process's too."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._highest = 0

    def set_back(self) -> bool:
        with self._lock:
            self._highest = max(self._highest, _counted_peak())
            try:
                _CLEAR_REFS.write_text(_SET_PEAK_BACK, encoding="ascii")
            except OSError:
                return False
            return True

    def highest(self) -> int:
        with self._lock:
            return max(self._highest, _counted_peak())


_PEAK = _Peak()


def peak_memory_bytes() -> int:
    """Highest resident memory of this process since its start."""
    return _PEAK.highest()


def begin_peak() -> bool:
    """Begin a new peak for `peak_since_begin`; False where the system does not allow it."""
    return _PEAK.set_back()


def peak_since_begin() -> int | None:
    """The most that was resident since `begin_peak`, of all threads; None if nobody knows."""
    try:
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    found = [line.split() for line in lines if line.startswith("VmHWM:")]
    return int(found[0][1]) * 1024 if found and len(found[0]) > 1 else None


def _counted_peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def resident_memory_bytes() -> int | None:
    """Resident memory of this process now, or None where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * resource.getpagesize()
