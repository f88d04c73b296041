"""How questions are cut into passes of a bounded size."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from tailwire.runtime.passes import (
    MAX_PACKED_TOKENS,
    question_passes,
    split_passes,
)


def test_passes_keep_the_order_and_the_limit() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        lengths = rng.integers(1, 60, rng.integers(1, 20)).tolist()
        parts = [lengths[part] for part in split_passes(lengths, 64)]
        assert [n for part in parts for n in part] == lengths
        assert all(sum(part) <= 64 or len(part) == 1 for part in parts)
        assert all(sum(a) + b[0] > 64 for a, b in pairwise(parts))


def test_passes_of_questions_are_as_few_as_may_be_and_none_could_be_smaller() -> None:
    rng = np.random.default_rng(1)
    for _ in range(100):
        lengths = rng.integers(1, 60, rng.integers(1, 30)).tolist()
        parts = [lengths[part] for part in question_passes(lengths)]
        assert [n for part in parts for n in part] == lengths
        assert len(parts) == len(split_passes(lengths, MAX_PACKED_TOKENS))
        largest = max(map(sum, parts))
        assert largest <= MAX_PACKED_TOKENS
        # With one token less in the largest pass there would be more passes.
        assert len(split_passes(lengths, largest - 1)) > len(parts) or len(lengths) == 1
    assert [part.stop for part in question_passes([20] * 8)] == [8]
    assert [part.stop for part in question_passes([20] * 12)] == [6, 12]
    # What is longer than any pass has one of its own, and the others are as they would be.
    assert [part.stop for part in question_passes([20, 500, 20])] == [1, 2, 3]
    assert question_passes([]) == []
