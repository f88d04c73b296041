"""`tailwire replay`: drives through the runtime, what is counted, kept and told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailwire.runtime.config import read_config
from tailwire.runtime.plans import Answer
from tailwire.runtime.runtime import Runtime
from tailwire.simulation.nuscenes import NuScenes, NuScenesWriter
from tailwire.simulation.replay.records import ReplayedAnswer

from ..fakes import cloud, jpeg
from .conftest import Run, camera_file

KEYFRAMES = 2
CAMERAS = 6


@pytest.fixture
def replay(run: Run, drive: Path, runtime_options: list[str]) -> Run:
    """Replays the drive on the tiny model."""
    return lambda *words: run("replay", drive, *runtime_options, "--out", "out", *words)


@pytest.fixture
def questions(drive: Path) -> Path:
    """Five questions of the first keyframe, three of the second, some of another data set."""
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

    records = [record(first, n, "exist") for n in range(5)]
    records += [record(second, n, "count") for n in range(3)]
    records += [record("elsewhere", n, "status") for n in range(2)]
    records += [record("elsewhere", n, "exist", "train") for n in range(6)]
    file = Path("qa_val.json")
    file.write_text(json.dumps({"questions": records}))
    return file


def lines(folder: Path = Path("out")) -> list[ReplayedAnswer]:
    text = (folder / "answers.jsonl").read_text(encoding="utf-8")
    return [ReplayedAnswer.model_validate_json(line) for line in text.splitlines()]


def summary(folder: Path = Path("out")) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())


def test_questions_of_a_file_are_answered_and_counted(replay: Run, questions: Path) -> None:
    outcome = replay("--questions", questions, "--json", "--no-bag")
    assert outcome.code == 0
    assert len(outcome.out.splitlines()) == 1
    found = outcome.json
    assert found == summary()
    answers = lines()
    assert len(answers) == found["answers"] == found["overall"]["questions"] == 8
    right = sum(answer.text == answer.expected for answer in answers)
    assert found["overall"]["right"] == right
    assert found["by_type"]["exist"]["questions"] == 5
    assert found["by_hop"]["1"]["questions"] == 3
    assert found["questions_of_other_drives"] == 2
    assert found["questions_of_other_splits"] == 6
    assert found["baselines_learned_from"] == 6
    assert found["overall"]["baselines"].keys() >= {"majority", "majority per template"}
    assert (found["moments_answered"], found["moments_skipped"]) == (KEYFRAMES, 0)
    assert found["complete"]
    assert not found["pack_trained"]
    assert found["step_ms"].keys() == {"p50", "p90", "p99", "max"}
    assert len(found["sensors"]) == CAMERAS + 1


def test_the_text_has_tables_of_accuracy_and_of_frames(replay: Run, questions: Path) -> None:
    out = replay("--questions", questions, "--no-bag", "--tail", "3").out
    assert "untrained pack" in out
    table = {line.split("  ")[0]: line.split() for line in out.splitlines()}
    assert table["accuracy"][1:] == ["questions", "answered", "majority", "blind"]
    assert table["all"][1] == "8"
    assert table["lidar_top"][1] == str(KEYFRAMES)
    assert "2 questions of the file are about keyframes that are not played" in out
    assert read_config(Path("out/config.yaml")).tail_blocks == 3


def test_standing_questions_are_asked_at_each_keyframe(replay: Run) -> None:
    words = ["--question", "Is it day?", "--question", "Is it?", "--answers", "yes,no"]
    found = replay(*words, "--json", "--no-bag").json
    assert found["standing_questions"] == ["Is it day?", "Is it?"]
    assert found["answers"] == 2 * KEYFRAMES
    assert found["overall"]["accuracy"] is None
    assert {answer.text for answer in lines()} <= {"yes", "no"}


def test_without_questions_those_of_the_pack_are_asked(replay: Run) -> None:
    found = replay("--json", "--no-bag").json
    assert len(found["standing_questions"]) == 5
    assert found["answers"] == 5 * KEYFRAMES


def test_a_dropped_sensor_is_missing_from_the_answers(replay: Run) -> None:
    words = ["--question", "Is it?", "--answers", "yes,no", "--drop", "cam_front"]
    found = replay(*words, "--drop", "lidar_top@0.3s..", "--json", "--no-bag").json
    assert found["drops"] == ["cam_front", "lidar_top@0.3s.."]
    assert found["sensors"]["cam_front"]["withheld"] == KEYFRAMES
    assert found["sensors"]["lidar_top"]["withheld"] == 1
    first, second = lines()
    assert "withheld" in first.dropped["cam_front"]
    assert "cam_front" not in first.sensors
    assert set(first.dropped) == {"cam_front"}
    assert set(second.dropped) == {"cam_front", "lidar_top"}
    # The last tokens of the LiDAR are half a second old, which is still allowed.
    assert second.sensors["lidar_top"].age_ms > 400


def test_broken_files_are_counted_and_the_rest_answers(
    run: Run, own_drive: Path, runtime_options: list[str]
) -> None:
    image = camera_file(own_drive, "CAM_FRONT")
    image.write_bytes(image.read_bytes()[:500])
    data = (other := camera_file(own_drive, "CAM_BACK")).read_bytes()
    # With its last two bytes the file passes for whole until it is decoded.
    other.write_bytes(data[:100] + data[-2:])
    words = ["replay", own_drive, *runtime_options, "--question", "Is it?", "--answers", "yes,no"]
    found = run(*words, "--out", "out", "--json", "--no-bag").json
    assert found["sensors"]["cam_front"]["unreadable"] == 1
    assert found["sensors"]["cam_back"]["refused"] == 1
    first, second = lines()
    assert set(first.dropped) == {"cam_front", "cam_back"}
    assert second.dropped == {}


def test_in_real_time_all_keyframes_are_answered_or_skipped(replay: Run) -> None:
    words = ["--question", "Is it?", "--answers", "yes,no", "--rate", "20", "--json", "--no-bag"]
    found = replay(*words).json
    assert found["rate"] == 20
    assert found["moments_answered"] + found["moments_skipped"] == KEYFRAMES


def test_an_interrupt_tells_what_was_done(replay: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    step, taken = Runtime.step, []

    def interrupted(runtime: Runtime) -> list[Answer]:
        taken.append(runtime)
        if len(taken) == 2:
            raise KeyboardInterrupt
        return step(runtime)

    monkeypatch.setattr(Runtime, "step", interrupted)
    outcome = replay("--question", "Is it?", "--answers", "yes,no")
    assert outcome.code == 130
    assert "Traceback" not in outcome.err
    assert "stopped before the end" in outcome.out
    assert len(lines()) == 1
    found = summary()
    assert (found["complete"], found["moments_answered"]) == (False, 1)


def test_answers_stand_beside_the_sensors_in_a_bag_that_replays(
    replay: Run, run: Run, runtime_options: list[str]
) -> None:
    pytest.importorskip("rosbags", reason="bags need rosbags")
    found = replay("--question", "Is it?", "--answers", "yes,no", "--json").json
    (bag,) = found["bags"]
    from tailwire.simulation.bags.read import open_bag

    drive = open_bag(Path(bag))
    assert len(drive.keyframes) == KEYFRAMES
    assert drive.report.counts["/tailwire/answers"] == KEYFRAMES
    words = ["replay", bag, *runtime_options, "--question", "Is it?", "--answers", "yes,no"]
    again = run(*words, "--out", "again", "--json").json
    assert again["found"].startswith("bag of scene-0001")
    # The same frames, so the same answers.
    assert [(one.text, one.confidence, one.stamp_ns) for one in lines(Path("again"))] == [
        (one.text, pytest.approx(one.confidence), one.stamp_ns) for one in lines()
    ]
    assert open_bag(Path(again["bags"][0])).report.counts["/tailwire/answers"] == KEYFRAMES


def write_small_drive(root: Path, scenes: int) -> None:
    """Scenes of two keyframes of a camera and a LiDAR, a sweep of each."""
    with NuScenesWriter(root) as writer:
        intrinsic = np.array([[20.0, 0, 16], [0, 20.0, 9], [0, 0, 1]])
        writer.add_sensor("CAM_FRONT", "camera", (1.5, 0, 1.5), (0.5, -0.5, 0.5, -0.5), intrinsic)
        writer.add_sensor("LIDAR_TOP", "lidar", (0.9, 0, 1.8), (1, 0, 0, 0))
        for scene in reversed(range(scenes)):
            writer.begin_scene(
                f"scene-{scene}", "", logfile="log", location="", date_captured="2020-09-13"
            )
            for half_seconds in range(3):
                # Time jumps back from each scene to the next one.
                stamp_ns = 1_600_000_000_000_000_000 + scene * 10**10 + half_seconds * 250_000_000
                if half_seconds != 1:
                    writer.begin_sample(stamp_ns)
                keyframe, pose = half_seconds != 1, ((0, 0, 0), (1, 0, 0, 0))
                writer.add_frame("CAM_FRONT", stamp_ns, jpeg(scene), *pose, is_key_frame=keyframe)
                writer.add_frame("LIDAR_TOP", stamp_ns, cloud(scene), *pose, is_key_frame=keyframe)


def test_scenes_are_played_in_turn_and_forget_each_other(
    run: Run, runtime_options: list[str], tmp_path: Path
) -> None:
    write_small_drive(tmp_path / "drive", scenes=3)
    words = ["replay", tmp_path / "drive", *runtime_options, "--question", "Is it?"]
    words += ["--answers", "yes,no", "--json", "--no-bag"]
    found = run(*words, "--out", "out").json
    assert found["drives"] == ["scene-2", "scene-1", "scene-0"]
    assert found["moments_answered"] == 6
    # Frames of an earlier time are no late ones in another drive.
    assert found["sensors"]["cam_front"] == {
        "pushed": 9,
        "late": 0,
        "withheld": 0,
        "unreadable": 0,
        "refused": 0,
    }
    assert all("cam_back" in line.dropped and "cam_front" in line.sensors for line in lines())
    alone = run(*words, "--scene", "scene-1", "--out", "one").json
    assert alone["drives"] == ["scene-1"]
    same = [line.confidence for line in lines() if line.drive == "scene-1"]
    assert [line.confidence for line in lines(Path("one"))] == pytest.approx(same)


def test_a_bag_of_another_robot_is_asked_at_a_steady_rate(
    run: Run, runtime_options: list[str], tmp_path: Path
) -> None:
    pytest.importorskip("rosbags", reason="bags need rosbags")
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_HUMBLE)
    kind = "sensor_msgs/msg/CompressedImage"
    image, header, time = (
        store.types[name] for name in (kind, "std_msgs/msg/Header", "builtin_interfaces/msg/Time")
    )
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        topic = writer.add_connection("/cam_front/image/compressed", kind, typestore=store)
        for tenth in range(21):
            stamp_ns = 1_600_000_000_000_000_000 + tenth * 100_000_000
            stamp = time(*divmod(stamp_ns, 10**9))
            message = image(header(stamp, "cam"), "jpeg", np.frombuffer(jpeg(), np.uint8))
            writer.write(topic, stamp_ns, store.serialize_cdr(message, kind))
        other = writer.add_connection("/imu", "sensor_msgs/msg/Temperature", typestore=store)
        writer.write(other, 1_600_000_000_000_000_000, bytes(8))
    words = ["replay", tmp_path / "bag", *runtime_options, "--question", "Is it?"]
    words += ["--answers", "yes,no", "--json"]
    found = run(*words, "--question-hz", "1", "--out", "out").json
    assert [line.sensors["cam_front"].stamp_ns for line in lines()] == [
        1_600_000_001_000_000_000,
        1_600_000_002_000_000_000,
    ]
    assert found["moments_answered"] == 2
    assert any("/imu (sensor_msgs/msg/Temperature, 1 messages)" in one for one in found["notes"])
    Path("qa.json").write_text('{"questions": []}')
    error = run("replay", tmp_path / "bag", "--questions", "qa.json").error()
    assert "no keyframes" in error


def test_a_missing_rerun_is_told_before_the_run(
    run: Run, drive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rerun", None)
    error = run("replay", drive, "--out", "out", "--rerun", "a.rrd").error()
    assert "pip install 'tailwire[viz]'" in error
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--rate", "fast"], "--rate"),
        (["--rate", "0"], "--rate"),
        (["--rate", "nan"], "--rate"),
        (["--limit", "0"], "--limit"),
        (["--limit", "3"], "--limit"),
        (["--split", "val"], "--split"),
        (["--drop", "cam_front@8s..5s"], "--drop"),
        (["--drop", "cam_front@now"], "SENSOR@5s..8s"),
        (["--answers", "yes,no"], "--question"),
        (["--question", " "], "question"),
        (["--question", "Is it?", "--answers", "yes,,no"], "--answers"),
        (["--question-hz", "0"], "--question-hz"),
        (["--scene", "scene-9"], "scene-9"),
        (["--version", "v1.0-trainval"], "v1.0-mini"),
        (["--questions", "nowhere.json"], "nowhere.json"),
        (["--rerun", "no-folder/a.rrd"], "no-folder"),
        (["--out", "/dev/null/out"], "/dev/null/out"),
    ],
)
def test_wrong_input(run: Run, drive: Path, words: list[str], named: str) -> None:
    assert named in run("replay", drive, *words).error()


def test_a_sensor_to_drop_that_is_not_there(replay: Run) -> None:
    assert "cam_frnt" in replay("--drop", "cam_frnt").error()


def test_a_window_beside_the_drive_is_told(replay: Run) -> None:
    found = replay("--question", "Is it?", "--drop", "cam_front@900s..", "--json", "--no-bag").json
    assert any("took no frame away" in note for note in found["notes"])


@pytest.mark.parametrize("content", [None, "", "[]", '{"questions": []}', '{"questions": [{}]}'])
def test_a_file_of_questions_that_is_none(run: Run, drive: Path, content: str | None) -> None:
    if content is not None:
        Path("qa.json").write_text(content)
    assert "qa.json" in run("replay", drive, "--questions", "qa.json").error()


def test_questions_of_another_data_set(run: Run, own_drive: Path, questions: Path) -> None:
    text = questions.read_text()
    for sample in NuScenes.open(own_drive).samples("scene-0001"):
        text = text.replace(sample.token, "far")
    questions.write_text(text)
    error = run("replay", own_drive, "--questions", questions).error()
    assert "none of its" in error
    assert str(questions) in error


def test_a_path_where_nothing_can_be_played(run: Run, tmp_path: Path, own_drive: Path) -> None:
    assert "nowhere" in run("replay", tmp_path / "nowhere").error()
    (tmp_path / "empty").mkdir()
    assert "neither a nuScenes data set nor a bag" in run("replay", tmp_path / "empty").error()
    (tmp_path / "text.mcap").write_text("no bag")
    assert "text.mcap" in run("replay", tmp_path / "text.mcap").error()
    (own_drive / "v1.0-mini" / "sample_data.json").write_text('[{"token": 3}]')
    assert "sample_data.json" in run("replay", own_drive).error()


def test_a_drive_without_a_file_that_can_be_read(
    run: Run, own_drive: Path, runtime_options: list[str]
) -> None:
    for file in (own_drive / "samples").rglob("*.*"):
        file.write_bytes(b"")
    error = run("replay", own_drive, *runtime_options, "--out", "out").error()
    assert "can be read" in error
    assert "14 are broken" in error


def test_answers_of_an_earlier_run_are_kept(replay: Run) -> None:
    replay("--no-bag")
    before = Path("out/answers.jsonl").read_bytes()
    assert "answers.jsonl" in replay("--no-bag").error()
    assert Path("out/answers.jsonl").read_bytes() == before
