"""Tells on stderr what the user is waiting for, and how long the process has been running."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TextIO

_LOADED = time.perf_counter()
_QUIET_S = 5.0


def duration(seconds: float) -> str:
    """For the time that something took, or that is left."""
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    return f"{round(whole / 60)} min" if whole < 7200 else f"{whole / 3600:.1f} h"


class ProgressLine:
    """A progress callback: one line that changes on a terminal, a few lines elsewhere.

    Used in a `with` block, so that the terminal's line is gone when the work is done.
    """

    def __init__(self, quiet: bool = False, stream: TextIO | None = None) -> None:
        """Tell nothing yet.

        Args:
            quiet: never tell anything.
            stream: None takes stderr.
        """
        self._quiet = quiet
        self._stream = stream or sys.stderr
        self._in_place = self._stream.isatty()
        self._last_s = -_QUIET_S

    def __call__(self, message: str) -> None:
        """Tell one line."""
        if self._quiet:
            return
        if self._in_place:
            width = shutil.get_terminal_size().columns - 1
            self._stream.write(f"\r\x1b[K{message[:width]}")
        else:
            # A log must not fill with the hundred steps of a build.
            now = time.monotonic()
            if now - self._last_s < _QUIET_S:
                return
            self._last_s = now
            self._stream.write(f"{message}\n")
        self._stream.flush()

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.clear()

    def clear(self) -> None:
        """Take the line off the terminal, e.g. before something is printed."""
        if self._in_place and not self._quiet:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def process_age_s() -> float:
    """Seconds since this process was started, the interpreter's own start included.

    Where the system does not tell, seconds since this module was loaded.
    """
    loaded = time.perf_counter() - _LOADED
    try:
        # Field 22 of proc(5) stat, counted behind the command name, which may hold spaces.
        fields = Path("/proc/self/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, ValueError, IndexError, AttributeError):
        return loaded
    # Sandboxes report a start of zero, or one of another clock.
    return age if loaded <= age < loaded + 60 else loaded
