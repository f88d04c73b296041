"""`tailwire plan`: what is told, without a picture or a cloud, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Run

ASK = ["--questions", "How many cars are there?; Is there a bus to the front left of me?"]


def test_without_a_calibration_the_plan_is_that_of_fixed_and_says_so(
    run: Run, runtime_options: list[str]
) -> None:
    outcome = run("plan", *ASK, *runtime_options)
    assert outcome.code == 0
    assert "the pack has no calibration" in outcome.out
    assert "did as 'fixed'" in outcome.out
    assert "2 of 2 answered: count, exist@front left" in outcome.out
    assert "cam_front" in outcome.out
    assert "ms (p90" in outcome.out
    assert "none" in next(line for line in outcome.out.splitlines() if line.startswith("limit"))


def test_json_has_the_plan_the_limits_and_what_is_not_known(
    run: Run, runtime_options: list[str]
) -> None:
    whole = run("plan", *ASK, "--json", "--no-measure", *runtime_options).json
    assert whole["calibrated"] is False
    assert whole["runner_up"] is None
    assert whole["plan"]["latency_ms"] is None
    assert whole["questions"] == ["count", "exist@front left"]
    flops = whole["plan"]["flops"]
    less = run(
        "plan", *ASK, "--json", "--no-measure", "--policy", "round_robin",
        "--budget-flops", str(flops - 1), *runtime_options,
    ).json  # fmt: skip
    assert less["plan"]["flops"] < flops
    assert less["limits"]["flops"]["binds"] is True
    assert 0 < less["limits"]["flops"]["share"] <= 1
    assert len(less["plan"]["sensors"]) < len(whole["plan"]["sensors"])


def test_pins_and_sensors_are_kept(run: Run, runtime_options: list[str]) -> None:
    found = run(
        "plan", *ASK, "--json", "--no-measure", "--sensors", "cam_front,cam_back,lidar_top",
        "--pin", "cam_back=off", "lidar_top=on", *runtime_options,
    ).json  # fmt: skip
    assert sorted(found["plan"]["sensors"]) == ["cam_front", "lidar_top"]


def test_a_budget_that_nothing_fits_names_the_cheapest_plan(
    run: Run, runtime_options: list[str]
) -> None:
    error = run("plan", *ASK, "--no-measure", "--budget-flops", "10", *runtime_options).error()
    assert "budget.flops" in error
    assert "cheapest plan" in error


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--budget-flops", "-1"], "--budget-flops"),
        (["--budget-flops", "nan"], "--budget-flops"),
        (["--budget-latency", "0"], "--budget-latency"),
        (["--budget-latency", "40kg"], "--budget-latency"),
        (["--budget-memory", "inf"], "--budget-memory"),
        (["--budget-memory", "lots"], "--budget-memory"),
        (["--budget-energy", "1e999"], "--budget-energy"),
        (["--policy", "best"], "policy"),
        (["--context", "snow"], "--context"),
        (["--pin", "cam_front"], "--pin"),
        (["--pin", "cam_front=maybe"], "--pin"),
        (["--no-measure", "--budget-latency", "40"], "--no-measure"),
        (["--sensors", "cam_front,,"], "--sensors"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_loaded(
    run: Run, words: list[str], named: str
) -> None:
    assert named in run("plan", *ASK, *words).error()


def test_unknown_sensors_are_named(run: Run, runtime_options: list[str]) -> None:
    for words in (["--pin", "radar=on"], ["--sensors", "radar"]):
        assert "radar" in run("plan", *ASK, "--no-measure", *words, *runtime_options).error()


def test_without_questions_the_pack_must_have_some(
    run: Run, runtime_options: list[str], objects_pack: Path
) -> None:
    options = [*runtime_options, "--pack", str(objects_pack), "--no-measure"]
    assert "--questions" in run("plan", *options).error()
