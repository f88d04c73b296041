"""Wheels of everything that rolls on axles."""

from __future__ import annotations

import numpy as np

from .materials import material_index
from .shapes import Point, Shaper


def add_wheel(
    shaper: Shaper,
    centre: Point,
    radius: float,
    width: float,
    side: int,
    rim: float = 0.66,
    segments: int = 12,
    spokes: bool = True,
) -> None:
    """Tyre and rim about y.

    Args:
        shaper: where they are added.
        centre: of the wheel.
        radius: of the tyre.
        width: of the tyre.
        side: 1 shows the rim to the left (y), -1 to the right.
        rim: radius of the rim over that of the tyre.
        segments: around; even where it has spokes.
        spokes: every second segment of the rim is open (dark).
    """
    half = width / 2
    tyre, metal, dark = (material_index(m) for m in ("tyre", "rim", "dark_trim"))
    profile = [
        (radius, -half),
        (radius, 0.65 * half),
        (0.92 * radius, half),
        (rim * radius, 0.92 * half),
        (rim * radius * 0.92, 0.7 * half),
        (rim * radius * 0.3, 0.86 * half),
        (0.0, 0.9 * half),
    ]
    bands = np.full((len(profile) - 1, segments), tyre)
    bands[3:] = metal
    if spokes:
        bands[4, ::2] = dark
    shaper.lathe(
        [(r, side * along) for r, along in profile], bands, centre, 1, segments, crease_deg=35
    )


def add_axle(
    shaper: Shaper, x: float, half_track: float, radius: float, width: float, rim: float = 0.6
) -> None:
    """A wheel on each side, outer faces at `half_track`, and the bar between them."""
    for side in (-1, 1):
        add_wheel(shaper, (x, side * (half_track - width / 2), radius), radius, width, side, rim)
    shaper.box(
        (x, 0, radius), (0.25 * radius, 2 * (half_track - width), 0.25 * radius), "dark_trim"
    )
