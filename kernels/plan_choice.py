"""The best of all plans, by what they promise and whether they are possible.

Every plan is looked at: a variant (depth and precision of the tail) in a state (what each sensor
does). What a plan promises is a sum over topics, of which the plans' variants only differ in
factors; what keeps the budget is known of classes of states. Neither is ever spread over all plans
unless somebody asks for it. The compiled twin is in `plan_choice.c`; results are the same bits.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .plan_library import PlanLibrary, address_of

Float = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Variants that the compiled twin can tell apart; where there are more, numpy does it.
_MOST_VARIANTS = 32
#: States that the compiled twin looks at together, see `plan_choice.c`.
_BLOCK = 256


@dataclass(frozen=True)
class Tangents:
    """What states promise to topics.

    Attributes:
        values: float32 `[topics, states]`.
    """

    values: Float

    @cached_property
    def peaks(self) -> Float:
        """The largest of each row."""
        return self.values.max(axis=1)


@dataclass(frozen=True)
class PlanShares:
    """Expected shares of right answers: `least + worth @ tangents.values`.

    Attributes:
        worth: float32 `[variants, topics]`, at least 0.
        least: float32 `[variants]`.
        tangents: of the topics.
        bare: what every variant promises in state 0, without any sensor; None where that is as in
            the other states.
    """

    worth: Float
    least: Float
    tangents: Tangents
    bare: float | None = None

    @property
    def ceiling(self) -> float:
        """No plan promises more, but for rounding; found without a look at all of them."""
        found = float((self.least + self.worth @ self.tangents.peaks).max())
        return found if self.bare is None else max(found, self.bare)


@dataclass(frozen=True)
class PossiblePlans:
    """Which plans there are to choose from.

    Attributes:
        fits: bool `[variants, classes]`, what keeps the budget.
        index: int64 `[states]`, class of each.
        allowed: bool `[states]`, what can be done at all.
    """

    fits: Mask
    index: NDArray[np.int64]
    allowed: Mask

    def mask(self) -> Mask:
        """`[variants, states]`."""
        return self.fits[:, self.index] & self.allowed


@dataclass(frozen=True)
class FoundPlan:
    """A plan that was chosen.

    Attributes:
        variant: its number.
        state: its number.
        share: that it promises.
    """

    variant: int
    state: int
    share: float


@dataclass(frozen=True)
class BestPlan(FoundPlan):
    """The best plan.

    Attributes:
        most: the most that any plan promises, possible or not.
    """

    most: float


class PlanParameters(ctypes.Structure):
    """`PlanShares` of `plan_choice.c`."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("states", "variants", "topics", "classes")),
        *((name, ctypes.c_void_p) for name in ("tangents", "worth", "least")),
        *((name, ctypes.c_void_p) for name in ("fits", "allowed", "index", "costs")),
        ("bare", ctypes.c_float),
        ("unused", ctypes.c_int32),
    )


def best_plan(
    shares: PlanShares,
    possible: PossiblePlans,
    flops: NDArray[np.float64],
    tie: float,
    *,
    library: PlanLibrary | None = None,
) -> BestPlan | None:
    """The possible plan that promises most.

    Args:
        shares: what plans promise.
        possible: plans to choose from.
        flops: float64 `[variants, classes]`.
        tie: plans that promise less by no more than this are equals: of these, the one with fewest
            FLOPs, then the first in order of variants and states.
        library: None computes in numpy.

    Returns:
        None if no plan is possible.

    Raises:
        ValueError: shapes or dtypes do not fit together.
    """
    variants, states = check_plans(shares, possible)
    check_costs(flops, possible)
    if library is None or not runs_compiled(shares):
        return _best_in_numpy(shares, possible, flops, tie)
    parameters = parameters_of(shares, possible, flops)
    bits = np.empty(flops.shape[1] + states, np.uint32)
    floats = np.empty(2 + variants * (states // _BLOCK + 1), np.float32)
    found = address_of(floats)
    number = library.best(ctypes.addressof(parameters), tie, address_of(bits), found + 8, found)
    if number < 0:
        return None
    return BestPlan(*divmod(number, states), *floats[:2].tolist())


def plan_shares(shares: PlanShares, *, library: PlanLibrary | None = None) -> Float:
    """What every plan promises, float32 `[variants, states]`.

    Args:
        shares: as sums.
        library: None computes in numpy.

    Raises:
        ValueError: shapes or dtypes do not fit together.
    """
    variants, states = check_plans(shares)
    if library is None or not runs_compiled(shares):
        return _shares_in_numpy(shares)
    out = np.empty((variants, states), np.float32)
    parameters = parameters_of(shares)
    library.shares(ctypes.addressof(parameters), address_of(out))
    return out


def runs_compiled(shares: PlanShares) -> bool:
    """Whether the compiled twins can tell these plans apart."""
    return len(shares.least) <= _MOST_VARIANTS and bool(len(shares.tangents.values))


def parameters_of(
    shares: PlanShares,
    possible: PossiblePlans | None = None,
    costs: NDArray[np.float64] | None = None,
) -> PlanParameters:
    """What the compiled twins are given; arguments that were checked."""
    topics, states = shares.tangents.values.shape
    found = PlanParameters(
        states=states,
        variants=len(shares.least),
        topics=topics,
        tangents=address_of(shares.tangents.values),
        worth=address_of(shares.worth),
        least=address_of(shares.least),
        bare=np.nan if shares.bare is None else shares.bare,
    )
    if possible is not None and costs is not None:
        found.classes = possible.fits.shape[1]
        found.fits = address_of(possible.fits)
        found.allowed = address_of(possible.allowed)
        found.index = address_of(possible.index)
        found.costs = address_of(costs)
    return found


def check_costs(costs: NDArray[np.float64], possible: PossiblePlans) -> None:
    """Raise ValueError if costs are not those of these plans."""
    if costs.shape != possible.fits.shape or costs.dtype != np.float64:
        wanted = list(possible.fits.shape)
        raise ValueError(f"costs are float64 {wanted}, got {costs.dtype} {list(costs.shape)}")


def check_plans(shares: PlanShares, possible: PossiblePlans | None = None) -> tuple[int, int]:
    """Numbers of variants and states.

    Raises:
        ValueError: shapes or dtypes do not fit together.
    """
    worth, least, tangents = shares.worth, shares.least, shares.tangents.values
    (variants,), (topics, states) = least.shape, tangents.shape
    if worth.shape != (variants, topics):
        raise ValueError(f"worth is {list(worth.shape)}, not {[variants, topics]}")
    if not worth.dtype == least.dtype == tangents.dtype == np.float32:
        raise ValueError("worth, least and tangents are float32")
    if possible is not None:
        fits, index, allowed = possible.fits, possible.index, possible.allowed
        if (fits.ndim, len(fits), index.shape, allowed.shape) != (
            2,
            variants,
            (states,),
            (states,),
        ):
            raise ValueError(f"what is possible is not of {variants} variants, {states} states")
        if fits.dtype != bool or allowed.dtype != bool or index.dtype != np.int64:
            raise ValueError("fits and allowed are bool, index is int64")
    return variants, states


def _shares_in_numpy(shares: PlanShares) -> Float:
    states = shares.tangents.values.shape[1]
    found = np.repeat(shares.least[:, None], states, axis=1)
    # Row by row, which stays in the cache; in the order in which the compiled twin adds.
    for row, worth in zip(found, shares.worth, strict=True):
        for one, tangents in zip(worth, shares.tangents.values, strict=True):
            row += one * tangents
    if shares.bare is not None:
        found[:, 0] = shares.bare
    return found


def _best_in_numpy(
    shares: PlanShares, possible: PossiblePlans, flops: NDArray[np.float64], tie: float
) -> BestPlan | None:
    promised, mask = _shares_in_numpy(shares), possible.mask()
    if not mask.any():
        return None
    kept = np.where(mask, promised, np.float32(-np.inf))
    near = kept >= np.float32(float(kept.max()) - tie)
    variants, states = np.divmod(np.flatnonzero(near), mask.shape[1])
    best = int(np.argmin(flops[variants, possible.index[states]]))
    variant, state = int(variants[best]), int(states[best])
    return BestPlan(variant, state, float(promised[variant, state]), float(promised.max()))
