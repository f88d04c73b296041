"""`tailwire demo`: sensors come and go, results stay whole however the run ends."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from tailwire.commands import drives
from tailwire.commands.demo_record import JudgedAnswer, Tally
from tailwire.commands.demo_script import Script
from tailwire.runtime.config import RuntimeConfig, read_config
from tailwire.runtime.plans import Answer, Plan
from tailwire.runtime.runtime import Runtime
from tailwire.simulation import clip
from tailwire.simulation.nuscenes import NuScenes
from tailwire.simulation.questions.truth import GroundTruth

from .conftest import Run

QUESTIONS = 5


@pytest.fixture
def demo(run: Run, drive: Path, runtime_options: list[str]) -> Run:
    """Runs the demo over the drive on the tiny model."""
    return lambda *words: run("demo", "--nuscenes", drive, *runtime_options, *words)


def answers_in(folder: Path) -> list[JudgedAnswer]:
    text = (folder / "answers.jsonl").read_text(encoding="utf-8")
    # The kernel ends a write at a page when the process is killed: that line lacks its end.
    lines = text[: text.rfind("\n") + 1].splitlines()
    return [JudgedAnswer.model_validate_json(line) for line in lines]


def sensors_by_step(answers: Sequence[Answer]) -> list[set[str]]:
    return [set(answer.sensors) for answer in answers[::QUESTIONS]]


def test_sensors_are_switched_off_and_on_while_it_runs(demo: Run, tmp_path: Path) -> None:
    out = tmp_path / "results"
    outcome = demo("--out", out, "--steps", "10")
    assert outcome.code == 0
    answers = answers_in(out)
    assert len(answers) == 10 * QUESTIONS
    assert len({answer.question for answer in answers}) == QUESTIONS
    used = sensors_by_step(answers)
    everything, cameras = used[0], {name for name in used[0] if name.startswith("cam_")}
    assert everything == cameras | {"lidar_top"}
    switches = sum(before != after for before, after in pairwise(used))
    assert switches >= 4
    assert cameras in used
    assert {"lidar_top"} in used
    assert used[-1] == everything


def test_a_camera_that_breaks_is_reused_and_then_dropped(demo: Run, tmp_path: Path) -> None:
    demo("--out", tmp_path / "results", "--steps", "10")
    broken = [answer for answer in answers_in(tmp_path / "results") if answer.dropped]
    assert all("truncated" in answer.dropped["cam_front"] for answer in broken)
    first, last = broken[0], broken[-1]
    assert first.sensors["cam_front"].reused
    assert first.sensors["cam_front"].age_ms > 500
    assert "cam_front" not in last.sensors
    assert "cam_back" in last.sensors


def test_stamps_go_on_when_the_drive_begins_anew(demo: Run, tmp_path: Path) -> None:
    demo("--out", tmp_path / "results", "--steps", "5")
    stamps = [
        max(use.stamp_ns for use in answer.sensors.values())
        for answer in answers_in(tmp_path / "results")[::QUESTIONS]
    ]
    gaps = [after - before for before, after in pairwise(stamps)]
    # Without a LiDAR frame the newest camera frame is half a millisecond older.
    assert gaps == pytest.approx([500_000_000] * 4, abs=1_000_000)


def test_the_configuration_written_is_the_one_used(demo: Run, tmp_path: Path) -> None:
    out = tmp_path / "results"
    demo("--out", out, "--steps", "1", "--tail", "3", "--threads", "1")
    used = read_config(out / "config.yaml")
    assert (used.tail_blocks, used.threads, used.precision) == (3, 1, "fp32")
    assert set(yaml.safe_load((out / "config.yaml").read_text())) == set(RuntimeConfig.model_fields)
    assert answers_in(out)[0].plan.tail_blocks == 3


def test_without_a_terminal_each_step_is_a_line(demo: Run) -> None:
    outcome = demo("--steps", "3")
    steps = [line for line in outcome.out.splitlines() if line.startswith("step ")]
    assert len(steps) == 3
    assert "\x1b" not in outcome.out
    assert "untrained pack" in outcome.out
    assert "first answer after" in outcome.out
    (folder,) = Path("results").iterdir()
    assert folder.name.startswith("demo-")
    assert f"{folder / 'answers.jsonl'} (15 lines)" in outcome.out


@pytest.mark.parametrize("columns", [80, 110])
def test_on_a_terminal_a_table_is_redrawn_that_fits(
    drive: Path, runtime_options: list[str], columns: int
) -> None:
    words = ["demo", "--nuscenes", str(drive), *runtime_options, "--steps", "2"]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "tailwire.cli", *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": str(columns), "LINES": "24"},
    )
    os.close(theirs)
    shown = b""
    # Linux reports an error, not the end of the file, when the other side has closed.
    with suppress(OSError):
        while data := os.read(ours, 65536):
            shown += data
    os.close(ours)
    assert process.wait(timeout=60) == 0
    text = shown.decode()
    assert "step 1 of 2" in text
    assert "step 2 of 2" in text
    assert text.count("\x1b[?25h"), "the cursor was not shown again"
    assert "..." not in text, "the table is taller than the terminal"


def test_the_picture_shows_the_last_step(demo: Run, tmp_path: Path) -> None:
    demo("--steps", "5", "--capture", tmp_path / "demo.svg")
    picture = (tmp_path / "demo.svg").read_text().replace("&#160;", " ")
    for shown in (
        "lidar_top",
        "How many moving cars",
        "truth",
        "encode camera",
        "untrained pack",
    ):
        assert shown in picture
    assert "step 5 of 5" in picture


def test_an_interrupted_run_leaves_whole_lines(
    demo: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, taken = Runtime.step, []

    def interrupted(runtime: Runtime, frames: Any) -> list[Answer]:
        taken.append(frames)
        if len(taken) == 3:
            raise KeyboardInterrupt
        return step(runtime, frames)

    monkeypatch.setattr(Runtime, "step", interrupted)
    outcome = demo("--out", tmp_path / "results")
    assert outcome.code == 130
    assert "Traceback" not in outcome.err
    assert "(10 lines)" in outcome.out
    assert len(answers_in(tmp_path / "results")) == 2 * QUESTIONS


@pytest.mark.parametrize(("ending", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_signal_leaves_whole_lines(
    drive: Path, runtime_options: list[str], tmp_path: Path, ending: signal.Signals, code: int
) -> None:
    out = tmp_path / "results"
    words = ["demo", "--nuscenes", str(drive), *runtime_options, "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "tailwire.cli", *words, "--steps", "1000000"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    try:
        lines = out / "answers.jsonl"
        deadline = time.monotonic() + 120
        while not (lines.exists() and lines.stat().st_size):
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < deadline, "the demo gave no answer"
            time.sleep(0.02)
        process.send_signal(ending)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code
    assert "Traceback" not in err
    assert answers_in(out)
    if ending is signal.SIGINT:
        assert lines.read_bytes().endswith(b"\n")


def test_the_clip_is_unpacked_once_and_whole(
    run: Run,
    drive: Path,
    runtime_options: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    made: list[Path] = []

    def unpacked(out: Path) -> None:
        made.append(out)
        if len(made) == 1:
            out.mkdir()
            raise KeyboardInterrupt  # The first one is cut off in the middle.
        shutil.copytree(drive, out)

    monkeypatch.setattr(clip, "unpack_clip", unpacked)
    monkeypatch.setattr(drives, "cache_dir", lambda: tmp_path / "drives")
    words = ["demo", *runtime_options, "--steps", "1"]
    assert run(*words).code == 130
    assert run(*words, "--out", tmp_path / "a").code == 0
    again = run(*words, "--out", tmp_path / "b")
    assert "the clip" in again.out
    assert len(made) == 2
    assert not any(path.exists() for path in made)


def test_the_clip_is_played_from_day_into_night_beside_the_truth(
    run: Run, runtime_options: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "results"
    outcome = run("demo", *runtime_options, "--out", out)
    assert outcome.code == 0
    steps = [line for line in outcome.out.splitlines() if line.startswith("step ")]
    conditions = [line.split(",")[0].split()[-1] for line in steps]
    assert conditions == sorted(conditions)
    assert set(conditions) == {"day", "night"}
    answers = answers_in(out)
    assert len(answers) == len(steps) * QUESTIONS
    assert len({answer.sample_token for answer in answers}) == len(steps)
    judged = [answer for answer in answers if answer.expected is not None]
    assert len(judged) > len(answers) / 4
    assert all(answer.right == (answer.text == answer.expected) for answer in judged)
    assert all(answer.right is None for answer in answers if answer.expected is None)
    assert f"{sum(bool(a.right) for a in judged)} of {len(judged)} right" in outcome.out
    data = NuScenes.open(next((drives.cache_dir() / "drives").glob("clip-*")))
    texts = [answer.question for answer in answers[:QUESTIONS]]
    truth = GroundTruth(data, texts)
    assert [answer.expected for answer in answers] == [
        expected for one in answers[::QUESTIONS] for expected in truth.at(one.sample_token)
    ]
    stamps = [max(use.stamp_ns for use in a.sensors.values()) for a in answers[::QUESTIONS]]
    assert all(0.4e9 < after - before < 0.6e9 for before, after in pairwise(stamps))


def test_a_damaged_clip_is_named(
    run: Run, runtime_options: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    archive = tmp_path / "clip.zip"
    archive.write_bytes(clip.clip_archive().read_bytes()[:-1000])
    archive.with_suffix(".json").write_bytes(clip.clip_archive().with_suffix(".json").read_bytes())
    monkeypatch.setattr("tailwire.simulation.clip.unpack.clip_archive", lambda: archive)
    monkeypatch.setattr(drives, "cache_dir", lambda: tmp_path / "cache")
    assert str(archive) in run("demo", *runtime_options).error()
    assert not any((tmp_path / "cache" / "drives").glob("*clip*"))


def test_without_annotations_nothing_is_judged(
    run: Run, own_drive: Path, runtime_options: list[str], tmp_path: Path
) -> None:
    (own_drive / "v1.0-mini" / "sample_annotation.json").write_text("[]")
    (own_drive / "v1.0-mini" / "instance.json").write_text("[]")
    words = ("demo", "--nuscenes", own_drive, *runtime_options, "--steps", "2")
    outcome = run(*words, "--out", tmp_path / "results")
    assert outcome.code == 0
    assert "accuracy     unknown" in outcome.out
    assert {answer.expected for answer in answers_in(tmp_path / "results")} == {None}


def test_majorities_are_counted_beside_right_answers() -> None:
    tally = Tally("yes")
    for text, expected in (("yes", "yes"), ("no", "yes"), ("no", "no"), ("no", None)):
        plan = Plan(sensors={}, tail_blocks=1, precision="fp32", flops=1)
        answer = Answer(
            question="Is it?",
            text=text,
            confidence=0.5,
            stamp_ns=None,
            sensors={},
            dropped={},
            plan=plan,
            timings_ms={},
            flops=1,
            pack="pack 1",
            pack_trained=True,
        )
        tally.add(JudgedAnswer.of(answer, "keyframe", expected))
    assert (tally.known, tally.right, tally.blind) == (3, 2, 2)


def test_the_users_data_set_is_taken_from_the_environment(
    run: Run, drive: Path, runtime_options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAILWIRE_NUSCENES", str(drive))
    assert "nuScenes v1.0-mini" in run("demo", *runtime_options, "--steps", "1").out


def test_answers_of_an_earlier_run_are_kept(demo: Run, tmp_path: Path) -> None:
    demo("--out", tmp_path, "--steps", "1")
    before = (tmp_path / "answers.jsonl").read_bytes()
    assert "answers.jsonl" in demo("--out", tmp_path, "--steps", "1").error()
    assert (tmp_path / "answers.jsonl").read_bytes() == before


@pytest.mark.parametrize("steps", [1, 4, 5, 7, 25])
def test_a_script_of_any_length_runs_its_phases_in_order(steps: int) -> None:
    script = Script({"cam_front": "camera", "lidar_top": "lidar"}, steps)
    places = [script.place(step) for step in range(steps)]
    assert places[0] == 0
    assert places == sorted(places)
    if steps >= len(script.phases):
        assert set(places) == set(range(len(script.phases)))


def test_a_robot_without_lidar_has_a_script_too() -> None:
    script = Script({"cam_front": "camera"}, 6)
    assert [phase.broken for phase in script.phases] == [None, "cam_front", None]
