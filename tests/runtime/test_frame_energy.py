"""Energy per millisecond of frames, from meters that tests make up."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailwire.runtime.energy import EnergyAbsent, open_energy_meter
from tailwire.runtime.frame_energy import FrameEnergy

from ..timed_runtime import Ticks


def test_without_a_meter_there_is_a_reason_and_no_figure() -> None:
    energy = FrameEnergy(lambda: EnergyAbsent("no rails here"))
    assert "yet" in energy.absent
    energy.start()
    with energy.frame():
        pass
    assert energy.absent == "no rails here"
    assert energy.mj_per_ms is None
    energy.close()


def test_power_of_frames_is_the_median_of_what_the_meter_counts(tmp_path: Path) -> None:
    package = tmp_path / "sys/class/powercap/intel-rapl:0"
    package.mkdir(parents=True)
    (package / "name").write_text("package-0\n")
    (package / "max_energy_range_uj").write_text("262143328850\n")
    counter, ticks = package / "energy_uj", Ticks()
    counter.write_text("1000000\n")
    energy = FrameEnergy(lambda: open_energy_meter(tmp_path, ticks))
    energy.start()
    assert energy.absent == ""
    joules = 1.0
    # Ten watts, with one frame in which something else was running.
    for watts in (10, 10, 80, 10, 10):
        with energy.frame():
            ticks.take(50)
            joules += watts * 0.05
            counter.write_text(f"{round(joules * 1e6)}\n")
    assert energy.mj_per_ms == pytest.approx(10, rel=0.02)
    energy.close()
    energy.close()
