"""Sensors that answers lack, held against warnings: what is reported, late, or not at all."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from tailwire.benchmarks.ros_silences import SilenceWatch, Withheld

SENSORS = ("cam_front", "lidar_top")


def diagnose(watch: SilenceWatch, begin_s: float, number: int, *warned: str) -> None:
    for step in range(number):
        words = dict.fromkeys(warned, "silent for 1.2 s")
        watch.diagnosed(SENSORS, words, begin_s + 0.5 * step)


def test_a_warning_soon_after_is_a_report() -> None:
    watch = SilenceWatch()
    watch.answered(["cam_front"], 1.0)
    watch.answered(["cam_front"], 1.1)
    # The first diagnostics may have been made before the answer.
    diagnose(watch, 1.2, 1)
    diagnose(watch, 1.7, 1, "cam_front")
    diagnose(watch, 2.2, 10)
    assert watch.lacked == {"cam_front": 1}
    assert watch.unreported == {}


def test_no_warning_or_one_of_another_sensor_is_none() -> None:
    watch = SilenceWatch()
    watch.answered(["cam_front"], 1.0)
    diagnose(watch, 1.2, 10, "lidar_top")
    assert watch.unreported == {"cam_front": 1}
    # It comes back and is missing again.
    watch.answered([], 10.0)
    watch.answered(["cam_front"], 10.1)
    diagnose(watch, 10.2, 10)
    assert watch.lacked == {"cam_front": 2}
    assert watch.unreported == {"cam_front": 2}


def test_when_they_were_sent_decides_and_not_when_they_are_heard() -> None:
    watch = SilenceWatch()
    # A warning of long before, and then one that is heard before the answer that it is about.
    diagnose(watch, 0.0, 1, "cam_front")
    diagnose(watch, 0.5, 4)
    diagnose(watch, 3.0, 1, "cam_front")
    diagnose(watch, 3.5, 10)
    watch.answered(["cam_front"], 2.9)
    assert watch.unreported == {}
    watch.answered([], 3.0)
    watch.answered(["cam_front"], 3.1)
    assert watch.unreported == {"cam_front": 1}


def test_a_sensor_that_diagnostics_do_not_speak_of_is_not_judged() -> None:
    watch = SilenceWatch()
    watch.answered(["sonar"], 1.0)
    diagnose(watch, 1.2, 10)
    assert watch.unreported == {}


def test_withheld_until_it_is_warned_of_and_given_back() -> None:
    watch, withheld, over = SilenceWatch(), Withheld(), threading.Event()
    asked: list[Sequence[str]] = []

    def withhold(sensors: Sequence[str]) -> None:
        asked.append(sensors)
        watch.diagnosed(SENSORS, dict.fromkeys(sensors, "silent for 1.1 s"), 1.0)

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
