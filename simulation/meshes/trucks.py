"""Trucks: a cab over its engine, a frame on axles, and what the frame carries."""

from __future__ import annotations

import numpy as np

from .mesh import Mesh, MeshKey
from .shapes import Shaper, rounded_rectangle
from .wheels import add_axle

BODY_COLOURS = ("barrier_white", "metal_painted", "barrier_white", "metal")


def build_truck(style: str, key: MeshKey) -> Mesh:
    """A truck: `box`, `flatbed`, `dump` or `semi` (the tractor alone)."""
    width, length, height = key.size_wlh
    shaper = Shaper()
    radius = min(0.5, 0.17 * height, 0.09 * length)
    half = width / 2 * 0.94
    low_cab = style in ("flatbed", "dump")
    cab_length = min(2.1, 0.3 * length) if style != "semi" else min(2.3, 0.42 * length)
    cab_height = height * {"box": 0.8, "flatbed": 0.98, "dump": 0.94, "semi": 1.0}[style]
    front = length / 2
    add_cab(shaper, front, cab_length, half, width, radius, cab_height, not low_cab)
    back_of_cab = front - cab_length
    deck = radius * 2.15
    axles = [front - 0.55 * cab_length]
    rear = -length / 2 + 0.19 * length
    axles += [rear] if length < 7.5 and style != "semi" else [rear, rear + radius * 2.3]
    if style == "semi":
        axles[1:] = [-length / 2 + radius * 1.5, -length / 2 + radius * 3.7]
    for x in axles:
        first = x == axles[0]
        add_axle(shaper, x, half + 0.05 if first else half * 0.99, radius, 0.3 if first else 0.46)
    rail = length - cab_length * 0.5
    for side in (-1, 1):
        shaper.box(
            (-length / 2 + rail / 2, side * 0.4, deck - 0.16), (rail, 0.12, 0.22), "dark_trim"
        )
    room = (-length / 2, back_of_cab - 0.12)
    if style == "box":
        add_box_body(shaper, room, half, deck, height, BODY_COLOURS[key.variant % 4])
    elif style == "flatbed":
        _add_flatbed(shaper, room, half, deck, cab_height, key.variant)
    elif style == "dump":
        _add_dump_body(shaper, room, half, deck, height)
    else:
        _add_coupling(shaper, room, deck, radius)
    middle = (axles[0] + axles[-1]) / 2 + (0.4 if len(axles) > 2 else 0)
    if style != "semi":
        for side in (-1, 1):
            shaper.block(
                (middle + 0.1, side * half * 0.8, radius * 1.1),
                (min(1.3, 0.2 * length), half * 0.34, radius * 1.1),
                0.06,
                "metal",
            )
    add_rear(shaper, -length / 2, half, deck - 0.12)
    for x in axles[1:]:
        for side in (-1, 1):
            shaper.box(
                (x - radius * 1.2, side * (half - 0.25), radius * 0.95),
                (0.02, 0.45, radius * 1.1),
                "dark_trim",
            )
    return shaper.mesh(key.size_wlh)


def add_cab(
    shaper: Shaper,
    front: float,
    length: float,
    half: float,
    width: float,
    radius: float,
    height: float,
    deflector: bool,
) -> None:
    """A cab over its engine from x = `front` backwards; its wheels are somebody else's."""
    belt, bottom = 0.5 * height, 0.75 * radius
    roof = height * (0.84 if deflector else 1.0)
    top = 0.92 * roof
    levels = [  # height, how far the front has drawn back, half width
        (bottom, 0.08, 0.95),
        (bottom + 0.1, 0.0, 0.985),
        (0.28 * height, 0.0, 1.0),
        (belt, 0.03, 1.0),
        (top, 0.26, 0.955),
        (roof - 0.03, 0.36, 0.92),
        (roof, 0.5, 0.84),
    ]
    rings = []
    for z, drawn, share in levels:
        reach = (length - drawn) / 2
        back = 0.0 if z < roof else 0.06
        ring = rounded_rectangle(reach - back / 2, half * share, 0.14, 1)
        ring[:, 0] += front - drawn - reach + back / 2
        rings.append(np.column_stack([ring, np.full(len(ring), z)]))
    shaper.loft(np.array(rings), "car_paint", crease_deg=35)
    out = 0.012
    lean = (0.26 - 0.03) / (top - belt)

    def screen(z: float, y: float) -> tuple[float, float, float]:
        return (front - 0.03 - lean * (z - belt) + out, y, z)

    low, high = belt + 0.02, top - 0.02
    w0, w1 = half * 0.93, half * 0.88
    shaper.panel(
        [screen(low, -w0), screen(low, w0), screen(high, w1), screen(high, -w1)], "car_glass", 0.03
    )
    for side in (-1, 1):
        y0, y1 = side * (half + out), side * (half * 0.955 + out)
        x0, x1, x2 = front - 0.28, front - 0.48, front - 0.28 - 0.5 * min(length, 1.9)
        glass = [(x0, y0, low + 0.02), (x1, y1, high), (x2, y1, high), (x2, y0, low + 0.02)]
        shaper.panel(glass[::-side], "car_glass", 0.03)
        # Door seam, handle, step, mirror, lamp.
        seam = front - 0.28 - 0.55 * min(length, 1.9)
        shaper.box(
            (seam, side * half, (bottom + roof) / 2 * 0.95), (0.015, 0.02, roof * 0.62), "dark_trim"
        )
        shaper.box(
            (seam + 0.16, side * (half + 0.01), belt - 0.12), (0.18, 0.03, 0.04), "dark_trim"
        )
        shaper.box(
            (front - 0.55 * length, side * half * 0.985, bottom + 0.02),
            (2.5 * radius, 0.06, 0.16),
            "dark_trim",
        )
        shaper.cylinder(
            (front - 0.55 * length, side * (half - 0.05), radius * 1.08),
            radius * 1.18,
            0.11,
            "dark_trim",
            1,
            14,
        )
        shaper.block(
            (front - 0.02, side * (width / 2 - 0.08), belt + 0.3 * (top - belt) + 0.1),
            (0.1, 0.16, 0.5 * (top - belt)),
            0.03,
            "dark_trim",
        )
        shaper.tube(
            [
                (front - 0.2, side * half * 0.94, top),
                (front - 0.02, side * (width / 2 - 0.09), belt + 0.75 * (top - belt)),
            ],
            0.02,
            "dark_trim",
            4,
        )
        shaper.block(
            (front + 0.0, side * half * 0.76, bottom + 0.22),
            (0.06, half * 0.3, 0.16),
            0.02,
            "headlight",
        )
    # Bumper, grille, plate.
    shaper.block((front - 0.06, 0, bottom + 0.12), (0.16, half * 1.96, 0.32), 0.05, "dark_trim")
    for k in range(4):
        z = bottom + 0.42 + k * 0.13
        if z < belt - 0.1:
            shaper.box((front + 0.005, 0, z), (0.03, half * 1.3, 0.07), "dark_trim")
    shaper.box((front + 0.022, 0, bottom + 0.08), (0.02, 0.52, 0.12), "number_plate")
    shaper.box((front + 0.02, 0, belt - 0.08), (0.02, 0.24, 0.1), "chrome")
    if deflector:
        base, tip = front - 0.55, front - length + 0.02
        across = half * 0.84
        skin = [
            [(base, across, roof - 0.02), (base, -across, roof - 0.02)],
            [(tip, across * 1.04, roof - 0.02), (tip, -across * 1.04, roof - 0.02)],
            [(tip, across, height), (tip, -across, height)],
            [(tip + 0.35, across * 0.95, height), (tip + 0.35, -across * 0.95, height)],
        ]
        rings = np.array(skin).transpose(1, 0, 2)
        shaper.loft(rings, "car_paint", crease_deg=30)
    else:
        for k in (-2, -1, 0, 1, 2):
            shaper.box(
                (front - 0.52, k * 0.3 * half, roof + 0.01), (0.1, 0.12, 0.05), "safety_orange"
            )
    shaper.box(
        (front - 0.5 * length, 0, bottom + 0.1), (length * 0.9, half * 1.1, 0.3), "dark_trim"
    )


def add_box_body(
    shaper: Shaper,
    room: tuple[float, float],
    half: float,
    deck: float,
    height: float,
    material: str,
) -> None:
    """A closed cargo body between two x, with posts at its corners and doors behind."""
    x, size = sum(room) / 2, room[1] - room[0]
    tall = height - deck
    shaper.block(
        (x, 0, deck + tall / 2), (size - 0.04, 2 * half - 0.04, tall - 0.02), 0.03, material
    )
    for end in room:
        inner = end + 0.05 * np.sign(x - end)
        for side in (-1, 1):
            shaper.box((inner, side * (half - 0.05), deck + tall / 2), (0.1, 0.1, tall), "metal")
        for z in (deck + 0.06, height - 0.05):
            shaper.box((inner, 0, z), (0.1, 2 * half, 0.1), "metal")
    for side in (-1, 1):
        shaper.box((x, side * (half - 0.03), deck + 0.06), (size, 0.06, 0.12), "metal")
        shaper.box((x, side * (half - 0.03), height - 0.04), (size, 0.06, 0.08), "metal")
        count = max(2, int(size / 1.3))
        for k in range(1, count):
            place = room[0] + size * k / count
            shaper.box(
                (place, side * (half - 0.012), deck + tall / 2), (0.05, 0.024, tall - 0.2), material
            )
        shaper.box((x, side * half, deck + 0.06), (size * 0.9, 0.01, 0.05), "retro_white")
    back = room[0]
    shaper.box((back - 0.005, 0, deck + tall / 2), (0.02, 0.025, tall * 0.92), "dark_trim")
    for y in (-0.35, -0.12, 0.12, 0.35):
        shaper.box(
            (back - 0.02, y * 2 * half * 0.9, deck + tall / 2), (0.03, 0.03, tall * 0.92), "chrome"
        )


def add_rear(shaper: Shaper, back: float, half: float, z: float) -> None:
    """Lamps, plate and guard at the end of a frame."""
    shaper.box((back + 0.06, 0, z - 0.02), (0.1, 2 * half * 0.98, 0.16), "dark_trim")
    shaper.box((back + 0.1, 0, max(z - 0.4, 0.35)), (0.08, 2 * half * 0.9, 0.12), "metal")
    for side in (-1, 1):
        shaper.box(
            (back + 0.01, side * half * 0.8, z - 0.02), (0.04, 0.34 * half, 0.14), "taillight"
        )
        shaper.box((back + 0.1, side * half * 0.5, z - 0.2), (0.06, 0.08, 0.4), "dark_trim")
    shaper.box((back + 0.01, 0.0, z - 0.02), (0.03, 0.5, 0.12), "number_plate")


def _add_flatbed(
    shaper: Shaper, room: tuple[float, float], half: float, deck: float, height: float, variant: int
) -> None:
    x, size = sum(room) / 2, room[1] - room[0]
    shaper.box((x, 0, deck + 0.02), (size, 2 * half, 0.14), "bark")
    for side in (-1, 1):
        shaper.box((x, side * half, deck + 0.0), (size, 0.05, 0.18), "metal")
        for k in range(6):
            shaper.box(
                (room[0] + size * (k + 0.5) / 6, side * half, deck + 0.24),
                (0.06, 0.06, 0.4),
                "metal",
            )
    wall = 0.55 * (height - deck)
    shaper.box((room[1] - 0.05, 0, deck + wall / 2), (0.08, 2 * half, wall), "metal_painted")
    rng = np.random.default_rng(variant)
    if variant % 2:
        for row, count in ((0, 5), (1, 4), (2, 3)):
            for k in range(count):
                r = half * 0.18
                y = (k - (count - 1) / 2) * 2 * r
                shaper.cylinder(
                    (x, y, deck + 0.09 + r + row * r * 1.75), r, size * 0.84, "concrete", 0, 10
                )
        return
    place = room[0] + 0.25
    while place < room[1] - 0.8:
        long, tall = rng.uniform(0.8, 1.4), rng.uniform(0.35, 0.85) * wall + 0.2
        long = min(long, room[1] - 0.15 - place)
        shaper.box((place + long / 2, 0, deck + 0.09 + tall / 2), (long, half * 1.5, tall), "bark")
        for k in (0.2, 0.8):
            shaper.box(
                (place + long * k, 0, deck + 0.1 + tall / 2),
                (0.06, half * 1.52, tall + 0.03),
                "dark_trim",
            )
        place += long + 0.12


def _add_dump_body(
    shaper: Shaper, room: tuple[float, float], half: float, deck: float, height: float
) -> None:
    x0, x1 = room
    floor, rim = deck + 0.05, height - 0.02
    outer_low = [
        (x0 + 0.35, -half * 0.8),
        (x1, -half * 0.8),
        (x1, half * 0.8),
        (x0 + 0.35, half * 0.8),
    ]
    outer_high = [(x0, -half), (x1 - 0.05, -half), (x1 - 0.05, half), (x0, half)]
    wall = 0.07
    inner_high = [
        (x0 + wall, -half + wall),
        (x1 - 0.05 - wall, -half + wall),
        (x1 - 0.05 - wall, half - wall),
        (x0 + wall, half - wall),
    ]
    heap = 0.72 * (rim - floor) + floor
    inner_low = [(x + 0.05 * (0 - x) / 4, y * 0.97) for x, y in inner_high]
    rings = [
        np.column_stack([np.array(ring), np.full(4, z)])
        for ring, z in ((outer_low, floor), (outer_high, rim), (inner_high, rim), (inner_low, heap))
    ]
    middle = (x0 + x1) / 2
    shaper.loft(
        np.array(rings), "metal_painted", (None, "soil"), 20, (None, (middle, 0, rim + 0.02))
    )
    for side in (-1, 1):
        for k in range(6):
            x = x0 + 0.3 + (x1 - x0 - 0.5) * k / 5
            shaper.tube(
                [(x, side * half * 0.8, floor), (x, side * half, rim)], 0.07, "metal_painted", 4
            )
        shaper.box(
            (middle, side * (half - 0.02), rim - 0.06), (x1 - x0, 0.09, 0.12), "metal_painted"
        )
    # A lip that shelters the cab.
    shaper.box((x1 + 0.3, 0, rim - 0.04), (0.8, half * 1.9, 0.07), "metal_painted")
    shaper.tube([(x1 - 0.1, 0, deck - 0.1), (x1 - 0.08, 0, rim - 0.4)], 0.09, "chrome", 8)


def _add_coupling(shaper: Shaper, room: tuple[float, float], deck: float, radius: float) -> None:
    x = room[0] + radius * 2.6
    shaper.cylinder((x, 0, deck + 0.06), 0.48, 0.08, "metal", 2, 14)
    shaper.box((x, 0, deck), (0.9, 0.9, 0.1), "dark_trim")
    for side in (-1, 1):
        for k in (0, 1):
            axle = room[0] + radius * (1.5 + 2.2 * k)
            arch = [
                (axle + radius * 1.15 * np.cos(a), side * 0.95, radius + radius * 1.12 * np.sin(a))
                for a in np.linspace(0.3, np.pi - 0.3, 6)
            ]
            shaper.tube(arch, 0.2, "dark_trim", 4, 0.15)
        shaper.cylinder((room[1] - 0.2, side * 0.75, deck - 0.35), 0.3, 0.8, "metal", 0, 12)
    shaper.cylinder((room[1] - 0.08, -0.9, deck + 0.7), 0.08, 1.7, "chrome", 2, 8)
    shaper.tube(
        [
            (room[1] + 0.1, 0.3, deck + 0.8),
            (room[1] - 0.35, 0.2, deck + 0.35),
            (room[1] + 0.05, 0.0, deck + 0.9),
        ],
        0.025,
        "barrier_red",
        4,
    )
