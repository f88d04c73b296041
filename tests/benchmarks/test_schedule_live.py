"""The live part on a small runtime: what is counted is what happened. No time is asserted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tailwire.benchmarks.schedule_decisions import bench_decisions
from tailwire.benchmarks.schedule_live import LiveBench
from tailwire.benchmarks.schedule_plots import draw_live
from tailwire.runtime.plans import Budget
from tailwire.runtime.policies import make_policy

from ..fakes import QUESTIONS, SENSORS, FakeRuntime, connection_spec, fake_runtime, frames
from ..plan_requests import IndependentSensors

if TYPE_CHECKING:
    from ..built_models import TinyModels

GAINS = {"cam_front": 0.3, "cam_back": 0.2, "lidar_top": 0.5}


@pytest.fixture
def fake(tiny: TinyModels, tmp_path: Path) -> Iterator[FakeRuntime]:
    made = fake_runtime(tiny.model("llama"), tmp_path, connection_spec("conditioned"))
    made.runtime.parts.utility, made.runtime.parts.fit_utility = IndependentSensors(GAINS), None
    made.runtime.set_policy("optimal")
    for text, answers in QUESTIONS:
        made.runtime.watch(text, answers)
    yield made
    made.perception.close()


@pytest.fixture
def bench(fake: FakeRuntime) -> LiveBench:
    ticks = [frames(250.0 * n, seed=n) for n in range(4)]
    return LiveBench(fake.runtime, ticks, questions=len(QUESTIONS), rate_hz=4.0)


def test_frames_under_a_deadline_are_counted(fake: FakeRuntime, bench: LiveBench) -> None:
    found = bench.disturbed(12, 6)
    assert found["frames"] == 12
    assert found["deadline_ms"] == pytest.approx(1.5 * found["median_alone_ms"])
    # On a machine that stalls, real deadlines of a few milliseconds may leave no plan.
    assert found["answers_missing"] % len(QUESTIONS) == 0
    line = found["timeline"]
    assert [len(values) for values in line.values()] == [12, 12, 12]
    late = [ms > found["deadline_ms"] + 0.01 for ms in line["ms"]]
    assert found["deadline_miss_rate"] >= sum(late) / 12
    assert found["frames_cut"] <= found["frames_marked"] <= 12
    # Whatever was tried, the runtime is left without limits.
    assert fake.runtime.budget == Budget()


def test_budgets_are_kept_where_they_step(bench: LiveBench) -> None:
    found = bench.budget_steps(3)
    line = found["timeline"]
    assert found["frames"] == len(line["gflop"]) == len(line["budget_gflop"]) == 21
    limits = zip(line["gflop"], line["budget_gflop"], strict=True)
    assert found["frames_over_budget"] == sum(b is not None and g > b for g, b in limits) == 0
    assert line["budget_gflop"][0] is line["budget_gflop"][-1] is None
    assert min(b for b in line["budget_gflop"] if b is not None) < line["gflop"][0]


def test_dead_sensors_are_not_encoded_and_come_back(fake: FakeRuntime, bench: LiveBench) -> None:
    # A camera dies first: the clouds of these frames are too thin to be worth encoding.
    found = bench.sensors_dying(6, ("lidar_top", "cam_back", "cam_front"), share=1.0)
    line = found["timeline"]
    assert found["answers_missing"] == 0
    assert found["frames_of_the_dead"] == 0
    assert line["dead"][:6] == [[]] * 6
    assert line["dead"][18] == sorted(SENSORS)
    # The tokens of before are used while they are young enough: four frames of 250 ms.
    uses = [used.get("cam_front") for used in line["uses"]]
    assert uses[5:12] == ["run", *["reuse"] * 4, None, None]
    assert uses[-6:] == ["run"] * 6


def test_the_picture_is_drawn(bench: LiveBench, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = {
        "disturbed": bench.disturbed(4, 3),
        "budget_steps": bench.budget_steps(1),
        "sensors_dying": bench.sensors_dying(1, SENSORS),
    }
    draw_live(tmp_path / "live.png", found)
    assert (tmp_path / "live.png").read_bytes().startswith(b"\x89PNG")


def test_decisions_are_over_all_plans_of_the_pack(fake: FakeRuntime) -> None:
    parts = replace(fake.runtime.parts)
    found = bench_decisions(make_policy("optimal"), parts, IndependentSensors(GAINS), decisions=230)
    assert found["sensors"] == 3
    assert found["depths"] == [1, 2, 3, 4]
    assert found["plans"] == 27 * 4 * 2
    assert found["decisions"] == 30
    assert 0 < found["p50"] <= found["p99"] <= found["max"]
    assert 0 < found["cpu_p50"] <= found["cpu_p99"]
