"""Street furniture: lamps, signals, signs, benches, bins, fences, bollards, bus shelters."""

from __future__ import annotations

import numpy as np

from .mesh import Mesh, MeshKey
from .shapes import Shaper, turned_mesh


def build_lamp(style: str, key: MeshKey) -> Mesh:
    """A street lamp: a mast at the back end of its box, its light at the front end."""
    width, length, height = key.size_wlh
    shaper = Shaper()
    foot = -length / 2 + 0.09
    reach = length / 2
    shaper.lathe(
        [(0.085, 0.0), (0.085, 0.9), (0.06, 1.0), (0.045, 0.93 * height), (0.0, 0.94 * height)],
        "metal",
        (foot, 0, 0),
        2,
        8,
    )
    shaper.tube(
        [
            (foot, 0, 0.9 * height),
            (foot + 0.15 * length, 0, 0.965 * height),
            (foot + 0.45 * length, 0, 0.985 * height),
            (reach - 0.5, 0, 0.985 * height),
        ],
        0.035,
        "metal",
        6,
    )
    head = min(0.75, 0.6 * length)
    half = width / 2
    rings = []
    for x, share, tall in ((0.0, 0.5, 0.5), (0.35, 1.0, 1.0), (1.0, 0.7, 0.6)):
        section = [(-1, 0.0), (1, 0.0), (0.8, 0.8), (-0.8, 0.8)]
        rings.append(
            [
                (reach - head + x * head, y * half * share, height - 0.13 + z * 0.16 * tall)
                for y, z in section
            ]
        )
    shaper.loft(np.array(rings), "metal", crease_deg=30)
    shaper.box((reach - 0.45 * head, 0, height - 0.14), (0.7 * head, 1.2 * half, 0.03), "lamp")
    shaper.box((foot, 0, 0.6), (0.02, 0.13, 0.35), "dark_trim")
    return shaper.mesh(key.size_wlh)


def build_signal(style: str, key: MeshKey) -> Mesh:
    """A traffic signal whose lights face forward (x); poses `red`, `amber` and `green`."""
    width, length, height = key.size_wlh
    shaper = Shaper()
    shaper.cylinder((0, 0, height / 2), 0.06, height, "metal", 2, 8)
    tall = min(1.0, 0.3 * height)
    low = height - tall - 0.05
    half = min(width / 2, 0.2)
    shaper.block((0.14, 0, low + tall / 2), (0.16, 1.6 * half, tall), 0.03, "dark_trim")
    shaper.box((0.09, 0, low + tall / 2), (0.02, width, tall + 0.1), "dark_trim")
    shown = key.pose or ("green", "red", "amber")[key.variant % 3]
    for k, colour in enumerate(("green", "amber", "red")):
        z = low + tall * (k + 0.5) / 3
        r = 0.13 * tall
        lens = f"signal_{colour}" if colour == shown else "car_glass"
        shaper.cylinder((0.225, 0, z), r, 0.02, lens, 0, 12)
        shaper.tube(
            [(0.29, r * np.cos(t), z + r * np.sin(t)) for t in np.linspace(0.0, np.pi, 6)],
            0.07,
            "dark_trim",
            4,
            0.15,
        )
    shaper.box((-length / 2 + 0.12, 0, 0.28 * height), (0.24, 0.2, 0.32), "machine_yellow")
    shaper.box((length / 2 - 0.02, 0, low + 0.1), (0.04, 0.1, 0.04), "dark_trim")
    shaper.box((0, 0, 0.02), (0.3, min(width, 0.3), 0.04), "concrete")
    return shaper.mesh(key.size_wlh)


def build_sign(style: str, key: MeshKey) -> Mesh:
    """A road sign that faces forward (x): `stop` or `speed`."""
    width, length, height = key.size_wlh
    shaper = Shaper()
    size = max(width, length) / 2
    thick = min(width, length)
    post = min(0.035, thick * 0.3)
    front = thick / 2 - 0.012
    z = height - size
    shaper.cylinder((front - post - 0.02, 0, height / 2 - 0.05), post, height - 0.1, "metal", 2, 8)
    if style == "stop":
        _disc(shaper, front - 0.012, z, size / np.cos(np.pi / 8), 8, "retro_white", np.pi / 8)
        _disc(shaper, front, z, size * 0.93 / np.cos(np.pi / 8), 8, "sign_face", np.pi / 8)
        _letters(shaper, front, z, size * 0.62, "STOP")
    else:
        _disc(shaper, front - 0.012, z, size, 20, "sign_face", 0.0)
        _disc(shaper, front, z, size * 0.78, 20, "retro_white", 0.0)
        _letters(shaper, front, z, size * 0.5, ("30", "50", "20")[key.variant % 3])
    mesh = shaper.mesh((2 * size, thick, height))
    return mesh if width >= length else turned_mesh(mesh, 1)


def _disc(
    shaper: Shaper, x: float, z: float, radius: float, corners: int, material: str, turn: float
) -> None:
    angle = np.arange(corners) * 2 * np.pi / corners + turn
    outline = np.column_stack(
        [np.full(corners, x), radius * np.cos(angle), z + radius * np.sin(angle)]
    )
    shaper.panel(outline, material, 0.012)


_STROKES = {  # of letters and figures in a field of 1 x 2: from u v to u v
    "S": ((1, 2, 0, 2), (0, 2, 0, 1), (0, 1, 1, 1), (1, 1, 1, 0), (1, 0, 0, 0)),
    "T": ((0, 2, 1, 2), (0.5, 2, 0.5, 0)),
    "O": ((0, 0, 1, 0), (1, 0, 1, 2), (1, 2, 0, 2), (0, 2, 0, 0)),
    "P": ((0, 0, 0, 2), (0, 2, 1, 2), (1, 2, 1, 1), (1, 1, 0, 1)),
    "2": ((0, 2, 1, 2), (1, 2, 1, 1), (1, 1, 0, 1), (0, 1, 0, 0), (0, 0, 1, 0)),
    "3": ((0, 2, 1, 2), (1, 2, 1, 0), (0, 1, 1, 1), (0, 0, 1, 0)),
    "5": ((1, 2, 0, 2), (0, 2, 0, 1), (0, 1, 1, 1), (1, 1, 1, 0), (1, 0, 0, 0)),
    "0": ((0, 0, 1, 0), (1, 0, 1, 2), (1, 2, 0, 2), (0, 2, 0, 0)),
}


def _letters(shaper: Shaper, x: float, z: float, half: float, text: str) -> None:
    """Strokes of letters, read from before the sign."""
    material = "retro_white" if len(text) > 2 else "dark_trim"
    step = 2 * half / len(text)
    wide, bar = 0.66 * step, 0.2 * step
    tall = min(1.5 * wide, half)
    for k, letter in enumerate(text):
        # Seen from the front, y grows to the right when one looks along -x.
        left = -half + (k + 0.5) * step - wide / 2
        for u0, v0, u1, v1 in _STROKES[letter]:
            y = left + (u0 + u1) / 2 * wide
            size_y = abs(u1 - u0) * wide + bar
            size_z = abs(v1 - v0) / 2 * tall * 1.4 + bar
            shaper.box(
                (x + 0.003, y, z + ((v0 + v1) / 4 - 0.5) * tall * 1.4),
                (0.01, size_y, size_z),
                material,
            )


def build_bench(style: str, key: MeshKey) -> Mesh:
    """A bench; who sits on it looks to the left (y), or forward (x) if it is wider than long."""
    width, length, height = key.size_wlh
    turned = width > length
    long, deep = max(width, length), min(width, length)
    shaper = Shaper()
    seat = 0.53 * height
    for k in range(4):
        shaper.box((0, deep * (0.42 - 0.2 * k), seat), (long, 0.16 * deep, 0.05), "bark")
    for k in range(3):
        z = seat + (height - seat) * (0.3 + 0.29 * k)
        shaper.box((0, -deep * (0.36 + 0.05 * k), z), (long, 0.05, 0.22 * (height - seat)), "bark")
    for side in (-1, 1):
        x = side * 0.42 * long
        shaper.tube([(x, 0.4 * deep, 0), (x, 0.38 * deep, seat)], 0.03, "dark_trim", 5)
        shaper.tube(
            [(x, -0.4 * deep, 0), (x, -0.3 * deep, seat), (x, -0.44 * deep, height)],
            0.03,
            "dark_trim",
            5,
        )
        shaper.box((x, 0, seat - 0.05), (0.05, 0.8 * deep, 0.05), "dark_trim")
    return _turned(shaper, deep, long, height, turned)


def build_bin(style: str, key: MeshKey) -> Mesh:
    """A litter bin."""
    width, length, height = key.size_wlh
    shaper = Shaper()
    r = 0.5
    profile = [
        (0.82 * r, 0.0),
        (0.9 * r, 0.06),
        (0.95 * r, 0.75),
        (r, 0.76),
        (r, 0.8),
        (0.92 * r, 0.82),
        (0.92 * r, 0.9),
        (r, 0.91),
        (0.85 * r, 0.97),
        (0.0, 1.0),
    ]
    bands = [
        "dark_trim",
        "metal_painted",
        "metal",
        "metal",
        "dark_trim",
        "dark_trim",
        "metal",
        "metal",
        "metal",
    ]
    shaper.lathe([(a, b * height) for a, b in profile], bands, (0, 0, 0), 2, 12, (length, width, 1))
    return shaper.mesh(key.size_wlh)


def build_fence(style: str, key: MeshKey) -> Mesh:
    """A railing of bars between posts, along its longer side."""
    width, length, height = key.size_wlh
    turned = width > length
    long, deep = max(width, length), min(width, length)
    shaper = Shaper()
    count = max(1, round(long / 2.0))
    for k in range(count + 1):
        x = (k / count - 0.5) * (long - 0.06)
        shaper.box((x, 0, height / 2), (0.06, deep, height), "dark_trim")
    for z in (0.12, 0.9):
        shaper.box((0, 0, z * height), (long, 0.5 * deep, 0.04), "dark_trim")
    bars = int(min(40, long / 0.16))
    for k in range(bars):
        x = ((k + 0.5) / bars - 0.5) * long
        shaper.box((x, 0, 0.5 * height), (0.022, min(0.022, deep), 0.78 * height), "dark_trim")
    return _turned(shaper, deep, long, height, turned)


def build_bollard(style: str, key: MeshKey) -> Mesh:
    """A bollard with a band that shines back."""
    width, length, height = key.size_wlh
    shaper = Shaper()
    profile = [
        (0.5, 0.0),
        (0.5, 0.05),
        (0.42, 0.06),
        (0.42, 0.72),
        (0.42, 0.84),
        (0.42, 0.93),
        (0.3, 0.98),
        (0.0, 1.0),
    ]
    bands = ["metal", "metal", "dark_trim", "retro_white", "dark_trim", "dark_trim", "dark_trim"]
    shaper.lathe([(a, b * height) for a, b in profile], bands, (0, 0, 0), 2, 10, (length, width, 1))
    return shaper.mesh(key.size_wlh)


def build_shelter(style: str, key: MeshKey) -> Mesh:
    """A bus stop: glass walls under a roof, a bench, a poster.

    Open to the left (y), or forward (x) if it is wider than long.
    """
    width, length, height = key.size_wlh
    turned = width > length
    long, deep = max(width, length), min(width, length)
    shaper = Shaper()
    a, b = long / 2 - 0.06, deep / 2 - 0.06
    shaper.block((0, 0, height - 0.07), (long, deep, 0.14), 0.03, "dark_trim")
    for x in (-a, 0, a):
        shaper.box((x, -b + 0.1, height / 2), (0.08, 0.08, height), "metal")
    for x in (-a, a):
        shaper.box((x, b - 0.5 * deep, height / 2), (0.08, 0.08, height), "metal")
    for x in (-a / 2, a / 2):
        shaper.box((x, -b + 0.1, 0.5 * height), (a - 0.12, 0.02, 0.72 * height), "car_glass")
    shaper.box((-a, -0.1 * deep, 0.5 * height), (0.02, 0.5 * deep, 0.72 * height), "car_glass")
    shaper.box((a, -0.1 * deep, 0.47 * height), (0.12, 0.6 * deep, 0.74 * height), "dark_trim")
    for side in (-1, 1):
        shaper.box(
            (a + side * 0.06, -0.1 * deep, 0.48 * height),
            (0.01, 0.52 * deep, 0.64 * height),
            ("barrier_red", "barrier_white", "machine_yellow")[key.variant % 3],
        )
    shaper.box((-0.1 * long, -b + 0.35, 0.45), (0.6 * long, 0.35, 0.05), "bark")
    for x in (-0.35, 0.15):
        shaper.box((x * long, -b + 0.3, 0.22), (0.06, 0.25, 0.44), "metal")
    return _turned(shaper, deep, long, height, turned)


def _turned(shaper: Shaper, deep: float, long: float, height: float, turned: bool) -> Mesh:
    """The mesh of a shaper, long along x; if turned, a quarter to the right: its y becomes x."""
    mesh = shaper.mesh((deep, long, height))
    return turned_mesh(mesh, -1) if turned else mesh
