"""`tailwire eval`: what it prints and keeps, with a tiny model and the starter pack."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tailwire.benchmarks.evaluation import EvaluatedAnswer, Evaluation
from tailwire.runtime.questions import NUSCENES_QA_ANSWERS
from tailwire.simulation.nuscenes import NuScenes

from .conftest import Run, camera_file

SETS = "cam_*,lidar_top;cam_*;lidar_top"
KEYS = {
    *("accuracy", "blind_accuracy", "majority_accuracy", "objects_bound", "by_type", "seconds"),
    *("by_type_and_hop", "by_condition", "calibration_error", "coverage", "questions", "scenes"),
    *("sensors", "pack", "versions", "threads", "precision"),
}


@pytest.fixture
def questions(drive: Path) -> Path:
    """Four questions of the first keyframe, three of the second; a train file beside them."""
    data = NuScenes.open(drive)
    first, second = (sample.token for sample in data.samples(data.scenes[0]))

    def record(token: str, n: int, kind: str, split: str = "val") -> dict[str, Any]:
        return {
            "sample_token": token,
            "question": f"Question {n} of this kind?",
            "answer": "yes" if n % 2 else "no",
            "template_type": kind,
            "num_hop": n % 2,
            "split": split,
        }

    records = [record(first, n, "exist") for n in range(4)]
    records += [record(second, n, "comparison") for n in range(3)]
    train = [record("elsewhere", n, "exist", "train") for n in range(6)]
    Path("qa_train.json").write_text(json.dumps({"questions": train}))
    file = Path("qa_val.json")
    file.write_text(json.dumps({"questions": records}))
    return file


@pytest.fixture
def evaluate(run: Run, drive: Path, questions: Path, runtime_options: list[str]) -> Run:
    """Evaluates the starter pack on the drive."""
    options = ["--dataroot", drive, "--questions", questions, *runtime_options]
    return lambda *words: run("eval", *options, *words)


def test_the_last_line_is_one_object_that_agrees_with_what_is_kept(evaluate: Run) -> None:
    outcome = evaluate("--json", "--sensor-sets", SETS, "--out", "out")
    assert outcome.code == 0
    assert len(outcome.out.splitlines()) == 1
    found = outcome.json
    assert found.keys() >= KEYS
    assert found == json.loads(Path("out/eval.json").read_text())
    lines = Path("out/answers.jsonl").read_text(encoding="utf-8").splitlines()
    answers = [EvaluatedAnswer.model_validate_json(line) for line in lines]
    assert len(answers) == 3 * found["questions"] == 21
    for one in found["sensor_sets"]:
        own = [answer for answer in answers if answer.sensor_set == one["name"]]
        right = [answer.text == answer.expected for answer in own]
        assert one["accuracy"] == pytest.approx(sum(right) / 7)
        assert {answer.text for answer in own} <= set(NUSCENES_QA_ANSWERS)
        assert all(set(answer.sensors) == set(one["sensors"]) for answer in own)
        assert one["coverage"][-1]["accuracy"] == pytest.approx(one["accuracy"])
    assert found["accuracy"] == found["sensor_sets"][0]["accuracy"]
    assert found["sensors"][-1] == "lidar_top"
    assert {kind: row["questions"] for kind, row in found["by_type"].items()} == {
        "comparison": 3,
        "exist": 4,
    }
    assert all(row["blind_accuracy"] is not None for row in found["by_type"].values())
    assert list(found["by_condition"]) == ["day"]
    assert (found["complete"], found["scenes"], found["keyframes"]) == (True, 1, 2)
    # The starter pack knows no objects, and says that it is not trained.
    assert found["objects_bound"] is None
    assert "no sensor 'objects'" in found["no_objects_bound"]
    assert any("not trained" in note for note in found["notes"])
    assert {path.suffix for path in Path("out").iterdir()} == {".json", ".jsonl", ".yaml", ".png"}


def test_ground_truth_objects_bound_a_pack_that_knows_them(
    run: Run, drive: Path, questions: Path, model: Path, objects_pack: Path
) -> None:
    words = ["eval", "--dataroot", drive, "--questions", questions, "--model", model]
    words += ["--precision", "fp32", "--pack", objects_pack]
    # A pattern never means ground truth; who names nothing gets no set of sensors.
    assert "no sensor but ground-truth objects" in run(*words).error()
    found = run(*words, "--sensors", "objects", "--json").json
    assert found["objects_bound"] == found["accuracy"] is not None
    assert found["no_objects_bound"] is None
    assert [one["name"] for one in found["sensor_sets"]] == ["objects"]
    assert all(row["objects_bound"] == row["accuracy"] for row in found["by_type"].values())
    assert found["frames"]["objects"]["pushed"] == 2
    without = run(*words, "--sensors", "objects", "--no-bound", "--json").json
    assert (without["objects_bound"], without["no_objects_bound"]) == (None, "not asked for")


def test_the_text_has_one_table_and_works_without_matplotlib(
    evaluate: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    outcome = evaluate("--sensors", "lidar_top", "--limit", "2", "--out", "out")
    assert outcome.code == 0
    assert "matplotlib is not installed" in outcome.err
    table = {line.split("  ")[0]: line.split() for line in outcome.out.splitlines()}
    columns = ["answers", "questions", "lidar_top", "objects", "blind", "majority"]
    assert table["right answers"][1:] == columns
    assert table["all"][1] == "4"
    assert "exist, 0 hop" in table
    assert "no ground-truth-objects bound" in outcome.out
    assert not list(Path("out").glob("*.png"))


def test_an_interrupted_run_says_what_was_done(
    evaluate: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = Evaluation._mark

    def stop_after_one(self: Evaluation, *args: Any) -> None:
        if self.keyframes:
            raise KeyboardInterrupt
        mark(self, *args)

    monkeypatch.setattr(Evaluation, "_mark", stop_after_one)
    outcome = evaluate("--json", "--sensors", "lidar_top")
    assert outcome.code == 130
    assert (outcome.json["complete"], outcome.json["questions"]) == (False, 4)
    assert "stopped after 4 of 7 questions" in outcome.json["notes"]


def test_a_broken_image_is_counted(
    run: Run, own_drive: Path, questions: Path, runtime_options: list[str]
) -> None:
    image = camera_file(own_drive, "CAM_FRONT")
    image.write_bytes(image.read_bytes()[:500])
    words = ["--dataroot", own_drive, "--questions", questions, *runtime_options, "--json"]
    found = run("eval", *words, "--sensors", "cam_front,lidar_top").json
    assert found["frames"]["cam_front"]["unreadable"] == 1
    assert found["sensor_sets"][0]["answers_missing_a_sensor"] == 4
    assert any("1 frames of cam_front" in note for note in found["notes"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sensors", "radar"], "the pack has no sensor 'radar'"),
        (["--sensors", "lidar_top", "--sensor-sets", "cam_*"], "one of --sensors"),
        (["--sensor-sets", "cam_*;"], "empty part"),
        (["--conditions", "day,snow"], "no condition 'snow'"),
        (["--split", "test"], "no question of the split 'test'"),
        (["--keyframes", "0"], "--keyframes: 0 is too small"),
        (["--limit", "-1"], "--limit: -1 is too small"),
        (["--head-cache", "-1"], "--head-cache: -1 MB are no memory"),
        (["--sensor-sets", "cam_*;cam_*"], "given twice"),
        (["--questions", "gone.json"], "gone.json"),
        (["--pack", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_one_clear_error(evaluate: Run, words: list[str], message: str) -> None:
    assert message in evaluate(*words).error()


def test_a_dataroot_without_questions_names_the_command_that_makes_them(
    run: Run, drive: Path
) -> None:
    assert "tailwire questions" in run("eval", "--dataroot", drive).error()
