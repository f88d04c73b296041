"""Our reader, writer and drive against the official nuscenes-devkit, where that is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailwire.simulation.nuscenes import NuScenes
from tailwire.simulation.nuscenes.geometry import (
    box_corners,
    inverse_rigid,
    points_in_box,
    transform_points,
)

from .conftest import Dataset

devkit = pytest.importorskip(
    "nuscenes.nuscenes",
    reason="nuscenes-devkit is not installed (pip install --no-deps nuscenes-devkit==1.2.0)",
)


@pytest.fixture(params=["tiny", "keyframe", "sketch"])
def root(request: pytest.FixtureRequest) -> Path:
    if request.param == "tiny":
        dataset: Dataset = request.getfixturevalue("dataset")
        return dataset.root
    return request.getfixturevalue(f"{request.param}_root")


@pytest.fixture
def both(root: Path) -> tuple[NuScenes, Any]:
    return NuScenes.open(root), devkit.NuScenes("v1.0-mini", str(root), verbose=False)


def test_boxes_in_each_sensor_frame_agree(both: tuple[NuScenes, Any]) -> None:
    ours, theirs = both
    for scene in ours.scenes:
        for sample in ours.samples(scene):
            boxes = {box.token: box for box in ours.annotations(sample.token)}
            for channel, token in theirs.get("sample", sample.token)["data"].items():
                data = ours.sample_data(channel.lower(), sample.token)
                assert data.token == token
                path, their_boxes, intrinsic = theirs.get_sample_data(
                    token, selected_anntokens=list(boxes)
                )
                assert Path(path) == ours.dataroot / data.filename
                calibration = ours.calibration_of(data)
                sensor_from_global = inverse_rigid(
                    ours.ego_pose(data) @ calibration.ego_from_sensor
                )
                if calibration.intrinsic is not None:
                    np.testing.assert_array_equal(intrinsic, calibration.intrinsic)
                for their_box in their_boxes:
                    box = boxes[their_box.token]
                    corners = box_corners(box.translation, box.size_wlh, box.rotation)
                    expected = their_box.corners().T
                    got = transform_points(sensor_from_global, corners)
                    # The devkit lists the corners in another order.
                    gaps = np.linalg.norm(expected[:, None] - got[None], axis=2)
                    assert gaps.min(axis=0).max() < 1e-6
                    assert gaps.min(axis=1).max() < 1e-6
                    assert (box.category, box.num_lidar_pts) == (
                        their_box.name,
                        theirs.get("sample_annotation", box.token)["num_lidar_pts"],
                    )


def test_points_in_boxes_agree(both: tuple[NuScenes, Any]) -> None:
    from nuscenes.utils import data_classes, geometry_utils  # pyright: ignore[reportMissingImports]

    ours, theirs = both
    for scene in ours.scenes:
        for sample in ours.samples(scene):
            data = ours.sample_data("lidar_top", sample.token)
            path, their_boxes, _ = theirs.get_sample_data(data.token)
            their_cloud = data_classes.LidarPointCloud.from_file(path).points
            cloud = np.asarray(ours.read(data).payload)
            np.testing.assert_array_equal(cloud[:, :4], their_cloud.T)
            points = transform_points(
                ours.ego_pose(data) @ ours.calibration_of(data).ego_from_sensor, cloud[:, :3]
            )
            boxes = {box.token: box for box in ours.annotations(sample.token)}
            for their_box in their_boxes:
                box = boxes[their_box.token]
                inside = points_in_box(points, box.translation, box.size_wlh, box.rotation)
                expected = geometry_utils.points_in_box(their_box, their_cloud[:3])
                np.testing.assert_array_equal(inside, expected)


def test_keyframes_and_sweeps_follow_the_chains_of_the_devkit(both: tuple[NuScenes, Any]) -> None:
    ours, theirs = both
    for scene in ours.scenes:
        first = theirs.get("sample", theirs.get("scene", scene.token)["first_sample_token"])
        chain = [first["token"]]
        while token := theirs.get("sample", chain[-1])["next"]:
            chain.append(token)
        assert [sample.token for sample in ours.samples(scene)] == chain
        for channel, token in first["data"].items():
            files = []
            while token:
                files.append(token)
                token = theirs.get("sample_data", token)["next"]
            assert [data.token for data in ours.drive_data(scene, [channel.lower()])] == files
