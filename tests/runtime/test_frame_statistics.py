"""Statistics of pictures and clouds against numpy on the whole frame; what they refuse."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tailwire.runtime.errors import SensorError
from tailwire.runtime.frame_statistics import (
    CameraStatistics,
    LidarStatistics,
    camera_statistics,
    frame_statistics,
    lidar_statistics,
)
from tailwire.runtime.frames import SensorFrame, SensorGeometry

BEAMS = 32


def picture(seed: int = 0, height: int = 450, width: int = 800) -> np.ndarray:
    """Smooth structure with all three channels different."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (9, 16, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def ring_cloud(directions: int = 800, seed: int = 0) -> np.ndarray:
    """Ground 1.8 m below the sensor and a wall 20 m around it, ring by ring in each direction."""
    rng = np.random.default_rng(seed)
    azimuth = np.repeat(np.linspace(-np.pi, np.pi, directions, endpoint=False), BEAMS)
    ring = np.tile(np.arange(BEAMS), directions)
    elevation = np.radians(-30 + ring * 40 / (BEAMS - 1))
    with np.errstate(divide="ignore"):
        ranges = np.minimum(np.where(elevation < 0, 1.8 / -np.sin(elevation), np.inf), 20.0)
    ranges = ranges + rng.normal(0, 0.01, len(ranges))
    flat = ranges * np.cos(elevation)
    columns = (
        flat * np.cos(azimuth),
        flat * np.sin(azimuth),
        ranges * np.sin(elevation),
        rng.integers(5, 60, len(ranges)),
        ring,
    )
    return np.column_stack(columns).astype(np.float32)


def with_scatter(cloud: np.ndarray, share: float, seed: int = 1) -> np.ndarray:
    """That share of the beams meets a drop 1.5 to 4.5 m away, at eye height or above."""
    rng = np.random.default_rng(seed)
    scattered = cloud.copy()
    rows = np.flatnonzero(rng.random(len(cloud)) < share)
    azimuth = rng.uniform(-np.pi, np.pi, len(rows))
    up = rng.uniform(-0.2, 0.2, len(rows))
    ranges = rng.uniform(1.5, 4.5, len(rows))
    scattered[rows, 0] = ranges * np.cos(azimuth) * np.cos(up)
    scattered[rows, 1] = ranges * np.sin(azimuth) * np.cos(up)
    scattered[rows, 2] = ranges * np.sin(up)
    scattered[rows, 3] = 2
    return scattered


def test_a_coarse_sample_says_what_the_whole_picture_says() -> None:
    image = picture()
    luminance = image.astype(float) @ [0.25, 0.5, 0.25]
    seen = camera_statistics(image)
    assert seen.brightness == pytest.approx(luminance.mean(), abs=1.5)
    assert seen.contrast == pytest.approx(luminance.std(), abs=1.5)
    assert seen.low == pytest.approx(np.percentile(luminance, 5), abs=3)
    assert seen.high == pytest.approx(np.percentile(luminance, 95), abs=3)
    spread = image.max(axis=2).astype(int) - image.min(axis=2)
    assert seen.colour == pytest.approx(spread.mean(), abs=2)


def test_black_and_saturated_pixels_are_counted() -> None:
    image = np.full((120, 200, 3), 128, np.uint8)
    image[:30] = 3
    image[60:120] = 255
    image[30:40, :, 0] = 255  # one bright channel is a colour, not saturation
    seen = camera_statistics(image)
    assert seen.black == pytest.approx(0.25, abs=0.02)
    assert seen.saturated == pytest.approx(0.5, abs=0.02)


def test_a_blurred_picture_is_less_sharp() -> None:
    rng = np.random.default_rng(3)
    noise = rng.integers(0, 256, (64, 112, 3), dtype=np.uint8)
    blurred = np.asarray(
        Image.fromarray(noise).resize((14, 8)).resize((112, 64), Image.Resampling.BICUBIC)
    )
    assert camera_statistics(noise).sharpness > 5 * camera_statistics(blurred).sharpness
    # Independent pixels differ by twice their variance, whatever the contrast.
    assert camera_statistics(noise).sharpness == pytest.approx(2, rel=0.05)
    assert camera_statistics(noise // 4).sharpness == pytest.approx(2, rel=0.05)
    assert camera_statistics(np.full((64, 112, 3), 90, np.uint8)).sharpness == 0


def test_a_file_says_the_same_as_its_picture() -> None:
    image = picture(seed=5)
    written = io.BytesIO()
    Image.fromarray(image).save(written, "JPEG", quality=90)
    of_file = frame_statistics(SensorFrame("cam", "camera", 0, "cam", written.getvalue()))
    of_array = camera_statistics(image)
    assert isinstance(of_file, CameraStatistics)
    for name in ("brightness", "low", "high", "contrast", "colour"):
        assert getattr(of_file, name) == pytest.approx(getattr(of_array, name), abs=3), name


@pytest.mark.parametrize("shape", [(2, 2), (2, 900), (63, 111), (65, 113), (900, 1600)])
def test_pictures_of_any_size(shape: tuple[int, int]) -> None:
    seen = camera_statistics(np.full((*shape, 3), 77, np.uint8))
    assert (seen.brightness, seen.low, seen.high, seen.contrast) == (77, 77, 77, 0)


def test_the_digest_tells_pictures_and_clouds_apart() -> None:
    assert camera_statistics(picture(1)).digest == camera_statistics(picture(1)).digest
    assert camera_statistics(picture(1)).digest != camera_statistics(picture(2)).digest
    assert lidar_statistics(ring_cloud()).digest != lidar_statistics(ring_cloud(seed=9)).digest


def test_a_cloud_against_numpy() -> None:
    cloud = ring_cloud()
    ranges = np.linalg.norm(cloud[:, :3], axis=1)
    seen = lidar_statistics(cloud)
    assert seen.points == len(cloud)
    for value, share in ((seen.low_m, 0.1), (seen.median_m, 0.5), (seen.high_m, 0.9)):
        assert (ranges < value).mean() == pytest.approx(share, abs=0.02)
    assert seen.intensity == pytest.approx(cloud[:, 3].mean(), abs=1)
    assert (seen.near, seen.lonely, seen.empty_rings, seen.empty_directions) == (0, 0, 0, 0)


@pytest.mark.parametrize("share", [0.01, 0.05])
def test_scattered_points_are_near_and_lonely(share: float) -> None:
    seen = lidar_statistics(with_scatter(ring_cloud(), share))
    assert seen.near == pytest.approx(share, rel=0.3)
    assert share / 3 < seen.lonely <= seen.near


def test_a_wall_close_by_is_near_but_not_lonely() -> None:
    cloud = ring_cloud()
    ahead = np.abs(np.arctan2(cloud[:, 1], cloud[:, 0])) < 0.5
    level = np.abs(cloud[:, 2]) < 1.0
    cloud[ahead & level, :2] *= 3 / np.hypot(cloud[:, 0], cloud[:, 1])[ahead & level, None]
    seen = lidar_statistics(cloud)
    assert seen.near > 0.01
    assert seen.lonely < 0.05 * seen.near


def test_the_ground_is_where_the_mount_says() -> None:
    cloud = ring_cloud(directions=200)
    cloud[:, 2] += 1.0  # a sensor 0.8 m above the ground sees it a metre higher in its own frame
    mount = np.eye(4)
    mount[2, 3] = 0.8
    frame = SensorFrame("lidar", "lidar", 0, "lidar", cloud, SensorGeometry(mount))
    with_mount = frame_statistics(frame)
    assert isinstance(with_mount, LidarStatistics)
    assert with_mount.near == 0
    assert lidar_statistics(cloud).near > 0.1


def test_dead_rings_and_directions_are_counted() -> None:
    cloud = ring_cloud()
    alive = cloud[(cloud[:, 4] >= 8) & (cloud[:, 1] > 0)]
    seen = lidar_statistics(alive)
    assert seen.empty_rings == pytest.approx(8 / 32)
    assert seen.empty_directions == pytest.approx(1 - 24 / 32 / 2, abs=0.03)


def test_points_that_are_not_finite_are_left_out() -> None:
    cloud = ring_cloud()
    cloud[::2, 0] = np.nan
    cloud[0] = 3e38
    seen = lidar_statistics(cloud)
    assert seen.points == pytest.approx(len(cloud) / 2, rel=0.01)
    assert np.isfinite([seen.low_m, seen.high_m, seen.intensity]).all()
    for value in (np.inf, -np.inf, np.nan, 3e38):
        assert lidar_statistics(np.full((50, 4), value, np.float32)).points == 0


def test_clouds_of_few_points_and_without_rings() -> None:
    assert lidar_statistics(np.zeros((0, 5), np.float32)).points == 0
    one = lidar_statistics(np.array([[3, 0, 0, 7]], np.float32))
    assert (one.points, one.median_m, one.near, one.empty_rings) == (1, 3, 1, 0)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((10, 10), np.uint8),
        np.zeros((10, 10, 4), np.uint8),
        np.zeros((10, 10, 3), np.float32),
        np.zeros((0, 10, 3), np.uint8),
        np.zeros((1, 10, 3), np.uint8),
        b"bytes",
        None,
    ],
)
def test_what_is_no_picture_is_refused(image: object) -> None:
    with pytest.raises(SensorError, match=r"cam_left.*uint8 \[H, W, 3\]"):
        camera_statistics(image, "cam_left")


@pytest.mark.parametrize(
    "cloud",
    [np.zeros((5, 3), np.float32), np.zeros((5, 4)), np.zeros(4, np.float32), [[1, 2, 3, 4]], b""],
)
def test_what_is_no_cloud_is_refused(cloud: object) -> None:
    with pytest.raises(SensorError, match=r"lidar_top.*float32 \[n, 4\+\]"):
        lidar_statistics(cloud, None, "lidar_top")


def test_a_cut_file_is_refused_by_name() -> None:
    written = io.BytesIO()
    Image.fromarray(picture()).save(written, "JPEG")
    for data in (b"", b"no picture", written.getvalue()[:600]):
        with pytest.raises(SensorError, match="cam_back"):
            frame_statistics(SensorFrame("cam_back", "camera", 0, "cam", data))


def test_objects_have_no_statistics() -> None:
    boxes = np.zeros((2, 12), np.float32)
    assert frame_statistics(SensorFrame("objects", "objects", 0, "ego", boxes)) is None
