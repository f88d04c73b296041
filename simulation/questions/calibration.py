"""Whether a confidence can be trusted, and what it is worth to keep silent where it is low.

Knows confidences and whether answers were right, nothing of what was asked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import DataError

BINS = 15
COVERAGES = tuple(percent / 100 for percent in range(10, 101, 10))


@dataclass(frozen=True)
class ReliabilityBin:
    """Answers whose confidence lies in `(low, high]`; the first bin has 0 too.

    Attributes:
        low: left edge.
        high: right edge.
        questions: how many.
        confidence: their mean, None without any.
        accuracy: share of right ones, None without any.
    """

    low: float
    high: float
    questions: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Reliability:
    """How confidences and right answers go together.

    Attributes:
        error: expected calibration error, 0 to 1.
        brier: mean of `(confidence - right)^2` of the answers that were given, 0 to 1. (Brier
            1950 sums over all classes; only the confidence of the given answer is known here.)
        confidence: mean.
        bins: equally wide, from 0 to 1.
    """

    error: float
    brier: float
    confidence: float
    bins: tuple[ReliabilityBin, ...]


@dataclass(frozen=True)
class CoveragePoint:
    """What is right when only the surest answers are given.

    Attributes:
        coverage: share of questions that are answered, 0 to 1.
        questions: how many, rounded up.
        accuracy: of these.
        least_confidence: of these; a threshold that gives this coverage.
    """

    coverage: float
    questions: int
    accuracy: float
    least_confidence: float


def reliability(
    confidences: Sequence[float], right: Sequence[bool], bins: int = BINS
) -> Reliability:
    """Expected calibration error and the bins behind it.

    With the answers in `bins` bins of equal width by their confidence, bin m is `((m - 1) / bins,
    m / bins]`, and the error is the sum over bins of their share of answers times
    `|accuracy - mean confidence|` (Guo et al., On Calibration of Modern Neural Networks,
    1706.04599, equations 2 and 3; after Naeini et al., AAAI 2015).

    Args:
        confidences: 0 to 1, at least one.
        right: whether each answer was right.
        bins: how many.

    Raises:
        DataError: there is none, not one of each, or a confidence is out of range.
    """
    sure, hits = _checked(confidences, right)
    edges = np.arange(bins + 1) / bins
    place = np.digitize(sure, edges[1:-1], right=True)
    found: list[ReliabilityBin] = []
    error = 0.0
    for number in range(bins):
        inside = place == number
        count = int(inside.sum())
        confidence = float(sure[inside].mean()) if count else None
        accuracy = float(hits[inside].mean()) if count else None
        if confidence is not None and accuracy is not None:
            error += count / len(sure) * abs(accuracy - confidence)
        low, high = float(edges[number]), float(edges[number + 1])
        found.append(ReliabilityBin(low, high, count, confidence, accuracy))
    return Reliability(
        error=error,
        brier=float(((sure - hits) ** 2).mean()),
        confidence=float(sure.mean()),
        bins=tuple(found),
    )


def coverage_curve(
    confidences: Sequence[float],
    right: Sequence[bool],
    coverages: Sequence[float] = COVERAGES,
) -> list[CoveragePoint]:
    """Accuracy of the surest answers, for several shares of them.

    Where answers of one confidence are cut apart, each of them counts as right as all of them are
    on average: their order is an accident.

    Args:
        confidences: 0 to 1, at least one.
        right: whether each answer was right.
        coverages: shares, above 0 up to 1.

    Raises:
        DataError: there is none, not one of each, or a confidence is out of range.
    """
    sure, hits = _checked(confidences, right)
    order = np.argsort(-sure, kind="stable")
    sure, hits = sure[order], hits[order]
    _, group, size = np.unique(-sure, return_inverse=True, return_counts=True)
    share = np.bincount(group, weights=hits) / size
    found = np.cumsum(share[group])
    points: list[CoveragePoint] = []
    for coverage in coverages:
        # 0.1 * 30 is a little more than 3.
        count = min(max(1, math.ceil(coverage * len(sure) - 1e-9)), len(sure))
        accuracy = float(found[count - 1]) / count
        points.append(CoveragePoint(coverage, count, accuracy, float(sure[count - 1])))
    return points


def _checked(
    confidences: Sequence[float], right: Sequence[bool]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    sure, hits = np.asarray(confidences, np.float64), np.asarray(right, np.float64)
    problem = None
    if not sure.size:
        problem = "there is no answer"
    elif sure.shape != hits.shape:
        problem = f"there are {sure.size} confidences of {hits.size} answers"
    elif not ((sure >= 0) & (sure <= 1)).all():
        problem = "a confidence is not between 0 and 1"
    if problem is not None:
        raise DataError(problem, field="confidences", remedy="give one from 0 to 1 per answer")
    return sure, hits
