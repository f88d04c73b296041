"""The clock of one frame: keeps times of parts, and knows what the frame still has time for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from .frame_times import FrameTimes
from .metrics import StageClock
from .part_times import PartSnapshot
from .plan_costs import PREPARE, REST

#: What parts that have run must take beside those to come to count as much as the usual pace.
_DOUBT = 0.25
_LEAST_MS = 1e-6

#: A part of a frame: its name, and its size if it has one.
Part = tuple[str, float | None]


class FrameClock(StageClock):
    """Times the stages of one frame.

    Where times of parts are kept it feeds them; where there is a deadline it foretells misses. The
    pace of the frame so far counts: what is behind by half is expected to take half as much again.
    """

    def __init__(
        self, now: Callable[[], float] = time.perf_counter, *, began: float | None = None
    ) -> None:
        """Start the clock.

        Args:
            now: seconds, of any origin.
            began: when the frame began, if that is earlier.
        """
        super().__init__(now=now)
        self.began = now() if began is None else began
        self.deadline_ms: float | None = None
        self._times: FrameTimes | None = None
        self._known: Mapping[str, PartSnapshot] = {}
        self._cuts: list[str] = []
        self._noted: dict[str, tuple[float, float | None]] = {}
        self._noted_ms = self._known_ms = self._expected_ms = 0.0

    @property
    def elapsed_ms(self) -> float:
        """Since the frame began."""
        return (self.now() - self.began) * 1e3

    @property
    def keeps_times(self) -> bool:
        """Whether anybody wants to know what parts take."""
        return self._times is not None

    @property
    def known(self) -> Mapping[str, PartSnapshot]:
        """Times of parts that this frame counts with."""
        return self._known

    def keep_times(self, times: FrameTimes) -> None:
        """Feed `times` from here on, and foretell by what they say now."""
        self._times, self._known = times, times.next_frame()

    def note(self, part: str, ms: float, size: float | None) -> None:
        """See `StageClock.note`; what a part does in several goes counts as one run of it."""
        if self._times is None or (part == PREPARE and not size):
            return
        before_ms, before = self._noted.get(part, (0.0, None))
        self._noted[part] = (before_ms + ms, None if size is None else size + (before or 0.0))
        self._noted_ms += ms
        if part in self._known:
            self._known_ms += ms
            self._expected_ms += self._known[part].at(size).median_ms

    def lacks_time_for(self, parts: Iterable[Part]) -> float | None:
        """By how many milliseconds the frame would miss its deadline if these parts came next.

        Counted with what nine of ten runs of each take, or with how far the frame is behind what is
        usual, whichever is more; parts that never ran count nothing.

        Returns:
            None where it would not miss it, or has none.
        """
        if self.deadline_ms is None:
            return None
        times = [self._known[part].at(size) for part, size in parts if part in self._known]
        usual_ms = sum(time.median_ms for time in times)
        # Parts that are short beside what is to come tell little of it.
        doubt_ms = _DOUBT * usual_ms
        behind = (self._known_ms + doubt_ms) / max(self._expected_ms + doubt_ms, _LEAST_MS)
        need_ms = max(sum(time.p90_ms for time in times), behind * usual_ms)
        late_ms = self.elapsed_ms + need_ms - self.deadline_ms
        return late_ms if late_ms > 0 else None

    def cut(self, reason: str) -> None:
        """Note that the frame is cut short."""
        if reason not in self._cuts:
            self._cuts.append(reason)

    @property
    def cut_reason(self) -> str | None:
        """Why the frame was cut short, None if it was not."""
        return "; ".join(self._cuts) or None

    def end(self) -> None:
        """Hand over what the parts took, and what the frame took beside them."""
        if self._times is None:
            return
        rest_ms = max(self.elapsed_ms - self._noted_ms, 0.0)
        self._times.note({**self._noted, REST: (rest_ms, None)})
        self._times = None
