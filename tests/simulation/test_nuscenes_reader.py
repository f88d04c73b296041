"""What a replay relies on when a data set is right: order, stamps, frames, poses, boxes."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tailwire.runtime.errors import DataError, SensorError
from tailwire.simulation.nuscenes import NuScenes
from tailwire.simulation.nuscenes.geometry import (
    box_corners,
    inverse_rigid,
    points_in_box,
    rigid_transform,
    rotation_matrix,
    transform_points,
)

from .conftest import HALF_SECOND_NS, STAMP_NS, Dataset

CAMERAS = {
    "cam_front", "cam_front_left", "cam_front_right", "cam_back", "cam_back_left", "cam_back_right",
}  # fmt: skip


def test_scene_and_keyframes_come_in_stamp_order_with_nanoseconds(dataset: Dataset) -> None:
    dataset.edit("sample", lambda rows: rows.reverse())
    nuscenes = NuScenes.open(dataset.root)
    (scene,) = nuscenes.scenes
    assert (scene.name, scene.num_samples) == ("scene-0001", 2)
    samples = nuscenes.samples(scene)
    assert [sample.stamp_ns for sample in samples] == [STAMP_NS, STAMP_NS + HALF_SECOND_NS]
    assert samples == nuscenes.samples("scene-0001") == nuscenes.samples(scene.token)
    assert nuscenes.sample(samples[1].token) == samples[1]


def test_frames_hold_the_bytes_of_the_files(dataset: Dataset) -> None:
    nuscenes = NuScenes.open(dataset.root)
    assert nuscenes.sensors == ("cam_front", "lidar_top")
    frames = nuscenes.frames(nuscenes.samples("scene-0001")[1].token)
    camera, lidar = frames["cam_front"], frames["lidar_top"]
    assert camera.payload == dataset.file("CAM_FRONT", 1).read_bytes()
    assert camera.stamp_ns == STAMP_NS + HALF_SECOND_NS - 35_000_000
    assert (camera.modality, camera.frame_id) == ("camera", "cam_front")
    np.testing.assert_array_equal(lidar.payload, np.arange(20, dtype=np.float32).reshape(4, 5) + 1)
    assert lidar.payload.dtype == np.float32  # pyright: ignore[reportAttributeAccessIssue]
    assert (lidar.modality, lidar.stamp_ns) == ("lidar", STAMP_NS + HALF_SECOND_NS)


def test_frames_reads_only_the_sensors_asked_for(dataset: Dataset) -> None:
    dataset.file("CAM_FRONT").unlink()
    nuscenes = NuScenes.open(dataset.root)
    token = nuscenes.samples("scene-0001")[0].token
    assert list(nuscenes.frames(token, ["lidar_top"])) == ["lidar_top"]


def test_a_drive_merges_keyframes_and_sweeps_by_stamp(dataset: Dataset) -> None:
    dataset.edit("sample_data", lambda rows: rows.reverse())
    nuscenes = NuScenes.open(dataset.root)
    frames = list(nuscenes.drive("scene-0001"))
    stamps = [frame.stamp_ns for frame in frames]
    assert stamps == sorted(stamps)
    assert [frame.sensor for frame in frames] == ["cam_front", "lidar_top"] * 4
    keyframes = list(nuscenes.drive("scene-0001", ["lidar_top"], sweeps=False))
    assert [frame.stamp_ns for frame in keyframes] == [STAMP_NS, STAMP_NS + HALF_SECOND_NS]


def test_calibration_and_pose_are_the_transforms_of_the_tables(dataset: Dataset) -> None:
    nuscenes = NuScenes.open(dataset.root)
    token = nuscenes.samples("scene-0001")[1].token
    camera = nuscenes.calibration("cam_front", token)
    # This rotation takes the camera's z (forward) to the vehicle's x, and its x to -y.
    np.testing.assert_allclose(
        camera.ego_from_sensor, [[0, 0, 1, 1.5], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]]
    )
    assert camera.intrinsic is not None
    np.testing.assert_array_equal(camera.intrinsic, [[20, 0, 16], [0, 20, 9], [0, 0, 1]])
    assert nuscenes.calibration("lidar_top", token).intrinsic is None
    pose = nuscenes.ego_pose(nuscenes.sample_data("lidar_top", token))
    cos, sin = np.cos(0.1), np.sin(0.1)
    np.testing.assert_allclose(
        pose, [[cos, -sin, 0, 1], [sin, cos, 0, 2], [0, 0, 1, 0], [0, 0, 0, 1]], atol=1e-12
    )


def test_frames_say_where_their_sensor_was(dataset: Dataset) -> None:
    nuscenes = NuScenes.open(dataset.root)
    for frame, file in zip(
        nuscenes.drive("scene-0001"), nuscenes.drive_data("scene-0001"), strict=True
    ):
        found, calibration = frame.geometry, nuscenes.calibration_of(file)
        assert found is not None and found.global_from_ego is not None
        np.testing.assert_array_equal(found.ego_from_sensor, calibration.ego_from_sensor)
        np.testing.assert_array_equal(found.global_from_ego, nuscenes.ego_pose(file))
        if frame.modality == "camera":
            np.testing.assert_array_equal(found.intrinsic, calibration.intrinsic)  # pyright: ignore[reportArgumentType]
            assert found.image_size == (32, 18)
        else:
            assert found.intrinsic is None and found.image_size is None


def test_annotations_carry_names_instead_of_tokens(dataset: Dataset) -> None:
    nuscenes = NuScenes.open(dataset.root)
    first, second = (nuscenes.annotations(s.token) for s in nuscenes.samples("scene-0001"))
    (box,) = first
    assert (box.category, box.attributes) == ("vehicle.car", ("vehicle.moving",))
    assert (box.visibility, box.num_lidar_pts, box.num_radar_pts) == ("v60-80", 7, 0)
    assert (box.translation, box.size_wlh) == ((10.0, 2.0, 0.75), (1.9, 4.5, 1.5))
    assert second[0].instance_token == box.instance_token


def test_radar_is_listed_by_nuscenes_and_not_replayed(dataset: Dataset) -> None:
    radar = {"token": "radar", "channel": "RADAR_FRONT", "modality": "radar"}
    dataset.edit("sensor", lambda rows: rows.append(radar))
    nuscenes = NuScenes.open(dataset.root)
    assert nuscenes.sensors == ("cam_front", "lidar_top")
    with pytest.raises(SensorError, match="radar, which is not replayed"):
        nuscenes.frames(nuscenes.samples("scene-0001")[0].token, ["radar_front"])


def test_a_test_split_without_annotation_tables_opens(dataset: Dataset) -> None:
    for table in ("sample_annotation", "instance", "category", "attribute", "visibility", "map"):
        (dataset.tables / f"{table}.json").unlink()
    dataset.edit("log", lambda rows: rows.clear())
    nuscenes = NuScenes.open(dataset.root)
    nuscenes.check()
    token = nuscenes.samples("scene-0001")[0].token
    assert nuscenes.annotations(token) == ()
    assert len(nuscenes.frames(token)) == 2


def test_tables_read_in_many_blocks_are_the_tables_read_at_once(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = 'a "brace}, {" in a text, a [list] and an é'
    dataset.edit("scene", lambda rows: rows[0].update(description=odd, more={"deep": [{}, {}]}))
    whole = NuScenes.open(dataset.root)
    for size in (7, 64, 500):
        monkeypatch.setattr("tailwire.simulation.nuscenes.tables._BLOCK_CHARS", size)
        blocks = NuScenes.open(dataset.root)
        blocks.check()
        assert blocks.scenes == whole.scenes
        assert blocks.scenes[0].description == odd
        assert blocks.drive_data("scene-0001") == whole.drive_data("scene-0001")


def test_a_named_version_is_opened_where_there_are_two(dataset: Dataset) -> None:
    dataset.tables.rename(dataset.root / "v1.0-trainval")
    (dataset.root / "v1.0-test").mkdir()
    assert NuScenes.open(dataset.root, "v1.0-trainval").version == "v1.0-trainval"
    with pytest.raises(DataError, match=r"v1\.0-test, v1\.0-trainval are here.*name the version"):
        NuScenes.open(dataset.root)


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.dot(q, q) > 0.01))
def test_a_rotation_is_the_quaternion_product(quaternion: list[float]) -> None:
    w, *axis = np.array(quaternion) / np.linalg.norm(quaternion)
    for vector in np.eye(3):
        # q v q*, multiplied out as Hamilton did.
        scalar, turned = -np.dot(axis, vector), w * vector + np.cross(axis, vector)
        expected = -scalar * np.array(axis) + w * turned - np.cross(turned, axis)
        np.testing.assert_allclose(rotation_matrix(quaternion) @ vector, expected, atol=1e-12)


def test_corners_of_a_box_lie_on_its_rim() -> None:
    box = ((3.0, -2.0, 1.0), (1.9, 4.5, 1.5), (0.8, 0.0, 0.0, 0.6))
    corners = box_corners(*box)
    centre = np.array(box[0])
    assert points_in_box(centre + (corners - centre) * 0.999, *box).all()
    assert not points_in_box(centre + (corners - centre) * 1.001, *box).any()
    front = (corners[:4].mean(axis=0) - centre) / 2.25
    np.testing.assert_allclose(front, rotation_matrix(box[2])[:, 0], atol=1e-12)


def test_the_inverse_of_a_pose_undoes_it() -> None:
    pose = rigid_transform((411.3, 1180.9, 0.0), (0.57, -0.002, 0.012, -0.82))
    np.testing.assert_allclose(inverse_rigid(pose) @ pose, np.eye(4), atol=1e-9)


def test_the_real_keyframe_gives_seven_frames_and_its_boxes(keyframe_root: Path) -> None:
    nuscenes = NuScenes.open(keyframe_root)
    nuscenes.check()
    assert nuscenes.version == "v1.0-mini"
    assert set(nuscenes.sensors) == CAMERAS | {"lidar_top"}
    (sample,) = nuscenes.samples("scene-0061")
    frames = nuscenes.frames(sample.token)
    cloud = frames["lidar_top"].payload
    assert isinstance(cloud, np.ndarray)
    assert cloud.shape == (34688, 5)
    assert set(np.unique(cloud[:, 4])) == set(range(32))
    for name in CAMERAS:
        payload = frames[name].payload
        assert isinstance(payload, bytes)
        with Image.open(io.BytesIO(payload)) as image:
            assert image.size == (1600, 900)
    table = json.loads((keyframe_root / "v1.0-mini" / "sample_annotation.json").read_text())
    boxes = nuscenes.annotations(sample.token)
    assert [box.token for box in boxes] == [row["token"] for row in table]
    assert [list(box.translation) for box in boxes] == [row["translation"] for row in table]


def test_real_boxes_hold_about_as_many_points_as_annotated(keyframe_root: Path) -> None:
    nuscenes = NuScenes.open(keyframe_root)
    (sample,) = nuscenes.samples("scene-0061")
    data = nuscenes.sample_data("lidar_top", sample.token)
    cloud = nuscenes.read(data).payload
    assert isinstance(cloud, np.ndarray)
    global_from_lidar = nuscenes.ego_pose(data) @ nuscenes.calibration_of(data).ego_from_sensor
    points = transform_points(global_from_lidar, cloud[:, :3])
    boxes = nuscenes.annotations(sample.token)
    counted = [points_in_box(points, b.translation, b.size_wlh, b.rotation).sum() for b in boxes]
    annotated = [box.num_lidar_pts for box in boxes]
    # The boxes of this copy were converted from another format, which moved them a little.
    np.testing.assert_allclose(counted, annotated, rtol=0.05, atol=5)
