"""`tailwire bench card` and `frame` from the command line: a tiny model with the starter pack."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Run

FRAME = ("bench", "frame", "--frames", "3", "--warm-up", "1", "--no-probes")


def test_card_counts_parts_and_plans(run: Run, runtime_options: list[str]) -> None:
    outcome = run("bench", "card", "--no-probes", "--questions", "2", *runtime_options)
    assert outcome.code == 0
    card = outcome.json
    assert card["benchmark"] == "card"
    assert card["format_version"] == 1
    assert card["ceiling_ms"] is None
    assert len(card["questions"]) == 2
    full = next(
        p
        for p in card["plans"]
        if p["plan"] == f"all sensors, tail {card['settings']['tail_blocks']}"
    )
    parts = card["parts"]
    encoders = sum(part["flops"] for name, part in parts.items() if name.startswith("encoder"))
    assert full["flops_by_stage"]["encode"] == encoders
    assert full["flops"] == card["flops"] == sum(full["flops_by_stage"].values())
    assert full["flops_by_stage"]["connect"] == parts["connection"]["flops"]
    assert card["memory"]["connection"] == parts["connection"]["weight_bytes"]
    empty = next(plan for plan in card["plans"] if not plan["sensors"])
    assert empty["flops_by_stage"]["encode"] == empty["flops_by_stage"]["connect"] == 0
    assert "parameters" in outcome.out
    assert (
        len(run("bench", "card", "--no-probes", "--json", *runtime_options).out.splitlines()) == 1
    )


def test_frame_has_the_figures_that_issues_name(
    run: Run, runtime_options: list[str], drive: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "frame.json"
    outcome = run(*FRAME, "--nuscenes", drive, "--save", kept, *runtime_options)
    assert outcome.code == 0
    found = outcome.json
    assert json.loads(kept.read_text()) == found
    for name in ("p50_ms", "p99_ms", "flops", "peak_memory_bytes"):
        assert found[name] > 0
    assert found["memory_method"]
    assert found["machine"]["power_mode"]
    assert found["settings"]["frames"] == len(found["timeline_ms"]) == 3
    card = run("bench", "card", "--no-probes", "--json", *runtime_options).json
    rates = found["stage_rates"]
    head = rates.pop("head")
    assert head["flops"] == card["parts"]["language model"]["head_flops_once"] > 0
    assert head["ms"] == found["head_ms"]["median"] > 0
    assert set(rates) == {"encode camera", "encode lidar", "connect", "tail"}
    full = next(plan for plan in card["plans"] if plan["flops"] == card["flops"])
    encoded = sum(rates[f"encode {name}"]["flops"] for name in ("camera", "lidar"))
    assert encoded == full["flops_by_stage"]["encode"]
    # Encoders of the starter pack have no tokens that are not there.
    assert found["rows"] == sum(
        part["tokens_per_frame"] * part["frames"]
        for name, part in card["parts"].items()
        if name.startswith("encoder")
    )
    for stage in ("connect", "tail"):
        assert rates[stage]["flops"] == full["flops_by_stage"][stage]
    assert sum(one["bytes"] for one in rates.values()) == full["weight_bytes"]
    for name, one in rates.items():
        assert one["ms"] == found["stages_ms"][name]["median"]
        assert one["gflop_per_s"] == pytest.approx(one["flops"] / 1e9 / (one["ms"] / 1e3))
        assert one["of_peak_flops"] is None
    # Frames add only what decoding takes.
    assert found["flops_min"] >= card["flops"]


def test_an_earlier_result_is_compared_with(
    run: Run, runtime_options: list[str], drive: Path, tmp_path: Path
) -> None:
    kept, words = tmp_path / "frame.json", (*FRAME, "--nuscenes", drive, *runtime_options)
    old = run(*words, "--save", kept).json
    old["flops"] -= 1
    old["p50_ms"] = old["p99_ms"] = 1e9
    kept.write_text(json.dumps(old))
    outcome = run(*words, "--compare", kept)
    assert outcome.json["comparison"]["regressions"] == ["flops"]
    assert "WORSE" in outcome.out
    kept.write_text(json.dumps({**old, "format_version": 0}))
    outcome = run(*words, "--compare", kept)
    assert outcome.code == 0
    assert "format 0" in outcome.json["comparison"]["skipped"]
    assert "format 0" in outcome.err


def test_wrong_input(run: Run, tmp_path: Path) -> None:
    assert "--compare" in run(*FRAME, "--compare", tmp_path / "none.json").error()
    assert "--tolerance" in run(*FRAME, "--tolerance", "-1").error()
    for option in ("--frames", "--threads", "--questions"):
        assert option in run("bench", "frame", option, "0").error()
