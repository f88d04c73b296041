"""Expected accuracy of plans, against a made-up world whose truth is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tailwire.kernels.plan_choice import plan_shares
from tailwire.runtime.calibration_table import CalibrationCell, CalibrationTable, MeasuredPlan
from tailwire.runtime.pack import read_manifest
from tailwire.runtime.plan_space import PlanSpace
from tailwire.runtime.question_kinds import Topic
from tailwire.runtime.utility import UtilityModel, fit_cells, fit_utility

from ..calibrations import (
    CONDITIONS,
    DRIVING,
    TOPICS,
    drawn_cells,
    driving_traits,
    true_accuracy,
)

TRAITS = driving_traits()


@pytest.fixture(scope="module")
def model() -> UtilityModel:
    found = fit_cells(drawn_cells(10), TRAITS)
    assert found is not None
    return found


def _plan(**ages_ms: int) -> MeasuredPlan:
    return MeasuredPlan(
        sensors=tuple(ages_ms), ages_ms=tuple(ages_ms.values()), tail_blocks=6, precision="int8"
    )


def _estimate(model: UtilityModel, plan: MeasuredPlan, key: str, condition: str | None) -> float:
    ages = dict(zip(plan.sensors, plan.ages_ms, strict=True))
    return model.accuracy(key, condition, ages, plan.tail_blocks or 6, "int8").mean


def test_plans_that_nobody_measured_are_predicted(model: UtilityModel) -> None:
    measured = [cell.plan for cell in drawn_cells(1)]
    cameras = [sensor for sensor in TRAITS.modalities if sensor.startswith("cam")]
    plans = [
        _plan(**dict.fromkeys(pair, 0), **more)
        for pair in itertools.combinations(cameras, 2)
        for more in ({}, {"lidar_top": 500}, {"lidar_top": 250})
    ]
    new = [plan for plan in plans if plan not in measured]
    wrong = [
        _estimate(model, plan, key, condition) - true_accuracy(plan, key, condition, TRAITS)
        for plan in new
        for key in TOPICS
        for condition in CONDITIONS
    ]
    assert len(new) >= 30
    assert np.sqrt(np.mean(np.square(wrong))) < 0.035


def test_it_beats_the_counts_of_cells(model: UtilityModel) -> None:
    cells = drawn_cells(10)
    truth = np.array([true_accuracy(c.plan, c.topic, c.condition, TRAITS) for c in cells])
    fitted = np.array([_estimate(model, c.plan, c.topic, c.condition) for c in cells])
    counted = np.array([cell.accuracy for cell in cells])
    assert np.square(fitted - truth).mean() < 0.1 * np.square(counted - truth).mean()


def test_many_at_once_are_each_alone(model: UtilityModel) -> None:
    cells = drawn_cells(1)[::50]
    alone = [
        model.accuracy(
            cell.topic,
            cell.condition,
            dict(zip(cell.plan.sensors, cell.plan.ages_ms, strict=True)),
            cell.plan.tail_blocks or 6,
            cell.plan.precision or "int8",
        ).mean
        for cell in cells
    ]
    np.testing.assert_allclose(model.means(cells), alone, atol=1e-9)
    unsaid = [cell._replace(plan=MeasuredPlan.newest("lidar_top")) for cell in cells[:2]]
    said = [cell._replace(plan=_plan(lidar_top=0)) for cell in cells[:2]]
    np.testing.assert_array_equal(model.means(unsaid), model.means(said))


def test_the_camera_that_looks_there_is_worth_most(model: UtilityModel) -> None:
    front, back = (
        _estimate(model, _plan(**{sensor: 0}), "object@front", "day")
        for sensor in ("cam_front", "cam_back")
    )
    other = _estimate(model, _plan(cam_back_left=0), "object@front", "day")
    assert front > back + 0.15
    assert back == pytest.approx(other, abs=1e-9)


def test_cameras_are_worth_less_at_night_and_tokens_with_age(model: UtilityModel) -> None:
    assert _estimate(model, _plan(cam_front=0), "exist@front", "night") < _estimate(
        model, _plan(cam_front=0), "exist@front", "day"
    )
    ages = [_estimate(model, _plan(lidar_top=age), "count", "day") for age in (0, 300, 600, 1500)]
    assert ages == sorted(ages, reverse=True)
    lidar = list(TRAITS.groups).index("lidar")
    assert model.fitted.life_ms[lidar] == pytest.approx(1000, rel=0.3)


def test_a_shallower_tail_is_worth_less(model: UtilityModel) -> None:
    deep, shallow = (
        model.accuracy("count", "day", {"lidar_top": 0}, depth, "int8").mean for depth in (6, 4)
    )
    blind = _estimate(model, _plan(sonar=0), "count", "day")
    assert shallow - blind == pytest.approx(0.8 * (deep - blind), abs=0.05)
    # What was not measured is taken from the nearest that was.
    assert model.accuracy("count", "day", {"lidar_top": 0}, 3, "fp32").mean == shallow


def test_what_is_not_known_lies_between_what_is(model: UtilityModel) -> None:
    plan = _plan(cam_front=0, cam_front_left=0)
    known = [_estimate(model, plan, "exist", condition) for condition in CONDITIONS]
    assert min(known) < _estimate(model, plan, "exist", None) < max(known)
    assert _estimate(model, plan, "exist", "snow") == _estimate(model, plan, "exist", None)
    kinds = [_estimate(model, plan, key, "day") for key in ("exist", "count", "object", "status")]
    assert min(kinds) < _estimate(model, plan, "other", "day") < max(kinds)
    nothing = _estimate(model, _plan(sonar=0), "exist@front", "day")
    assert nothing == _estimate(model, _plan(cam_back=0), "exist@front", "day")


def test_no_sensor_at_all_is_another_matter_than_one_that_sees_nothing() -> None:
    cells = drawn_cells(12, topics=("exist@front", "count@front"))
    lost = [cell._replace(right=0) if not cell.plan.sensors else cell for cell in cells]
    model, before = fit_cells(lost, TRAITS), fit_cells(cells, TRAITS)
    assert model is not None and before is not None
    assert _estimate(model, _plan(), "exist@front", "day") < 0.05
    assert _estimate(before, _plan(), "exist@front", "day") == pytest.approx(0.52, abs=0.15)
    blind = _estimate(model, _plan(cam_back=0), "exist@front", "day")
    assert blind == _estimate(before, _plan(cam_back=0), "exist@front", "day")
    space = PlanSpace(("lidar_top", "cam_back"), ((6, "int8"), (4, "int8")))
    bound = model.bind(space, TRAITS.modalities)
    found = plan_shares(bound.shares({"exist@front": 1}, "day", np.zeros((2, 2), np.float32)))
    assert (found[:, 0] < 0.05).all()
    assert found[0, space.state_of({"cam_back": "run"})] == pytest.approx(blind, abs=1e-5)
    nobody = fit_cells([cell for cell in cells if cell.plan.sensors], TRAITS)
    assert nobody is not None
    assert _estimate(nobody, _plan(), "exist@front", "day") == pytest.approx(blind)


def test_few_counts_leave_more_unknown() -> None:
    plan = _plan(cam_front=0, lidar_top=0)
    few, many = (fit_cells(drawn_cells(count), TRAITS) for count in (1, 9))
    assert few is not None and many is not None
    ages = {"cam_front": 0.0, "lidar_top": 0.0}
    one, other = (m.accuracy("status@front", "night", ages, 6, "int8") for m in (few, many))
    assert 0 < other.deviation < one.deviation < 0.2
    assert abs(other.mean - true_accuracy(plan, "status@front", "night", TRAITS)) < 0.05
    scattered = fit_cells(drawn_cells(9), TRAITS, dispersion=4)
    assert scattered is not None
    wide = scattered.accuracy("status@front", "night", ages, 6, "int8")
    assert wide.deviation > 1.3 * other.deviation


@pytest.mark.parametrize("turned", [False, True])
def test_all_plans_at_once_equal_each_alone(model: UtilityModel, turned: bool) -> None:
    sensors = tuple(TRAITS.modalities)
    sensors = (*sensors[3:], *sensors[:3]) if turned else sensors
    space = PlanSpace(sensors, ((4, "int8"), (6, "int8"), (6, "fp32")))
    weights = {"exist@front": 1.0, "count": 2.5, "other": 0.5, Topic("status", ("back",)).key: 1.0}
    rng = np.random.default_rng(4)
    ages = rng.uniform(0, 900, (len(sensors), 2)).astype(np.float32)
    ages[2] = np.nan
    bound = model.bind(space, TRAITS.modalities)
    found = plan_shares(bound.shares(weights, "night", ages))
    assert found.shape == (3, 3**8)
    assert found.dtype == np.float32
    for state in rng.integers(0, space.num_states, 40).tolist():
        actions = space.actions(state)
        if sensors[2] in actions:
            assert np.isfinite(found[:, state]).all()
            continue
        own = {
            sensor: float(ages[sensors.index(sensor), 1 if action == "run" else 0])
            for sensor, action in actions.items()
        }
        for number, (depth, precision) in enumerate(space.variants):
            mean = sum(
                weight * model.accuracy(key, "night", own, depth, precision).mean
                for key, weight in weights.items()
            )
            assert found[number, state] == pytest.approx(mean / 5, abs=1e-5)
    again = plan_shares(bound.shares(weights, "night", ages))
    np.testing.assert_array_equal(found, again)


def test_a_machine_without_a_compiler_expects_the_same(
    model: UtilityModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = PlanSpace(tuple(TRAITS.modalities), ((4, "int8"), (6, "int8")))
    ages = np.random.default_rng(4).uniform(0, 900, (len(space.sensors), 2)).astype(np.float32)
    given = {"exist@front": 1.0, "count": 2.5}, "night", ages
    compiled = model.bind(space, TRAITS.modalities).shares(*given)
    monkeypatch.setattr(
        "tailwire.runtime.bound_utility.compiled_plans", lambda: (None, "no compiler")
    )
    plain = model.bind(space, TRAITS.modalities).shares(*given)
    np.testing.assert_array_equal(compiled.tangents.values, plain.tangents.values)


def test_a_second_question_of_the_same_moment_changes_nothing(model: UtilityModel) -> None:
    """What one call leaves for the next is that of its condition and ages, and no other."""
    space = PlanSpace(tuple(TRAITS.modalities)[:5], ((4, "int8"), (6, "int8")))
    bound = model.bind(space, TRAITS.modalities)
    rng = np.random.default_rng(4)
    first, second = (rng.uniform(0, 900, (5, 2)).astype(np.float32) for _ in range(2))
    for weights, condition, ages in (
        ({"exist@front": 1.0, "count": 2.5, "status": 1.0}, "night", first),
        ({"status": 1.0, "exist@front": 3.0}, "night", first),
        ({"count": 1.0}, "day", first),
        ({"count": 1.0}, "day", second),
        ({"status": 1.0}, "day", second),
        ({"status": 1.0, "count": 1.0}, "day", first),
    ):
        fresh = model.bind(space, TRAITS.modalities)
        alone = plan_shares(fresh.shares(weights, condition, ages))
        found = plan_shares(bound.shares(weights, condition, ages))
        np.testing.assert_allclose(found, alone, rtol=1e-6)


def test_spaces_of_few_and_of_unknown_sensors_are_bound(model: UtilityModel) -> None:
    modalities = {**TRAITS.modalities, "lidar_rear": "lidar", "sonar": "sonar"}
    for sensors in ((), ("lidar_top",), ("sonar", "lidar_rear", "cam_back")):
        space = PlanSpace(sensors, ((6, "int8"),))
        ages = np.zeros((len(sensors), 2), np.float32)
        found = plan_shares(model.bind(space, modalities).shares({"count": 1}, None, ages))
        assert found.shape == (1, 3 ** len(sensors))
        assert found[0, 0] == pytest.approx(_estimate(model, _plan(), "count", None), abs=1e-5)
        if len(sensors) == 3:
            states = [space.state_of({sensor: "run"}) for sensor in sensors]
            sonar, lidar, camera = found[0, states]
            assert lidar > camera > sonar


def test_a_table_of_the_first_format_makes_a_model() -> None:
    cameras = tuple(s for s in TRAITS.modalities if s.startswith("cam"))
    cells = [
        CalibrationCell(MeasuredPlan.newest(*sensors), kind, condition, 100, right)
        for sensors, rights in (
            (("lidar_top",), (80, 55)),
            (cameras, (70, 43)),
            (tuple(s for s in TRAITS.modalities if s != "objects"), (82, 58)),
        )
        for kind, right in zip(("exist", "count"), rights, strict=True)
        for condition in CONDITIONS
    ]
    table = CalibrationTable.of("made up", cells)
    model = fit_utility(table, read_manifest(DRIVING))
    assert model is not None
    assert _estimate(model, _plan(lidar_top=0), "exist", "day") == pytest.approx(0.8, abs=0.03)
    assert _estimate(model, _plan(lidar_top=0), "count", "day") == pytest.approx(0.55, abs=0.03)
    # No plan of the table saw little: that one camera is worth less than six is known beforehand.
    one = _estimate(model, _plan(cam_front=0), "count", "day")
    assert one < _estimate(model, _plan(**dict.fromkeys(cameras, 0)), "count", "day") - 0.05


def test_without_cells_there_is_no_model() -> None:
    assert fit_utility(CalibrationTable.of("nothing", []), read_manifest(DRIVING)) is None


def _held_cells(life_ms: float, questions: int) -> list[CalibrationCell]:
    """Answers that lose their worth at a known pace, of comparisons twice as fast."""
    rng = np.random.default_rng(4)
    found: list[CalibrationCell] = []
    for ages in ({"lidar_top": 0}, {"cam_front": 0, "lidar_top": 0}):
        given = _plan(**ages)
        for held_ms in (500, 1000):
            plan = given.model_copy(update={"held_ms": held_ms})
            for key, condition in itertools.product(TOPICS, CONDITIONS):
                own_ms = life_ms / 2 if key.startswith("comparison") else life_ms
                blind = true_accuracy(_plan(), key, condition, TRAITS)
                gain = true_accuracy(given, key, condition, TRAITS) - blind
                share = blind + gain * np.exp(-held_ms / own_ms)
                right = int(rng.binomial(questions, share))
                found.append(CalibrationCell(plan, key, condition, questions, right))
    return found


def test_answers_that_are_given_again_fade_at_a_pace_of_their_own() -> None:
    fresh = drawn_cells(10)
    model, without = fit_cells([*fresh, *_held_cells(700.0, 60)], TRAITS), fit_cells(fresh, TRAITS)
    assert model is not None and without is not None
    ages = {"lidar_top": 0.0}

    def held(one: UtilityModel, key: str, held_ms: float) -> float:
        return one.held(key, "day", ages, held_ms, 6, "int8").mean

    assert held(model, "exist", 0) == model.accuracy("exist", "day", ages, 6, "int8").mean
    # Tokens are known as they were.
    np.testing.assert_array_equal(model.fitted.coefficients, without.fitted.coefficients)
    assert model.fading is not None and without.fading is None
    for key, life_ms in (("exist", 700.0), ("count", 700.0), ("comparison", 350.0)):
        blind = true_accuracy(_plan(), key, "day", TRAITS)
        gain = true_accuracy(_plan(lidar_top=0), key, "day", TRAITS) - blind
        expected = blind + gain * np.exp(-600 / life_ms)
        assert held(model, key, 600) == pytest.approx(expected, abs=0.06)
    # Where nobody measured it, an answer is worth what its tokens would be if used again.
    older = without.accuracy("exist", "day", {"lidar_top": 600.0}, 6, "int8").mean
    assert held(without, "exist", 600) == older
    cells = _held_cells(700.0, 60)[::9]
    alone = [
        model.held(
            cell.topic,
            cell.condition,
            dict(zip(cell.plan.sensors, map(float, cell.plan.ages_ms), strict=True)),
            cell.plan.held_ms,
            6,
            "int8",
        ).mean
        for cell in cells
    ]
    np.testing.assert_allclose(model.means(cells), alone, atol=1e-9)
