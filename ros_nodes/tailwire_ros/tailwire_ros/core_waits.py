"""How long the threads of this process have waited for a core, as Linux counts it.

Tells apart what a round of answers costs from what other work on the machine takes away from it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_TASKS = Path("/proc/self/task")
_RUN_DELAY = 1

#: Nanoseconds since the start, over all threads together.
CoreWaits = Callable[[], int]


def core_waits_ns(tasks: Path = _TASKS) -> int:
    """Nanoseconds that threads were ready and had no core, over all threads that there are now.

    Reads a small file per thread: see "Scheduler statistics" in the documentation of Linux.

    Args:
        tasks: folder with a folder per thread.
    """
    total = 0
    for task in tasks.iterdir():
        # It may have ended meanwhile.
        with suppress(OSError):
            total += int((task / "schedstat").read_text().split()[_RUN_DELAY])
    return total


def open_core_waits(tasks: Path = _TASKS) -> CoreWaits | None:
    """What reads the waits; None where this machine does not count them."""
    try:
        readable = any((task / "schedstat").read_text() for task in tasks.iterdir())
    except OSError:
        return None
    return (lambda: core_waits_ns(tasks)) if readable else None
