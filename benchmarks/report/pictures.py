"""Sample frames of a run as small JPEGs: what the cameras saw, and which of them were on."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from ...runtime.errors import TailwireError
from .findings import Run, RunStep

if TYPE_CHECKING:
    from ...simulation.nuscenes import NuScenes

#: Cameras stand as they look: front above, back below.
_ORDER = (
    *("cam_front_left", "cam_front", "cam_front_right"),
    *("cam_back_left", "cam_back", "cam_back_right"),
)
_TILE, _COLUMNS, _QUALITY, _FONT = (300, 169), 3, 72, 14


def sampled(run: Run, most: int) -> list[tuple[int, RunStep]]:
    """Moments to be shown, evenly spread over those that have a keyframe; with their places."""
    known = [(place, step) for place, step in enumerate(run.steps) if step.sample_token]
    if len(known) <= most:
        return known
    return [known[round(i * (len(known) - 1) / (most - 1))] for i in range(most)]


def picture(drives: Sequence[NuScenes], step: RunStep) -> str | None:
    """A sheet of all cameras at a step as a `data:` address; None where no drive has it.

    Args:
        drives: opened data sets.
        step: with a keyframe's token.
    """
    cameras = [name for name in _ORDER if name in step.states]
    cameras += [name for name in step.states if name.startswith("cam") and name not in cameras]
    token = step.sample_token
    if not cameras or token is None:
        return None
    for drive in drives:
        try:
            seen = drive.snapshot(token, [name for name in cameras if name in drive.sensors])
        except (TailwireError, KeyError):
            continue
        payloads = {name: frame.payload for name, frame in seen.frames.items()}
        return _sheet(cameras, payloads, step)
    return None


def _sheet(cameras: Sequence[str], payloads: Mapping[str, object], step: RunStep) -> str:
    columns = min(_COLUMNS, len(cameras))
    rows = -(-len(cameras) // columns)
    sheet = Image.new("RGB", (columns * _TILE[0], rows * _TILE[1]), (20, 22, 26))
    for place, name in enumerate(cameras):
        on = step.states[name] in ("on", "reused")
        tile = _tile(payloads.get(name), on)
        words = f"{name}, {step.states[name]}"
        draw = ImageDraw.Draw(tile)
        font = ImageFont.load_default(size=_FONT)
        draw.rectangle((0, 0, 10 + draw.textlength(words, font), _FONT + 7), fill=(0, 0, 0))
        draw.text((5, 2), words, fill=(255, 255, 255) if on else (255, 176, 120), font=font)
        sheet.paste(tile, (place % columns * _TILE[0], place // columns * _TILE[1]))
    file = BytesIO()
    sheet.save(file, "JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def _tile(payload: object, on: bool) -> Image.Image:
    """A camera's picture, dark where it was not used."""
    try:
        if not isinstance(payload, bytes):
            raise OSError
        with Image.open(BytesIO(payload)) as image:
            tile = image.convert("RGB").resize(_TILE)
    except (OSError, UnidentifiedImageError):
        return Image.new("RGB", _TILE, (48, 50, 56))
    return tile if on else Image.blend(tile, Image.new("RGB", _TILE, (20, 22, 26)), 0.75)
