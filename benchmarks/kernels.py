"""The kernels in front of the encoders beside numpy and OpenCV doing the same, on one drive.

Every neighbour makes what the kernel makes, from the same bytes: where it is looser (no search for
cut files, other ties, 8-bit steps between) the record says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels.array_library import ArrayLibrary
from ..kernels.bev_grid import bev_grid
from ..kernels.image import decode_image
from ..kernels.range_image import RANGE_MEAN, RANGE_STD, range_image
from .measure import Variant, interleave, machine_card

Float = NDArray[np.float32]

POINTS = 34_000
HEIGHT, WIDTH = 224, 400
PICTURE = (1600, 900)
THREADS = 2
_MEAN, _STD = (127.0,) * 3, (128.0,) * 3
_ROWS, _COLUMNS, _UP_DEG, _DOWN_DEG = 32, 2048, 10.0, -30.0

METHOD = {
    "range_image": "one core; numpy and OpenCV sort by range and let the nearest write last, as "
    "RangeNet++ does; points at one range then win by their order",
    "bev_grid": "one core; OpenCV has nothing of the kind",
    "six_jpeg": f"two threads, six {PICTURE[0]}x{PICTURE[1]} JPEGs of the drive's cameras, decoded "
    "at a quarter; tailwire also finds cut files; numpy is tailwire without compiled kernels",
}


def bench_kernels(
    pictures: Sequence[bytes],
    cloud: Float,
    library: ArrayLibrary | None,
    *,
    rounds: int,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Time the kernels and their neighbours in turn.

    Args:
        pictures: JPEG files, made larger or smaller to 1600x900; six are used, from the front.
        cloud: float32 `[n, 4+]`, repeated or cut to 34,000 points.
        library: the compiled kernels, None where there are none.
        rounds: counted runs of each.
        progress: called with (rounds done, rounds in all).
    """
    files = [_sized(picture) for picture in (list(pictures) * 6)[:6]]
    points = np.resize(cloud[:, :4], (POINTS, 4)).astype(np.float32)
    variants: dict[str, Variant] = {}
    with ThreadPoolExecutor(THREADS) as pool:

        def all_six(one: Callable[[bytes], Float]) -> Variant:
            return lambda: list(pool.map(one, files))

        variants |= {
            "range_image": lambda: _range(points, library),
            "range_image_numpy": lambda: _range_numpy(points),
            "bev_grid": lambda: bev_grid(points, library=library),
            "bev_grid_numpy": lambda: bev_grid(points),
            "six_jpeg": all_six(lambda data: _picture(data, library)),
            "six_jpeg_numpy": all_six(lambda data: _picture(data, None)),
        }
        has_opencv = _has_opencv()
        if has_opencv:
            variants |= {
                "range_image_opencv": lambda: _range_opencv(points),
                "six_jpeg_opencv": all_six(_picture_opencv),
            }
        timings = interleave(variants, rounds=rounds, progress=progress)
    summaries = {name: timing.summary() for name, timing in timings.items()}
    return {
        "benchmark": "kernels",
        **{f"{name}_ms": round(found["median"], 3) for name, found in summaries.items()},
        "ms": summaries,
        "opencv_missing": None if has_opencv else "pip install opencv-python-headless",
        "compiled": library is not None,
        "settings": {
            "points": POINTS,
            "range_image": [_ROWS, _COLUMNS],
            "jpeg_bytes": [len(file) for file in files],
            "target": [HEIGHT, WIDTH],
            "rounds": rounds,
        },
        "machine": machine_card(THREADS, ("opencv-python-headless", "pillow")),
        "method": METHOD,
    }


def _sized(picture: bytes) -> bytes:
    from PIL import Image

    image = Image.open(BytesIO(picture))
    if image.size == PICTURE:
        return picture
    file = BytesIO()
    image.convert("RGB").resize(PICTURE).save(file, "JPEG", quality=90)
    return file.getvalue()


def _range(points: Float, library: ArrayLibrary | None) -> Float:
    return range_image(
        points, _ROWS, _COLUMNS, _UP_DEG, _DOWN_DEG, mean=RANGE_MEAN, std=RANGE_STD, library=library
    )


def _picture(data: bytes, library: ArrayLibrary | None) -> Float:
    return decode_image(data, HEIGHT, WIDTH, _MEAN, _STD, library=library)


def _range_numpy(points: Float) -> Float:
    """As RangeNet++ projects, with numpy alone."""
    x, y, z, _ = points.T
    depth = np.sqrt(x * x + y * y + z * z)
    azimuth, elevation = np.arctan2(y, x), np.arcsin(z / depth)
    return _projected(points, depth, azimuth, elevation)


def _range_opencv(points: Float) -> Float:
    """The same with OpenCV's angles and lengths."""
    import cv2

    x, y, z = (np.ascontiguousarray(points[:, i]) for i in range(3))
    # One axis or two, depending on the version of OpenCV.
    flat, azimuth = (np.asarray(part, np.float32).reshape(-1) for part in cv2.cartToPolar(x, y))
    depth, elevation = (
        np.asarray(part, np.float32).reshape(-1) for part in cv2.cartToPolar(flat, z)
    )
    for angle in (azimuth, elevation):
        angle[angle > np.pi] -= np.float32(2 * np.pi)
    return _projected(points, depth, azimuth, elevation)


def _projected(points: Float, depth: Float, azimuth: Float, elevation: Float) -> Float:
    up, fov = np.deg2rad(_UP_DEG), np.deg2rad(_UP_DEG - _DOWN_DEG)
    column = np.floor(0.5 * (1 - azimuth / np.pi) * _COLUMNS).astype(np.int32) % _COLUMNS
    row = np.floor((up - elevation) / fov * _ROWS)
    row = np.clip(row, 0, _ROWS - 1).astype(np.int32)
    order = np.argsort(-depth)
    values = np.stack([depth, *points[:, :3].T, points[:, 3] / 255])[:, order]
    mean, std = (np.asarray(v, np.float32)[:, None] for v in (RANGE_MEAN, RANGE_STD))
    image = np.zeros((5, _ROWS, _COLUMNS), np.float32)
    image[:, row[order], column[order]] = (values - mean) / std
    return image


def _picture_opencv(data: bytes) -> Float:
    import cv2

    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_COLOR_4)
    if image is None:
        raise ValueError("OpenCV cannot decode the picture")
    top = (image.shape[0] - HEIGHT) // 2
    cropped = cv2.cvtColor(image[top : top + HEIGHT, :WIDTH], cv2.COLOR_BGR2RGB)
    rgb = np.asarray(cropped, np.float32)
    rgb -= np.asarray(_MEAN, np.float32)
    rgb /= np.asarray(_STD, np.float32)
    return np.ascontiguousarray(rgb.transpose(2, 0, 1))


def _has_opencv() -> bool:
    try:
        import cv2
    except ImportError:
        return False
    # One thread each: the pool has as many as there are to be.
    cv2.setNumThreads(1)
    return True
