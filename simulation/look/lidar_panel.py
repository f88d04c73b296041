"""The LiDAR of a keyframe from above: forward is up, the vehicle in the middle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ...runtime.errors import SensorError, without_remedy
from ..nuscenes import Annotation, NuScenes
from ..nuscenes.geometry import (
    Float64,
    box_corners,
    inverse_rigid,
    rotation_matrix,
    transform_points,
)
from .palette import ALARM, MUTED, PANEL, class_of, font

RANGE_M = 50.0
_FINER = 2
_DOT_PX = 3
_RING_EVERY_M = 10
#: Half width, length behind and before the rear axle of the car of nuScenes, metres.
_EGO = (0.87, 1.0, 3.1)
#: Colours of heights in the ego frame, metres above the road.
_HEIGHTS_M = (-0.5, 0.3, 1.0, 2.0, 4.0, 8.0)
_HEIGHT_COLOURS = (
    (44, 62, 122),
    (56, 110, 170),
    (66, 170, 160),
    (150, 205, 100),
    (240, 200, 90),
    (240, 130, 90),
)


def lidar_panel(
    data: NuScenes, sensor: str | None, sample_token: str, boxes: Sequence[Annotation], size: int
) -> Image.Image:
    """Draw a LiDAR sweep from above with the boxes.

    Args:
        data: the data set.
        sensor: a LiDAR, None where there is none.
        sample_token: the keyframe.
        boxes: annotations of the keyframe, global frame.
        size: width and height in pixels.

    Returns:
        RGB; says what is wrong where there is no sweep that can be read.
    """
    if sensor is None:
        return _finished(Image.new("RGB", (size * _FINER, size * _FINER), PANEL), "no LiDAR", "")
    try:
        record = data.sample_data(sensor, sample_token)
    except SensorError as error:
        return _finished(
            Image.new("RGB", (size * _FINER, size * _FINER), PANEL), sensor, str(error)
        )
    trouble = ""
    points = np.zeros((0, 3))
    try:
        cloud = np.asarray(data.read(record).payload)
        points = transform_points(data.calibration_of(record).ego_from_sensor, cloud[:, :3])
    except SensorError as error:
        trouble = without_remedy(str(error))
    panel = Image.fromarray(_dots(points, size * _FINER))
    draw = ImageDraw.Draw(panel)
    _draw_rings(draw, size * _FINER)
    _draw_boxes(draw, boxes, inverse_rigid(data.ego_pose(record)), size * _FINER)
    _draw_ego(draw, size * _FINER)
    return _finished(panel, f"{sensor.upper()}  {len(points):,} points", trouble)


def place(points_ego: Float64, size: int) -> Float64:
    """Where points of the ego frame are in a panel.

    Args:
        points_ego: `[n, 2+]`, x forward and y left, metres.
        size: of the panel in pixels.

    Returns:
        float64 `[n, 2]`, pixels to the right and down.
    """
    scale = size / (2 * RANGE_M)
    return size / 2 - scale * points_ego[:, 1::-1]


def _dots(points: Float64, size: int) -> NDArray[np.uint8]:
    pixels = np.full((size, size, 3), PANEL, np.uint8)
    # The high ones last, so that they lie on top, as seen from above.
    points = points[np.argsort(points[:, 2])]
    spots = np.floor(place(points, size)).astype(int)
    inside = np.all((spots >= 0) & (spots <= size - _DOT_PX), axis=1)
    spots, heights = spots[inside], points[inside, 2]
    channels = [
        np.interp(heights, _HEIGHTS_M, [colour[channel] for colour in _HEIGHT_COLOURS])
        for channel in range(3)
    ]
    colours = np.stack(channels, axis=1).astype(np.uint8)
    for down in range(_DOT_PX):
        for right in range(_DOT_PX):
            pixels[spots[:, 1] + down, spots[:, 0] + right] = colours
    return pixels


def _draw_rings(draw: ImageDraw.ImageDraw, size: int) -> None:
    scale, middle = size / (2 * RANGE_M), size / 2
    for metres in range(_RING_EVERY_M, int(RANGE_M) + 1, _RING_EVERY_M):
        radius = metres * scale
        draw.ellipse(
            (middle - radius, middle - radius, middle + radius, middle + radius),
            outline=(62, 70, 84),
            width=_FINER,
        )
        draw.text(
            (middle + radius * 0.7071 + 4, middle - radius * 0.7071 - 24),
            f"{metres} m",
            fill=MUTED,
            font=font(11 * _FINER),
        )


def _draw_boxes(
    draw: ImageDraw.ImageDraw, boxes: Sequence[Annotation], ego_from_global: Float64, size: int
) -> None:
    for box in boxes:
        corners = box_corners(box.translation, box.size_wlh, box.rotation)
        # Four of the eight: around the box, as seen from above.
        around = place(transform_points(ego_from_global, corners[[0, 1, 5, 4]]), size)
        turn = rotation_matrix(box.rotation)
        nose = np.asarray(box.translation) + turn[:, 0] * (box.size_wlh[1] / 2 + 0.8)
        tick = place(transform_points(ego_from_global, np.array([box.translation, nose])), size)
        _, colour = class_of(box.category)
        if not box.num_lidar_pts:
            colour = tuple(
                (part + 2 * ground) // 3 for part, ground in zip(colour, PANEL, strict=True)
            )
        outline = [(float(x), float(y)) for x, y in around]
        draw.line([*outline, outline[0]], fill=colour, width=2 * _FINER, joint="curve")
        draw.line([(float(x), float(y)) for x, y in tick], fill=colour, width=2 * _FINER)


def _draw_ego(draw: ImageDraw.ImageDraw, size: int) -> None:
    half, behind, before = _EGO
    shape = np.array(
        [
            [-behind, half],
            [before - 0.9, half],
            [before, 0],
            [before - 0.9, -half],
            [-behind, -half],
        ]
    )
    draw.polygon([(float(x), float(y)) for x, y in place(shape, size)], fill=(235, 238, 242))


def _finished(panel: Image.Image, caption: str, trouble: str) -> Image.Image:
    small = panel.resize((panel.width // _FINER, panel.height // _FINER), Image.Resampling.BOX)
    draw = ImageDraw.Draw(small)
    draw.text((10, 8), caption, fill=(235, 238, 242), font=font(15))
    draw.text((10, 28), "colour is height; faint boxes have no point", fill=MUTED, font=font(12))
    for row, start in enumerate(range(0, min(len(trouble), 240), 80)):
        draw.text((10, 50 + 20 * row), trouble[start : start + 80], fill=ALARM, font=font(14))
    return small
