"""Exams of drives and their marks, with a runtime that answers by a rule."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tailwire.benchmarks.evaluation import EvaluatedAnswer, Evaluation, EvaluationProgress
from tailwire.benchmarks.exam import Exam, set_exam
from tailwire.runtime.errors import ConfigError, DataError, SensorError
from tailwire.simulation.nuscenes import NuScenes
from tailwire.simulation.replay.examiner import WARM_UP
from tailwire.simulation.sketch_drive import make_sketch_drive

from ..simulation.replay.fake_examinee import FakeExaminee

SETS = {"both": ("cam_front", "lidar_top"), "truth": ("objects",)}
KEYFRAMES = 4


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four keyframes; tests must not change them."""
    return make_sketch_drive(tmp_path_factory.mktemp("drives") / "sketch", seconds=2.0)


@pytest.fixture(scope="module")
def tokens(drive: Path) -> list[str]:
    data = NuScenes.open(drive)
    return [sample.token for sample in data.samples(data.scenes[0])]


def record(token: str, text: str, answer: str = "yes", **changes: Any) -> dict[str, Any]:
    fields = {"template_type": "exist", "num_hop": 0, "split": "val"}
    return {"sample_token": token, "question": text, "answer": answer, **fields, **changes}


def write(folder: Path, records: Sequence[dict[str, Any]], split: str = "val") -> Path:
    file = folder / f"NuScenes_QA_{split}.json"
    file.write_text(json.dumps({"questions": list(records)}))
    return file


@pytest.fixture
def questions(tokens: list[str], tmp_path: Path) -> Path:
    """Three questions at each keyframe, one of them always the same; some of other drives."""
    records = [
        record(token, text, "no" if text == "c" else "yes")
        for place, token in enumerate(tokens)
        for text in ("always", f"own {place}", "c")
    ]
    write(tmp_path, [record("elsewhere", "always", "no", split="train")] * 4, "train")
    return write(tmp_path, [*records, record("elsewhere", "d")])


def evaluate(exam: Exam, runtime: FakeExaminee, **options: Any) -> Evaluation:
    guesses = {"majority": ["no"] * len(exam.items)}
    evaluation = Evaluation(runtime, exam, guesses, SETS, **options)
    evaluation.run()
    return evaluation


def test_the_exam_has_what_can_be_asked(drive: Path, questions: Path, tokens: list[str]) -> None:
    exam = set_exam([drive], files=[questions])
    assert len(exam.items) == 3 * KEYFRAMES
    assert [(one.condition, one.tokens) for one in exam.drives] == [("day", tuple(tokens))]
    # The train file lies beside the val file; its questions are about no drive that is here.
    assert len(exam.train) == 4
    assert exam.notes == ("blind guesses were learned from drives that are not here",)
    assert exam.left_out == {"about keyframes that are not here or of other conditions": 1}


def test_keyframes_and_questions_can_be_limited_evenly(
    drive: Path, questions: Path, tokens: list[str]
) -> None:
    exam = set_exam([drive], files=[questions], keyframes=2, limit=2)
    assert exam.asked_tokens == {tokens[0], tokens[2]}
    assert len(exam.items) == 4
    assert exam.left_out["over the limit of a keyframe"] == KEYFRAMES
    assert exam.left_out["about keyframes beyond the number asked for"] == 4


def test_every_question_is_marked_for_every_set(drive: Path, questions: Path) -> None:
    runtime = FakeExaminee(
        reply=lambda text, sensors: "no" if text == "c" and "objects" in sensors else "yes",
        confidence=lambda text: 0.25 if text == "always" else 0.75,
    )
    kept: list[EvaluatedAnswer] = []
    told: list[EvaluationProgress] = []
    exam = set_exam([drive], files=[questions])
    found = evaluate(exam, runtime, on_answers=kept.extend, on_progress=told.append)
    assert len(found.marks) == 3 * KEYFRAMES
    for mark in found.marks:
        assert mark.given["truth"].text == mark.item.answer
        assert mark.given["both"].text == "yes"
        assert mark.given["both"].confidence == (0.25 if mark.item.question == "always" else 0.75)
        assert (mark.given["both"].sensors, mark.given["truth"].sensors) == (2, 1)
        assert mark.guesses == {"majority": "no"}
    # The question that is asked at every keyframe has one head.
    assert sorted(runtime.heads) == ["always", "c", *(f"own {n}" for n in range(KEYFRAMES))]
    assert found.heads == 2 + KEYFRAMES
    assert len(kept) == 2 * len(found.marks)
    assert {(one.sensor_set, one.condition) for one in kept} == {("both", "day"), ("truth", "day")}
    assert all(one.right for one in kept if one.sensor_set == "truth")
    assert told[-1].questions_done == told[-1].questions == len(found.marks)
    assert told[-1].accuracy == pytest.approx(2 / 3)
    assert told[-1].seconds_left == 0
    assert found.keyframes == KEYFRAMES
    assert found.frames["lidar_top"].pushed == KEYFRAMES


def test_encoders_that_want_earlier_frames_see_the_keyframe_before(
    drive: Path, questions: Path, tokens: list[str]
) -> None:
    runtime = FakeExaminee()
    exam = set_exam([drive], files=[questions], keyframes=1)
    last = Exam(
        exam.drives,
        tuple(item for item in set_exam([drive], files=[questions]).items if item.sample_token
              == tokens[3]),
        *(exam.train, exam.split, exam.files, exam.left_out, exam.notes),
    )  # fmt: skip
    evaluate(last, runtime, with_history=["lidar_top"])
    assert runtime.asked[0] == (("lidar_top",), (WARM_UP.text,))
    assert [sensors for sensors, _ in runtime.asked[1:]] == list(SETS.values())
    runtime = FakeExaminee()
    evaluate(last, runtime)
    assert len(runtime.asked) == 2


def test_a_broken_drive_is_noted_and_a_broken_file_counted(
    drive: Path, questions: Path, tmp_path: Path
) -> None:
    own = Path(shutil.copytree(drive, tmp_path / "own"))
    for file in sorted((own / "samples" / "LIDAR_TOP").iterdir())[:2]:
        file.write_bytes(file.read_bytes()[:50])
    runtime = FakeExaminee()
    found = evaluate(set_exam([own], files=[questions]), runtime)
    assert found.frames["lidar_top"].unreadable == 2
    assert {mark.given["both"].sensors for mark in found.marks} == {1, 2}
    shutil.rmtree(own / "samples")
    exam = set_exam([own], files=[questions])
    evaluation = Evaluation(FakeExaminee(), exam, {}, {"both": SETS["both"]})
    with pytest.raises(DataError, match="no frame"):
        evaluation.run()
    assert list(evaluation.broken) == [exam.drives[0].name]


def test_an_interrupted_run_keeps_its_marks(drive: Path, questions: Path) -> None:
    def stop(done: EvaluationProgress) -> None:
        if done.questions_done == 6:
            raise KeyboardInterrupt

    exam = set_exam([drive], files=[questions])
    evaluation = Evaluation(FakeExaminee(), exam, {}, SETS, on_progress=stop)
    with pytest.raises(KeyboardInterrupt):
        evaluation.run()
    assert len(evaluation.marks) == 6
    assert evaluation.seconds > 0


def test_a_drive_without_the_sensors_is_refused(drive: Path, questions: Path) -> None:
    exam = set_exam([drive], files=[questions])
    with pytest.raises(SensorError, match="radar_front"):
        Evaluation(FakeExaminee(), exam, {}, {"radar_front": ("radar_front",)})


def test_a_scene_in_both_splits_is_refused(drive: Path, tokens: list[str], tmp_path: Path) -> None:
    write(tmp_path, [record(tokens[0], "a", split="train")], "train")
    file = write(tmp_path, [record(tokens[1], "b")])
    name = NuScenes.open(drive).scenes[0].name
    with pytest.raises(DataError, match=rf"{name}.*'train' and 'val'|{name}.*'val' and 'train'"):
        set_exam([drive], files=[file])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"split": "test"}, DataError, "no question of the split 'test'"),
        ({"conditions": ["snow"]}, ConfigError, "no condition 'snow'"),
        ({"conditions": ["night"]}, DataError, "no drive is of the condition night; .* day"),
        ({"files": [Path("none.json")]}, DataError, "none.json"),
        ({"files": []}, DataError, "no file of questions.*tailwire questions"),
    ],
)
def test_what_cannot_be_asked_is_told(
    drive: Path, questions: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        set_exam([drive], **{"files": [questions], **options})


def test_the_same_data_twice_is_refused(drive: Path, questions: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="twice"):
        set_exam([drive, drive.parent / "." / drive.name], files=[questions])
    copy = Path(shutil.copytree(drive, tmp_path / "copy"))
    with pytest.raises(DataError, match=r"is in .* too"):
        set_exam([drive, copy], files=[questions])
