"""What policies do with budgets, pins, needs, turns, last answers, and where no plan is good."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import replace

import pytest

from tailwire.runtime.errors import BudgetError, ConfigError
from tailwire.runtime.plan_space import PlanSpace
from tailwire.runtime.plans import Budget, Plan, SensorAction
from tailwire.runtime.policies import POLICY_NAMES, OptimalPolicy, make_policy
from tailwire.runtime.scheduler import PlanRequest, Policy, QuestionDemand

from ..plan_requests import (
    CAMERAS,
    MIB,
    UTILITY,
    BoundIndependentSensors,
    IndependentSensors,
    costs,
    formulas,
    questions,
    request,
    sensor,
    times,
)

CHOOSERS = ("round_robin", "greedy", "optimal")


def choose(name: str, given: PlanRequest) -> Plan:
    return make_policy(name).choose(given)


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


def test_where_not_all_can_be_answered_for_the_first_time_some_are() -> None:
    asked = questions(4)
    asked[1] = replace(asked[1], held_age_ms=900.0)
    states = {"cam_0": sensor("cam_0", fresh_age_ms=None)}
    one = request(sensors=states, utility=UTILITY, questions=asked)
    for first in ((0,), (0, 2), (0, 2, 3)):
        room = one.cost({"cam_0": "reuse"}, 3, "int8", first).flops
        plan = choose("optimal", replace(one, budget=Budget(flops=room)))
        assert (plan.questions, plan.sensors) == (first, {"cam_0": "reuse"})


@pytest.mark.parametrize("name", CHOOSERS)
def test_an_impossible_budget_names_the_cheapest_plan_and_its_cost(name: str) -> None:
    one = request(utility=UTILITY, questions=questions(2))
    depth = 6 if name == "round_robin" else 3
    cheapest = one.cost({}, depth, "int8", (0,))
    with pytest.raises(BudgetError) as caught:
        choose(name, replace(one, budget=Budget(flops=cheapest.flops - 1)))
    message = str(caught.value)
    assert f"no sensor, tail of {depth}, int8, 1 of 2 questions" in message
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
    assert "latency is limited, but not known" in plan.note
    assert "memory is limited, but not known" in plan.note
    assert choose("fixed", request(budget, costs=bare)).note == plan.note
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


class Counting(IndependentSensors):
    """Notes how many spaces it was bound to."""

    bound = 0

    def bind(self, space: PlanSpace, modalities: Mapping[str, str]) -> BoundIndependentSensors:
        self.bound += 1
        return super().bind(space, modalities)


@pytest.mark.parametrize("name", CHOOSERS)
def test_more_sensors_than_are_searched_together(name: str) -> None:
    """Twelve sensors: those worth most are searched, the rest is off."""
    gains = {f"s{i}": 0.05 + 0.02 * ((5 * i) % 12) for i in range(12)}
    states = {n: sensor(n, "camera", held_age_ms=100.0 + 10 * i) for i, n in enumerate(gains)}
    states["s0"] = replace(states["s0"], pin="on")
    wide = costs(formulas=formulas(dict.fromkeys(gains, "camera")))
    utility = Counting(gains)
    one = request(sensors=states, utility=utility, costs=wide)
    policy = make_policy(name)
    plan = policy.choose(one)
    made = utility.bound
    assert policy.choose(one) == plan
    assert utility.bound == made
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


def test_last_answers_that_are_worth_more_are_kept() -> None:
    """Room for more questions with a poor sensor, or for fewer with a better one."""
    poor_and_better = IndependentSensors({"cam_0": 0.1, "lidar": 0.3})
    states = {
        "cam_0": sensor("cam_0", fresh_age_ms=None),
        "lidar": sensor("lidar", held_age_ms=None),
    }
    one = request(sensors=states, utility=poor_and_better)
    one = replace(one, questions=questions(5, held_age_ms=400.0))
    room = one.cost({"lidar": "run"}, 3, "int8", (0, 1, 2)).flops
    one = replace(one, budget=Budget(flops=room))
    # Nothing is known of what last answers are worth: as many as fit.
    most = choose("optimal", one)
    assert most.sensors == {"cam_0": "reuse"}
    for held_share, fewer in ((0.5, True), (0.05, False)):
        asked = [replace(question, held_share=held_share) for question in one.questions]
        plan = choose("optimal", replace(one, questions=asked))
        assert ("lidar" in plan.sensors) == fewer
        assert (len(plan.questions or range(5)) <= 3) == fewer
    # A question without a last answer is answered all the same.
    asked = [replace(question, held_share=0.6) for question in one.questions]
    asked[4] = replace(asked[4], held_age_ms=None, held_share=None)
    plan = choose("optimal", replace(one, questions=asked))
    assert plan.questions is not None and 4 in plan.questions
    # Without a limit there is nothing to gain by leaving questions out.
    assert choose("optimal", replace(one, questions=asked, budget=Budget())).questions is None


def test_an_explanation_names_the_runner_up_and_what_each_sensor_adds() -> None:
    states = {
        "cam_0": sensor("cam_0"),
        "lidar": sensor("lidar"),
        "objects": sensor("objects"),
        "cam_1": sensor("cam_1", pin="off"),
    }
    one = request(sensors=states, utility=UTILITY)
    one = replace(
        one, budget=Budget(flops=one.cost({"lidar": "run", "cam_0": "run"}, 3, "int8").flops)
    )
    found = OptimalPolicy().explain(one)
    assert found.plan == choose("optimal", one)
    assert found.runner_up is not None and found.runner_up.sensors != found.plan.sensors
    assert found.plan.expected is not None and found.runner_up.expected is not None
    assert found.runner_up.expected <= found.plan.expected
    assert list(found.sensors) == ["cam_0", "lidar", "objects"]
    for name, worth in found.sensors.items():
        assert worth.used == (name in found.plan.sensors)
        depth, precision = found.plan.tail_blocks, found.plan.precision
        if worth.used:
            assert worth.fits
            rest: dict[str, SensorAction] = {
                s: a for s, a in found.plan.sensors.items() if s != name
            }
            assert found.plan.flops - one.cost(rest, depth, precision).flops == worth.flops
        else:
            more: dict[str, SensorAction] = {**found.plan.sensors, name: "run"}
            assert one.cost(more, depth, precision).flops - found.plan.flops == worth.flops
        assert worth.share > 0
    assert 0 < found.fitting < found.plans == 27 * 8
    with pytest.raises(ConfigError, match="tailwire calibrate"):
        OptimalPolicy().explain(request())
