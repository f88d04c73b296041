"""Meters see what is taken and freed; what a machine lacks is said with the reason."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from tailwire.benchmarks.memory_meters import MemoryMeter, PeakSampler, find_meters, read_all
from tailwire.benchmarks.memory_phases import measure_phases, memory_result

MB = 1 << 20


FOLLOW = """
import json
import numpy as np
from tailwire.benchmarks.memory_meters import PeakSampler, find_meters, read_all

meters, absent = find_meters()
before = read_all(meters)
taken = np.ones(64 << 20, np.uint8)
with PeakSampler(meters, every_s=0.005) as sampler:
    after = read_all(meters)
print(json.dumps([before, after, sampler.peaks, absent, int(taken.sum())]))
"""


def test_linux_has_several_meters_that_follow_an_array() -> None:
    # In a process of its own: this one may have room that tests before have freed.
    run = subprocess.run([sys.executable, "-c", FOLLOW], capture_output=True, text=True, check=True)
    before, after, peaks, absent, taken = json.loads(run.stdout)
    assert "no engine" in absent["cuda"]
    for name in ("rss", "pss", "private", "allocator"):
        assert 60 * MB < after[name] - before[name] < 100 * MB
        # The threads that look may leave a page or two in between.
        assert peaks[name] > after[name] - MB
    assert taken == 64 * MB


def test_what_is_absent_has_a_reason(tmp_path: Path) -> None:
    meters, absent = find_meters(tmp_path, gpu=True)
    assert "smaps_rollup" in absent["pss"]
    assert "memory.current" in absent["cgroup"]
    assert "nvmap" in absent["nvmap"]
    # Machines with a GPU have this one.
    assert "cuda" in absent or any(meter.name == "cuda" for meter in meters)


def test_files_of_other_machines_are_read(tmp_path: Path) -> None:
    clients = tmp_path / "sys/kernel/debug/nvmap/iovmm/clients"
    clients.parent.mkdir(parents=True)
    clients.write_text("CLIENT PROCESS PID SIZE\nuser python 12 300K\ntotal 4096K\n")
    group = tmp_path / "sys/fs/cgroup/memory.current"
    group.parent.mkdir(parents=True)
    group.write_text("12345\n")
    found = read_all(find_meters(tmp_path)[0])
    assert found["nvmap"] == 4096 * 1024
    assert found["cgroup"] == 12345


def test_phases_keep_their_own_peaks() -> None:
    kept: list[np.ndarray] = []
    phases = [
        ("spike", lambda: float(np.ones(48 * MB, np.uint8).sum())),
        ("keep", lambda: kept.append(np.ones(24 * MB, np.uint8))),
        ("nothing", lambda: None),
    ]
    meters, absent = find_meters()
    result = memory_result(measure_phases(phases, meters), meters, absent)
    rows = result["phases"]
    spike = rows["spike"]
    assert spike["peak_bytes"] - spike["resident_before_bytes"] > 44 * MB
    assert abs(spike["grew_bytes"]) < 16 * MB
    assert 20 * MB < rows["keep"]["grew_bytes"] < 32 * MB
    assert rows["nothing"]["grew_bytes"] < 4 * MB
    assert result["methods"]["peak_rss"]["peak_bytes"] >= spike["peak_bytes"] - MB
    assert 0.5 < result["agreement_of_resident"] <= 1
    assert len(kept[0]) == 24 * MB


def test_a_meter_that_fails_is_left_out() -> None:
    def fails() -> int:
        raise OSError

    assert read_all([MemoryMeter("a", "", fails), MemoryMeter("b", "", lambda: 7)]) == {"b": 7}
    with PeakSampler([MemoryMeter("b", "", lambda: 7)], every_s=0.001) as sampler:
        pass
    assert sampler.peaks == {"b": 7}
    assert sampler.samples >= 2
