"""Bicycles, alone or with the person who rides them."""

from __future__ import annotations

from math import cos, sin

import numpy as np

from .mesh import Mesh, MeshKey
from .riders import add_rider
from .shapes import Floats, Shaper, at


def build_bicycle(style: str, key: MeshKey) -> Mesh:
    """A bicycle; pose `rider` puts a person on it, inside the same box."""
    width, length, height = key.size_wlh
    rider = key.pose == "rider"
    shaper = Shaper()
    radius = 0.193 * length
    bars = height if not rider else min(0.61 * height, 0.62 * length)
    rear = np.array([-length / 2 + radius, 0, radius])
    front = np.array([length / 2 - radius, 0, radius])
    crank = np.array([-0.035 * length, 0, 0.9 * radius])
    seat = np.array([-0.14 * length, 0, 0.8 * bars])
    head_low = np.array([0.195 * length, 0, 0.62 * bars])
    head_top = np.array([0.175 * length, 0, 0.8 * bars])
    stem = np.array([0.165 * length, 0, 0.93 * bars])
    for hub in (rear, front):
        _add_spoked_wheel(shaper, hub, radius)
    tube = 0.017 * length / 1.75
    paint = "metal_painted"
    for a, b, share in (
        (crank, head_low, 1.3),
        (crank, seat, 1.0),
        (seat, head_top, 1.0),
        (head_low, head_top, 1.3),
    ):
        shaper.tube([a, b], tube * share, paint, 6)
    for side in (-1, 1):
        out = np.array([0, side * 0.05, 0])
        shaper.tube([rear + out, crank + 0.4 * out], 0.6 * tube, paint, 5)
        shaper.tube([rear + out, seat - at(0, 0, 0.06) + 0.3 * out], 0.55 * tube, paint, 5)
        shaper.tube(
            [front + out, front + out + at(-0.03, 0, radius * 1.05), head_low + 0.6 * out],
            0.75 * tube,
            paint,
            5,
        )
        pedal = crank + at(side * 0.155 * cos(0.5), side * 0.1, -side * 0.155 * sin(0.5))
        shaper.tube(
            [crank + at(0, side * 0.07, 0), pedal - at(0, side * 0.02, 0)], 0.6 * tube, "metal", 4
        )
        shaper.box(tuple(pedal), (0.1, 0.08, 0.025), "dark_trim")
    shaper.cylinder(tuple(crank + at(0, -0.055, 0)), 0.1, 0.012, "metal", 1, 14)
    shaper.cylinder(tuple(rear + at(0, -0.055, 0)), 0.045, 0.012, "metal", 1, 10)
    for z in (0.09, -0.09):
        shaper.tube(
            [crank + at(0, -0.055, z), rear + at(0, -0.055, z * 0.45)], 0.008, "dark_trim", 3
        )
    post = seat + (seat - crank) / np.linalg.norm(seat - crank) * 0.1 * bars
    shaper.tube([seat, post], 0.8 * tube, "chrome", 5)
    _add_saddle(shaper, post)
    grip = width / 2
    back = -0.14 * length / 1.75
    shaper.tube([head_top, stem], 0.9 * tube, "chrome", 5)
    handle = [
        stem + at(0.02 + back, -grip, 0.06 * bars),
        stem + at(0.05, -grip * 0.7, 0.065 * bars),
        stem + at(0.03, -0.06, 0),
        stem + at(0.03, 0.06, 0),
        stem + at(0.05, grip * 0.7, 0.065 * bars),
        stem + at(0.02 + back, grip, 0.06 * bars),
    ]
    shaper.tube(handle, 0.7 * tube, "chrome", 5)
    for side in (0, -1):
        outer, inner = handle[side], handle[1 if side == 0 else -2]
        shaper.tube([outer, 0.6 * outer + 0.4 * inner], 1.05 * tube, "dark_trim", 5)
    shaper.box(tuple(stem + at(0.1, 0, -0.08)), (0.05, 0.06, 0.06), "headlight")
    shaper.box(tuple(seat + at(-0.06, 0, -0.04)), (0.03, 0.05, 0.06), "taillight")
    for hub, first, last in ((rear, 0.9, 3.0), (front, 0.7, 2.2)):
        angles = np.linspace(first, last, 5)
        guard = [hub + 1.06 * radius * np.array([cos(a), 0, sin(a)]) for a in angles]
        shaper.tube(guard, 0.032, "dark_trim", 4, 0.3)
    if key.variant % 3 == 0:
        rack = rear + at(0.02, 0, 1.12 * radius)
        shaper.box(tuple(rack), (0.3, 0.12, 0.02), "dark_trim")
        shaper.tube([rear + at(0, 0.06, 0), rack + at(0, 0.05, 0)], 0.5 * tube, "dark_trim", 4)
        shaper.tube([rear + at(0, -0.06, 0), rack + at(0, -0.05, 0)], 0.5 * tube, "dark_trim", 4)
    if rider:
        stature = 1.28 * (height - post[2]) / 0.64
        feet = [crank + at(0.05 + k * 0.13, k * 0.1, -k * 0.075) for k in (1, -1)]
        add_rider(
            shaper,
            stature,
            post + at(0.0, 0, 0.02),
            [handle[-1] + 0.0, handle[0] + 0.0],
            feet,
            height,
            0.42,
            key.variant,
        )
    return shaper.mesh(key.size_wlh)


def _add_spoked_wheel(shaper: Shaper, hub: Floats, radius: float) -> None:
    bar = 0.058 * radius
    centre = tuple(hub)
    shaper.ring(centre, radius - bar, bar, "tyre", 20, 5)
    shaper.ring(centre, radius - 2.4 * bar, 0.5 * bar, "rim", 20, 4, 1.4)
    shaper.cylinder(centre, 0.06 * radius, 0.1, "metal", 1, 8)
    for k in range(10):
        angle = k * np.pi / 5
        way = np.array([cos(angle), 0, sin(angle)]) * (radius - 2.6 * bar)
        shaper.tube([hub + at(0, 0.03 * (-1) ** k, 0), hub + way], 0.004, "metal", 3)


def _add_saddle(shaper: Shaper, post: Floats) -> None:
    rings = []
    for x, half, z in (
        (-0.13, 0.07, 0.02),
        (-0.1, 0.085, 0.03),
        (0.0, 0.05, 0.02),
        (0.13, 0.02, 0.02),
    ):
        section = [
            (-half, -0.03),
            (half, -0.03),
            (half, 0.0),
            (0.5 * half, 0.03),
            (-0.5 * half, 0.03),
            (-half, 0.0),
        ]
        rings.append([post + at(x, y, z + up) for y, up in section])
    shaper.loft(np.array(rings), "dark_trim", crease_deg=60)
