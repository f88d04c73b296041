"""What steps do to the memory of the process, against arrays of known size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tailwire.runtime import metrics
from tailwire.runtime.metrics import (
    begin_peak,
    peak_memory_bytes,
    peak_since_begin,
    resident_memory_bytes,
)
from tailwire.runtime.process_memory import measured, trim

MB = 1_000_000
# What other threads of a test run may take or free meanwhile.
SLACK = 12 * MB

pytestmark = pytest.mark.skipif(
    resident_memory_bytes() is None or not begin_peak() or not trim(),
    reason="needs /proc with VmHWM that can be set back, and glibc",
)


def test_what_stays_is_told_from_what_was_needed_on_the_way() -> None:
    def step() -> bytearray:
        on_the_way = np.ones(200 * MB, np.uint8)
        kept = bytearray(100 * MB)
        del on_the_way
        return kept

    done = measured(step)
    assert len(done.value) == 100 * MB
    assert done.resident_bytes == pytest.approx(100 * MB, abs=SLACK)
    assert done.peak_bytes == pytest.approx(300 * MB, abs=SLACK)


def test_memory_that_is_given_back_is_no_memory_held() -> None:
    held = [np.ones(50_000, np.uint8) for _ in range(2000)]
    assert measured(held.clear).resident_bytes == 0


def test_the_peak_of_the_process_outlives_a_new_peak() -> None:
    highest = np.ones(150 * MB, np.uint8)
    before = peak_memory_bytes()
    del highest
    assert begin_peak()
    since = peak_since_begin()
    assert since is not None
    assert since < before - 100 * MB
    assert peak_memory_bytes() >= before


def test_without_a_counter_that_can_be_set_back_there_is_no_peak(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(metrics, "_CLEAR_REFS", tmp_path / "no" / "clear_refs")
    done = measured(lambda: bytearray(30 * MB))
    assert done.resident_bytes == pytest.approx(30 * MB, abs=SLACK)
    assert done.peak_bytes is None
