"""Which plans a calibration measures."""

from __future__ import annotations

import itertools
from collections import Counter

from tailwire.benchmarks.calibration_plans import (
    in_turns,
    plans_to_compare_with,
    plans_to_measure,
)

MODALITIES = {"cam_a": "camera", "cam_b": "camera", "cam_c": "camera", "lidar": "lidar"}


def test_every_sensor_is_measured_alone_left_out_and_at_each_age_and_depth() -> None:
    plans = plans_to_measure(MODALITIES, depths=(4, 6), ages_ms=(0, 500))
    assert len(set(plans)) == len(plans)
    found = {(plan.sensors, plan.ages_ms, plan.tail_blocks) for plan in plans}
    for sensor in MODALITIES:
        assert {((sensor,), (age,), 6) for age in (0, 500)} <= found
        assert ((sensor,), (0,), 4) in found
        others = tuple(name for name in MODALITIES if name != sensor)
        assert (others, (0, 0, 0), 6) in found
    assert ((), (), 6) in found
    again = {(plan.sensors, plan.ages_ms) for plan in plans if plan.held_ms == 500}
    assert {(("lidar",), (0,)), (tuple(MODALITIES), (0, 0, 0, 0))} <= again
    assert {plan.held_ms for plan in plans} == {0, 500}
    assert (("cam_a", "cam_b", "cam_c"), (500, 500, 500), 6) in found
    assert any(len(set(plan.ages_ms)) > 1 for plan in plans)
    for plan in plans:
        assert sorted(plan.sensors, key=list(MODALITIES).index) == list(plan.sensors)


def test_draws_repeat_with_the_seed() -> None:
    first, again, other = (
        plans_to_measure(MODALITIES, depths=(4, 6), seed=seed) for seed in (1, 1, 2)
    )
    assert first == again != other


def test_objects_are_measured_alone_and_beside_all_others() -> None:
    plans = plans_to_measure({**MODALITIES, "objects": "objects"}, depths=(6,))
    sets = {plan.sensors for plan in plans if "objects" in plan.sensors}
    assert sets == {("objects",), (*MODALITIES, "objects")}


def test_named_sets_are_measured_and_other_plans_compared_with_them() -> None:
    named = (("cam_a", "lidar"),)
    plans = plans_to_measure(MODALITIES, named=named, depths=(4, 6), random_sets=0)
    (number,) = plans_to_compare_with(plans, MODALITIES, named)
    assert plans[number].sensors == ("cam_a", "lidar")
    assert plans[number].tail_blocks == 6
    default = [plans[at].sensors for at in plans_to_compare_with(plans, MODALITIES)]
    assert set(default) == {("lidar",), ("cam_a", "cam_b", "cam_c"), tuple(MODALITIES)}


def test_turns_come_round_evenly() -> None:
    taken = list(itertools.islice(in_turns(7, seed=3), 70))
    assert set(Counter(taken).values()) == {10}
    assert taken[:7] != taken[7:14]
    assert taken == list(itertools.islice(in_turns(7, seed=3), 70))
