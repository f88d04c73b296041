# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
"""Drives published as a robot would, and answers recorded beside them."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailwire.runtime.errors import TailwireError
from tailwire.simulation.bags import open_bag, write_bag
from tailwire.simulation.nuscenes import NuScenes
from tailwire.simulation.sketch_drive import make_sketch_drive

from .conftest import missing

if missing():
    pytest.skip(missing(), allow_module_level=True)

from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, PointCloud2
from tf2_msgs.msg import TFMessage

from tailwire_msgs.msg import Answer
from tailwire_ros.conversion import stamp_ns
from tailwire_ros.recorder_node import RecorderNode
from tailwire_ros.replay_node import ReplayNode

from .nodes import Spin
from .robot import LATCHED, overrides, wait_for

QUICK = {"rate": 5.0, "settle_s": 0.2}


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sketch_drive(tmp_path_factory.mktemp("drive") / "sketch", seconds=1.5)


@pytest.fixture(scope="module")
def bag(drive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = NuScenes.open(drive)
    out = tmp_path_factory.mktemp("bags") / "sketch"
    write_bag(data, data.scenes[0], out)
    return out


class Listener(Node):
    """Keeps what a robot publishes."""

    def __init__(self, namespace: str = "") -> None:
        super().__init__("listener", namespace=namespace)
        self.heard: dict[str, list[Any]] = {}
        for kind, topic, qos in (
            (CompressedImage, "cam_front/image_raw/compressed", 50),
            (CameraInfo, "cam_front/camera_info", 50),
            (PointCloud2, "lidar_top/points", 50),
            (PointCloud2, "/lidar_top/points", 50),
            (TFMessage, "/tf_static", LATCHED),
            (TFMessage, "/tf", 200),
            (Clock, "/clock", 200),
        ):
            self.heard[topic] = []
            self.create_subscription(kind, topic, self.heard[topic].append, qos)


def play(spin: Spin, path: Path, namespace: str = "", **changes: Any) -> ReplayNode:
    values = {**QUICK, "path": str(path), **changes}
    node = spin(ReplayNode(namespace=namespace, parameter_overrides=overrides(values)))
    node.start()
    return node


@pytest.mark.parametrize("kind", ["data set", "bag"])
def test_a_drive_is_published_as_it_is(spin: Spin, drive: Path, bag: Path, kind: str) -> None:
    listener = spin(Listener())
    node = play(spin, drive if kind == "data set" else bag)
    assert node.over.wait(60)
    assert not node.failure
    expected = list(open_bag(bag).frames(["cam_front", "lidar_top"]))
    images = listener.heard["cam_front/image_raw/compressed"]
    clouds = listener.heard["lidar_top/points"]
    pictures = [frame for frame in expected if frame.modality == "camera"]
    sweeps = [frame for frame in expected if frame.modality == "lidar"]
    wait_for(lambda: len(images) == len(pictures) and len(clouds) == len(sweeps))
    for message, frame in zip(images, pictures, strict=True):
        assert (stamp_ns(message.header.stamp), message.header.frame_id) == (
            frame.stamp_ns,
            "cam_front_optical",
        )
        assert message.data.tobytes() == frame.payload
    for message, frame in zip(clouds, sweeps, strict=True):
        points = np.frombuffer(message.data, np.float32).reshape(-1, 5)
        np.testing.assert_array_equal(points, frame.payload)
    (calibration,) = {tuple(message.k) for message in listener.heard["cam_front/camera_info"]}
    geometry = pictures[0].geometry
    assert geometry is not None
    np.testing.assert_array_equal(np.reshape(calibration, (3, 3)), geometry.intrinsic)
    frames = {edge.child_frame_id for edge in listener.heard["/tf_static"][0].transforms}
    assert {"cam_front_optical", "lidar_top", "odom"} <= frames
    clock = [stamp_ns(message.clock) for message in listener.heard["/clock"]]
    # A busy listener may miss ticks, as it may of any clock.
    assert clock
    assert clock == sorted(set(clock))
    assert listener.heard["/tf"]


def test_a_namespace_is_one_robot(spin: Spin, bag: Path) -> None:
    listener = spin(Listener("/robot1"))
    node = play(spin, bag, "/robot1")
    assert node.over.wait(60)
    wait_for(lambda: listener.heard["lidar_top/points"])
    assert not listener.heard["/lidar_top/points"]


def test_sensors_can_be_left_out_and_withheld(spin: Spin, bag: Path) -> None:
    listener = spin(Listener())
    node = play(spin, bag, sensors=["cam_front", "lidar_top"], drop=["lidar_top@0.3s.."])
    assert node.over.wait(60)
    assert {
        topic for topic in node.published if "cam_back" in topic and "info" not in topic
    } == set()
    sweeps = [f.stamp_ns for f in open_bag(bag).frames(["lidar_top"])]
    first = min(frame.stamp_ns for frame in open_bag(bag).frames())
    kept = [stamp for stamp in sweeps if stamp - first < 300_000_000]
    assert node.withheld["/lidar_top/points"] == len(sweeps) - len(kept) > 0
    wait_for(lambda: len(listener.heard["lidar_top/points"]) == len(kept))


def test_a_sensor_is_withheld_while_the_drive_plays(spin: Spin, bag: Path) -> None:
    spin(Listener())
    node = play(spin, bag, loop=True)
    topic = "/cam_front/image_raw/compressed"
    wait_for(lambda: node.published[topic])
    (result,) = node.set_parameters(overrides({"drop": ["cam_front"]}))
    assert result.successful, result.reason
    wait_for(lambda: node.withheld[topic] > 2)
    before = node.published[topic]
    wait_for(lambda: node.withheld[topic] > 6)
    # One may have been under way.
    assert node.published[topic] <= before + 1
    for wrong, complaint in ((["sonar"], "no sensor 'sonar'"), (["cam_front@5s..2s"], "ends")):
        (result,) = node.set_parameters(overrides({"drop": wrong}))
        assert not result.successful
        assert complaint in result.reason
    (result,) = node.set_parameters(overrides({"drop": [""]}))
    assert result.successful, result.reason
    before = node.published[topic]
    wait_for(lambda: node.published[topic] > before + 2)
    (result,) = node.set_parameters(overrides({"rate": 2.0}))
    assert not result.successful


def answer(number: int) -> Answer:
    message = Answer(question_id=number, question="Is there a car?", text="yes", confidence=0.5)
    message.header.stamp.sec = 7
    message.sensors, message.sensor_ages_ms = ["lidar_top"], [3.5]
    message.stages, message.stages_ms = ["tail"], [1.5]
    return message


def test_answers_are_recorded_beside_the_sensors(spin: Spin, bag: Path, tmp_path: Path) -> None:
    listener = spin(Listener())
    speaker = listener.create_publisher(Answer, "tailwire/answers", 10)
    out = tmp_path / "answered"
    node = play(spin, bag, record=str(out), loop=False)
    wait_for(speaker.get_subscription_count)
    wait_for(lambda: listener.heard["/clock"])
    speaker.publish(answer(1))
    speaker.publish(answer(2))
    assert node.over.wait(60)
    assert not node.failure
    report = open_bag(out).report
    assert report.counts["/tailwire/answers"] == 2
    before = open_bag(bag).report.counts
    assert {topic: report.counts[topic] for topic in before} == before


def test_a_recorder_keeps_answers_alone(spin: Spin, tmp_path: Path) -> None:
    from rosbags.rosbag2 import Reader

    from tailwire.simulation.bags.typestore import deserialize

    out = tmp_path / "answers"
    values = {"out": str(out)}
    recorder = spin(RecorderNode(parameter_overrides=overrides(values)))
    listener = spin(Listener())
    speaker = listener.create_publisher(Answer, "tailwire/answers", 10)
    wait_for(speaker.get_subscription_count)
    for number in (1, 2, 3):
        speaker.publish(answer(number))
    wait_for(lambda: recorder.written == 3)
    recorder.close()
    with Reader(out) as reader:
        messages = [
            deserialize(data, connection.msgtype)
            for connection, _, data in reader.messages()
            if connection.topic == "/tailwire/answers"
        ]
    assert [message.question_id for message in messages] == [1, 2, 3]
    assert messages[0].text == "yes"
    assert messages[0].header.stamp.sec == 7


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"path": ""}, "no drive is named"),
        ({"path": "/no/such/drive"}, "nothing here"),
        ({"sensors": ["sonar"]}, "no sensor 'sonar'"),
        ({"drop": ["cam_front@5s..2s"]}, "ends before it begins"),
        ({"drop": ["sonar"]}, "no sensor 'sonar'"),
        ({"rate": 0.0}, "rate"),
        ({"speed": 2.0}, "there is no parameter 'speed'"),
    ],
)
def test_what_cannot_be_played_is_one_error(
    ros: None, bag: Path, changes: dict[str, Any], complaint: str
) -> None:
    values = {"path": str(bag), **changes}
    with pytest.raises(TailwireError, match=complaint):
        ReplayNode(parameter_overrides=overrides(values))


def test_a_loop_is_stopped(spin: Spin, bag: Path) -> None:
    listener = spin(Listener())
    node = play(spin, bag, loop=True)
    wait_for(lambda: len(listener.heard["/clock"]) > 3)
    first = stamp_ns(listener.heard["/clock"][0].clock)
    wait_for(lambda: [stamp_ns(m.clock) for m in listener.heard["/clock"]].count(first) > 1)
    node.stop()
    assert node.over.is_set()
    assert not any("replay" in thread.name for thread in threading.enumerate())
