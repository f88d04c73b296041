"""Calibration error and coverage against figures by hand, a plain loop and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from tailwire.runtime.errors import DataError
from tailwire.simulation.questions.calibration import coverage_curve, reliability


def drawn(count: int = 500) -> tuple[list[float], list[bool]]:
    rng = np.random.default_rng(3)
    sure = rng.random(count) ** 0.5
    return sure.tolist(), (rng.random(count) < sure * 0.8).tolist()


def test_the_error_by_hand() -> None:
    # Bins of (0, 0.5] and (0.5, 1]: means 0.4 and 0.8, of which 1 of 2 and 1 of 3 are right.
    found = reliability([0.3, 0.5, 0.6, 0.8, 1.0], [True, False, True, False, False], bins=2)
    assert [one.questions for one in found.bins] == [2, 3]
    assert found.bins[0].confidence == pytest.approx(0.4)
    assert found.bins[1].accuracy == pytest.approx(1 / 3)
    assert found.error == pytest.approx(2 / 5 * 0.1 + 3 / 5 * (0.8 - 1 / 3))
    assert found.confidence == pytest.approx(0.64)
    squares = (0.3 - 1) ** 2 + 0.5**2 + (0.6 - 1) ** 2 + 0.8**2 + 1
    assert found.brier == pytest.approx(squares / 5)


def test_bins_are_those_of_scikit_learn() -> None:
    sure, right = drawn()
    found = reliability(sure, right)
    accuracy, confidence = calibration_curve(right, sure, n_bins=15)
    filled = [one for one in found.bins if one.questions]
    assert [one.accuracy for one in filled] == pytest.approx(accuracy.tolist())
    assert [one.confidence for one in filled] == pytest.approx(confidence.tolist())
    error = sum(
        one.questions / len(sure) * abs(a - c)
        for one, a, c in zip(filled, accuracy, confidence, strict=True)
    )
    assert found.error == pytest.approx(error)


def test_edges_belong_to_the_bin_on_their_left_and_empty_bins_say_nothing() -> None:
    found = reliability([0.0, 0.2, 1.0], [False, True, True], bins=5)
    assert [one.questions for one in found.bins] == [2, 0, 0, 0, 1]
    assert found.bins[1].accuracy is None
    assert found.bins[4] == found.bins[-1]
    assert (found.bins[4].low, found.bins[4].high) == (0.8, 1.0)


def test_perfect_confidence_has_no_error() -> None:
    assert reliability([1.0, 1.0, 0.0], [True, True, False]).error == 0


def test_coverage_takes_the_surest_first() -> None:
    sure, right = drawn()
    points = coverage_curve(sure, right)
    assert [round(one.coverage, 1) for one in points] == [n / 10 for n in range(1, 11)]
    ranked = [hit for _, hit in sorted(zip(sure, right, strict=True), reverse=True)]
    for point in points:
        assert point.questions == round(point.coverage * 500)
        assert point.accuracy == pytest.approx(np.mean(ranked[: point.questions]))
        assert point.least_confidence == sorted(sure, reverse=True)[point.questions - 1]
    assert points[-1].accuracy == pytest.approx(np.mean(right))


def test_the_order_of_equal_confidences_is_no_matter() -> None:
    half = coverage_curve([0.9, 0.5, 0.5, 0.5], [True, True, False, False], [0.5])[0]
    other = coverage_curve([0.9, 0.5, 0.5, 0.5], [True, False, False, True], [0.5])[0]
    assert half.accuracy == other.accuracy == pytest.approx((1 + 1 / 3) / 2)


def test_a_single_answer_is_every_share() -> None:
    points = coverage_curve([0.7], [True])
    assert [(one.questions, one.accuracy) for one in points] == [(1, 1.0)] * 10


@pytest.mark.parametrize(
    ("sure", "right"), [([], []), ([0.5], [True, False]), ([1.2], [True]), ([float("nan")], [True])]
)
def test_what_is_no_confidence_is_refused(sure: list[float], right: list[bool]) -> None:
    for measure in (reliability, coverage_curve):
        with pytest.raises(DataError, match=r"confidence|answer"):
            measure(sure, right)
