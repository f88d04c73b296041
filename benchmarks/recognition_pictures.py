"""Pictures of what a detector saw, for looking at by eye: annotated boxes and detections."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

from ..runtime.files import open_atomic
from .recognition import SeenImage
from .recognition_targets import KINDS

_COLOURS = {
    "person": (255, 90, 90),
    "bicycle": (255, 170, 60),
    "motorcycle": (255, 170, 60),
    "car": (90, 230, 90),
    "bus": (90, 170, 255),
    "truck": (230, 110, 255),
}
_COUNTED = (255, 255, 255)
_LEFT_OUT = (120, 120, 120)


def drawn(seen: SeenImage) -> Image.Image:
    """The image with thin boxes where something is annotated, coloured ones where it was seen.

    White boxes count, grey ones do not; kinds that are not measured are left out.
    """
    picture = seen.image.copy()
    draw = ImageDraw.Draw(picture)
    for target in seen.targets:
        if any(kind.has(target.category) for kind in KINDS.values()):
            draw.rectangle(target.box, outline=_COUNTED if target.counts else _LEFT_OUT)
    for detection in seen.detections:
        colour = _COLOURS[detection.label]
        x0, y0, _, _ = detection.box
        draw.rectangle(detection.box, outline=colour, width=2)
        text = f"{detection.label} {detection.score:.2f}"
        corner = (x0 + 3, max(0.0, y0 - 11))
        draw.rectangle(draw.textbbox(corner, text), fill=(0, 0, 0))
        draw.text(corner, text, fill=colour)
    return picture


def save_picture(folder: Path, name: str, seen: SeenImage) -> Path:
    """Write the drawn image as `NAME_STAMP_CAMERA.jpg` below `folder`.

    Raises:
        CacheError: the folder cannot be written.
    """
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
    path = folder / f"{safe.lstrip('.')}_{seen.sample.stamp_ns}_{seen.camera}.jpg"
    picture = drawn(seen)
    with open_atomic(path) as file:
        picture.save(file, format="JPEG", quality=90)
    return path
