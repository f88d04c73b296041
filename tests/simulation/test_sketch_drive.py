"""The sketch drive: a whole data set, boxes where the points and the painted things are."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tailwire.runtime.errors import ConfigError, DataError
from tailwire.simulation.nuscenes import NuScenes, SampleData
from tailwire.simulation.nuscenes.geometry import (
    Float64,
    box_corners,
    inverse_rigid,
    points_in_box,
    project,
    rigid_transform,
    transform_points,
    yaw_quaternion,
)
from tailwire.simulation.sketch_drive import make_sketch_drive
from tailwire.simulation.sketch_render import Block, Blocks, SketchCamera
from tailwire.simulation.sketch_street import Actor, cast_of


@pytest.fixture(scope="module")
def nuscenes(sketch_root: Path) -> NuScenes:
    return NuScenes.open(sketch_root)


def global_points(nuscenes: NuScenes, data: SampleData) -> Float64:
    cloud = nuscenes.read(data).payload
    assert isinstance(cloud, np.ndarray)
    return transform_points(
        nuscenes.ego_pose(data) @ nuscenes.calibration_of(data).ego_from_sensor, cloud[:, :3]
    )


def test_it_has_the_sensors_and_the_rate_of_nuscenes(nuscenes: NuScenes) -> None:
    nuscenes.check()
    (scene,) = nuscenes.scenes
    samples = nuscenes.samples(scene)
    assert np.diff([sample.stamp_ns for sample in samples]).tolist() == [500_000_000] * 2
    assert len(nuscenes.sensors) == 7
    for sample in samples:
        for frame in nuscenes.frames(sample.token).values():
            if isinstance(frame.payload, bytes):
                with Image.open(io.BytesIO(frame.payload)) as image:
                    assert image.size == (800, 450)
            else:
                cloud = np.asarray(frame.payload)
                assert 20_000 < len(cloud) <= 32 * 1084
                assert set(np.unique(cloud[:, 4])) <= set(range(32))
                assert cloud[:, 3].min() >= 0
                assert cloud[:, 3].max() <= 255


def test_rings_are_beams_of_one_elevation(nuscenes: NuScenes) -> None:
    token = nuscenes.samples("scene-0001")[0].token
    cloud = np.asarray(nuscenes.frames(token, ["lidar_top"])["lidar_top"].payload)
    elevation = np.degrees(np.arctan2(cloud[:, 2], np.hypot(cloud[:, 0], cloud[:, 1])))
    means = [elevation[cloud[:, 4] == ring].mean() for ring in range(32)]
    np.testing.assert_allclose(means, np.linspace(-30.67, 10.67, 32), atol=1e-3)


def test_num_lidar_pts_is_the_number_of_points_in_the_box(nuscenes: NuScenes) -> None:
    boxes = 0
    for sample in nuscenes.samples("scene-0001"):
        points = global_points(nuscenes, nuscenes.sample_data("lidar_top", sample.token))
        for box in nuscenes.annotations(sample.token):
            inside = points_in_box(points, box.translation, box.size_wlh, box.rotation)
            assert inside.sum() == box.num_lidar_pts
            assert box.num_lidar_pts > 0
            boxes += 1
    assert boxes > 60


def test_it_holds_the_kinds_that_questions_are_about(nuscenes: NuScenes) -> None:
    (sample, *_) = nuscenes.samples("scene-0001")
    boxes = nuscenes.annotations(sample.token)
    kinds = Counter((box.category, box.attributes) for box in boxes)
    for kind in (
        ("vehicle.car", ("vehicle.moving",)),
        ("vehicle.car", ("vehicle.parked",)),
        ("human.pedestrian.adult", ("pedestrian.moving",)),
        ("movable_object.trafficcone", ()),
        ("movable_object.barrier", ()),
    ):
        assert kinds[kind] > 0
    assert len({box.visibility for box in boxes}) > 1


def test_what_is_called_moving_moves(nuscenes: NuScenes) -> None:
    first, second, _ = (
        {box.instance_token: box for box in nuscenes.annotations(sample.token)}
        for sample in nuscenes.samples("scene-0001")
    )
    for instance in first.keys() & second.keys():
        before, after = first[instance], second[instance]
        way = np.linalg.norm(np.subtract(after.translation, before.translation))
        moves = any(name.endswith(".moving") for name in before.attributes)
        assert (way > 0.4) == moves


@pytest.mark.parametrize(
    ("category", "size_wlh", "place", "yaw_rad"),
    [
        ("vehicle.car", (1.9, 4.5, 1.55), (14.0, -3.0), 0.0),
        ("vehicle.car", (1.9, 4.5, 1.55), (18.0, 4.0), np.pi / 2),
        ("vehicle.truck", (2.3, 7.2, 2.9), (22.0, 3.0), np.pi),
        ("vehicle.bus.rigid", (2.6, 11.0, 3.1), (30.0, 1.0), np.pi),
        ("human.pedestrian.adult", (0.62, 0.66, 1.75), (9.0, 1.0), np.pi / 2),
        ("movable_object.trafficcone", (0.42, 0.42, 0.78), (8.0, -1.0), 0.0),
        ("movable_object.barrier", (2.0, 0.4, 1.0), (10.0, 0.5), 0.0),
    ],
)
def test_a_thing_is_painted_where_its_box_projects(
    category: str, size_wlh: tuple[float, float, float], place: tuple[float, float], yaw_rad: float
) -> None:
    intrinsic = np.array([[630.0, 0, 400], [0, 630.0, 240], [0, 0, 1]])
    mounting = rigid_transform((1.5, 0, 1.5), (0.5, -0.5, 0.5, -0.5))
    camera = SketchCamera(intrinsic, (800, 450), mounting)
    actor = Actor("it", category, size_wlh, place, yaw_rad, (230, 60, 200))
    far_away = Actor("other", "vehicle.car", (1.9, 4.5, 1.5), (-50, 0), 0.0, (0, 0, 0))

    def pixels(*actors: Actor) -> NDArray[np.int16]:
        blocks = Blocks([block for actor in actors for block in actor.blocks(0.0)])
        return np.asarray(camera.picture(blocks, np.eye(4), 200.0)).astype(np.int16)

    changed = np.abs(pixels(actor, far_away) - pixels(far_away)).sum(axis=2) > 6
    rows, columns = np.nonzero(changed)
    corners = box_corners(actor.centre(0.0), size_wlh, yaw_quaternion(yaw_rad))
    outline, depth = project(intrinsic, transform_points(inverse_rigid(mounting), corners))
    (left, top), (right, bottom) = outline.min(axis=0), outline.max(axis=0)
    # A thing fills its box but for the gaps at its sides; its shadow reaches out a little.
    margin = 2 + 0.3 * 630 / depth.min()
    assert abs(rows.min() - top) < 3 + 0.05 * (bottom - top)
    assert abs(rows.max() - bottom) < margin
    assert abs(columns.min() - left) < margin
    assert abs(columns.max() - right) < margin


def test_the_same_seed_draws_the_same_drive(tmp_path: Path) -> None:
    def files(name: str) -> list[bytes]:
        root = make_sketch_drive(tmp_path / name, seconds=0.5)
        return [path.read_bytes() for path in sorted(root.rglob("*.*")) if path.is_file()]

    assert files("one") == files("again")
    assert cast_of(np.random.default_rng(7), 100) != cast_of(np.random.default_rng(8), 100)


def test_wrong_arguments_are_refused(sketch_root: Path, tmp_path: Path) -> None:
    for seconds, seed in ((0.1, 7), (1e6, 7), (float("nan"), 7), (1.0, -1)):
        with pytest.raises(ConfigError):
            make_sketch_drive(tmp_path / "drive", seed=seed, seconds=seconds)
    with pytest.raises(DataError, match="there already"):
        make_sketch_drive(sketch_root)
    assert not list(tmp_path.iterdir())


def test_rays_meet_blocks_where_a_fine_walk_along_them_does() -> None:
    rng = np.random.default_rng(3)
    sizes = [(1.0, 2.0, 1.5), (0.6, 0.6, 1.8), (4.0, 1.0, 2.5)]
    boxes = [
        ((5.0, 0.5, 0.8), sizes[0]),
        ((7.0, -2.0, 1.0), sizes[1]),
        ((12.0, 1.0, 1.3), sizes[2]),
    ]
    upright = yaw_quaternion(0.0)
    # Corners of a block: four below, four above, around its middle in the same turn.
    turn = [(1, 1), (-1, 1), (-1, -1), (1, -1)]
    blocks = Blocks(
        [
            Block(
                np.array(
                    [
                        np.add(middle, (x * size[1] / 2, y * size[0] / 2, z * size[2] / 2))
                        for z in (-1, 1)
                        for x, y in turn
                    ]
                ),
                (0, 0, 0),
            )
            for middle, size in boxes
        ]
    )
    eye = np.array([0.0, 0.0, 1.0])
    rays = np.column_stack(
        [np.ones(200), rng.uniform(-0.5, 0.5, (200, 1)), rng.uniform(-0.15, 0.1, (200, 1))]
    )
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    ranges, rows, _ = blocks.cast(eye, rays, 30.0)
    steps = np.arange(0, 20, 0.005)
    for ray, distance, row in zip(rays, ranges, rows, strict=True):
        walk = eye + steps[:, None] * ray
        inside = [points_in_box(walk, middle, size, upright) for middle, size in boxes]
        first = np.flatnonzero(np.any(inside, axis=0))
        if not first.size:
            # A ray may graze a corner between two steps of the walk.
            continue
        assert abs(distance - steps[first[0]]) < 0.006
        assert inside[row][first[0]]
