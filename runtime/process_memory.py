"""What the process holds in memory around a step, and how to give back what it does not need.

Resident memory (RSS) belongs to the whole process: what other threads take meanwhile is in it too.
Peaks are those of the kernel (`VmHWM`, set back before the step), so that what is taken and freed
within a step is seen; systems without them give None, and memory budgets then rest on RSS alone.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from .metrics import begin_peak, peak_since_begin, resident_memory_bytes

Made = TypeVar("Made")

#: `M_MMAP_THRESHOLD` of glibc's malloc.h, and bytes from which a block is large.
_MMAP_THRESHOLD, _LARGE_BLOCK = -3, 1024**2
#: How `measured` measures.
RESIDENT_METHOD = "difference of process RSS after malloc_trim"


@dataclass(frozen=True)
class Measured(Generic[Made]):
    """What a step made, and what it did to the process.

    Attributes:
        value: what the step returned.
        resident_bytes: that stayed resident, at least 0; None where the system does not tell.
        peak_bytes: the most that was resident at once within it, above what was there before; None
            where the system does not tell.
    """

    value: Made
    resident_bytes: int | None
    peak_bytes: int | None


def measured(step: Callable[[], Made]) -> Measured[Made]:
    """Run a step and tell what it left in memory; see `RESIDENT_METHOD`."""
    trim()
    before, has_peak = resident_memory_bytes(), begin_peak()
    value = step()
    peak = peak_since_begin() if has_peak else None
    trim()
    after = resident_memory_bytes()
    if before is None or after is None:
        return Measured(value, None, None)
    return Measured(
        value, max(after - before, 0), None if peak is None else max(peak - before, after - before)
    )


def trim() -> bool:
    """Give freed memory back to the system; False where the C library cannot (glibc can)."""
    give_back = _malloc_trim()
    if give_back is None:
        return False
    give_back(0)
    return True


def return_at_once() -> bool:
    """Give large blocks back to the system when they are freed, from now on, in all of the process.

    By itself glibc keeps blocks of up to 32 MiB for later once one of that size was freed, and so
    does each thread for itself. What is returned at once must be mapped anew the next time, which
    makes encoders slower (docs/scheduler.md).

    Returns:
        False where the C library has no such setting.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(set_option(_MMAP_THRESHOLD, _LARGE_BLOCK))


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None
