"""Models of how often plans are right, compared on scenes that they were not fitted to."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tailwire.benchmarks.calibration import KeyframeCounts, dispersion_of, table_of
from tailwire.benchmarks.noisy_or import fit_noisy_or
from tailwire.benchmarks.utility_comparison import MODELS, compare, table_with_back_off
from tailwire.runtime.calibration_table import CalibrationCell, MeasuredPlan
from tailwire.runtime.errors import DataError

from ..calibrations import CONDITIONS, drawn_cells, driving_traits, true_accuracy

TRAITS = driving_traits()
PLANS = [
    MeasuredPlan(sensors=sensors, ages_ms=(0,) * len(sensors), tail_blocks=6, precision="int8")
    for sensors in ((), ("cam_front",), ("cam_back",), ("lidar_top",), ("cam_front", "lidar_top"))
]
TOPICS = ("exist", "count@front", "status@back")


def _counts(scenes: int, asked: int, seed: int = 0) -> list[KeyframeCounts]:
    """Keyframes of scenes, two of each, whose answers are right as the truth says."""
    rng = np.random.default_rng(seed)
    return [
        KeyframeCounts(
            sample_token=f"{scene} {number}",
            scene=f"scene {scene}",
            condition=condition,
            cells=tuple(
                (at, topic, asked, int(rng.binomial(asked, share)))
                for at, plan in enumerate(PLANS)
                for topic in TOPICS
                for share in (true_accuracy(plan, topic, condition, TRAITS),)
            ),
        )
        for scene in range(scenes)
        for condition in (CONDITIONS[scene % 2],)
        for number in range(2)
    ]


def test_models_are_better_than_a_coin_and_none_than_the_answers() -> None:
    counts = _counts(scenes=10, asked=4)
    *models, knowing = compare(counts, PLANS, [1, 2, 2, 3, 5], TRAITS, folds=2)
    assert [one.name for one in models] == list(MODELS)
    total = sum(cell[2] for one in counts for cell in one.cells)
    truth = sum(
        cell[2]
        * -sum(
            share * math.log(share)
            for accuracy in (true_accuracy(PLANS[cell[0]], cell[1], one.condition, TRAITS),)
            for share in (accuracy, 1 - accuracy)
        )
        for one in counts
        for cell in one.cells
    )
    for one in models:
        assert one.log_loss is not None
        assert truth / total - 0.05 < one.log_loss < math.log(2)
        assert one.chosen <= knowing.chosen + 0.02
    assert knowing.log_loss is None


def test_nothing_is_compared_where_no_scene_can_be_left_out() -> None:
    with pytest.raises(DataError, match="no scene can be left out"):
        compare(_counts(scenes=2, asked=1), PLANS, [1] * 5, TRAITS)


def test_a_table_leans_on_coarser_cells_where_it_knows_little() -> None:
    lidar, unseen = PLANS[3], PLANS[4]
    cells = [
        CalibrationCell(lidar, "exist", "day", 1000, 900),
        CalibrationCell(lidar, "exist", "night", 1000, 500),
    ]
    day, night, dusk, other = table_with_back_off(cells, TRAITS)(
        [
            *cells,
            CalibrationCell(lidar, "exist@front", "dusk", 1, 0),
            CalibrationCell(unseen, "count", "day", 1, 0),
        ]
    )
    assert day == pytest.approx(0.9, abs=0.01)
    assert night == pytest.approx(0.5, abs=0.01)
    assert dusk == pytest.approx(0.7, abs=0.01)
    assert other == pytest.approx(0.7, abs=0.01)


def test_a_noisy_or_finds_the_noisy_or_that_is_the_truth() -> None:
    cells = [cell for cell in drawn_cells(4, topics=("exist", "count@front"))]
    model = fit_noisy_or(cells, TRAITS)
    truth = [true_accuracy(cell.plan, cell.topic, cell.condition, TRAITS) for cell in cells]
    assert np.sqrt(np.mean((model.means(cells) - truth) ** 2)) < 0.04


def test_answers_of_one_scene_that_stand_and_fall_together_are_dispersed() -> None:
    assert dispersion_of(_counts(scenes=40, asked=5)) < 2
    together = [
        one.model_copy(
            update={
                "cells": tuple(
                    (plan, topic, asked, asked * (int(one.scene[6:]) // 2 % 2))
                    for plan, topic, asked, _ in one.cells
                )
            }
        )
        for one in _counts(scenes=40, asked=5)
    ]
    # All 150 answers of a scene (15 cells of 5, two keyframes) are one.
    assert dispersion_of(together) == pytest.approx(150, rel=0.2)
    assert dispersion_of(_counts(scenes=1, asked=5)) == 1
    table = table_of(together, PLANS, "made up")
    assert table.dispersion == dispersion_of(together)
    assert table.questions == 40 * 2 * 15 * 5
