"""Fits of growth on known curves, and axes whose counts are those of the formulas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tailwire.benchmarks.scaling import Axis, grows_no_faster, growth, measure_axis
from tailwire.benchmarks.scaling_axes import (
    depth_axis,
    length_axis,
    question_axis,
    sensor_axis,
    token_axis,
)
from tailwire.runtime.cost import LanguageModelCost

from ..built_models import TinyModels
from ..fakes import ENCODER_FLOPS, QUESTIONS, fake_runtime, frames


def test_a_line_has_its_slope_and_no_bend() -> None:
    found = growth([1, 2, 4, 8], [3 + 2 * x for x in (1, 2, 4, 8)])
    assert found["slope"] == pytest.approx(2)
    assert found["intercept"] == pytest.approx(3)
    assert found["steepest_over_first"] == pytest.approx(1)
    assert found["exponent"] < 1


def test_one_hiccup_does_not_bend_the_slope() -> None:
    x = np.arange(1, 10)
    y = 5.0 * x
    y[4] *= 10
    assert growth(x.tolist(), y.tolist())["slope"] == pytest.approx(5, rel=0.05)


def test_a_square_is_found_out() -> None:
    axis = Axis("squares", {n: lambda n=n: n * n for n in (1, 2, 4, 8)}, "squares")
    found = measure_axis(axis, rounds=2)
    assert found["flops"] == [1, 4, 16, 64]
    assert found["counted"]["exponent"] == pytest.approx(2)
    assert found["no_faster_than_linear"] is False


def test_things_of_different_costs_are_set_beside_what_they_cost_alone() -> None:
    costs = {1: 5, 2: 7, 3: 6}

    def axis(together: int) -> Axis:
        totals = {n: 100 + sum(costs[i] for i in range(1, n + 1)) + together for n in costs}
        totals[3] += together
        return Axis(
            "things",
            {n: lambda n=n: totals[n] for n in costs},
            "things",
            {n: lambda n=n: 100 + costs.get(n, 0) for n in (0, *costs)},
        )

    straight = measure_axis(axis(0), rounds=1)
    assert straight["counted"]["most_over_alone"] == pytest.approx(1)
    assert straight["no_faster_than_linear"] is True
    dearer = measure_axis(axis(3), rounds=1)
    # The third one adds its own six and three for the others.
    assert dearer["counted"]["most_over_alone"] == pytest.approx(1.5)
    assert dearer["no_faster_than_linear"] is False


def test_times_are_straight_by_their_power() -> None:
    sizes = [1, 2, 4, 8]
    assert grows_no_faster(growth(sizes, [5 + 2 * x for x in sizes]))
    # A hiccup at one size is no growth.
    assert grows_no_faster(growth(sizes, [3, 7, 13, 25]))
    assert not grows_no_faster(growth(sizes, [x**1.3 for x in sizes]))
    assert not grows_no_faster(growth(sizes, [0, 0, 0, 0]))


def test_tail_axes_count_by_the_formulas(tiny: TinyModels) -> None:
    model = tiny.model("llama")
    cost = LanguageModelCost(model.config, "fp32")
    depth = measure_axis(depth_axis(model, questions=2, tokens=5, rows=3), rounds=1)
    assert depth["sizes"] == [2, 4, 6]
    assert depth["flops"] == [cost.tail([5, 5], 6 - size, 3) for size in depth["sizes"]]
    assert depth["no_faster_than_linear"] is True
    words = measure_axis(length_axis(model, depth=4, questions=2, rows=3, sizes=(4, 8)), rounds=1)
    assert words["flops"] == [cost.tail([size] * 2, 2, 3) for size in (4, 8)]
    tokens = measure_axis(
        token_axis(model, depth=4, questions=2, tokens=5, sensors=3, sizes=(1, 2, 4)), rounds=1
    )
    assert tokens["flops"] == [cost.tail([5, 5], 2, 3 * size) for size in (1, 2, 4)]


def test_runtime_axes_count_what_answers_say(tiny: TinyModels, tmp_path: Path) -> None:
    fake = fake_runtime(tiny.model("llama"), tmp_path)
    runtime, given = fake.runtime, frames()
    asked = measure_axis(question_axis(runtime, given, [QUESTIONS[0]] * 3, (1, 3)), rounds=1)
    assert fake.engines["camera"].frames == 2, "tokens are reused along this axis"
    assert asked["flops"][1] > asked["flops"][0]
    for text, answers in QUESTIONS:
        runtime.watch(text, answers)
    sensors = measure_axis(sensor_axis(runtime, given, len(QUESTIONS)), rounds=2)
    assert sensors["sizes"] == [1, 2, 3]
    assert sensors["flops"][2] - sensors["flops"][1] >= ENCODER_FLOPS["lidar"]
