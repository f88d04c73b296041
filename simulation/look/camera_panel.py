"""One camera of a keyframe with the boxes that it sees."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from ...runtime.errors import SensorError, without_remedy
from ..nuscenes import Annotation, NuScenes
from ..nuscenes.geometry import Float64, inverse_rigid
from .box_lines import EDGES, FRONT, NEAR_M, camera_corners, edge_segments, face_polygon
from .palette import ALARM, BACKGROUND, MUTED, PANEL, class_of, font

#: Lines are drawn so much larger and shrunk, which smooths them.
_FINER = 3
_LINE_PX = 1.6
_LABEL_PX = 13
#: Boxes lower than this get no name: it would be larger than they are.
_NAMED_FROM_PX = 12.0
_UNSEEN_OPACITY = 100


def camera_panel(
    data: NuScenes,
    sensor: str,
    sample_token: str,
    boxes: Sequence[Annotation],
    size: tuple[int, int],
) -> Image.Image:
    """Draw a camera.

    Args:
        data: the data set.
        sensor: a camera.
        sample_token: the keyframe.
        boxes: annotations of the keyframe, global frame.
        size: width and height in pixels.

    Returns:
        RGB; says what is wrong where the camera has no image that can be read.
    """
    try:
        record = data.sample_data(sensor, sample_token)
        payload = data.read(record).payload
        assert isinstance(payload, bytes)  # the reader does not decode
        picture, native_width = _decoded(payload, size)
    except (SensorError, OSError, ValueError, SyntaxError) as error:
        return _empty(sensor, without_remedy(str(error)), size)
    calibration = data.calibration_of(record)
    assert calibration.intrinsic is not None  # of a camera
    # Boxes stand still in the global frame; the vehicle has its own pose at each camera's stamp.
    global_from_camera = data.ego_pose(record) @ calibration.ego_from_sensor
    scale = size[0] / native_width
    intrinsic = np.diag([scale, scale, 1.0]) @ calibration.intrinsic
    draw_boxes(picture, boxes, inverse_rigid(global_from_camera), intrinsic)
    _caption(picture, sensor)
    return picture


def draw_boxes(
    picture: Image.Image,
    boxes: Sequence[Annotation],
    camera_from_global: Float64,
    intrinsic: Float64,
) -> None:
    """Draw boxes into a picture, the far ones first; fronts are tinted.

    Boxes without a LiDAR point are faint: nobody can know them from this keyframe.

    Args:
        picture: RGB.
        boxes: global frame.
        camera_from_global: `[4, 4]`.
        intrinsic: `[3, 3]`, in pixels of the picture.
    """
    width, height = picture.size
    finer = np.diag([_FINER, _FINER, 1.0]) @ intrinsic
    layer = Image.new("RGBA", (width * _FINER, height * _FINER))
    draw = ImageDraw.Draw(layer, "RGBA")
    placed = [(box, camera_corners(box, camera_from_global)) for box in boxes]
    seen: list[tuple[Annotation, Float64]] = []
    for box, corners in sorted(placed, key=lambda one: -float(one[1][:, 2].mean())):
        segments = edge_segments(corners, finer, layer.size, EDGES)
        # A box around the camera itself has edges everywhere and shows nothing.
        if not segments or corners[:, 2].max() < NEAR_M:
            continue
        _, colour = class_of(box.category)
        opacity = 255 if box.num_lidar_pts else _UNSEEN_OPACITY
        front = face_polygon(corners, finer, FRONT)
        if front and np.abs(front).max() < 20 * max(layer.size):
            draw.polygon(front, fill=(*colour, opacity // 5))
        for segment in segments:
            draw.line(segment, fill=(*colour, opacity), width=round(_LINE_PX * _FINER))
        seen.append((box, corners))
    smooth = layer.resize(picture.size, Image.Resampling.BOX)
    picture.paste(smooth, (0, 0), smooth)
    _name(picture, seen, intrinsic)


def _name(
    picture: Image.Image, seen: Sequence[tuple[Annotation, Float64]], intrinsic: Float64
) -> None:
    """Names above boxes, of the near ones first, each only where no other name is."""
    draw = ImageDraw.Draw(picture, "RGBA")
    letters = font(_LABEL_PX)
    taken: list[tuple[float, float, float, float]] = []
    for box, corners in reversed(seen):
        segments = edge_segments(corners, intrinsic, picture.size, EDGES)
        ends = np.array(segments).reshape(-1, 2) if segments else np.zeros((0, 2))
        if not len(ends) or not box.num_lidar_pts or np.ptp(ends[:, 1]) < _NAMED_FROM_PX:
            continue
        name, colour = class_of(box.category)
        left, top = float(ends[:, 0].min()), float(ends[:, 1].min())
        x = min(max(left, 1.0), picture.width - draw.textlength(name, letters) - 3)
        y = max(top - _LABEL_PX - 5, 1.0)
        place = draw.textbbox((x + 2, y), name, font=letters)
        place = (place[0] - 2, place[1] - 2, place[2] + 2, place[3] + 2)
        if any(_overlap(place, other) for other in taken):
            continue
        taken.append(place)
        draw.rectangle(place, fill=(*BACKGROUND, 170))
        draw.text((x + 2, y), name, fill=colour, font=letters)


def _overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _decoded(payload: bytes, size: tuple[int, int]) -> tuple[Image.Image, int]:
    """The image in the size of the panel, and its own width in pixels."""
    with Image.open(io.BytesIO(payload), formats=("JPEG", "PNG")) as image:
        native_width, native_height = image.size
        image.draft("RGB", size)
        picture = image.convert("RGB")
    # Its own aspect is kept, from the top, so that one scale holds for both axes.
    height = round(native_height * size[0] / native_width)
    fitted = Image.new("RGB", size, BACKGROUND)
    fitted.paste(picture.resize((size[0], max(1, height)), Image.Resampling.LANCZOS), (0, 0))
    return fitted, native_width


def _empty(sensor: str, reason: str, size: tuple[int, int]) -> Image.Image:
    panel = Image.new("RGB", size, PANEL)
    draw = ImageDraw.Draw(panel)
    letters = font(15)
    lines = [reason[i : i + 70] for i in range(0, min(len(reason), 280), 70)]
    for row, line in enumerate(lines):
        draw.text((16, 60 + 22 * row), line, fill=ALARM, font=letters)
    _caption(panel, sensor)
    return panel


def absent_panel(size: tuple[int, int]) -> Image.Image:
    """What stands in the place of a camera that the data set does not have."""
    panel = Image.new("RGB", size, PANEL)
    ImageDraw.Draw(panel).text((16, 10), "no camera", fill=MUTED, font=font(15))
    return panel


def _caption(panel: Image.Image, sensor: str) -> None:
    draw = ImageDraw.Draw(panel, "RGBA")
    text, letters = sensor.upper(), font(15)
    draw.rectangle((0, 0, draw.textlength(text, letters) + 16, 26), fill=(*BACKGROUND, 190))
    draw.text((8, 4), text, fill=(235, 238, 242), font=letters)
