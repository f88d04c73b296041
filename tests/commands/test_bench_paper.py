"""`tailwire bench paper` from the command line: a tiny model with the starter pack."""

from __future__ import annotations

import json
from pathlib import Path

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


def test_wrong_input(run: Run, runtime_options: list[str], drive: Path, tmp_path: Path) -> None:
    assert "--depths" in run(*PAPER[:3], "--depths", "two").error()
    assert "--batch" in run(*PAPER, "--batch", "0").error()
    assert str(tmp_path) in run(*PAPER, "--runs", tmp_path).error()
    here = ("--nuscenes", drive, *runtime_options)
    assert "--add" in run(*PAPER, "--add", "cam_front", *here).error()
    assert "no sensor 'sonar'" in run(*PAPER, "--add", "sonar", *here).error()
