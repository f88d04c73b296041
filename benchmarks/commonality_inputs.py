"""Writes the inputs of commonality items: pictures of all cameras, sweeps, radar returns, sound."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..runtime.errors import SensorError
from ..runtime.files import write_atomic
from ..runtime.frames import SensorFrame
from ..simulation.nuscenes.geometry import transform_points
from ..simulation.radar_returns import radar_returns
from ..simulation.street_sound import street_sound
from .commonality_items import Moment, Sense, input_file

Float = NDArray[np.float32]

#: Cameras as they stand in the picture of all, two rows of three.
_SURROUND = (
    ("cam_front_left", "cam_front", "cam_front_right"),
    ("cam_back_left", "cam_back", "cam_back_right"),
)
_TILE = (400, 225)


def write_input(folder: Path, sense: Sense, moment: Moment) -> Path:
    """Write one input, if it is not there.

    Args:
        folder: of the items.
        sense: that it is of.
        moment: that it is of.

    Returns:
        Its file.

    Raises:
        SensorError: a frame is missing or broken.
        CacheError: it cannot be written.
    """
    path = folder / input_file(sense, moment.token)
    if not path.exists():
        write_atomic(path, _surround(moment) if sense == "image" else _saved(array(sense, moment)))
    return path


def array(sense: Sense, moment: Moment) -> Float:
    """What a sense other than sight gives of a moment: points `[n, 4]` (x y z intensity, ego
    frame), radar returns `[n, 4]`, or levels of sound `[moments, microphones, bands]`."""
    if sense == "audio":
        return street_sound(moment.objects, moment.own_speed_mps, moment.rng(sense))
    cloud = _cloud(moment)
    if sense == "point":
        return cloud
    return radar_returns(moment.objects, cloud, moment.rng(sense))


def _cloud(moment: Moment) -> Float:
    frame = _frames(moment, [name for name in moment.data.sensors if name.startswith("lidar")])[0]
    points = np.asarray(frame.payload, np.float32)
    if frame.geometry is None:
        raise SensorError(
            "nobody knows where the LiDAR is", field=frame.sensor, remedy="give its calibration"
        )
    placed = transform_points(frame.geometry.ego_from_sensor, points[:, :3])
    return np.concatenate([placed, points[:, 3:4]], axis=1).astype(np.float32)


def _surround(moment: Moment) -> bytes:
    width, height = _TILE
    whole = Image.new("RGB", (width * len(_SURROUND[0]), height * len(_SURROUND)))
    for row, names in enumerate(_SURROUND):
        for column, frame in enumerate(_frames(moment, names)):
            with Image.open(BytesIO(bytes(frame.payload))) as picture:
                whole.paste(picture.convert("RGB").resize(_TILE), (column * width, row * height))
    file = BytesIO()
    whole.save(file, "JPEG", quality=88)
    return file.getvalue()


def _frames(moment: Moment, sensors: list[str] | tuple[str, ...]) -> list[SensorFrame]:
    found = moment.data.frames(moment.token, sensors)
    return [found[name] for name in sensors]


def _saved(values: Float) -> bytes:
    file = BytesIO()
    np.save(file, values, allow_pickle=False)
    return file.getvalue()
