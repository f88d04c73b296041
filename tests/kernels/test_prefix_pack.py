"""Gated keys and values in a tail's buffer, against a loop, and all twins against each other."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from tailwire.kernels.array_library import ArrayLibrary
from tailwire.kernels.prefix_pack import pack_parameters, prefix_pack

from .twins import compiled

BLOCKS, HEADS, QUESTIONS, ROWS, SIZE = 3, 2, 4, 5, 8


def libraries() -> list[ArrayLibrary | None]:
    return [None, compiled("c"), compiled("c++")]


def made() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    # As a connection's engine gives them.
    rows = rng.normal(size=(QUESTIONS, ROWS, BLOCKS, HEADS, SIZE)).astype(np.float32)
    return rows, rng.uniform(0, 1, (BLOCKS, ROWS)).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_rows_of_all_questions_follow_each_other(dtype: type) -> None:
    rows, gates = made()
    wanted = np.full((BLOCKS, HEADS, 3 + QUESTIONS * ROWS + 2, SIZE), 9, dtype)
    for block in range(BLOCKS):
        for head in range(HEADS):
            for question in range(QUESTIONS):
                for row in range(ROWS):
                    gated = rows[question, row, block, head] * gates[block, row]
                    wanted[block, head, 3 + question * ROWS + row] = gated
    for library in libraries():
        target = np.full(wanted.shape, 9, dtype)
        prefix_pack(rows.transpose(2, 3, 0, 1, 4), gates, target, 3, library=library)
        np.testing.assert_array_equal(target, wanted)


def test_one_block_may_serve_all() -> None:
    rows, gates = made()
    one = np.broadcast_to(rows[0, :, 0].transpose(1, 0, 2)[None, :, None], (3, 2, 1, 5, 8))
    for library in libraries():
        target = np.zeros((BLOCKS, HEADS, ROWS, SIZE), np.float32)
        prefix_pack(one, gates, target, library=library)
        wanted = one[:, :, 0] * gates[:, None, :, None]
        np.testing.assert_array_equal(target, wanted)


def test_the_loop_does_what_the_body_does() -> None:
    rows, gates = made()
    source = rows.transpose(2, 3, 0, 1, 4)
    results = []
    for by_body in (0, 1):
        results.append(np.zeros((BLOCKS, HEADS, QUESTIONS * ROWS, SIZE), np.float32))
        parameters = pack_parameters(source, gates, results[-1], 0)
        addresses = [a.ctypes.data for a in (source, gates, results[-1])]
        compiled("c").prefix_pack(ctypes.addressof(parameters), *addresses, by_body)
    np.testing.assert_array_equal(results[0], results[1])


def test_what_does_not_fit_is_an_error() -> None:
    rows, gates = made()
    source = rows.transpose(2, 3, 0, 1, 4)
    target = np.zeros((BLOCKS, HEADS, QUESTIONS * ROWS, SIZE), np.float32)
    with pytest.raises(ValueError, match="do not fit a buffer"):
        prefix_pack(source, gates, target, 1)
    with pytest.raises(ValueError, match="gates are"):
        prefix_pack(source, gates[:, :-1], target)
    with pytest.raises(ValueError, match="the buffer is"):
        prefix_pack(source, gates, target[:, :1])
    turned, ones = source.swapaxes(3, 4), np.ones((BLOCKS, SIZE), np.float32)
    with pytest.raises(ValueError, match="last axis"):
        prefix_pack(turned, ones, np.zeros((BLOCKS, HEADS, QUESTIONS * SIZE, ROWS), np.float32))
