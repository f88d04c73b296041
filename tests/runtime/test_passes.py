"""How questions are cut into passes of a bounded size."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from tailwire.runtime.passes import split_passes


def test_passes_keep_the_order_and_the_limit() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        lengths = rng.integers(1, 60, rng.integers(1, 20)).tolist()
        parts = [lengths[part] for part in split_passes(lengths, 64)]
        assert [n for part in parts for n in part] == lengths
        assert all(sum(part) <= 64 or len(part) == 1 for part in parts)
        assert all(sum(a) + b[0] > 64 for a, b in pairwise(parts))
