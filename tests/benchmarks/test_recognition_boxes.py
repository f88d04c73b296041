"""Boxes in images: hand-made cases, and the projection beside the devkit's."""

from __future__ import annotations

import numpy as np
import pytest

from tailwire.benchmarks.image_boxes import (
    areas,
    clipped,
    covered_share,
    iou,
    overlaps,
    projected_box,
    suppress,
)
from tailwire.simulation.nuscenes.geometry import rigid_transform, yaw_quaternion

INTRINSIC = np.array([[100.0, 0, 50], [0, 100, 40], [0, 0, 1]])
FORWARD = (1.0, 0.0, 0.0, 0.0)


def test_overlap_and_union() -> None:
    first = [[0, 0, 2, 2], [5, 5, 5, 9]]
    second = [[1, 1, 3, 3], [0, 0, 2, 2], [2, 0, 4, 2]]
    np.testing.assert_allclose(overlaps(first, second), [[1, 4, 0], [0, 0, 0]])
    np.testing.assert_allclose(iou(first, second), [[1 / 7, 1, 0], [0, 0, 0]])
    np.testing.assert_allclose(areas(first), [4, 0])
    assert iou([], second).shape == (0, 3)


def test_suppression_keeps_the_best_of_each_place() -> None:
    boxes = [[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10], [2, 2, 6, 6]]
    scores = [0.5, 0.9, 0.4, 0.3]
    assert suppress(boxes, scores, 0.5).tolist() == [1, 2, 3]
    assert suppress(boxes, scores, 0.5, 0.8).tolist() == [1, 2]
    assert suppress(boxes, scores, 0.9).tolist() == [1, 0, 2, 3]
    assert suppress([], [], 0.5).tolist() == []


def test_covered_share_counts_the_union_once() -> None:
    box = [0, 0, 24, 24]
    assert covered_share(box, []) == 0
    assert covered_share(box, [[0, 0, 12, 24], [0, 0, 12, 24]]) == 0.5
    assert covered_share(box, [[0, 0, 12, 24], [6, 0, 18, 24]]) == 0.75
    assert covered_share(box, [[-5, -5, 40, 40]]) == 1


def test_clipping() -> None:
    np.testing.assert_allclose(clipped([-5, 3, 20, 90], 16, 9), [0, 3, 16, 9])


class TestProjection:
    """The camera looks along z; a box 2 m wide (y), 4 m long (x), 6 m high (z), unturned."""

    def test_a_box_in_front(self) -> None:
        # Its near face is at depth 10 - 3 = 7 m and spans x ±2, y ±1.
        projected = projected_box((0, 0, 10), (2, 4, 6), FORWARD, np.eye(4), INTRINSIC)
        assert projected is not None
        box, depth = projected
        assert depth == 10
        np.testing.assert_allclose(box, [50 - 200 / 7, 40 - 100 / 7, 50 + 200 / 7, 40 + 100 / 7])

    def test_the_ellipse_in_it(self) -> None:
        whole = projected_box((0, 0, 10), (2, 4, 6), FORWARD, np.eye(4), INTRINSIC)
        tighter = projected_box(
            (0, 0, 10), (2, 4, 6), yaw_quaternion(0.7), np.eye(4), INTRINSIC, upright_ellipse=True
        )
        assert whole is not None
        assert tighter is not None
        # Turned, an ellipse with half axes 2 and 1 reaches sqrt(4 cos² + sin²) to the side.
        reach = np.hypot(2 * np.cos(0.7), np.sin(0.7)) * 100 / 7
        assert tighter[0][2] - 50 == pytest.approx(reach, rel=0.02)
        assert tighter[0][2] < whole[0][2]

    def test_a_box_beside_the_camera_is_cut_at_the_near_plane(self) -> None:
        # Depth -1 to 5, x 2 to 6: the right end goes to x 6 at 0.2 m, the left to x 2 at 5 m.
        projected = projected_box((4, 0, 2), (2, 4, 6), FORWARD, np.eye(4), INTRINSIC)
        assert projected is not None
        np.testing.assert_allclose(projected[0][[0, 2]], [50 + 200 / 5, 50 + 600 / 0.2])

    def test_a_box_behind_is_none(self) -> None:
        assert projected_box((0, 0, -10), (2, 4, 6), FORWARD, np.eye(4), INTRINSIC) is None

    def test_like_the_devkit(self) -> None:
        data_classes = pytest.importorskip("nuscenes.utils.data_classes")
        geometry_utils = pytest.importorskip("nuscenes.utils.geometry_utils")
        quaternion = pytest.importorskip("pyquaternion").Quaternion
        rng = np.random.default_rng(5)
        for _ in range(20):
            rotation = yaw_quaternion(rng.uniform(-3, 3))
            centre = rng.uniform(-8, 8, 3) + np.array([0, 0, 25])
            size = tuple(rng.uniform(0.5, 5, 3))
            pose_rotation = yaw_quaternion(rng.uniform(-0.4, 0.4))
            box = data_classes.Box(centre, size, quaternion(rotation))
            box.rotate(quaternion(pose_rotation))
            box.translate(np.array([0.3, -0.2, 1]))
            pixels = geometry_utils.view_points(box.corners(), INTRINSIC, normalize=True)[:2]
            camera_from_global = rigid_transform((0.3, -0.2, 1), pose_rotation)
            projected = projected_box(centre, size, rotation, camera_from_global, INTRINSIC)
            assert projected is not None
            expected = [*pixels.min(axis=1), *pixels.max(axis=1)]
            np.testing.assert_allclose(projected[0], expected, rtol=1e-9, atol=1e-9)
