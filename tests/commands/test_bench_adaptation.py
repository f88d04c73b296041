"""`tailwire bench adaptation` on prepared data of a tiny task, and wrong input."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="what is trained is in torch")

from tailwire.runtime.files import cache_dir
from tailwire.training.prepared_data import read_prepared, write_prepared

from ..benchmarks.adaptation_task import MODALITIES, bench_data
from ..quick_drives import quick_drive
from .conftest import Run

SMALL = ("--depths", "2,3", "--ships", "2", "--width", "16", "--layers", "1", "--heads", "2")
QUICK = (
    "--steps",
    "4",
    "--switch-steps",
    "2",
    "--batch",
    "8",
    "--threads",
    "1",
    "--lora-rank",
    "2",
)


@pytest.fixture
def bench(run: Run, model: Path) -> Run:
    origin = {"language_model": str(model), "sensors": MODALITIES}
    write_prepared(Path("prepared.npz"), replace(bench_data(72).prepared, origin=origin))
    options = ["--model", model, "--prepared", "prepared.npz", "--out", "work", *SMALL, *QUICK]
    options += ["--conditions", "night", "--compute", "float32"]
    return lambda *words: run("bench", "adaptation", *options, *words)


def test_the_table_and_what_is_left_of_it(bench: Run) -> None:
    outcome = bench("--minutes", "1e-9")
    assert outcome.code == 0, outcome.err
    assert not outcome.json["complete"]
    outcome = bench("--only", "prompt")
    assert {row["method"] for row in outcome.json["rows"]} == {"prompt"}
    assert not outcome.json["complete"]
    outcome = bench()
    assert outcome.code == 0, outcome.err
    result = outcome.json
    assert result["complete"]
    keys = ("flops_ratio_vs_full", "memory_ratio_vs_full", "night_recovery", "samples_per_second")
    assert set(keys) <= set(result)
    assert result["data"]["sensors"] == MODALITIES
    assert result["machine"]["device"] == "cpu"
    assert result["ratios"]["night"]["add"]["full"]["flops_equal_samples"] > 1
    assert "question only" in outcome.out and "tail-3" in outcome.out
    lines = Path("work/adaptation-runs.jsonl").read_text().splitlines()
    again = bench("--json")
    assert json.loads(again.out)["rows"] == [json.loads(line) for line in lines]
    assert "switch_steps was 2 and is 3" in bench("--switch-steps", "3").error()


def test_the_day_alone(bench: Run) -> None:
    outcome = bench("--conditions", "", "--baselines", "", "--depths", "2")
    assert outcome.code == 0, outcome.err
    assert outcome.json["complete"]
    (row,) = outcome.json["rows"]
    assert row["phase"] == "day" and row["flops"] > 0
    assert list(cache_dir().glob("training/heads/heads-*.safetensors"))


def test_the_plain_kind_and_an_earlier_connection(bench: Run) -> None:
    few = ("--depths", "2", "--baselines", "")
    for kind in ("plain", "per-block"):
        assert bench("--out", kind, "--kind", kind, *few).code == 0
    assert bench("--out", "first", *few).code == 0
    weights = Path("first/weights/tail-2.safetensors")
    start = Path("start")
    start.mkdir()
    (start / "connection.safetensors").write_bytes(weights.read_bytes())
    outcome = bench("--out", "second", "--from", "start", "--depths", "3", "--baselines", "")
    assert outcome.code == 0, outcome.err
    settings = json.loads(Path("second/adaptation-settings.json").read_text())
    assert settings["from"]


def start_of(bench: Run) -> None:
    """A connection of two blocks that was trained before."""
    few = ("--depths", "2", "--baselines", "", "--conditions", "")
    assert bench("--out", "first", *few).code == 0
    Path("start").mkdir()
    weights = Path("first/weights/tail-2.safetensors").read_bytes()
    Path("start/connection.safetensors").write_bytes(weights)


def test_without_steps_the_day_is_the_start(bench: Run) -> None:
    start_of(bench)
    # Later options win; neither depths nor baselines are named.
    words = ("--depths", "2", "--from", "start", "--steps", "0", "--out", "second")
    rates = ("--rates", "prefix-full=1e-4,prefix-lora=5e-4")
    outcome = bench(*words, *rates, "--switch-steps", "4", "--looks", "0.5", "--tail-times", "2")
    assert outcome.code == 0, outcome.err
    result = outcome.json
    assert result["complete"] and result["full_is"] == "prefix-full"
    assert result["settings"]["rates"]["prefix-full"] == [1e-3, 1e-4]
    assert result["settings"]["baselines"] == ["prefix-full", "prefix-lora"]
    for row in result["rows"]:
        if row["phase"] == "switch":
            times = 2 if row["method"] == "tail-2" else 1
            assert [point["step"] for point in row["points"]] == [0, 2 * times, 4 * times]
    days = {row["method"]: row for row in result["rows"] if row["phase"] == "day"}
    assert list(days) == ["tail-2", "prefix-full", "prefix-lora"]
    first = json.loads(Path("first/adaptation-runs.jsonl").read_text())
    assert all(row["flops"] == 0 for row in days.values())
    assert {row["accuracy"] for row in days.values()} == {first["accuracy"]}
    assert "full fine-tuning (prefix-full) over ours" in outcome.out
    assert json.loads(Path("second/adaptation-settings.json").read_text())["start"] == "start"
    for more, problem in (
        (("--baselines", "full,prefix-full"), "and full have none"),
        (
            ("--depths", "2,3", "--kind", "plain"),
            "and tail-3 have none: the start is a plain connection",
        ),
        (("--depths", "3", "--ships", "3"), "--ships: the start is a connection of a tail of 2"),
    ):
        assert problem in bench(*words, "--out", "third", *more).error()


def test_without_steps_other_depths_begin_with_the_start_moved(bench: Run) -> None:
    start_of(bench)
    words = ("--from", "start", "--steps", "0", "--baselines", "", "--depths", "1,2,3")
    outcome = bench(*words, "--out", "second")
    assert outcome.code == 0, outcome.err
    days = {row["method"]: row for row in outcome.json["rows"] if row["phase"] == "day"}
    assert "moved_from" not in days["tail-2"]
    for method in ("tail-1", "tail-3"):
        assert days[method]["moved_from"] == 2 and days[method]["flops"] == 0
        assert 0.3 < days[method]["reading_explained"] <= 1
    tails = {row["method"] for row in outcome.json["rows"] if row["phase"] == "switch"}
    assert tails == {"tail-1", "tail-2", "tail-3"}


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--prepared", "nothing.npz"], "nothing.npz: the prepared data cannot be read"),
        (["--dataroot", "drives"], "--dataroot: there must be drives or prepared data"),
        (["--device", "cuda"], "--device"),
        (["--depths", "2,x"], "--depths: '2,x' are no depths"),
        (["--depths", "9"], "--depths: a tail of 9 blocks does not fit 6"),
        (["--conditions", "day"], "--conditions: the day is always there"),
        (["--conditions", "snow"], "--conditions: there is no condition 'snow'"),
        (["--conditions", "fog"], "fog: there are 0 decisions to learn by fog"),
        (["--add", "radar"], "--add: there is no sensor 'radar'"),
        (["--add", "cam_front"], "--add: 'cam_front' is there already by day"),
        (["--baselines", "half"], "--baselines: there is no baseline 'half'"),
        (["--only", "tail-9"], "--only: there are no rows of 'tail-9'"),
        (["--kind", "magic"], "--kind: there is no kind 'magic'"),
        (["--width", "15"], "--width: width 15 is no multiple of heads 2"),
        (["--rates", "full=fast"], "--rates: 'full=fast' is no rate"),
        (["--looks", "0.5,2"], "--looks: '0.5,2' are no shares"),
        (["--rates", "tail=1e-3/1e-3"], "--rates: 'tail=1e-3/1e-3' is no rate"),
        (["--steps", "0", "--depths", "2"], "--from: with no steps by day the day is the start"),
        (["--from", "nowhere"], "--from: there is no connection.safetensors"),
        (["--batch", "1000"], "fewer than a batch of 1000"),
        (["--steps", "-1"], "--steps: -1 is no such number"),
    ],
)
def test_wrong_input(bench: Run, words: list[str], problem: str) -> None:
    import torch

    if words == ["--device", "cuda"] and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert problem in bench(*words).error()


def test_without_torch_the_command_is_told(bench: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "pip install 'tailwire[train]'" in bench().error()


def test_drives_are_prepared_first(run: Run, tmp_path: Path, runtime_options: list[str]) -> None:
    drive = quick_drive(tmp_path / "drive", scenes=3)
    words = ["--modality", "lidar", "--dataroot", drive, "--out", "encoders", "--epochs", "1"]
    assert run("train", "encoders", *words, "--batch", "2", "--threads", "1").code == 0
    options = ["--dataroot", drive, "--encoders-from", "encoders", "--out", "work", *SMALL, *QUICK]
    options += ["--model", runtime_options[1], "--base", "objects", "--add", "lidar_top"]
    options += ["--conditions", "fog", "--baselines", "", "--depths", "2", "--compute", "float32"]
    # The quick world is one by day, whatever was asked for.
    error = run("bench", "adaptation", *options).error()
    assert "there are 0 decisions to learn by fog" in error
    prepared = read_prepared(Path("work/prepared.npz"))
    assert prepared.origin["sensors"] == {"lidar_top": "lidar", "objects": "objects"}
