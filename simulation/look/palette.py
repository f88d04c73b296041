"""Names and colours of classes, and the ground that everything is drawn on."""

from __future__ import annotations

from functools import cache

from PIL import ImageFont
from PIL.ImageFont import FreeTypeFont

Colour = tuple[int, int, int]

BACKGROUND: Colour = (18, 21, 27)
PANEL: Colour = (27, 31, 39)
TEXT: Colour = (230, 233, 238)
MUTED: Colour = (138, 147, 160)
ALARM: Colour = (255, 120, 110)

#: By the beginning of a nuScenes category, the longest that fits.
_CLASSES: dict[str, tuple[str, Colour]] = {
    "vehicle.car": ("car", (255, 158, 0)),
    "vehicle.emergency": ("emergency", (255, 158, 0)),
    "vehicle.truck": ("truck", (255, 99, 71)),
    "vehicle.bus": ("bus", (255, 84, 168)),
    "vehicle.trailer": ("trailer", (214, 120, 60)),
    "vehicle.construction": ("construction", (233, 196, 80)),
    "vehicle.motorcycle": ("motorcycle", (233, 80, 96)),
    "vehicle.bicycle": ("bicycle", (240, 90, 200)),
    "human.pedestrian": ("pedestrian", (86, 156, 255)),
    "movable_object.trafficcone": ("cone", (120, 220, 232)),
    "movable_object.barrier": ("barrier", (150, 170, 190)),
    "movable_object": ("object", (150, 150, 190)),
    "static_object.bicycle_rack": ("bicycle rack", (190, 143, 143)),
    "animal": ("animal", (120, 200, 120)),
}
_OTHER: Colour = (200, 200, 200)

#: By type of question.
QUESTION_COLOURS: dict[str, Colour] = {
    "exist": (120, 220, 160),
    "count": (255, 196, 90),
    "object": (120, 180, 255),
    "status": (240, 140, 200),
    "comparison": (190, 160, 255),
}


def class_of(category: str) -> tuple[str, Colour]:
    """Short name and colour of a nuScenes category."""
    fitting = [prefix for prefix in _CLASSES if category.startswith(prefix)]
    if not fitting:
        return category.rpartition(".")[2] or category, _OTHER
    return _CLASSES[max(fitting, key=len)]


@cache
def font(size: int) -> FreeTypeFont | ImageFont.ImageFont:
    """The font that Pillow brings along, in a size in pixels."""
    return ImageFont.load_default(size)
