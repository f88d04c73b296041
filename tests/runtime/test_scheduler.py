"""The fixed policy: everything usable runs, and a budget it breaks is answered with a price."""

from __future__ import annotations

import re

import pytest

from tailwire.runtime.errors import BudgetError, ConfigError
from tailwire.runtime.plans import Budget
from tailwire.runtime.scheduler import FixedPolicy

from ..plan_requests import MIB, costs, formulas, request, sensor

SENSORS = {
    "cam_0": sensor("cam_0"),
    "lidar": sensor("lidar", fresh_age_ms=None),
    "objects": sensor("objects", fresh_age_ms=None, held_age_ms=None),
}


def full_flops() -> int:
    frame = formulas().frames["int8"]
    return frame.look({"cam_0": "run", "lidar": "reuse"}, {"cam_0", "lidar"}, 24, [22] * 5, 6)


def blind_flops() -> int:
    return formulas().frames["int8"].look({}, (), 24, [22] * 5, 6)


def test_new_frames_run_and_known_ones_are_reused() -> None:
    plan = FixedPolicy().choose(request(sensors=SENSORS))
    assert plan.sensors == {"cam_0": "run", "lidar": "reuse"}
    assert list(plan.sensors) == ["cam_0", "lidar"]
    assert (plan.tail_blocks, plan.precision, plan.flops) == (6, "int8", full_flops())
    assert (plan.policy, plan.questions, plan.note) == ("fixed", None, None)


def test_the_same_request_gives_the_same_plan() -> None:
    policy = FixedPolicy()
    assert policy.choose(request()) == policy.choose(request())


def test_a_sensor_that_is_pinned_off_is_off() -> None:
    given = {**SENSORS, "cam_0": sensor("cam_0", pin="off")}
    assert FixedPolicy().choose(request(sensors=given)).sensors == {"lidar": "reuse"}


def test_a_budget_that_is_met_exactly_holds() -> None:
    plan = FixedPolicy().choose(request(Budget(flops=full_flops()), SENSORS))
    assert plan.flops == full_flops()


def test_a_budget_too_small_names_need_limit_and_the_cheapest_plan() -> None:
    limit = full_flops() - 1
    message = rf"budget\.flops.*{full_flops():,}.*{limit:,}.*{blind_flops():,}"
    with pytest.raises(BudgetError, match=message) as caught:
        FixedPolicy().choose(request(Budget(flops=limit), SENSORS))
    assert "switch sensors off" in caught.value.remedy


def test_where_even_the_cheapest_does_not_fit_sensors_are_not_blamed() -> None:
    for sensors in (SENSORS, {}):
        with pytest.raises(BudgetError, match=f"costs {blind_flops():,}") as caught:
            FixedPolicy().choose(request(Budget(flops=blind_flops() - 1), sensors))
        assert "switch sensors off" not in caught.value.remedy


@pytest.mark.parametrize(
    ("budget", "allowed"),
    [
        (Budget(latency_ms=5.5), "5.5 ms"),
        (Budget(memory_bytes=705 * MIB), "705 MiB"),
        (Budget(energy_mj=3), "3 mJ"),
    ],
)
def test_time_memory_and_energy_bind_too(budget: Budget, allowed: str) -> None:
    with pytest.raises(BudgetError, match=re.escape(f"the budget allows {allowed}")):
        FixedPolicy().choose(request(budget))


def test_what_was_not_measured_does_not_bind() -> None:
    budget = Budget(latency_ms=1e-3, memory_bytes=1)
    plan = FixedPolicy().choose(request(budget, costs=costs(times={}, memory=None)))
    assert (plan.latency_ms, plan.memory_bytes, plan.energy_mj) == (None, None, None)


def test_an_energy_budget_without_a_meter_is_refused() -> None:
    blind = costs(mj_per_ms=None, energy_absent="no rails here")
    with pytest.raises(ConfigError, match=r"budget\.energy_mj.*no rails here"):
        FixedPolicy().choose(request(Budget(energy_mj=1e9), costs=blind))


def test_without_sensors_there_is_a_plan_too() -> None:
    plan = FixedPolicy().choose(request(Budget(flops=blind_flops()), {}))
    assert (plan.sensors, plan.flops) == ({}, blind_flops())
