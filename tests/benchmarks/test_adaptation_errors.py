"""Errors of accuracies against brute force, and ratios at equal accuracy on made-up rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="exams are asked in torch")

from tailwire.benchmarks.adaptation_data import Exam
from tailwire.benchmarks.adaptation_errors import drawn_accuracies, standard_error, unpacked
from tailwire.benchmarks.adaptation_figures import compared

from .adaptation_task import bench_data


def exam_of(block: np.ndarray) -> Exam:
    nothing = bench_data().prepared.held_out.take(slice(0, 0))
    count = len(block)
    return Exam(nothing, np.zeros(0, np.int64), count, 0.3, 0.3, block, "scene")


def test_the_error_is_that_of_drawing_blocks_again() -> None:
    rng = np.random.default_rng(0)
    block = np.repeat(np.arange(40), rng.integers(5, 15, 40))
    right = rng.random(len(block)) < rng.random(40)[block]
    found = standard_error(right.astype(float), block)
    draws = []
    for _ in range(4000):
        chosen = rng.integers(0, 40, 40)
        draws.append(np.concatenate([right[block == one] for one in chosen]).mean())
    assert found == pytest.approx(np.std(draws), rel=0.06)
    # Questions that stand for themselves: the usual formula.
    alone = standard_error(right.astype(float), np.arange(len(right)))
    assert alone == pytest.approx(np.std(right, ddof=1) / np.sqrt(len(right)))
    assert found is not None and alone is not None and found > 1.5 * alone
    assert standard_error(right.astype(float), np.zeros(len(right), int)) is None


def test_drawn_accuracies_are_of_the_same_blocks_for_all_runs() -> None:
    rng = np.random.default_rng(1)
    block = np.repeat(np.arange(10), 7)
    right = rng.random((2, 70)) < 0.5
    first, second = drawn_accuracies([right, ~right], block)
    np.testing.assert_allclose(first + second, 1)
    np.testing.assert_allclose(first.mean(0), right.mean(1), atol=0.01)


def row(exam: Exam, *looks: tuple[int, np.ndarray]) -> dict[str, Any]:
    points = [{"samples": n, "flops": flops, **exam.seen(r)} for n, (flops, r) in enumerate(looks)]
    return {"points": points, "flops": looks[-1][0], "peak_bytes": 10, **points[-1]}


def shares(exam: Exam, *accuracies: float) -> list[np.ndarray]:
    """The first of all questions are right, in every block."""
    place = np.arange(exam.questions) % 20
    return [place < round(20 * share) for share in accuracies]


def test_looks_are_kept_whole() -> None:
    exam = exam_of(np.repeat(np.arange(3), 20))
    (right,) = shares(exam, 0.35)
    found = unpacked([exam.seen(right)], exam.questions)
    assert found is not None and (found[0] == right).all()
    assert unpacked([{"accuracy": 0.5}], 60) is None


def test_equal_accuracy_is_the_first_look_that_is_as_right() -> None:
    exam = exam_of(np.repeat(np.arange(5), 20))
    low, middle, high = shares(exam, 0.3, 0.5, 0.6)
    theirs = row(exam, (0, low), (400, middle), (900, low))
    ours = row(exam, (0, low), (50, low), (100, middle), (150, high))
    found = compared(ours, theirs, exam)
    assert found["flops"] == 4.0 and found["flops_interval"] == [4.0, 4.0]
    assert found["flops_reached"] == 1.0
    assert found["flops_equal_samples"] == pytest.approx((900 / 2) / (150 / 3))
    assert found["accuracy_gain"] == pytest.approx(0.1) and found["memory"] == 1.0
    # All blocks are alike, so there is nothing to be unsure of.
    assert found["accuracy_gain_error"] == pytest.approx(0, abs=1e-12)
    never = compared(row(exam, (0, low), (9, low)), theirs, exam)
    assert never["flops"] is None and never["flops_reached"] == 0
    assert never["flops_interval"] == [None, None]
    near = shares(exam, 0.5)[0].copy()
    near[0] = False
    late = compared(row(exam, (0, low), (50, near), (200, middle)), theirs, exam)
    assert (late["flops"], late["flops_one_point_less"]) == (2.0, 8.0)


def test_what_had_not_to_be_learned_has_no_ratio() -> None:
    exam = exam_of(np.repeat(np.arange(5), 20))
    low, high = shares(exam, 0.3, 0.5)
    worse = row(exam, (0, high), (400, low))
    assert compared(row(exam, (0, high), (50, high)), worse, exam)["flops"] is None


def test_blocks_that_differ_widen_the_interval() -> None:
    rng = np.random.default_rng(2)
    exam = exam_of(np.repeat(np.arange(8), 50))
    looks = [rng.random(400) < share for share in (0.3, 0.5, 0.5)]
    theirs = row(exam, (0, looks[0]), (400, looks[1]))
    ours = row(exam, (0, looks[0]), (50, rng.random(400) < 0.5), (100, looks[2]))
    found = compared(ours, theirs, exam)
    ends = found["flops_interval"]
    assert 0 < found["flops_reached"] < 1 and ends[0] is None and ends[1] == 8.0
    assert found["accuracy_gain_error"] > 0.01


def test_rows_of_before_have_no_intervals() -> None:
    exam = exam_of(np.repeat(np.arange(5), 20))
    points = [{"samples": 8, "flops": 100, "accuracy": 0.5}]
    old = {"points": points, "flops": 100, "peak_bytes": None}
    found = compared(old, old, exam)
    assert found["flops"] == 1.0 and found["flops_interval"] is None
    assert found["accuracy_gain_error"] is None
    assert set(compared(None, old, exam)) == set(found)
