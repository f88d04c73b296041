"""How sure accuracies and ratios of an adaptation benchmark are: questions drawn again by scene.

Questions about one scene are alike, so errors are those of scenes. Numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Draws of an interval, and its ends in percent.
DRAWS, ENDS = 2000, (2.5, 97.5)
#: Shares of the same questions differ by this much only where they are equal.
ROUNDING = 1e-12


def standard_error(values: NDArray[np.floating], block: NDArray[np.integer]) -> float | None:
    """Standard error of the mean where values of a block go together.

    The linearised variance of a ratio mean over clusters (Cochran, Sampling Techniques, 1977).

    Args:
        values: `[n]`.
        block: `[n]`, number of the block of each.

    Returns:
        None for fewer than two blocks.
    """
    numbers, place = np.unique(block, return_inverse=True)
    if len(numbers) < 2:
        return None
    sums = np.bincount(place, values - values.mean())
    count = len(numbers)
    return float(np.sqrt(count / (count - 1) * np.square(sums).sum()) / len(values))


def unpacked(points: Sequence[dict[str, Any]], questions: int) -> NDArray[np.bool_] | None:
    """Which questions each look found right, `[looks, questions]`; None for rows of before."""
    if not all("right" in point for point in points):
        return None
    packed = [np.frombuffer(bytes.fromhex(point["right"]), np.uint8) for point in points]
    return np.unpackbits(np.stack(packed), axis=1, count=questions).astype(np.bool_)


def drawn_accuracies(
    right: Sequence[NDArray[np.bool_]], block: NDArray[np.integer], seed: int = 0
) -> list[NDArray[np.float64]]:
    """Accuracies of looks when blocks are drawn again with replacement.

    Args:
        right: of each run `[looks, questions]`, about the same questions.
        block: `[questions]`.
        seed: of the draws.

    Returns:
        Of each run `[DRAWS, looks]`; the same blocks are drawn for all.
    """
    numbers, place = np.unique(block, return_inverse=True)
    rng = np.random.default_rng(seed)
    times = rng.multinomial(len(numbers), np.full(len(numbers), 1 / len(numbers)), DRAWS)
    sizes = times @ np.bincount(place, minlength=len(numbers))
    found = []
    for looks in right:
        sums = np.stack([np.bincount(place, look, minlength=len(numbers)) for look in looks])
        found.append(times @ sums.T / sizes[:, None])
    return found


def costs_at_equal_accuracy(
    ours: NDArray[np.floating],
    theirs: NDArray[np.floating],
    our_flops: NDArray[np.number],
    their_flops: NDArray[np.number],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """What each draw costs until theirs is best, and until ours is as right.

    Args:
        ours: accuracies `[draws, looks]`.
        theirs: likewise, of the same questions.
        our_flops: until each look.
        their_flops: likewise.

    Returns:
        Of each draw theirs, ours (of the first look where it never is), and whether it is.
    """
    as_right = ours >= theirs.max(1, keepdims=True) - ROUNDING
    cost, needed = their_flops[theirs.argmax(1)], our_flops[as_right.argmax(1)]
    return cost.astype(np.float64), needed.astype(np.float64), as_right.any(1)


def interval(values: NDArray[np.floating]) -> list[float]:
    """Of 95 %, from draws."""
    # No mean of two draws: a ratio may be infinite.
    return np.percentile(values, ENDS, method="nearest").tolist()
