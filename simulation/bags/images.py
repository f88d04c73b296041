"""Image messages of any robot as camera payloads: RGB arrays, or undecoded JPEG and PNG bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAX_SIDE = 1 << 16
#: Channels a pixel, and which of them are red, green and blue.
_ENCODINGS: dict[str, tuple[int, tuple[int, int, int]]] = {
    "rgb8": (3, (0, 1, 2)),
    "bgr8": (3, (2, 1, 0)),
    "rgba8": (4, (0, 1, 2)),
    "bgra8": (4, (2, 1, 0)),
    "mono8": (1, (0, 0, 0)),
    "8UC1": (1, (0, 0, 0)),
    "8UC3": (3, (2, 1, 0)),
    "8UC4": (4, (2, 1, 0)),
}


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
    """A `sensor_msgs/Image` as RGB.

    `step` may be longer than a row; alpha is dropped; grey becomes three equal channels; `8UC3`
    and `8UC4` are read as OpenCV lays them out, blue first.

    Returns:
        uint8 `[height, width, 3]`.

    Raises:
        ValueError: the encoding is not supported, or sizes do not fit the data.
    """
    known = _ENCODINGS.get(message.encoding)
    if known is None:
        raise ValueError(
            f"images of encoding {message.encoding!r} are not supported, "
            f"only {', '.join(_ENCODINGS)}"
        )
    # Samples of one byte have no byte order, so `is_bigendian` does not matter.
    channels, order = known
    height, width, step = int(message.height), int(message.width), int(message.step)
    if not (0 < height <= _MAX_SIDE and 0 < width <= _MAX_SIDE):
        raise ValueError(f"an image of {width} x {height} pixels")
    row_bytes = width * channels
    data = np.frombuffer(message.data, dtype=np.uint8)
    needed = (height - 1) * step + row_bytes
    if step < row_bytes or len(data) < needed:
        raise ValueError(
            f"{len(data)} bytes with a step of {step} hold no {message.encoding} image of "
            f"{width} x {height}"
        )
    rows = np.lib.stride_tricks.as_strided(data, (height, row_bytes), (step, 1), writeable=False)
    pixels = rows.reshape(height, width, channels)
    if channels == 3 and order == (0, 1, 2):
        return np.array(pixels)
    return np.ascontiguousarray(pixels[:, :, list(order)])
