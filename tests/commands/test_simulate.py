"""`tailwire simulate`: a drive that opens, wrong input, going on after an interruption."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailwire.runtime.errors import DataError, TailwireError
from tailwire.simulation import made_drive
from tailwire.simulation.nuscenes import NuScenes

from .conftest import Run

SMALL = ("--seconds", "0.5", "--image-width", "64", "--camera-hz", "2", "--lidar-hz", "2")


@pytest.fixture(scope="module")
def renderer() -> str:
    """One that works here, if need be the one by rays."""
    pytest.importorskip("embreex", reason="embreex is not installed (pip install 'tailwire[sim]')")
    from tailwire.simulation.cameras import open_renderer
    from tailwire.simulation.meshes.library import MeshLibrary

    try:
        open_renderer("auto", MeshLibrary()).close()
    except TailwireError as error:
        pytest.skip(f"nothing renders here: {error}")
    return "auto"


def test_a_drive_is_made_and_what_to_do_with_it_is_said(
    run: Run, tmp_path: Path, renderer: str
) -> None:
    out = tmp_path / "drive"
    words = ("--scenes", "2", "--conditions", "day,night", "--renderer", renderer, *SMALL)
    outcome = run("simulate", "--out", out, *words)
    assert outcome.code == 0, outcome.err
    data = NuScenes.open(out)
    data.check()
    assert len(data.scenes) == 2
    boxes = [data.annotations(data.samples(scene)[0].token) for scene in data.scenes]
    assert all(boxes)
    assert list((out / "questions").iterdir())
    for said in ("keyframes     2", "VmHWM", f"tailwire replay {out}", "tailwire look"):
        assert said in outcome.out
    assert run("simulate", "--out", out, *words).error().count("there already") == 1


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("--scenes", "0"), "--scenes"),
        (("--seconds", "-1"), "--seconds"),
        (("--conditions", "day,,night"), "--conditions"),
        (("--conditions", "hail"), "--conditions"),
        (("--camera-hz", "5"), "--camera-hz"),
        (("--image-width", "100"), "--image-width"),
        (("--renderer", "crayon"), "--renderer"),
        (("--workers", "0"), "--workers"),
        (("--workers", "1000"), "--workers"),
        (("--version", "mini"), "--version"),
        (("--layouts", "nowhere.json"), "nowhere.json"),
        (("--meshes", "nowhere"), "nowhere"),
    ],
)
def test_wrong_options_are_named(
    run: Run, tmp_path: Path, words: tuple[str, ...], option: str
) -> None:
    error = run("simulate", "--out", tmp_path / "drive", *words).error()
    assert error.startswith(f"error: {option}: ")
    assert not list(tmp_path.glob("drive*"))


def test_a_folder_that_cannot_be_made_is_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    error = run("simulate", "--out", tmp_path / "file" / "drive", *SMALL).error()
    assert error.startswith(f"error: {tmp_path / 'file' / 'drive.partial'}: ")


def test_an_interrupted_command_says_how_to_go_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(partial: Path, *args: object) -> None:
        (partial / ".scenes" / "scene-0001").mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(made_drive, "make_scenes", interrupted)
    out = tmp_path / "drive"
    outcome = run("simulate", "--out", out, *SMALL)
    assert outcome.code == 130
    assert "goes on" in outcome.err
    assert (tmp_path / "drive.partial" / "simulate.json").is_file()
    error = run("simulate", "--out", out, *SMALL, "--seed", "8").error()
    assert error.startswith("error: --seed: ")
    assert str(tmp_path / "drive.partial") in error


def test_a_scene_that_fails_ends_the_command(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*args: object, **more: object) -> None:
        raise DataError("the process ended", field="scene-0001", remedy="try again")

    monkeypatch.setattr(made_drive, "make_scenes", failing)
    error = run("simulate", "--out", tmp_path / "drive", *SMALL).error()
    assert error.startswith("error: scene-0001: the process ended")
    assert not list(tmp_path.glob("drive*"))
