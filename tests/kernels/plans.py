"""Plans at random for the kernels of decisions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from tailwire.kernels.plan_choice import PlanShares, PossiblePlans, Tangents


@dataclass(frozen=True)
class Plans:
    """What a decision looks at."""

    shares: PlanShares
    possible: PossiblePlans
    costs: NDArray[np.float64]


def plans(
    seed: int,
    *,
    sensors: int = 4,
    variants: int = 3,
    topics: int = 2,
    steps: int | None = None,
    share_possible: float = 0.5,
    bare: float | None = None,
) -> Plans:
    """Random plans; with `steps`, promises and costs have so few values that many are equal."""
    rng = np.random.default_rng(seed)
    states, classes = 3**sensors, max(1, 3**sensors // 4)

    def numbers(*shape: int) -> NDArray[np.float32]:
        found = rng.random(shape)
        # Quarters and the like add up without rounding.
        return (found if steps is None else np.floor(found * steps) / 4).astype(np.float32)

    costs = rng.random((variants, classes))
    return Plans(
        PlanShares(
            worth=numbers(variants, topics),
            least=numbers(variants),
            tangents=Tangents(numbers(topics, states)),
            bare=bare,
        ),
        PossiblePlans(
            fits=rng.random((variants, classes)) < share_possible,
            index=rng.integers(0, classes, states),
            allowed=rng.random(states) < share_possible,
        ),
        costs if steps is None else np.floor(costs * steps) + 1,
    )


@st.composite
def any_plans(draw: st.DrawFn) -> Plans:
    """Of all sizes that decisions have, and of some more."""
    return plans(
        draw(st.integers(0, 2**32 - 1)),
        sensors=draw(st.integers(0, 6)),
        variants=draw(st.sampled_from([1, 2, 8, 31, 32, 33])),
        topics=draw(st.integers(1, 6)),
        steps=draw(st.sampled_from([None, 2, 5])),
        share_possible=draw(st.sampled_from([0.02, 0.5, 1.0])),
        bare=draw(st.sampled_from([None, 0.0, 0.9])),
    )
