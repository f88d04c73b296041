"""Costs of all plans at once are those of each plan alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwire.runtime.model_config import Precision
from tailwire.runtime.plan_arrays import PlanArrays
from tailwire.runtime.plan_costs import PlanCosts
from tailwire.runtime.plan_space import PlanSpace
from tailwire.runtime.plans import Budget

from ..plan_requests import DEPTHS, MIB, PRECISIONS, SENSORS, costs, formulas, times

VARIANTS: tuple[tuple[int, Precision], ...] = tuple((d, p) for d in DEPTHS for p in PRECISIONS)
SPACE = PlanSpace(tuple(SENSORS), VARIANTS)
SMALL = PlanSpace(("cam_1", "cam_4", "lidar", "objects"), VARIANTS)


def test_states_are_numbered_with_the_last_sensor_fastest() -> None:
    space = PlanSpace(("a", "b"), ((4, "int8"),))
    assert space.states.tolist() == [[i, j] for i in range(3) for j in range(3)]
    assert space.actions(5) == {"a": "reuse", "b": "run"}
    assert space.state_of({"b": "run", "a": "reuse"}) == 5
    assert [SPACE.state_of(SPACE.actions(i)) for i in (0, 1, 4000, 6560)] == [0, 1, 4000, 6560]


@pytest.mark.parametrize("sensors", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("lead", [(), (2,)])
def test_sums_and_products_over_sensors(sensors: int, lead: tuple[int, ...]) -> None:
    space = PlanSpace(tuple(map(str, range(sensors))), ())
    numbers = np.random.default_rng(0).random((*lead, sensors, 3), dtype=np.float32)
    picked = numbers[..., np.arange(sensors), space.states]
    assert space.totals(numbers).dtype == np.float32
    np.testing.assert_allclose(space.totals(numbers), picked.sum(axis=-1), rtol=1e-6)
    np.testing.assert_allclose(space.products(numbers), picked.prod(axis=-1), rtol=1e-6)


@st.composite
def moments(draw: st.DrawFn) -> tuple[PlanCosts, frozenset[str], list[int]]:
    """Some parts measured, some encoders loaded, some tokens prepared, some questions."""
    measured = times(draw(st.floats(0.1, 10)))
    for part in draw(st.sets(st.sampled_from(sorted(measured)), max_size=2)):
        del measured[part]
    changes: dict[str, Any] = {"times": measured}
    changes["loaded"] = draw(st.none() | st.frozensets(st.sampled_from(["camera", "lidar"])))
    changes["formulas"] = formulas(
        kind=draw(st.sampled_from(["plain", "conditioned"])),
        lora_rank=draw(st.sampled_from([0, 4])),
    )
    lengths = draw(st.lists(st.integers(3, 120), min_size=1, max_size=9))
    return costs(**changes), draw(st.frozensets(st.sampled_from(SMALL.sensors))), lengths


@given(moments(), st.data())
@settings(max_examples=40, deadline=None)
def test_arrays_are_what_each_plan_costs(
    moment: tuple[PlanCosts, frozenset[str], list[int]], data: st.DataObject
) -> None:
    now, connected, lengths = moment
    found = PlanArrays(SMALL, now.formulas).at(now, connected).asking(lengths)
    flops, latency, energy, memory = (
        found.flops,
        found.latency_ms,
        found.energy_mj,
        found.memory_bytes,
    )
    assert energy is not None and memory is not None
    assert flops.shape == latency.shape == energy.shape == memory.shape
    for _ in range(10):
        variant = data.draw(st.integers(0, len(VARIANTS) - 1))
        state = data.draw(st.integers(0, SMALL.num_states - 1))
        cost = now.of(SMALL.actions(state), connected, lengths, *VARIANTS[variant])
        at = variant, found.index[state]
        assert flops[at] == cost.flops
        assert memory[at] == cost.memory_bytes
        assert found.one(variant, state) == cost
        for array, one in ((latency, cost.latency_ms), (energy, cost.energy_mj)):
            known = math.inf if one is None else one
            assert array[at] == pytest.approx(known, rel=1e-12)


@pytest.mark.parametrize(
    "budget",
    [
        Budget(),
        Budget(flops=9_000_000_000),
        Budget(latency_ms=75),
        Budget(energy_mj=700),
        Budget(memory_bytes=795 * MIB),
        Budget(flops=9_000_000_000, latency_ms=60, energy_mj=700, memory_bytes=795 * MIB),
    ],
)
@pytest.mark.parametrize("loaded", [None, frozenset({"lidar"})])
@pytest.mark.parametrize("connected", [SMALL.sensors, ("lidar",)])
def test_what_is_within_a_budget(
    budget: Budget, loaded: frozenset[str] | None, connected: tuple[str, ...]
) -> None:
    now, lengths = costs(loaded=loaded), [22] * 5
    asked = PlanArrays(SMALL, now.formulas).at(now, connected).asking(lengths)
    found = asked.within(budget)[:, asked.index]
    expected = [
        [
            now.of(SMALL.actions(state), connected, lengths, *v).exceeds(budget) is None
            for state in range(SMALL.num_states)
        ]
        for v in VARIANTS
    ]
    assert found.tolist() == expected
    assert (0 < found.sum() < found.size) == (budget != Budget())


def test_what_was_not_measured_does_not_bind() -> None:
    now = costs(times={}, memory=None, mj_per_ms=None)
    found = PlanArrays(SMALL, now.formulas).at(now, ()).asking([22])
    assert found.within(Budget(latency_ms=1e-3, memory_bytes=1)).all()
    assert (found.memory_bytes, found.energy_mj) == (None, None)
    assert np.isinf(found.latency_ms).all()


def test_arrays_of_lengths_asked_before_are_made_once() -> None:
    arrays, now = PlanArrays(SMALL, formulas()), costs()
    first = arrays.at(now, SMALL.sensors).asking([22, 30]).flops
    assert arrays.at(now, SMALL.sensors).asking((22, 30)).flops is first
    for length in range(1, 100):
        arrays.at(now, SMALL.sensors).asking([length])
    again = arrays.at(now, SMALL.sensors).asking([22, 30]).flops
    assert again is not first
    np.testing.assert_array_equal(again, first)
