"""Construction machines: an excavator on tracks and a wheel loader."""

from __future__ import annotations

import numpy as np

from .mesh import Mesh, MeshKey
from .shapes import Floats, Shaper, at
from .wheels import add_axle


def build_construction(style: str, key: MeshKey) -> Mesh:
    """A machine: `excavator` or `loader`."""
    shaper = Shaper()
    if style == "excavator":
        _add_excavator(shaper, *key.size_wlh)
    else:
        _add_loader(shaper, *key.size_wlh)
    return shaper.mesh(key.size_wlh)


def _add_excavator(shaper: Shaper, width: float, length: float, height: float) -> None:
    half = width / 2
    track, tall = 0.58 * length, 0.27 * height
    middle = -length / 2 + 0.3 * length + 0.02
    for side in (-1, 1):
        _add_track(shaper, middle, side * (half - 0.13 * width), 0.26 * width, track, tall)
    shaper.box((middle, 0, 0.19 * height), (0.3 * length, 0.5 * width, 0.12 * height), "dark_trim")
    shaper.cylinder((middle, 0, 0.29 * height), 0.3 * width, 0.08 * height, "dark_trim", 2, 16)
    # Upper carriage: deck, engine hood, counterweight.
    deck = 0.33 * height
    back = -length / 2
    shaper.block(
        (middle, 0, deck + 0.05 * height),
        (0.5 * length, 0.94 * width, 0.1 * height),
        0.05,
        "machine_yellow",
    )
    shaper.block(
        (back + 0.2 * length, 0, deck + 0.19 * height),
        (0.26 * length, 0.92 * width, 0.22 * height),
        0.08,
        "machine_yellow",
    )
    rings = []
    for z, bulge in ((0.02, 0.05), (0.05, 0.0), (0.26, 0.0), (0.3, 0.04)):
        angles = np.linspace(np.pi * 0.62, np.pi * 1.38, 7)
        arc = [
            (
                middle + 0.3 * length * np.cos(a) * (1 - bulge),
                0.74 * width * np.sin(a) * (1 - bulge),
            )
            for a in angles
        ]
        ends = [(back + 0.26 * length, arc[-1][1]), (back + 0.26 * length, arc[0][1])]
        rings.append([(x, y, deck + z * height) for x, y in arc + ends])
    shaper.loft(np.array(rings), "machine_yellow", crease_deg=35)
    for k in range(3):
        for side in (-1, 1):
            shaper.box(
                (back + 0.2 * length, side * 0.46 * width, deck + (0.13 + 0.05 * k) * height),
                (0.16 * length, 0.03, 0.025 * height),
                "dark_trim",
            )
    shaper.cylinder(
        (back + 0.24 * length, -0.25 * width, deck + 0.36 * height),
        0.05,
        0.18 * height,
        "dark_trim",
        2,
        8,
    )
    _add_cab(
        shaper,
        middle + 0.1 * length,
        0.26 * width,
        0.22 * length,
        0.38 * width,
        deck + 0.09 * height,
        0.965 * height,
    )
    # Boom, stick, bucket, and their cylinders.
    y = -0.1 * width
    foot = np.array([middle + 0.1 * length, y, deck + 0.13 * height])
    knee = np.array([middle + 0.32 * length, y, 0.9 * height])
    tip = np.array([middle + 0.53 * length, y, 0.74 * height])
    wrist = np.array([length / 2 - 0.14 * length, y, 0.24 * height])
    size = 0.1 * width
    shaper.tube(
        [foot, 0.5 * foot + 0.5 * knee + at(-0.03 * length, 0, 0.05 * height), knee, tip],
        [size * 1.1, size * 1.5, size * 1.5, size * 0.9],
        "machine_yellow",
        4,
    )
    crown = tip + at(-0.05 * length, 0, 0.1 * height)
    shaper.tube([crown, tip, wrist], [size * 0.8, size * 1.25, size * 0.75], "machine_yellow", 4)
    for side in (-1, 1):
        out = np.array([0, side * 0.11 * width, 0])
        start = np.array([middle + 0.16 * length, y, deck + 0.08 * height])
        end = 0.35 * foot + 0.65 * knee + at(0.03 * length, 0, -0.02 * height)
        _add_piston(shaper, start + out, end + out, 0.045)
    _add_piston(
        shaper, knee + at(-0.05 * length, 0, 0.07 * height), crown + at(-0.01, 0, 0.01), 0.05
    )
    _add_piston(shaper, 0.8 * tip + 0.2 * wrist + at(0.06, 0, 0), wrist + at(0.1, 0, 0.08), 0.045)
    # Bucket: an open scoop seen as a bent plate with cheeks and teeth.
    angles = np.linspace(-0.25, 1.15, 6) * np.pi
    reach = 0.12 * length
    centre = wrist + np.array([-0.2 * reach, 0, -0.12 * height])
    outer = np.array([(np.cos(-a) * reach, np.sin(-a) * 0.14 * height) for a in angles])
    _add_scoop(shaper, outer, 0.88, centre, 0.22 * width, "dark_trim")
    edge = centre + at(outer[-1][0], 0, outer[-1][1])
    for k in range(5):
        shaper.box(tuple(edge + at(0, (k - 2) * 0.1 * width, 0.02)), (0.05, 0.06, 0.16), "metal")
    shaper.box((length / 2 - 0.01, y, 0.2 * height), (0.02, 0.05, 0.02), "metal")
    shaper.box((0, y, 0.999 * height), (0.02, 0.02, 0.002), "machine_yellow")


def _add_track(shaper: Shaper, x: float, y: float, wide: float, long: float, tall: float) -> None:
    """A crawler: shoes around rollers."""
    r = tall / 2
    angle = np.linspace(-np.pi / 2, np.pi / 2, 6)
    nose = np.column_stack([long / 2 - r + r * np.cos(angle), r + r * np.sin(angle)])
    straight = np.linspace(long / 2 - r, -long / 2 + r, 9)[1:-1]
    top = np.column_stack([straight, np.full(7, tall)])
    outline = np.concatenate([nose, top, nose[::-1] * (-1, 1), top[::-1] * (1, 0)])
    rings = [
        np.column_stack(
            [outline[:, 0] + x, np.full(len(outline), y + side * wide / 2), outline[:, 1]]
        )
        for side in (-1, 1)
    ]
    shaper.loft(np.array(rings), "tyre", crease_deg=20)
    inner = [
        np.column_stack(
            [
                outline[:, 0] * 0.9 + x,
                np.full(len(outline), y + side * wide * 0.44),
                (outline[:, 1] - r) * 0.7 + r,
            ]
        )
        for side in (-1.2, 1.2)
    ]
    shaper.loft(np.array(inner), "dark_trim", crease_deg=20)
    for k in np.linspace(-1, 1, 5):
        end = abs(k) > 0.9
        size = r * (0.66 if end else 0.36)
        shaper.cylinder(
            (x + k * (long / 2 - r), y, r if end else 0.55 * r), size, wide * 1.1, "metal", 1, 12
        )
    shaper.box((x, y, 1.05 * r), (long * 0.6, wide * 1.075, 0.35 * r), "machine_yellow")
    for k in range(13):
        place = x + (k - 6) / 6 * (long / 2 - r)
        for z in (0.0, tall):
            shaper.box((place, y, z + (0.01 if z == 0 else -0.0)), (0.05, wide, 0.035), "dark_trim")


def _add_cab(
    shaper: Shaper, x: float, y: float, long: float, wide: float, low: float, high: float
) -> None:
    """A glazed cab with posts."""
    tall = high - low
    shaper.block((x, y, low + 0.14 * tall), (long, wide, 0.28 * tall), 0.03, "machine_yellow")
    shaper.block(
        (x, y, high - 0.04 * tall), (long * 1.02, wide * 1.02, 0.08 * tall), 0.03, "machine_yellow"
    )
    shaper.box((x, y, low + 0.6 * tall), (long * 0.95, wide * 0.95, 0.66 * tall), "car_glass")
    for a in (-1, 0.12, 1):
        for b in (-1, 1):
            shaper.box(
                (x + a * long * 0.47, y + b * wide * 0.47, low + 0.6 * tall),
                (0.07, 0.06, 0.7 * tall),
                "dark_trim",
            )
    shaper.box((x - long * 0.3, y, high + 0.012), (0.12, 0.12, 0.06), "safety_orange")
    for b in (-1, 1):
        shaper.box(
            (x + long * 0.5, y + b * wide * 0.35, high - 0.05 * tall),
            (0.05, 0.12, 0.08),
            "headlight",
        )


def _add_piston(shaper: Shaper, start: Floats, end: Floats, radius: float) -> None:
    middle = 0.42 * start + 0.58 * end
    shaper.tube([start, middle], radius, "dark_trim", 6)
    shaper.tube([0.5 * start + 0.5 * end, end], radius * 0.6, "chrome", 6)


def _add_scoop(
    shaper: Shaper, outer: Floats, inner: float, centre: Floats, half: float, material: str
) -> None:
    """A curved plate through `outer` (x and z about the centre, from lip to lip) with cheeks."""
    rings = []
    for x, z in outer:
        ring = [
            (x, -half, z),
            (x, half, z),
            (inner * x, half, inner * z),
            (inner * x, -half, inner * z),
        ]
        rings.append(np.array(ring) + centre)
    shaper.loft(np.array(rings), material, crease_deg=40)
    for side in (-1, 1):
        cheek = np.column_stack([outer[:, 0], np.full(len(outer), side * half), outer[:, 1]]) * (
            0.99,
            1,
            0.99,
        )
        area = (outer[:-1, 0] * outer[1:, 1] - outer[1:, 0] * outer[:-1, 1]).sum()
        shaper.panel(cheek[:: -1 if side * area > 0 else 1] + centre, material, 0.03)


def _add_loader(shaper: Shaper, width: float, length: float, height: float) -> None:
    half = width / 2
    radius = min(0.23 * height, 0.115 * length)
    back = -length / 2
    axles = [back + 0.27 * length, back + 0.68 * length]
    for x in axles:
        add_axle(shaper, x, half * 0.93, radius, 0.22 * width, 0.5)
    deck = radius * 1.3
    # Engine hood, sloping down to the back, with a grille.
    rings = []
    for x, tall, wide in (
        (0.0, 0.3, 0.36),
        (0.03, 0.36, 0.42),
        (0.36, 0.42, 0.42),
        (0.37, 0.4, 0.4),
    ):
        z1 = deck + tall * height * 0.75
        ring = [
            (wide, deck - 0.1 * height),
            (wide, z1 - 0.06),
            (wide - 0.05, z1),
            (-wide + 0.05, z1),
            (-wide, z1 - 0.06),
            (-wide, deck - 0.1 * height),
        ]
        rings.append([(back + x * length, y * width * 0.8, z) for y, z in ring])
    shaper.loft(np.array(rings), "machine_yellow", crease_deg=30)
    for k in range(5):
        shaper.box(
            (back - 0.0, 0, deck + (0.0 + 0.045 * k) * height),
            (0.03, 0.5 * width, 0.02 * height),
            "dark_trim",
        )
    shaper.block(
        (back + 0.08, 0, deck - 0.08 * height), (0.2, 0.8 * width, 0.14 * height), 0.04, "dark_trim"
    )
    shaper.cylinder(
        (back + 0.22 * length, 0.15 * width, deck + 0.4 * height),
        0.06,
        0.3 * height,
        "dark_trim",
        2,
        8,
    )
    for side in (-1, 1):
        shaper.box(
            (back + 0.01, side * 0.3 * width, deck + 0.05 * height), (0.04, 0.14, 0.1), "taillight"
        )
        for x in axles:
            shaper.block(
                (x, side * half * 0.71, 2.12 * radius),
                (2.3 * radius, 0.24 * width, 0.07),
                0.02,
                "machine_yellow",
            )
        shaper.box((0.5 * sum(axles), side * half * 0.62, 0.9 * radius), (0.5, 0.2, 0.05), "metal")
    _add_cab(
        shaper,
        back + 0.46 * length,
        0.0,
        0.2 * length,
        0.56 * width,
        deck + 0.12 * height,
        0.97 * height,
    )
    shaper.box(
        (back + 0.6 * length, 0, deck), (0.3 * length, 0.42 * width, 0.3 * height), "machine_yellow"
    )
    # Arms down to the bucket.
    bucket = length / 2 - 0.16 * length
    for side in (-1, 1):
        y = side * 0.22 * width
        shoulder = np.array([back + 0.62 * length, y, 0.55 * height])
        shaper.tube(
            [shoulder, (bucket - 0.1 * length, y, 0.42 * height), (bucket, y, 0.14 * height)],
            [0.12, 0.16, 0.1],
            "machine_yellow",
            4,
        )
        _add_piston(
            shaper,
            shoulder + at(0, 0, -0.22 * height),
            np.array([bucket - 0.12 * length, y, 0.36 * height]),
            0.05,
        )
    _add_piston(
        shaper,
        np.array([back + 0.64 * length, 0, 0.56 * height]),
        np.array([bucket - 0.02 * length, 0, 0.36 * height]),
        0.06,
    )
    scoop = np.array(
        [(0.9, -0.13), (0.1, -0.13), (-0.06, -0.05), (-0.1, 0.1), (0.0, 0.24), (0.12, 0.27)]
    ) * (0.16 * length, height)
    _add_scoop(
        shaper, scoop, 0.9, np.array([bucket + 0.016 * length, 0, 0.13 * height]), half, "metal"
    )
    for k in range(7):
        shaper.box(
            (length / 2 - 0.03, (k - 3) * 0.15 * width, 0.02), (0.14, 0.09, 0.035), "dark_trim"
        )
