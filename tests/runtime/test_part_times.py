"""Times of parts against numpy: hiccups do not move them, drifts do, lines carry them to sizes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import numpy as np
import pytest

from tailwire.runtime.errors import ConfigError
from tailwire.runtime.part_times import WINDOW, PartTimes, TimeEstimate, Trial, measure_parts

PART = "encoder:cam_front"
SEEDS = range(40)
#: Room for the rounding of one product.
ROUNDING = 1 + 1e-12


def steady(seed: int, count: int, ms: float = 20.0, spread: float = 0.08) -> list[float]:
    """Times around `ms` with a lognormal spread, as wall-clock times have."""
    noise = np.random.default_rng(seed).normal(0.0, spread, count)
    return list(ms * np.exp(noise))


def observed(times: Iterable[float], table: PartTimes | None = None) -> PartTimes:
    table = table or PartTimes()
    for ms in times:
        table.observe(PART, ms)
    return table


def known(table: PartTimes, size: float | None = None) -> TimeEstimate:
    estimate = table.estimate(PART, size)
    assert estimate is not None
    return estimate


@pytest.mark.parametrize("count", [11, 20, WINDOW, 200])
@pytest.mark.parametrize("spread", [0.02, 0.1])
def test_without_drift_median_and_p90_are_those_of_numpy_over_the_window(
    count: int, spread: float
) -> None:
    for seed in SEEDS:
        times = steady(seed, count, spread=spread)
        table = observed(times)
        estimate = known(table)
        assert estimate.samples == min(count, WINDOW)
        assert estimate.median_ms == pytest.approx(np.median(times[-WINDOW:]))
        assert estimate.p90_ms == pytest.approx(np.quantile(times[-WINDOW:], 0.9))
        assert table.snapshot()[PART].changes == 0


@pytest.mark.parametrize("before", [2, 3, 5, 8, 40])
@pytest.mark.parametrize("hiccup", [10.0, 1000.0])
def test_one_hiccup_moves_neither_median_nor_p90_out_of_the_other_times(
    before: int, hiccup: float
) -> None:
    for seed in SEEDS:
        times = steady(seed, before)
        table = observed([*times, 20.0 * hiccup])
        assert known(table).p90_ms <= max(times) * ROUNDING
        assert min(times) <= known(table).median_ms <= max(times)
        later = steady(seed + 1000, 3)
        observed(later, table)
        assert known(table).p90_ms <= max(times + later) * ROUNDING


def test_hiccups_of_one_frame_in_twenty_stay_out_of_the_estimates() -> None:
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        times = np.array(steady(seed, 200))
        times[np.arange(7, 200, 20) + rng.integers(0, 5, 10)] *= 15.0
        table = PartTimes()
        for index, ms in enumerate(times):
            table.observe(PART, float(ms))
            if index >= WINDOW:
                assert known(table).median_ms == pytest.approx(20.0, rel=0.12)
                assert known(table).p90_ms < 20.0 * 1.4


@pytest.mark.parametrize("factor", [2.0, 0.5])
@pytest.mark.parametrize("before", [3, 5, 12, 200])
def test_a_drift_by_two_is_followed_within_five_frames(factor: float, before: int) -> None:
    for seed in SEEDS:
        table = observed(steady(seed, before))
        after = steady(seed + 1000, 5, ms=20.0 * factor)
        observed(after, table)
        estimate = known(table)
        assert min(after) <= estimate.median_ms <= max(after)
        assert estimate.median_ms == pytest.approx(20.0 * factor, rel=0.2)
        assert estimate.p90_ms <= max(after) * ROUNDING
        assert table.snapshot()[PART].changes >= 1


@pytest.mark.parametrize("factor", [2.0, 0.5])
@pytest.mark.parametrize("hiccup_at", range(5))
def test_a_drift_with_a_hiccup_in_it_is_followed_too(factor: float, hiccup_at: int) -> None:
    for seed in SEEDS:
        table = observed(steady(seed, 60))
        after = steady(seed + 1000, 5, ms=20.0 * factor)
        after[hiccup_at] *= 20.0
        observed(after, table)
        assert known(table).median_ms == pytest.approx(20.0 * factor, rel=0.2)


def test_a_part_that_spreads_by_a_fifth_is_still_followed_and_seldom_followed_in_vain() -> None:
    """What `docs/scheduler.md` says of such parts."""
    followed = 0
    for seed in range(150):
        table = observed([*steady(seed, 40, spread=0.2), *steady(seed + 1000, 5, 40.0, 0.2)])
        followed += known(table).median_ms > 32.0
    assert followed >= 0.95 * 150
    quiet = observed(steady(7, 3000, spread=0.2))
    assert quiet.snapshot()[PART].changes <= 0.005 * 3000


def test_a_core_taken_on_and_off_is_followed_each_time() -> None:
    table = PartTimes()
    for turn in range(12):
        ms = 20.0 if turn % 2 == 0 else 41.0
        observed(steady(turn, 6, ms=ms), table)
        assert known(table).median_ms == pytest.approx(ms, rel=0.15)


def test_a_slow_drift_is_followed_at_the_pace_of_the_window() -> None:
    table = PartTimes()
    noise = steady(3, 600, ms=1.0, spread=0.05)
    for index, factor in enumerate(noise):
        true_ms = 20.0 * 2.0 ** (index / 300)
        table.observe(PART, true_ms * factor)
        assert known(table).median_ms == pytest.approx(true_ms, rel=0.25)


def test_a_change_within_the_band_is_there_once_the_window_is_full_of_it() -> None:
    table = observed(steady(5, 100, spread=0.03))
    later = steady(6, WINDOW, ms=22.0, spread=0.03)
    observed(later, table)
    assert known(table).median_ms == pytest.approx(np.median(later))


def line_of(size: float) -> float:
    return 3.0 + 0.25 * size


def sized_start(
    seed: int, sizes: Iterable[int] = (1, 4, 16, 64), hiccups: bool = True
) -> PartTimes:
    times: list[tuple[float | None, float]] = []
    rng = np.random.default_rng(seed)
    for size in (1, 4, 16, 64):
        for repeat in range(5):
            slow = 12.0 if hiccups and repeat == size % 5 else 1.0
            times.append((size, line_of(size) * slow * float(np.exp(rng.normal(0, 0.03)))))
    table = PartTimes()
    table.start(PART, times)
    return table


def test_a_line_through_sizes_is_that_of_least_squares_without_the_hiccups() -> None:
    for seed in SEEDS:
        table = sized_start(seed)
        slope, base = np.polyfit([1, 4, 16, 64], [line_of(size) for size in (1, 4, 16, 64)], 1)
        for size in (2, 10, 40, 100):
            assert known(table, size).median_ms == pytest.approx(base + slope * size, rel=0.12)
            assert known(table, size).p90_ms >= known(table, size).median_ms


@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_a_drift_seen_at_one_size_holds_at_all(factor: float) -> None:
    for seed in SEEDS:
        table = sized_start(seed, hiccups=False)
        for ms in steady(seed, 40, ms=line_of(16), spread=0.03):
            table.observe(PART, ms, 16)
        for ms in steady(seed + 1, 5, ms=factor * line_of(16), spread=0.03):
            table.observe(PART, ms, 16)
        for size in (1, 16, 64):
            expected = factor * line_of(size)
            assert known(table, size).median_ms == pytest.approx(expected, rel=0.15)


def test_times_of_many_sizes_in_turn_are_no_drift() -> None:
    table = sized_start(1)
    rng = np.random.default_rng(2)
    for _ in range(300):
        size = int(rng.choice([1, 2, 8, 30, 64, 90]))
        table.observe(PART, line_of(size) * float(np.exp(rng.normal(0, 0.05))), size)
    assert table.snapshot()[PART].changes == 0
    for size in (1, 30, 90):
        assert known(table, size).median_ms == pytest.approx(line_of(size), rel=0.1)


def test_a_part_with_sizes_needs_no_start() -> None:
    table = PartTimes()
    for size in (5, 5, 5, 40, 40, 40, 20, 20, 20):
        table.observe(PART, line_of(size), size)
    assert known(table, 100).median_ms == pytest.approx(line_of(100))
    assert table.snapshot()[PART].changes == 0


@pytest.mark.parametrize("slope", [-0.5, 0.0])
def test_times_that_fall_with_size_are_taken_as_level(slope: float) -> None:
    table = PartTimes()
    table.start(PART, [(size, 100.0 + slope * size) for size in (10.0, 20.0, 30.0)])
    assert known(table, 1000).median_ms == pytest.approx(100.0 + slope * 20.0)


def test_times_that_grow_faster_than_size_are_not_negative_at_small_ones() -> None:
    table = PartTimes()
    table.start(PART, [(size, size**2) for size in (10.0, 20.0, 30.0)])
    assert known(table, 1).median_ms > 0
    assert known(table, 0).median_ms == 0


def test_a_snapshot_says_the_same_as_estimates_and_stays() -> None:
    table = sized_start(4)
    before = table.snapshot()[PART]
    at_ten = before.at(10)
    assert at_ten == known(table, 10)
    for _ in range(8):
        table.observe(PART, 500.0, 10)
    assert before.at(10) == at_ten
    assert known(table, 10).median_ms == pytest.approx(500.0, rel=0.05)


def test_the_same_times_give_the_same_estimates() -> None:
    times = [*steady(1, 50), *steady(2, 9, ms=70.0), *steady(3, 50)]
    assert observed(times).snapshot() == observed(times).snapshot()


def test_estimates_do_not_depend_on_what_lies_before_the_window() -> None:
    """Memory is fixed: a million times ago is forgotten."""
    recent = steady(9, WINDOW)
    long_ago = observed([*steady(1, 3000), *recent])
    assert known(long_ago) == known(observed(recent))


def test_threads_lose_no_part_and_no_time() -> None:
    table = PartTimes()

    def work(name: str) -> None:
        for _ in range(300):
            table.observe(name, 5.0)
            table.observe("shared", 7.0)
            table.snapshot()

    threads = [threading.Thread(target=work, args=(f"part{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    snapshot = table.snapshot()
    assert set(snapshot) == {"part0", "part1", "part2", "part3", "shared"}
    assert all(part.samples == WINDOW and part.changes == 0 for part in snapshot.values())


class SteppedClock:
    """A clock that only runs while parts do; the first run of a part is slow."""

    def __init__(self) -> None:
        self.now = 0.0
        self.runs: list[str] = []

    def part(self, name: str, ms: float, first_ms: float) -> Callable[[], object]:
        def run() -> None:
            self.now += (first_ms if name not in self.runs else ms) / 1e3
            self.runs.append(name)

        return run

    def __call__(self) -> float:
        return self.now


def test_parts_are_measured_behind_a_first_run_except_where_that_is_the_cost() -> None:
    clock, table = SteppedClock(), PartTimes()
    trials = [
        Trial("tail:10", clock.part("tail of 8", 80.0, 900.0), size=8),
        Trial("tail:10", clock.part("tail of 1", 10.0, 900.0), size=1),
        Trial("load", clock.part("load", 5.0, 300.0), warm_up=False),
    ]
    measure_parts(table, trials, repeats=3, limit_ms=200.0, clock=clock)
    tail = table.estimate("tail:10", 4)
    assert tail is not None
    assert (tail.median_ms, tail.p90_ms, tail.samples) == pytest.approx((40.0, 40.0, 6))
    load = table.estimate("load")
    assert load is not None
    assert (load.median_ms, load.samples) == (pytest.approx(300.0), 1)
    assert [clock.runs.count(name) for name in ("tail of 8", "tail of 1", "load")] == [4, 4, 1]


def test_measuring_leaves_other_parts_alone() -> None:
    table = observed([3.0, 3.0])
    clock = SteppedClock()
    measure_parts(table, [Trial("head", clock.part("head", 4.0, 4.0))], clock=clock)
    assert known(table).median_ms == 3.0


def test_of_many_times_to_start_with_all_sizes_stay() -> None:
    table = PartTimes()
    table.start(PART, [(size, line_of(size)) for size in (1, 8, 64) for _ in range(100)])
    assert known(table, 32).median_ms == pytest.approx(line_of(32))
    assert known(table, 32).samples == WINDOW


def test_a_part_that_never_ran_has_no_time() -> None:
    assert PartTimes().estimate(PART) is None
    assert PartTimes().snapshot() == {}


@pytest.mark.parametrize("ms", [float("nan"), float("inf"), -1.0])
def test_a_time_that_is_none_is_refused_and_changes_nothing(ms: float) -> None:
    table = observed([4.0])
    with pytest.raises(ConfigError, match=PART):
        table.observe(PART, ms)
    with pytest.raises(ConfigError, match=PART):
        table.start(PART, [(None, ms)])
    assert known(table) == TimeEstimate(4.0, 4.0, 1)


def test_sizes_are_given_always_or_never() -> None:
    table = sized_start(1)
    with pytest.raises(ConfigError, match="depend on a size"):
        table.observe(PART, 3.0)
    with pytest.raises(ConfigError, match="depend on a size"):
        table.estimate(PART)
    with pytest.raises(ConfigError, match="size"):
        table.observe(PART, 3.0, float("nan"))
    table.observe("head", 3.0)
    with pytest.raises(ConfigError, match="no size"):
        table.estimate("head", 4)
    with pytest.raises(ConfigError, match="depend on a size"):
        table.start(PART, [(1, 2.0), (None, 2.0)])
    with pytest.raises(ConfigError, match="no times"):
        table.start(PART, [])
    with pytest.raises(ConfigError, match="repeats"):
        measure_parts(table, [], repeats=0)
