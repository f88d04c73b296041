"""One decision: which plans are possible now, which questions fit, and the best plan of all.

Every plan of a space is looked at, so what is found is the best one there is. A policy says what it
wants of a decision (`policies.py`).

**What can be done with a sensor** in a frame: run its encoder if a frame waits, reuse tokens that
are there and young enough, or leave it off. A sensor that is pinned on, or that a question to be
answered now needs, is not off; pinned on, a frame that waits is encoded; pinned off, it is off.

**Which questions are answered**: as many as fit, in the order of `plan_questions.py`. "Fits" is
asked of plans with at least one sensor, for the last answer is worth more than one given blind;
only where no such plan fits, a plan without sensors answers those that must be.

**Ties**: of plans whose expected shares differ by less than `TIE`, the one with fewest FLOPs; of
those, the first in the order of variants and states.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from ..kernels.plan_choice import (
    BestPlan,
    FoundPlan,
    PlanShares,
    PossiblePlans,
    best_plan,
    plan_shares,
)
from ..kernels.plan_steps import best_steps
from .compiled_kernels import compiled_plans
from .errors import BudgetError
from .plan_arrays import CostArrays, Moment, PlanArrays
from .plan_classes import Indices, Mask, Numbers
from .plan_costs import PlanCost, PlanFormulas
from .plan_questions import QuestionQueue, needed_sensors, queue_of, weights_of
from .plan_space import ACTIONS, OFF, Float, PlanSpace
from .plans import Plan
from .scheduler import BoundUtility, PlanRequest, SensorState, UtilityModel, limit_text

_Found = TypeVar("_Found")

#: Which of off, reuse and run a sensor can do.
Able = tuple[bool, bool, bool]
#: Indices of questions, in the order in which they were asked.
Asked = tuple[int, ...]

#: Expected shares closer than this are equal; float32 sums in another order differ by less.
TIE = 1e-6
#: Sets of possible states that are kept of each space, 6.5 kB each.
_KEPT_ALLOWED = 256


@dataclass(frozen=True)
class Chosen:
    """One plan of a space."""

    variant: int
    state: int


@dataclass(frozen=True)
class OpenSpace:
    """A space with what belongs to it, kept from decision to decision.

    Attributes:
        formulas: of the runtime.
        utility: that `bound` is of.
        space: the plans.
        arrays: their costs.
        bound: how often they are right; None where the pack is not calibrated.
        allowed: by what each sensor can do, and whether plans may be blind, the possible states.
    """

    formulas: PlanFormulas
    utility: UtilityModel | None
    space: PlanSpace
    arrays: PlanArrays
    bound: BoundUtility | None
    allowed: dict[tuple[tuple[Able, ...], bool], Mask]


class Decision:
    """All plans of a space, for one request."""

    def __init__(self, request: PlanRequest, opened: OpenSpace) -> None:
        self.request = request
        self.space = opened.space
        self._bound = opened.bound
        self._allowed = opened.allowed
        self._library, _ = compiled_plans()
        # Where there are no tokens to reuse it makes no difference, and fewer cases are kept.
        prepared = [s for s, x in request.sensors.items() if x.connected or x.held_age_ms is None]
        self._moment: Moment = opened.arrays.at(request.costs, prepared)
        self._asking: dict[tuple[int, ...], CostArrays] = {}

    @cached_property
    def queue(self) -> QuestionQueue:
        """The questions in the order in which they are answered."""
        states = self.request.sensors
        return queue_of(self.request, {s for s in self.space.sensors if states[s].usable})

    def that_fit(
        self, look: Callable[[Asked, PossiblePlans], _Found | None]
    ) -> tuple[Asked, _Found]:
        """The questions that are answered now, and what was found among plans that can do it.

        Args:
            look: at the plans that can answer questions; gives None if there are none.

        Raises:
            BudgetError: no plan fits.
        """
        least, most = self.queue.must, len(self.queue.order)
        asked = self.queue.first(most)
        found = look(asked, self.possible(asked))
        if found is None:
            count = self._most(least, most, lambda n: self._fits(n, blind=False))
            asked = self.queue.first(least if count is None else count)
            found = look(asked, self.possible(asked, blind=count is None))
        if found is None:
            raise self._impossible()
        return asked, found

    def possible(self, asked: Asked, *, blind: bool = False) -> PossiblePlans:
        """Plans that can answer these questions and keep the budget.

        Args:
            asked: questions that are answered.
            blind: whether a plan may do without any sensor where there are some.
        """
        return PossiblePlans(
            fits=self._fitting(asked),
            index=self.costs(asked).index,
            allowed=self.allowed(asked, blind=blind),
        )

    def _fitting(self, asked: Sequence[int]) -> Mask:
        """`[variants, classes]`: what keeps the budget."""
        return self.costs(asked).within(self.request.budget)

    @staticmethod
    def _most(least: int, most: int, fits: Callable[[int], bool]) -> int | None:
        """The largest count below `most`, which does not fit; None if none does.

        More never fits better.
        """
        if least >= most or not fits(least):
            return None
        while most - least > 1:
            middle = (least + most) // 2
            if fits(middle):
                least = middle
            else:
                most = middle
        return least

    def _fits(self, count: int, *, blind: bool) -> bool:
        """Whether any plan can answer so many questions.

        Costs only grow with sensors, so it is enough to look at plans with as few as may be.
        """
        asked = self.queue.first(count)
        states = self.small_states(asked, blind=blind)
        return bool(self._fitting(asked)[:, self.costs(asked).index[states]].any())

    def smallest(self, asked: Sequence[int]) -> int:
        """The state in which no sensor is used that need not be."""
        return int(self.small_states(asked, blind=True)[0])

    def small_states(self, asked: Sequence[int], *, blind: bool) -> Indices:
        """States from which no sensor can be taken away, nor be reused where it runs.

        Args:
            asked: questions that are answered.
            blind: whether a plan may do without any sensor where there are some.
        """
        base, alone = 0, []
        strides = self.space.strides.tolist()
        for stride, possible in zip(strides, self._actions(asked), strict=True):
            least = possible.index(True)
            base += least * stride
            if least == OFF and any(possible[1:]):
                alone.append((1 + possible[1:].index(True)) * stride)
        if blind or base or not alone:
            return np.array([base], dtype=np.intp)
        return np.array(alone, dtype=np.intp)

    def allowed(self, asked: Sequence[int], *, blind: bool) -> Mask:
        """`[states]`: what can be done now; arguments as `small_states`."""
        able = tuple(self._actions(asked))
        found = self._allowed.get((able, blind))
        if found is None:
            blocked = 1 - np.array(able, dtype=np.float32).reshape(-1, ACTIONS)
            found = self.space.totals(blocked) == 0
            if not blind and found[1:].any():
                found[0] = False
            if len(self._allowed) >= _KEPT_ALLOWED:
                self._allowed.clear()
            self._allowed[able, blind] = found
        return found

    def _actions(self, asked: Sequence[int]) -> list[Able]:
        """For each sensor, which of off, reuse and run it can do.

        Args:
            asked: questions that are answered; the sensors that they need are not off.
        """
        needed = needed_sensors(self.request.questions, asked)
        return [able_to(self.request.sensors[s], s in needed) for s in self.space.sensors]

    def able(self, sensor: str, asked: Sequence[int]) -> Able:
        """Which of off, reuse and run a sensor can do; see `allowed`."""
        return self._actions(asked)[self.space.sensors.index(sensor)]

    def costs(self, asked: Sequence[int]) -> CostArrays:
        """Of all plans that answer these questions."""
        key = tuple(asked)
        if key not in self._asking:
            lengths = [self.request.questions[i].length for i in key]
            self._asking[key] = self._moment.asking(lengths)
        return self._asking[key]

    def shares(self, asked: Sequence[int]) -> PlanShares:
        """Expected shares of right answers to these questions, of every plan."""
        if self._bound is None:
            raise ValueError("the pack is not calibrated, so nothing is known of expected answers")
        weights = weights_of(self.request.questions, asked)
        return self._bound.shares(weights, self.request.condition, self._ages_ms)

    def expected(self, asked: Sequence[int]) -> Float:
        """`shares`, spread over all plans, `[variants, states]`."""
        return plan_shares(self.shares(asked), library=self._library)

    def steps(
        self, asked: Sequence[int], possible: PossiblePlans, spending: Numbers, start: Chosen
    ) -> FoundPlan:
        """Where steps from a plan lead that earn most for their cost; see `best_steps`.

        Args:
            asked: questions that are answered.
            possible: plans that steps may lead to.
            spending: `[variants, classes]`, what plans cost.
            start: the plan to begin with.
        """
        at, shares = (start.variant, start.state), self.shares(asked)
        return best_steps(shares, possible, spending, at, TIE, library=self._library)

    def best(self, asked: Sequence[int], possible: PossiblePlans) -> BestPlan | None:
        """The plan with the highest expected share; ties as this module says.

        Args:
            asked: questions that are answered.
            possible: plans to choose from.

        Returns:
            None if no plan is possible.
        """
        flops = self.costs(asked).flops
        return best_plan(self.shares(asked), possible, flops, TIE, library=self._library)

    @cached_property
    def _ages_ms(self) -> Float:
        states = [self.request.sensors[sensor] for sensor in self.space.sensors]
        pairs = [(s.held_age_ms or 0.0, s.fresh_age_ms or 0.0) for s in states]
        return np.array(pairs, dtype=np.float32).reshape(-1, 2)

    def cost(self, chosen: Chosen | FoundPlan, asked: Sequence[int]) -> PlanCost:
        """What a plan costs."""
        return self.costs(asked).one(chosen.variant, chosen.state)

    def plan(
        self,
        chosen: Chosen | FoundPlan,
        asked: Sequence[int],
        policy: str,
        share: float | None = None,
    ) -> Plan:
        """A plan as the runtime takes it.

        Args:
            chosen: the plan.
            asked: questions that it answers.
            policy: that chose it.
            share: expected share of right answers, None where nothing is known of it.
        """
        depth, precision = self.space.variants[chosen.variant]
        cost = self.cost(chosen, asked)
        everything = len(asked) == len(self.request.questions)
        notes = cost.unknown(self.request.budget)
        if self.queue.lacking:
            notes.append(f"needed, but has nothing to give: {', '.join(self.queue.lacking)}")
        return Plan(
            sensors=self.space.actions(chosen.state),
            tail_blocks=depth,
            precision=precision,
            flops=cost.flops,
            policy=policy,
            latency_ms=cost.latency_ms,
            memory_bytes=cost.memory_bytes,
            energy_mj=cost.energy_mj,
            expected=share,
            questions=None if everything else tuple(asked),
            note="; ".join(notes) or None,
        )

    def _impossible(self) -> BudgetError:
        """Names the plan that comes closest to the budget, and what it costs."""
        budget, asked = self.request.budget, self.queue.first(self.queue.must)
        state = self.smallest(asked)
        plans = [Chosen(variant, state) for variant in range(len(self.space.variants))]
        priced = [(self.cost(chosen, asked), chosen) for chosen in plans]
        # Those of unknown cost last: they may exceed nothing that is known.
        cost, chosen = min(
            priced, key=lambda pair: (pair[0].exceeds(budget) is None, pair[0].share_of(budget))
        )
        depth, precision = self.space.variants[chosen.variant]
        exceeded = cost.exceeds(budget)
        if exceeded is None:
            return BudgetError(
                "no plan is known to keep the latency, as parts of all were never measured",
                field="budget.latency_ms",
                remedy="measure the parts at start-up, or limit flops instead",
            )
        used = ", ".join(self.space.actions(chosen.state)) or "no sensor"
        return BudgetError(
            f"no plan fits: the cheapest ({used}, tail of {depth}, {precision}, "
            f"{len(asked)} of {len(self.request.questions)} questions) needs {cost}, "
            f"the budget allows {limit_text(budget, exceeded)}",
            field=f"budget.{exceeded}",
            remedy="raise the budget, ask less, or take back what is pinned or needed",
        )


def able_to(state: SensorState, needed: bool) -> Able:
    """Which of off, reuse and run a sensor can do now."""
    held, fresh = state.held_age_ms is not None, state.fresh_age_ms is not None
    if state.pin == "off" or not (held or fresh):
        return True, False, False
    if state.pin == "on":
        # The newest there is.
        return False, not fresh, fresh
    return not needed, held, fresh
