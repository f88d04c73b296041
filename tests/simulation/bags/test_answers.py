"""Answers merged with what the sensors saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="needs the package rosbags: pip install 'tailwire[sim]'")

from rosbags.rosbag2 import Reader, StoragePlugin, Writer

from tailwire.runtime.errors import DataError
from tailwire.simulation.bags import AnswerMessage, open_bag, write_answers
from tailwire.simulation.nuscenes import NuScenes
from tailwire.simulation.nuscenes.source import NuScenesDrive

from ..conftest import STAMP_NS
from .conftest import TYPES, image

ANSWERS = [
    AnswerMessage(
        stamp_ns=STAMP_NS - 35_000_000 + number * 100_000_000,
        given_ns=STAMP_NS + 40_000_000 + number * 100_000_000,
        question="Is there a car to the left?",
        text="yes",
        confidence=0.75,
        expected="no",
        sensors=("cam_front", "lidar_top"),
        sensor_ages_ms=(35.0, 0.5),
        dropped=("cam_back: the drive has no such sensor",),
        held=True,
        cut="the deadline came",
        late_ms=2.5,
        flops=1.5e9,
        latency_ms=40.25,
        stages_ms={"tail": 20.5, "decode": 1.25},
        pack_trained=False,
        pack="starter",
        plan_json='{"tail_blocks": 6}',
    )
    for number in (3, 0, 1)
]


def raw(bag: Path) -> list[tuple[str, int, bytes]]:
    with Reader(bag) as reader:
        return [(c.topic, stamp, bytes(data)) for c, stamp, data in reader.messages()]


def is_answer(topic: str) -> bool:
    return topic.startswith("/tailwire/")


@pytest.fixture(params=["bag", "data set"])
def source(request: pytest.FixtureRequest, tiny_bag: Path, written_root: Path) -> Any:
    if request.param == "bag":
        return open_bag(tiny_bag)
    return NuScenesDrive(NuScenes.open(written_root), "scene-0001")


def test_sensor_messages_are_copied_bit_for_bit(
    source: Any, tiny_bag: Path, tmp_path: Path
) -> None:
    summary = write_answers(source, ANSWERS, tmp_path / "answered")
    messages = raw(tmp_path / "answered")
    assert [message for message in messages if not is_answer(message[0])] == raw(tiny_bag)
    times = [time for _, time, _ in messages]
    assert times == sorted(times)
    given = [time for topic, time, _ in messages if topic == "/tailwire/answers"]
    assert given == sorted(answer.given_ns for answer in ANSWERS)
    assert summary.num_frames == 8
    assert {topic.topic: topic.count for topic in summary.topics}["/tailwire/answers"] == 3
    # What is answered can be answered again; the old answers make room.
    write_answers(open_bag(tmp_path / "answered"), ANSWERS[:1], tmp_path / "again")
    again = raw(tmp_path / "again")
    assert [message for message in again if not is_answer(message[0])] == raw(tiny_bag)
    assert sum(topic == "/tailwire/answers" for topic, _, _ in again) == 1
    assert open_bag(tmp_path / "again").keyframes == open_bag(tiny_bag).keyframes


def test_every_field_is_read_by_others(source: Any, tmp_path: Path) -> None:
    pytest.importorskip("mcap_ros2", reason="needs the package mcap-ros2-support")
    from mcap.reader import make_reader
    from mcap_ros2.decoder import DecoderFactory

    write_answers(source, ANSWERS[:1], tmp_path / "bag")
    with (tmp_path / "bag" / "bag.mcap").open("rb") as stream:
        reader = make_reader(stream, decoder_factories=[DecoderFactory()])
        topics = ["/tailwire/answers", "/tailwire/answer_text"]
        found = list(reader.iter_decoded_messages(topics=topics))
    (schema, _, message, answer), (_, _, _, text) = found
    assert schema is not None
    expected = ANSWERS[0]
    assert (schema.name, message.log_time) == ("tailwire_msgs/msg/Answer", expected.given_ns)
    stamp = answer.header.stamp
    assert stamp.sec * 1_000_000_000 + stamp.nanosec == expected.stamp_ns
    assert answer.header.frame_id == "base_link"
    for name in ("question", "text", "confidence", "expected", "held", "cut", "late_ms"):
        assert getattr(answer, name) == getattr(expected, name)
    for name in ("flops", "latency_ms", "pack", "plan_json"):
        assert getattr(answer, name) == getattr(expected, name)
    assert tuple(answer.sensors) == expected.sensors
    assert tuple(answer.sensor_ages_ms) == expected.sensor_ages_ms
    assert tuple(answer.dropped) == expected.dropped
    assert dict(zip(answer.stages, answer.stages_ms, strict=True)) == expected.stages_ms
    assert answer.pack_trained is expected.pack_trained
    line = "Is there a car to the left? yes (0.75), expected no, 40 ms, cam_front lidar_top"
    assert text.data == line


def test_types_of_other_robots_are_copied_too(tmp_path: Path) -> None:
    picture = image(np.zeros((2, 2, 3), np.uint8), "rgb8")
    kind = "sensor_msgs/msg/Image"
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        camera = writer.add_connection("/eye/image_raw", kind, typestore=TYPES)
        arm = writer.add_connection(
            "/arm", "own_msgs/msg/Arm", msgdef="float64 angle\n", rihs01="RIHS01_" + 64 * "a"
        )
        # Later in the file, earlier in time.
        writer.write(camera, 2_000, bytes(TYPES.serialize_cdr(picture, kind)))
        writer.write(arm, 1_000, b"\0\1\0\0" + bytes(8))
    answer = AnswerMessage(stamp_ns=1, given_ns=1_500, question="?", text="no")
    summary = write_answers(open_bag(tmp_path / "bag"), [answer], tmp_path / "out")
    messages = raw(tmp_path / "out")
    assert [(topic, time) for topic, time, _ in messages if topic != "/tailwire/answer_text"] == [
        ("/arm", 1_000),
        ("/tailwire/answers", 1_500),
        ("/eye/image_raw", 2_000),
    ]
    assert messages[0][2] == b"\0\1\0\0" + bytes(8)
    assert summary.notes == ()
    with Reader(tmp_path / "out") as reader:
        arm = next(c for c in reader.connections if c.topic == "/arm")
        assert (arm.msgtype, arm.digest) == ("own_msgs/msg/Arm", "RIHS01_" + 64 * "a")


def test_an_existing_folder_is_refused(tiny_bag: Path, tmp_path: Path) -> None:
    (tmp_path / "bag").mkdir()
    with pytest.raises(DataError, match="there already"):
        write_answers(open_bag(tiny_bag), ANSWERS, tmp_path / "bag")


def test_a_cut_bag_is_copied_as_far_as_it_goes(tiny_mcap: bytes, tmp_path: Path) -> None:
    (tmp_path / "cut.mcap").write_bytes(tiny_mcap[: len(tiny_mcap) // 2])
    source = open_bag(tmp_path / "cut.mcap")
    summary = write_answers(source, ANSWERS, tmp_path / "out")
    assert summary.num_frames == len(list(source.frames())) > 0
    assert "cut off" in summary.notes[0]
    assert open_bag(tmp_path / "out").report.notes() == ()
