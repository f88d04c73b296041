"""Sensors that answers lack, held against warnings: what is reported, late, or not at all."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from tailwire.benchmarks.ros_silences import SilenceWatch, Withheld

SENSORS = ("cam_front", "lidar_top")


def test_a_warning_soon_after_is_a_report() -> None:
    watch = SilenceWatch()
    watch.answered(["cam_front"])
    watch.answered(["cam_front"])
    # The first diagnostics may have been made before the answer.
    watch.diagnosed(SENSORS, {})
    watch.diagnosed(SENSORS, {"cam_front": "silent for 1.2 s"})
    for _ in range(10):
        watch.diagnosed(SENSORS, {})
    assert watch.lacked == {"cam_front": 1}
    assert watch.unreported == {}


def test_no_warning_or_one_of_another_sensor_is_none() -> None:
    watch = SilenceWatch()
    watch.answered(["cam_front"])
    for _ in range(10):
        watch.diagnosed(SENSORS, {"lidar_top": "silent for 1.2 s"})
    assert watch.unreported == {"cam_front": 1}
    # It comes back and is missing again.
    watch.answered([])
    watch.answered(["cam_front"])
    for _ in range(10):
        watch.diagnosed(SENSORS, {})
    assert watch.lacked == {"cam_front": 2}
    assert watch.unreported == {"cam_front": 2}


def test_a_sensor_that_diagnostics_do_not_speak_of_is_not_judged() -> None:
    watch = SilenceWatch()
    watch.answered(["sonar"])
    for _ in range(10):
        watch.diagnosed(SENSORS, {})
    assert watch.unreported == {}


def test_withheld_until_it_is_warned_of_and_given_back() -> None:
    watch, withheld, over = SilenceWatch(), Withheld(), threading.Event()
    asked: list[Sequence[str]] = []

    def withhold(sensors: Sequence[str]) -> None:
        asked.append(sensors)
        watch.diagnosed(SENSORS, dict.fromkeys(sensors, "silent for 1.1 s"))

    withheld.one("lidar_top", watch, withhold, over)
    assert asked == [["lidar_top"], []]
    found = withheld.summary(watch)
    assert (found["withheld"], found["withheld_reported"], found["withheld_returned"]) == (1, 1, 1)


def test_what_is_cut_short_is_not_counted() -> None:
    watch, withheld, over = SilenceWatch(), Withheld(), threading.Event()
    over.set()
    asked: list[Sequence[str]] = []
    withheld.one("lidar_top", watch, asked.append, over)
    # The sensor is given back all the same.
    assert asked[-1] == []
    assert withheld.number == 0
