"""Gains, ratios, oracles and intervals of schedules, against counts by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tailwire.benchmarks.schedule_figures import (
    Entry,
    Scenes,
    best_fixed,
    curve_point,
    flops_ratio,
    front,
    gains,
    guess_rows,
    means,
    oracle_right,
)
from tailwire.benchmarks.schedule_menu import fixed_menu
from tailwire.benchmarks.schedule_simulation import Play, ScoredAnswer

DRIVES = ("a", "a", "b", "b")


def entry(
    name: str,
    right: Sequence[int],
    flops: Sequence[int],
    budget: int | None = None,
    texts: Sequence[str | None] | None = None,
) -> Entry:
    scored = [
        ScoredAnswer(
            drive=drive,
            condition="night" if drive == "a" else "day",
            kind="count" if place % 2 else "exist",
            text=(texts or ["x"] * len(right))[place],
            is_right=bool(one),
            age_ms=250.0 * place,
            guesses={"majority per template": place == 0, "words": place < 2},
        )
        for place, (one, drive) in enumerate(zip(right, DRIVES, strict=True))
    ]
    play = Play(scored=scored, flops=list(flops), answered=[1.0] * len(flops))
    play.ran, play.decision_us = [2] * len(flops), [10.0] * len(flops)
    play.expected = [None, *[0.5] * (len(flops) - 1)]
    return Entry(name, budget, play, is_fixed=budget is None)


CHEAP = entry("cheap", (1, 0, 0, 0), (2, 2))
MIDDLE = entry("middle", (1, 1, 0, 0), (5, 5))
WASTE = entry("waste", (1, 0, 0, 0), (7, 7))
ALL = entry("all", (1, 1, 1, 0), (10, 10))
FIXED = (CHEAP, MIDDLE, WASTE, ALL)


def test_the_best_fixed_plan_is_chosen_in_hindsight_among_those_that_fit() -> None:
    assert best_fixed(FIXED, 1) is None
    assert best_fixed(FIXED, 4.9) is CHEAP
    assert best_fixed(FIXED, 9) is MIDDLE
    assert best_fixed(FIXED, 10) is ALL
    assert front(FIXED) == [CHEAP, MIDDLE, ALL]


def test_gains_compare_the_same_questions_at_equal_flops() -> None:
    tight = entry("optimal", (1, 1, 1, 0), (4, 6), budget=6)
    nothing_fits = entry("optimal", (1, 0, 0, 0), (1, 1), budget=1)
    rows = gains([nothing_fits, tight], FIXED, Scenes(DRIVES))
    assert rows[0]["at_equal_budget"] is None
    found = rows[1]["at_equal_budget"]
    assert found["fixed_plan"] == "middle"
    assert found["gain_points"] == pytest.approx(25)
    # Scene a gains nothing, scene b half of its questions.
    assert found["interval_95"] == pytest.approx([0, 50])
    assert rows[1]["at_equal_spending"]["fixed_plan"] == "middle"
    assert means(rows, "at_equal_budget") == {
        "mean": pytest.approx(25),
        "max": pytest.approx(25),
        "max_at_gflop": 6e-9,
        "max_interval_95": pytest.approx([0, 50]),
        "min": pytest.approx(25),
        "budgets": 1,
    }
    assert means(rows[:1], "at_equal_budget") is None


def test_spending_less_than_the_budget_lets_the_fixed_plan_spend_less_too() -> None:
    thrifty = entry("optimal", (1, 1, 0, 0), (2, 4), budget=6)
    (row,) = gains([thrifty], FIXED, Scenes(DRIVES))
    assert row["at_equal_budget"]["fixed_plan"] == "middle"
    assert row["at_equal_budget"]["gain_points"] == 0
    assert row["at_equal_spending"]["fixed_plan"] == "cheap"
    assert row["at_equal_spending"]["gain_points"] == pytest.approx(25)


def test_the_ratio_is_that_of_the_cheapest_point_that_is_as_right() -> None:
    curve = [
        entry("optimal", (1, 1, 0, 0), (1, 1), budget=1),
        entry("optimal", (1, 1, 0, 1), (2, 3), budget=3),
        entry("optimal", (1, 1, 1, 1), (5, 5), budget=5),
    ]
    found = flops_ratio(curve, ALL, Scenes(DRIVES))
    assert found is not None
    assert found["ratio"] == pytest.approx(10 / 2.5)
    assert found["difference_points_interval_95"] == pytest.approx([0, 0])
    assert flops_ratio(curve[:1], ALL, Scenes(DRIVES)) is None
    looser = flops_ratio(curve[:1], ALL, Scenes(DRIVES), slack=0.25)
    assert looser is not None
    assert looser["ratio"] == pytest.approx(10)


def test_the_oracle_takes_the_best_plan_that_fits_at_each_keyframe() -> None:
    first = entry("first", (1, 1, 0, 0), (9, 3, 9, 3))
    second = entry("second", (0, 0, 1, 1), (9, 3, 9, 5))
    np.testing.assert_array_equal(oracle_right([first, second], 5, (1, 3), 2), (1, 1, 1, 1))
    # The second keyframe's plan no longer fits; nothing may be mixed within a keyframe.
    np.testing.assert_array_equal(oracle_right([first, second], 4, (1, 3), 2), (1, 1, 0, 0))
    np.testing.assert_array_equal(oracle_right([first, second], 2, (1, 3), 2), (0, 0, 0, 0))


def test_points_of_a_curve_count_by_condition_and_kind() -> None:
    found = curve_point(
        entry("optimal", (1, 0, 1, 1), (4, 6), 6, ("x", None, "x", "x")), Scenes(DRIVES)
    )
    assert found["accuracy"] == 0.75
    assert found["by_condition"] == {"day": 1.0, "night": 0.5}
    assert found["by_kind"] == {"count": 0.5, "exist": 1.0}
    assert found["mean_gflop"] == pytest.approx(5e-9)
    assert found["max_gflop"] == pytest.approx(6e-9)
    assert found["unanswered_share"] == 0.25
    assert found["mean_answer_age_ms"] == pytest.approx(375)
    assert found["expected"] == 0.5
    assert found["accuracy_interval_95"] == pytest.approx([0.5, 1.0])


def test_guesses_stand_beside() -> None:
    assert guess_rows(ALL.play) == {
        "blind_accuracy": 0.5,
        "blind_baseline": "words",
        "majority_accuracy": 0.25,
    }


def test_one_scene_has_no_interval() -> None:
    assert Scenes(["a", "a"]).interval(np.ones(2)) is None


def test_the_menu_has_every_number_of_each_modality_and_ends_with_everything() -> None:
    sensors = ("front", "front_right", "back_right", "back", "back_left", "front_left")
    modalities = dict.fromkeys(sensors, "camera") | {"lidar": "lidar", "objects": "objects"}
    menu = fixed_menu(modalities, (6, 4))
    assert len(menu) == (5 * 2 - 1) * 2
    assert len({(one.sensors, one.tail_blocks) for one in menu}) == len(menu)
    assert menu[-1].sensors == {*sensors, "lidar"}
    assert menu[-1].tail_blocks == 6
    assert (menu[0].sensors, menu[0].tail_blocks) == ({"lidar"}, 4)
    two = next(one for one in menu if one.name == "2 camera, tail 4")
    assert two.sensors == {"front", "back"}
