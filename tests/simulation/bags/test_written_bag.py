"""What other readers find in a written bag: rosbags, and mcap with mcap-ros2-support."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("rosbags", reason="needs the package rosbags: pip install 'tailwire[sim]'")

from rosbags.highlevel import AnyReader
from rosbags.interfaces import ConnectionExtRosbag2, QosDurability, QosReliability
from rosbags.rosbag2 import Reader

from tailwire.runtime.errors import DataError, SensorError
from tailwire.simulation.bags import write_bag
from tailwire.simulation.nuscenes import NuScenes
from tailwire.simulation.nuscenes.geometry import rigid_transform

from ..conftest import HALF_SECOND_NS, STAMP_NS, Dataset

TOPICS = {
    "/annotations": "visualization_msgs/msg/MarkerArray",
    "/cam_front/camera_info": "sensor_msgs/msg/CameraInfo",
    "/cam_front/image_raw/compressed": "sensor_msgs/msg/CompressedImage",
    "/clock": "rosgraph_msgs/msg/Clock",
    "/keyframe": "std_msgs/msg/String",
    "/lidar_top/points": "sensor_msgs/msg/PointCloud2",
    "/odom": "nav_msgs/msg/Odometry",
    "/tf": "tf2_msgs/msg/TFMessage",
    "/tf_static": "tf2_msgs/msg/TFMessage",
}


def by_rosbags(bag: Path) -> list[tuple[str, int, Any]]:
    with AnyReader([bag]) as reader:
        return [
            (connection.topic, stamp, reader.deserialize(data, connection.msgtype))
            for connection, stamp, data in reader.messages()
        ]


def by_mcap(bag: Path) -> list[tuple[str, int, Any]]:
    pytest.importorskip("mcap_ros2", reason="needs the package mcap-ros2-support")
    from mcap.reader import make_reader
    from mcap_ros2.decoder import DecoderFactory

    with next(bag.glob("*.mcap")).open("rb") as stream:
        reader = make_reader(stream, decoder_factories=[DecoderFactory()])
        return [
            (channel.topic, message.log_time, decoded)
            for _, channel, message, decoded in reader.iter_decoded_messages()
        ]


@pytest.fixture(scope="module", params=[by_rosbags, by_mcap])
def messages(request: pytest.FixtureRequest, tiny_bag: Path) -> list[tuple[str, int, Any]]:
    return request.param(tiny_bag)


def of(messages: list[tuple[str, int, Any]], topic: str) -> list[tuple[int, Any]]:
    return [(log_time, message) for name, log_time, message in messages if name == topic]


def stamp_of(header: Any) -> int:
    # rosbags calls it nanosec like ROS, as does mcap-ros2-support.
    return header.stamp.sec * 1_000_000_000 + header.stamp.nanosec


def test_every_topic_of_the_contract_is_there(
    messages: list[tuple[str, int, Any]], tiny_bag: Path
) -> None:
    assert {topic for topic, _, _ in messages} == set(TOPICS)
    with Reader(tiny_bag) as reader:
        assert {c.topic: c.msgtype for c in reader.connections} == TOPICS


def test_headers_carry_the_capture_time_which_is_the_log_time(
    messages: list[tuple[str, int, Any]],
) -> None:
    times = [log_time for _, log_time, _ in messages]
    assert times == sorted(times)
    for topic, log_time, message in messages:
        if hasattr(message, "header"):
            assert stamp_of(message.header) == log_time, topic
    lidar = [log_time for log_time, _ in of(messages, "/lidar_top/points")]
    offsets = (0, 100_000_000, HALF_SECOND_NS, HALF_SECOND_NS + 100_000_000)
    assert lidar == [STAMP_NS + offset for offset in offsets]


def test_images_are_the_files(messages: list[tuple[str, int, Any]], written_root: Path) -> None:
    data = NuScenes.open(written_root)
    files = data.drive_data("scene-0001", ["cam_front"])
    found = of(messages, "/cam_front/image_raw/compressed")
    for file, (log_time, message) in zip(files, found, strict=True):
        assert (log_time, message.format) == (file.stamp_ns, "jpeg")
        assert message.header.frame_id == "cam_front_optical"
        assert bytes(message.data) == (written_root / file.filename).read_bytes()


def test_camera_info_is_a_rectified_pinhole(
    messages: list[tuple[str, int, Any]],
) -> None:
    found = of(messages, "/cam_front/camera_info")
    assert len(found) == 4
    for _, message in found:
        # mcap-ros2-support and rosbags agree on the lower-case names of ROS 2.
        assert list(message.k) == [20, 0, 16, 0, 20, 9, 0, 0, 1]
        assert list(message.p) == [20, 0, 16, 0, 0, 20, 9, 0, 0, 0, 1, 0]
        assert list(message.r) == [1, 0, 0, 0, 1, 0, 0, 0, 1]
        assert list(message.d) == [0] * 5
        assert message.distortion_model == "plumb_bob"
        assert (message.width, message.height) == (32, 18)
        assert message.header.frame_id == "cam_front_optical"


def test_points_are_the_file(messages: list[tuple[str, int, Any]], written_root: Path) -> None:
    data = NuScenes.open(written_root)
    files = data.drive_data("scene-0001", ["lidar_top"])
    for file, (_, message) in zip(files, of(messages, "/lidar_top/points"), strict=True):
        assert bytes(message.data) == (written_root / file.filename).read_bytes()
        layout = [(f.name, f.offset, f.datatype, f.count) for f in message.fields]
        names = ("x", "y", "z", "intensity", "ring")
        assert layout == [(name, 4 * place, 7, 1) for place, name in enumerate(names)]
        assert (message.point_step, message.row_step) == (20, 20 * message.width)
        assert (message.height, message.width, message.is_bigendian) == (1, 4, False)
        assert message.header.frame_id == "lidar_top"


def numbers(transform: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    place, turn = transform.translation, transform.rotation
    return (place.x, place.y, place.z), (turn.w, turn.x, turn.y, turn.z)


def test_transforms_hold_the_numbers_of_the_tables(
    messages: list[tuple[str, int, Any]], written_root: Path
) -> None:
    data = NuScenes.open(written_root)
    files = data.drive_data("scene-0001")
    ((first, static),) = of(messages, "/tf_static")
    assert first == files[0].stamp_ns
    mounts = {
        t.child_frame_id: (t.header.frame_id, numbers(t.transform)) for t in static.transforms
    }
    assert set(mounts) == {"odom", "cam_front_optical", "lidar_top"}
    assert mounts["odom"] == ("map", ((0, 0, 0), (1, 0, 0, 0)))
    moving = {}
    for log_time, message in of(messages, "/tf"):
        (edge,) = message.transforms
        assert (edge.header.frame_id, edge.child_frame_id) == ("odom", "base_link")
        moving[log_time] = numbers(edge.transform)
    for file in files:
        assert moving[file.stamp_ns] == tuple(data.ego_pose_numbers(file))
        frame = "cam_front_optical" if file.sensor == "cam_front" else "lidar_top"
        assert mounts[frame] == ("base_link", tuple(data.calibration_numbers(file)))
        chain = rigid_transform(*moving[file.stamp_ns]) @ rigid_transform(*mounts[frame][1])
        expected = data.ego_pose(file) @ data.calibration_of(file).ego_from_sensor
        np.testing.assert_array_equal(chain, expected)


def test_keyframes_and_their_boxes(
    messages: list[tuple[str, int, Any]], written_root: Path
) -> None:
    data = NuScenes.open(written_root)
    samples = data.samples("scene-0001")
    found = [(log_time, message.data) for log_time, message in of(messages, "/keyframe")]
    assert found == [(sample.stamp_ns, sample.token) for sample in samples]
    for sample, (log_time, message) in zip(samples, of(messages, "/annotations"), strict=True):
        assert log_time == sample.stamp_ns
        clear, cube = message.markers
        (box,) = data.annotations(sample.token)
        assert (clear.action, cube.action, cube.type) == (3, 0, 1)
        assert (cube.ns, cube.text) == ("vehicle.car", "vehicle.car vehicle.moving")
        assert cube.header.frame_id == "map"
        place, turn, size = cube.pose.position, cube.pose.orientation, cube.scale
        assert (place.x, place.y, place.z) == box.translation
        assert (turn.w, turn.x, turn.y, turn.z) == box.rotation
        assert (size.x, size.y, size.z) == (4.5, 1.9, 1.5)


def test_odometry_and_clock(messages: list[tuple[str, int, Any]]) -> None:
    poses = [log_time for log_time, _ in of(messages, "/tf")]
    assert [log_time for log_time, _ in of(messages, "/odom")] == poses
    clocks = [message.clock for _, message in of(messages, "/clock")]
    assert [c.sec * 1_000_000_000 + c.nanosec for c in clocks] == poses
    for _, message in of(messages, "/odom"):
        assert (message.header.frame_id, message.child_frame_id) == ("odom", "base_link")
        assert message.pose.pose.position.y == 2.0


def test_the_metadata_is_that_of_rosbag2_version_9(tiny_bag: Path) -> None:
    content = yaml.safe_load((tiny_bag / "metadata.yaml").read_text())
    information = content["rosbag2_bagfile_information"]
    assert information["version"] == 9
    assert information["storage_identifier"] == "mcap"
    assert information["relative_file_paths"] == ["scene-0001.mcap"]
    assert (tiny_bag / "scene-0001.mcap").is_file()
    assert information["custom_data"]["scene"] == "scene-0001"
    # The camera leads by 35 ms; the last sweep comes 600 ms after the first keyframe.
    assert information["starting_time"]["nanoseconds_since_epoch"] == STAMP_NS - 35_000_000
    assert information["duration"]["nanoseconds"] == 635_000_000
    counts = {
        topic["topic_metadata"]["name"]: topic["message_count"]
        for topic in information["topics_with_message_count"]
    }
    assert sum(counts.values()) == information["message_count"]
    assert counts["/lidar_top/points"] == 4
    for topic in information["topics_with_message_count"]:
        assert topic["topic_metadata"]["serialization_format"] == "cdr"
        assert topic["topic_metadata"]["type_description_hash"].startswith("RIHS01_")


def test_topics_are_reliable_and_static_transforms_latched(tiny_bag: Path) -> None:
    with Reader(tiny_bag) as reader:
        for connection in reader.connections:
            assert isinstance(connection.ext, ConnectionExtRosbag2)
            (profile,) = connection.ext.offered_qos_profiles
            latched = connection.topic == "/tf_static"
            assert profile.reliability is QosReliability.RELIABLE
            assert (profile.durability is QosDurability.TRANSIENT_LOCAL) == latched


def test_ros2_bag_reads_it(tiny_bag: Path) -> None:
    ros2 = shutil.which("ros2")
    if ros2 is None:
        pytest.skip("there is no ros2 command; source a ROS 2 installation with rosbag2")
    done = subprocess.run(
        [ros2, "bag", "info", str(tiny_bag)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "/lidar_top/points" in done.stdout


def test_twist_is_that_of_a_known_motion(tmp_path: Path, written_root: Path) -> None:
    from tailwire.simulation.bags.motion import twists
    from tailwire.simulation.nuscenes.geometry import yaw_quaternion
    from tailwire.simulation.nuscenes.records import RigidNumbers

    # A circle of 20 m at 5 m/s: 0.25 rad/s to the left, always straight ahead.
    poses = {}
    for step in range(60):
        angle = 0.25 * step / 60
        place = (20 * np.sin(angle), 20 - 20 * np.cos(angle), 0.0)
        poses[STAMP_NS + step * 1_000_000_000 // 60] = RigidNumbers(place, yaw_quaternion(angle))
    for linear, angular in list(twists(poses).values())[5:-5]:
        np.testing.assert_allclose(linear, (5, 0, 0), atol=1e-3)
        np.testing.assert_allclose(angular, (0, 0, 0.25), atol=1e-6)


def test_a_broken_file_is_left_out_and_told(dataset: Dataset, tmp_path: Path) -> None:
    path = dataset.file("CAM_FRONT")
    path.write_bytes(path.read_bytes()[:-20])
    dataset.file("LIDAR_TOP", 1).unlink()
    seen: list[tuple[int, int]] = []
    summary = write_bag(
        NuScenes.open(dataset.root),
        "scene-0001",
        tmp_path / "bag",
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert [(drop.sensor, drop.stamp_ns) for drop in summary.dropped] == [
        ("cam_front", STAMP_NS - 35_000_000),
        ("lidar_top", STAMP_NS + HALF_SECOND_NS),
    ]
    assert "cut off" in summary.dropped[0].reason
    assert "missing" in summary.dropped[1].reason
    assert summary.num_frames == 6
    assert seen == [(done, 8) for done in range(1, 9)]
    counts = {topic.topic: topic.count for topic in summary.topics}
    assert counts["/cam_front/image_raw/compressed"] == counts["/cam_front/camera_info"] == 3
    assert counts["/lidar_top/points"] == 3
    assert len(by_rosbags(tmp_path / "bag")) == sum(counts.values())


def test_nothing_is_left_when_no_file_can_be_read(dataset: Dataset, tmp_path: Path) -> None:
    for folder in ("samples", "sweeps"):
        for path in (dataset.root / folder).rglob("*.*"):
            path.write_bytes(b"")
    with pytest.raises(DataError, match="none of the 8 sensor files can be read"):
        write_bag(NuScenes.open(dataset.root), "scene-0001", tmp_path / "out" / "bag")
    assert list((tmp_path / "out").iterdir()) == []


def test_an_existing_folder_is_refused(written_root: Path, tmp_path: Path) -> None:
    data = NuScenes.open(written_root)
    (tmp_path / "bag").mkdir()
    with pytest.raises(DataError, match="there already"):
        write_bag(data, "scene-0001", tmp_path / "bag")
    (tmp_path / "other.partial").mkdir()
    with pytest.raises(DataError, match="cut off here"):
        write_bag(data, "scene-0001", tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bag", "other.partial"]
    with pytest.raises(SensorError, match="unknown"):
        write_bag(data, "scene-0001", tmp_path / "new", sensors=["cam_roof"])
    with pytest.raises(DataError, match="no scene"):
        write_bag(data, "scene-9", tmp_path / "new")


def test_a_calibration_that_changes_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    def second_mount(rows: list[dict[str, Any]]) -> None:
        moved = {**rows[0], "token": "moved", "translation": [9.0, 9.0, 9.0]}
        rows.append(moved)

    dataset.edit("calibrated_sensor", second_mount)

    def use_it(rows: list[dict[str, Any]]) -> None:
        row = next(row for row in rows if "CAM_FRONT" in row["filename"])
        row["calibrated_sensor_token"] = "moved"

    dataset.edit("sample_data", use_it)
    with pytest.raises(DataError, match="calibration of cam_front changes"):
        write_bag(NuScenes.open(dataset.root), "scene-0001", tmp_path / "bag")
