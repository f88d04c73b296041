"""Decides what a frame runs; knows costs and budgets, never tensors.

Only the policy `fixed` so far: every wanted sensor runs when it has a new frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from .errors import BudgetError
from .model_config import Precision
from .plans import Budget, Plan

SensorAction = Literal["run", "reuse"]


@dataclass(frozen=True)
class PlanRequest:
    """What a policy decides from.

    Attributes:
        sensors: usable sensors; True where a frame waits that has not been encoded yet.
        tail_blocks: depth that was configured.
        precision: of the loaded language model.
        budget: limits of this frame.
        flops: cost of a choice of sensors at a tail depth.
    """

    sensors: Mapping[str, bool]
    tail_blocks: int
    precision: Precision
    budget: Budget
    flops: Callable[[Mapping[str, SensorAction], int], int]


class Policy(Protocol):
    """Turns a request into a plan; deterministic."""

    def choose(self, request: PlanRequest) -> Plan:
        """Choose a plan that fits the budget.

        Raises:
            BudgetError: nothing fits; the message names the cheapest plan and its cost.
        """
        ...


class FixedPolicy:
    """Runs every usable sensor, at the configured depth, in every frame."""

    def choose(self, request: PlanRequest) -> Plan:
        """See `Policy.choose`; only the FLOPs of a budget bind this policy."""
        actions: dict[str, SensorAction] = {
            sensor: "run" if is_new else "reuse" for sensor, is_new in request.sensors.items()
        }
        flops = request.flops(actions, request.tail_blocks)
        limit = request.budget.flops
        if limit is not None and flops > limit:
            cheapest = request.flops({}, request.tail_blocks)
            step = "switch sensors off" if cheapest <= limit else "ask less or raise the budget"
            raise BudgetError(
                f"the plan needs {flops:,} FLOPs, the budget allows {limit:,}",
                field="budget.flops",
                remedy=f"{step}; the cheapest plan, without any sensor, costs {cheapest:,} FLOPs",
            )
        return Plan(
            sensors=actions,
            tail_blocks=request.tail_blocks,
            precision=request.precision,
            flops=flops,
        )
