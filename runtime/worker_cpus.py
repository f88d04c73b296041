"""On which CPUs the threads of a pool run, each on a part of its own.

A thread that was asleep is often woken on the core of the thread that woke it, though another core
is idle: after a rest of a tenth of a second both threads of an engine run shared one of two cores
for as long as the tail takes, 30 ms instead of 14 (Linux 6.18). Keeping each thread to a part of
the CPUs of its own leaves the scheduler free within the part and never two of them on one core.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count, pairwise

#: CPUs of threads that are kept to a part for the time being (`CallingThread`).
_KEPT = threading.local()


def allowed_cpus() -> tuple[int, ...]:
    """CPUs that the calling thread may use, ascending; empty where the system does not tell."""
    kept: tuple[int, ...] | None = getattr(_KEPT, "cpus", None)
    if kept is not None:
        return kept
    try:
        return tuple(sorted(os.sched_getaffinity(0)))
    except (AttributeError, OSError):
        return ()


def cpu_parts(cpus: Collection[int], threads: int) -> Sequence[tuple[int, ...]]:
    """A part of the CPUs for each thread.

    Args:
        cpus: that may be used, numbered from 0.
        threads: that run at the same time.

    Returns:
        `threads` parts that share no CPU and differ by one CPU at most; none where one thread runs
        alone or there are fewer CPUs than threads.
    """
    ordered = sorted(cpus)
    if threads < 2 or len(ordered) < threads:
        return ()
    bounds = [part * len(ordered) // threads for part in range(threads + 1)]
    return [tuple(ordered[first:stop]) for first, stop in pairwise(bounds)]


def affinities(threads: int) -> str | None:
    """What ONNX Runtime's `session.intra_op_thread_affinities` takes; None to leave it alone.

    The calling thread of a run is not ONNX Runtime's: the first part is left to it.

    Args:
        threads: of a run, the calling one among them.
    """
    parts = cpu_parts(allowed_cpus(), threads)[1:]
    # ONNX Runtime numbers CPUs from 1.
    return ";".join(",".join(str(cpu + 1) for cpu in part) for part in parts) or None


class Spread:
    """Called by each thread of a pool when it begins: keeps it to the next part of the CPUs."""

    def __init__(self, threads: int) -> None:
        """Nothing happens yet.

        Args:
            threads: of the pool.
        """
        self._parts = cpu_parts(allowed_cpus(), threads)
        self._numbers = count()

    def __call__(self) -> None:
        """Keep the calling thread to a part; where the system refuses, it runs anywhere."""
        if self._parts:
            part = self._parts[next(self._numbers) % len(self._parts)]
            with suppress(OSError):
                # Of this thread, not of the process.
                os.sched_setaffinity(0, part)


class CallingThread:
    """Keeps the thread that calls for a frame off the CPUs of its workers while it lasts.

    A caller that happens to be on the core that a worker is kept to shares it with the worker for
    as long as a stage takes: the slowest frames of a hundred were twice as slow as the median.
    """

    def __init__(self, threads: int) -> None:
        """Nothing happens yet.

        Args:
            threads: of a run, the calling one among them.
        """
        self._all = allowed_cpus()
        self._parts = cpu_parts(self._all, threads)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the calling thread to the first part; one that was kept elsewhere stays there."""
        if not self._parts or getattr(_KEPT, "cpus", None) or allowed_cpus() != self._all:
            yield
            return
        try:
            os.sched_setaffinity(0, self._parts[0])
        except OSError:
            yield
            return
        _KEPT.cpus = self._all
        try:
            yield
        finally:
            _KEPT.cpus = None
            with suppress(OSError):
                os.sched_setaffinity(0, self._all)
