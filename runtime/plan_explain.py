"""Why a plan was chosen: the next best one, and what each sensor adds or would add."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..kernels.plan_choice import FoundPlan, PossiblePlans
from .plan_classes import Mask
from .plan_decision import Asked, Decision
from .plan_space import OFF, Float
from .plans import Plan


@dataclass(frozen=True)
class SensorWorth:
    """What a sensor adds to a plan that uses it, or would add to one that does not.

    Attributes:
        share: expected share of right answers, more with it than without it.
        flops: more with it than without it.
        used: whether the plan uses it.
        fits: whether the plan with it keeps the budget.
    """

    share: float
    flops: int
    used: bool
    fits: bool


@dataclass(frozen=True)
class Explanation:
    """A plan beside what else there was.

    Attributes:
        plan: that was chosen.
        runner_up: the best plan in which a sensor does something else; None if there is none.
        sensors: what each sensor adds that has something to give.
        plans: how many plans there were for the questions that are answered.
        fitting: how many of them keep the budget.
    """

    plan: Plan
    runner_up: Plan | None
    sensors: Mapping[str, SensorWorth]
    plans: int
    fitting: int


def explain(
    decision: Decision, chosen: FoundPlan, asked: Asked, possible: PossiblePlans, policy: str
) -> Explanation:
    """Explain the choice of a calibrated policy.

    Args:
        decision: that it was taken in.
        chosen: the plan.
        asked: questions that it answers.
        possible: plans that keep the budget.
        policy: that chose it.
    """
    others = possible.allowed.copy()
    others[chosen.state] = False
    second = decision.best(asked, replace(possible, allowed=others))
    mask = possible.mask()
    return Explanation(
        plan=decision.plan(chosen, asked, policy, chosen.share),
        runner_up=second and decision.plan(second, asked, policy, second.share),
        sensors=_worths(decision, chosen, asked, mask, decision.expected(asked)),
        plans=int(decision.allowed(asked, blind=True).sum()) * len(decision.space.variants),
        fitting=int(mask.sum()),
    )


def _worths(
    decision: Decision,
    chosen: FoundPlan,
    asked: Asked,
    possible: Mask,
    expected: Float,
) -> dict[str, SensorWorth]:
    """Other sensors do as they do in the plan, at the same depth and precision."""
    space, costs = decision.space, decision.costs(asked)
    flops = costs.flops[chosen.variant][costs.index]
    shares, fits = expected[chosen.variant], possible[chosen.variant]
    found: dict[str, SensorWorth] = {}
    for number, sensor in enumerate(space.sensors):
        action, stride = int(space.states[chosen.state, number]), int(space.strides[number])
        without = chosen.state - action * stride
        able = [OFF + a for a in np.flatnonzero(decision.able(sensor, asked)) if a != OFF]
        if not able:
            continue
        actions = [action] if action != OFF else able
        best = max((without + a * stride for a in actions), key=lambda state: shares[state])
        found[sensor] = SensorWorth(
            share=float(shares[best] - shares[without]),
            flops=int(flops[best] - flops[without]),
            used=action != OFF,
            fits=bool(fits[best]),
        )
    return found
