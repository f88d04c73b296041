"""Times of parts as a frame needs them: also of parts that have not run for a while.

`PartTimes` knows a part as of its last run. A plan that leaves an encoder out because the machine
was slow would never learn that the machine is fast again. So what runs in every frame tells the
machine's pace, against the times at the start, and a part that has rested is taken to have changed
with it. One that has rested for long is given the benefit of the doubt: what it took at the start,
at the pace of now.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace

from .part_times import RECENT, PartSnapshot, PartTimes

#: Frames without a run after which what a part takes is taken from the pace of the others.
RESTED = RECENT
#: Frames after which a part that was slower than the pace of the others is given another try.
FORGIVEN = 64
#: Times of a part before they count as those of the start.
_USUAL_SAMPLES = 3


@dataclass
class _Run:
    """The last run of a part: when, at what size, and how fast the machine was."""

    frame: int
    size: float | None
    pace: float


class FrameTimes:
    """Times of the parts of one runtime, frame by frame; any thread may call it."""

    def __init__(self, times: PartTimes | None = None) -> None:
        self.parts = times or PartTimes()
        self._lock = threading.Lock()
        self._usual: dict[str, PartSnapshot] = {}
        self._runs: dict[str, _Run] = {}
        self._frame = 0
        self._pace = 1.0

    @property
    def pace(self) -> float:
        """How long the parts of the last frames take, over what they took at the start."""
        return self._pace

    def note(self, part: str, ms: float, size: float | None) -> None:
        """Note that a part of the frame of now took `ms`; see `PartTimes.observe`."""
        self.parts.observe(part, ms, size)
        with self._lock:
            self._runs[part] = _Run(self._frame, size, self._pace)

    def measured(self) -> None:
        """Take what is known now for the times at the start."""
        with self._lock:
            self._usual = dict(self.parts.snapshot())
            self._runs.clear()
            self._pace = 1.0

    def usual(self) -> Mapping[str, PartSnapshot]:
        """The parts as of the start: measured then, or in their first runs."""
        with self._lock:
            return dict(self._usual)

    def next_frame(self) -> Mapping[str, PartSnapshot]:
        """Begin a frame.

        Returns:
            What each part takes now.
        """
        known = self.parts.snapshot()
        with self._lock:
            self._frame += 1
            for part, found in known.items():
                if part not in self._usual and found.samples >= _USUAL_SAMPLES:
                    self._usual[part] = found
            self._pace = self._pace_of(known)
            return {part: self._as_of_now(part, found) for part, found in known.items()}

    def _pace_of(self, known: Mapping[str, PartSnapshot]) -> float:
        now = usual = 0.0
        for part, run in self._runs.items():
            if self._frame - run.frame <= RESTED and part in self._usual:
                now += known[part].at(run.size).median_ms
                usual += self._usual[part].at(run.size).median_ms
        return now / usual if now > 0 and usual > 0 else self._pace

    def _as_of_now(self, part: str, found: PartSnapshot) -> PartSnapshot:
        run, usual = self._runs.get(part), self._usual.get(part)
        rested = 0 if run is None else self._frame - run.frame
        if run is not None and rested > RESTED:
            found = _times(found, self._pace / run.pace)
        if run is not None and usual is not None and rested > FORGIVEN:
            known = _times(usual, self._pace)
            if known.at(run.size).median_ms < found.at(run.size).median_ms:
                return known
        return found


def _times(part: PartSnapshot, factor: float) -> PartSnapshot:
    return replace(part, base_ms=part.base_ms * factor, per_size_ms=part.per_size_ms * factor)
