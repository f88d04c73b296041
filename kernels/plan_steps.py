"""From a plan to better ones, step by step, each time the step that earns most for its cost.

A step changes what one sensor does, or the variant (depth and precision). The compiled twin is in
`plan_choice.c`; results are the same bits.
"""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from .plan_choice import (
    FoundPlan,
    PlanShares,
    PossiblePlans,
    check_costs,
    check_plans,
    parameters_of,
    runs_compiled,
)
from .plan_library import PlanLibrary

_ACTIONS = 3
#: A step that costs less is taken to cost this.
_LITTLE = 1e-9


def best_steps(
    shares: PlanShares,
    possible: PossiblePlans,
    spending: NDArray[np.float64],
    start: tuple[int, int],
    tie: float,
    *,
    library: PlanLibrary | None = None,
) -> FoundPlan:
    """The plan from which no step to a possible plan promises more.

    Args:
        shares: what plans promise.
        possible: plans that steps may lead to.
        spending: float64 `[variants, classes]`, what plans cost.
        start: variant and state to begin with.
        tie: steps that gain no more than this are not taken.
        library: None computes in numpy.

    Raises:
        ValueError: shapes or dtypes do not fit together, the states are not those of sensors that
            do one of three things, or there is no such start.
    """
    variants, states = check_plans(shares, possible)
    check_costs(spending, possible)
    sensors = _sensors(states)
    if not (0 <= start[0] < variants and 0 <= start[1] < states):
        raise ValueError(f"no plan {start} among {variants} variants and {states} states")
    if library is None or not runs_compiled(shares):
        return _in_numpy(shares, possible, spending, start, tie, sensors)
    parameters = parameters_of(shares, possible, spending)
    found = ctypes.c_float()
    number = library.steps(
        ctypes.addressof(parameters),
        sensors,
        start[0] * states + start[1],
        tie,
        _LITTLE,
        ctypes.addressof(found),
    )
    variant, state = divmod(number, states)
    return FoundPlan(variant, state, found.value)


def _sensors(states: int) -> int:
    sensors, rest = 0, states
    while rest > 1 and rest % _ACTIONS == 0:
        sensors, rest = sensors + 1, rest // _ACTIONS
    if rest != 1:
        raise ValueError(f"{states} states are no power of {_ACTIONS}")
    return sensors


def _in_numpy(
    shares: PlanShares,
    possible: PossiblePlans,
    spending: NDArray[np.float64],
    start: tuple[int, int],
    tie: float,
    sensors: int,
) -> FoundPlan:
    strides = _ACTIONS ** np.arange(sensors)[::-1]
    changes = np.arange(_ACTIONS) * strides[:, None]
    every = np.arange(len(shares.least))
    variant, state = start
    while True:
        own = state // strides % _ACTIONS * strides
        moved = (state + changes - own[:, None]).reshape(-1)
        states = np.concatenate([moved, np.full(len(every), state)])
        variants = np.concatenate([np.full(len(moved), variant), every])
        share = _shares_at(shares, np.array([variant]), np.array([state]))
        classes = possible.index[states]
        fits = possible.fits[variants, classes] & possible.allowed[states]
        gains = np.where(fits, _shares_at(shares, variants, states) - share, np.float32(0))
        added = spending[variants, classes] - spending[variant, possible.index[state]]
        # What costs nothing more is worth any gain.
        rates = np.where(gains > np.float32(tie), gains / np.maximum(added, _LITTLE), 0.0)
        best = int(rates.argmax())
        if rates[best] == 0:
            return FoundPlan(variant, state, float(share[0]))
        variant, state = int(variants[best]), int(states[best])


def _shares_at(
    shares: PlanShares, variants: NDArray[np.int64], states: NDArray[np.int64]
) -> NDArray[np.float32]:
    found = shares.least[variants]
    for worth, tangents in zip(shares.worth.T, shares.tangents.values, strict=True):
        found += worth[variants] * tangents[states]
    return found if shares.bare is None else np.where(states == 0, np.float32(shares.bare), found)
