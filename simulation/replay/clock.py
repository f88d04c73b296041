"""Time for a player: the machine's steady clock, or one that a test turns by hand."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Seconds that only go forward, and a way to let some pass."""

    def now_s(self) -> float:
        """Seconds since some moment."""
        ...

    def wait_s(self, seconds: float) -> None:
        """Come back after this long; at once for zero or less."""
        ...


class SteadyClock:
    """The machine's clock that nobody sets back."""

    def now_s(self) -> float:
        return time.monotonic()

    def wait_s(self, seconds: float) -> None:
        if seconds > 0:
            time.sleep(seconds)
