"""Colours of cameras that send no RGB: YUV with half or a quarter of the colours, Bayer mosaics.

The arithmetic is that of OpenCV, bit for bit, so that a node without OpenCV sees what one with it
would: fixed-point BT.601 for YUV, bilinear interpolation for mosaics.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

# Coefficients of BT.601 (luma 16 to 235) in units of 2^-20, as in OpenCV's color_yuv.
_SHIFT = 20
_HALF = 1 << (_SHIFT - 1)
_LUMA = 1220542
_RED_OF_V, _GREEN_OF_V = 1673527, -852492
_GREEN_OF_U, _BLUE_OF_U = -409993, 2116026
#: Rows at a time, so that what is added up stays in the cache.
_BLOCK = 32


@dataclass(frozen=True)
class Packing:
    """Where the samples of two neighbouring pixels lie in their four bytes."""

    luma: int
    u: int
    v: int


#: Four bytes for two pixels, which share their colour.
PACKED = {
    "yuv422": Packing(luma=1, u=0, v=2),
    "uyvy": Packing(luma=1, u=0, v=2),
    "yuv422_yuy2": Packing(luma=0, u=1, v=3),
    "yuyv": Packing(luma=0, u=1, v=3),
}


@dataclass(frozen=True)
class Planes:
    """A plane of luma, and behind it one of interleaved colours.

    Attributes:
        v_first: V before U.
        halved: a colour for four pixels.
    """

    v_first: bool
    halved: bool = True

    def rows(self, height: int) -> int:
        """Rows of both planes together, each as long as a row of luma.

        Raises:
            ValueError: the height is odd, so that the last row would have no colours.
        """
        if not self.halved:
            return 3 * height
        if height % 2:
            raise ValueError(f"an image of {height} rows, but two of them share their colours")
        return height + height // 2


SEMIPLANAR = {
    "nv12": Planes(v_first=False),
    "nv21": Planes(v_first=True),
    "nv24": Planes(v_first=False, halved=False),
}

#: Rows and columns of the first red and the first blue pixel.
BAYER = {
    "bayer_rggb8": ((0, 0), (1, 1)),
    "bayer_bggr8": ((1, 1), (0, 0)),
    "bayer_gbrg8": ((1, 0), (0, 1)),
    "bayer_grbg8": ((0, 1), (1, 0)),
}


def packed_rgb(samples: Bytes, encoding: str) -> Bytes:
    """An image of `PACKED`.

    Args:
        samples: uint8 `[height, width, 2]`.
        encoding: its name.

    Raises:
        ValueError: the width is odd, so that the last pixel would have half a colour.
    """
    height, width, _ = samples.shape
    _require_even(width)
    packing = PACKED[encoding]
    pairs = samples.reshape(height, width // 2, 4)
    luma = samples[:, :, packing.luma]
    return _rgb(luma, pairs[:, :, packing.u], pairs[:, :, packing.v], 1)


def semiplanar_rgb(rows: Bytes, height: int, encoding: str) -> Bytes:
    """An image of `SEMIPLANAR`.

    Args:
        rows: uint8 `[Planes.rows(height), width]`.
        height: of the image.
        encoding: its name.

    Raises:
        ValueError: the width is odd.
    """
    planes = SEMIPLANAR[encoding]
    width = rows.shape[1]
    luma, behind = rows[:height], rows[height:]
    if planes.halved:
        _require_even(width)
        colours = behind.reshape(height // 2, width // 2, 2)
    else:
        colours = np.ascontiguousarray(behind).reshape(height, width, 2)
    u, v = int(planes.v_first), int(not planes.v_first)
    return _rgb(luma, colours[:, :, u], colours[:, :, v], 2 if planes.halved else 1)


def _require_even(width: int) -> None:
    if width % 2:
        raise ValueError(f"an image of {width} columns, but two of them share their colours")


def _rgb(luma: Bytes, u: Bytes, v: Bytes, rows_a_colour: int) -> Bytes:
    """Luma `[height, width]`; colours have as many rows and columns, or half of them."""
    height, width = luma.shape
    columns_a_colour = width // u.shape[1]
    rgb = np.empty((height, width, 3), np.uint8)
    for first in range(0, height, _BLOCK):
        rows = slice(first, min(first + _BLOCK, height))
        colours = slice(first // rows_a_colour, -(-rows.stop // rows_a_colour))
        bright = np.maximum(luma[rows].astype(np.int32) - 16, 0) * _LUMA
        of_u = u[colours].astype(np.int32) - 128
        of_v = v[colours].astype(np.int32) - 128
        parts = (
            _HALF + _RED_OF_V * of_v,
            _HALF + _GREEN_OF_V * of_v + _GREEN_OF_U * of_u,
            _HALF + _BLUE_OF_U * of_u,
        )
        for channel, part in enumerate(parts):
            whole = part
            if columns_a_colour > 1:
                whole = np.repeat(whole, columns_a_colour, axis=1)
            if rows_a_colour > 1:
                whole = np.repeat(whole, rows_a_colour, axis=0)
            levels = np.right_shift(bright + whole, _SHIFT)
            rgb[rows, :, channel] = np.clip(levels, 0, 255, out=levels)
    return rgb


def bayer_rgb(mosaic: Bytes, encoding: str) -> Bytes:
    """A mosaic with what each pixel lacks taken from its neighbours.

    Args:
        mosaic: uint8 `[height, width]`, at least 3 x 3.
        encoding: one of `BAYER`.

    Raises:
        ValueError: it is smaller.
    """
    height, width = mosaic.shape
    if height < 3 or width < 3:
        raise ValueError(f"a mosaic of {width} x {height} pixels")
    wide = mosaic.astype(np.uint16)
    centre, rgb = (slice(1, -1), slice(1, -1)), np.empty((height, width, 3), np.uint8)
    up, down = wide[:-2, 1:-1], wide[2:, 1:-1]
    left, right = wide[1:-1, :-2], wide[1:-1, 2:]
    across, along = (left + right + 1) >> 1, (up + down + 1) >> 1
    cross = (left + right + up + down + 2) >> 2
    diagonal = (wide[:-2, :-2] + wide[:-2, 2:] + wide[2:, :-2] + wide[2:, 2:] + 2) >> 2
    inner = rgb[centre]
    red, blue = BAYER[encoding]
    for (row, column), own, other in ((red, 0, 2), (blue, 2, 0)):
        # The inner picture begins at row and column 1.
        at = (slice((row + 1) % 2, None, 2), slice((column + 1) % 2, None, 2))
        inner[(*at, own)] = mosaic[centre][at]
        inner[(*at, other)] = diagonal[at]
        inner[(*at, 1)] = cross[at]
        # Green pixels in the rows of this colour have it to the left and right.
        beside = (at[0], slice(column % 2, None, 2))
        inner[(*beside, 1)] = mosaic[centre][beside]
        inner[(*beside, own)] = across[beside]
        inner[(*beside, other)] = along[beside]
    rgb[:, 0], rgb[:, -1] = rgb[:, 1], rgb[:, -2]
    rgb[0], rgb[-1] = rgb[1], rgb[-2]
    return rgb
