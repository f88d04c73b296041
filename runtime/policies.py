"""Policies by name: what to run in a frame, chosen from all plans that fit the budget.

`fixed` decides nothing (`scheduler.py`). `round_robin` needs no calibration: encoders take turns.
`greedy` and `optimal` go by how often plans are right; where a pack does not say, they do as
`fixed` does, and the plan says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, get_args

import numpy as np

from ..kernels.plan_choice import BestPlan, PossiblePlans
from .errors import ConfigError
from .plan_arrays import CostArrays
from .plan_classes import Mask, Numbers
from .plan_decision import TIE, Asked, Chosen, Decision
from .plan_explain import Explanation, explain
from .plan_search import PlanSearch
from .plan_space import REUSE, RUN
from .plans import Budget, Plan
from .scheduler import FixedPolicy, PlanRequest, Policy, QuestionDemand

PolicyName = Literal["fixed", "round_robin", "greedy", "optimal"]
_NO_LIMIT = Budget()
POLICY_NAMES: tuple[PolicyName, ...] = get_args(PolicyName)


class RoundRobinPolicy:
    """Encoders take turns, as many in a frame as fit, at the configured depth and precision.

    The sensor whose tokens are oldest is the next to run; one that has none comes first. A sensor
    that cannot run within the budget, or has no new frame, gives the tokens it has, if those fit.
    """

    def __init__(self) -> None:
        self._search = PlanSearch()

    def choose(self, request: PlanRequest) -> Plan:
        """See `Policy.choose`."""
        variant = (request.tail_blocks, request.precision)
        # What is known of answers does not count here.
        decision = self._search.open(replace(request, utility=None), (variant,))
        asked, possible = decision.that_fit(_mask_of)
        state = decision.smallest(asked)
        for sensor in self._turns(decision):
            number = decision.space.sensors.index(sensor)
            stride = int(decision.space.strides[number])
            off = state - int(decision.space.states[state, number]) * stride
            for action in (RUN, REUSE):
                if possible[0, off + action * stride]:
                    state = off + action * stride
                    break
        return decision.plan(Chosen(0, state), asked, "round_robin")

    @staticmethod
    def _turns(decision: Decision) -> list[str]:
        """Sensors with a new frame first, of these the one that ran longest ago."""

        def turn(sensor: str) -> tuple[bool, float]:
            state = decision.request.sensors[sensor]
            age_ms = np.inf if state.held_age_ms is None else state.held_age_ms
            return state.fresh_age_ms is None, -age_ms

        return sorted(decision.space.sensors, key=turn)


class GreedyPolicy:
    """Takes the step that earns most for its cost, again and again, until none fits.

    It begins with the cheapest plan. A step changes what one sensor does, or the depth and
    precision. Cost is the share of the limits that a step takes, added over all limits; without
    limits, FLOPs.
    """

    def __init__(self) -> None:
        self._search = PlanSearch()
        self._fixed = FixedPolicy()

    def choose(self, request: PlanRequest) -> Plan:
        """See `Policy.choose`."""
        if request.utility is None:
            return _without_calibration(self._fixed, request, "greedy")
        decision = self._search.open(request)
        asked, start = decision.that_fit(partial(_Start.of, decision))
        found = decision.steps(asked, start.possible, start.spending, start.plan)
        return decision.plan(found, asked, "greedy", found.share)


@dataclass(frozen=True)
class _Start:
    """What `greedy` begins with.

    Attributes:
        plan: the cheapest, the first of equals.
        possible: plans that keep the budget.
        spending: `[variants, classes]`, shares of all limits that plans take, added; without
            limits, their FLOPs.
    """

    plan: Chosen
    possible: PossiblePlans
    spending: Numbers

    @classmethod
    def of(cls, decision: Decision, asked: Asked, possible: PossiblePlans) -> _Start | None:
        """None if no plan is possible: costs only grow with sensors, so few plans tell."""
        spending = _spending(decision.costs(asked), decision.request.budget)
        blind = bool(possible.allowed[decision.smallest(asked)])
        states = decision.small_states(asked, blind=blind)
        classes = possible.index[states]
        fits = possible.fits[:, classes] & possible.allowed[states]
        if not fits.any():
            return None
        spent = np.where(fits, spending[:, classes], np.inf)
        variant, state = divmod(int(np.argmin(spent)), len(states))
        return cls(Chosen(variant, int(states[state])), possible, spending)


class OptimalPolicy:
    """The plan with the highest expected share of right answers, of all that fit.

    Where it is known what the last answers are worth, and there is a limit and a better plan beyond
    it, half or a quarter of the questions may be answered instead, by a better plan, if that
    promises more right answers, each counting as much as its question's priority.
    """

    def __init__(self) -> None:
        self._search = PlanSearch()
        self._fixed = FixedPolicy()

    def choose(self, request: PlanRequest) -> Plan:
        """See `Policy.choose`."""
        if request.utility is None:
            return _without_calibration(self._fixed, request, "optimal")
        decision = self._search.open(request)
        best = self._best(decision)
        return decision.plan(best.plan, best.asked, "optimal", best.plan.share)

    def explain(self, request: PlanRequest) -> Explanation:
        """The plan that `choose` chooses, beside what else there was.

        Raises:
            BudgetError: as `choose`.
            ConfigError: as `choose`; or the pack is not calibrated.
        """
        if request.utility is None:
            raise ConfigError(
                "nothing is known of how often its plans are right",
                field="pack",
                remedy="measure it with tailwire calibrate",
            )
        decision = self._search.open(request)
        best = self._best(decision)
        return explain(decision, best.plan, best.asked, best.possible, "optimal")

    @staticmethod
    def _best(decision: Decision) -> _Found:
        asked, best = decision.that_fit(partial(_Found.of, decision))
        queue, questions = decision.queue, decision.request.questions
        value = _value(questions, asked, best.plan.share)
        # There may be a better plan that does not fit for so many.
        if decision.request.budget == _NO_LIMIT or best.plan.most <= best.plan.share + TIE:
            return best
        for left in _fewer(len(asked), queue.must):
            if any(questions[i].held_share is None for i in queue.order[left : len(asked)]):
                break
            fewer = queue.first(left)
            # Not even a plan without limits would be worth it.
            if _value(questions, fewer, decision.shares(fewer).ceiling) <= value:
                continue
            other = _Found.of(decision, fewer, decision.possible(fewer))
            if other is None:
                continue
            promised = _value(questions, fewer, other.plan.share)
            if promised > value + TIE:
                best, value = other, promised
        return best


@dataclass(frozen=True)
class _Found:
    """The best plan for some questions.

    Attributes:
        plan: the best one.
        asked: the questions.
        possible: plans that keep the budget.
    """

    plan: BestPlan
    asked: Asked
    possible: PossiblePlans

    @classmethod
    def of(cls, decision: Decision, asked: Asked, possible: PossiblePlans) -> _Found | None:
        """None if no plan is possible."""
        plan = decision.best(asked, possible)
        return None if plan is None else cls(plan, asked, possible)


def _fewer(count: int, least: int) -> list[int]:
    """Half and a quarter of the questions, rounded up; what pays need not pay for one fewer.

    A sensor that is dear may pay for few questions only, so the counts between tell nothing.
    """
    return [
        left for left in dict.fromkeys((-(-count // 2), -(-count // 4))) if least <= left < count
    ]


def _value(questions: Sequence[QuestionDemand], asked: tuple[int, ...], share: float) -> float:
    """Right answers to expect, each counting as much as its question's priority.

    Last answers of unknown worth count nothing; such questions are never left out for their value.
    """
    total = 0.0
    for index, question in enumerate(questions):
        one = share if index in asked else question.held_share or 0.0
        total += question.priority * one
    return total


def _mask_of(_: Asked, possible: PossiblePlans) -> Mask | None:
    mask = possible.mask()
    return mask if mask.any() else None


def _spending(costs: CostArrays, budget: Budget) -> Numbers:
    """Shares of all limits that plans take, added; without limits, their FLOPs."""
    limits = (
        (budget.flops, costs.flops),
        (budget.latency_ms, costs.latency_ms if budget.latency_ms else None),
        (budget.energy_mj, costs.energy_mj if budget.energy_mj else None),
        (budget.memory_bytes, costs.memory_bytes if budget.memory_bytes else None),
    )
    shares = [need / limit for limit, need in limits if limit is not None and need is not None]
    # Times that were never measured tell nothing of what a step costs.
    known = [np.where(np.isfinite(share), share, 0.0) for share in shares]
    return np.ascontiguousarray(sum(known[1:], start=known[0])) if known else costs.flops


def _without_calibration(fixed: FixedPolicy, request: PlanRequest, name: str) -> Plan:
    plan = fixed.choose(request)
    why = f"policy '{name}' needs a calibrated pack and this one is not: did as 'fixed'"
    return plan.model_copy(update={"note": why if plan.note is None else f"{why}; {plan.note}"})


_POLICIES: Mapping[PolicyName, Callable[[], Policy]] = {
    "fixed": FixedPolicy,
    "round_robin": RoundRobinPolicy,
    "greedy": GreedyPolicy,
    "optimal": OptimalPolicy,
}


def make_policy(name: str) -> Policy:
    """A new policy; each runtime has one of its own.

    Raises:
        ConfigError: there is none of this name.
    """
    for known, make in _POLICIES.items():
        if known == name:
            return make()
    raise ConfigError(
        f"there is no policy '{name}'",
        field="policy",
        remedy=f"use one of {', '.join(POLICY_NAMES)}",
    )
