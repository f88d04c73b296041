"""Adaptation in the background: what is learned, what is refused, what stays untouched."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tailwire.runtime.errors import BudgetError, ConfigError, EngineError, PackError, SensorError
from tailwire.runtime.serving import Serving

from ...fakes import QUESTIONS, SENSORS, FakeRuntime, connection_spec, fake_runtime, frames, said
from .lidar_task import CAMERAS, add_lidar, lidar_data

if TYPE_CHECKING:
    from ...built_models import TinyModels

pytest.importorskip("torch", reason="adaptation is in torch")

from tailwire.runtime.adaptation.data import KnownQuestion
from tailwire.runtime.adaptation.request import AdaptationBudget, AdaptationRequest

#: Makes runtimes that see with cameras, at depth 4.
Adaptable = Callable[..., FakeRuntime]


@pytest.fixture
def adaptable(tiny: TinyModels, tmp_path: Path) -> Iterator[Adaptable]:
    made: list[FakeRuntime] = []

    def build(kind: str = "conditioned", **options: Any) -> FakeRuntime:
        spec = connection_spec(kind, **options.pop("spec", {}))
        given = {"sensors": CAMERAS, "tail_blocks": 4, **options}
        checkpoint = tiny.folder("llama")
        made.append(
            fake_runtime(tiny.model("llama"), tmp_path, spec, checkpoint=checkpoint, **given)
        )
        for text, answers in QUESTIONS:
            made[-1].runtime.watch(text, answers)
        return made[-1]

    yield build
    for fake in made:
        # The language model is shared, so the runtime is not closed.
        fake.perception.close()


@pytest.mark.parametrize("kind", ["conditioned", "plain"])
def test_a_sensor_is_learned_while_the_runtime_answers(adaptable: Adaptable, kind: str) -> None:
    rt = adaptable(kind).runtime
    before = rt.step(frames())
    old = rt.connection
    adaptation = rt.adapt(add_lidar(), lidar_data())
    answered = 0
    while not adaptation.is_over:
        assert len(rt.step(frames(answered * 100.0))) == len(QUESTIONS)
        answered += 1
    result = adaptation.result()
    assert result.outcome == "swapped", result.reason
    assert answered > 0
    assert result.accuracy is not None
    assert result.accuracy.new_after > 0.9 > result.accuracy.old_before
    # Cameras answer what they answered, since nothing of theirs was trained.
    assert result.accuracy.old_after == result.accuracy.old_before
    for name, array in old.weights.items():
        is_new = name.startswith(("lidar.", "gate.lidar", "sensor.lidar_top"))
        assert np.array_equal(rt.connection.weights[name], array) != is_new, name
    assert rt.sensors == SENSORS
    after = rt.step(frames(1e5))
    assert after[0].sensors.keys() == set(SENSORS)
    assert after[0].pack.endswith("+add-lidar_top")
    assert result.training_flops > 0
    assert result.steps > 0
    # Roll-back is bit-identical.
    rt.forget_frames()
    rolled = rt.roll_back()
    assert rolled.sensors == SENSORS
    assert rt.connection is old
    assert said(rt.step(frames())) == said(before)


def test_a_lora_is_learned_with_it_and_a_shallower_tail_may_be_asked_for(
    adaptable: Adaptable,
) -> None:
    rt = adaptable().runtime
    request = add_lidar(lora_rank=2, tail_blocks=2, tolerance=1.0)
    result = rt.adapt(request, lidar_data()).result(60)
    assert (result.outcome, result.lora_rank, result.tail_blocks) == ("swapped", 2, 2)
    assert rt.connection.spec.lora_rank == 2
    assert rt.tail_blocks == 2
    # Of the blocks below the tail, nothing was learned.
    assert not rt.connection.weights["lora.1.key.b"].any()
    assert rt.connection.weights["lora.3.key.b"].any()
    assert len(rt.step(frames())) == len(QUESTIONS)
    rt.roll_back()
    assert rt.connection.spec.lora_rank == 0
    assert rt.tail_blocks == 4


def test_a_replaced_sensor_goes_and_a_dropped_one_leaves_the_others(adaptable: Adaptable) -> None:
    rt = adaptable().runtime
    swapped = rt.adapt(add_lidar(add=(), replace={"cam_back": "lidar_top"}), lidar_data())
    assert swapped.result(60).outcome == "swapped"
    assert rt.sensors == ("cam_front", "lidar_top")
    # Old sensors have no say here, so that no fall can be found with them.
    dropped = rt.adapt(add_lidar(add=(), drop=("cam_front",), tolerance=1.0), lidar_data())
    result = dropped.result(60)
    assert result.new_sensors == ("lidar_top",)
    assert result.accuracy is not None
    if result.outcome == "swapped":
        assert result.accuracy.new_after > result.accuracy.new_before
        assert rt.sensors == ("lidar_top",)


def test_a_blind_runtime_gets_its_first_sensor(adaptable: Adaptable) -> None:
    rt = adaptable(sensors=()).runtime
    result = rt.adapt(add_lidar(), lidar_data()).result(60)
    assert result.outcome == "swapped"
    assert rt.sensors == ("lidar_top",)


def test_a_swap_that_is_no_better_is_refused_with_its_figures(adaptable: Adaptable) -> None:
    rt = adaptable().runtime
    data = lidar_data()
    # Noise cannot be learned: the LiDAR says nothing any more.
    tokens = {**data.tokens, "lidar_top": data.tokens["lidar_top"] * 1e-6}
    before, serving = rt.step(frames()), rt.serving
    result = rt.adapt(add_lidar(learning_rate=1e-7), lidar_data(tokens=tokens)).result(60)
    assert result.outcome == "refused"
    assert "%" in result.reason
    assert rt.serving == serving
    assert said(rt.step()) == said(before)
    with pytest.raises(ConfigError, match="nothing was swapped"):
        rt.roll_back()


def test_a_swap_that_forgets_the_old_sensors_is_refused(adaptable: Adaptable) -> None:
    from tailwire.runtime.adaptation.outcome import Accuracies, judge

    figures = {"old_before": 0.8, "new_before": 0.5, "new_after": 0.9, "kept": 1.0}
    assert judge(Accuracies(**figures, old_after=0.795), "add", 0.01)[0]
    passes, reason = judge(Accuracies(**figures, old_after=0.78), "add", 0.01)
    assert not passes
    assert "78.0%" in reason
    assert "80.0%" in reason
    worse = {**figures, "new_after": 0.7, "old_after": 0.8}
    assert not judge(Accuracies(**worse), "replace", 0.01)[0]
    # A sensor that is gone is no measure.
    assert judge(Accuracies(**worse), "drop", 0.01)[0]


def test_a_request_may_ask_for_no_swap(adaptable: Adaptable) -> None:
    rt = adaptable().runtime
    serving = rt.serving
    result = rt.adapt(add_lidar(swap=False), lidar_data()).result(60)
    assert result.outcome == "accepted"
    assert rt.serving == serving


def test_cancelled_adaptations_change_nothing(adaptable: Adaptable) -> None:
    rt = adaptable().runtime
    serving = rt.serving
    adaptation = rt.adapt(add_lidar(epochs=1e6), lidar_data())
    with pytest.raises(ConfigError, match="an adaptation is running"):
        rt.adapt(add_lidar(), lidar_data())
    with pytest.raises(TimeoutError):
        adaptation.result(0.0)
    adaptation.cancel()
    assert adaptation.result(60).outcome == "cancelled"
    assert adaptation.progress().phase == "over"
    assert rt.serving == serving


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")
def test_learning_is_of_low_priority_but_the_swap_is_not(adaptable: Adaptable) -> None:
    rt = adaptable().runtime
    mine = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    serve, seen = rt.serve, []

    def noted(serving: Serving) -> Serving:
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        learning = [t for t in threading.enumerate() if t.name == "tailwire-adapt"]
        seen.append(os.getpriority(os.PRIO_PROCESS, learning[0].native_id or 0))
        return serve(serving)

    rt.serve = noted
    result = rt.adapt(add_lidar(nice=3), lidar_data()).result(60)
    assert result.outcome == "swapped"
    assert seen == [mine, min(19, mine + 3)]
    # Whoever asked keeps theirs.
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == mine


def test_what_was_learned_until_then_is_kept_where_training_is_ended(adaptable: Adaptable) -> None:
    rt = adaptable().runtime
    adaptation = rt.adapt(add_lidar(epochs=1e6), lidar_data())
    while (progress := adaptation.progress()).phase != "over" and progress.step < 200:
        rt.step(frames(progress.step))
    adaptation.finish()
    result = adaptation.result(60)
    assert (result.stopped, result.outcome) == ("asked", "swapped")
    assert 200 <= result.steps < 1e6
    assert rt.sensors == SENSORS


def test_a_runtime_that_is_closed_ends_its_adaptation(
    adaptable: Adaptable, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = adaptable()
    rt = fake.runtime
    adaptation = rt.adapt(add_lidar(epochs=1e6), lidar_data())
    monkeypatch.setattr(rt.model, "close", lambda: None)
    rt.close()
    assert adaptation.is_over
    assert adaptation.result().outcome == "cancelled"
    ours = ("tailwire-adapt", "tailwire-memory", "tailwire-swap")
    assert not [t for t in threading.enumerate() if t.name.startswith(ours)]
    with pytest.raises(EngineError, match="closed"):
        rt.adapt(add_lidar(), lidar_data())


def test_diverged_training_keeps_what_serves(adaptable: Adaptable) -> None:
    rt = adaptable().runtime
    data = lidar_data()
    lidar = data.tokens["lidar_top"].copy()
    # float32 overflows in the input layer.
    lidar[:48] = 3e38
    before, serving = rt.step(frames()), rt.serving
    result = rt.adapt(
        add_lidar(), lidar_data(tokens={**data.tokens, "lidar_top": lidar}, held_out=["scene 5"])
    ).result(60)
    assert result.stopped == "diverged"
    if result.outcome == "refused":
        assert rt.serving == serving
        assert said(rt.step()) == said(before)
    assert "diverged" in result.reason
    assert all(np.isfinite(array).all() for array in rt.connection.weights.values())


def test_a_time_limit_ends_training_with_what_was_learned(adaptable: Adaptable) -> None:
    rt = adaptable().runtime
    request = add_lidar(epochs=1e6, budget=AdaptationBudget(time_s=4.0))
    result = rt.adapt(request, lidar_data()).result(60)
    # As many steps are planned as the time has room for, so the last of them or the clock ends it;
    # how many they are depends on what else the machine does.
    assert result.stopped in ("time", "finished")
    assert 0 < result.steps < 1e6
    assert (rt.sensors == SENSORS) == (result.outcome == "swapped")


@pytest.mark.parametrize(
    ("budget", "field"),
    [
        (AdaptationBudget(flops=1e3), "budget.flops"),
        (AdaptationBudget(memory_bytes=1000), "budget.memory_bytes"),
        (AdaptationBudget(time_s=1e-6), "budget.time_s"),
    ],
)
def test_a_budget_that_nothing_fits_names_the_cheapest_choice(
    adaptable: Adaptable, budget: AdaptationBudget, field: str
) -> None:
    rt = adaptable().runtime
    with pytest.raises(BudgetError, match="cheapest choice, a tail of 2 blocks") as caught:
        rt.adapt(add_lidar(budget=budget), lidar_data()).result(60)
    assert caught.value.field == field
    assert len(rt.step(frames())) == len(QUESTIONS)


def test_a_flops_budget_decides_the_depth_and_is_kept(adaptable: Adaptable) -> None:
    rt = adaptable().runtime
    free = rt.adapt(add_lidar(epochs=1, swap=False), lidar_data()).result(60)
    assert free.tail_blocks == 4
    # Room for one pass at depth 2, but not at 4.
    shallow = rt.adapt(add_lidar(epochs=1, swap=False, tail_blocks=2), lidar_data()).result(60)
    spent = [one.training_flops + one.examining_flops + one.head_flops for one in (shallow, free)]
    assert spent[0] < spent[1]
    request = add_lidar(budget=AdaptationBudget(flops=spent[0] * 1.5), swap=False)
    result = rt.adapt(request, lidar_data()).result(60)
    assert result.tail_blocks in (2, 4)
    total = result.training_flops + result.examining_flops + result.head_flops
    assert total <= request.budget.flops * 1.1  # pyright: ignore[reportOptionalOperand]


def test_requests_that_contradict_what_serves_are_refused(adaptable: Adaptable) -> None:
    rt = adaptable().runtime
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"add": ("radar",)}, SensorError, "no sensor 'radar'"),
        ({"add": ("cam_front",)}, ConfigError, "there already"),
        ({"add": (), "drop": ("lidar_top",)}, ConfigError, "not among"),
        ({"add": (), "drop": CAMERAS}, ConfigError, "no sensor is left"),
        ({"tail_blocks": 3}, ConfigError, "cut"),
        ({"tail_blocks": 6}, ConfigError, "tail of 6"),
    ]
    for changes, kind, words in cases:
        with pytest.raises(kind, match=words):
            rt.adapt(add_lidar(**changes), lidar_data())


def test_data_that_does_not_fit_is_refused(adaptable: Adaptable) -> None:
    rt = adaptable().runtime
    data = lidar_data()
    tokens = dict(data.tokens)
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"questions": data.questions[:40:5]}, ConfigError, "needed"),
        ({"questions": []}, ConfigError, "scenes or time blocks"),
        ({"blocks": ["one"] * len(data.blocks)}, ConfigError, "at least two"),
        ({"tokens": {**tokens, "lidar_top": tokens["cam_front"]}}, PackError, "encoder makes"),
        ({"tokens": {s: tokens[s] for s in CAMERAS}}, ConfigError, "no tokens of 'lidar_top'"),
        ({"tokens": {**tokens, "lidar_top": tokens["lidar_top"] * 0}}, ConfigError, "are empty"),
        (
            {"tokens": {**tokens, "lidar_top": tokens["lidar_top"] * np.nan}},
            ConfigError,
            "not finite",
        ),
        (
            {"questions": [KnownQuestion(0, "What?", "maybe", ("yes", "no"))]},
            ConfigError,
            "maybe|held out",
        ),
    ]
    for changes, kind, words in wrong:
        with pytest.raises(kind, match=words):
            rt.adapt(add_lidar(), lidar_data(**changes))


def test_without_weights_of_the_language_model_or_torch_it_says_so(
    adaptable: Adaptable, monkeypatch: pytest.MonkeyPatch, tiny: TinyModels, tmp_path: Path
) -> None:
    bare = fake_runtime(tiny.model("llama"), tmp_path, connection_spec("plain"), sensors=CAMERAS)
    with pytest.raises(ConfigError, match="not at hand"):
        bare.runtime.adapt(add_lidar(), lidar_data())
    bare.perception.close()
    monkeypatch.setattr("tailwire.runtime.adaptation.adapting.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install"):
        adaptable().runtime.adapt(AdaptationRequest(), lidar_data())
