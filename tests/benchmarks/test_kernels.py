"""The kernels' benchmark: neighbours make the same thing, and the record has what it promises."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from tailwire.benchmarks import kernels
from tailwire.kernels.range_image import RANGE_MEAN, RANGE_STD, range_image


def cloud() -> np.ndarray:
    rng = np.random.default_rng(0)
    azimuth, elevation = rng.uniform(-3.1, 3.1, 3000), np.deg2rad(rng.uniform(-29, 9, 3000))
    reach = rng.uniform(2, 60, 3000)
    flat = reach * np.cos(elevation)
    columns = [flat * np.cos(azimuth), flat * np.sin(azimuth), reach * np.sin(elevation)]
    return np.stack([*columns, rng.uniform(0, 255, 3000)], axis=1).astype(np.float32)


def jpeg(size: tuple[int, int] = kernels.PICTURE) -> bytes:
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    image = np.stack([x * 255 // size[0], y * 255 // size[1], (x + y) % 255], -1).astype(np.uint8)
    file = BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=90)
    return file.getvalue()


@pytest.mark.parametrize("neighbour", [kernels._range_numpy, kernels._range_opencv])
def test_neighbours_project_the_same_image(neighbour) -> None:
    points = cloud()
    wanted = range_image(points, mean=RANGE_MEAN, std=RANGE_STD)
    got = neighbour(points)
    # Points on the border of two pixels may fall into the other one.
    assert (np.abs(got - wanted).max(axis=0) < 1e-3).mean() > 0.995


def test_opencv_decodes_the_same_picture() -> None:
    data = jpeg()
    difference = kernels._picture_opencv(data) - kernels._picture(data, None)
    assert difference.shape == (3, kernels.HEIGHT, kernels.WIDTH)
    assert np.abs(difference).mean() < 0.02  # Of a range of 2.


def test_the_record_names_every_neighbour() -> None:
    result = kernels.bench_kernels([jpeg((80, 45))], cloud(), None, rounds=1)
    for kernel in ("range_image", "six_jpeg"):
        for neighbour in ("", "_numpy", "_opencv"):
            assert result[f"{kernel}{neighbour}_ms"] > 0
    assert result["settings"]["points"] == 34_000 and len(result["settings"]["jpeg_bytes"]) == 6
    assert result["compiled"] is False and result["machine"]["cpu"]
