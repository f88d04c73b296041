"""Parts are measured on made-up frames, at the start or when they are first needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tailwire.runtime.plan_costs import CONNECT, DECODE, PREPARE, encode_part, load_part, tail_part
from tailwire.runtime.plans import Budget
from tailwire.runtime.questions import Question

from ..timed_runtime import Machine, frames

if TYPE_CHECKING:
    from ..built_models import TinyModels


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_every_part_of_a_plan_is_measured_at_every_depth(
    machine: Machine, tiny: TinyModels, tmp_path: Path
) -> None:
    fake = machine.runtime(tiny, tmp_path, measure=True, policy="optimal")
    found = fake.runtime._loop.experience.times.parts.snapshot()
    expected = {PREPARE, CONNECT, DECODE, *(tail_part(d, "fp32") for d in fake.runtime.depths)}
    for name in ("camera", "lidar"):
        expected |= {encode_part(name), load_part(name)}
    assert set(found) == expected
    assert found[encode_part("camera")].at(1).median_ms == pytest.approx(10)
    assert found[encode_part("camera")].at(2).median_ms == pytest.approx(20)
    assert found[encode_part("lidar")].at(1).median_ms == pytest.approx(20)
    assert found[tail_part(2, "fp32")].at(0.001).median_ms == pytest.approx(30)
    # Two engines of the language model.
    assert found[tail_part(4, "fp32")].at(0.001).median_ms == pytest.approx(60)


def test_it_leaves_no_trace_in_frames(machine: Machine, tiny: TinyModels, tmp_path: Path) -> None:
    rt = machine.runtime(tiny, tmp_path, measure=True).runtime
    assert rt.late_frames == rt.bad_frames == {"cam_front": 0, "cam_back": 0, "lidar_top": 0}
    (answer, *_) = rt.step()
    assert answer.sensors == {}
    assert "no frame yet" in answer.dropped["cam_front"]


@pytest.mark.parametrize(
    ("options", "measured"),
    [
        ({}, False),
        ({"budget": Budget(flops=10**12)}, False),
        ({"budget": Budget(latency_ms=1e6)}, True),
        ({"policy": "optimal"}, True),
        ({"policy": "optimal", "measure": False}, False),
        ({"budget": Budget(latency_ms=1e6), "measure": False}, False),
    ],
)
def test_only_what_needs_times_takes_them(
    machine: Machine,
    tiny: TinyModels,
    tmp_path: Path,
    options: dict[str, Any],
    measured: bool,
) -> None:
    fake = machine.runtime(tiny, tmp_path, **options)
    assert bool(fake.engines["camera"].batches) is measured


def test_what_first_needs_times_measures_once(
    machine: Machine, tiny: TinyModels, tmp_path: Path
) -> None:
    for change in ("policy", "budget", "question"):
        fake = machine.runtime(tiny, tmp_path)
        rt, ran = fake.runtime, fake.engines["camera"].batches
        assert not ran
        once = 0
        for _ in range(2):
            if change == "policy":
                rt.set_policy("greedy")
            elif change == "budget":
                rt.budget = Budget(latency_ms=1e6)
            else:
                rt.watch(Question("Is it?", ("yes", "no"), deadline_ms=1e6))
            once = once or len(ran)
        assert len(ran) == once > 0
        rt.measure()
        assert len(ran) > once


def test_without_a_measured_start_frames_teach_the_times(
    machine: Machine, tiny: TinyModels, tmp_path: Path
) -> None:
    rt = machine.runtime(
        tiny, tmp_path, measure=False, policy="optimal", depths=(), budget=Budget(latency_ms=55)
    ).runtime
    (first, *_) = rt.step(frames(0))
    # Nothing is known yet, so nothing is left out.
    assert len(first.plan.sensors) == 3
    assert first.late_ms == pytest.approx(70 - 55)
    later = [rt.step(frames(100 * number))[0] for number in range(1, 6)]
    for answer in later:
        assert answer.plan.latency_ms is not None
        assert answer.plan.latency_ms <= 55
        assert answer.late_ms is None
