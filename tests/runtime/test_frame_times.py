"""Parts that rest follow the pace of those that run."""

from __future__ import annotations

import pytest

from tailwire.runtime.frame_times import FORGIVEN, RESTED, FrameTimes


@pytest.fixture
def times() -> FrameTimes:
    found = FrameTimes()
    found.parts.start("encode camera", [(1, 10.0), (1, 10.0), (6, 60.0), (6, 60.0)])
    found.parts.start("tail", [(1, 30.0)] * 4)
    found.measured()
    return found


def run(times: FrameTimes, frames: int, **parts: tuple[float, float]) -> float:
    """Some frames in which parts take (ms, size); what six pictures take in the last one."""
    camera_ms = 0.0
    for _ in range(frames):
        camera_ms = times.next_frame()["encode camera"].at(6).median_ms
        times.note({part.replace("_", " "): given for part, given in parts.items()})
    return camera_ms


def test_at_the_usual_pace_nothing_changes(times: FrameTimes) -> None:
    assert run(times, 20, tail=(30, 1)) == pytest.approx(60)
    assert times.pace == pytest.approx(1)


def test_a_part_left_out_while_all_was_slow_is_as_fast_as_the_others_again(
    times: FrameTimes,
) -> None:
    slow = run(times, 10, tail=(90, 1), encode_camera=(180, 6))
    assert slow == pytest.approx(180)
    assert run(times, 20, tail=(90, 1)) == pytest.approx(180)
    assert times.pace == pytest.approx(3)
    # Four or five runs of what still runs tell that the machine is itself again.
    assert run(times, RESTED + 1, tail=(30, 1)) == pytest.approx(60)


def test_a_part_left_out_while_all_was_fast_becomes_slow_with_the_others(
    times: FrameTimes,
) -> None:
    run(times, 10, tail=(30, 1), encode_camera=(60, 6))
    run(times, RESTED + 1, tail=(30, 1))
    assert run(times, RESTED + 1, tail=(60, 1)) == pytest.approx(120)


def test_a_part_that_alone_was_slow_is_tried_again_after_a_while(times: FrameTimes) -> None:
    run(times, 10, tail=(30, 1), encode_camera=(300, 6))
    assert run(times, FORGIVEN - 2, tail=(30, 1)) > 200
    assert run(times, 4, tail=(30, 1)) == pytest.approx(60)


def test_without_a_measured_start_the_first_runs_are_the_usual_ones() -> None:
    times = FrameTimes()
    for ms in (30, 30, 30, 30, 30, 60, 60, 60, 60, 60, 60):
        times.next_frame()
        times.note({"tail": (ms, 1)})
    assert times.usual()["tail"].at(1).median_ms == pytest.approx(30)
    times.next_frame()
    assert times.pace == pytest.approx(2)


def test_two_slow_frames_of_three_are_believed_and_one_is_not() -> None:
    times = FrameTimes()
    times.parts.start("encode camera", [(6, 60.0)] * 12)
    times.parts.start("tail", [(1, 30.0)] * 12)
    times.measured()
    expected_ms = []
    for tail_ms in (60, 30, 60, 60, 30, 30):
        times.note({"tail": (tail_ms, 1)})
        expected_ms.append(times.next_frame()["encode camera"].at(6).median_ms)
    assert expected_ms == pytest.approx([60, 60, 120, 120, 120, 60])
