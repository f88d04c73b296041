"""What a policy decides from and what it must do; and `fixed`, which decides nothing.

A policy knows costs, budgets and how often plans are right, never tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ..kernels.plan_choice import PlanShares
from .errors import BudgetError
from .model_config import Precision
from .plan_costs import PlanCost, PlanCosts
from .plan_space import PlanSpace
from .plans import Budget, Plan, SensorAction

Float = NDArray[np.float32]

#: What a user may ask of a sensor: used where it can be, or never.
Pin = Literal["on", "off"]


@dataclass(frozen=True)
class SensorState:
    """One sensor at the moment of a decision.

    Attributes:
        encoder: its name.
        modality: of the sensor.
        tokens: rows that it gives to the prefix.
        fresh_age_ms: age that its tokens would have if the frame that waits were encoded now;
            None if none waits.
        held_age_ms: age of the tokens that are there and young enough; None if there are none.
        connected: whether the connection has prepared the tokens that are there.
        pin: `on` where it must be used if it can be, `off` where it must not.
    """

    encoder: str
    modality: str
    tokens: int
    fresh_age_ms: float | None
    held_age_ms: float | None
    connected: bool
    pin: Pin | None = None

    @property
    def usable(self) -> bool:
        """Whether a plan may use it."""
        has_any = self.fresh_age_ms is not None or self.held_age_ms is not None
        return has_any and self.pin != "off"


@dataclass(frozen=True)
class QuestionDemand:
    """One question that is to be answered.

    Attributes:
        kind: `exist`, `count`, `object`, `status`, `comparison` or `other`.
        length: tokens.
        priority: how much a right answer counts against those to other questions, above 0.
        sensors: that it needs; a plan without them does not answer it.
        held_age_ms: age of its last answer if that may be given again; None if there is none.
        held_share: expected share of right answers of the last answer, given again now; None if
            it is not known.
    """

    kind: str
    length: int
    priority: float = 1.0
    sensors: tuple[str, ...] = ()
    held_age_ms: float | None = None
    held_share: float | None = None


class BoundUtility(Protocol):
    """How often the plans of one space are right."""

    def shares(
        self, weights: Mapping[str, float], condition: str | None, ages_ms: Float
    ) -> PlanShares:
        """Expected shares of right answers.

        Args:
            weights: kind of question to the sum of priorities asked of it.
            condition: of light and weather, None if it is not known.
            ages_ms: `[sensors, 2]`, of tokens that are reused and of tokens made now; 0 where
                there are none, whose plans nobody takes.

        Returns:
            Of every plan; the caller does not change them.
        """
        ...


class UtilityModel(Protocol):
    """How often plans are right, from a pack's calibration."""

    def bind(self, space: PlanSpace, modalities: Mapping[str, str]) -> BoundUtility:
        """Prepare a space for quick decisions.

        Args:
            space: the plans.
            modalities: by sensor.
        """
        ...


@dataclass(frozen=True)
class PlanRequest:
    """What a policy decides from.

    Attributes:
        sensors: the wanted ones, usable or not, in the pack's order.
        questions: in the order of their answers.
        tail_blocks: depth that was configured.
        precision: of the language model that was configured.
        depths: that a policy may choose.
        precisions: that a policy may choose.
        budget: limits of this frame.
        condition: of light and weather, None if it is not known.
        costs: of any plan.
        utility: how often plans are right; None where the pack is not calibrated.
    """

    sensors: Mapping[str, SensorState]
    questions: Sequence[QuestionDemand]
    tail_blocks: int
    precision: Precision
    depths: tuple[int, ...]
    precisions: tuple[Precision, ...]
    budget: Budget
    condition: str | None
    costs: PlanCosts
    utility: UtilityModel | None = None

    @property
    def connected(self) -> frozenset[str]:
        """Sensors whose tokens the connection has prepared."""
        return frozenset(name for name, state in self.sensors.items() if state.connected)

    def cost(
        self,
        actions: Mapping[str, SensorAction],
        tail_blocks: int,
        precision: Precision,
        questions: Sequence[int] | None = None,
    ) -> PlanCost:
        """What it costs to answer some of the questions, or all."""
        asked = self.questions if questions is None else [self.questions[i] for i in questions]
        lengths = [question.length for question in asked]
        return self.costs.of(actions, self.connected, lengths, tail_blocks, precision)


class Policy(Protocol):
    """Turns a request into a plan; the same requests in the same order give the same plans."""

    def choose(self, request: PlanRequest) -> Plan:
        """Choose a plan that fits the budget.

        Raises:
            BudgetError: nothing fits; the message names the cheapest plan and its cost.
            ConfigError: energy is limited and nothing measures it.
        """
        ...


class FixedPolicy:
    """Runs every usable sensor, at the configured depth, in every frame."""

    def choose(self, request: PlanRequest) -> Plan:
        """See `Policy.choose`."""
        request.costs.check_measurable(request.budget)
        actions: dict[str, SensorAction] = {
            sensor: "run" if state.fresh_age_ms is not None else "reuse"
            for sensor, state in request.sensors.items()
            if state.usable
        }
        depth, precision = request.tail_blocks, request.precision
        cost = request.cost(actions, depth, precision)
        exceeded = cost.exceeds(request.budget)
        if exceeded is not None:
            cheapest = request.cost({}, depth, precision)
            helps = cheapest.exceeds(request.budget) is None
            step = "switch sensors off" if helps else "ask less or raise the budget"
            raise BudgetError(
                f"the plan needs {cost}, the budget allows {limit_text(request.budget, exceeded)}",
                field=f"budget.{exceeded}",
                remedy=f"{step}; the cheapest plan, without any sensor, costs {cheapest}",
            )
        return Plan(
            sensors=actions,
            tail_blocks=depth,
            precision=precision,
            flops=cost.flops,
            latency_ms=cost.latency_ms,
            memory_bytes=cost.memory_bytes,
            energy_mj=cost.energy_mj,
            note="; ".join(cost.unknown(request.budget)) or None,
        )


def limit_text(budget: Budget, field: str) -> str:
    """A limit with its unit, for messages."""
    limit = getattr(budget, field)
    if field == "flops":
        return f"{limit:,} FLOPs"
    if field == "memory_bytes":
        return f"{limit / 1024**2:.0f} MiB"
    return f"{limit:g} {'ms' if field == 'latency_ms' else 'mJ'}"
