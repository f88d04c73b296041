"""The sensor files of nuScenes: camera images and LiDAR sweeps, read and checked.

Images are not decoded here; whether one is whole is told by its first and last bytes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import SensorError

POINT_FLOATS = 5
"""x y z intensity ring, float32 each."""

_POINT_BYTES = 4 * POINT_FLOATS
_JPEG_START, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
_REMEDY = "unpack the sensor archive again, or leave this sensor out"


def read_image(path: Path) -> bytes:
    """The undecoded bytes of a JPEG or PNG file.

    Raises:
        SensorError: the file is missing, empty, cut off, or neither JPEG nor PNG.
    """
    data = _read(path)
    if data.startswith(_JPEG_START):
        # Some recorders pad a JPEG with zeros; decoders ignore them.
        whole = data.rstrip(b"\0").endswith(_JPEG_END)
    elif data.startswith(_PNG_START):
        whole = data.endswith(_PNG_END)
    else:
        raise SensorError("this is neither a JPEG nor a PNG file", field=str(path), remedy=_REMEDY)
    if not whole:
        raise SensorError(
            f"the image is cut off after {len(data)} bytes", field=str(path), remedy=_REMEDY
        )
    return data


def read_cloud(path: Path) -> NDArray[np.float32]:
    """A LiDAR sweep, without the points that are not finite.

    Returns:
        float32 `[n, 5]`: x y z in metres in the sensor frame, intensity 0 to 255, ring.

    Raises:
        SensorError: the file is missing, empty, not whole points, or has no finite point.
    """
    data = _read(path)
    if len(data) % _POINT_BYTES:
        raise SensorError(
            f"{len(data)} bytes are no whole number of points of {_POINT_BYTES} bytes, "
            "so the sweep is cut off or of another format",
            field=str(path),
            remedy=_REMEDY,
        )
    cloud = np.frombuffer(data, dtype="<f4").reshape(-1, POINT_FLOATS)
    finite = np.isfinite(cloud).all(axis=1)
    if finite.all():
        return cloud
    if not finite.any():
        raise SensorError(
            f"none of the {len(cloud)} points is finite", field=str(path), remedy=_REMEDY
        )
    return cloud[finite]


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise SensorError("the file is missing", field=str(path), remedy=_REMEDY) from error
    except OSError as error:
        raise SensorError(
            f"the file cannot be read: {error.strerror}", field=str(path), remedy=_REMEDY
        ) from error
    if not data:
        raise SensorError("the file is empty", field=str(path), remedy=_REMEDY)
    return data
