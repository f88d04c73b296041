"""One picture of one keyframe: six cameras as they sit on the vehicle, the LiDAR, the questions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

from PIL import Image, ImageDraw

from ..nuscenes import Annotation, NuScenes, Sample
from .camera_panel import absent_panel, camera_panel
from .lidar_panel import lidar_panel
from .palette import BACKGROUND, MUTED, TEXT, class_of, font
from .question_panel import QuestionAndAnswer, question_panel

_PLACES = (
    ("cam_front_left", "cam_front", "cam_front_right"),
    ("cam_back_left", "cam_back", "cam_back_right"),
)
CAMERA_SIZE = (640, 360)
LIDAR_SIZE = 720
_HEADER = 74
_GAP = 4


def draw_keyframe(
    data: NuScenes,
    sample: Sample,
    questions: Sequence[QuestionAndAnswer] = (),
    *,
    note: str = "",
) -> Image.Image:
    """Draw a keyframe.

    Args:
        data: the data set.
        sample: the keyframe.
        questions: about it, with their answers.
        note: shown where there are no questions.

    Returns:
        RGB, 1928 x 1530 pixels. A sensor file that cannot be read is told in its place.

    Raises:
        DataError: a table of annotations is wrong.
    """
    boxes = data.annotations(sample.token)
    width = 3 * CAMERA_SIZE[0] + 2 * _GAP
    lidar_top = _HEADER + 2 * (CAMERA_SIZE[1] + _GAP)
    picture = Image.new("RGB", (width, lidar_top + LIDAR_SIZE), BACKGROUND)
    _draw_header(picture, data, sample, boxes)
    for row, sensors in enumerate(_arranged(data.sensors)):
        for column, sensor in enumerate(sensors):
            panel = (
                absent_panel(CAMERA_SIZE)
                if sensor is None
                else camera_panel(data, sensor, sample.token, boxes, CAMERA_SIZE)
            )
            left, top = column * (CAMERA_SIZE[0] + _GAP), _HEADER + row * (CAMERA_SIZE[1] + _GAP)
            picture.paste(panel, (left, top))
    lidar = next((name for name in data.sensors if "lidar" in name), None)
    picture.paste(lidar_panel(data, lidar, sample.token, boxes, LIDAR_SIZE), (0, lidar_top))
    asked = question_panel(questions, (width - LIDAR_SIZE - _GAP, LIDAR_SIZE), note)
    picture.paste(asked, (LIDAR_SIZE + _GAP, lidar_top))
    return picture


def _arranged(sensors: Sequence[str]) -> list[list[str | None]]:
    """The cameras in their places; those of another rig fill the places that stay empty."""
    known = {name for row in _PLACES for name in row}
    others = iter([name for name in sensors if name not in known and "lidar" not in name])
    return [[name if name in sensors else next(others, None) for name in row] for row in _PLACES]


def _draw_header(
    picture: Image.Image, data: NuScenes, sample: Sample, boxes: Sequence[Annotation]
) -> None:
    scene = next(one for one in data.scenes if one.token == sample.scene_token)
    place = [one.token for one in data.samples(scene)].index(sample.token)
    time = datetime.fromtimestamp(sample.stamp_ns / 1e9, timezone.utc)
    draw = ImageDraw.Draw(picture)
    draw.text((12, 8), scene.name, fill=TEXT, font=font(22))
    facts = (
        f"keyframe {place + 1} of {scene.num_samples}   {sample.token}   "
        f"{time:%Y-%m-%d %H:%M:%S.%f} UTC   {data.version}"
    )
    draw.text((24 + draw.textlength(scene.name, font(22)), 14), facts, fill=MUTED, font=font(15))
    draw.text((12, 42), _cut(draw, scene.description, 900), fill=TEXT, font=font(16))
    _draw_legend(draw, boxes, picture.width - 12)


def _draw_legend(draw: ImageDraw.ImageDraw, boxes: Sequence[Annotation], right: float) -> None:
    """The classes that are there, with how many of each, from the right."""
    counts: dict[tuple[str, tuple[int, int, int]], int] = {}
    for box in boxes:
        kind = class_of(box.category)
        counts[kind] = counts.get(kind, 0) + 1
    letters = font(15)
    for (name, colour), count in sorted(counts.items(), key=lambda one: one[1]):
        text = f"{name} {count}"
        right -= draw.textlength(text, letters)
        draw.text((right, 43), text, fill=colour, font=letters)
        right -= 14


def _cut(draw: ImageDraw.ImageDraw, text: str, width: int) -> str:
    text = " ".join(text.split())
    if draw.textlength(text, font(16)) <= width:
        return text
    while text and draw.textlength(f"{text}...", font(16)) > width:
        text = text[:-1]
    return f"{text}..."
