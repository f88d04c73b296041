"""Energy that a millisecond of a frame takes, from the machine's meter where it has one."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from .energy import EnergyAbsent, EnergyMeter, open_energy_meter

#: Frames whose power counts.
_FRAMES = 32


class FrameEnergy:
    """Power of frames; nothing is opened before it is needed. For one thread at a time."""

    def __init__(
        self, open_meter: Callable[[], EnergyMeter | EnergyAbsent] = open_energy_meter
    ) -> None:
        self._open = open_meter
        self._meter: EnergyMeter | EnergyAbsent | None = None
        self._stack = ExitStack()
        self._powers: deque[float] = deque(maxlen=_FRAMES)

    def start(self) -> None:
        """Open the meter, if that was not tried yet."""
        if self._meter is None:
            self._meter = self._open()
            if isinstance(self._meter, EnergyMeter):
                self._stack.enter_context(self._meter.sampling())

    @property
    def absent(self) -> str:
        """Why nothing measures energy; empty where something does."""
        if self._meter is None:
            return "nothing has measured energy yet"
        return self._meter.reason if isinstance(self._meter, EnergyAbsent) else ""

    @property
    def mj_per_ms(self) -> float | None:
        """Median over the last frames, with all that the machine did meanwhile; None if unknown."""
        return statistics.median(self._powers) if self._powers else None

    @contextmanager
    def frame(self) -> Iterator[None]:
        """Measure what runs within; nothing where there is no open meter."""
        meter = self._meter
        if not isinstance(meter, EnergyMeter):
            yield
            return
        first = meter.read()
        try:
            yield
        finally:
            use = meter.between(first, meter.read())
            # Joules over seconds are watts, and so are millijoules over milliseconds.
            if use.joules is not None and use.seconds > 0:
                self._powers.append(use.joules / use.seconds)

    def close(self) -> None:
        """Stop reading."""
        self._stack.close()
        self._meter = None
