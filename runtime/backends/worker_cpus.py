"""Where the further threads of an engine run may run.

A thread that was asleep is often woken on the core of the thread that woke it, though another core
is idle: after a rest of a tenth of a second both threads of a run shared one of two cores for as
long as the tail takes, 30 ms instead of 14 (Linux 6.18). Keeping each further thread to a part of
the cores of its own leaves the scheduler free within the part and never two threads of a run on one
core for long.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence


def allowed_cpus() -> tuple[int, ...]:
    """CPUs that this process may use, ascending; empty where the system does not tell."""
    try:
        return tuple(sorted(os.sched_getaffinity(0)))
    except (AttributeError, OSError):
        return ()


def parts_for_workers(cpus: Collection[int], threads: int) -> Sequence[tuple[int, ...]]:
    """A part of the CPUs for each thread of a run but the calling one, whose part is left out.

    Args:
        cpus: that may be used, numbered from 0.
        threads: of a run, the calling one among them.

    Returns:
        `threads - 1` parts that share no CPU; none where there are fewer CPUs than threads.
    """
    ordered, count = sorted(cpus), len(cpus)
    if threads < 2 or count < threads:
        return ()
    bounds = [part * count // threads for part in range(threads + 1)]
    return [tuple(ordered[bounds[part] : bounds[part + 1]]) for part in range(1, threads)]


def affinities(threads: int) -> str | None:
    """What ONNX Runtime's `session.intra_op_thread_affinities` takes; None to leave it alone.

    Args:
        threads: of a run, the calling one among them.
    """
    parts = parts_for_workers(allowed_cpus(), threads)
    # ONNX Runtime numbers CPUs from 1.
    return ";".join(",".join(str(cpu + 1) for cpu in part) for part in parts) or None
