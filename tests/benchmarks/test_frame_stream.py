"""The frame benchmark runs every encoder in every frame, and its figures are those of answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tailwire.benchmarks.frame_stream import StreamMoment, bench_frame

from ..built_models import TinyModels
from ..fakes import QUESTIONS, SENSORS, FakeRuntime, fake_runtime, frames

FRAMES, WARM_UP = 4, 2


@pytest.fixture
def fake(tiny: TinyModels, tmp_path: Path) -> FakeRuntime:
    made = fake_runtime(tiny.model("llama"), tmp_path)
    for text, answers in QUESTIONS:
        made.runtime.watch(text, answers)
    return made


def _moment(step: int) -> StreamMoment:
    return StreamMoment(frames(stamp_ms=100 * step, seed=step), begins=step == 3)


def test_every_frame_is_encoded_and_counted(fake: FakeRuntime) -> None:
    told: list[tuple[int, int]] = []
    result = bench_frame(
        fake.runtime,
        _moment,
        frames=FRAMES,
        warm_up=WARM_UP,
        threads=1,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told[-1] == (FRAMES, FRAMES)
    assert fake.engines["camera"].frames == 2 * (FRAMES + WARM_UP)
    assert fake.engines["lidar"].frames == FRAMES + WARM_UP
    again = fake.runtime.step(frames(stamp_ms=10_000, seed=99))
    assert result["flops"] == result["flops_min"] == result["flops_max"] == again[0].flops
    assert result["answers"] == FRAMES * len(QUESTIONS)
    assert result["answers_missing"] == 0
    assert result["settings"]["sensors"] == list(SENSORS)


def test_percentiles_and_stages_belong_to_the_same_frames(fake: FakeRuntime) -> None:
    result = bench_frame(fake.runtime, _moment, frames=FRAMES, warm_up=WARM_UP, threads=1)
    times = np.array(result["timeline_ms"])
    assert result["ms"]["runs"] == len(times) == FRAMES
    assert result["p50_ms"] == pytest.approx(np.median(times), abs=1e-3)
    assert result["p99_ms"] >= result["p90_ms"] >= result["p50_ms"]
    stages = {"prepare", "encode camera", "encode lidar", "connect", "tail", "decode", "rest"}
    assert stages == set(result["stages_ms"])
    # The timeline is told to a microsecond.
    assert sum(stage["min"] for stage in result["stages_ms"].values()) <= times.min() + 1e-3
    assert result["peak_memory_bytes"] > 0
    assert "RSS" in result["memory_method"]
