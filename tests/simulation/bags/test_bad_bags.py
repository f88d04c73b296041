"""Broken bags: frames with a report or one clear error, never a traceback, never silence."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tailwire.runtime.errors import DataError, SensorError, TailwireError
from tailwire.simulation.bags import open_bag

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

from rosbags.rosbag2 import StoragePlugin, Writer

IMAGE, CLOUD = "sensor_msgs/msg/Image", "sensor_msgs/msg/PointCloud2"
PIXELS = np.zeros((2, 2, 3), np.uint8)
XYZ = np.ones(3, [("x", "<f4"), ("y", "<f4"), ("z", "<f4")])


def bag_of(tmp_path: Path, *messages: Message) -> Path:
    return write_foreign(tmp_path / "bag", messages)


@pytest.fixture(scope="module")
def tiny_db3(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of an SQLite bag with a camera and a LiDAR."""
    messages: list[Message] = []
    for number in range(4):
        stamp = STAMP_NS + number
        messages.append(("/eye/image_raw", IMAGE, stamp, image(PIXELS, "rgb8", stamp)))
        messages.append(("/top/points", CLOUD, stamp, cloud(XYZ, stamp)))
    out = tmp_path_factory.mktemp("sqlite") / "bag"
    return (write_foreign(out, messages, StoragePlugin.SQLITE3) / "bag.db3").read_bytes()


def outcome(path: Path) -> tuple[int, int, tuple[str, ...]]:
    """Frames, drops and notes; zeros and the message where the bag is refused."""
    try:
        frames, drops, notes = frames_of(path)
    except TailwireError as error:
        assert error.problem and error.field and error.remedy
        return 0, 0, (str(error),)
    return len(frames), len(drops), notes


@pytest.mark.parametrize("step", [331])
def test_an_mcap_cut_anywhere_is_read_up_to_the_cut(
    tiny_mcap: bytes, tmp_path: Path, step: int
) -> None:
    path = tmp_path / "cut.mcap"
    found: list[int] = []
    for size in [*range(0, len(tiny_mcap), step), len(tiny_mcap) - 1]:
        path.write_bytes(tiny_mcap[:size])
        frames, drops, notes = outcome(path)
        assert drops == 0
        index_is_whole = frames == 8 and not notes
        # Past the last message there is only an index, which is not needed.
        assert notes or index_is_whole
        found.append(frames)
    assert found == sorted(found)
    assert set(found) == set(range(9))


def test_a_recording_that_was_never_closed_is_read(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP)
    writer.open()
    connection = writer.add_connection("/eye/image_raw", IMAGE, typestore=TYPES)
    big = np.zeros((400, 500, 3), np.uint8)
    for number in range(5):
        message = image(big, "rgb8", STAMP_NS + number)
        writer.write(connection, STAMP_NS + number, bytes(TYPES.serialize_cdr(message, IMAGE)))
    writer.abort()
    frames, drops, notes = frames_of(tmp_path / "bag")
    # The library writes chunks of a megabyte; the last one was still in memory.
    assert [frame.stamp_ns - STAMP_NS for frame in frames] == [0, 1, 2, 3]
    assert not drops
    assert any("no metadata.yaml" in note for note in notes)
    assert any("cut off or was never closed" in note for note in notes)


def test_an_sqlite_bag_cut_anywhere(tmp_path: Path) -> None:
    messages: list[Message] = [
        ("/eye/image_raw", IMAGE, STAMP_NS + n, image(np.zeros((20, 60, 3), np.uint8), "rgb8"))
        for n in range(12)
    ]
    whole = write_foreign(tmp_path / "bag", messages, StoragePlugin.SQLITE3) / "bag.db3"
    content = whole.read_bytes()
    path = tmp_path / "cut.db3"
    for size in [*range(0, len(content), 1777), len(content) - 1]:
        path.write_bytes(content[:size])
        frames, drops, notes = outcome(path)
        assert notes or (frames == 12 and drops == 0)
    assert outcome(whole) == (12, 0, ())


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_changed_bytes_never_end_in_a_traceback(
    data: st.DataObject, tiny_mcap: bytes, tmp_path: Path
) -> None:
    content = bytearray(tiny_mcap)
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(8, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path / "changed.mcap"
    path.write_bytes(content)
    outcome(path)


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_changed_lengths_never_end_in_a_traceback(
    data: st.DataObject, tiny_mcap: bytes, tmp_path: Path
) -> None:
    """Lengths and counts are where parsers break: eight bytes at once become huge or zero."""
    content = bytearray(tiny_mcap)
    place = data.draw(st.integers(8, len(content) - 8))
    value = data.draw(st.sampled_from([0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]))
    content[place : place + 8] = value.to_bytes(8, "little")
    path = tmp_path / "changed.mcap"
    path.write_bytes(content)
    outcome(path)


@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_changed_bytes_of_an_sqlite_bag_never_end_in_a_traceback(
    data: st.DataObject, tiny_db3: bytes, tmp_path: Path
) -> None:
    content = bytearray(tiny_db3)
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(16, len(content) - 4))
        size = data.draw(st.sampled_from([1, 4]))
        content[place : place + size] = data.draw(st.binary(min_size=size, max_size=size))
    path = tmp_path / "changed.db3"
    path.write_bytes(content)
    outcome(path)


def test_a_message_lost_in_the_middle_is_noticed(tiny_mcap: bytes, tmp_path: Path) -> None:
    """One changed byte makes a record of another kind of a message; the counts tell."""
    place = tiny_mcap.index(b"\xff\xd8\xff")
    # Opcode and length stand before the 22 bytes of a message, which begins with its channel.
    while not (tiny_mcap[place] == 0x05 and tiny_mcap[place + 3 : place + 9] == bytes(6)):
        place -= 1
    content = bytearray(tiny_mcap)
    content[place] = 0x80
    (tmp_path / "changed.mcap").write_bytes(content)
    frames, drops, notes = frames_of(tmp_path / "changed.mcap")
    assert (len(frames), drops) == (7, [])
    assert any("but the summary counts" in note for note in notes)


@pytest.mark.parametrize("kind", [IMAGE, CLOUD, "sensor_msgs/msg/CompressedImage"])
def test_a_message_that_is_cut_off_is_dropped_and_told(tmp_path: Path, kind: str) -> None:
    whole = {
        IMAGE: image(PIXELS, "rgb8"),
        CLOUD: cloud(XYZ),
        "sensor_msgs/msg/CompressedImage": ros(
            "sensor_msgs/msg/CompressedImage",
            header=header(STAMP_NS),
            format="jpeg",
            data=np.frombuffer(b"\xff\xd8\xff" + bytes(20) + b"\xff\xd9", np.uint8),
        ),
    }[kind]
    data = bytes(TYPES.serialize_cdr(whole, kind))
    messages: list[Message] = [
        ("/a/points", kind, STAMP_NS + size, data[:size]) for size in range(len(data) + 1)
    ]
    frames, drops, _ = frames_of(bag_of(tmp_path, *messages))
    # Padding at the end of CDR may be missing.
    assert 1 <= len(frames) <= 4
    assert len(frames) + len(drops) == len(data) + 1
    assert all("Remedy" in reason and "/a/points" in reason for reason in drops)
    with pytest.raises(SensorError):
        list(open_bag(tmp_path / "bag").frames())


@pytest.mark.parametrize(
    ("kind", "change", "reason"),
    [
        (IMAGE, {"encoding": "16UC1"}, "encoding '16UC1'"),
        (IMAGE, {"encoding": "yuv411"}, "encoding 'yuv411'"),
        (IMAGE, {"step": 5}, "step of 5"),
        (IMAGE, {"height": 3}, "2 x 3"),
        (IMAGE, {"width": 0}, "0 x 2"),
        (IMAGE, {"width": 2**31}, "2147483648"),
        (CLOUD, {"width": 4}, "no 4 x 1 points"),
        (CLOUD, {"width": 0}, "cloud of 0 x 1"),
        (CLOUD, {"point_step": 0}, "points of 0 bytes"),
        (CLOUD, {"point_step": 8}, "outside of a point"),
        (CLOUD, {"fields": []}, "no field x, y, z"),
        (CLOUD, {"height": 2, "row_step": 2**31}, "row step"),
    ],
)
def test_messages_whose_sizes_do_not_fit(
    tmp_path: Path, kind: str, change: dict[str, object], reason: str
) -> None:
    message = image(PIXELS, "rgb8") if kind == IMAGE else cloud(XYZ)
    for name, value in change.items():
        object.__setattr__(message, name, value)
    frames, drops, _ = frames_of(bag_of(tmp_path, ("/a/points", kind, 5, message)))
    assert not frames
    assert reason in drops[0]


def test_a_cloud_of_nothing_but_nan_is_dropped(tmp_path: Path) -> None:
    points = XYZ.copy()
    points["z"] = np.nan
    _, drops, _ = frames_of(bag_of(tmp_path, ("/a/points", CLOUD, 5, cloud(points))))
    assert "none of the 3 points is finite" in drops[0]


def test_other_types_are_skipped_and_listed(tmp_path: Path) -> None:
    text = ros("std_msgs/msg/String", data="hello")
    bag = bag_of(
        tmp_path,
        ("/chatter", "std_msgs/msg/String", 3, text),
        ("/chatter", "std_msgs/msg/String", 4, text),
        ("/a/image_raw", IMAGE, 5, image(PIXELS, "rgb8")),
    )
    drive = open_bag(bag)
    assert drive.report.counts == {"/chatter": 2, "/a/image_raw": 1}
    assert "std_msgs/msg/String is not used" in drive.report.skipped["/chatter"]


@pytest.mark.parametrize(
    ("definition", "encoding", "reason"),
    [
        ("uint32 height\nuint8[] data\n", "cdr", "defined otherwise"),
        ("}{ nonsense ::", "cdr", "cannot be parsed"),
        ("uint8[] data\n", "protobuf", "not CDR"),
    ],
)
def test_a_wrong_schema_is_skipped_with_its_reason(
    tmp_path: Path, definition: str, encoding: str, reason: str
) -> None:
    data = bytes(TYPES.serialize_cdr(image(PIXELS, "rgb8"), IMAGE))
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        bad = writer.add_connection(
            "/bad/image_raw",
            IMAGE,
            msgdef=definition,
            rihs01="RIHS01_0",
            serialization_format=encoding,
        )
        writer.write(bad, STAMP_NS, data)
    with pytest.raises(DataError, match=reason):
        open_bag(tmp_path / "bag")


def test_bad_transforms_and_calibrations_are_counted(tmp_path: Path) -> None:
    tf = "tf2_msgs/msg/TFMessage"
    vector = ros("geometry_msgs/msg/Vector3", x=float("nan"), y=0.0, z=0.0)
    turn = ros("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=0.0)
    stamped = ros(
        "geometry_msgs/msg/TransformStamped",
        header=header(5, "odom"),
        child_frame_id="base_link",
        transform=ros("geometry_msgs/msg/Transform", translation=vector, rotation=turn),
    )
    bag = bag_of(
        tmp_path,
        ("/tf", tf, 3, ros(tf, transforms=[stamped, stamped])),
        ("/tf", tf, 4, b"\0\1\0\0\xff"),
        ("/a/image_raw", IMAGE, 5, image(PIXELS, "rgb8")),
    )
    drive = open_bag(bag)
    assert drive.report.bad == {"/tf": 3}
    assert "/tf: 3 unusable" in drive.report.notes()
    assert drive.poses() == {}


def test_what_is_no_bag_is_refused_by_name(tmp_path: Path, tiny_bag: Path) -> None:
    def refused(path: Path) -> str:
        with pytest.raises(DataError) as caught:
            open_bag(path)
        assert caught.value.field and caught.value.remedy
        return caught.value.problem

    assert "no such file" in refused(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "no bag in this folder" in refused(tmp_path / "empty")
    for name, content, problem in [
        ("a.mcap", b"", "the file is empty"),
        ("b.mcap", b"\xff\xd8\xff not a bag", "neither an MCAP nor an SQLite bag"),
        ("c.bag", b"#ROSBAG V2.0\n", "a ROS 1 bag"),
        ("d.db3.zstd", b"\x28\xb5\x2f\xfd123", "compressed as a whole"),
        ("e.mcap", b"\x89MCAP0\r\n", "there is no message"),
        ("f.db3", b"SQLite format 3\0" + bytes(100), "no whole bag"),
    ]:
        (tmp_path / name).write_bytes(content)
        assert problem in refused(tmp_path / name)
    assert "neither" in refused(tiny_bag / "metadata.yaml")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{[", "no YAML"),
        ("- 1\n", "no rosbag2_bagfile_information"),
        ("rosbag2_bagfile_information:\n  relative_file_paths: 7\n", "no list of names"),
        ("rosbag2_bagfile_information:\n  relative_file_paths: [/etc/x]\n", "inside the bag"),
        ("rosbag2_bagfile_information:\n  relative_file_paths: [../x.mcap]\n", "inside the bag"),
        ("rosbag2_bagfile_information:\n  relative_file_paths: [gone.mcap]\n", "cannot be read"),
    ],
)
def test_broken_metadata_is_refused(
    tiny_bag: Path, tmp_path: Path, content: str, problem: str
) -> None:
    bag = Path(shutil.copytree(tiny_bag, tmp_path / "bag"))
    (bag / "metadata.yaml").write_text(content)
    with pytest.raises(DataError, match=problem):
        open_bag(bag)


def test_missing_metadata_is_told_and_the_bag_read(tiny_bag: Path, tmp_path: Path) -> None:
    bag = Path(shutil.copytree(tiny_bag, tmp_path / "bag"))
    (bag / "metadata.yaml").unlink()
    frames, drops, notes = frames_of(bag)
    assert (len(frames), len(drops)) == (8, 0)
    assert notes == ("bag: there is no metadata.yaml, so all bag files here are read",)


def test_one_missing_file_of_several_is_told(tiny_bag: Path, tmp_path: Path) -> None:
    bag = Path(shutil.copytree(tiny_bag, tmp_path / "bag"))
    text = (bag / "metadata.yaml").read_text()
    (bag / "metadata.yaml").write_text(
        text.replace("  - scene-0001.mcap\n", "  - scene-0001.mcap\n  - gone.mcap\n")
    )
    frames, _, notes = frames_of(bag)
    assert len(frames) == 8
    assert any("gone.mcap" in note and "cannot be read" in note for note in notes)


def test_an_empty_bag_and_one_without_sensors_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no message"):
        open_bag(write_foreign(tmp_path / "empty", []))
    text = ros("std_msgs/msg/String", data="hello")
    bag = write_foreign(tmp_path / "words", [("/chatter", "std_msgs/msg/String", 3, text)])
    with pytest.raises(DataError, match="no image, point cloud or box is among its 1 messages"):
        open_bag(bag)
