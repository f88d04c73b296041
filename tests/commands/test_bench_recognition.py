"""`tailwire bench recognition` from the command line, with a detector that needs no network."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tailwire.benchmarks import coco_detector, detector_files
from tailwire.benchmarks.coco_detector import Detection
from tailwire.simulation.sketch_drive import make_sketch_drive

from .conftest import Run


class Seer:
    """Stands in for the network: one car in the middle of every image."""

    def __init__(self, graph: Path, weights: Path, *, threads: int) -> None:
        del graph, weights, threads

    def detect(self, image: Image.Image, *, min_score: float) -> list[Detection]:
        del image
        return [Detection("car", min_score, (350.0, 200.0, 450.0, 250.0))]


@pytest.fixture(scope="module")
def sketch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sketch_drive(tmp_path_factory.mktemp("recognition") / "sketch", seconds=0.5)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TAILWIRE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TAILWIRE_OFFLINE", "1")


@pytest.fixture
def seer(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"graph": Path("graph"), "weights": Path("weights")}
    monkeypatch.setattr(detector_files, "detector_files", lambda **_: files)
    monkeypatch.setattr(coco_detector, "CocoDetector", Seer)


@pytest.mark.usefixtures("seer")
def test_the_last_line_is_the_report(run: Run, sketch: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    words = ["bench", "recognition", "--nuscenes", sketch, "--pictures", pictures]
    outcome = run(*words)
    assert outcome.code == 0
    assert "pedestrian" in outcome.out
    report = outcome.json
    assert report["benchmark"] == "recognition"
    assert report["data"]["sketch"]["images"] == 6
    assert report["detector"]["licence"].startswith("MIT")
    assert report["machine"]["versions"]["onnxruntime"]
    assert len(list(pictures.glob("sketch_*.jpg"))) == 6
    assert len(run(*words, "--json").out.splitlines()) == 1


@pytest.mark.usefixtures("no_network")
class TestWrongInput:
    def test_no_detector_and_no_network(self, run: Run, sketch: Path) -> None:
        error = run("bench", "recognition", "--nuscenes", sketch).error()
        assert "--detector" in error

    def test_numbers(self, run: Run, sketch: Path) -> None:
        for option in ("--keyframes", "--threads"):
            error = run("bench", "recognition", "--nuscenes", sketch, option, "0").error()
            assert option in error

    def test_folders(self, run: Run, sketch: Path, tmp_path: Path) -> None:
        base = ("bench", "recognition", "--nuscenes")
        assert "no-such-place" in run(*base, tmp_path / "no-such-place").error()
        assert "twice" in run(*base, sketch, sketch).error()
