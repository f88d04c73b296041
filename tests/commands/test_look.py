"""`tailwire look`: which keyframe is drawn into which file, and wrong input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tailwire.simulation.nuscenes import NuScenes
from tailwire.simulation.questions.files import write_questions

from .conftest import Run, camera_file


def tokens(drive: Path) -> list[str]:
    data = NuScenes.open(drive)
    return [sample.token for sample in data.samples(data.scenes[0])]


def pixels(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_a_keyframe_is_named_by_token_or_by_its_place(run: Run, drive: Path) -> None:
    token = tokens(drive)[1]
    assert run("look", drive, "--sample", token, "--out", "a.png").out == "a.png\n"
    assert run("look", drive, "--scene", "scene-0001", "--index", "1", "--out", "b.png").code == 0
    assert run("look", drive, "--out", "c.png").code == 0
    assert np.array_equal(pixels(Path("a.png")), pixels(Path("b.png")))
    assert not np.array_equal(pixels(Path("a.png")), pixels(Path("c.png")))
    assert not list(Path().glob(".partial-*"))


def test_all_keyframes_of_a_scene_go_to_a_folder(run: Run, drive: Path) -> None:
    outcome = run("look", drive, "--all", "--out", "pictures")
    files = sorted(Path("pictures").iterdir())
    assert outcome.out.splitlines() == [str(file) for file in files]
    assert [file.stem.partition("-")[2] for file in files] == tokens(drive)


def test_questions_beside_the_data_are_shown(run: Run, own_drive: Path) -> None:
    run("look", own_drive, "--out", "without.png")
    write_questions(own_drive)
    run("look", own_drive, "--out", "with.jpg")
    changed = np.abs(pixels(Path("with.jpg")) - pixels(Path("without.png"))).sum(axis=2) > 150
    rows, columns = np.nonzero(changed)
    assert rows.size > 1000
    assert np.percentile(columns, 5) > 720


def test_a_broken_image_is_no_error(run: Run, own_drive: Path) -> None:
    camera_file(own_drive, "CAM_FRONT").write_bytes(b"")
    assert run("look", own_drive, "--out", "a.png").code == 0
    assert Path("a.png").is_file()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--sample", "0123", "--out", "a.png"], "--sample"),
        (["--scene", "scene-9", "--out", "a.png"], "scene-9"),
        (["--index", "7", "--out", "a.png"], "--index"),
        (["--index", "-1", "--out", "a.png"], "--index"),
        (["--out", "a.txt"], "--out"),
        (["--out", "."], "--out"),
        (["--all", "--index", "1", "--out", "a"], "--all"),
        (["--sample", "x", "--all", "--out", "a"], "--sample"),
        (["--version", "v1.0-trainval", "--out", "a.png"], "v1.0-mini"),
        (["--questions", "nowhere.json", "--out", "a.png"], "nowhere.json"),
        (["--out", "/dev/null/a.png"], "/dev/null/a.png"),
    ],
)
def test_wrong_input(run: Run, drive: Path, words: list[str], named: str) -> None:
    assert named in run("look", drive, *words).error()


def test_questions_of_another_data_set(run: Run, drive: Path) -> None:
    record = {
        "sample_token": "elsewhere",
        "question": "Is it?",
        "answer": "yes",
        "template_type": "exist",
        "num_hop": 0,
        "split": "val",
    }
    Path("qa.json").write_text(json.dumps({"questions": [record]}))
    error = run("look", drive, "--questions", "qa.json", "--out", "a.png").error()
    assert "qa.json" in error
    assert not Path("a.png").exists()


def test_broken_tables(run: Run, own_drive: Path) -> None:
    (own_drive / "v1.0-mini" / "sample_annotation.json").write_text("[{}]")
    assert "sample_annotation" in run("look", own_drive, "--out", "a.png").error()
    assert not Path("a.png").exists()
