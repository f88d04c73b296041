"""Pictures as cameras send them become network inputs: cropped, resized, RGB, normalised, planar.

Three twins give the same bits: numpy here, C (`arrays.c`) and CUDA (`image_input.cu`), the latter
two with the bodies of `image_input.h`. JPEG and PNG files are decoded in `image.py`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .array_library import ArrayLibrary

Float = NDArray[np.float32]

#: Pixel formats, named as in ROS's sensor_msgs/image_encodings; `yuv422` is in the order U Y V Y.
#: The order is that of the enumeration in `image_input.h`.
ENCODINGS = (
    "rgb8",
    "bgr8",
    "mono8",
    "nv12",
    "yuv422_yuy2",
    "yuv422",
    "bayer_rggb8",
    "bayer_bggr8",
    "bayer_grbg8",
    "bayer_gbrg8",
)

#: Bytes of a pixel, by encoding; those that are not named have one.
_CHANNELS = {"rgb8": 3, "bgr8": 3, "yuv422_yuy2": 2, "yuv422": 2}


class ImageParameters(ctypes.Structure):
    """`ImageInput` of `image_input.h`."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("encoding", "height", "width")),
        ("pitch", ctypes.c_int64),
        *((name, ctypes.c_int32) for name in ("out_height", "out_width")),
        *((name, ctypes.c_int32) for name in ("row_taps", "column_taps")),
        *((name, ctypes.c_int32) for name in ("first_column", "all_columns", "half")),
        ("mean", ctypes.c_float * 3),
        ("std", ctypes.c_float * 3),
    )


@dataclass(frozen=True)
class FilterTable:
    """One direction of a resize: which samples each new sample is made of.

    Attributes:
        starts: int32 `[size]`, the first sample.
        weights: float32 `[size, taps]`, 0 behind the last sample.
    """

    starts: NDArray[np.int32]
    weights: Float

    @property
    def first(self) -> int:
        """The first sample that is read."""
        return int(self.starts[0])

    @property
    def samples(self) -> int:
        """How many samples lie from the first to the last that is read."""
        return int(self.starts.max()) + self.weights.shape[1] - self.first


def image_input(
    image: NDArray[np.uint8],
    encoding: str,
    height: int,
    width: int,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    half: bool = False,
    library: ArrayLibrary | None = None,
) -> NDArray[np.float32] | NDArray[np.float16]:
    """Crop, resize, convert and normalise a picture.

    The largest centred part with the target's aspect ratio is resized with a triangle filter that
    spans two target pixels where it shrinks (as Pillow's `BILINEAR` does, without its rounding to 8
    bits between). YUV is ITU-R BT.601 of limited range; Bayer patterns are interpolated bilinearly.

    Args:
        image: uint8: `[H, W, 3]` for rgb8 and bgr8, `[H, W, 2]` for yuv422, `[3 / 2 * H, W]` for
            nv12, else `[H, W]`. Rows may lie apart, as cameras pad them.
        encoding: one of `ENCODINGS`.
        height: rows of the result.
        width: columns of the result.
        mean: subtracted from each of R, G, B, which are 0..255.
        std: divides each channel.
        half: whether the result is float16.
        library: None computes in numpy, with the same result.

    Returns:
        float32 (or float16) `[3, height, width]`: `(value - mean) / std`.

    Raises:
        ValueError: the picture has another dtype or shape, or a parameter makes no input.
    """
    rows, columns = image_size(image, encoding)
    _check_target(height, width, mean, std)
    row_table, column_table = resize_tables(rows, columns, height, width)
    if library is None:
        return _vectorised(image, encoding, row_table, column_table, mean, std, half)
    if image.strides[1:] != _packed_strides(image):
        image = np.ascontiguousarray(image)
    parameters = image_parameters(
        image.strides[0], encoding, (rows, columns), row_table, column_table, mean, std, half
    )
    middle = np.empty((height + 1, parameters.all_columns, 3), np.float32)
    result: NDArray[Any] = np.empty((3, height, width), np.float16 if half else np.float32)
    library.image_input(
        ctypes.addressof(parameters),
        image.ctypes.data,
        row_table.starts.ctypes.data,
        row_table.weights.ctypes.data,
        column_table.starts.ctypes.data,
        column_table.weights.ctypes.data,
        middle.ctypes.data,
        result.ctypes.data,
        0,
    )
    return result


def image_parameters(
    pitch: int,
    encoding: str,
    size: tuple[int, int],
    row_table: FilterTable,
    column_table: FilterTable,
    mean: Sequence[float],
    std: Sequence[float],
    half: bool,
) -> ImageParameters:
    """What the compiled twins are given.

    Args:
        pitch: bytes from one row of the picture to the next.
        encoding: of the picture.
        size: rows and columns of the picture.
        row_table: see `resize_tables`.
        column_table: see `resize_tables`.
        mean: of R, G, B.
        std: of R, G, B.
        half: whether the result is float16.
    """
    return ImageParameters(
        encoding=ENCODINGS.index(encoding),
        height=size[0],
        width=size[1],
        pitch=pitch,
        out_height=len(row_table.starts),
        out_width=len(column_table.starts),
        row_taps=row_table.weights.shape[1],
        column_taps=column_table.weights.shape[1],
        first_column=column_table.first,
        all_columns=column_table.samples,
        half=half,
        mean=tuple(mean),
        std=tuple(std),
    )


def kept_part(
    columns: int, rows: int, height: int, width: int
) -> tuple[float, float, float, float]:
    """Left, top, width and height of the largest centred part with the target's aspect ratio."""
    scale = min(columns / width, rows / height)
    # Not beyond the picture, wherever the products round to.
    part_width = min(width * scale, columns)
    part_height = min(height * scale, rows)
    left, top = (columns - part_width) / 2, (rows - part_height) / 2
    if scale == 1:
        # Whole pixels: half a pixel of centring is not worth a resampling.
        left, top = int(left), int(top)
    return left, top, part_width, part_height


@lru_cache(maxsize=32)
def resize_tables(
    rows: int, columns: int, height: int, width: int
) -> tuple[FilterTable, FilterTable]:
    """How the kept part of a picture of `rows` x `columns` becomes `height` x `width`."""
    left, top, part_width, part_height = kept_part(columns, rows, height, width)
    return _table(rows, top, part_height, height), _table(columns, left, part_width, width)


def _table(samples: int, start: float, length: float, size: int) -> FilterTable:
    scale = length / size
    reach = max(scale, 1.0)
    centers = start + (np.arange(size) + 0.5) * scale
    first = np.clip(np.ceil(centers - reach - 0.5), 0, samples - 1).astype(np.int64)
    last = np.clip(np.floor(centers + reach - 0.5), 0, samples - 1).astype(np.int64)
    taps = int((last - first).max()) + 1
    # All read the same number of samples, none beyond the picture.
    first = np.minimum(first, samples - taps)
    places = first[:, None] + np.arange(taps)
    weights = np.maximum(0.0, 1 - np.abs(places + 0.5 - centers[:, None]) / reach)
    weights /= weights.sum(axis=1, keepdims=True)
    # Columns of zeros cost time.
    used = weights.any(axis=0)
    taps = int(np.flatnonzero(used)[-1]) + 1
    return FilterTable(
        first.astype(np.int32), np.ascontiguousarray(weights[:, :taps], dtype=np.float32)
    )


def image_size(image: NDArray[np.uint8], encoding: str) -> tuple[int, int]:
    """Rows and columns of a picture.

    Raises:
        ValueError: it has another dtype or shape than its encoding.
    """
    if encoding not in ENCODINGS:
        raise ValueError(f"encoding '{encoding}' is none of {', '.join(ENCODINGS)}")
    channels = _CHANNELS.get(encoding, 1)
    shape = f"[H, W, {channels}]" if channels > 1 else "[H, W]"
    wrong = channels > 1 and image.shape[2:] != (channels,)
    if image.dtype != np.uint8 or image.ndim != 2 + (channels > 1) or wrong or image.size == 0:
        raise ValueError(
            f"a picture ({encoding}) is uint8 {shape}, got {image.dtype} {list(image.shape)}"
        )
    rows, columns = image.shape[:2]
    if encoding == "nv12":
        if rows % 3 or columns % 2:
            raise ValueError(f"nv12 has 3 / 2 * H rows and even columns, got {list(image.shape)}")
        rows = rows // 3 * 2
    if (encoding.startswith("yuv422") and columns % 2) or (
        encoding.startswith("bayer") and min(rows, columns) < 2
    ):
        raise ValueError(f"a picture of {list(image.shape)} cannot be {encoding}")
    return rows, columns


def _check_target(height: int, width: int, mean: Sequence[float], std: Sequence[float]) -> None:
    if height < 1 or width < 1:
        raise ValueError(f"the input would be {height} x {width}")
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise ValueError(
            f"mean {list(mean)} and std {list(std)} are not three values each, std > 0"
        )


def _packed_strides(image: NDArray[np.uint8]) -> tuple[int, ...]:
    return (image.shape[2], 1) if image.ndim == 3 else (1,)


def _vectorised(
    image: NDArray[np.uint8],
    encoding: str,
    row_table: FilterTable,
    column_table: FilterTable,
    mean: Sequence[float],
    std: Sequence[float],
    half: bool,
) -> NDArray[np.float32] | NDArray[np.float16]:
    first, samples = column_table.first, column_table.samples
    rgb = rgb_of(image, encoding)[:, first : first + samples]
    middle = np.zeros((len(row_table.starts), samples, 3), np.float32)
    # Tap by tap, the order in which the other twins sum.
    for tap in range(row_table.weights.shape[1]):
        middle += row_table.weights[:, tap, None, None] * rgb[row_table.starts + tap]
    result = np.zeros((len(row_table.starts), len(column_table.starts), 3), np.float32)
    for tap in range(column_table.weights.shape[1]):
        part = middle[:, column_table.starts - first + tap]
        result += column_table.weights[:, tap, None] * part
    result -= np.asarray(mean, np.float32)
    result /= np.asarray(std, np.float32)
    planar = np.ascontiguousarray(result.transpose(2, 0, 1))
    return planar.astype(np.float16) if half else planar


def rgb_of(image: NDArray[np.uint8], encoding: str) -> Float:
    """A picture as float32 `[H, W, 3]` RGB of 0..255, unrounded where colours are computed.

    Args:
        image: see `image_input`.
        encoding: one of `ENCODINGS`.

    Raises:
        ValueError: the picture has another dtype or shape.
    """
    rows, columns = image_size(image, encoding)
    if encoding in ("rgb8", "bgr8"):
        return image[..., :: 1 if encoding == "rgb8" else -1].astype(np.float32)
    if encoding == "mono8":
        return np.repeat(image[..., None], 3, axis=2).astype(np.float32)
    if encoding.startswith("bayer"):
        return _from_bayer(image.astype(np.float32), encoding)
    if encoding == "nv12":
        light = image[:rows]
        pairs = np.repeat(image[rows:], 2, axis=0).reshape(rows, columns // 2, 2)
    else:
        place = 0 if encoding == "yuv422_yuy2" else 1
        light, pairs = image[..., place], image[..., 1 - place].reshape(rows, columns // 2, 2)
    u, v = (np.repeat(pairs[..., i], 2, axis=1).astype(np.float32) for i in range(2))
    return _from_yuv(light.astype(np.float32), u, v)


def _from_yuv(y: Float, u: Float, v: Float) -> Float:
    f = np.float32
    light = f(1.164383562) * (y - f(16))
    u, v = u - f(128), v - f(128)
    red = light + f(1.596026786) * v
    green = light - f(0.391762290) * u - f(0.812967647) * v
    blue = light + f(2.017232143) * u
    return np.clip(np.stack([red, green, blue], axis=-1), 0, 255)


def _from_bayer(mosaic: Float, encoding: str) -> Float:
    padded = np.pad(mosaic, 1, mode="reflect")
    rows, columns = mosaic.shape

    def moved(down: int, right: int) -> Float:
        return padded[1 + down : 1 + down + rows, 1 + right : 1 + right + columns]

    half, quarter = np.float32(0.5), np.float32(0.25)
    across = half * (moved(0, -1) + moved(0, 1))
    along = half * (moved(-1, 0) + moved(1, 0))
    cross = quarter * (moved(-1, 0) + moved(1, 0) + moved(0, -1) + moved(0, 1))
    corners = quarter * (moved(-1, -1) + moved(-1, 1) + moved(1, -1) + moved(1, 1))
    pattern = encoding.removeprefix("bayer_")[:4]
    y, x = (np.indices(mosaic.shape) & 1)[:]
    result = np.empty((rows, columns, 3), np.float32)
    green = np.asarray([letter == "g" for letter in pattern])[2 * y + x]
    result[..., 1] = np.where(green, mosaic, cross)
    for channel, letter in ((0, "r"), (2, "b")):
        own_y, own_x = divmod(pattern.index(letter), 2)
        own_row, own_column = y == own_y, x == own_x
        result[..., channel] = np.select(
            [own_row & own_column, own_row, own_column], [mosaic, across, along], corners
        )
    return result
