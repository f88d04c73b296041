"""Probes give finite ceilings for all precisions; the ceiling of a part is the tighter of two."""

from __future__ import annotations

import math

from tailwire.benchmarks.machine_probes import MachinePeaks, ProbeSizes, probe_machine


def test_all_ceilings_are_measured() -> None:
    peaks = probe_machine(1, ProbeSizes(rows=8, size=64, megabytes=1, runs=2))
    assert set(peaks.flops_per_s) == {"fp32", "int8", "int4"}
    values = [*peaks.flops_per_s.values(), peaks.read_bytes_per_s, peaks.copy_bytes_per_s]
    assert all(math.isfinite(value) and value > 0 for value in values)
    assert peaks.bytes_per_s == max(peaks.read_bytes_per_s, peaks.copy_bytes_per_s)
    assert "[8, 64] x [64, 64]" in peaks.as_json()["method"]


def test_a_part_is_bound_by_products_or_by_bytes() -> None:
    peaks = MachinePeaks({"fp32": 1e9, "int8": 4e9}, 1e9, 2e9, "")
    assert peaks.ceiling_ms(1e9, 1, "fp32") == 1000.0
    assert peaks.ceiling_ms(1e9, 1, "int8") == 250.0
    assert peaks.ceiling_ms(1, 2e9, "fp32") == 1000.0
