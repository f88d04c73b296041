"""Image messages of any robot as camera payloads: RGB arrays, or undecoded JPEG and PNG bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .colours import BAYER, PACKED, SEMIPLANAR, bayer_rgb, packed_rgb, semiplanar_rgb

_MAX_SIDE = 1 << 16
_RGB = (0, 1, 2)
#: Channels a pixel, and which of them are red, green and blue.
_ENCODINGS: dict[str, tuple[int, tuple[int, int, int]]] = {
    "rgb8": (3, _RGB),
    "bgr8": (3, (2, 1, 0)),
    "rgba8": (4, _RGB),
    "bgra8": (4, (2, 1, 0)),
    "mono8": (1, (0, 0, 0)),
    "8UC1": (1, (0, 0, 0)),
    "8UC3": (3, (2, 1, 0)),
    "8UC4": (4, (2, 1, 0)),
}
#: The same with two bytes a sample; the high one is taken.
_DEEP = {
    "rgb16": "rgb8",
    "bgr16": "bgr8",
    "rgba16": "rgba8",
    "bgra16": "bgra8",
    "mono16": "mono8",
    **{name.replace("8", "16"): name for name in BAYER},
}
#: What `raw_image` reads.
ENCODINGS = (*_ENCODINGS, *PACKED, *SEMIPLANAR, *BAYER, *_DEEP)


def compressed_payload(message: Any) -> bytes:
    """The bytes of a `sensor_msgs/CompressedImage`, untouched.

    Raises:
        ValueError: they are no whole JPEG or PNG file.
    """
    data = message.data.tobytes()
    if data.startswith(b"\xff\xd8\xff"):
        # Some recorders pad a JPEG with zeros; decoders ignore them.
        whole = data.rstrip(b"\0").endswith(b"\xff\xd9")
    elif data.startswith(b"\x89PNG\r\n\x1a\n"):
        whole = data.endswith(b"IEND\xaeB`\x82")
    else:
        raise ValueError(f"an image of format {message.format!r}, neither JPEG nor PNG")
    if not whole:
        raise ValueError(f"the image is cut off after {len(data)} bytes")
    return data


def raw_image(message: Any) -> NDArray[np.uint8]:
    """A `sensor_msgs/Image` as RGB; `rgb8` and `bgr8` are views of the message, nothing is copied.

    `step` may be longer than a row; alpha is dropped; grey becomes three equal channels; `8UC3`
    and `8UC4` are read as OpenCV lays them out, blue first. Of two bytes a sample the high one is
    taken. Colours of YUV are those of ITU-R BT.601 in the range 16 to 235.

    Returns:
        uint8 `[height, width, 3]`, not to be written to.

    Raises:
        ValueError: the encoding is not supported, or sizes do not fit the data.
    """
    encoding = _DEEP.get(message.encoding, message.encoding)
    deep = encoding != message.encoding
    if encoding not in ENCODINGS:
        raise ValueError(
            f"images of encoding {message.encoding!r} are not supported, "
            f"only {', '.join(ENCODINGS)}"
        )
    height, width = int(message.height), int(message.width)
    if not (0 < height <= _MAX_SIDE and 0 < width <= _MAX_SIDE):
        raise ValueError(f"an image of {width} x {height} pixels")
    if encoding in SEMIPLANAR:
        rows = _rows(message, SEMIPLANAR[encoding].rows(height), width)
        return semiplanar_rgb(rows, height, encoding)
    if encoding in PACKED:
        return packed_rgb(_rows(message, height, 2 * width).reshape(height, width, 2), encoding)
    channels, order = _ENCODINGS.get(encoding, (1, _RGB))
    samples = _rows(message, height, width * channels * (1 + deep))
    if deep:
        samples = samples[:, (0 if message.is_bigendian else 1) :: 2]
    if encoding in BAYER:
        return bayer_rgb(samples, encoding)
    pixels = samples.reshape(height, width, channels)
    if channels == 1:
        return np.repeat(pixels, 3, axis=2)
    return pixels[:, :, :3] if order == _RGB else pixels[:, :, 2::-1]


def _rows(message: Any, height: int, row_bytes: int) -> NDArray[np.uint8]:
    """The bytes of the rows without what pads them, `[height, row_bytes]`; a view."""
    step = int(message.step)
    data = np.frombuffer(message.data, dtype=np.uint8)
    if step < row_bytes or len(data) < (height - 1) * step + row_bytes:
        raise ValueError(
            f"{len(data)} bytes with a step of {step} hold no {message.encoding} image of "
            f"{message.width} x {message.height}"
        )
    return np.lib.stride_tricks.as_strided(data, (height, row_bytes), (step, 1), writeable=False)
