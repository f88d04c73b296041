"""The fixed policy: everything usable runs, and a budget it breaks is answered with a price."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tailwire.runtime.errors import BudgetError
from tailwire.runtime.plans import Budget
from tailwire.runtime.scheduler import FixedPolicy, PlanRequest, SensorAction

SENSORS = {"cam_front": True, "lidar_top": False}


def flops(actions: Mapping[str, SensorAction], depth: int) -> int:
    prices: dict[SensorAction, int] = {"run": 1000, "reuse": 10}
    return 100 * depth + sum(prices[action] for action in actions.values())


def request(
    budget: Budget, sensors: Mapping[str, bool] = SENSORS, tail_blocks: int = 4
) -> PlanRequest:
    return PlanRequest(
        sensors=sensors, tail_blocks=tail_blocks, precision="int8", budget=budget, flops=flops
    )


def test_new_frames_run_and_known_ones_are_reused() -> None:
    plan = FixedPolicy().choose(request(Budget()))
    assert plan.sensors == {"cam_front": "run", "lidar_top": "reuse"}
    assert list(plan.sensors) == list(SENSORS)
    assert (plan.tail_blocks, plan.precision, plan.flops) == (4, "int8", 1410)


def test_the_same_request_gives_the_same_plan() -> None:
    policy = FixedPolicy()
    assert policy.choose(request(Budget())) == policy.choose(request(Budget()))


def test_a_budget_that_is_met_exactly_holds() -> None:
    assert FixedPolicy().choose(request(Budget(flops=1410))).flops == 1410


def test_a_budget_too_small_names_need_limit_and_the_cheapest_plan() -> None:
    with pytest.raises(BudgetError, match=r"budget\.flops.*1,410.*1,409.*400") as caught:
        FixedPolicy().choose(request(Budget(flops=1409)))
    assert "switch sensors off" in caught.value.remedy


def test_where_even_the_cheapest_does_not_fit_sensors_are_not_blamed() -> None:
    for sensors in (SENSORS, {}):
        with pytest.raises(BudgetError, match="costs 400") as caught:
            FixedPolicy().choose(request(Budget(flops=399), sensors))
        assert "switch sensors off" not in caught.value.remedy


def test_without_sensors_there_is_a_plan_too() -> None:
    plan = FixedPolicy().choose(request(Budget(flops=400), {}))
    assert (plan.sensors, plan.flops) == ({}, 400)
