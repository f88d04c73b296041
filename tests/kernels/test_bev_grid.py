"""The LiDAR sweep from above against loops over points."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from tailwire.kernels.bev_grid import (
    CHANNELS,
    PREVIOUS_SLICES_M,
    SLICES_M,
    bev_grid,
    cells_of,
)

Float = NDArray[np.float32]
RANGE, CELL = 4.0, 1.0
CELLS = 8


def sweep(seed: int, count: int = 300) -> Float:
    rng = np.random.default_rng(seed)
    points = np.empty((count, 5), np.float32)
    points[:, :2] = rng.uniform(-5, 5, (count, 2))
    points[:, 2] = rng.uniform(-0.5, 5, count)
    points[:, 3] = rng.uniform(0, 300, count)
    points[:, 4] = 7
    return points


def by_loops(points: Float, previous: Float | None, seconds: float) -> Float:
    grid = np.zeros((len(CHANNELS), CELLS, CELLS), np.float64)
    number = np.zeros((CELLS, CELLS))
    slices, earlier = len(SLICES_M) - 1, len(PREVIOUS_SLICES_M) - 1
    lowest = np.full((CELLS, CELLS), np.inf)
    for x, y, z, intensity in points[:, :4].tolist():
        if not (abs(x) < RANGE and abs(y) < RANGE and SLICES_M[0] <= np.float32(z) < SLICES_M[-1]):
            continue
        at = math.floor((x + RANGE) / CELL), math.floor((y + RANGE) / CELL)
        level = sum(z >= np.float32(edge) for edge in SLICES_M[1:-1])
        light = min(intensity, 255) / 255
        grid[(level, *at)] += 1
        grid[(slices, *at)] = max(grid[(slices, *at)], z / 2)
        lowest[at] = min(lowest[at], z / 2)
        grid[(slices + 2, *at)] += light
        grid[(slices + 3, *at)] = max(grid[(slices + 3, *at)], light)
        number[at] += 1
    grid[slices + 1] = np.where(np.isfinite(lowest), lowest, 0)
    grid[slices + 2] /= np.maximum(number, 1)
    grid[:slices] = np.log1p(grid[:slices])
    first = slices + 4
    for x, y, z in [] if previous is None else previous[:, :3].tolist():
        inside = abs(x) < RANGE and abs(y) < RANGE
        if not (inside and np.float32(PREVIOUS_SLICES_M[0]) <= z < PREVIOUS_SLICES_M[-1]):
            continue
        at = math.floor((x + RANGE) / CELL), math.floor((y + RANGE) / CELL)
        level = sum(z >= np.float32(edge) for edge in PREVIOUS_SLICES_M[1:-1])
        grid[(first + level, *at)] += 1
        grid[(first + earlier, *at)] = max(grid[(first + earlier, *at)], z / 2)
    grid[first : first + earlier] = np.log1p(grid[first : first + earlier])
    if previous is not None:
        grid[-1] = seconds
    return grid.astype(np.float32)


@pytest.mark.parametrize("with_previous", [False, True])
def test_every_channel_is_that_of_loops(with_previous: bool) -> None:
    points, previous = sweep(0), sweep(1) if with_previous else None
    grid = bev_grid(points, previous, 0.5, range_m=RANGE, cell_m=CELL)
    np.testing.assert_allclose(grid, by_loops(points, previous, 0.5), rtol=1e-5, atol=1e-6)


def test_the_order_of_points_does_not_matter() -> None:
    points = sweep(2)
    mixed = points[np.random.default_rng(3).permutation(len(points))]
    one, other = (bev_grid(p, p, 0.5, range_m=RANGE, cell_m=CELL) for p in (points, mixed))
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_points_that_are_not_finite_are_left_out() -> None:
    points = sweep(4)
    broken = np.concatenate([points, np.full((3, 5), np.nan, np.float32)])
    broken[-1, :4] = [1, 1, np.inf, 0]
    np.testing.assert_array_equal(
        bev_grid(broken, range_m=RANGE, cell_m=CELL), bev_grid(points, range_m=RANGE, cell_m=CELL)
    )


def test_rows_are_forward_and_columns_left() -> None:
    point = np.array([[3.5, -3.5, 1.0, 100.0]], np.float32)
    grid = bev_grid(point, range_m=RANGE, cell_m=CELL)
    assert np.argwhere(grid[len(SLICES_M) - 1]).tolist() == [[7, 0]]


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((3, 3), np.float32), "float32"),
        (np.zeros((3, 4)), "float32"),
        (np.zeros((0, 4), np.float32), "empty"),
        (np.full((2, 4), np.nan, np.float32), "none of the 2 points"),
    ],
)
def test_what_is_no_sweep_is_refused(points: NDArray[np.floating], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bev_grid(points)  # pyright: ignore[reportArgumentType]


def test_cells_must_divide_the_grid() -> None:
    assert cells_of(51.2, 0.512) == 200
    with pytest.raises(ValueError, match="do not divide"):
        cells_of(50.0, 0.3)
    with pytest.raises(ValueError, match="a grid of"):
        cells_of(1.0, 2.0)
