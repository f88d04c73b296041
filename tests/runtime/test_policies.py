"""Policies against plans tried one by one, and what they do where no plan is good."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwire.runtime.errors import BudgetError, ConfigError
from tailwire.runtime.model_config import Precision
from tailwire.runtime.plan_search import TIE
from tailwire.runtime.plans import Budget, Plan, SensorAction
from tailwire.runtime.policies import POLICY_NAMES, make_policy
from tailwire.runtime.scheduler import PlanRequest, Policy, QuestionDemand, SensorState

from ..plan_requests import (
    CAMERAS,
    MIB,
    IndependentSensors,
    costs,
    formulas,
    questions,
    request,
    sensor,
    times,
)

UTILITY = IndependentSensors(
    {**{name: 0.1 + 0.03 * i for i, name in enumerate(CAMERAS)}, "lidar": 0.6, "objects": 0.8}
)
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
    must = max(1, sum(given.questions[i].held_age_ms is None for i in order))
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


def test_one_policy_serves_changing_requests() -> None:
    """What is kept from request to request changes no plan."""
    policies: dict[str, Policy] = {name: make_policy(name) for name in POLICY_NAMES}
    held = questions(4, held_age_ms=400.0)
    for budget, slower, sensors, utility in itertools.product(
        (Budget(), Budget(flops=6 * 10**9), Budget(latency_ms=60)),
        (1.0, 1.7),
        (CAMERAS[:2], ("lidar", "cam_0")),
        (UTILITY, IndependentSensors(dict.fromkeys(UTILITY.gains, 0.2))),
    ):
        states = {name: sensor(name) for name in sensors}
        one = request(budget, states, utility, questions=held, costs=costs(times=times(slower)))
        for name, policy in policies.items():
            try:
                expected = choose(name, one)
            except BudgetError:
                with pytest.raises(BudgetError):
                    policy.choose(one)
                continue
            assert policy.choose(one) == expected


def test_round_robin_takes_turns() -> None:
    """With room for two cameras, the two that were encoded longest ago run."""
    ages = {"cam_0": 300.0, "cam_1": 900.0, "cam_2": None, "cam_3": 500.0}
    states = {name: sensor(name, held_age_ms=age) for name, age in ages.items()}
    room = request(sensors=states).cost({"cam_1": "run", "cam_2": "run"}, 6, "int8").flops
    plan = choose("round_robin", request(Budget(flops=room), states))
    assert plan.sensors == {"cam_1": "run", "cam_2": "run"}
    more = request(sensors=states).cost({**plan.sensors, "cam_3": "reuse"}, 6, "int8").flops
    plan = choose("round_robin", request(Budget(flops=more), states))
    assert plan.sensors == {"cam_1": "run", "cam_2": "run", "cam_3": "reuse"}


def test_a_tighter_budget_answers_the_most_urgent_questions() -> None:
    asked = [
        QuestionDemand("exist", 22, held_age_ms=100),
        QuestionDemand("exist", 22, held_age_ms=900),
        QuestionDemand("exist", 22, priority=3.0, held_age_ms=100),
        QuestionDemand("exist", 22, priority=0.1),
    ]
    states = {"cam_0": sensor("cam_0", fresh_age_ms=None)}
    one = request(sensors=states, utility=UTILITY, questions=asked)
    for urgent in ((3,), (2, 3), (1, 2, 3), (0, 1, 2, 3)):
        room = one.cost({"cam_0": "reuse"}, 3, "int8", urgent).flops
        plan = choose("optimal", replace(one, budget=Budget(flops=room)))
        assert (plan.questions or (0, 1, 2, 3)) == urgent
        assert plan.sensors == {"cam_0": "reuse"}


def test_where_no_plan_with_a_sensor_fits_what_must_be_is_answered_without() -> None:
    one = request(utility=UTILITY, questions=questions(3, held_age_ms=200.0))
    blind = one.cost({}, 3, "int8", (0,)).flops
    plan = choose("optimal", replace(one, budget=Budget(flops=blind)))
    assert (plan.sensors, plan.questions, plan.tail_blocks) == ({}, (0,), 3)
    asked = [replace(question, held_age_ms=None) for question in one.questions]
    all_blind = one.cost({}, 3, "int8").flops
    plan = choose("greedy", replace(one, questions=asked, budget=Budget(flops=all_blind)))
    assert (plan.sensors, plan.questions) == ({}, None)


@pytest.mark.parametrize("name", CHOOSERS)
def test_an_impossible_budget_names_the_cheapest_plan_and_its_cost(name: str) -> None:
    one = request(utility=UTILITY, questions=questions(2))
    depth = 6 if name == "round_robin" else 3
    cheapest = one.cost({}, depth, "int8")
    with pytest.raises(BudgetError) as caught:
        choose(name, replace(one, budget=Budget(flops=cheapest.flops - 1)))
    message = str(caught.value)
    assert f"no sensor, tail of {depth}, int8, 2 of 2 questions" in message
    assert str(cheapest) in message and f"{cheapest.flops - 1:,} FLOPs" in message
    assert caught.value.field == "budget.flops"
    pinned = {**one.sensors, "lidar": sensor("lidar", pin="on")}
    with pytest.raises(BudgetError, match="lidar, tail of"):
        choose(name, replace(one, sensors=pinned, budget=Budget(flops=cheapest.flops)))


def test_a_needed_sensor_is_used_where_its_question_is_answered() -> None:
    needy = QuestionDemand("count", 22, sensors=("cam_0",), held_age_ms=100)
    asked = [QuestionDemand("exist", 22, priority=2.0, held_age_ms=100), needy]
    states = {"cam_0": sensor("cam_0", held_age_ms=None), "lidar": sensor("lidar")}
    one = request(sensors=states, utility=UTILITY, questions=asked)
    room = one.cost({"cam_0": "run"}, 3, "int8").flops
    assert choose("optimal", replace(one, budget=Budget(flops=room))).sensors == {"cam_0": "run"}
    # Less room: the question that needs it waits.
    plan = choose("optimal", replace(one, budget=Budget(flops=room - 1)))
    assert (plan.questions, "cam_0" in plan.sensors) == ((0,), False)
    # Nothing to give: it waits, and without a last answer it is answered as it goes.
    dead = {**states, "cam_0": sensor("cam_0", fresh_age_ms=None, held_age_ms=None)}
    plan = choose("optimal", replace(one, sensors=dead))
    assert (plan.questions, plan.note) == ((0,), "needed, but has nothing to give: cam_0")
    plan = choose(
        "optimal", replace(one, sensors=dead, questions=[replace(needy, held_age_ms=None)])
    )
    assert (plan.questions, plan.sensors) == (None, {"lidar": "run"})
    assert plan.note == "needed, but has nothing to give: cam_0"


def test_pins() -> None:
    states = {
        "cam_0": sensor("cam_0", pin="on"),
        "cam_1": sensor("cam_1", pin="on", fresh_age_ms=None),
        "objects": sensor("objects", pin="off"),
    }
    for name in CHOOSERS:
        plan = choose(name, request(sensors=states, utility=UTILITY))
        assert plan.sensors == {"cam_0": "run", "cam_1": "reuse"}


def test_of_equal_plans_the_cheapest_is_taken() -> None:
    useless = IndependentSensors(dict.fromkeys(UTILITY.gains, 0.0))
    useless.span = lambda depth, precision: 0.4  # type: ignore[method-assign]
    states = {"cam_0": sensor("cam_0"), "lidar": sensor("lidar")}
    plan = choose("optimal", request(sensors=states, utility=useless))
    # Not blind, as there are sensors: the one with fewest tokens, reused.
    assert (plan.sensors, plan.tail_blocks, plan.precision) == ({"cam_0": "reuse"}, 3, "int8")


@pytest.mark.parametrize("name", ["greedy", "optimal"])
def test_without_a_calibration_it_does_as_fixed_and_says_so(name: str) -> None:
    plan = choose(name, request())
    fixed = choose("fixed", request())
    assert plan.note is not None and f"'{name}' needs a calibrated pack" in plan.note
    assert plan.model_copy(update={"note": None}) == fixed
    assert plan.policy == "fixed"


def test_what_was_not_measured_is_said() -> None:
    budget = Budget(latency_ms=1.0, memory_bytes=1)
    bare = costs(times={}, memory=None)
    plan = choose("optimal", request(budget, utility=UTILITY, costs=bare))
    assert plan.note is not None
    assert "latency is not kept" in plan.note and "memory is not kept" in plan.note
    only_prepare = {"prepare": times()["prepare"]}
    with pytest.raises(BudgetError, match="never measured"):
        choose(
            "optimal",
            request(Budget(latency_ms=1.0), utility=UTILITY, costs=costs(times=only_prepare)),
        )


@pytest.mark.parametrize("name", POLICY_NAMES)
def test_energy_that_nothing_measures_cannot_be_limited(name: str) -> None:
    blind = costs(mj_per_ms=None, energy_absent="no rails here")
    with pytest.raises(ConfigError, match=r"budget\.energy_mj.*no rails here"):
        choose(name, request(Budget(energy_mj=5), utility=UTILITY, costs=blind))


@pytest.mark.parametrize("name", POLICY_NAMES)
def test_a_slower_machine_gets_a_cheaper_plan(name: str) -> None:
    def latency(slower: float) -> float:
        one = request(utility=UTILITY, costs=costs(times=times(slower)))
        plan = choose(name, replace(one, budget=Budget(latency_ms=200)))
        assert plan.latency_ms is not None and plan.latency_ms <= 200
        return plan.latency_ms / slower

    if name != "fixed":
        assert latency(3.0) < latency(1.0)


def test_memory_is_kept_by_doing_without_encoders() -> None:
    one = request(utility=UTILITY, costs=costs(loaded=frozenset({"camera", "lidar"})))
    full = choose("optimal", one)
    assert full.memory_bytes == 830 * MIB
    plan = choose("optimal", replace(one, budget=Budget(memory_bytes=795 * MIB)))
    assert {one.sensors[s].encoder for s, a in plan.sensors.items() if a == "run"} == {
        "lidar",
        "objects",
    }
    assert plan.memory_bytes == 790 * MIB


def test_an_encoder_that_is_not_loaded_is_not_worth_its_loading_in_time() -> None:
    states = {"cam_5": sensor("cam_5"), "lidar": sensor("lidar")}
    budget = Budget(latency_ms=95)
    warm = request(budget, states, UTILITY)
    assert choose("optimal", warm).sensors["lidar"] == "run"
    cold = replace(warm, costs=costs(loaded=frozenset({"camera"})))
    assert choose("optimal", cold).sensors["lidar"] == "reuse"


@pytest.mark.parametrize("name", CHOOSERS)
def test_more_sensors_than_are_searched_together(name: str) -> None:
    """Twelve sensors: those worth most are searched, the rest is off."""
    gains = {f"s{i}": 0.05 + 0.02 * ((5 * i) % 12) for i in range(12)}
    states = {n: sensor(n, "camera", held_age_ms=100.0 + 10 * i) for i, n in enumerate(gains)}
    states["s0"] = replace(states["s0"], pin="on")
    wide = costs(formulas=formulas(dict.fromkeys(gains, "camera")))
    one = request(sensors=states, utility=IndependentSensors(gains), costs=wide)
    plan = choose(name, one)
    assert len(plan.sensors) == 8 and plan.sensors["s0"] == "run"
    if name != "round_robin":
        best = sorted(gains, key=lambda s: -gains[s])[:7]
        assert set(plan.sensors) == {"s0", *best}
    assert choose(name, one) == plan


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'clever'.*round_robin"):
        make_policy("clever")


@pytest.mark.parametrize("field", ["flops", "memory_bytes", "latency_ms", "energy_mj"])
@pytest.mark.parametrize("value", [-1, 0, math.nan, math.inf])
def test_budgets_that_are_no_numbers_above_zero_are_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        Budget.model_validate({field: value})
