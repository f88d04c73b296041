"""Boxes in bags: our own come back bit for bit, those of other robots as far as they tell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailwire.kernels.object_tokens import OBJECT_CLASSES, OBJECT_STATUSES
from tailwire.runtime.errors import DataError
from tailwire.runtime.frames import SensorFrame
from tailwire.simulation.annotated_objects import AnnotatedDrive
from tailwire.simulation.bags import open_bag, write_answers, write_bag
from tailwire.simulation.bags.contract import DETECTIONS
from tailwire.simulation.bags.typestore import ros_types
from tailwire.simulation.nuscenes import NuScenes

from .conftest import STAMP_NS, Message, header, ros, write_foreign

pytest.importorskip("rosbags", reason="needs the package rosbags: pip install 'tailwire[sim]'")

from rosbags.highlevel import AnyReader

TF = "tf2_msgs/msg/TFMessage"
UPRIGHT = (1.0, 0.0, 0.0, 0.0)
#: A camera that looks forward: its z is the vehicle's x, its x the vehicle's -y.
FORWARD = (0.5, -0.5, 0.5, -0.5)


def quaternion(wxyz: Sequence[float]) -> Any:
    w, x, y, z = wxyz
    return ros("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)


def box(
    names: Sequence[tuple[str, float]],
    place: Sequence[float] = (10.0, 2.0, 1.0),
    wxyz: Sequence[float] = UPRIGHT,
) -> Any:
    x, y, z = place
    pose = ros(
        "geometry_msgs/msg/Pose",
        position=ros("geometry_msgs/msg/Point", x=x, y=y, z=z),
        orientation=quaternion(wxyz),
    )
    known = ros("geometry_msgs/msg/PoseWithCovariance", pose=pose, covariance=np.zeros(36))
    return ros(
        "vision_msgs/msg/Detection3D",
        header=header(0),
        results=[
            ros(
                "vision_msgs/msg/ObjectHypothesisWithPose",
                hypothesis=ros("vision_msgs/msg/ObjectHypothesis", class_id=name, score=score),
                pose=known,
            )
            for name, score in names
        ],
        bbox=ros(
            "vision_msgs/msg/BoundingBox3D",
            center=pose,
            size=ros("geometry_msgs/msg/Vector3", x=4.0, y=2.0, z=1.5),
        ),
        id="7",
    )


def boxes(*each: Any, frame: str = "base_link", topic: str = "/detector/boxes") -> Message:
    message = ros(DETECTIONS, header=header(STAMP_NS, frame), detections=list(each))
    return (topic, DETECTIONS, STAMP_NS, message)


def tf(
    parent: str, child: str, x: float, wxyz: Sequence[float] = UPRIGHT, topic: str = "/tf_static"
) -> Message:
    place = ros("geometry_msgs/msg/Vector3", x=x, y=0.0, z=0.0)
    one = ros(
        "geometry_msgs/msg/TransformStamped",
        header=header(STAMP_NS, parent),
        child_frame_id=child,
        transform=ros("geometry_msgs/msg/Transform", translation=place, rotation=quaternion(wxyz)),
    )
    return (topic, TF, STAMP_NS, ros(TF, transforms=[one]))


def objects_of(path: Path) -> tuple[list[SensorFrame], list[str]]:
    drops: list[str] = []
    frames = open_bag(path).frames(
        ["objects"], lambda sensor, stamp, error: drops.append(str(error))
    )
    return list(frames), drops


def only_rows(path: Path) -> np.ndarray:
    (frame,), drops = objects_of(path)
    assert not drops
    return np.asarray(frame.payload)


@pytest.fixture(scope="module", params=["sketch", "real keyframe"])
def data(request: pytest.FixtureRequest, sketch_root: Path, keyframe_root: Path) -> NuScenes:
    return NuScenes.open(sketch_root if request.param == "sketch" else keyframe_root)


@pytest.fixture(scope="module")
def bag(data: NuScenes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("objects") / "bag"
    write_bag(data, data.scenes[0], out, objects=True)
    return out


def truth(data: NuScenes) -> list[SensorFrame]:
    return list(AnnotatedDrive(data, data.scenes[0]).frames(["objects"]))


def assert_same_objects(path: Path, expected: Sequence[SensorFrame]) -> None:
    found, drops = objects_of(path)
    assert not drops
    assert len(expected)
    for frame, original in zip(found, expected, strict=True):
        assert (frame.sensor, frame.modality) == ("objects", "objects")
        assert frame.stamp_ns == original.stamp_ns
        assert len(np.asarray(original.payload))
        np.testing.assert_array_equal(frame.payload, original.payload)
        assert frame.geometry is not None and original.geometry is not None
        np.testing.assert_array_equal(frame.geometry.ego_from_sensor, np.eye(4))
        np.testing.assert_array_equal(
            frame.geometry.global_from_ego,  # pyright: ignore[reportArgumentType]
            original.geometry.global_from_ego,  # pyright: ignore[reportArgumentType]
        )


def test_annotated_objects_come_back_in_every_bit(data: NuScenes, bag: Path) -> None:
    assert_same_objects(bag, truth(data))
    assert open_bag(bag).report.notes() == ()


def test_boxes_take_part_only_where_they_are_named(data: NuScenes, bag: Path) -> None:
    drive = open_bag(bag)
    assert "objects" in drive.sensors
    assert drive.boxes == ("objects",)
    assert {frame.modality for frame in drive.frames()} <= {"camera", "lidar"}
    mixed = list(drive.frames(["objects", "lidar_top"]))
    stamps = [frame.stamp_ns for frame in mixed]
    assert stamps == sorted(stamps)
    assert {frame.sensor for frame in mixed} == {"objects", "lidar_top"}


def test_other_readers_find_the_boxes_as_vision_msgs_has_them(data: NuScenes, bag: Path) -> None:
    with AnyReader([bag]) as reader:
        found = {
            topic: [
                reader.deserialize(raw, connection.msgtype)
                for connection, _, raw in reader.messages()
                if connection.topic == topic
            ]
            for topic in ("/objects", "/objects/velocities")
        }
        hashes = {c.topic: c.digest for c in reader.connections}
    # As other implementations of ROS have it for this type.
    known = "RIHS01_793f5eab9595ac1c0da07873cc859db42eae51f0ee76056db8562515d830e018"
    assert hashes["/objects"] == ros_types().hash_rihs01(DETECTIONS) == known
    for frame, message, speeds in zip(truth(data), *found.values(), strict=True):
        assert message.header.frame_id == speeds.header.frame_id == "base_link"
        rows = np.asarray(frame.payload)
        assert len(message.detections) == len(speeds.velocities) == len(rows)
        for row, one, speed in zip(rows, message.detections, speeds.velocities, strict=True):
            kind, status = OBJECT_CLASSES[int(row[0])], int(row[11])
            names = [result.hypothesis.class_id for result in one.results]
            assert names[0] == kind
            assert names[1:] == (
                [f"{kind}.{OBJECT_STATUSES[status].replace(' ', '_')}"] if status >= 0 else []
            )
            assert {result.hypothesis.score for result in one.results} == {float(row[1])}
            place, turn, size = one.bbox.center.position, one.bbox.center.orientation, one.bbox.size
            np.testing.assert_array_equal([place.x, place.y, place.z], row[2:5])
            np.testing.assert_array_equal([size.x, size.y, size.z], row[5:8])
            assert 2 * np.arctan2(turn.z, turn.w) == pytest.approx(row[8], abs=1e-6)
            np.testing.assert_array_equal([speed.x, speed.y], row[9:11])


def test_a_bag_of_answers_keeps_the_boxes(data: NuScenes, bag: Path, tmp_path: Path) -> None:
    write_answers(open_bag(bag), [], tmp_path / "again")
    assert_same_objects(tmp_path / "again", truth(data))
    write_answers(AnnotatedDrive(data, data.scenes[0]), [], tmp_path / "scene")
    assert_same_objects(tmp_path / "scene", truth(data))


def test_a_bag_has_no_boxes_unless_they_are_asked_for(data: NuScenes, tmp_path: Path) -> None:
    write_bag(data, data.scenes[0], tmp_path / "bag")
    assert "objects" not in open_bag(tmp_path / "bag").sensors


@pytest.mark.parametrize(
    ("names", "kind", "status"),
    [
        ([("car", 0.5)], "car", None),
        ([("CAR", 0.5)], "car", None),
        ([("traffic_cone", 0.5)], "traffic cone", None),
        ([("Construction-Vehicle.Parked", 0.5)], "construction vehicle", "parked"),
        ([("human.pedestrian.adult", 0.5)], "pedestrian", None),
        ([("vehicle.car.moving", 0.5)], "car", "moving"),
        ([("person", 0.5), ("dog", 0.9)], "pedestrian", None),
        ([("bus", 0.2), ("truck", 0.5), ("truck.stopped", 0.3)], "truck", "stopped"),
        ([("truck", 0.5), ("bus.moving", 0.3)], "truck", None),
        ([("bicycle.without_rider", 0.5), ("bicycle.with_rider", 0.4)], "bicycle", "without rider"),
    ],
)
def test_the_surest_known_class_is_taken(
    tmp_path: Path, names: list[tuple[str, float]], kind: str, status: str | None
) -> None:
    ((row),) = only_rows(write_foreign(tmp_path / "bag", [boxes(box(names))]))
    assert OBJECT_CLASSES[int(row[0])] == kind
    assert row[1] == 0.5
    assert row[11] == (-1 if status is None else OBJECT_STATUSES.index(status))
    assert np.isnan(row[9:11]).all()


def test_boxes_of_a_camera_are_turned_into_the_vehicle(tmp_path: Path) -> None:
    # 8 m ahead of the camera, 3 m to its right, 1 m below; its length along the line of sight,
    # so the camera's z is the x of the box.
    along = (np.sqrt(0.5), 0.0, -np.sqrt(0.5), 0.0)
    seen = box([("car", 0.5)], (3.0, 1.0, 8.0), along)
    messages = [tf("base_link", "eye", 1.5, FORWARD), boxes(seen, frame="eye")]
    ((frame,), _) = objects_of(write_foreign(tmp_path / "bag", messages))
    (row,) = np.asarray(frame.payload)
    np.testing.assert_allclose(row[2:5], [9.5, -3.0, -1.0], atol=1e-6)
    assert row[8] == pytest.approx(0.0, abs=1e-6)
    assert frame.frame_id == "base_link"


def test_boxes_of_a_map_are_moved_to_where_the_vehicle_is(tmp_path: Path) -> None:
    half = np.pi / 4
    turned = (float(np.cos(half)), 0.0, 0.0, float(np.sin(half)))
    messages = [
        tf("map", "odom", 100.0),
        tf("odom", "base_link", 5.0, turned, "/tf"),
        boxes(box([("bus", 0.5)], (107.0, 4.0, 1.0)), frame="map"),
    ]
    (row,) = only_rows(write_foreign(tmp_path / "bag", messages))
    # 2 m on in x and 4 m in y of the map, which is where the vehicle looks.
    np.testing.assert_allclose(row[2:5], [4.0, -2.0, 1.0], atol=1e-5)
    assert row[8] == pytest.approx(-np.pi / 2, abs=1e-6)


def test_boxes_of_unknown_classes_are_left_out(tmp_path: Path) -> None:
    found = [box([("animal", 0.9)]), box([("car", 0.5)]), box([])]
    assert len(only_rows(write_foreign(tmp_path / "bag", [boxes(*found)]))) == 1
    assert len(only_rows(write_foreign(tmp_path / "none", [boxes()]))) == 0


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (boxes(box([("17", 0.9)]), box([("3", 0.9)])), "none of 2 boxes is of a known class"),
        (boxes(box([("car", 0.9)], wxyz=(0.0,) * 4)), "is no rotation"),
        (boxes(box([("car", 0.9)]), frame="map"), "nobody knows where 'base_link' is in 'map'"),
    ],
)
def test_what_makes_no_objects_is_dropped_with_the_reason(
    tmp_path: Path, message: Message, reason: str
) -> None:
    frames, drops = objects_of(write_foreign(tmp_path / "bag", [message]))
    assert not frames
    assert len(drops) == 1 and reason in drops[0] and "/detector/boxes" in drops[0]


def test_of_two_topics_of_boxes_one_is_taken(tmp_path: Path) -> None:
    one = box([("car", 0.5)])
    path = write_foreign(
        tmp_path / "bag", [boxes(one, topic="/a/boxes"), boxes(one, one, topic="/objects")]
    )
    drive = open_bag(path)
    assert drive.topics == {"objects": "/objects"}
    assert "it is objects like /objects" in drive.report.skipped["/a/boxes"]
    named = open_bag(path, topics={"/a/boxes": "radar_boxes"})
    assert named.sensors == ("objects", "radar_boxes")
    (frame,) = named.frames(["radar_boxes"])
    assert frame.modality == "objects" and len(np.asarray(frame.payload)) == 1


def test_the_older_layout_of_vision_msgs_is_told_apart(tmp_path: Path) -> None:
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    types = get_typestore(Stores.ROS2_FOXY)
    older = {
        "vision_msgs/msg/BoundingBox3D": "geometry_msgs/Pose center\ngeometry_msgs/Vector3 size",
        "vision_msgs/msg/ObjectHypothesisWithPose": (
            "string id\nfloat64 score\ngeometry_msgs/PoseWithCovariance pose"
        ),
        "vision_msgs/msg/Detection3D": (
            "std_msgs/Header header\nObjectHypothesisWithPose[] results\nBoundingBox3D bbox\n"
            "sensor_msgs/PointCloud2 source_cloud\nbool is_tracking\nstring tracking_id"
        ),
        DETECTIONS: "std_msgs/Header header\nDetection3D[] detections",
    }
    for name, definition in older.items():
        types.register(get_types_from_msg(definition, name))
    message = types.types[DETECTIONS](header=header(STAMP_NS), detections=[])
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/boxes", DETECTIONS, typestore=types)
        writer.write(connection, STAMP_NS, bytes(types.serialize_cdr(message, DETECTIONS)))
    with pytest.raises(DataError, match="defined otherwise"):
        open_bag(tmp_path / "bag")
