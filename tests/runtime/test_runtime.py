"""The step loop: watching, answering, ages, budgets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tailwire.runtime.backends.onnxruntime_cpu import OnnxRuntimeEngine
from tailwire.runtime.errors import BudgetError, ConfigError, EngineError, SensorError
from tailwire.runtime.language_model import LanguageModel
from tailwire.runtime.passes import MAX_PACKED_TOKENS
from tailwire.runtime.plans import Answer, Budget
from tailwire.runtime.questions import Question

from ..fakes import (
    COUNTS,
    QUESTIONS,
    SENSORS,
    YES_NO,
    Counter,
    MakeRuntime,
    close,
    fake_runtime,
    frame,
    frames,
    said,
)

if TYPE_CHECKING:
    from ..built_models import TinyModels

KINDS = ("plain", "conditioned")


def test_answers_come_in_the_order_of_watching_and_say_what_they_rest_on(
    make: MakeRuntime,
) -> None:
    rt = make().runtime
    answers = rt.step(frames(5))
    assert [answer.question for answer in answers] == [text for text, _ in QUESTIONS]
    for answer, (_, allowed) in zip(answers, QUESTIONS, strict=True):
        assert answer.text in allowed
        assert 1 / len(allowed) ** 4 < answer.confidence <= 1
        assert answer.plan.sensors == dict.fromkeys(SENSORS, "run")
        assert answer.plan.tail_blocks == rt.tail_blocks == 2
        assert answer.plan.precision == "fp32"
        assert answer.dropped == {}
        assert answer.pack == "fake 1"
        assert {"prepare", "encode camera", "connect", "tail", "decode"} <= set(answer.timings_ms)


@pytest.mark.parametrize("trained", [False, True])
def test_every_answer_says_whether_the_pack_is_trained(make: MakeRuntime, trained: bool) -> None:
    rt = make(trained=trained).runtime
    *_, streamed = rt.stream(frames(), Question("What?", max_new_tokens=2))
    assert isinstance(streamed, Answer)
    answers = [*rt.step(frames()), rt.ask(frames(), "What?", YES_NO), streamed]
    assert [answer.pack_trained for answer in answers] == [trained] * 5


def test_unwatch_drops_one_question_and_numbers_are_not_used_again(make: MakeRuntime) -> None:
    rt = make(watch=False).runtime
    first, second = (rt.watch(text, answers) for text, answers in QUESTIONS[:2])
    rt.unwatch(first)
    third = rt.watch(*QUESTIONS[2])
    assert len({first, second, third}) == 3
    assert [a.question for a in rt.step(frames())] == [QUESTIONS[1][0], QUESTIONS[2][0]]
    with pytest.raises(ConfigError, match="standing question"):
        rt.unwatch(first)


def test_without_questions_nothing_runs(make: MakeRuntime) -> None:
    fake = make(watch=False)
    assert fake.runtime.step(frames()) == []
    assert fake.engines["camera"].batches == []


@pytest.mark.parametrize("kind", KINDS)
def test_asking_is_watching_for_one_step(make: MakeRuntime, kind: str) -> None:
    rt = make(kind).runtime
    standing = rt.step(frames())
    asked = [rt.ask(frames(), *question) for question in QUESTIONS]
    assert close(standing, asked)
    assert len(rt.step()) == len(QUESTIONS)


def test_frames_may_be_a_list_a_mapping_or_pushed_before(make: MakeRuntime) -> None:
    given = frames(3)
    results = [make().runtime for _ in range(3)]
    assert all(results[2].push(one) for one in given)
    answers = [
        results[0].step(given),
        results[1].step({one.sensor: one for one in given}),
        results[2].step(),
    ]
    assert said(answers[0]) == said(answers[1]) == said(answers[2])


def test_stamp_is_the_oldest_sensors_and_ages_count_from_the_newest(make: MakeRuntime) -> None:
    rt = make().runtime
    given = [frame("cam_front", 1000), frame("cam_back", 940), frame("lidar_top", 970)]
    (answer, *_) = rt.step(given)
    assert answer.stamp_ns == 940_000_000
    ages = {sensor: use.age_ms for sensor, use in answer.sensors.items()}
    assert ages == {"cam_front": 0.0, "cam_back": 60.0, "lidar_top": 30.0}
    assert [use.stamp_ns for use in answer.sensors.values()] == [
        1_000_000_000,
        940_000_000,
        970_000_000,
    ]


def test_old_and_missing_frames_are_named_and_not_used(make: MakeRuntime) -> None:
    rt = make(max_age_ms=100).runtime
    (answer, *_) = rt.step([frame("cam_front", 1000), frame("cam_back", 899)])
    assert list(answer.sensors) == ["cam_front"]
    assert "101 ms" in answer.dropped["cam_back"]
    assert "100" in answer.dropped["cam_back"]
    assert "no frame yet" in answer.dropped["lidar_top"]
    (answer, *_) = rt.step([frame("cam_back", 900)])
    assert list(answer.sensors) == ["cam_front", "cam_back"]


def test_a_sensor_that_stops_sending_ages_out(make: MakeRuntime) -> None:
    rt = make(max_age_ms=100).runtime
    rt.step(frames(0))
    (at_limit, *_) = rt.step(frames(100, 1, SENSORS[:2]))
    assert at_limit.sensors["lidar_top"].age_ms == 100
    assert at_limit.sensors["lidar_top"].reused
    (beyond, *_) = rt.step(frames(101, 2, SENSORS[:2]))
    assert list(beyond.sensors) == ["cam_front", "cam_back"]
    assert "lidar_top" in beyond.dropped


def test_late_frames_are_counted_and_change_nothing(make: MakeRuntime) -> None:
    rt = make().runtime
    before = rt.step(frames(1000))
    after = rt.step([frame("cam_front", 999, seed=7), frame("lidar_top", 0, seed=7)])
    assert said(before) == said(after)
    assert rt.late_frames == {"cam_front": 1, "cam_back": 0, "lidar_top": 1}


def test_time_that_jumps_back_needs_forgetting(make: MakeRuntime) -> None:
    rt = make().runtime
    rt.step(frames(1000))
    rt.forget_frames()
    (answer, *_) = rt.step(frames(10, 1))
    assert answer.stamp_ns == 10_000_000
    assert said([answer]) == said(make().runtime.step(frames(10, 1))[:1])


@pytest.mark.parametrize("kind", KINDS)
def test_more_questions_than_one_pass_holds_are_answered_as_one_by_one(
    make: MakeRuntime, kind: str
) -> None:
    rt = make(kind, watch=False).runtime
    texts = [f"Is there anything {'very ' * n}odd in front of me?" for n in range(12)]
    for text in texts:
        rt.watch(text, COUNTS)
    together = rt.step(frames())
    lengths = [len(rt.model.tokenizer.encode(f"{text} Answer:").ids) for text in texts]
    assert sum(lengths) > MAX_PACKED_TOKENS
    alone = [rt.ask(frames(), text, COUNTS) for text in texts]
    assert close(together, alone)


def test_unknown_sensors_are_refused_by_name(make: MakeRuntime) -> None:
    rt = make().runtime
    stranger = frame("radar")
    for call in (
        lambda: rt.push(stranger),
        lambda: rt.step([stranger]),
        lambda: rt.switch_sensors(["cam_front", "radar"]),
        lambda: make(sensors=["radar"]),
    ):
        with pytest.raises(SensorError, match=r"radar.*cam_front"):
            call()
    assert rt.sensors == SENSORS
    assert len(rt.step(frames())[0].sensors) == 3


def test_a_budget_that_nothing_fits_names_the_cheapest_plan(make: MakeRuntime) -> None:
    rt = make().runtime
    full = rt.step(frames())[0].plan.flops
    rt.switch_sensors([])
    cheapest = rt.step()[0].plan.flops
    rt.switch_sensors(None)
    rt.forget_frames()
    rt.budget = Budget(flops=full - 1)
    with pytest.raises(BudgetError, match=rf"{full:,} FLOPs.*{cheapest:,}") as caught:
        rt.step(frames(1))
    assert "switch sensors off" in caught.value.remedy
    rt.switch_sensors([])
    assert rt.step()[0].plan.flops == cheapest
    rt.budget = Budget(flops=cheapest - 1)
    with pytest.raises(BudgetError, match=f"{cheapest:,}") as caught:
        rt.step()
    assert "switch sensors off" not in caught.value.remedy
    # The frames that came while the budget was too small are not lost.
    rt.budget = Budget(flops=full)
    rt.switch_sensors(None)
    assert rt.step()[0].stamp_ns == 1_000_000


def test_unchanged_frames_cost_no_encoder(make: MakeRuntime) -> None:
    rt = make().runtime
    first, second = rt.step(frames())[0], rt.step()[0]
    assert first.plan.flops > second.plan.flops
    assert second.plan.sensors == dict.fromkeys(SENSORS, "reuse")
    assert all(use.reused for use in second.sensors.values())
    assert not any(use.reused for use in first.sensors.values())


def test_heads_run_once(tiny: TinyModels, tmp_path: Path) -> None:
    tiny.model("llama")
    counter = Counter()
    model = LanguageModel(tiny.engines("llama"), counter.load, threads=1)
    rt = fake_runtime(model, tmp_path).runtime
    counter.start()
    rt.watch("Is there a bus behind me?", YES_NO)
    head = [group.file for group, _ in model.groups if group.start < 4]
    assert counter.files == ["embed.onnx", *head]
    for index in range(3):
        counter.start()
        rt.step(frames(index, index))
        assert counter.files == [model.groups[-1][0].file]
    counter.start()
    rt.set_tail(3)
    assert counter.files == []  # the states of the deepest boundary are there already
    rt.close()


def test_a_closed_runtime_says_so(tiny: TinyModels, tmp_path: Path) -> None:
    tiny.model("llama")
    model = LanguageModel(tiny.engines("llama"), OnnxRuntimeEngine, threads=1)
    with fake_runtime(model, tmp_path).runtime as rt:
        rt.watch("Is it?", YES_NO)
        rt.step(frames())
        pieces = rt.stream(frames(), "What?")
        next(pieces)
    rt.close()
    for call in (
        lambda: rt.step(frames(1)),
        lambda: rt.ask((), "Is it?", YES_NO),
        lambda: rt.watch("Is it?", YES_NO),
        lambda: next(pieces),
        lambda: next(rt.stream((), "What?")),
    ):
        with pytest.raises(EngineError, match="closed"):
            call()


def test_wrong_ages_are_refused(make: MakeRuntime) -> None:
    for age in (0, -1, float("nan")):
        with pytest.raises(ConfigError, match="max_age_ms"):
            make(max_age_ms=age)


def test_a_question_too_long_for_its_answer_is_refused_when_asked(make: MakeRuntime) -> None:
    rt = make().runtime
    limit = rt.model.manifest.max_text_tokens
    for answers in (None, COUNTS):
        with pytest.raises(ConfigError, match="question"):
            rt.watch("why " * limit, answers)
    length = len(rt.model.tokenizer.encode("why Answer:").ids)
    with pytest.raises(ConfigError, match="no room"):
        rt.watch(Question("why", max_new_tokens=limit - length + 1))
    assert len(rt.step(frames())) == len(QUESTIONS)
