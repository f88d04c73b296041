"""How long each part of a frame takes: measured at start-up, refreshed while running.

A part is whatever a plan pays for as one: an encoder, the connection at n rows, a tail of N blocks
for q questions, a head, loading an encoder. `PartTimes` holds a median and a p90 for each, and a
line along a size where a part has one. It decides nothing; a scheduler reads a snapshot.

**The estimator.** Each part keeps its last `WINDOW` times. Median and p90 are order statistics of
that window, so one hiccup changes a rank and not a value; p90 never rests on the largest time
alone, which matters while there are few. A window that long would follow a drift only after half of
it has been replaced, so the last `RECENT` times are gated against the older ones: when
`RECENT_OUTSIDE` of them lie on the same side of the band where the older ones lie, that is no
hiccup, and the window starts anew with them. A change by a factor of two is therefore in the median
after four or five frames, unless a part spreads by more than about a fifth; up to three hiccups in
a full window, and one among few times, are not. A change within the band (a quarter, or the spread
of the part if that is more) is followed at the pace of the window. Means, exponential averages and
P2 markers (Jain and Chlamtac, 1985) need no window, but a mean moves with every hiccup and the
other two follow a drift slowly or not at all.

**Sizes.** A time at size s is taken as line(s) x ratio. The line is fitted by the medians of slopes
between pairs (Theil, 1950; Sen, 1968), which hiccups do not bend, from the times at start-up and
those of the window; the ratios go through the estimator above. So a machine that becomes twice as
slow is seen at the sizes in use and holds at all others.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .errors import ConfigError

#: Times that are kept of a part.
WINDOW = 32
#: Last times that are compared with those before them.
RECENT = 5
#: How many of the last times on one side of the band are a change.
RECENT_OUTSIDE = 4
#: The band reaches at least this far around the median of the older times, as a factor.
BAND = 1.25
#: As `BAND`, where fewer than `RECENT` older times say how much a part spreads.
BAND_OF_FEW = 1.5
#: A line of times is fitted anew after this many of them.
_REFIT_AFTER = 8
#: Keeps ratios finite where a time was measured as 0.
_LEAST_MS = 1e-6


@dataclass(frozen=True)
class TimeEstimate:
    """How long a part takes.

    Attributes:
        median_ms: half of the runs take at most this long.
        p90_ms: nine of ten runs do.
        samples: times that both rest on, at most `WINDOW`; few after a change.
    """

    median_ms: float
    p90_ms: float
    samples: int


@dataclass(frozen=True)
class PartSnapshot:
    """What is known of one part at a moment.

    Attributes:
        base_ms: median at size 0, or of a part without a size.
        per_size_ms: what the median grows by with each unit of size; 0 without a size.
        p90_factor: p90 over median.
        samples: as in `TimeEstimate`.
        changes: how often times have left their band for good.
        has_size: whether times depend on a size.
    """

    base_ms: float
    per_size_ms: float
    p90_factor: float
    samples: int
    changes: int
    has_size: bool

    def at(self, size: float | None = None) -> TimeEstimate:
        """The time at `size` (rows, tokens, questions); beyond measured sizes the line goes on.

        Raises:
            ConfigError: a size is missing, or given for a part without one, or not finite.
        """
        if (size is not None) != self.has_size:
            raise _wrong_size("a part", self.has_size)
        along = 0.0 if size is None else _checked(size, "size")
        median_ms = self.base_ms + self.per_size_ms * along
        return TimeEstimate(median_ms, median_ms * self.p90_factor, self.samples)


class PartTimes:
    """Times of all parts of one runtime; any thread may call it.

    Memory per part is fixed. The same times in the same order give the same estimates.
    """

    def __init__(self) -> None:
        self._parts: dict[str, _Part] = {}
        self._lock = threading.Lock()

    def observe(self, part: str, ms: float, size: float | None = None) -> None:
        """Note that one run of `part` took `ms`.

        Args:
            part: name of the part; an unknown one is new.
            ms: wall-clock milliseconds, finite, at least 0.
            size: rows, tokens or questions of that run; always or never for one part.

        Raises:
            ConfigError: a value is negative or not finite, or the part has a size and here it is
                missing, or the other way round.
        """
        ms = _checked(ms, part)
        along = None if size is None else _checked(size, f"{part}.size")
        with self._lock:
            self._known(part, along is not None).add(along or 0.0, ms)

    def start(self, part: str, times: Sequence[tuple[float | None, float]]) -> None:
        """Forget `part` and begin with `times`, as pairs (size or None, ms) in the order measured.

        Here a change of time between sizes is no drift; give sizes that are in use, from small to
        large. Of more than `WINDOW` pairs, evenly spaced ones are taken.

        Raises:
            ConfigError: as `observe`, or there are no times.
        """
        if not times:
            raise ConfigError("no times to start with", field=part, remedy="run the part once")
        with_size = times[0][0] is not None
        pairs: list[tuple[float, float]] = []
        for size, ms in times:
            if (size is not None) != with_size:
                raise _wrong_size(part, with_size)
            pairs.append(
                (0.0 if size is None else _checked(size, f"{part}.size"), _checked(ms, part))
            )
        if len(pairs) > WINDOW:
            pairs = [pairs[int(i)] for i in np.linspace(0, len(pairs) - 1, WINDOW)]
        with self._lock:
            self._parts[part] = _Part(with_size, pairs)

    def estimate(self, part: str, size: float | None = None) -> TimeEstimate | None:
        """How long `part` takes now, or None if it has never run.

        Raises:
            ConfigError: as `PartSnapshot.at`.
        """
        with self._lock:
            known = self._parts.get(part)
            return None if known is None else known.snapshot().at(size)

    def snapshot(self) -> Mapping[str, PartSnapshot]:
        """All parts at one moment, by name; further times do not change it."""
        with self._lock:
            return {name: part.snapshot() for name, part in self._parts.items()}

    def _known(self, name: str, with_size: bool) -> _Part:
        part = self._parts.get(name)
        if part is None:
            part = self._parts[name] = _Part(with_size, [])
        elif part.has_size != with_size:
            raise _wrong_size(name, part.has_size)
        return part


@dataclass(frozen=True)
class Trial:
    """One part to be measured at start-up.

    Attributes:
        part: its name.
        run: runs it once, on inputs like those of a frame.
        size: of that run, for a part with a size; give one trial for each of several sizes.
        warm_up: whether a first run is left out; False where the first is what is paid for, as in
            loading an encoder.
    """

    part: str
    run: Callable[[], object]
    size: float | None = None
    warm_up: bool = True


def measure_parts(
    times: PartTimes,
    trials: Iterable[Trial],
    *,
    repeats: int = 5,
    limit_ms: float = 2000.0,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Run each trial and start `times` with what it took.

    Args:
        times: gets the times; parts that are not tried stay as they are.
        trials: in any order; several of one part are taken together.
        repeats: timed runs of each trial.
        limit_ms: a trial is not repeated once its timed runs have taken this long together.
        clock: seconds.

    Raises:
        ConfigError: `repeats` is below 1, or trials of one part have a size and have none.
    """
    if repeats < 1:
        raise ConfigError(
            f"{repeats} repeats measure nothing", field="repeats", remedy="give at least 1"
        )
    measured: dict[str, list[tuple[float | None, float]]] = {}
    for trial in trials:
        if trial.warm_up:
            trial.run()
        spent_ms = 0.0
        for _ in range(repeats):
            begin = clock()
            trial.run()
            took_ms = (clock() - begin) * 1e3
            measured.setdefault(trial.part, []).append((trial.size, took_ms))
            spent_ms += took_ms
            if spent_ms >= limit_ms:
                break
    for part, pairs in measured.items():
        times.start(part, sorted(pairs, key=lambda pair: pair[0] or 0.0))


class _Part:
    """Times of one part: a window of pairs (size, ms), and those that the line leans on."""

    def __init__(self, has_size: bool, pairs: list[tuple[float, float]]) -> None:
        self.has_size = has_size
        self._window: deque[tuple[float, float]] = deque(pairs, maxlen=WINDOW)
        self._anchors = list(pairs) if has_size else []
        self._changes = 0
        self._base, self._slope = 1.0, 0.0
        self._since_fit = 0
        self._snapshot: PartSnapshot | None = None
        self._fit()

    def add(self, size: float, ms: float) -> None:
        is_new_size = self.has_size and not self._reaches(size)
        self._window.append((size, ms))
        self._snapshot = None
        self._since_fit += 1
        restarted = not is_new_size and self._restart_if_changed()
        if is_new_size or (not restarted and self._since_fit >= _REFIT_AFTER):
            self._fit()

    def snapshot(self) -> PartSnapshot:
        if self._snapshot is None:
            ratios = sorted(self._ratios(self._window))
            median = _quantile(ratios, 0.5)
            p90 = _quantile(ratios, 0.9)
            self._snapshot = PartSnapshot(
                base_ms=median * self._base,
                per_size_ms=median * self._slope,
                p90_factor=p90 / median if median > 0 else 1.0,
                samples=len(ratios),
                changes=self._changes,
                has_size=self.has_size,
            )
        return self._snapshot

    def _ratios(self, pairs: Iterable[tuple[float, float]]) -> list[float]:
        if not self.has_size:
            return [ms for _, ms in pairs]
        base, slope = self._base, self._slope
        return [ms / max(base + slope * size, _LEAST_MS) for size, ms in pairs]

    def _reaches(self, size: float) -> bool:
        sizes = [at for at, _ in (*self._anchors, *self._window)]
        return bool(sizes) and min(sizes) <= size <= max(sizes)

    def _restart_if_changed(self) -> bool:
        """Start the window anew if the last times have left the band of the older ones."""
        ratios = self._ratios(self._window)
        older, recent = sorted(ratios[:-RECENT]), ratios[-RECENT:]
        if not older:
            return False
        median = _quantile(older, 0.5)
        reach = BAND if len(older) >= RECENT else BAND_OF_FEW
        high = max(_quantile(older, 0.9), median * reach)
        low = min(_p10(older), median / reach)
        for outside in ([r > high for r in recent], [r < low for r in recent]):
            if sum(outside) >= RECENT_OUTSIDE:
                self._restart(keep=RECENT - outside.index(True))
                return True
        return False

    def _restart(self, keep: int) -> None:
        pairs = list(self._window)
        older, kept = pairs[:-keep], pairs[-keep:]
        if self.has_size:
            level = _quantile(sorted(self._ratios(kept)), 0.5)
            level /= max(_quantile(sorted(self._ratios(older)), 0.5), _LEAST_MS)
            leaning = self._anchors or older
            self._anchors = [(size, ms * level) for size, ms in leaning]
        self._window = deque(kept, maxlen=WINDOW)
        self._changes += 1
        self._fit()

    def _fit(self) -> None:
        self._since_fit = 0
        if self.has_size:
            self._base, self._slope = _fitted_line([*self._anchors, *self._window])


def _fitted_line(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Base and slope of times along sizes, neither below 0; times never fall with size."""
    if not pairs:
        return 1.0, 0.0
    sizes, times = np.array(pairs, dtype=np.float64).T
    first, second = np.triu_indices(len(pairs), k=1)
    run = sizes[second] - sizes[first]
    apart = run != 0
    if not apart.any():
        return float(np.median(times)), 0.0
    slope = float(np.median((times[second] - times[first])[apart] / run[apart]))
    base = float(np.median(times - slope * sizes))
    if slope <= 0:
        return float(np.median(times)), 0.0
    if base < 0:
        positive = sizes > 0
        return 0.0, float(np.median(times[positive] / sizes[positive]))
    return base, slope


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Quantile of sorted values, linear between ranks as in numpy.

    Up to ten values numpy's p90, and of two its median, would rest on the largest alone; here ranks
    end at the second largest.
    """
    rank = min(share * (len(ordered) - 1), max(len(ordered) - 2, 0))
    below = int(rank)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (rank - below)


def _p10(ordered: Sequence[float]) -> float:
    return -_quantile([-value for value in reversed(ordered)], 0.9)


def _checked(value: float, field: str) -> float:
    if not (math.isfinite(value) and value >= 0):
        raise ConfigError(
            f"{value} is no measured value", field=field, remedy="give a finite one, at least 0"
        )
    return float(value)


def _wrong_size(part: str, has_size: bool) -> ConfigError:
    if has_size:
        return ConfigError("times of this part depend on a size", field=part, remedy="give it")
    return ConfigError("this part has no size", field=part, remedy="leave the size out")
