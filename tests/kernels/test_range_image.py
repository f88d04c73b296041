"""The range image against a loop over points, and its behaviour at the edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tailwire.kernels.range_image import RANGE_MEAN, RANGE_STD, range_image

HEIGHT, WIDTH = 8, 64


def points_at(
    rows: NDArray[np.float64], columns: NDArray[np.float64], ranges: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Points in given (fractional) pixels of an image of 10 to -30 degrees."""
    elevation = np.deg2rad(10 - rows / HEIGHT * 40)
    azimuth = np.pi - columns / WIDTH * 2 * np.pi
    flat = ranges * np.cos(elevation)
    intensity = np.linspace(0, 255, len(ranges))
    cloud = [flat * np.cos(azimuth), flat * np.sin(azimuth), ranges * np.sin(elevation), intensity]
    return np.stack(cloud, axis=1).astype(np.float32)


def by_loop(points: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """The definition, one point at a time, in double precision but for the range."""
    winners: dict[tuple[int, int], tuple[float, ...]] = {}
    for x, y, z, intensity in points[:, :4].tolist():
        squares = np.float32(x) ** 2 + np.float32(y) ** 2 + np.float32(z) ** 2
        distance = float(np.sqrt(squares))
        azimuth, elevation = math.atan2(y, x), math.asin(z / math.sqrt(x * x + y * y + z * z))
        column = int((0.5 - azimuth / (2 * math.pi)) * width) % width
        row = int((math.radians(10) - elevation) / math.radians(40) * height)
        row = min(max(row, 0), height - 1)
        candidate = (distance, x, y, z, intensity / 255)
        winners[row, column] = min(candidate, winners.get((row, column), (math.inf,)))
    image = np.zeros((5, height, width), np.float32)
    for (row, column), values in winners.items():
        image[:, row, column] = values
    return image


def project(points: NDArray[np.float32], **options: object) -> NDArray[np.float32]:
    return range_image(points, HEIGHT, WIDTH, **options)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("seed", range(5))
def test_equals_a_loop_over_the_points(seed: int) -> None:
    generator = np.random.default_rng(seed)
    count = 2000
    points = points_at(
        generator.integers(0, HEIGHT, count) + generator.uniform(0.1, 0.9, count),
        generator.integers(0, WIDTH, count) + generator.uniform(0.1, 0.9, count),
        generator.uniform(1, 80, count),
    )
    points = np.concatenate([points, points[:100]])
    np.testing.assert_allclose(project(points), by_loop(points, HEIGHT, WIDTH), rtol=1e-6)


#: A coarse grid: many points share a pixel, many of them share a range too.
CLOUDS = st.lists(
    st.tuples(*[st.integers(-3, 3)] * 3, st.integers(0, 3)).filter(lambda p: any(p[:3])),
    min_size=1,
    max_size=60,
)


@given(CLOUDS, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_order_of_the_points_does_not_matter(points: list[tuple[int, ...]], random) -> None:
    cloud = np.asarray(points, np.float32)
    shuffled = np.asarray(random.sample(points, len(points)), np.float32)
    np.testing.assert_array_equal(project(cloud), project(shuffled))


@given(CLOUDS)
@settings(max_examples=60, deadline=None)
def test_every_pixel_holds_a_point_that_no_nearer_one_shares(points: list[tuple[int, ...]]) -> None:
    cloud = np.asarray(points, np.float32)
    image = project(cloud)
    pixels = {tuple(pixel): project(pixel[None]) for pixel in cloud}
    for pixel, alone in pixels.items():
        hit = alone[0] > 0
        assert hit.sum() == 1
        assert 0 < image[0][hit] <= math.sqrt(sum(v * v for v in pixel[:3])) * (1 + 1e-6)
    assert (image[0] > 0).sum() == len({int(np.argmax(alone[0])) for alone in pixels.values()})


def test_columns_run_clockwise_from_behind() -> None:
    axes = np.asarray([[-1, 0, 0, 1], [0, 1, 0, 2], [1, 0, 0, 3], [0, -1, 0, 4]], np.float32)
    image = project(axes, intensity_max=1.0)
    quarters = image[4].max(axis=0)[:: WIDTH // 4]
    np.testing.assert_array_equal(quarters, [1, 2, 3, 4])


@pytest.mark.parametrize("y", [0.0, -0.0, 1e-9, -1e-9])
def test_both_sides_of_half_a_turn_fall_into_an_edge_column(y: float) -> None:
    image = project(np.asarray([[-5, y, 0, 0]], np.float32))
    assert np.flatnonzero(image[0].any(axis=0))[0] in (0, WIDTH - 1)
    assert (image[0] > 0).sum() == 1


def test_points_beyond_the_field_of_view_fall_into_the_edge_rows() -> None:
    image = project(np.asarray([[1, 0, 5, 0], [1, 0, -5, 0]], np.float32))
    assert np.flatnonzero(image[0].any(axis=1)).tolist() == [0, HEIGHT - 1]


def test_points_without_a_return_and_points_that_are_not_finite_are_ignored() -> None:
    good = np.asarray([[3, 4, 0, 128, 7], [-1, 2, 0.1, 9, 1]], np.float32)
    bad = np.zeros((6, 5), np.float32)
    bad[1:5, 0] = 1
    bad[1, 0], bad[2, 1], bad[3, 2], bad[4, 3] = np.nan, np.inf, -np.inf, np.nan
    bad[5, :3] = 3e38
    np.testing.assert_array_equal(project(np.concatenate([bad, good])), project(good))


def test_empty_pixels_are_zero_after_normalisation() -> None:
    points = np.asarray([[10, 2, -1, 51], [5, -5, 0, 255]], np.float32)
    raw = project(points)
    normalised = project(points, mean=RANGE_MEAN, std=RANGE_STD)
    hit = raw[0] > 0
    mean, std = (np.asarray(v, np.float32)[:, None] for v in (RANGE_MEAN, RANGE_STD))
    np.testing.assert_allclose(normalised[:, hit], (raw[:, hit] - mean) / std, rtol=1e-5)
    assert not normalised[:, ~hit].any()
    assert sorted(raw[4][hit].tolist()) == pytest.approx([0.2, 1.0])


def test_views_and_more_columns_are_read_rightly() -> None:
    wide = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    np.testing.assert_array_equal(project(wide[::2, 1:7]), project(wide[::2, 1:5].copy()))


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((0, 4), np.float32), "empty"),
        (np.full((3, 4), np.nan, np.float32), "none of the 3 points"),
        (np.zeros((3, 4), np.float32), "none of the 3 points"),
        (np.ones((3, 3), np.float32), r"float32 \[n, 4\+\]"),
        (np.ones(4, np.float32), r"float32 \[n, 4\+\]"),
        (np.ones((3, 4), np.float64), "float64"),
    ],
)
def test_what_is_no_cloud_is_an_error(points: NDArray[np.float32], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        project(points)


@pytest.mark.parametrize(
    "options",
    [
        {"fov_up_deg": -30.0, "fov_down_deg": 10.0},
        {"intensity_max": 0.0},
        {"mean": RANGE_MEAN},
        {"mean": RANGE_MEAN, "std": (1.0, 1.0)},
        {"mean": RANGE_MEAN, "std": (1.0, 1.0, 1.0, 1.0, 0.0)},
    ],
)
def test_parameters_that_make_no_image_are_errors(options: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        project(np.ones((1, 4), np.float32), **options)
