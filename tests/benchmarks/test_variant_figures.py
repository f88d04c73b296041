"""What precision costs, from answers: paired over questions, drawn again by scene."""

from __future__ import annotations

import numpy as np
import pytest

from tailwire.benchmarks.variant_figures import paired_difference


def test_a_difference_is_paired_and_in_points() -> None:
    scenes = ["a"] * 4 + ["b"] * 4
    reference = [True, True, False, False, True, True, True, False]
    variant = [True, False, False, True, True, False, True, False]
    found = paired_difference(scenes, variant, reference)
    assert found["difference_points"] == pytest.approx(-12.5)
    assert (found["lost"], found["won"]) == (2, 1)
    low, high = found["difference_interval_95"]
    # Scene a has lost as much as it has won, scene b one of four.
    assert (low, high) == (-25.0, 0.0)


def test_what_all_scenes_share_has_no_spread() -> None:
    rng = np.random.default_rng(0)
    scenes = [str(place) for place in range(20) for _ in range(10)]
    reference = rng.random(200) < 0.5
    same = paired_difference(scenes, reference.tolist(), reference.tolist())
    assert same["difference_interval_95"] == [0.0, 0.0] and same["lost"] == same["won"] == 0
    worse = reference.copy()
    for scene in range(20):
        worse[scene * 10 + int(np.argmax(reference[scene * 10 : scene * 10 + 10]))] = False
    found = paired_difference(scenes, worse.tolist(), reference.tolist())
    assert found["difference_points"] == pytest.approx(-10)
    assert found["difference_interval_95"] == [pytest.approx(-10), pytest.approx(-10)]


def test_one_scene_has_no_interval() -> None:
    found = paired_difference(["a", "a"], [True, False], [False, False])
    assert found["difference_interval_95"] is None and found["difference_points"] == 50
