"""The player: what the runtime has seen when it is asked, and what is skipped when time runs."""

from __future__ import annotations

from typing import Any

import pytest

from tailwire.runtime.errors import ConfigError, DataError
from tailwire.runtime.frames import SensorFrame
from tailwire.simulation.replay.asking import QuestionPlan
from tailwire.simulation.replay.drops import DropWindow, parse_drop
from tailwire.simulation.replay.player import Pace, PlayedStep, Player

from .fake_drive import (
    SENSORS,
    START_NS,
    FakeDrive,
    FakeRuntime,
    HandClock,
    frame,
    item,
    plan_for,
    planned,
    standing,
)


def played(
    drive: FakeDrive,
    runtime: FakeRuntime,
    plan: QuestionPlan | None = None,
    *,
    rate: float | None = None,
    **options: Any,
) -> tuple[list[PlayedStep], Player]:
    pace = Pace(rate, clock=runtime.clock)
    player = Player(drive, runtime, plan or plan_for(drive), SENSORS, pace=pace, **options)
    return list(player.play()), player


def times(steps: list[PlayedStep]) -> list[float]:
    return [step.time_s for step in steps]


def test_each_keyframe_is_asked_about_what_was_seen_up_to_it() -> None:
    drive, runtime = FakeDrive(), FakeRuntime()
    steps, player = played(drive, runtime)
    assert [step.moment.sample_token for step in steps] == [f"sample-{i}" for i in range(4)]
    assert runtime.stepped == [
        {"cam_front": 0.0, "lidar_top": 0.0},
        {"cam_front": 0.5, "lidar_top": 0.5},
        {"cam_front": 1.0, "lidar_top": 1.0},
        {"cam_front": 1.5, "lidar_top": 1.5},
    ]
    stamps = [stamp for _, stamp in runtime.pushed]
    assert stamps == sorted(stamps)
    assert player.skipped == 0
    # 16 of the camera and 7 of the LiDAR lie at or before the last keyframe.
    assert {name: count.pushed for name, count in player.counts.items()} == {
        "cam_front": 16,
        "lidar_top": 7,
    }


def test_questions_of_a_keyframe_are_asked_there_only_and_nothing_stays_behind() -> None:
    drive, runtime = FakeDrive(), FakeRuntime()
    steps, _ = played(drive, runtime, plan_for(drive, 2))
    for step in steps:
        expected = [f"{step.moment.sample_token} question {n}" for n in range(2)]
        assert [answer.question for answer in step.answers] == expected
    assert not runtime.watched


def test_a_question_that_stays_keeps_its_head_and_answers_keep_their_order() -> None:
    drive, runtime = FakeDrive(keyframes_s=(0.0, 0.5)), FakeRuntime()
    runtime.reply = lambda text: text[0]
    shared = planned(item("b shared"))
    plan = QuestionPlan(
        standing=standing("a standing").standing,
        by_sample={
            "sample-0": [planned(item("c first")), shared, shared],
            "sample-1": [shared, planned(item("d second"))],
        },
    )
    steps, _ = played(drive, runtime, plan)
    assert [[answer.text for answer in step.answers] for step in steps] == [
        ["a", "c", "b", "b"],
        ["a", "b", "d"],
    ]
    assert runtime.heads == ["a standing", "c first", "b shared", "d second"]


def test_keyframes_without_questions_are_passed_by() -> None:
    drive, runtime = FakeDrive(), FakeRuntime()
    plan = QuestionPlan(by_sample={"sample-2": [planned(item("x"))]})
    steps, player = played(drive, runtime, plan)
    assert times(steps) == [1.0]
    assert player.num_moments == 1


def test_a_drive_without_keyframes_is_asked_at_a_steady_rate() -> None:
    drive, runtime = FakeDrive(seconds=2.0, keyframes_s=()), FakeRuntime()
    steps, player = played(drive, runtime, standing("any?"))
    assert times(steps) == [0.5, 1.0, 1.5, 2.0]
    assert {step.moment.sample_token for step in steps} == {None}
    assert player.num_moments is None


@pytest.mark.parametrize("rate", [0.5, 1.0, 4.0])
def test_in_time_a_quick_runtime_skips_nothing(rate: float) -> None:
    drive, clock = FakeDrive(), HandClock()
    runtime = FakeRuntime(clock, step_s=0.05 / rate, head_s=0.01 / rate)
    begun = clock.now_s()
    steps, player = played(drive, runtime, rate=rate)
    assert times(steps) == [0.0, 0.5, 1.0, 1.5]
    assert player.skipped == 0
    assert [step.lag_ms for step in steps] == pytest.approx([0] * 4, abs=0.01)
    assert [step.step_ms for step in steps] == pytest.approx([50 / rate] * 4)
    # The drive up to its last keyframe, the answer to it, and the very first head.
    assert clock.now_s() - begun == pytest.approx((1.5 + 0.05 + 0.01) / rate)
    assert runtime.stepped[1] == {"cam_front": 0.5, "lidar_top": 0.5}


def test_in_time_a_slow_runtime_skips_keyframes_and_sees_the_newest_frames() -> None:
    drive, clock = FakeDrive(seconds=4.0, keyframes_s=[i / 2 for i in range(8)]), HandClock()
    steps, player = played(drive, FakeRuntime(clock, step_s=1.2), rate=1.0)
    # Free at 1.2, 2.4, 3.6: each time the newest keyframe that is due is taken.
    assert times(steps) == [0.0, 1.0, 2.0, 3.5]
    assert [step.lag_ms for step in steps] == pytest.approx([0, 200, 400, 100], abs=0.1)
    assert player.skipped == 4
    runtime = FakeRuntime(HandClock(), step_s=1.2)
    played(drive, runtime, rate=1.0)
    assert [seen["cam_front"] for seen in runtime.stepped] == [0.0, 1.2, 2.4, 3.6]


def test_in_time_frames_that_are_slow_to_hand_over_are_all_seen() -> None:
    drive, clock = FakeDrive(keyframes_s=(1.0,)), HandClock()
    runtime = FakeRuntime(clock)
    played(drive, runtime, rate=1.0, on_frame=lambda _: clock.wait_s(0.03))
    (seen,) = runtime.stepped
    assert min(seen.values()) >= 1.0


def test_in_time_heads_that_take_long_are_started_early_enough() -> None:
    drive, clock = FakeDrive(seconds=5.0, keyframes_s=[i / 2 for i in range(10)]), HandClock()
    # Ten new heads of 0.08 s a keyframe: longer than the half second between two of them.
    runtime = FakeRuntime(clock, step_s=0.01, head_s=0.08)
    steps, player = played(drive, runtime, plan_for(drive, 10), rate=1.0)
    assert len(steps) + player.skipped == 10
    assert len(steps) >= 5
    assert all(step.lag_ms < 500 for step in steps)


def test_in_time_a_drive_without_keyframes_ends_with_its_frames() -> None:
    drive, clock = FakeDrive(seconds=2.0, keyframes_s=()), HandClock()
    steps, player = played(drive, FakeRuntime(clock, step_s=0.7), standing("any?"), rate=1.0)
    assert times(steps)[0] == 0.5
    assert times(steps)[-1] <= 2.0
    assert len(steps) + player.skipped == 4


@pytest.mark.parametrize("rate", [None, 1.0])
def test_a_drive_of_one_moment_is_asked_once(rate: float | None) -> None:
    drive, runtime = FakeDrive(seconds=0.0, keyframes_s=()), FakeRuntime()
    steps, player = played(drive, runtime, standing("any?"), rate=rate)
    assert (len(steps), player.skipped) == (1, 0)
    assert runtime.stepped == [{"cam_front": 0.0, "lidar_top": 0.0}]


def test_frames_in_a_window_are_withheld_and_the_answers_say_so() -> None:
    drive, runtime = FakeDrive(), FakeRuntime()
    drops = [parse_drop("cam_front@0.45s..1.2s")]
    steps, player = played(drive, runtime, drops=drops)
    assert [seen["cam_front"] for seen in runtime.stepped] == [0.0, 0.4, 0.4, 1.5]
    assert [set(step.answers[0].dropped) for step in steps] == [
        set(),
        {"cam_front"},
        {"cam_front"},
        set(),
    ]
    assert "cam_front@0.45s..1.2s" in steps[1].answers[0].dropped["cam_front"]
    assert player.counts["cam_front"].withheld == 7  # 0.5, 0.6, ... 1.1
    assert player.counts["lidar_top"].withheld == 0


def test_a_broken_frame_is_counted_and_named_until_the_next_good_one() -> None:
    drive = FakeDrive(broken=[("lidar_top", 0.5), ("lidar_top", 1.25), ("cam_front", 0.55)])
    runtime = FakeRuntime()
    steps, player = played(drive, runtime)
    assert "cut off" in steps[1].answers[0].dropped["lidar_top"]
    assert [bool(step.answers[0].dropped) for step in steps] == [False, True, False, False]
    assert player.counts["lidar_top"].unreadable == 2
    assert runtime.stepped[1]["lidar_top"] == 0.25


def test_when_all_sensors_have_stopped_nothing_old_is_taken_for_new() -> None:
    drive = FakeDrive(seconds=4.0, keyframes_s=(0.0, 1.0, 2.5, 4.0))
    runtime = FakeRuntime()
    steps, _ = played(drive, runtime, drops=[DropWindow(name, 1.1, 3.0) for name in SENSORS])
    assert [bool(step.answers[0].sensors) for step in steps] == [True, True, False, True]
    assert set(steps[2].answers[0].dropped) == set(SENSORS)
    assert runtime.forgot == 1


def test_frames_that_come_after_newer_ones_are_counted_as_late() -> None:
    class Shuffled(FakeDrive):
        def frames(self, *_: Any, **__: Any) -> Any:
            yield from (frame("cam_front", at) for at in (0.0, 0.3, 0.2, 0.5))

    runtime = FakeRuntime()
    _, player = played(Shuffled(keyframes_s=(0.5,)), runtime)
    assert player.counts["cam_front"].late == 1 == runtime.late_frames["cam_front"]
    assert player.counts["cam_front"].pushed == 4
    assert runtime.stepped == [{"cam_front": 0.5}]


def test_frames_that_the_runtime_refuses_are_counted_for_this_drive_only() -> None:
    drive, runtime = FakeDrive(), FakeRuntime()
    runtime.bad_frames["cam_front"] = 5  # of a drive before
    player = Player(drive, runtime, plan_for(drive), SENSORS)
    for _ in player.play():
        runtime.bad_frames["cam_front"] += 1
    assert player.counts["cam_front"].refused == 4


def test_every_frame_that_is_handed_over_can_be_recorded() -> None:
    recorded: list[SensorFrame] = []
    drive, runtime = FakeDrive(), FakeRuntime()
    played(drive, runtime, drops=[DropWindow("cam_front")], on_frame=recorded.append)
    assert [(one.sensor, one.stamp_ns) for one in recorded] == runtime.pushed
    assert {one.sensor for one in recorded} == {"lidar_top"}


def test_an_interrupt_leaves_what_was_done_and_no_question_behind() -> None:
    drive, runtime = FakeDrive(), FakeRuntime()
    player = Player(drive, runtime, plan_for(drive), SENSORS)
    steps = player.play()
    next(steps)
    step, runtime.step = runtime.step, lambda: (_ for _ in ()).throw(KeyboardInterrupt)  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(KeyboardInterrupt):
        next(steps)
    assert step is not None
    assert not runtime.watched
    assert player.counts["cam_front"].pushed == 6


def test_a_drive_whose_frames_are_all_broken_is_refused() -> None:
    drive = FakeDrive(seconds=0.0, broken=[("cam_front", 0.0), ("lidar_top", 0.0)])
    with pytest.raises(DataError, match="2 are broken"):
        Player(drive, FakeRuntime(), plan_for(drive), SENSORS)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_pace_that_is_none(rate: float) -> None:
    with pytest.raises(ConfigError):
        Pace(rate)
    with pytest.raises(ConfigError):
        Pace(question_hz=rate)


def test_the_first_moment_counts_from_the_first_frame() -> None:
    drive, runtime = FakeDrive(keyframes_s=(0.5,)), FakeRuntime()
    steps, player = played(drive, runtime)
    assert steps[0].time_s == 0.5
    assert player.feed.start_ns == START_NS
