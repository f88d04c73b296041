"""Pictures of all encodings against OpenCV and Pillow, and the twins against each other."""

from __future__ import annotations

import ctypes

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tailwire.kernels.image_input import (
    ENCODINGS,
    image_input,
    image_parameters,
    resize_tables,
    rgb_of,
)

from .twins import both, compiled

RAW = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
NORMAL = ((120.0, 110.0, 100.0), (60.0, 50.0, 40.0))


def picture(height: int = 60, width: int = 100) -> NDArray[np.uint8]:
    rng = np.random.default_rng(height)
    y, x = np.mgrid[0:height, 0:width]
    waves = [128 + 90 * np.sin(x / (9 + c)) * np.cos(y / (7 + c)) for c in range(3)]
    image = np.stack(waves, axis=-1) + rng.normal(0, 3, (height, width, 3))
    image[height // 3 : height // 2, width // 4 : width // 2] = [250, 20, 90]
    return np.clip(image, 0, 255).astype(np.uint8)


def encoded(rgb: NDArray[np.uint8], encoding: str) -> NDArray[np.uint8]:
    """What a camera of this encoding sends of a picture."""
    if encoding == "rgb8":
        return rgb
    if encoding == "bgr8":
        return np.ascontiguousarray(rgb[..., ::-1])
    if encoding == "mono8":
        return rgb[..., 1].copy()
    if encoding.startswith("bayer"):
        pattern = encoding.removeprefix("bayer_")[:4]
        mosaic = np.empty(rgb.shape[:2], np.uint8)
        for place, letter in enumerate(pattern):
            y, x = divmod(place, 2)
            mosaic[y::2, x::2] = rgb[y::2, x::2, "rgb".index(letter)]
        return mosaic
    planar = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420).astype(np.uint8)
    rows, columns = rgb.shape[:2]
    light = planar[:rows]
    u, v = planar[rows:].reshape(2, rows // 2, columns // 2)
    if encoding == "nv12":
        return np.concatenate([light, np.stack([u, v], axis=-1).reshape(rows // 2, columns)])
    u, v = np.repeat(u, 2, axis=0), np.repeat(v, 2, axis=0)
    colours = np.stack([u, v], axis=-1).reshape(rows, columns)
    place = 0 if encoding == "yuv422_yuy2" else 1
    result = np.empty((rows, columns, 2), np.uint8)
    result[..., place], result[..., 1 - place] = light, colours
    return result


#: OpenCV names a Bayer pattern by the second row's second and third pixels.
OPENCV = {
    "nv12": cv2.COLOR_YUV2RGB_NV12,
    "yuv422_yuy2": cv2.COLOR_YUV2RGB_YUY2,
    "yuv422": cv2.COLOR_YUV2RGB_UYVY,
    "bayer_rggb8": cv2.COLOR_BayerBG2RGB,
    "bayer_bggr8": cv2.COLOR_BayerRG2RGB,
    "bayer_grbg8": cv2.COLOR_BayerGB2RGB,
    "bayer_gbrg8": cv2.COLOR_BayerGR2RGB,
}


@pytest.mark.parametrize("encoding", OPENCV)
def test_colours_are_those_of_opencv(encoding: str) -> None:
    sent = encoded(picture(), encoding)
    wanted = cv2.cvtColor(sent, OPENCV[encoding])
    # At the edges OpenCV copies its neighbours' colours.
    inner = np.s_[2:-2, 2:-2]
    difference = np.abs(rgb_of(sent, encoding)[inner] - wanted[inner].astype(np.float32))
    assert difference.max() <= 1.6


@pytest.mark.parametrize("target", [(60, 100), (30, 50), (22, 40), (30, 30), (90, 150)])
def test_resizing_is_that_of_pillow(target: tuple[int, int]) -> None:
    image, (height, width) = picture(), target
    scale = min(100 / width, 60 / height)
    left, top = (100 - width * scale) / 2, (60 - height * scale) / 2
    box = (left, top, left + width * scale, top + height * scale)
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR, box=box)
    got = image_input(image, "rgb8", height, width, *RAW)
    assert np.abs(got.transpose(1, 2, 0) - np.asarray(resized)).max() <= 1.1


@both
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_all_twins_give_the_same_bits(language: str, encoding: str) -> None:
    sent, library = encoded(picture(), encoding), compiled(language)
    for target in ((22, 40), (60, 100), (30, 20)):
        for half in (False, True):
            wanted = image_input(sent, encoding, *target, *NORMAL, half=half)
            got = image_input(sent, encoding, *target, *NORMAL, half=half, library=library)
            assert got.dtype == (np.float16 if half else np.float32)
            np.testing.assert_array_equal(got, wanted)


@both
@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "mono8"])
def test_loops_over_rows_do_what_the_bodies_do(language: str, encoding: str) -> None:
    sent = encoded(picture(), encoding)
    rows, columns = resize_tables(60, 100, 22, 40)
    results = []
    for by_body in (0, 1):
        parameters = image_parameters(
            sent.strides[0], encoding, (60, 100), rows, columns, *NORMAL, half=False
        )
        middle = np.empty((23, parameters.all_columns, 3), np.float32)
        results.append(np.empty((3, 22, 40), np.float32))
        tables = (rows.starts, rows.weights, columns.starts, columns.weights)
        arrays = (sent, *tables, middle, results[-1])
        addresses = [array.ctypes.data for array in arrays]
        compiled(language).image_input(ctypes.addressof(parameters), *addresses, by_body)
    np.testing.assert_array_equal(results[0], results[1])


@both
def test_padded_rows_and_views_are_read_rightly(language: str) -> None:
    wide = picture(60, 120)
    for view in (wide[:, 10:110], wide[::-1, :100], wide[::2, :100:2]):
        got = image_input(view, "rgb8", 15, 25, *RAW, library=compiled(language))
        np.testing.assert_array_equal(got, image_input(view.copy(), "rgb8", 15, 25, *RAW))


@pytest.mark.parametrize(
    ("image", "encoding", "message"),
    [
        (np.zeros((4, 4, 3), np.uint8), "rgba8", "none of rgb8"),
        (np.zeros((4, 4), np.uint8), "rgb8", r"uint8 \[H, W, 3\]"),
        (np.zeros((4, 4, 3), np.float32), "bgr8", "float32"),
        (np.zeros((4, 4), np.uint8), "nv12", "3 / 2"),
        (np.zeros((4, 3, 2), np.uint8), "yuv422", "cannot be yuv422"),
        (np.zeros((1, 8), np.uint8), "bayer_rggb8", "cannot be"),
        (np.zeros((0, 4), np.uint8), "mono8", "mono8"),
    ],
)
def test_what_is_no_such_picture_is_an_error(
    image: NDArray[np.uint8], encoding: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        image_input(image, encoding, 2, 2, *RAW)
