"""Images and clouds of any layout, beside OpenCV and numpy's structured arrays."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from tailwire.simulation.bags.clouds import cloud_points
from tailwire.simulation.bags.images import ENCODINGS, raw_image

HEIGHT, WIDTH = 70, 48


def message(
    rows: np.ndarray, encoding: str, *, height: int = HEIGHT, width: int = WIDTH, pad: int = 0
) -> Any:
    """An image message of uint8 `[rows, bytes]`."""
    padded = np.pad(rows, ((0, 0), (0, pad)), constant_values=77)
    return SimpleNamespace(
        height=height,
        width=width,
        encoding=encoding,
        step=padded.shape[1],
        is_bigendian=0,
        data=padded.tobytes(),
    )


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("pad", [0, 16])
@pytest.mark.parametrize(
    ("encoding", "code"),
    [
        ("yuv422", cv2.COLOR_YUV2RGB_UYVY),
        ("uyvy", cv2.COLOR_YUV2RGB_UYVY),
        ("yuv422_yuy2", cv2.COLOR_YUV2RGB_YUY2),
        ("yuyv", cv2.COLOR_YUV2RGB_YUY2),
    ],
)
def test_packed_yuv_is_that_of_opencv(encoding: str, code: int, pad: int) -> None:
    samples = noise(HEIGHT, WIDTH, 2)
    found = raw_image(message(samples.reshape(HEIGHT, -1), encoding, pad=pad))
    np.testing.assert_array_equal(found, cv2.cvtColor(samples, code))


@pytest.mark.parametrize("pad", [0, 16])
@pytest.mark.parametrize(
    ("encoding", "code"), [("nv12", cv2.COLOR_YUV2RGB_NV12), ("nv21", cv2.COLOR_YUV2RGB_NV21)]
)
def test_planes_of_yuv_are_those_of_opencv(encoding: str, code: int, pad: int) -> None:
    rows = noise(HEIGHT * 3 // 2, WIDTH)
    found = raw_image(message(rows, encoding, pad=pad))
    np.testing.assert_array_equal(found, cv2.cvtColor(rows, code))


def test_full_colours_of_nv24_equal_halved_ones_that_are_repeated() -> None:
    rows = noise(HEIGHT * 3 // 2, WIDTH)
    colours = rows[HEIGHT:].reshape(HEIGHT // 2, WIDTH // 2, 2)
    whole = colours.repeat(2, axis=0).repeat(2, axis=1).reshape(2 * HEIGHT, WIDTH)
    found = raw_image(message(np.vstack([rows[:HEIGHT], whole]), "nv24"))
    np.testing.assert_array_equal(found, cv2.cvtColor(rows, cv2.COLOR_YUV2RGB_NV12))


@pytest.mark.parametrize("size", [(70, 48), (9, 7), (4, 4), (3, 3)])
@pytest.mark.parametrize(
    ("encoding", "code"),
    [
        ("bayer_rggb8", cv2.COLOR_BayerRGGB2RGB),
        ("bayer_bggr8", cv2.COLOR_BayerBGGR2RGB),
        ("bayer_gbrg8", cv2.COLOR_BayerGBRG2RGB),
        ("bayer_grbg8", cv2.COLOR_BayerGRBG2RGB),
    ],
)
def test_mosaics_are_those_of_opencv(encoding: str, code: int, size: tuple[int, int]) -> None:
    mosaic = noise(*size)
    found = raw_image(message(mosaic, encoding, height=size[0], width=size[1], pad=3))
    np.testing.assert_array_equal(found, cv2.cvtColor(mosaic, code))


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("encoding", ["mono16", "rgb16", "bgr16", "bayer_rggb16", "rgba16"])
def test_of_two_bytes_the_high_one_is_taken(encoding: str, big_endian: bool) -> None:
    channels = {"m": 1, "b": 1, "r": 3}[encoding[0]] + (encoding == "rgba16")
    if encoding == "bgr16":
        channels = 3
    deep = np.random.default_rng(2).integers(0, 65536, (HEIGHT, WIDTH * channels), dtype=np.uint16)
    order = ">u2" if big_endian else "<u2"
    sent = message(deep.astype(order).view(np.uint8), encoding)
    sent.is_bigendian = int(big_endian)
    shallow = message((deep >> 8).astype(np.uint8), encoding.replace("16", "8"))
    np.testing.assert_array_equal(raw_image(sent), raw_image(shallow))


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8"])
def test_rgb_and_bgr_are_views_of_the_message(encoding: str) -> None:
    pixels = noise(HEIGHT, WIDTH, 3)
    sent = message(pixels.reshape(HEIGHT, -1), encoding, pad=5)
    sent.data = bytearray(sent.data)
    found = raw_image(sent)
    expected = pixels if encoding == "rgb8" else pixels[:, :, ::-1]
    np.testing.assert_array_equal(found, expected)
    sent.data[0] ^= 255
    assert found[0, 0, 0 if encoding == "rgb8" else 2] == pixels[0, 0, 0] ^ 255
    assert not found.flags.writeable


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_too_few_bytes_are_refused(encoding: str) -> None:
    with pytest.raises(ValueError, match="hold no"):
        raw_image(message(noise(2, WIDTH), encoding))


@pytest.mark.parametrize(
    ("encoding", "height", "width", "complaint"),
    [
        ("uyvy", 4, 5, "5 columns"),
        ("nv12", 5, 4, "5 rows"),
        ("nv12", 4, 5, "5 columns"),
        ("bayer_rggb8", 2, 9, "mosaic"),
        ("rgb8", 0, 9, "0 pixels"),
        ("rgb8", 9, 1 << 20, "1048576 x 9"),
        ("yuv411", 4, 4, "not supported"),
    ],
)
def test_impossible_images_are_refused(
    encoding: str, height: int, width: int, complaint: str
) -> None:
    sent = message(noise(64, 64), encoding, height=height, width=width)
    with pytest.raises(ValueError, match=complaint):
        raw_image(sent)


def cloud(points: np.ndarray, order: str = "<") -> Any:
    codes = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 8}
    layout = points.dtype.fields
    assert layout is not None
    return SimpleNamespace(
        height=1,
        width=len(points),
        fields=[
            SimpleNamespace(name=name, offset=offset, datatype=codes[kind.str[1:]], count=1)
            for name, (kind, offset, *_) in layout.items()
        ],
        is_bigendian=order == ">",
        point_step=points.dtype.itemsize,
        row_step=points.nbytes,
        data=bytearray(points.tobytes()),
    )


@pytest.mark.parametrize("step", [16, 20, 32])
def test_a_cloud_that_lies_as_wanted_is_a_view(step: int) -> None:
    names = ["x", "y", "z", "intensity"]
    dtype = np.dtype(
        {"names": names, "formats": ["<f4"] * 4, "offsets": [0, 4, 8, 12], "itemsize": step}
    )
    points = np.zeros(5, dtype)
    for place, name in enumerate(names):
        points[name] = np.arange(5) + 10 * place
    sent = cloud(points)
    found = cloud_points(sent)
    np.testing.assert_array_equal(found, np.stack([points[name] for name in names], axis=1))
    sent.data[0:4] = np.float32(99).tobytes()
    assert found[0, 0] == 99


@pytest.mark.parametrize("order", ["<", ">"])
def test_any_order_gaps_and_types_without_points_that_are_not_finite(order: str) -> None:
    dtype = np.dtype(
        {
            "names": ["ring", "z", "reflectivity", "y", "x"],
            "formats": [f"{order}u2", f"{order}f8", f"{order}u4", f"{order}f4", f"{order}f4"],
            "offsets": [3, 8, 20, 33, 40],
            "itemsize": 47,
        }
    )
    rng = np.random.default_rng(4)
    points = np.zeros(9, dtype)
    for name in "xyz":
        points[name] = rng.normal(0, 10, 9)
    points["ring"], points["reflectivity"] = np.arange(9), 7 * np.arange(9)
    points["x"][2], points["z"][5] = np.nan, np.inf
    kept = points[[0, 1, 3, 4, 6, 7, 8]]
    expected = np.stack(
        [kept[name].astype(np.float32) for name in ("x", "y", "z", "reflectivity", "ring")], axis=1
    )
    np.testing.assert_array_equal(cloud_points(cloud(points, order)), expected)
