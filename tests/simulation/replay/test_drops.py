"""Windows in which a sensor is away: how they are typed, and what they cover."""

from __future__ import annotations

import math

import pytest

from tailwire.runtime.errors import ConfigError, SensorError
from tailwire.simulation.replay.drops import DropWindow, check_drops, parse_drop


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("cam_front@5s..8s", (5.0, 8.0)),
        ("cam_front@5..8", (5.0, 8.0)),
        ("cam_front@0.5s..", (0.5, math.inf)),
        ("cam_front@.5..", (0.5, math.inf)),
        ("cam_front@..8s", (0.0, 8.0)),
        ("cam_front", (0.0, math.inf)),
        (" cam_front@ 5s .. 8s ", (5.0, 8.0)),
    ],
)
def test_the_forms_of_a_window(text: str, window: tuple[float, float]) -> None:
    assert parse_drop(text) == DropWindow("cam_front", *window)


@pytest.mark.parametrize(
    "text",
    [
        *("", "@1..2", "cam_front@", "cam_front@..", "cam_front@5s", "cam_front@8..5"),
        *("cam_front@5..5", "cam_front@-1..2", "cam_front@1...2", "cam_front@a..b"),
        *("cam_front@nan..2", "cam_front@s..2", "cam_front@1..2..3"),
    ],
)
def test_other_forms_are_refused_with_the_right_one(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_drop(text)
    assert refused.value.field == "--drop"
    assert refused.value.remedy


def test_a_window_covers_its_beginning_and_not_its_end() -> None:
    window = parse_drop("cam_front@5s..8s")
    times = [4.999, 5.0, 7.999, 8.0]
    assert [window.covers("cam_front", time) for time in times] == [False, True, True, False]
    assert not window.covers("cam_back", 6.0)


@pytest.mark.parametrize("text", ["cam_front@5s..8s", "cam_front@5s..", "cam_front"])
def test_a_window_is_written_as_it_is_typed(text: str) -> None:
    assert str(parse_drop(text)) == text


def test_a_sensor_that_does_not_take_part_is_no_window() -> None:
    check_drops([DropWindow("cam_front")], ["cam_front"])
    with pytest.raises(SensorError, match="cam_frnt"):
        check_drops([DropWindow("cam_frnt")], ["cam_front"])
