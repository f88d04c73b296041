"""Bags of other robots: any camera and LiDAR message, MCAP or SQLite, other names and orders."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tailwire.runtime.errors import DataError, SensorError
from tailwire.runtime.frames import SensorFrame
from tailwire.simulation.bags import open_bag
from tailwire.simulation.bags.contract import sensor_of_topic

from .conftest import (
    STAMP_NS,
    TYPES,
    Message,
    cloud,
    frames_of,
    header,
    image,
    ros,
    write_foreign,
)

pytest.importorskip("rosbags", reason="needs the package rosbags: pip install 'tailwire[sim]'")

from rosbags.rosbag2 import CompressionMode, StoragePlugin

RED_GREEN_BLUE = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
IMAGE, CLOUD = "sensor_msgs/msg/Image", "sensor_msgs/msg/PointCloud2"


def only_frame(path: Path) -> SensorFrame:
    (frame,) = open_bag(path).frames()
    return frame


@pytest.mark.parametrize(
    ("topic", "sensor"),
    [
        ("/cam_front/image_raw/compressed", "cam_front"),
        ("/lidar_top/points", "lidar_top"),
        ("/camera/color/image_raw", "camera_color"),
        ("/camera/color/camera_info", "camera_color"),
        ("/points", "points"),
        ("/image_raw", "image_raw"),
        ("/Front-Left/Image_Rect", "front_left"),
        ("/velodyne_points", "velodyne_points"),
        ("/ouster/point_cloud2", "ouster"),
        ("/", "sensor"),
    ],
)
def test_the_sensor_is_named_by_its_topic(topic: str, sensor: str) -> None:
    assert sensor_of_topic(topic) == sensor


@pytest.mark.parametrize("pad", [0, 5])
@pytest.mark.parametrize(
    ("encoding", "pixels"),
    [
        ("rgb8", RED_GREEN_BLUE),
        ("bgr8", RED_GREEN_BLUE[:, :, ::-1]),
        ("8UC3", RED_GREEN_BLUE[:, :, ::-1]),
        ("rgba8", np.dstack([RED_GREEN_BLUE, np.full((2, 4, 1), 7, np.uint8)])),
        ("bgra8", np.dstack([RED_GREEN_BLUE[:, :, ::-1], np.full((2, 4, 1), 7, np.uint8)])),
    ],
)
def test_raw_images_become_rgb(tmp_path: Path, encoding: str, pixels: np.ndarray, pad: int) -> None:
    message = image(np.ascontiguousarray(pixels), encoding, pad=pad)
    frame = only_frame(
        write_foreign(tmp_path / "bag", [("/eye/image_raw", IMAGE, STAMP_NS, message)])
    )
    assert (frame.sensor, frame.modality, frame.stamp_ns) == ("eye", "camera", STAMP_NS)
    assert frame.frame_id == "somewhere"
    np.testing.assert_array_equal(frame.payload, RED_GREEN_BLUE)


def test_grey_images_become_three_equal_channels(tmp_path: Path) -> None:
    message = image(RED_GREEN_BLUE[:, :, :1], "mono8", pad=3)
    frame = only_frame(write_foreign(tmp_path / "bag", [("/eye/image_raw", IMAGE, 5, message)]))
    np.testing.assert_array_equal(frame.payload, RED_GREEN_BLUE[:, :, :1].repeat(3, axis=2))


LAYOUTS = [
    np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4"), ("ring", "<u2")]),
    np.dtype([("intensity", "<u1"), ("z", "<f8"), ("y", "<f8"), ("x", "<f8"), ("ring", "<i4")]),
    np.dtype([("x", ">f4"), ("y", ">f4"), ("z", ">f4"), ("ring", ">u2"), ("intensity", ">f8")]),
    np.dtype(
        {
            "names": ["x", "y", "z", "intensity", "ring"],
            "formats": ["<f4", "<f4", "<f4", "<f4", "<u2"],
            "offsets": [4, 8, 12, 20, 30],
            "itemsize": 48,
        }
    ),
]


@pytest.mark.parametrize(("height", "row_pad"), [(1, 0), (2, 0), (3, 7)])
@pytest.mark.parametrize("layout", LAYOUTS, ids=["packed", "doubles", "big endian", "padded"])
def test_clouds_of_any_layout(tmp_path: Path, layout: np.dtype, height: int, row_pad: int) -> None:
    points = np.zeros(6, layout)
    for column, name in enumerate(("x", "y", "z", "intensity", "ring")):
        points[name] = np.arange(6) + 10 * column
    points["y"][4] = np.nan
    points["x"][5] = np.inf
    message = cloud(points, height=height, row_pad=row_pad)
    frame = only_frame(write_foreign(tmp_path / "bag", [("/top/points", CLOUD, 9, message)]))
    expected = np.arange(4)[:, None] + 10 * np.arange(5)[None]
    assert (frame.sensor, frame.modality) == ("top", "lidar")
    assert isinstance(frame.payload, np.ndarray) and frame.payload.dtype == np.float32
    np.testing.assert_array_equal(frame.payload, expected)


def test_a_cloud_without_intensity_has_zeros(tmp_path: Path) -> None:
    points = np.ones(3, [("x", "<f4"), ("y", "<f4"), ("z", "<f4")])
    frame = only_frame(write_foreign(tmp_path / "bag", [("/top/points", CLOUD, 9, cloud(points))]))
    np.testing.assert_array_equal(frame.payload, [[1, 1, 1, 0]] * 3)


def test_frames_come_in_the_order_of_their_stamps(tmp_path: Path) -> None:
    # The second camera is slow: its messages are recorded long after they were taken.
    messages: list[Message] = []
    for step in range(20):
        stamp = STAMP_NS + step * 100_000_000
        fast = image(RED_GREEN_BLUE, "rgb8", stamp)
        slow = image(RED_GREEN_BLUE, "rgb8", stamp - 5)
        messages.append(("/fast/image_raw", IMAGE, stamp + 1_000, fast))
        messages.append(("/slow/image_raw", IMAGE, stamp + 450_000_000, slow))
    messages.sort(key=lambda message: message[2])
    drive = open_bag(write_foreign(tmp_path / "bag", messages))
    frames = [(frame.stamp_ns, frame.sensor) for frame in drive.frames()]
    assert frames == sorted(frames)
    assert len(frames) == 40
    assert [name for _, name in frames[:4]] == ["slow", "fast", "slow", "fast"]


def test_a_header_without_a_stamp_takes_the_log_time_and_is_counted(tmp_path: Path) -> None:
    messages: list[Message] = [
        ("/eye/image_raw", IMAGE, STAMP_NS + step, image(RED_GREEN_BLUE, "rgb8", 0))
        for step in range(3)
    ]
    drive = open_bag(write_foreign(tmp_path / "bag", messages))
    assert [frame.stamp_ns for frame in drive.frames()] == [STAMP_NS + step for step in range(3)]
    assert drive.report.without_stamp == {"eye": 3}
    assert "3 headers without a stamp" in drive.report.notes()[0]


def test_topics_may_be_given_names(tmp_path: Path) -> None:
    message = image(RED_GREEN_BLUE, "rgb8")
    bag = write_foreign(
        tmp_path / "bag",
        [("/a/image_raw", IMAGE, 5, message), ("/a/image_rect", IMAGE, 6, message)],
    )
    assert open_bag(bag).topics == {"a": "/a/image_raw"}
    assert any("it is a like /a/image_raw" in note for note in open_bag(bag).report.notes())
    named = open_bag(bag, topics={"/a/image_rect": "cam_front"})
    assert named.topics == {"a": "/a/image_raw", "cam_front": "/a/image_rect"}
    assert named.report.notes() == ()


@pytest.mark.parametrize("plugin", list(StoragePlugin), ids=lambda plugin: plugin.name)
@pytest.mark.parametrize(
    "compression",
    [CompressionMode.NONE, CompressionMode.MESSAGE, CompressionMode.STORAGE],
    ids=lambda mode: mode.name,
)
def test_both_kinds_of_files(
    tmp_path: Path, plugin: StoragePlugin, compression: CompressionMode
) -> None:
    messages: list[Message] = [
        ("/eye/image_raw", IMAGE, STAMP_NS + step, image(RED_GREEN_BLUE, "rgb8", STAMP_NS + step))
        for step in range(5)
    ]
    if plugin is StoragePlugin.SQLITE3 and compression is CompressionMode.STORAGE:
        pytest.skip("only MCAP compresses in chunks")
    bag = write_foreign(tmp_path / "bag", messages, plugin, compression)
    frames = list(open_bag(bag).frames())
    assert [frame.stamp_ns for frame in frames] == [STAMP_NS + step for step in range(5)]
    np.testing.assert_array_equal(frames[0].payload, RED_GREEN_BLUE)


@pytest.mark.parametrize("kind", ["none", "lz4", "zstd"])
def test_files_of_the_mcap_library(tmp_path: Path, kind: str) -> None:
    """Chunks with checksums, in every compression there is."""
    pytest.importorskip("mcap", reason="needs the package mcap")
    from mcap.writer import CompressionType, Writer

    with (tmp_path / "one.mcap").open("wb") as stream:
        writer = Writer(stream, compression=CompressionType[kind.upper()], chunk_size=500)
        writer.start("ros2", "test")
        text, _ = TYPES.generate_msgdef(IMAGE, ros_version=2)
        schema = writer.register_schema(IMAGE, "ros2msg", text.encode())
        channel = writer.register_channel("/eye/image_raw", "cdr", schema)
        for step in range(20):
            data = bytes(TYPES.serialize_cdr(image(RED_GREEN_BLUE, "rgb8", STAMP_NS + step), IMAGE))
            writer.add_message(channel, STAMP_NS + step, data, STAMP_NS + step)
        writer.finish()
    frames, drops, notes = frames_of(tmp_path / "one.mcap")
    assert [frame.stamp_ns for frame in frames] == [STAMP_NS + step for step in range(20)]
    assert (drops, notes) == ([], ())
    # One bit in a chunk is noticed, and only that chunk is lost.
    broken = bytearray((tmp_path / "one.mcap").read_bytes())
    place = broken.find(b"somewhere") if kind == "none" else len(broken) // 3
    broken[place] ^= 1
    (tmp_path / "two.mcap").write_bytes(broken)
    frames, _, notes = frames_of(tmp_path / "two.mcap")
    assert 0 < len(frames) < 20
    assert any("chunk" in note for note in notes)


def test_a_bag_of_several_files_is_read_in_their_order(tmp_path: Path) -> None:
    for number in (10, 9):
        stamp = STAMP_NS + number
        message = image(RED_GREEN_BLUE, "rgb8", stamp)
        part = write_foreign(tmp_path / f"p_{number}", [("/a/image_raw", IMAGE, stamp, message)])
        (tmp_path / "all").mkdir(exist_ok=True)
        shutil.copy(part / f"p_{number}.mcap", tmp_path / "all")
    frames, _, notes = frames_of(tmp_path / "all")
    assert [frame.stamp_ns - STAMP_NS for frame in frames] == [9, 10]
    assert "there is no metadata.yaml" in notes[0]


def test_a_folder_of_bags_asks_for_the_scene(tiny_bag: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_bag, tmp_path / "bags" / "scene-0001")
    assert open_bag(tmp_path / "bags").scene == "scene-0001"
    shutil.copytree(tiny_bag, tmp_path / "bags" / "scene-0002")
    with pytest.raises(DataError, match="2 bags: scene-0001, scene-0002"):
        open_bag(tmp_path / "bags")
    assert open_bag(tmp_path / "bags", "scene-0001").scene == "scene-0001"
    with pytest.raises(DataError, match="of scene-0001, not of scene-7"):
        open_bag(tiny_bag, "scene-7")


def test_one_file_is_a_bag_too(tiny_bag: Path) -> None:
    drive = open_bag(tiny_bag / "scene-0001.mcap")
    assert drive.title == "scene-0001, bag"
    assert len(list(drive.frames())) == 8


def test_poses_go_up_to_the_root_through_what_moves(tmp_path: Path) -> None:
    """map -> odom is corrected now and then, as a localiser of a robot does."""

    def edge(stamp_ns: int, parent: str, child: str, x: float) -> Message:
        vector = ros("geometry_msgs/msg/Vector3", x=x, y=0.0, z=0.0)
        turn = ros("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0)
        transform = ros("geometry_msgs/msg/Transform", translation=vector, rotation=turn)
        stamped = ros(
            "geometry_msgs/msg/TransformStamped",
            header=header(stamp_ns, parent),
            child_frame_id=child,
            transform=transform,
        )
        kind = "tf2_msgs/msg/TFMessage"
        return ("/tf", kind, stamp_ns, ros(kind, transforms=[stamped]))

    messages = [edge(100, "map", "odom", 50.0), edge(300, "map", "odom", 51.0)]
    messages += [edge(stamp, "odom", "base_link", stamp / 100) for stamp in (100, 200, 300, 400)]
    messages.append(("/a/image_raw", IMAGE, 500, image(RED_GREEN_BLUE, "rgb8")))
    messages.sort(key=lambda message: message[2])
    drive = open_bag(write_foreign(tmp_path / "bag", messages))
    places = {stamp: pose[0, 3] for stamp, pose in drive.poses().items()}
    assert places == {100: 51.0, 200: 52.0, 300: 54.0, 400: 55.0}
    # The camera hangs below no known frame.
    assert drive.calibrations() == {}
    assert drive.keyframes == ()


def test_an_unknown_sensor_is_refused(tiny_bag: Path) -> None:
    with pytest.raises(SensorError, match="known are cam_front, lidar_top"):
        open_bag(tiny_bag).frames(["cam_roof"])
