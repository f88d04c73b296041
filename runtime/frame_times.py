"""Times of parts as a frame needs them: also of parts that have not run for a while.

`PartTimes` knows a part as of its last run. A plan that leaves an encoder out because the machine
was slow would never learn that the machine is fast again. So what runs in every frame tells the
machine's pace, against the times at the start, and a part that has rested is taken to have changed
with it. One that has rested for long is given the benefit of the doubt: what it took at the start,
at the pace of now.

The estimates themselves need four or five slow runs before they move. Until then, two slow frames
of the last three are enough to take all parts for as slow as those frames were.
"""

from __future__ import annotations

import statistics
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace

from .part_times import RECENT, PartSnapshot, PartTimes

#: Frames in which a part has run that tells the pace of others.
RESTED = RECENT
#: Frames after which a part that was slower than the pace of the others is given another try.
FORGIVEN = 64
#: Frames, and the factor from which the middle one of them counts as behind.
_LAST, _BEHIND = 3, 1.2
_LEAST_MS = 1e-6
#: Times of a part before they count as those of the start.
_USUAL_SAMPLES = 3


@dataclass
class _Run:
    """The last run of a part: when, at what size, and what all parts took by then."""

    frame: int
    size: float | None
    known: Mapping[str, PartSnapshot]


class FrameTimes:
    """Times of the parts of one runtime, frame by frame; any thread may call it."""

    def __init__(self, times: PartTimes | None = None) -> None:
        self.parts = times or PartTimes()
        self._lock = threading.Lock()
        self._usual: dict[str, PartSnapshot] = {}
        self._runs: dict[str, _Run] = {}
        self._known: Mapping[str, PartSnapshot] = {}
        self._frame = 0
        self._pace = 1.0
        self._took: deque[tuple[int, Mapping[str, tuple[float, float | None]]]] = deque(
            maxlen=_LAST
        )

    @property
    def pace(self) -> float:
        """How long the parts of the last frames take, over what they took at the start."""
        return self._pace

    def note(self, parts: Mapping[str, tuple[float, float | None]]) -> None:
        """Note what the parts of the frame of now took.

        Args:
            parts: by name, milliseconds and size; see `PartTimes.observe`.
        """
        for part, (ms, size) in parts.items():
            self.parts.observe(part, ms, size)
        with self._lock:
            for part, (_, size) in parts.items():
                self._runs[part] = _Run(self._frame, size, self._known)
            self._took.append((self._frame, dict(parts)))

    def measured(self) -> None:
        """Take what is known now for the times at the start."""
        with self._lock:
            self._usual = dict(self.parts.snapshot())
            self._runs.clear()
            self._took.clear()
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
            self._known = known
            self._pace = self._change(known, self._usual) or self._pace
            now = {part: self._as_of_now(part, found) for part, found in known.items()}
            if self._over(known) < _BEHIND:
                return now
            over_usual = self._over(self._usual)
            return {part: self._slowed(part, found, over_usual) for part, found in now.items()}

    def _over(self, known: Mapping[str, PartSnapshot]) -> float:
        """What the last frames took over what is known of their parts; the middle one of three."""
        factors = [1.0] * _LAST
        for frame, parts in self._took:
            if self._frame - frame > RESTED:
                continue
            both = [
                (ms, known[part].at(size)) for part, (ms, size) in parts.items() if part in known
            ]
            expected = sum(found.median_ms for _, found in both)
            if expected > 0:
                factors.append(sum(ms for ms, _ in both) / expected)
        return statistics.median(factors[-_LAST:])

    def _slowed(self, part: str, found: PartSnapshot, over_usual: float) -> PartSnapshot:
        """A part as slow as the last frames were, if it is not known to be so already."""
        usual, run = self._usual.get(part), self._runs.get(part)
        if usual is None:
            return found
        size = (1.0 if found.has_size else None) if run is None else run.size
        now_ms = max(found.at(size).median_ms, _LEAST_MS)
        factor = over_usual * usual.at(size).median_ms / now_ms
        if factor <= 1:
            return found
        # The slow runs are among the slowest tenth already.
        return replace(_times(found, factor), p90_factor=max(found.p90_factor / factor, 1.0))

    def _change(
        self,
        known: Mapping[str, PartSnapshot],
        before: Mapping[str, PartSnapshot],
        without: str | None = None,
    ) -> float | None:
        """What the parts of the last frames take, over what they took; None if nothing tells."""
        now = then = 0.0
        for part, run in self._runs.items():
            known_before = part in before and before[part].samples >= _USUAL_SAMPLES
            # What few times said of a part may have been the wrong line along its sizes.
            if self._frame - run.frame <= RESTED and known_before and part != without:
                now += known[part].at(run.size).median_ms
                then += before[part].at(run.size).median_ms
        return now / then if now > 0 and then > 0 else None

    def _as_of_now(self, part: str, found: PartSnapshot) -> PartSnapshot:
        run, usual = self._runs.get(part), self._usual.get(part)
        rested = 0 if run is None else self._frame - run.frame
        if run is None or rested <= 1:
            return found
        change = self._change(self._known, run.known, part) or 1.0
        if usual is not None:
            # What its last runs have told already is not told again.
            to_pace = self._pace * usual.at(run.size).median_ms
            to_pace /= max(found.at(run.size).median_ms, _LEAST_MS)
            change = (
                min(change, max(to_pace, 1.0)) if change > 1 else max(change, min(to_pace, 1.0))
            )
        if not 1 / _BEHIND < change < _BEHIND:
            found = _times(found, change)
        if usual is not None and rested > FORGIVEN:
            forgiven = _times(usual, self._pace)
            if forgiven.at(run.size).median_ms < found.at(run.size).median_ms:
                return forgiven
        return found


def _times(part: PartSnapshot, factor: float) -> PartSnapshot:
    return replace(part, base_ms=part.base_ms * factor, per_size_ms=part.per_size_ms * factor)
