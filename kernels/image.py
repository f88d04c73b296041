"""Camera pictures to network inputs: decoded at reduced scale, cropped, resized, normalised.

JPEG is decoded through the DCT scaling of libjpeg (1/2, 1/4, 1/8), so a small target never pays for
the full picture. A file that is not whole is an error, never a picture with a grey rest. What
becomes of the pixels is the kernel's affair, see `image_input.py`.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .array_library import ArrayLibrary
from .image_input import image_input, kept_part

if TYPE_CHECKING:
    from PIL.Image import Image

#: Larger pictures are refused before they are decoded (decompression bombs).
MAX_PIXELS = 50_000_000

_JPEG = b"\xff\xd8\xff"
_PNG = b"\x89PNG\r\n\x1a\n"

#: Within a scan, 0xFF is followed by 0 (a data byte), RST0-7 or fill; any other marker ends it.
_SCAN_END = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9

#: What libjpeg leaves where the data ran out: all coefficients zero, which is mid-grey.
_MISSING = (128, 128, 128)
#: Entropy-coded bytes without markers that no run of zero blocks decodes from.
_FILLER = bytes(range(1, 255)) * 2

_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}


def decode_image(
    data: bytes,
    height: int,
    width: int,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    max_pixels: int = MAX_PIXELS,
    library: ArrayLibrary | None = None,
) -> NDArray[np.float32]:
    """Decode a JPEG or PNG file into a network input.

    The largest centred part of the picture with the target's aspect ratio is resized; grey and
    palette pictures become RGB, alpha is dropped, the EXIF orientation is not applied.

    A cut file is found wherever it was cut. A JPEG that lost bytes in its middle is found if its
    end is missing from the picture or its restart markers do not follow each other; flipped bits
    in JPEG data cannot be found, as JPEG has no checksum. PNG checksums are verified.

    Args:
        data: the bytes of the file.
        height: rows of the result.
        width: columns of the result.
        mean: subtracted from each of R, G, B, which are 0..255.
        std: divides each channel.
        max_pixels: the largest picture to accept, in pixels.
        library: of compiled kernels; None computes in numpy, with the same result.

    Returns:
        float32 `[3, height, width]`: `(value - mean) / std`.

    Raises:
        ValueError: the bytes are no whole JPEG or PNG file, or the picture is too large.
    """
    if data.startswith(_JPEG):
        end = _require_whole_jpeg(data)
        image = _decode(data, height, width, max_pixels)
        if image.getpixel((image.width - 1, image.height - 1)) == _MISSING:
            # Either the picture ends in mid-grey, or its data ran out, which libjpeg hides. Bytes
            # appended to the last scan are ignored in the first case and decoded in the second.
            longer = data[:end] + _FILLER + data[end:]
            if _decode(longer, height, width, max_pixels).tobytes() != image.tobytes():
                raise ValueError("a corrupt JPEG file: the data ends before the picture does")
    elif data.startswith(_PNG):
        _require_whole_png(data)
        image = _decode(data, height, width, max_pixels)
    else:
        raise ValueError(f"{len(data)} bytes that are neither a JPEG nor a PNG file")
    return preprocess_image(np.asarray(image), height, width, mean, std, library=library)


def preprocess_image(
    image: NDArray[np.uint8],
    height: int,
    width: int,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    library: ArrayLibrary | None = None,
) -> NDArray[np.float32]:
    """Crop, resize and normalise a decoded picture; the twin of `decode_image`.

    Args:
        image: uint8 `[H, W, 3]` RGB.
        height: rows of the result.
        width: columns of the result.
        mean: subtracted from each of R, G, B, which are 0..255.
        std: divides each channel.
        library: of compiled kernels; None computes in numpy, with the same result.

    Returns:
        float32 `[3, height, width]`: `(value - mean) / std`.

    Raises:
        ValueError: the picture has another dtype or shape, or no pixels.
    """
    prepared = image_input(image, "rgb8", height, width, mean, std, library=library)
    return prepared.astype(np.float32, copy=False)


def decode_small(
    data: bytes, height: int, width: int, *, max_pixels: int = MAX_PIXELS
) -> NDArray[np.uint8]:
    """Decode a JPEG or PNG file for a coarse look: no crop, no resize, no search for lost bytes.

    A JPEG is decoded at the smallest DCT scale that still covers the target, a PNG whole.

    Args:
        data: the bytes of the file.
        height: rows that are enough.
        width: columns that are enough.
        max_pixels: the largest picture to accept, in pixels.

    Returns:
        uint8 `[H, W, 3]` RGB.

    Raises:
        ValueError: the bytes are no JPEG or PNG file, are cut, or the picture is too large.
    """
    return np.asarray(_decode(data, height, width, max_pixels))


@dataclass(frozen=True)
class Placement:
    """Where a network input lies in the whole picture.

    Coordinates grow from the corner, so that the centre of the first pixel is at (0.5, 0.5); a
    point (u, v) of the picture lies at `((u - left) * scale_x, (v - top) * scale_y)` of the input.

    Attributes:
        picture_width: of the whole picture, pixels.
        picture_height: of the whole picture, pixels.
        left: first column of the part that is kept, pixels of the picture.
        top: first row of the part that is kept.
        scale_x: columns of the input per column of the picture.
        scale_y: rows of the input per row of the picture.
    """

    picture_width: int
    picture_height: int
    left: float
    top: float
    scale_x: float
    scale_y: float


def placement(picture: bytes | NDArray[np.uint8], height: int, width: int) -> Placement:
    """Where the result of `decode_image` or `preprocess_image` lies in the picture.

    Args:
        picture: bytes of a JPEG or PNG file, of which the header alone is read, or uint8
            `[H, W, 3]`.
        height: rows of the result.
        width: columns of the result.

    Raises:
        ValueError: the header cannot be read, or the array is no picture.
    """
    if isinstance(picture, np.ndarray):
        if picture.ndim != 3 or picture.size == 0:
            raise ValueError(f"a picture is uint8 [H, W, 3], got {list(picture.shape)}")
        whole = (picture.shape[1], picture.shape[0])
        kept, shrunk = whole, 1.0
    else:
        whole, kept, shrunk = _sizes(picture, height, width)
    left, top, part_width, part_height = kept_part(*kept, height, width)
    return Placement(
        picture_width=whole[0],
        picture_height=whole[1],
        left=left * shrunk,
        top=top * shrunk,
        scale_x=width / (part_width * shrunk),
        scale_y=height / (part_height * shrunk),
    )


def _sizes(data: bytes, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int], float]:
    """Sizes of a file's picture and of what is decoded of it, and pixels of one per the other's."""
    from PIL import Image

    try:
        image = Image.open(BytesIO(data), formats=("JPEG", "PNG"))
        whole = image.size
        drafted = image.draft("RGB", (width, height))
    except (OSError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError) as error:
        raise ValueError(f"the header of the picture cannot be read: {error}") from error
    # The size is rounded up, but a pixel stands for the same number of pixels everywhere.
    shrunk = 1.0 if drafted is None else whole[0] / drafted[1][2]
    return whole, image.size, shrunk


def _decode(data: bytes, height: int, width: int, max_pixels: int) -> Image:
    """Decode at the smallest DCT scale that still covers the target; the result is RGB."""
    from PIL import Image

    # Pillow passes on whatever its parsers run into, so the list is what its fuzzers have seen.
    errors = (
        *(OSError, SyntaxError, ValueError, TypeError, IndexError, KeyError, AttributeError),
        *(EOFError, OverflowError, MemoryError, struct.error, zlib.error),
        *(Image.DecompressionBombError, Image.DecompressionBombWarning),
    )
    try:
        image = Image.open(BytesIO(data), formats=("JPEG", "PNG"))
        columns, rows = image.size
        if columns * rows > max_pixels:
            raise ValueError(f"{columns} x {rows} pixels, more than the {max_pixels} allowed")
        image.draft("RGB", (width, height))
        image.load()
        if image.mode not in _MODES:
            raise ValueError(f"pixels of mode {image.mode}, but 8 bits a channel are expected")
        return image if image.mode == "RGB" else image.convert("RGB")
    except errors as error:
        raise ValueError(f"the picture cannot be decoded: {error}") from error


def _require_whole_jpeg(data: bytes) -> int:
    """Walk the markers (ITU-T T.81, annex B) and return where the end-of-image marker lies."""
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            raise ValueError(f"a corrupt JPEG file: no marker at byte {position}")
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == _START_OF_SCAN:
            end = _SCAN_END.search(data, position)
            if end is None:
                break
            _require_restarts_in_order(data, position, end.start())
            if data[end.start() + 1] == _END_OF_IMAGE:
                return end.start()
            position = end.start()
    raise ValueError(f"a truncated JPEG file: {len(data)} bytes without the end-of-image marker")


def _require_restarts_in_order(data: bytes, start: int, end: int) -> None:
    restarts = [data[found.start() + 1] & 7 for found in _RESTART.finditer(data, start, end)]
    if any(number != index % 8 for index, number in enumerate(restarts)):
        raise ValueError("a corrupt JPEG file: restart intervals are missing")


def _require_whole_png(data: bytes) -> None:
    """Walk the chunks (PNG specification, section 5) up to IEND and verify their checksums."""
    position = len(_PNG)
    view = memoryview(data)
    while position + 12 <= len(data):
        length = int.from_bytes(view[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        end = position + 8 + length
        if end + 4 > len(data):
            break
        if zlib.crc32(view[position + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            raise ValueError(f"a corrupt PNG file: wrong checksum at byte {position}")
        if kind == b"IEND":
            return
        position = end + 4
    raise ValueError(f"a truncated PNG file: {len(data)} bytes without the last chunk")
