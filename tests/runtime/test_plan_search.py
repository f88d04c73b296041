"""Policies against all plans tried one by one, in plain Python, on small random requests."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwire.runtime.errors import BudgetError
from tailwire.runtime.model_config import Precision
from tailwire.runtime.plan_decision import TIE
from tailwire.runtime.plans import Budget, Plan, SensorAction
from tailwire.runtime.policies import make_policy
from tailwire.runtime.scheduler import PlanRequest, QuestionDemand, SensorState

from ..plan_requests import MIB, UTILITY, costs, request, sensor, times

OnePlan = tuple[dict[str, SensorAction], int, Precision]
CHOOSERS = ("round_robin", "greedy", "optimal")


def choose(name: str, given: PlanRequest) -> Plan:
    return make_policy(name).choose(given)


def able(given: PlanRequest, name: str, asked: tuple[int, ...]) -> list[SensorAction | None]:
    """What a sensor can do, in plain words of the rules."""
    state = given.sensors[name]
    actions: list[SensorAction | None] = []
    if state.pin != "off":
        if state.held_age_ms is not None:
            actions.append("reuse")
        if state.fresh_age_ms is not None:
            actions.append("run")
    if not actions:
        return [None]
    if state.pin == "on":
        return actions[-1:]
    needed = any(name in given.questions[i].sensors for i in asked)
    return actions if needed else [None, *actions]


def every_plan(given: PlanRequest, asked: tuple[int, ...], *, blind: bool) -> Iterator[OnePlan]:
    """All plans that can answer questions now and fit, one by one."""
    menu = [able(given, name, asked) for name in given.sensors]
    some = any(len(one) > 1 or one[0] is not None for one in menu)
    for picks in itertools.product(*menu):
        actions: dict[str, SensorAction] = {
            s: a for s, a in zip(given.sensors, picks, strict=True) if a is not None
        }
        if some and not actions and not blind:
            continue
        for depth, precision in itertools.product(given.depths, given.precisions):
            if given.cost(actions, depth, precision, asked).exceeds(given.budget) is None:
                yield actions, depth, precision


def order_of(given: PlanRequest) -> list[int]:
    """Questions in the order in which they are answered now, as the rules say."""
    asked = given.questions
    usable = {name for name, state in given.sensors.items() if state.usable}
    lacking = [i for i, q in enumerate(asked) if not usable.issuperset(q.sensors)]
    waiting = [i for i in lacking if asked[i].held_age_ms is not None]
    able_now = [i for i in range(len(asked)) if i not in waiting or len(waiting) == len(asked)]
    return sorted(
        able_now,
        key=lambda i: (
            asked[i].held_age_ms is not None,
            -asked[i].priority,
            -(asked[i].held_age_ms or 0),
            i,
        ),
    )


def as_many_as_fit(given: PlanRequest) -> tuple[tuple[int, ...], bool] | None:
    order = order_of(given)
    must = 1
    for count in range(len(order), must - 1, -1):
        asked = tuple(sorted(order[:count]))
        if next(every_plan(given, asked, blind=False), None) is not None:
            return asked, False
    asked = tuple(sorted(order[:must]))
    return (asked, True) if next(every_plan(given, asked, blind=True), None) is not None else None


def share(given: PlanRequest, plan: OnePlan, asked: tuple[int, ...]) -> float:
    actions, depth, precision = plan
    ages: dict[str, float] = {}
    for name, action in actions.items():
        state = given.sensors[name]
        age_ms = state.fresh_age_ms if action == "run" else state.held_age_ms
        assert age_ms is not None
        ages[name] = age_ms
    weights: dict[str, float] = {}
    for i in asked:
        kind = given.questions[i].kind
        weights[kind] = weights.get(kind, 0) + given.questions[i].priority
    return UTILITY.one(ages, depth, precision, weights)


@st.composite
def small_requests(draw: st.DrawFn) -> PlanRequest:
    """Few sensors, so that all plans can be tried in plain Python."""
    names = draw(st.lists(st.sampled_from(["cam_0", "cam_3", "lidar", "objects"]), unique=True))
    ages = st.none() | st.sampled_from([0.0, 40.0, 300.0, 900.0])
    sensors: dict[str, SensorState] = {
        name: sensor(
            name,
            fresh_age_ms=draw(ages),
            held_age_ms=draw(ages),
            connected=draw(st.booleans()),
            pin=draw(st.sampled_from([None, None, None, "on", "off"])),
        )
        for name in names
    }
    demand = st.builds(
        QuestionDemand,
        kind=st.sampled_from(["exist", "count"]),
        length=st.sampled_from([9, 22, 40]),
        priority=st.sampled_from([1.0, 1.0, 2.0]),
        sensors=st.sampled_from([(), (), ("lidar",), ("cam_0",)]),
        held_age_ms=st.none() | st.sampled_from([100.0, 600.0]),
    )
    # FLOPs of a question and up to everything; likewise the other limits.
    budget = Budget(
        flops=draw(st.none() | st.integers(5 * 10**8, 10**10)),
        latency_ms=draw(st.none() | st.floats(5, 150)),
        memory_bytes=draw(st.none() | st.integers(755 * MIB, 835 * MIB)),
        energy_mj=draw(st.none() | st.floats(50, 1500)),
    )
    measured = times()
    for part in draw(st.sampled_from([(), (), ("tail 4 int8",), ("encode lidar",)])):
        del measured[part]
    loaded = draw(st.sampled_from([None, frozenset({"lidar"}), frozenset({"camera", "objects"})]))
    return request(
        budget,
        sensors,
        UTILITY,
        questions=draw(st.lists(demand, min_size=1, max_size=4)),
        depths=(3, 4),
        costs=costs(times=measured, loaded=loaded),
    )


@given(small_requests(), st.sampled_from(CHOOSERS))
@settings(max_examples=60, deadline=None)
def test_a_machine_without_a_compiler_chooses_the_same(given: PlanRequest, name: str) -> None:
    def outcome() -> Plan | str:
        try:
            return choose(name, given)
        except BudgetError as error:
            return str(error)

    compiled = outcome()
    with patch("tailwire.runtime.plan_decision.compiled_plans", lambda: (None, "no compiler")):
        assert outcome() == compiled


def keeps_unmeasured_out(given: PlanRequest, plan: Plan) -> bool:
    """Plans with parts of unknown time keep no limit of time."""
    bound = given.budget.latency_ms is not None or given.budget.energy_mj is not None
    return not bound or plan.latency_ms is not None


@given(small_requests())
@settings(max_examples=80, deadline=None)
def test_optimal_is_the_best_of_all_plans(given: PlanRequest) -> None:
    unmeasured = given.budget.latency_ms is not None or given.budget.energy_mj is not None
    fits = as_many_as_fit(_with_unknown_times_dear(given) if unmeasured else given)
    if fits is None:
        with pytest.raises(BudgetError, match=r"budget\."):
            choose("optimal", given)
        return
    asked, blind = fits
    plan = choose("optimal", given)
    assert (plan.questions or tuple(range(len(given.questions)))) == asked
    checked = _with_unknown_times_dear(given) if unmeasured else given
    shares = [(share(given, one, asked), one) for one in every_plan(checked, asked, blind=blind)]
    top = max(value for value, _ in shares)
    mine = share(given, (plan.sensors, plan.tail_blocks, plan.precision), asked)
    assert plan.expected == pytest.approx(mine, abs=1e-5)
    assert mine >= top - 2 * TIE
    # Of equals, the cheapest.
    equals = [one for value, one in shares if value >= top - TIE / 2]
    assert plan.flops <= min(given.cost(*one, asked).flops for one in equals)
    assert keeps_unmeasured_out(given, plan)


def _with_unknown_times_dear(given: PlanRequest) -> PlanRequest:
    """The same, where parts that were never measured take for ever."""
    known = dict(given.costs.times)
    for part, one in times().items():
        known.setdefault(part, replace(one, base_ms=1e9))
    return replace(given, costs=replace(given.costs, times=known))


@given(small_requests(), st.sampled_from(CHOOSERS))
@settings(max_examples=80, deadline=None)
def test_every_policy_keeps_the_budget_and_the_rules(given: PlanRequest, name: str) -> None:
    if name == "round_robin":
        given = replace(given, depths=(given.tail_blocks,), precisions=(given.precision,))
    try:
        plan = choose(name, given)
    except BudgetError:
        return
    asked = plan.questions or tuple(range(len(given.questions)))
    cost = given.cost(plan.sensors, plan.tail_blocks, plan.precision, asked)
    assert cost.exceeds(given.budget) is None
    assert (plan.flops, plan.latency_ms) == (cost.flops, cost.latency_ms)
    assert (plan.memory_bytes, plan.energy_mj) == (cost.memory_bytes, cost.energy_mj)
    assert keeps_unmeasured_out(given, plan)
    assert list(plan.sensors) == [s for s in given.sensors if s in plan.sensors]
    for sensor_name in given.sensors:
        assert plan.sensors.get(sensor_name) in able(given, sensor_name, asked)
    assert plan.policy == name
    assert choose(name, given) == plan


@given(small_requests())
@settings(max_examples=40, deadline=None)
def test_optimal_is_at_least_as_good_as_greedy(given: PlanRequest) -> None:
    try:
        best, other = choose("optimal", given), choose("greedy", given)
    except BudgetError:
        return
    assert best.expected is not None and other.expected is not None
    assert best.questions == other.questions
    assert best.expected >= other.expected - 2 * TIE
