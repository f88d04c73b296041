"""Trailers without their tractors."""

from __future__ import annotations

import numpy as np

from .mesh import Mesh, MeshKey
from .shapes import Shaper
from .trucks import BODY_COLOURS, add_box_body, add_rear
from .wheels import add_axle


def build_trailer(style: str, key: MeshKey) -> Mesh:
    """A trailer without its tractor: `box` or `tank`."""
    width, length, height = key.size_wlh
    shaper = Shaper()
    radius = min(0.52, 0.145 * height)
    half = width / 2
    deck = radius * 2.2
    count = 3 if length > 9 else 2 if length > 5 else 1
    axles = [-length / 2 + 0.1 * length + radius * (1 + 2.35 * k) for k in range(count)]
    for x in axles:
        add_axle(shaper, x, half * 0.97, radius, 0.38)
        for side in (-1, 1):
            shaper.box(
                (x, side * (half * 0.97 - 0.2), radius * 2.1),
                (radius * 2.1, 0.4, 0.03),
                "dark_trim",
            )
    for side in (-1, 1):
        shaper.box((0, side * 0.45, deck - 0.14), (length * 0.96, 0.12, 0.24), "dark_trim")
        leg = 0.24 * length
        shaper.box((leg, side * half * 0.55, deck / 2), (0.13, 0.13, deck), "metal")
        shaper.box((leg, side * half * 0.55, 0.04), (0.3, 0.3, 0.08), "metal")
        guard = leg - 0.5 - (axles[-1] + 1.4 * radius)
        if guard > 0.5:
            for z in (0.5, 0.8):
                shaper.box(
                    (leg - 0.5 - guard / 2, side * half * 0.93, deck * z),
                    (guard, 0.04, 0.12),
                    "metal",
                )
    if style == "box":
        add_box_body(
            shaper, (-length / 2, length / 2), half, deck, height, BODY_COLOURS[key.variant % 4]
        )
    else:
        _add_tank(shaper, length, half, deck, height)
    add_rear(shaper, -length / 2, half, deck - 0.12)
    return shaper.mesh(key.size_wlh)


def _add_tank(shaper: Shaper, length: float, half: float, deck: float, height: float) -> None:
    tall = (height - deck - 0.12) / 2
    middle = deck + tall
    reach = length / 2
    profile = [
        (0.0, -reach),
        (0.5, -reach + 0.06),
        (0.85, -reach + 0.2),
        (1.0, -reach + 0.45),
        (1.0, reach - 0.45),
        (0.85, reach - 0.2),
        (0.5, reach - 0.06),
        (0.0, reach),
    ]
    shaper.lathe(profile, "metal", (0, 0, middle), 0, 20, (1, half * 0.97, tall))
    for k in np.linspace(-0.42, 0.42, 5):
        shaper.lathe(
            [(1.0, -0.03), (1.0, 0.03)],
            "chrome",
            (k * length, 0, middle),
            0,
            20,
            (1, half, tall * 1.02),
        )
    shaper.box((0, 0, height - 0.1), (length * 0.8, 0.5, 0.06), "dark_trim")
    for k in (-0.25, 0.0, 0.25):
        shaper.cylinder((k * length, 0, height - 0.06), 0.26, 0.12, "metal", 2, 10)
    for side in (-1, 1):
        shaper.box(
            (0, side * half * 0.97, middle - tall * 0.35), (length * 0.8, 0.03, 0.1), "retro_white"
        )
        shaper.box((-reach + 0.25, side * 0.25, middle), (0.05, 0.05, 2 * tall), "metal")
    for k in range(6):
        shaper.box((-reach + 0.22, 0, deck + 0.2 + k * tall * 0.3), (0.04, 0.5, 0.04), "metal")
    shaper.box((0, 0, deck - 0.05), (length * 0.8, 1.0, 0.25), "dark_trim")
