"""Results are kept and compared: counted figures exactly, times within a tolerance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tailwire.benchmarks.result_file import (
    compare_results,
    figure,
    read_result,
    stamped,
    write_result,
)
from tailwire.runtime.errors import ConfigError


def _result(**values: Any) -> dict[str, Any]:
    return stamped(
        {
            "benchmark": "frame",
            "ms": {"p50": 100.0},
            "flops": 10**12,
            "speed": 50.0,
            "settings": {"precision": "int8"},
            "machine": {"cpu": "one", "threads": 2, "date": "then"},
            "figures": {
                "ms.p50": figure("lower"),
                "flops": figure("lower", counted=True),
                "speed": figure("higher"),
            },
            **values,
        },
        "1.2",
    )


def test_a_result_that_was_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "frame.json"
    write_result(path, _result())
    assert read_result(path) == _result()
    assert read_result(path)["format_version"] == 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "no result can be read"),
        ("[1]", "no result of a benchmark"),
        (json.dumps({"benchmark": "frame"}), "format None"),
        (json.dumps({"benchmark": "frame", "format_version": 99}), "format 99"),
    ],
)
def test_other_files_are_refused_with_the_reason(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "old.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=problem):
        read_result(path)


def test_equal_results_have_no_regression() -> None:
    found = compare_results(_result(), _result())
    assert found["regressions"] == []
    assert {row["verdict"] for row in found["rows"].values()} == {"same"}
    assert found["notes"] == []


def test_times_have_a_tolerance_and_counts_have_none() -> None:
    slower = _result(ms={"p50": 109.0}, flops=10**12 + 1, speed=46.0)
    assert compare_results(_result(), slower)["regressions"] == ["flops"]
    far = compare_results(_result(), _result(ms={"p50": 111.0}, speed=40.0))
    assert far["regressions"] == ["ms.p50", "speed"]
    assert far["rows"]["ms.p50"]["change"] == pytest.approx(0.11)
    better = compare_results(_result(), _result(ms={"p50": 50.0}, flops=10**12 - 1, speed=90.0))
    assert {row["verdict"] for row in better["rows"].values()} == {"better"}


def test_what_one_of_them_lacks_is_said() -> None:
    rows = compare_results(_result(speed=None), _result(ms={}))["rows"]
    assert rows["speed"]["verdict"] == rows["ms.p50"]["verdict"] == "missing"


def test_other_machines_and_settings_are_noted() -> None:
    other = _result(machine={"cpu": "two", "threads": 2}, settings={"precision": "int4"})
    notes = compare_results(_result(), other)["notes"]
    assert notes == ["machine.cpu was one, is two", "settings.precision was int8, is int4"]


def test_two_benchmarks_are_not_compared() -> None:
    with pytest.raises(ConfigError, match="'llm'"):
        compare_results(_result(benchmark="llm"), _result())
