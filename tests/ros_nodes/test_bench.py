"""`tailwire bench ros` on a small drive: every figure that it promises, none of them judged."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tailwire.benchmarks.ros_overhead import cpu_seconds
from tailwire.cli import main
from tailwire.simulation.sketch_drive import make_sketch_drive

from .conftest import Setup, missing

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux")


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_figures_of_a_replay(
    environment: Setup, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drive = make_sketch_drive(tmp_path / "sketch", seconds=3.0)
    words = ["bench", "ros", "--json", "--drive", str(drive), "--cancels", "1", "--threads", "1"]
    words += ["--first-tokens", "2", "--seconds", "4", "--withhold", "1"]
    words += ["--model", str(environment.model), "--pack", str(environment.pack)]
    assert main([*words, "--precision", "fp32", "--question", "Is there a bus?"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert 0 < found["node_cores"] <= (os.cpu_count() or 1)
    for name in ("overhead_p50_ms", "overhead_p99_ms", "step_p50_ms", "step_p99_ms"):
        assert found[name] > 0
    assert found["rounds"] > 0
    assert found["rounds_failed"] == 0
    assert found["cancels"] in (0, 1)
    for name in ("core_first_token_p50_ms", "first_token_p50_ms", "first_token_ratio"):
        assert found[name] > 0
    assert found["withheld"] > 0
    assert found["withheld_reported"] == found["withheld_returned"] == found["withheld"]
    # A loop begins with nothing at hand, so that something is lacking for a moment.
    assert found["lacked"] > 0
    assert found["lacked_unreported"] == 0
    assert set(found["sensors"]) == {"cam_front", "cam_back", "lidar_top"}
    assert all(one["received"] > 0 for one in found["sensors"].values())
    assert found["memory_mb"] > 0


@needs_proc
def test_time_on_cores_is_that_of_the_process() -> None:
    before = cpu_seconds(os.getpid())
    assert before is not None
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    after = cpu_seconds(os.getpid())
    assert after is not None and after - before >= 0.17
    assert after == pytest.approx(time.process_time(), abs=0.05)


def test_time_on_cores_is_unknown_where_nobody_tells(tmp_path: Path) -> None:
    assert cpu_seconds(1, tmp_path) is None
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "stat").write_text("1 (a (b) c) S 0 0 0 0 0 0 0 0 0 0 300 200 0 0")
    assert cpu_seconds(1, tmp_path) == 500 / os.sysconf("SC_CLK_TCK")


def test_without_ros_it_says_how_to_get_it(capsys: pytest.CaptureFixture[str]) -> None:
    if not missing():
        pytest.skip("ROS is here")
    assert main(["bench", "ros"]) == 2
    error = capsys.readouterr().err
    assert "is not there" in error
    assert "make ros" in error


def test_a_rate_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "ros", "--rate", "0"]) == 2
    assert "--rate" in capsys.readouterr().err
