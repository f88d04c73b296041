"""What stands about a road under repair: cones and barriers."""

from __future__ import annotations

import numpy as np

from .mesh import Mesh, MeshKey
from .shapes import Shaper, turned_mesh


def build_cone(style: str, key: MeshKey) -> Mesh:
    """A traffic cone with two white bands that shine back."""
    width, length, height = key.size_wlh
    shaper = Shaper()
    base = 0.055 * height
    shaper.block((0, 0, base / 2), (length, width, base), min(0.012, base / 3), "safety_orange")
    wide, slim = 0.39 * min(width, length), 0.085 * min(width, length)
    profile = []
    for z in (base, 0.32 * height, 0.5 * height, 0.64 * height, 0.78 * height, height):
        share = (z - base) / (height - base)
        profile.append((wide + (slim - wide) * share, z))
    bands = ["safety_orange", "retro_white", "safety_orange", "retro_white", "safety_orange"]
    shaper.lathe(
        [(wide * 1.15, base * 0.95), *profile, (0.0, height * 0.998)],
        ["safety_orange", *bands, "dark_trim"],
        (0, 0, 0),
        2,
        14,
    )
    return shaper.mesh(key.size_wlh)


def build_barrier(style: str, key: MeshKey) -> Mesh:
    """A barrier across the way, its long side along y or x, whichever is longer.

    Styles: `plastic`, red and white hollow segments with openings; `concrete`, the profile of
    New Jersey.
    """
    width, length, height = key.size_wlh
    turned = width > length
    long, deep = (width, length) if turned else (length, width)
    shaper = Shaper()
    if style == "concrete":
        _add_concrete(shaper, long, deep, height)
    else:
        _add_plastic(shaper, long, deep, height, key.variant)
    mesh = shaper.mesh((deep, long, height))
    return turned_mesh(mesh, 1) if turned else mesh


def _add_concrete(shaper: Shaper, long: float, deep: float, height: float) -> None:
    half = deep / 2
    section = [
        (half, 0.0),
        (half, 0.09),
        (0.62 * half, 0.38),
        (0.36 * half, 0.98),
        (0.28 * half, 1.0),
    ]
    outline = np.array(section + [(-y, z) for y, z in section[::-1]]) * (1, height)
    rings = [np.column_stack([np.full(len(outline), x), outline]) for x in (-long / 2, long / 2)]
    shaper.loft(np.array(rings), "concrete", crease_deg=25)
    for x in (-0.3, 0.3):
        for side in (-1, 1):
            shaper.box(
                (x * long, side * half * 0.5, 0.66 * height), (0.1, 0.03, 0.1), "retro_white"
            )
            shaper.box(
                (x * long, side * half * 0.92, 0.035 * height),
                (0.4, 0.1, 0.06 * height),
                "dark_trim",
            )
    for k in range(2):
        shaper.box(((k - 0.5) * long * 0.985, 0, 0.5 * height), (0.03, 0.08, 0.6 * height), "metal")


def _add_plastic(shaper: Shaper, long: float, deep: float, height: float, variant: int) -> None:
    count = max(1, round(long / 1.05))
    piece = long / count
    for k in range(count):
        middle = -long / 2 + (k + 0.5) * piece
        colour = ("barrier_red", "barrier_white")[(k + variant) % 2]
        size = piece * 0.985
        for z0, z1, d0, d1 in (
            (0.0, 0.14, 1.0, 0.96),
            (0.14, 0.42, 0.84, 0.6),
            (0.42, 0.8, 0.6, 0.5),
            (0.8, 1.0, 0.56, 0.46),
        ):
            rings = []
            for z, d in ((z0, d0), (z1, d1)):
                x, y = size / 2, d * deep / 2
                rings.append(
                    [
                        (middle + a * x, b * y, z * height)
                        for a, b in ((1, 1), (-1, 1), (-1, -1), (1, -1))
                    ]
                )
            shaper.loft(np.array(rings), colour, crease_deg=5)
        for side in (-1, 1):
            shaper.box(
                (middle, side * 0.27 * deep, 0.62 * height),
                (size * 0.8, 0.03, 0.2 * height),
                "retro_white" if colour == "barrier_red" else "barrier_red",
            )
            for x in (-0.24, 0.24):
                shaper.box(
                    (middle + x * size, side * 0.38 * deep, 0.26 * height),
                    (0.18 * size, 0.06, 0.1 * height),
                    "dark_trim",
                )
        shaper.box(
            (middle + piece / 2 - 0.02 if k < count - 1 else middle, 0, 0.97 * height),
            (0.05, 0.12 * deep, 0.05 * height),
            colour,
        )
