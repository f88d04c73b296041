"""Data set to bag to frames: the same bytes, stamps, poses and calibration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tailwire.runtime.frames import SensorGeometry
from tailwire.simulation.bags import open_bag, write_bag
from tailwire.simulation.bags.read import BagDrive
from tailwire.simulation.nuscenes import NuScenes
from tailwire.simulation.nuscenes.source import NuScenesDrive

from ..conftest import Dataset


def assert_same_geometry(found: SensorGeometry | None, expected: SensorGeometry | None) -> None:
    assert found is not None and expected is not None
    assert found.image_size == expected.image_size
    for name in ("ego_from_sensor", "intrinsic", "global_from_ego"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def assert_same(data: NuScenes, bag: BagDrive) -> None:
    scene = data.scenes[0]
    drive = NuScenesDrive(data, scene)
    files = data.drive_data(scene)
    assert bag.sensors == tuple(sorted(drive.sensors))
    assert bag.keyframes == drive.keyframes
    for frame, original, file in zip(bag.frames(), drive.frames(), files, strict=True):
        assert (frame.sensor, frame.modality) == (original.sensor, original.modality)
        assert frame.stamp_ns == original.stamp_ns
        assert_same_geometry(frame.geometry, original.geometry)
        if isinstance(original.payload, bytes):
            assert frame.payload == (data.dataroot / file.filename).read_bytes()
        else:
            assert isinstance(frame.payload, np.ndarray)
            assert frame.payload.dtype == original.payload.dtype
            assert frame.payload.shape == original.payload.shape
            assert frame.payload.tobytes() == original.payload.tobytes()
    poses, calibrations = bag.poses(), bag.calibrations()
    assert set(poses) == {file.stamp_ns for file in files}
    for file in files:
        np.testing.assert_array_equal(poses[file.stamp_ns], data.ego_pose(file))
        expected, found = data.calibration_of(file), calibrations[file.sensor]
        np.testing.assert_array_equal(found.ego_from_sensor, expected.ego_from_sensor)
        if expected.intrinsic is None:
            assert found.intrinsic is None
        else:
            assert found.intrinsic is not None
            np.testing.assert_array_equal(found.intrinsic, expected.intrinsic)
        # The whole chain, as a user of the bag and one of the data set would compute it.
        np.testing.assert_array_equal(
            poses[file.stamp_ns] @ found.ego_from_sensor,
            data.ego_pose(file) @ expected.ego_from_sensor,
        )


def test_a_written_drive_comes_back_bit_for_bit(written_root: Path, tiny_bag: Path) -> None:
    bag = open_bag(tiny_bag)
    assert_same(NuScenes.open(written_root), bag)
    assert bag.report.notes() == ()


def test_a_real_keyframe_comes_back_bit_for_bit(keyframe_root: Path, real_bag: Path) -> None:
    bag = open_bag(real_bag)
    assert bag.title == "scene-0061, bag"
    assert_same(NuScenes.open(keyframe_root), bag)


@pytest.mark.parametrize("compress", [False, True])
def test_a_sketch_drive_comes_back_bit_for_bit(
    sketch_root: Path, tmp_path: Path, compress: bool
) -> None:
    data = NuScenes.open(sketch_root)
    write_bag(data, data.scenes[0], tmp_path / "sketch", compress=compress)
    assert_same(data, open_bag(tmp_path / "sketch"))


def test_points_that_are_not_finite_stay_in_the_bag_and_out_of_the_frames(
    dataset: Dataset, tmp_path: Path
) -> None:
    path = dataset.file("LIDAR_TOP")
    cloud = np.fromfile(path, "<f4").reshape(-1, 5)
    cloud[1, 0] = np.nan
    path.write_bytes(cloud.tobytes())
    data = NuScenes.open(dataset.root)
    write_bag(data, "scene-0001", tmp_path / "bag")
    assert_same(data, open_bag(tmp_path / "bag"))
    assert cloud.tobytes() in (tmp_path / "bag" / "bag.mcap").read_bytes()


def test_only_the_sensors_asked_for_are_written_and_read(
    written_root: Path, tmp_path: Path, tiny_bag: Path
) -> None:
    write_bag(NuScenes.open(written_root), "scene-0001", tmp_path / "bag", sensors=["lidar_top"])
    bag = open_bag(tmp_path / "bag")
    assert bag.sensors == ("lidar_top",)
    # Every pose is there, that of the camera's stamps too.
    assert set(bag.poses()) == set(open_bag(tiny_bag).poses())
    assert {frame.sensor for frame in open_bag(tiny_bag).frames(["cam_front"])} == {"cam_front"}


def test_the_stamps_of_real_drives_keep_their_microseconds(real_bag: Path) -> None:
    stamps = [frame.stamp_ns for frame in open_bag(real_bag).frames()]
    assert stamps == sorted(stamps)
    assert all(stamp % 1000 == 0 for stamp in stamps)
    assert len(set(stamps)) == 7
