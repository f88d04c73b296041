"""Our reader, writer and drive against the official nuscenes-devkit, where that is installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailwire.simulation import made_drive, made_scene
from tailwire.simulation.drive_parameters import DriveParameters
from tailwire.simulation.made_drive import make_drive
from tailwire.simulation.made_scene import write_scene
from tailwire.simulation.meshes.library import MeshLibrary
from tailwire.simulation.nuscenes import NuScenes
from tailwire.simulation.nuscenes.geometry import (
    box_corners,
    inverse_rigid,
    points_in_box,
    transform_points,
)

from .conftest import Dataset
from .made_parts import FlatRenderer
from .tiny_world import tiny_world

devkit = pytest.importorskip(
    "nuscenes.nuscenes",
    reason="nuscenes-devkit is not installed (pip install --no-deps nuscenes-devkit==1.2.0)",
)


@pytest.fixture(scope="session")
def made_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made drive of two scenes with sweeps."""
    pytest.importorskip("embreex", reason="embreex is not installed (pip install 'tailwire[sim]')")
    out = tmp_path_factory.mktemp("drives") / "made"
    with pytest.MonkeyPatch.context() as patch:
        # Neither the pictures nor the streets are what is checked here.
        patch.setattr(
            made_scene,
            "made_world",
            lambda parameters, _: tiny_world(duration_s=parameters.seconds + 0.2),
        )
        patch.setattr(made_drive, "make_scene", quick_scene)
        make_drive(
            out, 2, 1.0, 7, ("day", "rain"), image_width=64, lidar_hz=4, version="v1.0-mini",
            workers=0, questions=False,
        )  # fmt: skip
    return out


def quick_scene(
    root: Path, parameters: DriveParameters, index: int, on_keyframe: Callable[[int], None]
) -> None:
    library = MeshLibrary()
    write_scene(root, parameters, index, library, FlatRenderer(), on_keyframe)


@pytest.fixture(params=["tiny", "keyframe", "sketch", "made"])
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


def test_velocities_agree(both: tuple[NuScenes, Any]) -> None:
    ours, theirs = both
    for scene in ours.scenes:
        for sample in ours.samples(scene):
            found = ours.velocities(sample.token)
            boxes = ours.annotations(sample.token)
            assert found.shape == (len(boxes), 3)
            for box, velocity in zip(boxes, found, strict=True):
                # The devkit takes seconds since the epoch, and so loses a part of a microsecond.
                expected = theirs.box_velocity(box.token)
                np.testing.assert_allclose(velocity, expected, rtol=1e-5, atol=1e-6)


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


def test_the_devkit_counts_as_many_points_as_a_made_drive_says(made_root: Path) -> None:
    from nuscenes.utils import data_classes, geometry_utils  # pyright: ignore[reportMissingImports]

    theirs = devkit.NuScenes("v1.0-mini", str(made_root), verbose=False)
    counted = 0
    for sample in theirs.sample:
        path, boxes, _ = theirs.get_sample_data(sample["data"]["LIDAR_TOP"])
        cloud = data_classes.LidarPointCloud.from_file(path).points
        for box in boxes:
            inside = geometry_utils.points_in_box(box, cloud[:3]).sum()
            assert inside == theirs.get("sample_annotation", box.token)["num_lidar_pts"] > 0
            counted += 1
    assert counted >= 12


def test_the_devkit_finds_every_record_of_a_made_drive(made_root: Path) -> None:
    theirs = devkit.NuScenes("v1.0-mini", str(made_root), verbose=False)
    assert len(theirs.scene) == 2
    assert len(theirs.sample) == 4
    assert len(theirs.sample_data) == len(theirs.ego_pose) == 2 * (6 * 12 + 4)
    for table in theirs.table_names:
        for record in getattr(theirs, table):
            assert theirs.get(table, record["token"]) == record
    for annotation in theirs.sample_annotation:
        track = theirs.get("instance", annotation["instance_token"])
        token, length = track["first_annotation_token"], 1
        while following := theirs.get("sample_annotation", token)["next"]:
            assert theirs.get("sample_annotation", following)["prev"] == token
            token, length = following, length + 1
        assert (token, length) == (track["last_annotation_token"], track["nbr_annotations"])
        assert all(speed == speed for speed in theirs.box_velocity(annotation["token"])[:2]) or (
            length == 1
        )


@pytest.mark.parametrize("channel", ["CAM_FRONT", "LIDAR_TOP"])
def test_the_devkit_renders_a_made_drive(made_root: Path, tmp_path: Path, channel: str) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    theirs = devkit.NuScenes("v1.0-mini", str(made_root), verbose=False)
    picture = tmp_path / "picture.png"
    theirs.render_sample_data(
        theirs.sample[0]["data"][channel],
        out_path=str(picture),
        verbose=False,
        underlay_map=False,
        nsweeps=2 if channel == "LIDAR_TOP" else 1,
    )
    pyplot.close("all")
    assert picture.stat().st_size > 5000
