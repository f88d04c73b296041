"""Budgets, policies and pins that change while a runtime runs; plans that follow the machine."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tailwire.runtime.errors import BudgetError, ConfigError, SensorError
from tailwire.runtime.frames import SensorFrame
from tailwire.runtime.plans import Budget
from tailwire.runtime.questions import Question

from ..fakes import SENSORS, YES_NO, said
from ..timed_runtime import QUESTIONS, Machine, drive, frames

if TYPE_CHECKING:
    from ..built_models import TinyModels

WHOLE_MS = 10 + 10 + 20 + 30


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_without_limits_fixed_costs_and_tells_nothing_more(
    machine: Machine, tiny: TinyModels, tmp_path: Path
) -> None:
    rt = machine.runtime(tiny, tmp_path).runtime
    (answer, *_) = rt.step(frames(0))
    assert rt.policy == answer.plan.policy == "fixed"
    assert answer.plan.latency_ms is answer.plan.memory_bytes is answer.plan.expected is None
    assert rt.parts is not None
    experience = rt._loop.experience
    assert experience.times.parts.snapshot() == {}
    assert experience.surroundings.context.health == {}


def test_a_policy_is_chosen_by_name_at_any_frame(
    machine: Machine, tiny: TinyModels, tmp_path: Path
) -> None:
    rt = machine.runtime(tiny, tmp_path).runtime
    drive(rt, 0, 2)
    for number, policy in enumerate(("optimal", "greedy", "round_robin", "fixed")):
        rt.set_policy(policy)
        (answer, *_) = rt.step(frames(200 + 100 * number))
        assert answer.plan.policy == rt.policy == policy
        assert answer.plan.sensors == dict.fromkeys(SENSORS, "run")
    with pytest.raises(ConfigError, match=r"policy.*optimal"):
        rt.set_policy("best")
    assert rt.policy == "fixed"


def test_a_policy_may_choose_the_depth_and_answers_as_that_depth_does(
    machine: Machine, tiny: TinyModels, tmp_path: Path
) -> None:
    rt = machine.runtime(tiny, tmp_path, policy="optimal").runtime
    assert rt.depths[-1] == 4
    (answer, *others) = rt.step(frames(0))
    # Deeper is better in this calibration.
    assert answer.plan.tail_blocks == 4
    fixed = Machine().runtime(tiny, tmp_path, tail_blocks=4).runtime
    assert said([answer, *others]) == said(fixed.step(frames(0)))


def test_a_budget_holds_from_the_next_frame(
    machine: Machine, tiny: TinyModels, tmp_path: Path
) -> None:
    rt = machine.runtime(tiny, tmp_path, policy="optimal", depths=()).runtime
    (whole, *_) = rt.step(frames(0))
    limit = whole.plan.flops - 1
    rt.budget = Budget(flops=limit)
    (less, *_) = rt.step(frames(100))
    assert less.flops <= limit
    assert less.plan.flops <= limit
    assert list(less.plan.sensors.values()).count("run") < 3
    rt.budget = Budget()
    assert rt.step(frames(200))[0].plan.sensors == dict.fromkeys(SENSORS, "run")


def test_a_budget_for_some_first_answers_marks_the_others_and_takes_them_next(
    machine: Machine, tiny: TinyModels, tmp_path: Path
) -> None:
    rt = machine.runtime(tiny, tmp_path, policy="optimal", depths=()).runtime
    whole = rt.step(frames(0))
    rt.forget_frames()
    rt.budget = Budget(flops=whole[0].plan.flops // 2)
    first = rt.step(frames(0))
    made = [answer.text != "" for answer in first]
    assert 0 < sum(made) < len(whole)
    for answer, is_made in zip(first, made, strict=True):
        assert answer.flops <= whole[0].plan.flops // 2
        assert is_made or "not answered" in (answer.cut or "")
    second = rt.step(frames(100))
    assert all(answer.text for answer, was_made in zip(second, made, strict=True) if not was_made)
    assert all(answer.text for answer in second)


def test_without_a_calibration_the_plan_says_that_it_is_that_of_fixed(
    machine: Machine, tiny: TinyModels, tmp_path: Path
) -> None:
    rt = machine.runtime(tiny, tmp_path, policy="optimal", gains=None).runtime
    (answer, *_) = rt.step(frames(0))
    assert answer.plan.sensors == dict.fromkeys(SENSORS, "run")
    assert "calibrat" in (answer.plan.note or "")


def test_plans_follow_a_machine_that_drifts_within_five_frames(
    machine: Machine, tiny: TinyModels, tmp_path: Path
) -> None:
    rt = machine.runtime(
        tiny, tmp_path, policy="optimal", depths=(), budget=Budget(latency_ms=1.2 * WHOLE_MS)
    ).runtime
    for answers in drive(rt, 0, 8):
        assert answers[0].plan.sensors == dict.fromkeys(SENSORS, "run")
    machine.slower = 2.0
    slow = [answers[0] for answers in drive(rt, 8, 8)]
    # All at twice the time: 60 for the tail leave no room for anything but a camera.
    for answer in slow[5:]:
        assert answer.cut is None
        assert answer.late_ms is None
        assert answer.plan.latency_ms is not None
        assert answer.plan.latency_ms <= 1.2 * WHOLE_MS
        assert list(answer.plan.sensors.values()).count("run") < 3
    machine.slower = 1.0
    again = [answers[0] for answers in drive(rt, 16, 10)]
    # What was left out was not measured meanwhile, and comes back all the same.
    for answer in again[5:]:
        assert answer.plan.sensors == dict.fromkeys(SENSORS, "run")


def test_an_encoder_that_becomes_slow_alone_is_planned_without(
    machine: Machine, tiny: TinyModels, tmp_path: Path
) -> None:
    rt = machine.runtime(
        tiny, tmp_path, policy="optimal", depths=(), budget=Budget(latency_ms=1.2 * WHOLE_MS)
    ).runtime
    drive(rt, 0, 8)
    machine.ms["lidar"] = 100.0
    answers = [answers[0] for answers in drive(rt, 8, 8)]
    for answer in answers[5:]:
        assert answer.plan.sensors.get("lidar_top") != "run"
        assert answer.plan.sensors["cam_front"] == "run"
        assert answer.late_ms is None


def test_pins_hold_whatever_the_policy_thinks(
    machine: Machine, tiny: TinyModels, tmp_path: Path
) -> None:
    fake = machine.runtime(
        tiny, tmp_path, policy="optimal", depths=(), gains={**dict.fromkeys(SENSORS, 0.0)}
    )
    rt = fake.runtime
    rt.pin("cam_back", "on")
    rt.pin("lidar_top", "off")
    assert rt.pins == {"cam_back": "on", "lidar_top": "off"}
    (answer, *_) = rt.step(frames(0))
    assert "cam_back" in answer.plan.sensors
    assert "lidar_top" not in answer.plan.sensors
    assert "lidar_top" not in answer.dropped
    rt.set_policy("fixed")
    assert list(rt.step(frames(100))[0].plan.sensors) == ["cam_front", "cam_back"]
    rt.pin("lidar_top", None)
    assert list(rt.step(frames(200))[0].plan.sensors) == list(SENSORS)
    with pytest.raises(SensorError, match=r"radar.*cam_front"):
        rt.pin("radar", "on")
    with pytest.raises(ConfigError, match="pin"):
        rt.pin("cam_front", "sideways")  # pyright: ignore[reportArgumentType]


def test_a_question_that_needs_a_sensor_is_not_planned_without_it(
    machine: Machine, tiny: TinyModels, tmp_path: Path
) -> None:
    needs = Question("Is there a bus behind me?", YES_NO, sensors=("cam_back",))
    rt = machine.runtime(
        tiny,
        tmp_path,
        policy="optimal",
        depths=(),
        questions=(needs,),
        gains={"cam_front": 0.9, "cam_back": 0.01, "lidar_top": 0.9},
    ).runtime
    (whole, *_) = rt.step(frames(0))
    rt.budget = Budget(flops=whole.plan.flops - 1)
    (answer, *_) = rt.step(frames(100))
    assert "cam_back" in answer.plan.sensors
    with pytest.raises(SensorError, match=r"question\.sensors.*radar"):
        rt.watch(Question("Is it?", YES_NO, sensors=("radar",)))


def test_a_sick_sensor_is_not_encoded_and_said_so(
    machine: Machine, tiny: TinyModels, tmp_path: Path
) -> None:
    fake = machine.runtime(tiny, tmp_path, policy="optimal", depths=())
    rt = fake.runtime
    drive(rt, 0, 2)
    ran = fake.engines["camera"].frames
    dark = SensorFrame("cam_front", "camera", 200_000_000, "x", np.zeros((24, 32, 3), np.uint8))
    (answer, *_) = rt.step([dark, *frames(200, SENSORS[1:])])
    assert "black" in answer.dropped["cam_front"]
    assert fake.engines["camera"].frames == ran + 1
    assert rt.bad_frames["cam_front"] == 0
    (answer, *_) = rt.step(frames(300))
    assert "cam_front" not in answer.dropped


def test_energy_cannot_be_limited_where_nothing_measures_it(
    machine: Machine, tiny: TinyModels, tmp_path: Path
) -> None:
    rt = machine.runtime(tiny, tmp_path, policy="optimal").runtime
    if rt._loop.experience.energy.absent == "":
        pytest.skip("this machine measures energy")
    rt.budget = Budget(energy_mj=5.0)
    if rt._loop.experience.energy.mj_per_ms is not None:
        pytest.skip("this machine measures energy")
    with pytest.raises(ConfigError, match=r"budget\.energy_mj"):
        rt.step(frames(0))


def test_an_impossible_budget_names_the_cheapest_plan_and_loses_no_frame(
    machine: Machine, tiny: TinyModels, tmp_path: Path
) -> None:
    rt = machine.runtime(tiny, tmp_path, policy="optimal").runtime
    rt.budget = Budget(flops=1)
    with pytest.raises(BudgetError, match=r"budget\.flops.*cheapest.*FLOPs"):
        rt.step(frames(0))
    rt.budget = Budget()
    assert rt.step()[0].plan.sensors == dict.fromkeys(SENSORS, "run")


def test_streams_have_a_plan_too(machine: Machine, tiny: TinyModels, tmp_path: Path) -> None:
    rt = machine.runtime(tiny, tmp_path, policy="optimal").runtime
    *_, answer = rt.stream(frames(0), Question("What is it?", max_new_tokens=3))
    assert answer.plan.policy == "optimal"  # pyright: ignore[reportAttributeAccessIssue]
    assert answer.plan.expected is not None  # pyright: ignore[reportAttributeAccessIssue]


def test_steering_from_other_threads_breaks_no_frame(
    machine: Machine, tiny: TinyModels, tmp_path: Path
) -> None:
    fake = machine.runtime(tiny, tmp_path)
    rt = fake.runtime
    stop = Event()

    def steer() -> None:
        while not stop.is_set():
            for policy in ("optimal", "greedy", "fixed"):
                rt.set_policy(policy)
                rt.pin("cam_back", "off")
                rt.budget = Budget(latency_ms=10 * WHOLE_MS)
                rt.unload_encoder("camera")
                rt.set_tail(4)
                rt.pin("cam_back", None)
                rt.budget = Budget()
                rt.set_tail(2)

    with ThreadPoolExecutor(1) as pool:
        steering = pool.submit(steer)
        try:
            for answers in drive(rt, 0, 40):
                assert [answer.question for answer in answers] == [one.text for one in QUESTIONS]
                assert all(answer.text in YES_NO for answer in answers)
        finally:
            stop.set()
        steering.result()


def test_encoders_are_unloaded_by_name_and_come_back(
    machine: Machine, tiny: TinyModels, tmp_path: Path
) -> None:
    rt = machine.runtime(tiny, tmp_path).runtime
    before = rt.step(frames(0))
    assert rt.encoders_in_memory == {"camera": True, "lidar": True}
    assert rt.unload_encoder("camera")
    assert not rt.unload_encoder("camera")
    assert rt.encoders_in_memory == {"camera": False, "lidar": True}
    # Tokens that are there need no encoder.
    assert said(rt.step()) == said(before)
    assert rt.encoders_in_memory["camera"] is False
    (answer, *_) = rt.step(frames(100))
    assert "load camera" in answer.timings_ms
    assert rt.encoders_in_memory == {"camera": True, "lidar": True}
    with pytest.raises(SensorError, match=r"radar.*camera"):
        rt.unload_encoder("radar")
