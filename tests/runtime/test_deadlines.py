"""Frames that would be late are cut short at safe points and marked; being late raises nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tailwire.runtime.errors import BudgetError, ConfigError
from tailwire.runtime.plans import Budget
from tailwire.runtime.questions import Question

from ..fakes import SENSORS, YES_NO, said
from ..timed_runtime import QUESTIONS, Machine, drive, frames

if TYPE_CHECKING:
    from ..built_models import TinyModels

#: Two cameras, the LiDAR and the tail.
WHOLE_MS = 10 + 10 + 20 + 30


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_in_time_nothing_is_cut(machine: Machine, tiny: TinyModels, tmp_path: Path) -> None:
    rt = machine.runtime(tiny, tmp_path, budget=Budget(latency_ms=WHOLE_MS + 1)).runtime
    plain = Machine().runtime(tiny, tmp_path).runtime
    for number in range(5):
        answers = rt.step(frames(100 * number))
        assert said(answers) == said(plain.step(frames(100 * number)))
        assert answers[0].plan.latency_ms == pytest.approx(WHOLE_MS)
        for answer in answers:
            assert (answer.cut, answer.held, answer.late_ms) == (None, False, None)
            assert list(answer.sensors) == list(SENSORS)


def test_encoders_that_there_is_no_time_for_are_left_out(
    machine: Machine, tiny: TinyModels, tmp_path: Path
) -> None:
    fake = machine.runtime(tiny, tmp_path, budget=Budget(latency_ms=WHOLE_MS + 1))
    rt = fake.runtime
    drive(rt, 0, 5)
    machine.ms["camera"] = 13
    (answer, *_) = rt.step(frames(500))
    # 26 ms for the cameras leave the tail its 30, but the LiDAR would have to be as usual.
    assert answer.late_ms is None
    assert answer.cut == "no time for the encoder lidar"
    assert "left out" in answer.dropped["lidar_top"]
    assert not answer.held
    # Its tokens of the frame before are young enough.
    assert answer.sensors["lidar_top"].reused
    assert answer.sensors["lidar_top"].age_ms == pytest.approx(100)
    assert not answer.sensors["cam_back"].reused
    # The frame was left for later, not refused.
    assert rt.bad_frames["lidar_top"] == 0
    ran = fake.engines["lidar"].frames
    machine.ms["camera"] = 10
    rt.budget = Budget()
    (answer, *_) = rt.step()
    assert fake.engines["lidar"].frames == ran + 1
    assert answer.cut is None


def test_without_time_for_the_tail_last_answers_are_given_again(
    machine: Machine, tiny: TinyModels, tmp_path: Path
) -> None:
    rt = machine.runtime(tiny, tmp_path, budget=Budget(latency_ms=WHOLE_MS + 1)).runtime
    *_, before = drive(rt, 0, 5)
    machine.ms["camera"] = 1000
    answers = rt.step(frames(500))
    assert said(answers) == said(before)
    for answer, last in zip(answers, before, strict=True):
        assert answer.held
        assert answer.question == last.question
        assert "no time for 3 of 3 questions" in (answer.cut or "")
        assert answer.stamp_ns == last.stamp_ns
        assert answer.sensors["lidar_top"].age_ms == pytest.approx(100)
        assert answer.sensors["lidar_top"].reused
        assert "tail" not in answer.timings_ms


def test_a_question_that_has_no_answer_to_give_again_is_answered_late(
    machine: Machine, tiny: TinyModels, tmp_path: Path
) -> None:
    rt = machine.runtime(tiny, tmp_path, budget=Budget(latency_ms=WHOLE_MS + 1)).runtime
    machine.ms["camera"] = 500
    (answer, *_) = rt.step(frames(0))
    assert not answer.held
    assert answer.text in YES_NO
    assert answer.late_ms is not None
    assert answer.late_ms > 400
    assert answer.cut is not None


def test_what_is_given_again_grows_old(machine: Machine, tiny: TinyModels, tmp_path: Path) -> None:
    budget = Budget(latency_ms=WHOLE_MS + 1)
    rt = machine.runtime(tiny, tmp_path, budget=budget, max_age_ms=250).runtime
    drive(rt, 0, 3)
    machine.ms["camera"] = 1000
    held = [rt.step(frames(300 + 100 * number))[0].held for number in range(4)]
    assert held[:2] == [True, True]
    assert not all(held)


def test_the_questions_that_matter_most_are_answered_in_time(
    machine: Machine, tiny: TinyModels, tmp_path: Path
) -> None:
    texts = [f"Is there anything {'very ' * 20}odd at place {n}?" for n in range(9)]
    questions = tuple(
        Question(text, YES_NO, priority=9.0 if n == 8 else 1.0) for n, text in enumerate(texts)
    )
    rt = machine.runtime(tiny, tmp_path, questions=questions).runtime
    first = rt.step(frames(0))
    passes = round(first[0].timings_ms["tail"] / 30)
    assert passes >= 2
    rt.budget = Budget(latency_ms=40 + 30 * passes + 1)
    drive(rt, 1, 4)
    machine.ms["tail"] = 60
    answers = rt.step(frames(500))
    # After the first pass it is clear that the others would be late.
    assert answers[8].held is False
    assert any(answer.held for answer in answers)
    assert all(answer.text in YES_NO for answer in answers)


def test_the_tightest_deadline_of_a_question_holds(
    machine: Machine, tiny: TinyModels, tmp_path: Path
) -> None:
    rt = machine.runtime(tiny, tmp_path).runtime
    drive(rt, 0, 3)
    urgent = Question(QUESTIONS[0].text, YES_NO, deadline_ms=WHOLE_MS + 1)
    key = rt.watch(urgent)
    rt.watch(Question(QUESTIONS[1].text, YES_NO, deadline_ms=10 * WHOLE_MS))
    drive(rt, 3, 3)
    machine.ms["camera"] = 13
    answers = rt.step(frames(600))
    assert all(answer.cut == "no time for the encoder lidar" for answer in answers)
    rt.unwatch(key)
    assert rt.step(frames(700))[0].cut is None


def test_time_spent_waiting_for_the_frame_counts(
    machine: Machine, tiny: TinyModels, tmp_path: Path
) -> None:
    rt = machine.runtime(tiny, tmp_path, budget=Budget(latency_ms=WHOLE_MS + 1)).runtime
    drive(rt, 0, 5)

    def slow() -> list[object]:
        machine.clock.take(15)
        return list(frames(500))

    class Late(list[object]):
        def __iter__(self) -> object:  # pyright: ignore[reportIncompatibleMethodOverride]
            return iter(slow())

    assert rt.step(Late())[0].cut is not None  # pyright: ignore[reportArgumentType]


def test_an_answer_that_comes_late_anyway_has_seen_something(
    machine: Machine, tiny: TinyModels, tmp_path: Path
) -> None:
    rt = machine.runtime(tiny, tmp_path, budget=Budget(latency_ms=WHOLE_MS + 1)).runtime

    class Late(list[object]):
        def __iter__(self) -> object:  # pyright: ignore[reportIncompatibleMethodOverride]
            machine.clock.take(65)
            return iter(frames(0))

    (answer, *_) = rt.step(Late())  # pyright: ignore[reportArgumentType]
    assert list(answer.sensors) == ["cam_front"]
    assert answer.late_ms == pytest.approx(65 + 10 + 30 - (WHOLE_MS + 1))
    assert "left out" in answer.dropped["lidar_top"]


@pytest.mark.parametrize("policy", ["fixed", "greedy", "optimal", "round_robin"])
def test_a_slow_machine_never_raises_and_every_question_gets_its_answer(
    machine: Machine, tiny: TinyModels, tmp_path: Path, policy: str
) -> None:
    rt = machine.runtime(
        tiny, tmp_path, policy=policy, budget=Budget(latency_ms=1.5 * WHOLE_MS)
    ).runtime
    drive(rt, 0, 5)
    for number in range(5, 60):
        machine.slower = (1.0, 3.0, 12.0, 1.0, 2.0)[(number // 7) % 5]
        answers = rt.step(frames(100 * number))
        assert [answer.question for answer in answers] == [one.text for one in QUESTIONS]
        for answer in answers:
            assert answer.text in YES_NO
            assert answer.late_ms is None or answer.late_ms > 0


def test_a_deadline_that_the_machine_can_never_keep_names_the_cheapest_plan(
    machine: Machine, tiny: TinyModels, tmp_path: Path
) -> None:
    rt = machine.runtime(tiny, tmp_path, policy="optimal", budget=Budget(latency_ms=5)).runtime
    with pytest.raises(BudgetError, match=r"budget\.latency_ms.*cheapest.*30\.0 ms"):
        rt.step(frames(0))


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_deadlines_and_priorities_that_mean_nothing_are_refused(value: float) -> None:
    with pytest.raises(ConfigError, match=r"question\.deadline_ms"):
        Question("Is it?", deadline_ms=value)
    with pytest.raises(ConfigError, match=r"question\.priority"):
        Question("Is it?", priority=value)
