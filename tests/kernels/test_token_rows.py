"""Rows made of tokens, against a loop, and all twins against each other."""

from __future__ import annotations

import numpy as np
import pytest

from tailwire.kernels.token_rows import (
    BROKEN_TOKEN,
    NO_TOKEN,
    TOKEN,
    token_rows,
    token_states,
)

from .twins import compiled

CHOSEN = np.array([4, 0, 2], np.int64)


def made() -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    shapes = ((6, 5), (6, 5), (5, 7), (7,))
    return tuple(rng.normal(size=shape).astype(np.float32) for shape in shapes)


def test_rows_are_chosen_shifted_and_multiplied() -> None:
    tokens, offsets, weights, bias = made()
    wanted = np.zeros((3, 7))
    for row, place in enumerate(CHOSEN):
        for column in range(7):
            wanted[row, column] = bias[column] + sum(
                (float(tokens[place, at]) + float(offsets[place, at])) * float(weights[at, column])
                for at in range(5)
            )
    results = [
        token_rows(tokens, offsets, CHOSEN, weights, bias, library=library)
        for library in (None, compiled("c"), compiled("c++"))
    ]
    for result in results:
        np.testing.assert_allclose(result, wanted, rtol=1e-5)
    np.testing.assert_array_equal(results[1], results[2])


def test_without_weights_they_are_the_shifted_tokens() -> None:
    tokens, offsets, *_ = made()
    for library in (None, compiled("c"), compiled("c++")):
        np.testing.assert_array_equal(
            token_rows(tokens, offsets, CHOSEN, library=library), (tokens + offsets)[CHOSEN]
        )
        assert token_rows(tokens, offsets, CHOSEN[:0], library=library).shape == (0, 5)


def test_zeros_are_no_tokens_and_what_is_not_finite_is_broken() -> None:
    tokens = np.zeros((5, 3), np.float32)
    tokens[1, 2] = 1e-30
    tokens[2] = (np.nan, 0, 1)
    tokens[3, 0] = -np.inf
    tokens[4] = -0.0
    for library in (None, compiled("c"), compiled("c++")):
        states = token_states(tokens, library=library)
        assert states.tolist() == [NO_TOKEN, TOKEN, BROKEN_TOKEN, BROKEN_TOKEN, NO_TOKEN]


def test_what_does_not_fit_is_an_error() -> None:
    tokens, offsets, weights, bias = made()
    with pytest.raises(ValueError, match="offsets are"):
        token_rows(tokens, offsets[1:], CHOSEN)
    with pytest.raises(ValueError, match="not among 6"):
        token_rows(tokens, offsets, CHOSEN + 2)
    with pytest.raises(ValueError, match="int64"):
        token_rows(tokens, offsets, CHOSEN.astype(np.int32))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="weights are"):
        token_rows(tokens, offsets, CHOSEN, weights[1:], bias)
    with pytest.raises(ValueError, match="come with a bias"):
        token_rows(tokens, offsets, CHOSEN, weights)
