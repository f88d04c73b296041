"""`tailwire questions`: files and tables for a drive, a check of a file, and wrong input."""

from __future__ import annotations

import json
from pathlib import Path

from tailwire.simulation.questions.files import read_questions

from .conftest import Run


def test_questions_of_a_sketch_drive(run: Run, own_drive: Path) -> None:
    outcome = run("questions", own_drive, "--seed", "3", "--per-keyframe", "12")
    assert outcome.code == 0
    items = read_questions(own_drive / "questions" / "NuScenes_QA_train.json")
    assert f"{len(items)} questions ({len(items)} train) about 2 keyframes" in outcome.out
    assert len(items) <= 24
    assert "blind: not measured" in outcome.out
    for kind in {item.template_type for item in items}:
        assert kind in outcome.out


def test_figures_as_json_and_files_elsewhere(run: Run, own_drive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    figures = run("questions", own_drive, "--out", out, "--json").json
    files = [Path(name) for name in figures["files"]]
    assert [file.parent for file in files] == [out, out]
    assert not (own_drive / "questions").exists()
    assert figures["questions"] == sum(len(read_questions(file)) for file in files)
    assert figures["questions"] == sum(figures["by_type_and_hop"].values())
    assert figures["keyframes"] == 2
    assert figures["blind"] is None


def test_a_file_is_checked_against_the_drive(run: Run, own_drive: Path, tmp_path: Path) -> None:
    run("questions", own_drive, "--out", tmp_path / "out")
    file = tmp_path / "out" / "NuScenes_QA_train.json"
    before = file.read_bytes()
    document = json.loads(before)
    half = document["questions"][::2]
    for number, record in enumerate(half):
        record.pop("template")
        record["split"] = "val" if number % 4 == 0 else "train"
    other = {**half[0], "sample_token": "of another data set"}
    file.write_text(json.dumps({"info": {}, "questions": [*half, other]}))
    outcome = run("questions", own_drive, "--check", file, "--json")
    assert outcome.json["questions"] == len(half)
    assert outcome.json["questions_elsewhere"] == 1
    assert outcome.json["baselines"]["majority"]["overall"] is not None
    table = run("questions", own_drive, "--check", file).out
    assert "Accuracy on val" in table
    assert "1 more question" in table
    assert not (own_drive / "questions").exists()


def test_a_file_of_another_data_set_is_refused(run: Run, own_drive: Path, tmp_path: Path) -> None:
    run("questions", own_drive, "--out", tmp_path)
    file = tmp_path / "NuScenes_QA_train.json"
    document = json.loads(file.read_text())
    for record in document["questions"]:
        record["sample_token"] = "strange"
    file.write_text(json.dumps(document))
    error = run("questions", own_drive, "--check", file).error()
    assert "none of its" in error
    assert str(file) in error


def test_wrong_input_is_one_line(run: Run, own_drive: Path, tmp_path: Path) -> None:
    assert "per_keyframe" in run("questions", own_drive, "--per-keyframe", "0").error()
    assert "seed" in run("questions", own_drive, "--seed", "-1").error()
    assert "dataroot" in run("questions", tmp_path / "none").error()
    broken = tmp_path / "broken.json"
    broken.write_text('{"questions": [{}]}')
    assert "record 0" in run("questions", own_drive, "--check", broken).error()
    broken.write_text('{"questions": []}')
    assert "no question" in run("questions", own_drive, "--check", broken).error()
