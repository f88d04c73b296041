"""Costs of one plan, against sums by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tailwire.runtime.errors import ConfigError
from tailwire.runtime.passes import question_passes
from tailwire.runtime.plan_classes import LikeSensors, PlanClasses, partition
from tailwire.runtime.plan_costs import MemoryUse, PlanCost
from tailwire.runtime.plan_space import PlanSpace
from tailwire.runtime.plans import Budget, SensorAction

from ..plan_requests import ENCODERS, MIB, SENSORS, costs, formulas, times

ACTIONS: dict[str, SensorAction] = {
    "cam_0": "run",
    "cam_1": "run",
    "cam_2": "reuse",
    "lidar": "run",
    "objects": "reuse",
}
LENGTHS = [22] * 9


def test_flops_are_those_that_answers_report() -> None:
    for depth in (3, 6):
        found = costs().of(ACTIONS, {"objects"}, LENGTHS, depth, "int4")
        frame = formulas().frames["int4"]
        assert found.flops == frame.look(ACTIONS, {"objects"}, 30 - depth, LENGTHS, depth)


def test_stages_are_those_of_the_formulas_by_hand() -> None:
    frame = formulas().frames["int8"]
    stages = frame.stages(ACTIONS, {"objects"}, 24, LENGTHS, 6)
    assert stages.encode == 2 * ENCODERS["camera"].flops + ENCODERS["lidar"].flops
    tokens = 3 * 16 + 64 + 80
    new = 2 * (3 * 16 + 64) * 64 * frame.connection.spec.width
    connect = tail = 0
    # Nine questions of 22 tokens are more than a pass holds.
    assert [len(LENGTHS[part]) for part in question_passes(LENGTHS)] == [5, 4]
    for count in (5, 4):
        connect += frame.connection.connect(tokens, [22] * count)
        rows = frame.connection.rows(tokens)
        tail += frame.model.tail([22] * count, 24, rows, count)
    assert (stages.connect, stages.tail) == (new + connect, tail)


def test_latency_is_the_sum_of_the_p90s_of_its_parts() -> None:
    frame = formulas().frames["int8"]
    stages = frame.stages(ACTIONS, {"objects"}, 24, LENGTHS, 6)
    sizes = {
        "prepare": 3,
        "encode camera": 2,
        "encode lidar": 1,
        "connect": stages.connect / 1e9,
        "tail 6 int8": stages.tail / 1e9,
        "decode": 9,
        "rest": None,
    }
    parts = times()
    p90 = sum(parts[name].at(size).p90_ms for name, size in sizes.items())
    median = sum(parts[name].at(size).median_ms for name, size in sizes.items())
    found = costs().of(ACTIONS, {"objects"}, LENGTHS, 6, "int8")
    assert found.latency_ms == pytest.approx(p90)
    assert found.energy_mj == pytest.approx(12 * median)
    cold = costs(loaded=frozenset({"lidar"})).of(ACTIONS, {"objects"}, LENGTHS, 6, "int8")
    assert cold.latency_ms == pytest.approx(p90 + parts["load camera"].at().p90_ms)
    assert (cold.flops, cold.memory_bytes) == (found.flops, found.memory_bytes)


def test_memory_is_that_of_the_encoders_that_run() -> None:
    memory = MemoryUse(700 * MIB, {"camera": 40 * MIB, "lidar": 30 * MIB}, 60 * MIB)
    now = costs(memory=memory)
    given: list[tuple[dict[str, SensorAction], int]] = [
        (ACTIONS, 70),
        ({"cam_0": "reuse", "lidar": "run", "objects": "run"}, 30),
        ({}, 0),
    ]
    for actions, encoders in given:
        found = now.of(actions, (), LENGTHS, 3, "int8")
        assert found.memory_bytes == (760 + encoders) * MIB


@pytest.mark.parametrize("part", ["connect", "decode", "tail 6 int8", "encode lidar", "prepare"])
def test_without_the_time_of_a_part_latency_and_energy_are_unknown(part: str) -> None:
    known = {name: one for name, one in times().items() if name != part}
    found = costs(times=known).of(ACTIONS, (), LENGTHS, 6, "int8")
    assert (found.latency_ms, found.energy_mj) == (None, None)


def test_parts_that_a_plan_does_not_have_need_no_time() -> None:
    known = {
        name: one
        for name, one in times().items()
        if not name.startswith(("encode", "prepare", "load", "rest", "tail 3"))
    }
    found = costs(times=known).of({"lidar": "reuse"}, (), LENGTHS, 6, "int8")
    assert found.latency_ms is not None


def test_what_exceeds_a_budget() -> None:
    cost = PlanCost(flops=10, latency_ms=5.0, memory_bytes=None, energy_mj=7.0)
    assert cost.exceeds(Budget(flops=10, latency_ms=5.0, energy_mj=7.0, memory_bytes=1)) is None
    assert cost.exceeds(Budget(flops=9)) == "flops"
    assert cost.exceeds(Budget(latency_ms=4.9)) == "latency_ms"
    assert cost.exceeds(Budget(energy_mj=6.9)) == "energy_mj"
    assert replace(cost, memory_bytes=2).exceeds(Budget(memory_bytes=1)) == "memory_bytes"
    assert cost.share_of(Budget(flops=20, latency_ms=4.0, memory_bytes=1)) == 1.25
    assert cost.share_of(Budget()) == 0


def test_a_precision_that_is_not_loaded_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"precision.*fp32.*int8, int4"):
        costs().of({}, (), LENGTHS, 6, "fp32")


def test_states_of_one_class_have_the_same_actions_up_to_like_sensors() -> None:
    space = PlanSpace(tuple(SENSORS), ())
    prepared = [name not in ("cam_1", "cam_3") for name in SENSORS]
    likes, firsts, index = partition(space, list(SENSORS.values()), prepared)
    assert likes == (
        LikeSensors("camera", True, 4),
        LikeSensors("camera", False, 2),
        LikeSensors("lidar", True, 1),
        LikeSensors("objects", True, 1),
    )
    assert firsts == ("cam_0", "cam_1", "lidar", "objects")
    groups = [[0, 2, 4, 5], [1, 3], [6], [7]]
    kinds = np.stack(
        [(space.states[:, g] == a).sum(axis=1) for g in groups for a in (1, 2)], axis=1
    )
    # One to one: as many classes in use as kinds of states, and each pair of both once.
    pairs = np.unique(np.column_stack([index, kinds]), axis=0)
    assert len(pairs) == len(np.unique(index)) == len(np.unique(kinds, axis=0))
    assert index.max() < np.prod([like.ways for like in likes])
    classes = PlanClasses.of(likes, firsts, formulas().frames["int8"])
    runs = kinds[:, [1, 5, 7]] + np.column_stack([kinds[:, 3], 0 * index, 0 * index])
    np.testing.assert_array_equal(classes.runs[index], runs)


def test_a_space_of_like_sensors_has_few_classes() -> None:
    space = PlanSpace(tuple(SENSORS), ())
    likes, _, index = partition(space, list(SENSORS.values()), [True] * len(SENSORS))
    assert [like.ways for like in likes] == [49, 3, 3]
    assert len(np.unique(index)) == 28 * 9
