"""What a frame still has time for, on a clock that a test moves."""

from __future__ import annotations

import pytest

from tailwire.runtime.frame_clock import FrameClock
from tailwire.runtime.frame_times import FrameTimes
from tailwire.runtime.plan_costs import REST

from ..timed_runtime import Ticks


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture
def times() -> FrameTimes:
    found = FrameTimes()
    found.parts.start("encode camera", [(1, 10.0), (2, 20.0), (4, 40.0)])
    found.parts.start("tail", [(1, 30.0)])
    found.measured()
    return found


def clock_of(ticks: Ticks, times: FrameTimes, deadline_ms: float | None) -> FrameClock:
    clock = FrameClock(ticks)
    clock.keep_times(times)
    clock.deadline_ms = deadline_ms
    return clock


def test_without_a_deadline_nothing_is_late(ticks: Ticks, times: FrameTimes) -> None:
    clock = clock_of(ticks, times, None)
    ticks.take(1e6)
    assert clock.lacks_time_for([("tail", 1.0)]) is None


def test_what_is_to_come_is_added_to_what_has_passed(ticks: Ticks, times: FrameTimes) -> None:
    clock = clock_of(ticks, times, 60)
    assert clock.lacks_time_for([("encode camera", 3.0), ("tail", 1.0)]) is None
    ticks.take(5)
    assert clock.lacks_time_for([("encode camera", 3.0), ("tail", 1.0)]) == pytest.approx(5)
    assert clock.lacks_time_for([("encode camera", 2.0), ("tail", 1.0)]) is None


def test_parts_that_never_ran_count_nothing(ticks: Ticks, times: FrameTimes) -> None:
    clock = clock_of(ticks, times, 60)
    assert clock.lacks_time_for([("tail", 1.0), ("load camera", None)]) is None


def test_time_counts_from_when_the_frame_was_asked_for(ticks: Ticks, times: FrameTimes) -> None:
    clock = FrameClock(ticks, began=ticks() - 0.04)
    clock.keep_times(times)
    clock.deadline_ms = 60
    assert clock.lacks_time_for([("tail", 1.0)]) == pytest.approx(10)


def test_a_frame_that_is_behind_expects_to_stay_behind(ticks: Ticks, times: FrameTimes) -> None:
    clock = clock_of(ticks, times, 120)
    with clock.stage("encode camera", size=2):
        ticks.take(60)
    # Three times as long as usual so far, so of the tail's 30 most of three times is expected.
    late_ms = clock.lacks_time_for([("tail", 1.0)])
    assert late_ms is not None
    assert 60 + 2.4 * 30 < late_ms + 120 < 60 + 3 * 30


def test_a_short_part_that_took_long_tells_little(ticks: Ticks, times: FrameTimes) -> None:
    times.parts.start("prepare", [(1, 0.5)])
    clock = clock_of(ticks, times, 50)
    with clock.stage("prepare", size=1):
        ticks.take(2.5)
    # Five times as long as usual, and nothing beside 30.
    assert clock.lacks_time_for([("tail", 1.0)]) is None


def test_a_frame_that_is_ahead_expects_what_is_usual(ticks: Ticks, times: FrameTimes) -> None:
    clock = clock_of(ticks, times, 35)
    with clock.stage("encode camera", size=2):
        ticks.take(4)
    assert clock.lacks_time_for([("tail", 1.0)]) is None
    ticks.take(2)
    assert clock.lacks_time_for([("tail", 1.0)]) == pytest.approx(1)


def test_goes_of_one_part_are_one_run_of_it(ticks: Ticks) -> None:
    times = FrameTimes()
    clock = clock_of(ticks, times, None)
    for _ in range(3):
        with clock.stage("encode camera", size=1):
            ticks.take(10)
    ticks.take(7)
    clock.end()
    assert times.parts.snapshot()["encode camera"].at(3).median_ms == pytest.approx(30)
    assert times.parts.snapshot()["encode camera"].samples == 1
    rest = times.parts.estimate(REST)
    assert rest is not None
    assert rest.median_ms == pytest.approx(7)


def test_what_fails_teaches_nothing(ticks: Ticks) -> None:
    times = FrameTimes()
    clock = clock_of(ticks, times, None)
    with pytest.raises(ZeroDivisionError), clock.stage("tail", size=1):
        ticks.take(10)
        _ = 1 / 0
    clock.end()
    assert "tail" not in times.parts.snapshot()
    assert clock.stages_ms["tail"] == pytest.approx(10)


def test_reasons_to_cut_are_told_once(ticks: Ticks) -> None:
    clock = FrameClock(ticks)
    assert clock.cut_reason is None
    for reason in ("first", "second", "first"):
        clock.cut(reason)
    assert clock.cut_reason == "first; second"
