"""The sensor `objects` against boxes that were placed around the vehicle by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tailwire.kernels.object_tokens import (
    OBJECT_CLASSES,
    OBJECT_COLUMNS,
    OBJECT_STATUSES,
    object_tokens,
)
from tailwire.runtime.errors import DataError, SensorError
from tailwire.simulation.annotated_objects import AnnotatedDrive, annotated_objects
from tailwire.simulation.nuscenes import NuScenes, NuScenesWriter
from tailwire.simulation.nuscenes.geometry import yaw_quaternion
from tailwire.simulation.questions.scene_graph import CLASS_STATUSES, STATUSES, scene_graph

from .conftest import HALF_SECOND_NS, STAMP_NS, Dataset, picture

EGO_YAW = 0.5
EGO_SPEED = 10.0
CAR_VELOCITY = np.array([3.0, -1.0])


def turn(angle: float) -> np.ndarray:
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def ego_place(number: int) -> np.ndarray:
    """The vehicle drives straight along its own heading."""
    return np.array([100.0, 50.0]) + turn(EGO_YAW) @ [EGO_SPEED * 0.5 * number, 0.0]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> NuScenes:
    """Three keyframes: a car that moves, and things that stand or that nobody asks about."""
    root = tmp_path_factory.mktemp("annotated") / "root"
    with NuScenesWriter(root) as writer:
        writer.add_sensor("CAM_FRONT", "camera", (1.5, 0, 1.5), (0.5, -0.5, 0.5, -0.5), np.eye(3))
        writer.add_sensor("LIDAR_TOP", "lidar", (0.9, 0, 1.8), yaw_quaternion(-np.pi / 2))
        writer.begin_scene("scene-0001", "", logfile="log", location="here", date_captured="now")
        for number in range(3):
            stamp_ns = STAMP_NS + number * HALF_SECOND_NS
            place = ego_place(number)
            writer.begin_sample(stamp_ns)
            # The camera's pose is another one, as cameras fire at other times.
            early = (0.0, 0.0, 0.0), yaw_quaternion(0.0)
            writer.add_frame("CAM_FRONT", stamp_ns - 30_000_000, picture(), *early)
            points = np.ones((1, 5), np.float32)
            pose = (*place.tolist(), 0.0), yaw_quaternion(EGO_YAW)
            writer.add_frame("LIDAR_TOP", stamp_ns, points, *pose)
            writer.add_frame("LIDAR_TOP", stamp_ns + 100_000_000, points, *pose, is_key_frame=False)
            first = ego_place(0)

            def add(
                instance: str,
                category: str,
                attributes: list[str],
                centre: np.ndarray,
                points: int,
                size: tuple[float, float, float] = (1.0, 2.0, 1.5),
                yaw: float = 0.0,
            ) -> None:
                writer.add_annotation(
                    instance, category, attributes, (*centre.tolist(), 0.75), size,
                    yaw_quaternion(yaw), num_lidar_pts=points, visibility="v60-80",
                )  # fmt: skip

            car = first + [20.0, 5.0] + CAR_VELOCITY * 0.5 * number
            add("car", "vehicle.car", ["vehicle.moving"], car, 9, (1.9, 4.5, 1.5), 2.0)
            add("far", "vehicle.bus.rigid", [], place + np.array([55.0, 0.0]), 9)
            add("gone", "human.pedestrian.adult", [], place + np.array([70.0, 0.0]), 9)
            add("pram", "human.pedestrian.stroller", [], place + np.array([7.0, 0.0]), 9)
            if number == 0:
                add("cone", "movable_object.trafficcone", [], place + turn(EGO_YAW) @ [5, -2], 9)
    return NuScenes.open(root)


def test_names_are_those_of_the_questions() -> None:
    assert tuple(CLASS_STATUSES) == OBJECT_CLASSES
    assert STATUSES == OBJECT_STATUSES


def test_objects_are_in_the_ego_frame_at_the_lidars_stamp(data: NuScenes) -> None:
    for number, sample in enumerate(data.samples("scene-0001")):
        found = annotated_objects(data, sample.token)
        assert found.dtype == np.float32
        rows = [dict(zip(OBJECT_COLUMNS, row.tolist(), strict=True)) for row in found]
        names = [OBJECT_CLASSES[int(row["class"])] for row in rows]
        assert names == ["car", "bus", "traffic cone"][: len(rows)]
        assert len(rows) == (3 if number == 0 else 2)
        car, bus = rows[:2]
        place = ego_place(0) + [20.0, 5.0] + CAR_VELOCITY * 0.5 * number - ego_place(number)
        np.testing.assert_allclose([car["x"], car["y"]], turn(-EGO_YAW) @ place, atol=1e-4)
        assert (car["z"], car["length"], car["width"], car["height"]) == (
            0.75,
            4.5,
            pytest.approx(1.9),
            1.5,
        )
        assert car["yaw"] == pytest.approx(2.0 - EGO_YAW, abs=1e-6)
        np.testing.assert_allclose([car["vx"], car["vy"]], turn(-EGO_YAW) @ CAR_VELOCITY, atol=1e-4)
        assert OBJECT_STATUSES[int(car["status"])] == "moving"
        assert (car["score"], bus["score"], bus["status"]) == (1.0, 0.5, -1.0)
        # It keeps its distance, so over ground it is as fast as we are.
        np.testing.assert_allclose([bus["vx"], bus["vy"]], [EGO_SPEED, 0.0], atol=1e-4)
        if number == 0:
            np.testing.assert_allclose([rows[2]["x"], rows[2]["y"]], [5.0, -2.0], atol=1e-4)
            assert math.isnan(rows[2]["vx"]) and math.isnan(rows[2]["vy"])
        assert object_tokens(found, 8).any(axis=1).sum() == len(rows)


def test_the_questions_know_the_same_objects(data: NuScenes) -> None:
    for sample in data.samples("scene-0001"):
        found = annotated_objects(data, sample.token)
        graph = scene_graph(data, sample.token)
        assert [OBJECT_CLASSES[int(row[0])] for row in found] == [o.name for o in graph.objects]
        np.testing.assert_allclose(found[:, 2:4], [o.position for o in graph.objects], rtol=1e-6)
        assert [row[1] < 1 for row in found] == [o.doubtful for o in graph.objects]


def test_a_keyframe_without_objects_has_none(dataset: Dataset) -> None:
    dataset.edit("category", lambda rows: rows[0].update(name="animal"))
    data = NuScenes.open(dataset.root)
    for sample in data.samples("scene-0001"):
        found = annotated_objects(data, sample.token)
        assert (found.shape, found.dtype) == ((0, 12), np.float32)


def test_a_drive_gives_objects_only_where_they_are_named(data: NuScenes) -> None:
    drive = AnnotatedDrive(data, "scene-0001")
    assert drive.sensors == ("cam_front", "lidar_top", "objects")
    assert {frame.sensor for frame in drive.frames()} == {"cam_front", "lidar_top"}
    assert {frame.sensor for frame in drive.frames(["lidar_top"])} == {"lidar_top"}
    frames = list(drive.frames(["objects", "lidar_top"]))
    stamps = [frame.stamp_ns for frame in frames]
    assert stamps == sorted(stamps)
    assert [f.sensor for f in frames] == ["lidar_top", "objects", "lidar_top"] * 3
    objects = [frame for frame in drive.frames(["objects"])]
    assert [frame.stamp_ns for frame in objects] == [k.stamp_ns for k in drive.keyframes]
    for number, (frame, keyframe) in enumerate(zip(objects, drive.keyframes, strict=True)):
        np.testing.assert_array_equal(
            np.asarray(frame.payload), annotated_objects(data, keyframe.sample_token)
        )
        assert frame.modality == "objects" and frame.geometry is not None
        np.testing.assert_array_equal(frame.geometry.ego_from_sensor, np.eye(4))
        assert frame.geometry.global_from_ego is not None
        np.testing.assert_allclose(frame.geometry.global_from_ego[:2, 3], ego_place(number))
    with pytest.raises(SensorError, match="radar"):
        drive.frames(["objects", "radar"])


def test_a_keyframe_without_its_lidar_is_dropped(dataset: Dataset) -> None:
    def lose(rows: list[dict[str, object]]) -> None:
        row = next(r for r in rows if r["is_key_frame"] and "LIDAR" in str(r["filename"]))
        row["is_key_frame"] = False

    dataset.edit("sample_data", lose)
    data = NuScenes.open(dataset.root)
    drive = AnnotatedDrive(data, "scene-0001")
    dropped: list[tuple[str, int, str]] = []
    frames = list(
        drive.frames(["objects"], lambda *seen: dropped.append((*seen[:2], str(seen[2]))))
    )
    assert len(frames) == 1
    ((sensor, stamp_ns, reason),) = dropped
    assert (sensor, stamp_ns) == ("objects", drive.keyframes[0].stamp_ns)
    assert "lidar_top" in reason
    with pytest.raises(SensorError, match="lidar_top"):
        list(drive.frames(["objects"]))


def test_a_split_without_annotations_gives_no_objects(dataset: Dataset) -> None:
    for table in ("sample_annotation", "instance", "category", "attribute", "visibility"):
        (dataset.tables / f"{table}.json").unlink()
    with pytest.raises(DataError, match=r"no annotations.*leave 'objects' out"):
        AnnotatedDrive(NuScenes.open(dataset.root), "scene-0001")
