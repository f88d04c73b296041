"""The bodies of the CUDA kernels, run on the CPU as C and as C++, against numpy: the same bits."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tailwire.kernels.bev_grid import bev_grid
from tailwire.kernels.range_image import RANGE_MEAN, RANGE_STD, arc_tangent, range_image

from .twins import both, compiled

Float = NDArray[np.float32]


def cloud(seed: int, count: int = 4000) -> Float:
    """Points of all kinds: usual ones, twins, on axes, far, without a return, not finite."""
    rng = np.random.default_rng(seed)
    points = rng.normal(0, 20, (count, 5)).astype(np.float32)
    points[:, 2] /= 10
    points[:, 3] = rng.uniform(-20, 300, count)
    points[: count // 4] = points[count // 4 : count // 2]
    points[count // 2 : count // 2 + 200] = np.rint(points[count // 2 : count // 2 + 200])
    special = [0.0, -0.0, 1e-30, 3e38, np.inf, -np.inf, np.nan, 1.0, -1.0]
    points[-300:, :4] = rng.choice(np.asarray(special, np.float32), (300, 4))
    return points[rng.permutation(count)]


def same(one: NDArray[np.generic], other: NDArray[np.generic]) -> None:
    assert one.dtype == other.dtype
    np.testing.assert_array_equal(one, other)


@both
@pytest.mark.parametrize("seed", range(3))
def test_range_images_are_the_same_bits(language: str, seed: int) -> None:
    points, library = cloud(seed), compiled(language)
    same(range_image(points, library=library), range_image(points))
    same(range_image(points, 7, 33, library=library), range_image(points, 7, 33))
    given = partial(range_image, points, mean=RANGE_MEAN, std=RANGE_STD)
    same(given(library=library), given())
    same(range_image(points[::2, :4], library=library), range_image(points[::2, :4]))


@both
def test_a_cloud_without_points_is_an_error_in_all_twins(language: str) -> None:
    library = compiled(language)
    with pytest.raises(ValueError, match="none of the 3 points"):
        range_image(np.zeros((3, 4), np.float32), library=library)
    with pytest.raises(ValueError, match="empty"):
        bev_grid(np.zeros((0, 4), np.float32), library=library)
    with pytest.raises(ValueError, match="none of the 2 points"):
        bev_grid(np.full((2, 4), np.nan, np.float32), library=library)


@given(
    st.lists(st.tuples(*[st.integers(-3, 3)] * 3, st.integers(0, 3)), min_size=1, max_size=60),
    st.randoms(use_true_random=False),
)
@settings(max_examples=60, deadline=None)
def test_the_order_of_the_points_does_not_matter_to_the_compiled_twin(
    points: list[tuple[int, ...]], random
) -> None:
    library = compiled("c")
    one = np.asarray([*points, (1, 2, 0, 0)], np.float32)
    other = np.asarray(random.sample(one.tolist(), len(one)), np.float32)
    same(range_image(one, 8, 64, library=library), range_image(other, 8, 64, library=library))
    same(bev_grid(one, library=library), bev_grid(other, library=library))


@both
@pytest.mark.parametrize("seed", range(3))
def test_sweeps_from_above_are_the_same_bits(language: str, seed: int) -> None:
    points, library = cloud(seed), compiled(language)
    points[:, 2] += 1
    same(bev_grid(points, library=library), bev_grid(points))
    earlier = cloud(seed + 9)
    wanted = bev_grid(points, earlier, 0.4, range_m=30.0, cell_m=0.6)
    same(bev_grid(points, earlier, 0.4, range_m=30.0, cell_m=0.6, library=library), wanted)
    assert wanted[:4].any() and wanted[-1].max() == np.float32(0.4)


def test_many_points_in_one_cell_are_counted() -> None:
    points = np.tile(np.asarray([[0.1, 0.1, 1.0, 255.0]], np.float32), (70000, 1))
    grid = bev_grid(points, library=compiled("c"))
    same(grid, bev_grid(points))
    assert grid[1].max() == np.log1p(np.float32(70000))
    assert grid[6].max() == 1.0


def test_the_arc_tangent_is_that_of_the_mathematics() -> None:
    rng = np.random.default_rng(0)
    y, x = rng.normal(size=(2, 200_000)).astype(np.float32) * 10 ** rng.uniform(-6, 6, (2, 200_000))
    y, x = y.astype(np.float32), x.astype(np.float32)
    wanted = np.arctan2(y.astype(np.float64), x.astype(np.float64))
    assert np.abs(arc_tangent(y, x) - wanted).max() < 4e-7


@both
def test_halves_are_those_of_ieee_754(language: str) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2**32, 200_000, dtype=np.uint32).view(np.float32)
    edges = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)
    edges = edges[np.isfinite(edges)]
    between = (edges[:-1] + edges[1:]) / 2
    values = np.concatenate([values, edges, between, np.nextafter(between, np.float32(0))])
    values = values.astype(np.float32)
    halves = np.empty(len(values), np.uint16)
    compiled(language).half(values.ctypes.data, len(values), halves.ctypes.data)
    with np.errstate(over="ignore", invalid="ignore"):
        wanted = values.astype(np.float16)
    is_number = ~np.isnan(values)
    same(halves[is_number], wanted.view(np.uint16)[is_number])
    assert np.isnan(halves.view(np.float16)[~is_number]).all()
