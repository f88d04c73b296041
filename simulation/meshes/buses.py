"""Buses: a long rounded body, a band of windows, doors on the right, a destination display."""

from __future__ import annotations

import numpy as np

from .mesh import Mesh, MeshKey
from .shapes import FLAT, Shaper, rounded_rectangle
from .wheels import add_axle


def build_bus(style: str, key: MeshKey) -> Mesh:
    """A bus: `city`, or `bendy` with a joint in the middle.

    A bendy bus below 13 m is one of its two halves, as nuScenes annotates them: the front one,
    or with the pose `rear` the other, which has the bellows before it and ends as a bus does.
    """
    width, length, height = key.size_wlh
    shaper = Shaper()
    radius = min(0.5, 0.155 * height)
    half = width / 2 * 0.93
    front, back = length / 2 - 0.03, -length / 2 + 0.03
    halved = style == "bendy" and length < 13
    rear = halved and key.pose == "rear"
    if rear:
        _add_bellows(shaper, front, 3, half, height)
        _add_shell(shaper, back, front - 0.55, half, height, (True, False))
        _add_windows(shaper, back + 0.3, front - 0.45, half, height, (0.6,))
        axles = [back + 0.32 * length]
    elif halved:
        _add_bellows(shaper, back + 0.75, 4, half, height)
        _add_shell(shaper, back + 0.75, front, half, height, (False, True))
        _add_windows(shaper, back + 1.0, front, half, height, (1, 0.45))
        axles = [front - min(2.7, 0.27 * length), back + 2.2]
    elif style == "bendy":
        joint = 0.06 * length
        _add_shell(shaper, joint, front, half, height, (False, True))
        _add_shell(shaper, back, joint - 1.3, half, height, (True, False))
        _add_bellows(shaper, joint, 7, half, height)
        _add_windows(shaper, joint + 0.25, front, half, height, (1, 0.55))
        _add_windows(shaper, back + 0.3, joint - 1.55, half, height, (0.5,))
        axles = [front - 2.7, joint + 1.6, back + 0.3 * (joint - back) - 0.4]
    else:
        _add_shell(shaper, back, front, half, height, (True, True))
        _add_windows(shaper, back + 0.3, front, half, height, (1, 0.5))
        axles = [front - min(2.7, 0.23 * length), back + 0.28 * length]
    for x in axles:
        add_axle(shaper, x, half + 0.05, radius, 0.3)
        for side in (-1, 1):
            # The open arch is a dark disc on the flank, the wheel stands out of it a little.
            shaper.cylinder(
                (x, side * (half - 0.05), radius * 1.1), radius * 1.2, 0.112, "dark_trim", 1, 14
            )
    if not rear:
        _add_front(shaper, front, half, width, height)
    if rear or not halved:
        _add_back(shaper, back, half, height)
    # What stands on the roof.
    for x, size in ((0.22 * length, 0.16), (-0.25 * length, 0.12)):
        shaper.block(
            (x, 0, height - 0.09), (size * length, half * 1.3, 0.18), 0.05, "barrier_white"
        )
    return shaper.mesh(key.size_wlh)


def _add_shell(
    shaper: Shaper, back: float, front: float, half: float, height: float, ends: tuple[bool, bool]
) -> None:
    """The painted skin; round ends where they are ends of the bus."""
    bottom, roof = 0.095 * height, height - 0.14
    middle, tall = (bottom + roof) / 2, (roof - bottom) / 2
    places = []
    if ends[0]:
        places += [(back, 0.9, 0.05), (back + 0.06, 0.96, 0.02), (back + 0.2, 1.0, 0.0)]
    else:
        places += [(back, 1.0, 0.0)]
    if ends[1]:
        places += [(front - 0.4, 1.0, 0.0), (front - 0.14, 0.97, 0.03), (front, 0.89, 0.12)]
    else:
        places += [(front, 1.0, 0.0)]
    rings = []
    for x, share, lower in places:
        ring = rounded_rectangle(half * share, tall - lower, 0.2, 2)
        rings.append(np.column_stack([np.full(len(ring), x), ring[:, 0], ring[:, 1] + middle]))
    shaper.loft(np.array(rings), "car_paint", crease_deg=38)


def _add_bellows(shaper: Shaper, front: float, folds: int, half: float, height: float) -> None:
    """The joint of a bendy bus, folds of rubber backwards from x = `front`."""
    for k in range(folds):
        x = front - 0.09 - k * 0.187
        shaper.box((x, 0, height * 0.5), (0.11, 2 * half * 0.96, height * 0.78), "dark_trim")
    size = folds * 0.187
    shaper.box(
        (front - size / 2, 0, height * 0.5), (size, 2 * half * 0.9, height * 0.74), "dark_trim"
    )


def _add_windows(
    shaper: Shaper,
    back: float,
    front: float,
    half: float,
    height: float,
    doors: tuple[float, ...],
) -> None:
    """Windows from back to front on both sides, doors on the right at shares of the way."""
    low, high = 0.4 * height, 0.845 * height
    size = front - 0.35 - back
    for side in (-1, 1):
        y = side * (half + 0.004)
        shaper.box((back + size / 2, y, (low + high) / 2), (size, 0.02, high - low), "dark_trim")
        count = max(2, round(size / 1.45))
        step = size / count
        for k in range(count):
            middle = back + (k + 0.5) * step
            reach, z0, z1 = side * (step - 0.1) / 2, low + 0.05, high - 0.05
            pane = [
                (middle + a * reach, y + side * 0.016, z)
                for a, z in ((1, z0), (-1, z0), (-1, z1), (1, z1))
            ]
            shaper.add(pane, [(0, 1, 2), (0, 2, 3)], "car_glass", FLAT)
        # A stripe along the flank.
        shaper.box(
            (back + size / 2, side * (half + 0.002), 0.33 * height),
            (size, 0.01, 0.06),
            "barrier_white",
        )
    for share in doors:
        x = back + share * size - (0.55 if share == 1 else 0)
        shaper.box((x, -half - 0.008, 0.48 * height), (1.34, 0.03, 0.74 * height), "dark_trim")
        for leaf in (-1, 1):
            shaper.box(
                (x + leaf * 0.32, -half - 0.018, 0.49 * height),
                (0.54, 0.03, 0.66 * height),
                "car_glass",
            )
            shaper.box(
                (x + leaf * 0.06, -half - 0.035, 0.4 * height),
                (0.025, 0.025, 0.3 * height),
                "chrome",
            )


def _add_front(shaper: Shaper, front: float, half: float, width: float, height: float) -> None:
    shaper.block(
        (front - 0.02, 0, 0.535 * height), (0.06, half * 1.72, 0.44 * height), 0.025, "car_glass"
    )
    shaper.block(
        (front - 0.015, 0, 0.815 * height), (0.06, half * 1.66, 0.115 * height), 0.02, "dark_trim"
    )
    # Destination: glowing figures and letters on black.
    x, z, tall = front + 0.017, 0.815 * height, 0.062 * height
    shaper.box((x, half * 0.62, z), (0.012, half * 0.14, tall), "lamp")
    shaper.box((x, half * 0.42, z), (0.012, half * 0.14, tall), "lamp")
    for k in range(7):
        shaper.box(
            (x, half * (0.16 - k * 0.125), z - (0.006 if k else 0)),
            (0.012, half * 0.085, tall * (0.8 if k else 1)),
            "lamp",
        )
    shaper.box((front + 0.005, 0, 0.53 * height), (0.03, 0.03, 0.42 * height), "dark_trim")
    shaper.block(
        (front - 0.03, 0, 0.15 * height), (0.1, half * 1.8, 0.11 * height), 0.03, "dark_trim"
    )
    shaper.box((front + 0.02, 0, 0.145 * height), (0.02, 0.52, 0.12), "number_plate")
    for side in (-1, 1):
        shaper.block(
            (front - 0.05, side * half * 0.72, 0.25 * height),
            (0.12, half * 0.28, 0.06 * height),
            0.03,
            "headlight",
        )
        shaper.tube(
            [
                (front - 0.1, side * half * 0.85, 0.83 * height),
                (front + 0.02, side * (width / 2 - 0.06), 0.82 * height),
                (front + 0.02, side * (width / 2 - 0.06), 0.74 * height),
            ],
            0.025,
            "dark_trim",
            4,
        )
        shaper.block(
            (front - 0.02, side * (width / 2 - 0.075), 0.66 * height),
            (0.1, 0.15, 0.15 * height),
            0.03,
            "dark_trim",
        )
        shaper.tube(
            [
                (front + 0.012, side * half * 0.05, 0.325 * height),
                (front + 0.02, side * half * 0.62, 0.36 * height),
            ],
            0.014,
            "dark_trim",
            4,
        )


def _add_back(shaper: Shaper, back: float, half: float, height: float) -> None:
    shaper.block(
        (back + 0.005, 0, 0.65 * height), (0.05, half * 1.45, 0.26 * height), 0.02, "car_glass"
    )
    shaper.block(
        (back + 0.0, 0, 0.855 * height), (0.05, half * 0.7, 0.07 * height), 0.02, "dark_trim"
    )
    for k in range(6):
        shaper.box(
            (back - 0.004, 0, (0.27 + 0.03 * k) * height),
            (0.03, half * 1.1, 0.016 * height),
            "dark_trim",
        )
    shaper.block(
        (back + 0.02, 0, 0.14 * height), (0.1, half * 1.75, 0.08 * height), 0.03, "dark_trim"
    )
    shaper.box((back - 0.02, 0, 0.205 * height), (0.03, 0.5, 0.12), "number_plate")
    for side in (-1, 1):
        shaper.block(
            (back + 0.01, side * half * 0.78, 0.37 * height),
            (0.06, 0.1 * half, 0.2 * height),
            0.02,
            "taillight",
        )
