"""`tailwire report` from the command line, and its page in a real browser where there is one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tailwire.simulation.nuscenes import NuScenes

from ..benchmarks.report_folders import answer, write_folder
from .conftest import Run

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "results")


def _browse(page: Path, profile: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Open the page without a screen; the test is skipped where there is no browser."""
    browser = next((found for name in _BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no browser: apt install chromium")
    words: Sequence[str] = (
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--window-size=1180,2600",
        f"--user-data-dir={profile}",
        *options,
        page.as_uri(),
    )
    environment = {**os.environ, "HOME": str(profile)}
    return subprocess.run(
        words, capture_output=True, text=True, timeout=240, check=True, env=environment
    )


def test_page_is_written_beside_the_results(run: Run, folder: Path, tmp_path: Path) -> None:
    outcome = run("report", folder, "--no-pictures")
    assert outcome.code == 0
    assert (folder / "report.html").read_text().startswith("<!doctype html>")
    assert "frame, memory, paper, scale, schedule, demo" in outcome.out
    other = tmp_path / "other" / "page.html"
    other.parent.mkdir()
    assert run("report", folder, "--no-pictures", "--out", other).code == 0
    assert other.exists()


def test_sample_frames_come_from_the_drive(run: Run, folder: Path, drive: Path) -> None:
    import json

    data = NuScenes.open(drive, None)
    token = data.samples(data.scenes[0])[0].token
    row = answer(0, "Is there a bus?", sample_token=token)
    (folder / "demo" / "answers.jsonl").write_text(json.dumps(row) + "\n")
    assert run("report", folder, "--nuscenes", drive).code == 0
    text = (folder / "report.html").read_text()
    assert text.count("data:image/jpeg;base64,") == 1


def test_wrong_input(run: Run, folder: Path, tmp_path: Path) -> None:
    assert "no such folder" in run("report", tmp_path / "none").error()
    (tmp_path / "empty").mkdir()
    assert "nothing here" in run("report", tmp_path / "empty").error()
    target = folder / "frame.json" / "page.html"
    (folder / "frame.json").write_text("{}")
    assert "--out" in run("report", folder, "--no-pictures", "--out", target).error()


def test_browser_shows_everything_and_complains_of_nothing(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    run("report", folder, "--no-pictures")
    page, profile = folder / "report.html", tmp_path / "profile"
    shown = _browse(page, profile, "--dump-dom", "--enable-logging=stderr", "--v=0")
    complaints = [line for line in shown.stderr.splitlines() if "CONSOLE" in line]
    assert complaints == []
    # The script has run: it turns the titles of shapes into tips of its own.
    assert 'id="tip"' in shown.stdout
    assert "data-tip=" in shown.stdout
    assert "<svg" in shown.stdout
    assert "<title>moment" not in shown.stdout


def test_browser_draws_both_themes(run: Run, folder: Path, tmp_path: Path) -> None:
    run("report", folder, "--no-pictures")
    page, profile = folder / "report.html", tmp_path / "profile"
    brightness: dict[str, float] = {}
    for theme, scheme in (("light", 1), ("dark", 0)):
        picture = tmp_path / f"{theme}.png"
        _browse(
            page,
            profile,
            f"--screenshot={picture}",
            f"--blink-settings=preferredColorScheme={scheme}",
        )
        with Image.open(picture) as image:
            pixels = np.asarray(image.convert("RGB"), np.float64)
        brightness[theme] = float(pixels.mean())
        # Far more colours than an empty page has.
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 200
    assert brightness["light"] > 200 > 80 > brightness["dark"]
