"""Motorcycles, alone or with the person who rides them."""

from __future__ import annotations

from math import cos, sin

import numpy as np

from .mesh import Mesh, MeshKey
from .riders import add_rider
from .shapes import Floats, Point, Shaper, at


def build_motorcycle(style: str, key: MeshKey) -> Mesh:
    """A motorcycle; pose `rider` puts a person on it, inside the same box."""
    width, length, height = key.size_wlh
    rider = key.pose == "rider"
    shaper = Shaper()
    bars = height if not rider else min(0.7 * height, 0.58 * length)
    radius = min(0.152 * length, 0.29 * bars)
    rear = np.array([-length / 2 + radius, 0, radius])
    front = np.array([length / 2 - radius, 0, radius])
    seat_z, u = 0.66 * bars, length / 2.1
    for hub, wide in ((rear, 0.16), (front, 0.12)):
        half = wide * u / 2
        profile = [(0.0, -0.9), (0.56, -0.5), (0.63, -0.9), (0.9, -0.85), (1.0, -0.35)]
        profile += [(r, -along) for r, along in profile[::-1]]
        bands = ["rim", "rim", "tyre", "tyre", "tyre", "tyre", "tyre", "rim", "rim"]
        shaper.lathe([(r * radius, t * half) for r, t in profile], bands, _point(hub), 1, 16)
        shaper.cylinder(_point(hub), 0.36 * radius, 1.9 * half, "metal", 1, 10)
    head = np.array([front[0] - 0.2 * length, 0, 0.8 * bars])
    for side in (-1, 1):
        out = np.array([0, side * 0.085 * u, 0])
        slope = head - front
        shaper.tube([front + out, front + out + 0.5 * slope], 0.033 * u, "chrome", 6)
        shaper.tube([front + out + 0.45 * slope, head + out], 0.026 * u, "metal", 6)
        shaper.tube(
            [rear + out, (-0.08 * length, side * 0.1 * u, 0.4 * bars)], 0.028 * u, "metal", 5
        )
        shaper.tube(
            [rear + out + at(0.05, 0, 0.02), (-0.2 * length, side * 0.12 * u, seat_z - 0.05)],
            0.035 * u,
            "barrier_red" if key.variant % 2 else "chrome",
            6,
        )
    # Engine between frame tubes, exhaust on the right.
    shaper.block(
        (0.03 * length, 0, 0.36 * bars), (0.24 * length, 0.3 * u, 0.26 * bars), 0.04 * u, "metal"
    )
    for k in range(4):
        shaper.box(
            (0.06 * length, 0, (0.44 + 0.035 * k) * bars),
            (0.15 * length, 0.27 * u, 0.014 * u),
            "dark_trim",
        )
    shaper.tube(
        [
            head - at(0.03, 0, 0.05),
            (0.17 * length, 0, 0.32 * bars),
            (0.1 * length, 0, 0.2 * bars),
            (-0.1 * length, 0, 0.2 * bars),
            (-0.13 * length, 0, 0.55 * bars),
        ],
        0.028 * u,
        "dark_trim",
        5,
    )
    shaper.tube(
        [
            (0.14 * length, -0.1 * u, 0.36 * bars),
            (0.15 * length, -0.13 * u, 0.24 * bars),
            (0.02 * length, -0.17 * u, 0.19 * bars),
            (-0.12 * length, -0.18 * u, 0.22 * bars),
        ],
        0.03 * u,
        "chrome",
        6,
    )
    shaper.tube(
        [(-0.1 * length, -0.19 * u, 0.21 * bars), (-0.42 * length, -0.2 * u, 0.36 * bars)],
        [0.042 * u, 0.058 * u],
        "chrome",
        8,
    )
    # Tank, seat, tail, fenders.
    _add_hull(
        shaper,
        [
            (0.21, 0.06, 0.64, 0.74),
            (0.17, 0.12, 0.6, 0.82),
            (0.09, 0.15, 0.58, 0.85),
            (-0.01, 0.12, 0.57, 0.77),
            (-0.06, 0.08, 0.57, 0.68),
        ],
        length,
        bars,
        u,
        "car_paint",
    )
    _add_hull(
        shaper,
        [
            (-0.02, 0.09, 0.58, 0.68),
            (-0.08, 0.13, 0.57, 0.665),
            (-0.2, 0.13, 0.58, 0.68),
            (-0.27, 0.12, 0.62, 0.74),
            (-0.33, 0.1, 0.64, 0.75),
        ],
        length,
        bars,
        u,
        "dark_trim",
    )
    _add_hull(
        shaper,
        [
            (-0.06, 0.13, 0.48, 0.58),
            (-0.2, 0.14, 0.5, 0.59),
            (-0.34, 0.11, 0.57, 0.65),
            (-0.42, 0.06, 0.64, 0.69),
        ],
        length,
        bars,
        u,
        "car_paint",
    )
    for hub, first, last, material in (
        (front, 0.5, 2.4, "car_paint"),
        (rear, 1.2, 2.9, "dark_trim"),
    ):
        guard = [
            hub + 1.09 * radius * np.array([cos(a), 0, sin(a)]) for a in np.linspace(first, last, 6)
        ]
        shaper.tube(guard, 0.075 * u, material, 4, 0.25)
    shaper.box((-0.43 * length, 0, 0.62 * bars), (0.03, 0.16 * u, 0.06), "taillight")
    shaper.box((-0.46 * length, 0, 0.48 * bars), (0.02, 0.2, 0.14), "number_plate")
    shaper.tube(
        [(-0.4 * length, 0, 0.62 * bars), (-0.46 * length, 0, 0.5 * bars)], 0.03, "dark_trim", 4
    )
    lamp = head + at(0.1 * u, 0, 0.0)
    shaper.lathe(
        [(0.0, -0.1 * u), (0.07 * u, -0.06 * u), (0.095 * u, 0.0), (0.095 * u, 0.03 * u)],
        "dark_trim",
        tuple(lamp),
        0,
        12,
    )
    shaper.lathe(
        [(0.088 * u, 0.0), (0.08 * u, 0.02 * u), (0.0, 0.035 * u)],
        "headlight",
        tuple(lamp + at(0.025 * u, 0, 0)),
        0,
        12,
    )
    top = 0.9 * bars
    grip = width / 2
    handle = [
        np.array(p)
        for p in (
            (head[0] - 0.16 * u, -grip, top),
            (head[0] - 0.06 * u, -0.55 * grip, top + 0.01),
            (head[0] - 0.03 * u, -0.1, 0.84 * bars),
            (head[0] - 0.03 * u, 0.1, 0.84 * bars),
            (head[0] - 0.06 * u, 0.55 * grip, top + 0.01),
            (head[0] - 0.16 * u, grip, top),
        )
    ]
    shaper.tube(handle, 0.016 * u, "chrome", 5)
    for side, end, inner in ((-1, handle[0], handle[1]), (1, handle[5], handle[4])):
        shaper.tube([end, 0.4 * end + 0.6 * inner], 0.024 * u, "dark_trim", 5)
        mirror = np.array([head[0] - 0.02 * u, side * 0.8 * grip, bars - 0.045 * u])
        shaper.tube([inner * 0.7 + end * 0.3, mirror], 0.009 * u, "dark_trim", 4)
        shaper.ellipsoid(tuple(mirror), (0.02 * u, 0.07 * u, 0.045 * u), "dark_trim", 6, 2)
        shaper.box(
            (head[0] + 0.03, side * 0.17 * u, 0.76 * bars), (0.05, 0.05, 0.04), "safety_orange"
        )
        shaper.tube(
            [(0.0, side * 0.12 * u, 0.25 * bars), (0.0, side * 0.3 * u, 0.25 * bars)],
            0.018 * u,
            "dark_trim",
            4,
        )
    shaper.tube([(-0.05, 0.12, 0.22 * bars), (-0.15, 0.27 * u, 0.02)], 0.014, "metal", 4)
    if rider:
        hips = np.array([-0.1 * length, 0, 0.7 * bars])
        feet = [np.array([0.0, k * 0.2 * u, 0.27 * bars]) for k in (1, -1)]
        add_rider(
            shaper,
            1.28 * (height - hips[2]) / 0.64,
            hips,
            [handle[5], handle[0]],
            feet,
            height,
            0.24,
            key.variant,
            helmet=True,
        )
    return shaper.mesh(key.size_wlh)


def _add_hull(
    shaper: Shaper,
    sections: list[tuple[float, float, float, float]],
    length: float,
    bars: float,
    u: float,
    material: str,
) -> None:
    """A rounded skin through sections: x over length, half width, bottom and top over bars."""
    angle = np.arange(10) * (2 * np.pi / 10)
    rings = []
    for x, half, low, high in sections:
        across = np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** 0.7 * half * u
        upward = np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** 0.7 * (high - low) / 2
        rings.append(
            np.column_stack([np.full(10, x * length), across, ((low + high) / 2 + upward) * bars])
        )
    shaper.loft(np.array(rings), material, crease_deg=60)


def _point(place: Floats) -> Point:
    return (float(place[0]), float(place[1]), float(place[2]))
