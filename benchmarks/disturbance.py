"""A second process that takes a core on and off, by a schedule that a seed decides."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from types import TracebackType

#: Shortest and longest time on, and off, seconds.
_SPAN_S = (0.5, 2.0)

# It ends by itself when whoever started it is gone, so that none is left behind.
_PROGRAM = """
import os, random, sys, time
seed, low, high, core = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
if core >= 0 and hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {core})
spans, parent = random.Random(seed), os.getppid()
while os.getppid() == parent:
    time.sleep(spans.uniform(low, high))
    begun = time.monotonic()
    end = begun + spans.uniform(low, high)
    print(f"on {begun}", flush=True)
    while time.monotonic() < end and os.getppid() == parent:
        for _ in range(10000):
            pass
    print(f"off {time.monotonic()}", flush=True)
"""


class Disturbance:
    """Use it in a `with` block; the process lives as long as that.

    Attributes:
        core: that is taken, None where a process cannot be bound to one.
    """

    def __init__(self, seed: int, span_s: tuple[float, float] = _SPAN_S) -> None:
        """Nothing runs yet.

        Args:
            seed: of the schedule.
            span_s: shortest and longest time on, and off, seconds.
        """
        self._seed, self._span_s = seed, span_s
        self.core = max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
        self._process: subprocess.Popen[str] | None = None
        self._lines: list[tuple[str, float]] = []
        self._reader: threading.Thread | None = None

    def __enter__(self) -> Disturbance:
        core = -1 if self.core is None else self.core
        words = [str(self._seed), *map(str, self._span_s), str(core)]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *words],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._reader is not None:
            self._reader.join()

    def _read(self) -> None:
        if self._process is None or self._process.stdout is None:
            return
        with self._process.stdout as lines:
            for line in lines:
                # The last line may be cut off where the process was ended.
                with contextlib.suppress(ValueError):
                    state, at = line.split()
                    self._lines.append((state, float(at)))

    @property
    def spans(self) -> list[tuple[float, float]]:
        """When it was on, by `time.monotonic()`; the last span may have no end yet."""
        found: list[tuple[float, float]] = []
        for state, at in list(self._lines):
            if state == "on":
                found.append((at, float("inf")))
            elif found:
                found[-1] = (found[-1][0], at)
        return found


def overlaps(spans: Sequence[tuple[float, float]], begun: float, done: float) -> bool:
    """Whether one of the spans has a moment in common with an interval."""
    return any(start < done and end > begun for start, end in spans)
