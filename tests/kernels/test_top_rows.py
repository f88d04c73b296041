"""The best of the allowed rows against a full sort, and all twins against each other."""

from __future__ import annotations

import numpy as np
import pytest

from tailwire.kernels.top_rows import BLOCK, top_rows

from .twins import compiled

SIZE, VOCABULARY = 64, 500


def table(coded: bool) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    rng = np.random.default_rng(1)
    if not coded:
        values = rng.normal(size=(VOCABULARY, SIZE)).astype(np.float32)
        return values, None, values
    codes = rng.integers(-127, 128, (VOCABULARY, SIZE)).astype(np.int8)
    scales = rng.uniform(0.001, 0.1, (VOCABULARY, SIZE // BLOCK)).astype(np.float32)
    return codes, scales, codes * np.repeat(scales, BLOCK, axis=1)


@pytest.mark.parametrize("coded", [False, True])
@pytest.mark.parametrize(("allowed", "best"), [(1, 1), (30, 5), (30, 30), (VOCABULARY, 3)])
def test_the_best_are_those_of_a_full_sort(coded: bool, allowed: int, best: int) -> None:
    rng = np.random.default_rng(2)
    values, scales, dense = table(coded)
    states = rng.normal(size=(4, SIZE)).astype(np.float32)
    rows = rng.permutation(VOCABULARY)[:allowed]
    exact = states.astype(np.float64) @ dense[rows].astype(np.float64).T
    wanted = np.argsort(-exact, axis=1, kind="stable")[:, :best]
    results = [
        top_rows(states, values, scales, rows, best, library=library)
        for library in (None, compiled("c"), compiled("c++"))
    ]
    for places, scores in results:
        np.testing.assert_array_equal(places, wanted)
        np.testing.assert_allclose(scores, np.take_along_axis(exact, wanted, 1), rtol=1e-4)
    np.testing.assert_array_equal(results[1][1], results[2][1])


def test_equal_scores_keep_their_order() -> None:
    values = np.ones((6, SIZE), np.float32)
    values[3] = 2
    states = np.ones((1, SIZE), np.float32)
    for library in (None, compiled("c"), compiled("c++")):
        places, _ = top_rows(states, values, None, np.arange(6), 4, library=library)
        assert places.tolist() == [[3, 0, 1, 2]]


def test_what_does_not_fit_is_an_error() -> None:
    values, scales, _ = table(coded=True)
    states = np.zeros((1, SIZE), np.float32)
    some = np.arange(3)
    with pytest.raises(ValueError, match="states are"):
        top_rows(states[:, :-1], values, scales, some, 1)
    with pytest.raises(ValueError, match="not float32"):
        top_rows(states, values, None, some, 1)
    with pytest.raises(ValueError, match="scales are"):
        top_rows(states, values, scales[:-1] if scales is not None else None, some, 1)
    with pytest.raises(ValueError, match="4 of 3 rows"):
        top_rows(states, values, scales, some, 4)
    with pytest.raises(ValueError, match="not in the table"):
        top_rows(states, values, scales, np.asarray([VOCABULARY]), 1)
