"""`tailwire bench paper` from the command line: a tiny model with the starter pack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .conftest import Run

PAPER = ("bench", "paper", "--count-only", "--depths", "2,4,6,99")


def test_costs_stand_beside_the_papers(
    run: Run, runtime_options: list[str], drive: Path, tmp_path: Path
) -> None:
    words = (*PAPER, "--nuscenes", drive, *runtime_options)
    outcome = run(*words, "--save", tmp_path / "paper.json")
    assert outcome.code == 0
    found = outcome.json
    # Deeper than the model is left out.
    assert [row["method"] for row in found["table"]] == [
        "tail-2",
        "tail-4",
        "tail-6",
        "full",
        "lora",
        "prompt",
        "prefix-full",
        "prefix-lora",
    ]
    ships = f"tail-{found['settings']['ships']}"
    costs = found["counted"]["sample"]
    assert found["flops_ratio_equal_samples"] == costs["full"] / costs[ships]
    assert found["memory_saved"] is None and found["flops_ratio_equal_accuracy"] is None
    assert "bench adaptation" in found["equal_accuracy_absent"]
    assert found["paper"]["headlines"]["memory_saved"] == 0.3
    assert "Not comparable" in outcome.out and "N=10" in outcome.out
    card = run("bench", "card", "--no-probes", "--json", *runtime_options).json
    full = next(p for p in card["plans"] if p["plan"] == f"all sensors, {ships.replace('-', ' ')}")
    stages = full["flops_by_stage"]
    assert found["counted"]["frame"][ships] == stages["connect"] + stages["tail"]
    kept = json.loads((tmp_path / "paper.json").read_text())
    kept["counted"]["sample"]["full"] -= 1
    (tmp_path / "paper.json").write_text(json.dumps(kept))
    again = run(*words, "--compare", tmp_path / "paper.json").json
    assert again["comparison"]["regressions"] == ["counted.sample.full"]


def switch(method: str, *points: tuple[float, int]) -> dict[str, Any]:
    looks = [{"accuracy": share, "flops": flops} for share, flops in points]
    keys = {"phase": "switch", "method": method, "condition": "night", "change": "C->C+L"}
    return {**keys, "accuracy": points[-1][0], "standard_error": 0.01, "points": looks}


def test_runs_say_what_they_began_with(
    run: Run, runtime_options: list[str], drive: Path, tmp_path: Path
) -> None:
    words = (*PAPER, "--nuscenes", drive, *runtime_options, "--runs", tmp_path)
    settings = {"conditions": ["night"], "start": "driving 1"}
    (tmp_path / "adaptation-settings.json").write_text(json.dumps(settings))
    rows = [
        switch("prefix-full", (0.3, 0), (0.5, 200)),
        switch("tail-4", (0.3, 0), (0.5, 40), (0.6, 80)),
    ]
    file = tmp_path / "adaptation-runs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    outcome = run(*words)
    found = outcome.json
    assert found["flops_ratio_equal_accuracy"] == 5.0
    assert found["equal_accuracy_full_is"] == "prefix-full"
    assert found["equal_accuracy_start"] == "driving 1"
    assert "5.0x fewer than full fine-tuning (prefix-full from driving 1)" in outcome.out
    shares = {row["method"]: row["accuracy"] for row in found["table"]}
    assert shares["tail-4"]["added"] == 0.6 and shares["tail-4"]["added_error"] == 0.01
    assert shares["prefix-full"]["added"] == 0.5 and shares["full"]["added"] is None
    file.write_text(json.dumps(switch("full", (0.3, 0), (0.55, 900))) + "\n" + file.read_text())
    found = run(*words).json
    assert found["equal_accuracy_full_is"] == "full"
    assert found["flops_ratio_equal_accuracy"] == 900 / 80


def test_wrong_input(run: Run, runtime_options: list[str], drive: Path, tmp_path: Path) -> None:
    assert "--depths" in run(*PAPER[:3], "--depths", "two").error()
    assert "--batch" in run(*PAPER, "--batch", "0").error()
    assert str(tmp_path) in run(*PAPER, "--runs", tmp_path).error()
    here = ("--nuscenes", drive, *runtime_options)
    assert "--add" in run(*PAPER, "--add", "cam_front", *here).error()
    assert "no sensor 'sonar'" in run(*PAPER, "--add", "sonar", *here).error()
