"""What `tailwire plan` prints: the plan, its cost, the limits, the runner-up, the sensors."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from ..runtime.errors import BudgetError
from ..runtime.plan_explain import Explanation
from ..runtime.plans import Budget, Plan
from ..runtime.scheduler import PlanRequest, Policy, limit_text
from .printing import print_fact, print_table

_NO_CALIBRATION = (
    "not known: the pack has no calibration, so policies do as fixed does; measure one with "
    "tailwire calibrate"
)
_NOT_SAID = "the policy {} goes by no expected accuracy"


@dataclass(frozen=True)
class LimitUse:
    """How far a plan uses a limit.

    Attributes:
        limit: with its unit.
        share: of it that the plan needs; None where that is not known.
        binds: whether the plan would be another one without it.
        expected_without: expected share of right answers then, None where nobody knows.
    """

    limit: str
    share: float | None
    binds: bool
    expected_without: float | None


def limits_that_bind(policy: Policy, request: PlanRequest, plan: Plan) -> dict[str, LimitUse]:
    """What each limit of the budget has to do with the plan, by field.

    Args:
        policy: that chose it; it is asked again without each limit.
        request: that it was asked.
        plan: that it chose.
    """
    cost = request.cost(plan.sensors, plan.tail_blocks, plan.precision, plan.questions)
    found: dict[str, LimitUse] = {}
    for field in Budget.model_fields:
        limit, need = getattr(request.budget, field), getattr(cost, field)
        if limit is None:
            continue
        free = request.budget.model_copy(update={field: None})
        try:
            other = policy.choose(replace(request, budget=free))
        except BudgetError:
            continue
        found[field] = LimitUse(
            limit=limit_text(request.budget, field),
            share=None if need is None else need / limit,
            binds=_deed(other) != _deed(plan),
            expected_without=other.expected,
        )
    return found


@dataclass(frozen=True)
class PlanReport:
    """All that is told.

    Attributes:
        plan: that was chosen.
        request: that the policy was asked.
        explanation: of the plan; None where the policy or the pack gives none.
        binding: by field of the budget.
        num_blocks: of the language model.
        pack: name and version.
    """

    plan: Plan
    request: PlanRequest
    explanation: Explanation | None
    binding: dict[str, LimitUse]
    num_blocks: int
    pack: str

    def tell(self, *, as_json: bool) -> None:
        """Print it."""
        if as_json:
            print(json.dumps(self.facts()))
        else:
            self._print()

    def facts(self) -> dict[str, object]:
        """What is printed as JSON."""
        found = self.explanation
        return {
            "plan": self.plan.model_dump(mode="json"),
            "runner_up": None
            if found is None or found.runner_up is None
            else found.runner_up.model_dump(mode="json"),
            "sensors": {}
            if found is None
            else {name: vars(worth) for name, worth in found.sensors.items()},
            "limits": {name: vars(use) for name, use in self.binding.items()},
            "plans": None if found is None else found.plans,
            "fitting": None if found is None else found.fitting,
            "calibrated": self.request.utility is not None,
            "context": self.request.condition,
            "questions": [question.kind for question in self.request.questions],
            "energy_absent": None
            if self.plan.energy_mj is not None
            else self.request.costs.energy_absent,
            "pack": self.pack,
        }

    def _print(self) -> None:
        plan, asked = self.plan, len(self.request.questions)
        print_fact("policy", f"{plan.policy}, pack {self.pack}")
        print_fact("plan", self._deeds(plan))
        kinds = ", ".join(question.kind for question in self.request.questions)
        answered = asked if plan.questions is None else len(plan.questions)
        print_fact("questions", f"{answered} of {asked} answered: {kinds}")
        print_fact("expected", self._expected(plan))
        print_fact("cost", self._cost(plan))
        if plan.energy_mj is None:
            print_fact("energy", f"not known: {self.request.costs.energy_absent}")
        for field, use in self.binding.items():
            print_fact("limit", _limit_line(field, use))
        if not self.binding:
            print_fact("limit", "none")
        if self.explanation is not None:
            self._print_explanation(self.explanation)
        if plan.note is not None:
            print_fact("note", plan.note)

    def _print_explanation(self, found: Explanation) -> None:
        print_fact("choice", f"{found.fitting} of {found.plans} plans keep the limits")
        other = found.runner_up
        if other is None:
            print_fact("runner-up", "none, no other plan keeps the limits")
        else:
            print_fact("runner-up", self._deeds(other))
            print_fact("", f"{self._expected(other)}; {self._cost(other)}")
        print()
        rows = [("SENSOR", "USED", "ADDS", "GFLOP", "")]
        for name, worth in found.sensors.items():
            rows.append(
                (
                    name,
                    "yes" if worth.used else "no",
                    f"{100 * worth.share:+.1f} points",
                    f"{worth.flops / 1e9:.2f}",
                    "" if worth.fits else "would not keep the limits",
                )
            )
        print_table(rows)

    def _deeds(self, plan: Plan) -> str:
        sensors = ", ".join(plan.sensors) or "no sensor"
        return (
            f"{sensors}; tail of {plan.tail_blocks} of {self.num_blocks} blocks, {plan.precision}"
        )

    def _expected(self, plan: Plan) -> str:
        if self.request.utility is None:
            return _NO_CALIBRATION
        if plan.expected is None:
            return _NOT_SAID.format(plan.policy)
        context = self.request.condition or "light and weather not known"
        return f"{plan.expected:.1%} of the answers right ({context})"

    def _cost(self, plan: Plan) -> str:
        parts = [f"{plan.flops / 1e9:.2f} GFLOP"]
        if plan.latency_ms is not None:
            parts.append(f"{plan.latency_ms:.1f} ms (p90 of each part)")
        else:
            parts.append("time not known")
        if plan.memory_bytes is not None:
            parts.append(f"{plan.memory_bytes / 1024**2:.0f} MiB (process, encoders that run)")
        if plan.energy_mj is not None:
            parts.append(f"{plan.energy_mj:.0f} mJ")
        return ", ".join(parts)


def _limit_line(field: str, use: LimitUse) -> str:
    share = "need not known" if use.share is None else f"{use.share:.0%} used"
    line = f"{field} {use.limit}: {share}"
    if not use.binds:
        return f"{line}, does not bind"
    if use.expected_without is None:
        return f"{line}, binds"
    return f"{line}, binds; {use.expected_without:.1%} expected without it"


def _deed(plan: Plan) -> tuple[object, ...]:
    return plan.sensors, plan.tail_blocks, plan.precision, plan.questions
