"""All switches together: made-up looks, and the draws against brute force."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="exams are asked in torch")

from tailwire.benchmarks.adaptation_data import Exam
from tailwire.benchmarks.adaptation_pooled import pooled

from .test_adaptation_errors import exam_of, row, shares

BLOCK = np.repeat(np.arange(6), 20)


def runs(exam: Exam, ours: tuple[float, ...], theirs: tuple[float, ...]) -> list[dict[str, Any]]:
    """Looks of ours cost 10 each, of theirs 100."""
    return [
        row(exam, *((place * cost, right) for place, right in enumerate(shares(exam, *accuracies))))
        for cost, accuracies in ((10, ours), (100, theirs))
    ]


def test_means_of_looks_and_sums_of_flops() -> None:
    exams = {"night": exam_of(BLOCK), "rain": exam_of(BLOCK)}
    # Alone, ours would never be as right by night, and at once in the rain.
    pairs: Any = [
        ("night", *runs(exams["night"], (0.5, 0.55, 0.6), (0.5, 0.6, 0.65))),
        ("rain", *runs(exams["rain"], (0.5, 0.7, 0.75), (0.5, 0.55, 0.6))),
    ]
    found = pooled(pairs, exams)
    assert found is not None
    assert found["switches"] == 2
    ours, theirs = found["points"]["ours"], found["points"]["theirs"]
    assert [one["flops"] for one in ours] == [0, 20, 40]
    assert [one["flops"] for one in theirs] == [0, 200, 400]
    assert [one["accuracy"] for one in ours] == pytest.approx([0.5, 0.625, 0.675])
    assert [one["accuracy"] for one in theirs] == pytest.approx([0.5, 0.575, 0.625])
    assert found["flops"] == pytest.approx(400 / 20)
    assert found["accuracy_gain"] == pytest.approx(0.05)
    # All scenes are alike: nothing depends on which are drawn.
    assert found["flops_interval"] == pytest.approx([20, 20])
    assert found["flops_reached"] == 1
    assert found["accuracy_gain_error"] == pytest.approx(0, abs=1e-9)


def test_errors_are_those_of_drawing_scenes_of_each_condition() -> None:
    rng = np.random.default_rng(0)
    exams = {"night": exam_of(BLOCK), "rain": exam_of(BLOCK)}
    right = {name: rng.random((2, 2, len(BLOCK))) < 0.6 for name in exams}
    pairs: Any = [
        (name, *(row(exams[name], (0, looks[0]), (10, looks[1])) for looks in right[name]))
        for name in exams
    ]
    found = pooled(pairs, exams)
    gains = []
    for _ in range(4000):
        means = []
        for looks in right.values():
            chosen = rng.integers(0, 6, 6)
            at = np.concatenate([np.flatnonzero(one == BLOCK) for one in chosen])
            means.append(looks[..., at].mean(-1))
        ours, theirs = np.mean(means, 0)
        gains.append(ours.max() - theirs.max())
    assert found is not None
    assert found["accuracy_gain_error"] == pytest.approx(np.std(gains), rel=0.1)


def test_what_cannot_be_told() -> None:
    exams = {"night": exam_of(BLOCK)}
    assert pooled([], exams) is None
    never: Any = [("night", *runs(exams["night"], (0.5, 0.6), (0.5, 0.7)))]
    found = pooled(never, exams)
    assert found is not None
    assert found["flops"] is None and found["flops_reached"] == 0
    assert found["flops_interval"] == [None, None]
    nothing: Any = [("night", *runs(exams["night"], (0.7, 0.6), (0.7, 0.6)))]
    found = pooled(nothing, exams)
    assert found is not None and found["flops"] is None
    first, second = runs(exams["night"], (0.5, 0.6), (0.5, 0.7))
    other = runs(exams["night"], (0.5, 0.6, 0.6), (0.5, 0.7, 0.7))[0]
    assert pooled([("night", first, second), ("night", other, second)], exams) is None
    bare = [
        {**one, "points": [{k: v for k, v in p.items() if k != "right"} for p in one["points"]]}
        for one in (first, second)
    ]
    found = pooled([("night", bare[0], bare[1])], exams)
    assert found is not None and found["flops_interval"] is None
