"""The latency benchmark on a tiny runtime: what counts as which phase, and that all is answered."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tailwire.benchmarks.adaptation_latency import (
    FrameTime,
    _around,
    bench_adaptation_latency,
    made_up_data,
)
from tailwire.runtime.adaptation.request import AdaptationRequest
from tailwire.runtime.runtime import Runtime

from ..fakes import QUESTIONS, SENSORS, connection_spec, fake_runtime, frames

if TYPE_CHECKING:
    from ..built_models import TinyModels

CAMERAS = ("cam_front", "cam_back")


@pytest.fixture
def runtime(tiny: TinyModels, tmp_path: Path) -> Iterator[Runtime]:
    fake = fake_runtime(
        tiny.model("llama"),
        tmp_path,
        connection_spec("conditioned"),
        checkpoint=tiny.folder("llama"),
        sensors=CAMERAS,
        tail_blocks=4,
    )
    for text, answers in QUESTIONS:
        fake.runtime.watch(text, answers)
    yield fake.runtime
    # The language model is shared, so the runtime is not closed.
    fake.perception.close()


def test_all_frames_are_answered_in_all_phases(runtime: Runtime) -> None:
    pytest.importorskip("torch", reason="adaptation is in torch")
    request = AdaptationRequest(
        add=("lidar_top",),
        epochs=1,
        batch=16,
        learning_rate=1e-2,
        precision="float32",
        threads=1,
        nice=0,
        lora_rank=0,
        tolerance=1.0,
    )
    told = bench_adaptation_latency(
        runtime,
        [frames(seed=seed) for seed in range(2)],
        request,
        questions=len(QUESTIONS),
        rate_hz=20,
        frames=6,
        swaps=3,
        threads=1,
    )
    assert told["missing"] == 0
    assert told["ms"]["alone"]["runs"] == 6
    assert told["ms"]["adapting"]["runs"] >= 2
    assert told["adaptation"]["outcome"] in ("swapped", "refused")
    swapped = told["adaptation"]["outcome"] == "swapped"
    assert len(told["swap_ms"]) == 3 + swapped
    # At least the frame behind each swap, unless two swaps share it.
    assert told["ms"]["at_swap"]["runs"] >= 1
    assert told["p99_adapting_ms"] == told["ms"]["adapting"]["p99"]
    assert told["max_at_swap_ms"] == told["ms"]["at_swap"]["max"]
    assert told["machine"]["versions"]["torch"]
    others = told["cores_of_other_processes"]
    assert others.keys() == {"alone", "adapting"}
    assert all(cores is None or 0 <= cores <= (os.cpu_count() or 1) for cores in others.values())


def test_frames_at_a_swap_are_those_under_way_and_the_one_behind() -> None:
    beats = [FrameTime(due, due, due + 0.4, 1) for due in range(8)]
    assert _around(beats, [(2.1, 2.2)]) == beats[2:4]
    assert _around(beats, [(2.6, 2.7)]) == beats[3:4]
    assert _around(beats, [(2.3, 3.1)]) == beats[2:5]
    # A frame counts once, and the last swap may have none behind it.
    assert _around(beats, [(2.1, 2.2), (2.2, 2.3), (7.1, 7.2)]) == [*beats[2:4], beats[7]]


def test_only_the_coming_sensor_tells_the_answer(runtime: Runtime) -> None:
    data = made_up_data(runtime.pack, SENSORS, "lidar_top")
    data.check(runtime.pack, SENSORS)
    assert set(data.tokens) == set(SENSORS)
    answers = {question.moment: question.answer for question in data.questions}
    lidar = np.asarray(data.tokens["lidar_top"], np.float64)[:, 0]
    yes = np.array([answers[moment] == "yes" for moment in range(len(lidar))])
    for sensor, tokens in data.tokens.items():
        first = np.asarray(tokens, np.float64)[:, 0]
        gap = np.abs(first[yes].mean(axis=0) - first[~yes].mean(axis=0)).max()
        assert (gap > 1) == (sensor == "lidar_top"), sensor
