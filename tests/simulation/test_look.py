"""Pictures of keyframes: lines where an independent projection puts them, files that are broken."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tailwire.simulation.look import draw_keyframe
from tailwire.simulation.look.box_lines import (
    EDGES,
    FRONT,
    NEAR_M,
    camera_corners,
    edge_segments,
    face_polygon,
)
from tailwire.simulation.look.camera_panel import draw_boxes
from tailwire.simulation.look.lidar_panel import RANGE_M, place
from tailwire.simulation.look.palette import class_of
from tailwire.simulation.look.picture import CAMERA_SIZE, LIDAR_SIZE
from tailwire.simulation.look.question_panel import question_panel
from tailwire.simulation.nuscenes import Annotation, NuScenes
from tailwire.simulation.nuscenes.geometry import inverse_rigid, rigid_transform, yaw_quaternion
from tailwire.simulation.questions.items import QaItem

from .conftest import Dataset

INTRINSIC = np.array([[500.0, 0, 320], [0, 500.0, 180], [0, 0, 1]])
SIZE = (640, 360)
#: A camera at the origin that looks along x of the world, z up.
CAMERA = inverse_rigid(rigid_transform((0, 0, 0), (0.5, -0.5, 0.5, -0.5)))
HEADER = 74


def box(x: float, y: float, yaw: float = 0.0, *, points: int = 5, z: float = 0.0) -> Annotation:
    return Annotation(
        "token", "sample", "instance", "vehicle.car", (), (x, y, z), (2.0, 4.0, 1.5),
        yaw_quaternion(yaw), points, 0, None,
    )  # fmt: skip


def segments(one: Annotation) -> list[tuple[float, float, float, float]]:
    return edge_segments(camera_corners(one, CAMERA), INTRINSIC, SIZE, EDGES)


def test_the_corners_of_a_box_ahead_are_where_a_pinhole_puts_them() -> None:
    ends = np.array(segments(box(12.0, 0.0))).reshape(-1, 2)
    expected = {
        (320 - 500 * y / x, 180 - 500 * z / x)
        for x in (10.0, 14.0)
        for y in (-1.0, 1.0)
        for z in (-0.75, 0.75)
    }
    assert {(round(u, 6), round(v, 6)) for u, v in ends} == {
        (round(u, 6), round(v, 6)) for u, v in expected
    }
    assert len(segments(box(12.0, 0.0))) == 12


def test_the_front_face_is_the_one_ahead_of_its_heading() -> None:
    for yaw, distance in ((0.0, 14.0), (np.pi, 10.0)):
        corners = camera_corners(box(12.0, 0.0, yaw), CAMERA)
        assert corners[list(FRONT), 2] == pytest.approx([distance] * 4)
        assert len(face_polygon(corners, INTRINSIC, FRONT)) == 4


def test_a_box_behind_the_camera_has_no_lines() -> None:
    assert segments(box(-12.0, 0.0)) == []
    assert face_polygon(camera_corners(box(-12.0, 0.0), CAMERA), INTRINSIC, FRONT) == []


def test_a_box_beside_the_camera_is_cut_at_the_near_plane() -> None:
    beside = box(0.5, 3.0)  # from 1.5 m behind to 2.5 m before the camera, 2 to 4 m to the left
    corners = camera_corners(beside, CAMERA)
    assert (corners[:, 2] < NEAR_M).any()
    assert (corners[:, 2] > NEAR_M).any()
    for u0, v0, u1, v1 in segments(beside):
        for u, v in ((u0, v0), (u1, v1)):
            assert -1e-6 <= u <= SIZE[0] + 1e-6
            assert -1e-6 <= v <= SIZE[1] + 1e-6
            # All of the box is to the left; an unclipped edge would wrap to the right.
            assert u < 320


def test_lines_are_cut_to_the_picture_and_keep_their_direction() -> None:
    rng = np.random.default_rng(4)
    for _ in range(200):
        x, y, yaw = rng.uniform((-20, -20, -3), (20, 20, 3)).tolist()
        one = box(x, y, yaw)
        corners = camera_corners(one, CAMERA)
        for (a, b), found in (
            (edge, edge_segments(corners, INTRINSIC, SIZE, [edge])) for edge in EDGES
        ):
            # A walk along the edge, for an answer that no clipping rule is behind.
            walk = corners[a] + np.linspace(0, 1, 400)[:, None] * (corners[b] - corners[a])
            walk = walk[walk[:, 2] > NEAR_M + 1e-9]
            pixels = walk[:, :2] / walk[:, 2:] * 500 + (320, 180)
            inside = np.all((pixels >= 0) & (pixels <= SIZE), axis=1)
            if not inside.any():
                continue
            (u0, v0, u1, v1), seen = found[0], pixels[inside]
            along = np.array([u1 - u0, v1 - v0])
            length = float(np.linalg.norm(along))
            if length < 1:
                continue
            offsets = seen - (u0, v0)
            across = (offsets[:, 0] * along[1] - offsets[:, 1] * along[0]) / length
            assert np.abs(across).max() < 1e-6


def test_a_box_is_drawn_where_it_projects_and_nowhere_else() -> None:
    picture = Image.new("RGB", SIZE, (0, 0, 0))
    draw_boxes(picture, [box(12.0, 0.0)], CAMERA, INTRINSIC)
    pixels = np.asarray(picture).astype(int)
    _, colour = class_of("vehicle.car")
    near = (320 - 50, 180 - 37.5, 320 + 50, 180 + 37.5)  # the rear, 10 m ahead
    for u, v in ((near[0], 180), (near[2], 180), (320, near[1]), (320, near[3])):
        patch = pixels[round(v) - 2 : round(v) + 3, round(u) - 2 : round(u) + 3].reshape(-1, 3)
        assert np.abs(patch - colour).sum(axis=1).min() < 150
    rows, columns = np.nonzero(pixels.sum(axis=2))
    assert columns.min() >= near[0] - 2
    assert columns.max() <= near[2] + 2
    assert rows.max() <= near[3] + 2


def test_boxes_that_no_point_hit_are_faint() -> None:
    bright, faint = Image.new("RGB", SIZE), Image.new("RGB", SIZE)
    draw_boxes(bright, [box(12.0, 0.0)], CAMERA, INTRINSIC)
    draw_boxes(faint, [box(12.0, 0.0, points=0)], CAMERA, INTRINSIC)
    assert np.asarray(faint).max() < 0.6 * np.asarray(bright).max()


def test_from_above_forward_is_up_and_left_is_left() -> None:
    spots = place(np.array([[0.0, 0.0, 0], [RANGE_M, 0, 0], [0, RANGE_M, 0]]), 100)
    assert spots.tolist() == [[50, 50], [50, 0], [0, 50]]


@pytest.mark.skipif(
    importlib.util.find_spec("nuscenes") is None, reason="nuscenes-devkit is the reference"
)
@pytest.mark.parametrize("root", ["sketch_root", "keyframe_root"])
def test_boxes_lie_where_the_devkit_puts_them(root: str, request: pytest.FixtureRequest) -> None:
    from nuscenes.nuscenes import NuScenes as Devkit  # pyright: ignore[reportMissingImports]
    from nuscenes.utils.geometry_utils import view_points  # pyright: ignore[reportMissingImports]

    folder: Path = request.getfixturevalue(root)
    data = NuScenes.open(folder)
    devkit: Any = Devkit(version=data.version, dataroot=str(folder), verbose=False)
    sample = data.samples(data.scenes[0])[0]
    compared = 0
    for sensor in data.sensors:
        if not sensor.startswith("cam"):
            continue
        record = data.sample_data(sensor, sample.token)
        calibration = data.calibration_of(record)
        camera_from_global = inverse_rigid(data.ego_pose(record) @ calibration.ego_from_sensor)
        ours = {one.token: one for one in data.annotations(sample.token)}
        _, boxes, intrinsic = devkit.get_sample_data(record.token)
        for theirs in boxes:
            corners = camera_corners(ours[theirs.token], camera_from_global)
            expected = theirs.corners().T
            if expected[:, 2].min() < 1:
                continue
            assert _same_points(corners, expected)
            assert calibration.intrinsic is not None
            pixels = view_points(expected.T, intrinsic, normalize=True)[:2].T
            ends = edge_segments(corners, calibration.intrinsic, (100_000, 100_000), EDGES)
            if len(ends) == 12 and pixels.min() > 0:
                assert _same_points(
                    np.unique(np.round(np.reshape(ends, (-1, 2)), 3), axis=0), pixels
                )
            compared += 1
    assert compared > 10


def _same_points(some: Any, others: Any) -> bool:
    """Whether each of some points is one of the others and the other way round."""
    gaps = np.linalg.norm(np.asarray(some)[:, None] - np.asarray(others)[None], axis=2)
    return bool(max(gaps.min(axis=0).max(), gaps.min(axis=1).max()) < 0.01)


def test_the_picture_has_its_parts_in_their_places(sketch_root: Path) -> None:
    data = NuScenes.open(sketch_root)
    sample = data.samples("scene-0001")[0]
    questions = [
        QaItem(sample.token, f"Is there a car {n}?", "yes", kind, 0, "val")
        for kind in ("exist", "count")
        for n in range(60)
    ]
    plain, picture = draw_keyframe(data, sample), draw_keyframe(data, sample, questions)
    changed = np.abs(np.asarray(picture).astype(int) - np.asarray(plain)).sum(axis=2) > 0
    rows, columns = np.nonzero(changed)
    assert rows.min() >= HEADER + 2 * CAMERA_SIZE[1]
    assert columns.min() >= LIDAR_SIZE
    front = np.asarray(picture)[HEADER : HEADER + CAMERA_SIZE[1], 700:1200]
    assert front.std() > 20


def test_as_many_questions_are_shown_as_there_is_room_for() -> None:
    def ink(count: int, kinds: tuple[str, ...] = ("exist", "count")) -> float:
        panel = question_panel(
            [
                QaItem(
                    "", f"Is there a car at place number {n} to our left?", "yes", kind, 0, "val"
                )
                for kind in kinds
                for n in range(count)
            ],
            (1200, 720),
        )
        lit = np.asarray(panel).max(axis=2) > 150
        rows = lit.reshape(-1, 20, 2, 600).any(axis=(1, 3))
        return float(rows.mean())

    assert ink(5) < ink(15) < ink(30)
    assert ink(30) > 0.85
    assert ink(400) > 0.85
    assert ink(400, ("",)) > 0.85


def test_a_broken_file_is_told_in_its_place(dataset: Dataset) -> None:
    data = NuScenes.open(dataset.root)
    sample = data.samples("scene-0001")[0]
    whole = np.asarray(draw_keyframe(data, sample)).astype(int)
    camera, lidar = dataset.file("CAM_FRONT"), dataset.file("LIDAR_TOP")
    camera.write_bytes(camera.read_bytes()[:200] + b"\xff\xd9")
    lidar.write_bytes(lidar.read_bytes()[:-3])
    broken = np.asarray(draw_keyframe(data, sample)).astype(int)
    rows, columns = np.nonzero(np.abs(broken - whole).sum(axis=2))
    assert rows.max() > HEADER + 2 * CAMERA_SIZE[1]
    assert columns.max() < 2 * CAMERA_SIZE[0] + 10
    camera.unlink()
    lidar.unlink()
    assert draw_keyframe(data, sample).size == (whole.shape[1], whole.shape[0])
