"""The sensor files of nuScenes: camera images and LiDAR sweeps, checked both ways.

Images are not decoded here; whether one is whole is told by its first and last bytes.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ...runtime.errors import DataError, SensorError
from ...runtime.frames import Modality

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


def encode(
    modality: Modality, payload: bytes | NDArray[np.float32], channel: str
) -> tuple[bytes, str, tuple[int, int]]:
    """A frame as the content of its file.

    Args:
        modality: of the sensor.
        payload: JPEG or PNG bytes of a camera; float32 `[n, 5]` of a LiDAR.
        channel: named in errors.

    Returns:
        The content, the suffix of the file name, and image width and height (0, 0 of a LiDAR).

    Raises:
        DataError: the payload is not of this modality, or a cloud without points.
    """
    if modality == "camera":
        if isinstance(payload, bytes):
            try:
                with Image.open(io.BytesIO(payload), formats=("JPEG", "PNG")) as image:
                    return payload, ".jpg" if image.format == "JPEG" else ".png", image.size
            except UnidentifiedImageError:
                pass
        raise DataError(
            "the payload is neither JPEG nor PNG bytes", field=channel, remedy="encode the image"
        )
    cloud = np.asarray(payload)
    is_cloud = cloud.dtype == np.float32 and cloud.ndim == 2 and cloud.shape[1] == POINT_FLOATS
    if not is_cloud or not len(cloud):
        raise DataError(
            f"the cloud is {cloud.dtype} {list(cloud.shape)}, not float32 [n, {POINT_FLOATS}] "
            "of one point or more",
            field=channel,
            remedy="give x y z intensity ring",
        )
    return cloud.astype("<f4").tobytes(), ".pcd.bin", (0, 0)
