"""Rates of stages from counted figures and times."""

from __future__ import annotations

from typing import Any

import pytest

from tailwire.benchmarks.stage_rates import stage_rates

CARD: dict[str, Any] = {
    "parts": {
        "encoder camera": {"flops": 6e9, "weight_bytes": 12e6},
        "encoder objects": {"flops": 0, "weight_bytes": 0},
        "connection": {"flops": 1e8, "weight_bytes": 4e6},
        "language model": {"head_flops_once": 3e9, "head_weight_bytes": 100e6},
    },
    "questions": [{}, {}],
}
PLAN: dict[str, Any] = {"flops_by_stage": {"connect": 1e8, "tail": 2e9}, "weight_bytes": 56e6}
TIMES = {
    "encode camera": {"median": 60.0},
    "connect": {"median": 2.0},
    "tail": {"median": 20.0},
    "decode": {"median": 1.0},
}
PEAKS = {
    "gflop_per_s": {"fp32": 200.0, "int8": 400.0},
    "read_gb_per_s": 20.0,
    "copy_gb_per_s": 10.0,
}


def test_shares_are_of_the_peak_of_each_stage() -> None:
    rates = stage_rates(CARD, PLAN, TIMES, PEAKS, "int8")
    assert list(rates) == ["encode camera", "connect", "tail"]
    assert rates["encode camera"]["gflop_per_s"] == pytest.approx(100)
    assert rates["encode camera"]["of_peak_flops"] == pytest.approx(0.5)
    assert rates["tail"]["bytes"] == pytest.approx(40e6)
    assert rates["tail"]["gflop_per_s"] == pytest.approx(100)
    assert rates["tail"]["of_peak_flops"] == pytest.approx(0.25)
    assert rates["tail"]["of_peak_bytes"] == pytest.approx(0.1)
    assert rates["connect"]["gb_per_s"] == pytest.approx(2)


def test_heads_read_their_weights_once_for_each_question() -> None:
    rates = stage_rates(CARD, PLAN, TIMES, PEAKS, "int8", head_ms=50.0)
    assert list(rates) == ["encode camera", "connect", "tail", "head"]
    assert rates["head"]["gflop_per_s"] == pytest.approx(60)
    assert rates["head"]["of_peak_flops"] == pytest.approx(0.15)
    assert rates["head"]["bytes"] == pytest.approx(200e6)
    assert rates["head"]["gb_per_s"] == pytest.approx(4)


def test_without_peaks_or_times_nothing_is_made_up() -> None:
    rates = stage_rates(CARD, PLAN, {"tail": {"median": 20.0}}, None, "int8")
    assert list(rates) == ["tail"] and rates["tail"]["of_peak_bytes"] is None
