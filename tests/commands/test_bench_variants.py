"""`tailwire bench variants` from the command line: a tiny model, its starter pack, a few frames."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import save_file

from tailwire.export.range_encoder import random_weights
from tailwire.runtime.calibration_table import read_calibration
from tailwire.runtime.connections import ConnectionSpec
from tailwire.runtime.pack import load_pack
from tailwire.simulation.nuscenes import NuScenes
from tailwire.simulation.sketch_drive import make_sketch_drive

from ..built_models import TinyModels
from ..packs import RANGE_LIDAR, write_small_pack
from .conftest import Run

VARIANTS = "fp32;fp32,encoders=int8;cpu:fp32"


def tokens_of(root: Path) -> list[str]:
    """Of the keyframes of the first scene."""
    data = NuScenes.open(root)
    return [sample.token for sample in data.samples(data.scenes[0])]


def record(token: str, n: int, split: str, answer: str | None = None) -> dict[str, Any]:
    return {
        "sample_token": token,
        "question": f"Is there a car of kind {n}?",
        "answer": answer or ("yes" if n % 2 else "no"),
        "template_type": "exist",
        "num_hop": 0,
        "split": split,
    }


def write_questions(root: Path, **records: list[dict[str, Any]]) -> None:
    """By split."""
    folder = root / "questions"
    folder.mkdir()
    for split, some in records.items():
        (folder / f"NuScenes_QA_{split}.json").write_text(json.dumps({"questions": some}))


@pytest.fixture
def asked(drive: Path, tmp_path: Path) -> Path:
    """A copy of the drive with questions in it, some of the train split."""
    root = Path(shutil.copytree(drive, tmp_path / "asked"))
    val = [record(token, n, "val") for token in tokens_of(root) for n in range(3)]
    write_questions(root, val=val, train=[record("elsewhere", n, "train") for n in range(4)])
    return root


def test_variants_are_asked_the_same_and_set_beside_the_first(
    run: Run, asked: Path, drive: Path, runtime_options: list[str], tmp_path: Path
) -> None:
    words = ["--dataroot", asked, "--calibrate", drive, "--work", tmp_path / "exports"]
    words += ["--variants", VARIANTS, "--rounds", "2", "--threads", "1", *runtime_options[:2]]
    outcome = run("bench", "variants", *words)
    assert outcome.code == 0, outcome.err
    found = outcome.json
    assert found["questions"] == 6 and found["reference"] == "fp32"
    assert found["majority_accuracy"] is not None and found["blind_accuracy"] is not None
    rows = {row["variant"]: row for row in found["variants"]}
    assert list(rows) == VARIANTS.split(";")
    first, small, tuned = rows.values()
    assert first["difference_points"] == 0 and first["same_answers"] == 6
    # The tuned engines hold the same weights in other graphs.
    assert tuned["same_answers"] == 6 and tuned["accuracy"] == first["accuracy"]
    for row in rows.values():
        parts = row["part_bytes"]
        # All six blocks of the tiny model are its tail.
        assert {"tail", "embed", "logits", "connection"} <= parts.keys()
        assert row["bytes"] == sum(parts.values())
        assert {"encode camera", "encode lidar", "tail", "whole frame"} <= row["stages_ms"].keys()
        assert row["stages_ms"]["tail"]["runs"] == 2
    for part in ("encoder camera", "encoder lidar"):
        assert small["part_bytes"][part] < 0.5 * first["part_bytes"][part]
    for part in ("tail", "logits"):
        assert small["part_bytes"][part] == first["part_bytes"][part]
    kept = sorted(path.name for path in (tmp_path / "exports").iterdir())
    assert len(kept) == 2
    table = [line for line in outcome.out.splitlines() if line.startswith("  fp32,encoders=int8")]
    assert len(table) == 1


@pytest.fixture
def lidar_pack(tiny: TinyModels, tmp_path: Path) -> Path:
    """A pack with a LiDAR for the tiny Llama; its weights are random."""
    folder = tmp_path / "pack"
    folder.mkdir()
    save_file(random_weights(0), folder / RANGE_LIDAR.file)
    config = tiny.model("llama").config
    spec = ConnectionSpec(kind="plain", tail_blocks=3, hidden=8, width=8, layers=1, heads=2)
    return write_small_pack(folder, config, spec, {"lidar": RANGE_LIDAR}, {"lidar_top": "lidar"})


def test_what_was_measured_is_noted_in_a_pack_and_told_by_exports(
    run: Run, asked: Path, drive: Path, lidar_pack: Path, runtime_options: list[str], tmp_path: Path
) -> None:
    options = [*runtime_options[:2], "--pack", lidar_pack]
    words = ["--dataroot", asked, "--calibrate", drive, "--work", tmp_path / "exports", *options]
    words += ["--rounds", "1", "--threads", "1", "--note-in", lidar_pack]
    assert (
        "begin the list with fp32"
        in run("bench", "variants", *words, "--variants", "cpu:fp32;fp32").error()
    )
    # Who learns from these guesses yes, which two of three questions are not.
    other = make_sketch_drive(tmp_path / "other", seconds=2.0)
    (*_, token) = tokens_of(other)
    assert token not in tokens_of(asked)
    write_questions(other, train=[record(token, n, "train", "yes") for n in range(3)])
    words += ["--guess-from", other]
    outcome = run("bench", "variants", *words, "--variants", "fp32;fp32,tail=int4")
    assert outcome.code == 0, outcome.err
    assert outcome.json["blind_accuracy"] == pytest.approx(1 / 3)
    assert outcome.json["notes"] == ["blind guesses were learned from other drives"]
    name = load_pack(lidar_pack).manifest.calibration
    assert name is not None
    noted = read_calibration(lidar_pack / name).variants
    assert [one.variant for one in noted] == ["fp32", "fp32,tail=int4"]
    row = outcome.json["variants"][1]
    assert noted[1].right == round(row["accuracy"] * 6) and noted[1].bytes == row["bytes"]
    export = ["export", *options, "--threads", "1", "--out"]
    told = run(*export, tmp_path / "one", "--precision", "fp32,tail=int4").out
    assert f"measured at these precisions, in ONNX Runtime on the CPU: {noted[1].told()}" in told
    told = run(*export, tmp_path / "half", "--precision", "fp16").out
    assert "was not measured: tailwire bench variants" in told


def test_bad_input_is_one_clear_error(
    run: Run, asked: Path, runtime_options: list[str], tmp_path: Path
) -> None:
    words = ["bench", "variants", "--dataroot", asked, "--work", tmp_path, *runtime_options[:2]]
    assert "two different variants" in run(*words, "--variants", "fp32").error()
    assert "cpu:fp16" in run(*words, "--variants", "cpu:fp16;fp32").error()
    assert "'fp31' is no precision" in run(*words, "--variants", "fp31;fp32").error()
    assert "--keyframes" in run(*words, "--keyframes", "0").error()
    guessed = run(*words, "--variants", "fp32;cpu:fp32", "--guess-from", tmp_path / "nowhere")
    assert "nowhere" in guessed.error()
    same = shutil.copytree(asked, tmp_path / "same")
    shutil.rmtree(same / "questions")
    write_questions(same, train=[record(token, 0, "train") for token in tokens_of(same)])
    guessed = run(*words, "--variants", "fp32;cpu:fp32", "--guess-from", same)
    assert "learned from questions that are asked" in guessed.error()
    assert not list(tmp_path.glob("export-*"))
