"""Tokens carried forward, against tokens of objects that were moved one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from tailwire.kernels.object_motion import moved_tokens
from tailwire.kernels.object_tokens import object_tokens

TOKENS = 12


def some_objects(seed: int, count: int = 9) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    objects = np.zeros((count, 12), np.float32)
    objects[:, 0] = rng.integers(0, 10, count)
    objects[:, 1] = rng.uniform(0.1, 1, count)
    objects[:, 2:4] = rng.uniform(-40, 40, (count, 2))
    objects[:, 4] = rng.uniform(-1, 2, count)
    objects[:, 5:8] = rng.uniform(0.5, 5, (count, 3))
    objects[:, 8] = rng.uniform(-math.pi, math.pi, count)
    objects[:, 9:11] = rng.uniform(-12, 12, (count, 2))
    objects[:, 11] = -1
    objects[::3, 9:11] = np.nan
    return objects


def moved_objects(
    objects: NDArray[np.float32], seconds: float, yaw: float, offset: tuple[float, float, float]
) -> NDArray[np.float32]:
    """Each object by itself: on with its speed, then seen from the vehicle."""
    result = objects.copy()
    for row in result:
        x, y, z, vx, vy = (float(row[at]) for at in (2, 3, 4, 9, 10))
        if not math.isnan(vx):
            x, y = x + vx * seconds, y + vy * seconds
        row[2] = math.cos(yaw) * x - math.sin(yaw) * y + offset[0]
        row[3] = math.sin(yaw) * x + math.cos(yaw) * y + offset[1]
        row[4] = z + offset[2]
        row[8] += yaw
        row[9] = math.cos(yaw) * vx - math.sin(yaw) * vy
        row[10] = math.sin(yaw) * vx + math.cos(yaw) * vy
    return result


def motion_of(yaw: float, offset: tuple[float, float, float]) -> NDArray[np.float64]:
    motion = np.eye(4)
    motion[:2, :2] = [[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]]
    motion[:3, 3] = offset
    return motion


def by_class_and_size(tokens: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows in an order that does not depend on where objects stand: by class, then by size."""
    return tokens[
        np.lexsort((tokens[:, 48], tokens[:, 47], tokens[:, 46], tokens[:, :10].argmax(1)))
    ]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("seconds", "yaw"), [(0.0, 0.0), (0.5, 0.0), (0.4, 0.3), (1.0, -2.5)])
def test_moved_tokens_are_those_of_moved_objects(seed: int, seconds: float, yaw: float) -> None:
    offset = (-6.0 * seconds, 1.5 * seconds, 0.1 * seconds)
    objects = some_objects(seed)
    found = moved_tokens(object_tokens(objects, TOKENS), seconds, motion_of(yaw, offset))
    expected = object_tokens(moved_objects(objects, seconds, yaw, offset), TOKENS)
    np.testing.assert_allclose(
        by_class_and_size(found), by_class_and_size(expected), rtol=0, atol=2e-4
    )


def test_empty_rows_stay_empty_and_the_order_is_kept() -> None:
    tokens = object_tokens(some_objects(1, 4), TOKENS)
    tokens = np.roll(tokens, 3, axis=0)
    moved = moved_tokens(tokens, 0.5, motion_of(0.1, (1.0, 2.0, 0.0)))
    assert np.array_equal(moved.any(1), tokens.any(1))
    np.testing.assert_array_equal(moved[:, :18], tokens[:, :18])
    assert not moved_tokens(np.zeros((5, 64), np.float32), 1.0, np.eye(4)).any()


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="64"):
        moved_tokens(np.zeros((3, 60), np.float32), 0.1, np.eye(4))
    with pytest.raises(ValueError, match="motion"):
        moved_tokens(np.zeros((3, 64), np.float32), 0.1, np.eye(3))
