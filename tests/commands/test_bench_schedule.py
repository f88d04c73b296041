"""`tailwire bench schedule` from the command line: options, and figures of earlier parts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tailwire.commands.bench_schedule import _budgets, _named, _read, _result, _write
from tailwire.runtime.errors import CacheError, ConfigError

from .conftest import Run


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--parts", "accuracy,speed"], "--parts"),
        (["--every", "0"], "--every"),
        (["--hz", "nan"], "--hz"),
        (["--seed", "-1"], "--seed"),
        (["--minutes", "0"], "--minutes"),
        (["--frames", "0"], "--frames"),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_is_read(
    run: Run, tmp_path: Path, words: list[str], told: str
) -> None:
    outcome = run("bench", "schedule", "--dataroot", tmp_path, "--out", tmp_path / "out", *words)
    assert outcome.code != 0
    assert told in outcome.err


def test_budgets_are_gflop_in_order() -> None:
    assert _budgets(None) is None
    assert _budgets("8, 4.5,8") == [4_500_000_000, 8_000_000_000]
    for text in ("4,x", "0", "-1,3", "inf"):
        with pytest.raises(ConfigError, match="--budgets"):
            _budgets(text)


def test_names_are_those_that_are_known() -> None:
    assert _named("b,a,b", "--policies", ("a", "b")) == ["b", "a"]
    with pytest.raises(ConfigError, match="use some of a, b"):
        _named("c", "--policies", ("a", "b"))


def test_parts_of_an_earlier_run_are_taken_from_the_folder(tmp_path: Path) -> None:
    assert _read(tmp_path / "new", "live") is None
    live = {"disturbed": {"deadline_miss_rate": 0.005, "timeline": {"ms": [1.0]}}}
    _write(tmp_path / "new", "live", live)
    assert _read(tmp_path / "new", "live") == live
    (tmp_path / "new" / "schedule-live.json").write_text("{")
    with pytest.raises(CacheError, match=r"schedule-live\.json"):
        _read(tmp_path / "new", "live")


def test_the_last_line_has_the_keys_and_no_time_lines() -> None:
    class Arguments:
        dataroot = (Path("drives"),)

    live = {"disturbed": {"deadline_miss_rate": 0.005, "timeline": {"ms": [1.0]}}, "figure": None}
    decisions = {"policies": {"optimal": {"p99": 150.0}}}
    accuracy = {"gain_points_at_equal_flops": 4.5, "flops_ratio_at_equal_accuracy": 3.8}
    parts = {"accuracy": accuracy, "live": live, "decisions": decisions}
    found = _result(Arguments(), parts, {})  # pyright: ignore[reportArgumentType]
    assert found["gain_points_at_equal_flops"] == 4.5
    assert found["flops_ratio_at_equal_accuracy"] == 3.8
    assert found["deadline_miss_rate"] == 0.005
    assert found["decision_us_p99"] == 150.0
    assert "timeline" not in json.dumps(found["live"])
    nothing = _result(Arguments(), dict.fromkeys(parts), {})  # pyright: ignore[reportArgumentType]
    assert nothing["deadline_miss_rate"] is None
    assert nothing["accuracy"] is None
