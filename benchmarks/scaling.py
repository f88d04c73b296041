"""How costs grow along one thing at a time, with slopes: are they what the design promises?

Knows nothing of models: an axis is given as runs by size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .measure import interleave

METHOD = (
    "Sizes of an axis run interleaved in rotating order; medians. slope: median of slopes between "
    "all pairs of sizes (Theil and Sen). exponent: of a power law through cost over size, by least "
    "squares of logarithms; below 1 cost grows slower than size, as where there is a fixed part. "
    "steepest_over_first: what one more costs between the two neighbouring sizes where it costs "
    "most, over what it costs between the first two; 1 is a straight line. Where what is added "
    "differs (sensors), most_over_alone: what one more costs beside the others over what it costs "
    "alone, without the frame's fixed part, where that is most. no_faster_than_linear is said "
    "of counted FLOPs, where that, or else steepest_over_first, is 1.05 or less; "
    "time_no_faster_than_linear of times, which jump about, where the exponent is 1.05 or less."
)
_STRAIGHT = 1.05


@dataclass(frozen=True)
class Axis:
    """Something that grows.

    Attributes:
        name: of what grows.
        runs: by size, ascending; each runs once and returns the counted FLOPs.
        what: what a run does and what stays the same.
        alone: where what is added differs from size to size: by size, FLOPs of a run with nothing
            but what came last; and by 0 of one with nothing at all.
    """

    name: str
    runs: Mapping[int, Callable[[], int]]
    what: str
    alone: Mapping[int, Callable[[], int]] | None = None


def measure_axis(
    axis: Axis, *, rounds: int, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Time all sizes of an axis and fit how cost grows.

    Args:
        axis: with at least two sizes.
        rounds: counted runs of each size.
        progress: called with (rounds done, rounds in all).
    """
    flops: dict[str, int] = {}

    def noted(name: str, run: Callable[[], int]) -> Callable[[], None]:
        def call() -> None:
            flops[name] = run()

        return call

    variants = {str(size): noted(str(size), run) for size, run in axis.runs.items()}
    timings = interleave(variants, rounds=rounds, warm_up=1, progress=progress)
    sizes = list(axis.runs)
    medians = [timings[str(size)].summary()["median"] for size in sizes]
    counted = [flops[str(size)] for size in sizes]
    counts = growth(sizes, counted)
    steepest = counts["steepest_over_first"]
    if axis.alone is not None:
        alone = {size: run() for size, run in axis.alone.items()}
        steepest = counts["most_over_alone"] = most_over_alone(sizes, counted, alone)
    return {
        "what": axis.what,
        "sizes": sizes,
        "ms": medians,
        "flops": counted,
        "time": growth(sizes, medians),
        "counted": counts,
        "no_faster_than_linear": steepest is not None and steepest <= _STRAIGHT,
        "time_no_faster_than_linear": grows_no_faster(growth(sizes, medians)),
    }


def most_over_alone(
    sizes: Sequence[int], costs: Sequence[int], alone: Mapping[int, int]
) -> float | None:
    """What one more costs beside the others over what it costs alone, where that is most.

    Args:
        sizes: ascending by one.
        costs: of each size.
        alone: see `Axis.alone`.
    """
    steps = zip(sizes[1:], costs, costs[1:], strict=False)
    ratios = [
        (more - less) / (alone[size] - alone[0])
        for size, less, more in steps
        if alone[size] > alone[0]
    ]
    return max(ratios, default=None)


def grows_no_faster(found: Mapping[str, Any]) -> bool:
    """Whether the power law of a growth is that of a straight line or below."""
    exponent = found["exponent"]
    return exponent is not None and exponent <= _STRAIGHT


def growth(sizes: Sequence[float], costs: Sequence[float]) -> dict[str, Any]:
    """Slope, intercept, exponent, and how much steeper it becomes.

    Args:
        sizes: ascending, above 0.
        costs: of each size.
    """
    x, y = np.asarray(sizes, np.float64), np.asarray(costs, np.float64)
    first, second = np.triu_indices(len(x), k=1)
    slope = float(np.median((y[second] - y[first]) / (x[second] - x[first])))
    intercept = float(np.median(y - slope * x))
    positive = y > 0
    exponent = None
    if positive.sum() > 1:
        exponent = float(np.polyfit(np.log(x[positive]), np.log(y[positive]), 1)[0])
    steps = np.diff(y) / np.diff(x)
    steepest = float(steps.max() / steps[0]) if steps[0] > 0 else None
    return {
        "slope": slope,
        "intercept": intercept,
        "exponent": exponent,
        "steepest_over_first": steepest,
    }
