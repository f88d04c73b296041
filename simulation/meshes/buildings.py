"""Buildings: walls with rows of windows, doors, shop fronts, roofs; as large as their box."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .mesh import Mesh, MeshKey
from .shapes import FLAT, Floats, Shaper, at

PANE = 1.5  # metres of the `window` texture that one pane with its blind takes
TRIANGLE_BUDGET = 1250


@dataclass(frozen=True)
class _Front:
    """One side of a building: a frame for what hangs on its wall.

    Attributes:
        origin: lower left corner seen from outside, `[3]`.
        along: unit vector to the right seen from outside.
        out: unit vector away from the wall.
        length: metres.
    """

    origin: Floats
    along: Floats
    out: Floats
    length: float

    def at(self, u: float, v: float, depth: float = 0.0) -> Floats:
        """The point u to the right, v up, and depth before the wall."""
        return self.origin + self.along * u + self.out * depth + at(0, 0, v)


def build_building(style: str, key: MeshKey) -> Mesh:
    """A building: `brick`, `plaster`, `office`, `shop` or `house`."""
    width, length, height = key.size_wlh
    rng = np.random.default_rng(key.variant + 1000 * len(style))
    shaper = Shaper()
    jut = 0.3 if style != "office" else 0.12
    wall = "brick" if style in ("brick", "shop") else "plaster"
    if style == "office":
        wall = "concrete"
    if style == "house" and rng.random() < 0.4:
        wall = "brick"
    pitched = style == "house" or (
        style in ("brick", "plaster") and width < 16 and height < 14 and bool(rng.random() < 0.6)
    )
    half = np.array([length / 2 - jut, width / 2 - jut])
    rise = min(0.42 * height, 0.42 * width) if pitched else 0.5
    eaves = height - rise
    shaper.box((0, 0, eaves / 2), (2 * half[0], 2 * half[1], eaves), wall)
    fronts = _fronts(half)
    ground = min(4.0 if style in ("shop", "office") else 3.1, eaves)
    floors = (
        max(0, int((eaves - ground) / 2.9))
        if style != "house"
        else max(0, int((eaves - 0.4) / 2.7) - 1)
    )
    if style == "house":
        ground = eaves / (floors + 1)
    storey = (eaves - ground) / floors if floors else 0.0
    spacing = {"office": 3.0, "house": 2.9, "shop": 2.8}.get(style, 2.6)
    # Large buildings get wider spacings, so that the budget of triangles holds.
    cells = sum(f.length for f in fronts) * max(floors + 1, 1) / spacing
    deep = cells * 18 < TRIANGLE_BUDGET
    spacing *= max(1.0, cells * (18 if deep else 10) / TRIANGLE_BUDGET)
    wide = min(1.3 if rng.random() < 0.5 else 1.6, 0.55 * spacing)
    for number, front in enumerate(fronts):
        if style == "office":
            _office_bands(shaper, front, ground, storey, floors, spacing)
        else:
            _windows(shaper, front, ground, storey, floors, spacing, wide, deep)
        _ground_floor(shaper, front, style, ground, spacing, number, rng, deep)
    if floors and style in ("plaster", "brick") and rng.random() < 0.7:
        for side in (1, 3):
            _balconies(shaper, fronts[side], ground, storey, floors, spacing)
    if pitched:
        _pitched_roof(shaper, length, width, eaves, height, jut, wall, rng)
    else:
        _flat_roof(shaper, half, eaves, height, jut, style, rng)
    # Plinth.
    for front in fronts:
        middle = front.at(front.length / 2, 0.2, 0.02)
        size = np.abs(front.along) * (front.length + 0.08) + np.abs(front.out) * 0.06
        shaper.box(tuple(middle), (size[0], size[1], 0.4), "concrete")
    return shaper.mesh(key.size_wlh)


def _fronts(half: Floats) -> list[_Front]:
    fronts = []
    for along, out in (((-1, 0), (0, 1)), ((0, 1), (1, 0)), ((1, 0), (0, -1)), ((0, -1), (-1, 0))):
        a, o = np.array([*along, 0.0]), np.array([*out, 0.0])
        size = np.array([*half, 0.0])
        origin = o * size - a * size
        fronts.append(_Front(origin, a, o, 2 * float(np.abs(a) @ size)))
    return fronts


def _panes(
    shaper: Shaper,
    front: _Front,
    boxes: list[tuple[float, float, float, float]],
    frame: str,
    deep: bool = True,
) -> None:
    """Windows with frames; boxes of left, bottom, width, height on the wall.

    Deep frames stand out from the wall and have sides, the others are flat.
    """
    if not boxes:
        return
    rim, out = (0.09, 0.07) if deep else (0.1, 0.03)
    glass = np.empty((len(boxes), 4, 3))
    uvs = np.empty((len(boxes), 4, 2))
    frames = np.empty((len(boxes), 12, 3))
    for k, (u, v, wide, tall) in enumerate(boxes):
        corners = ((u, v), (u + wide, v), (u + wide, v + tall), (u, v + tall))
        inner = (
            (u + rim, v + rim),
            (u + wide - rim, v + rim),
            (u + wide - rim, v + tall - rim),
            (u + rim, v + tall - rim),
        )
        glass[k] = [front.at(a, b, 0.02) for a, b in inner]
        frames[k, :4] = [front.at(a, b, 0.0) for a, b in corners]
        frames[k, 4:8] = [front.at(a, b, out) for a, b in corners]
        frames[k, 8:] = [front.at(a, b, out) for a, b in inner]
        # Whole panes of the texture, another one for each window.
        across, upward = max(1, round(wide / PANE)), max(1, round(tall / (1.3 * PANE)))
        cell = (np.array([u, v]) * 0.37 / PANE + (k * 3, k * 5)).round()
        uvs[k] = (cell + np.array([(0, 0), (across, 0), (across, upward), (0, upward)])) * PANE
    count = len(boxes)
    quad = np.array([[0, 1, 2], [0, 2, 3]])
    shaper.add(
        glass.reshape(-1, 3),
        (quad + 4 * np.arange(count)[:, None, None]).reshape(-1, 3),
        "window",
        FLAT,
        uvs.reshape(-1, 2),
    )
    ring = []
    for k in range(4):
        after = (k + 1) % 4
        if deep:
            ring += [(k, after, 4 + after), (k, 4 + after, 4 + k)]
        ring += [(4 + k, 4 + after, 8 + after), (4 + k, 8 + after, 8 + k)]
    faces = np.array(ring) + 12 * np.arange(count)[:, None, None]
    shaper.add(frames.reshape(-1, 3), faces.reshape(-1, 3), frame, FLAT)


def _windows(
    shaper: Shaper,
    front: _Front,
    ground: float,
    storey: float,
    floors: int,
    spacing: float,
    wide: float,
    deep: bool,
) -> None:
    count = int((front.length - 0.8) / spacing)
    boxes = []
    for floor in range(floors):
        for k in range(count):
            u = front.length / 2 + (k - (count - 1) / 2) * spacing - wide / 2
            v = ground + floor * storey + 0.26 * storey
            boxes.append((u, v, wide, min(1.6, 0.58 * storey)))
    _panes(shaper, front, boxes, "barrier_white", deep)


def _office_bands(
    shaper: Shaper, front: _Front, ground: float, storey: float, floors: int, spacing: float
) -> None:
    """Bands of glass from corner to corner, with metal posts in front."""
    for floor in range(floors):
        v = ground + floor * storey + 0.28 * storey
        tall = 0.6 * storey
        u0, u1 = 0.35, front.length - 0.35
        cells = max(1, round((u1 - u0) / PANE))
        corners = [
            front.at(u0, v, 0.03),
            front.at(u1, v, 0.03),
            front.at(u1, v + tall, 0.03),
            front.at(u0, v + tall, 0.03),
        ]
        start = (floor * 5) % 4
        uvs = (
            np.array(
                [
                    (start, floor),
                    (start + cells, floor),
                    (start + cells, floor + 1),
                    (start, floor + 1),
                ]
            )
            * PANE
        )
        shaper.add(corners, [(0, 1, 2), (0, 2, 3)], "window", FLAT, uvs)
        middle = front.at(front.length / 2, v - 0.14 * storey, 0.05)
        size = np.abs(front.along) * front.length + np.abs(front.out) * 0.1
        shaper.box(tuple(middle), (size[0], size[1], 0.1), "metal")
    count = max(2, round(front.length / (2 * spacing)))
    tall = storey * floors
    for k in range(count + 1):
        u = 0.2 + (front.length - 0.4) * k / count
        middle = front.at(u, ground + tall / 2, 0.05)
        shaper.box(tuple(middle), (0.14, 0.14, tall), "metal")


def _ground_floor(
    shaper: Shaper,
    front: _Front,
    style: str,
    ground: float,
    spacing: float,
    number: int,
    rng: np.random.Generator,
    deep: bool,
) -> None:
    length = front.length
    street = number in (0, 1, 2)
    if style in ("shop", "office") and street:
        # Display windows between piers, a sign band and an awning over them.
        bays = max(1, int(length / 5.0))
        bay = length / bays
        boxes = [
            (k * bay + 0.5, 0.45, bay - 1.0, ground - 1.35) for k in range(bays) if k != bays // 2
        ]
        _panes(shaper, front, boxes, "dark_trim", deep)
        _door(shaper, front, (bays // 2 + 0.5) * bay, min(2.4, bay - 1.0), ground - 0.95)
        if style == "shop":
            colours = ("barrier_red", "metal_painted", "barrier_white", "machine_yellow", "coat")
            for k in range(bays):
                middle = front.at((k + 0.5) * bay, ground - 0.42, 0.08)
                size = np.abs(front.along) * (bay - 0.35) + np.abs(front.out) * 0.16
                sign = colours[int(rng.integers(5))]
                shaper.box(tuple(middle), (size[0], size[1], 0.6), sign)
                if rng.random() < 0.5:
                    u0, u1 = k * bay + 0.4, (k + 1) * bay - 0.4
                    reach = 0.28
                    shaper.panel(
                        [
                            front.at(u0, ground - 1.15, reach),
                            front.at(u1, ground - 1.15, reach),
                            front.at(u1, ground - 0.72, 0.05),
                            front.at(u0, ground - 0.72, 0.05),
                        ],
                        sign,
                        0.04,
                    )
        return
    count = int((length - 0.8) / spacing)
    door = count // 2 if number == 1 else -1
    wide = min(1.3, 0.55 * spacing)
    tall = min(1.7, 0.5 * ground)
    boxes = []
    for k in range(count):
        u = length / 2 + (k - (count - 1) / 2) * spacing
        if k == door:
            _door(shaper, front, u, 1.1, min(2.2, 0.8 * ground))
        else:
            boxes.append((u - wide / 2, 0.32 * ground, wide, tall))
    _panes(shaper, front, boxes, "barrier_white", deep)


def _door(shaper: Shaper, front: _Front, u: float, wide: float, tall: float) -> None:
    def slab(v0: float, v1: float, half: float, depth: float, material: str) -> None:
        middle = front.at(u, (v0 + v1) / 2, depth / 2)
        size = np.abs(front.along) * 2 * half + np.abs(front.out) * depth
        shaper.box(tuple(middle), (size[0], size[1], v1 - v0), material)

    slab(0.0, tall + 0.1, wide / 2 + 0.1, 0.06, "barrier_white")
    slab(0.1, tall, wide / 2, 0.08, "metal_painted" if wide < 1.5 else "car_glass")
    slab(0.0, 0.16, wide / 2 + 0.25, 0.29, "concrete")
    slab(tall + 0.2, tall + 0.28, wide / 2 + 0.3, 0.29, "dark_trim")
    knob = front.at(u + 0.38 * wide, 0.47 * tall, 0.1)
    shaper.box(tuple(knob), (0.08, 0.08, 0.16), "chrome")


def _balconies(
    shaper: Shaper, front: _Front, ground: float, storey: float, floors: int, spacing: float
) -> None:
    count = int((front.length - 0.8) / spacing)
    # At most ten on a side: each costs as much as two windows.
    stride = max(3, -(-count * floors // 10))
    for k in range(1, count - 1, stride):
        for floor in range(floors):
            u = front.length / 2 + (k - (count - 1) / 2) * spacing
            v = ground + floor * storey
            for z, depth, tall, material in ((0.1, 0.29, 0.12, "concrete"), (0.6, 0.27, 0.9, "")):
                size = np.abs(front.along) * 0.8 * spacing + np.abs(front.out) * depth
                if material:
                    middle = front.at(u, v + z, depth / 2)
                    shaper.box(tuple(middle), (size[0], size[1], tall), material)
                else:
                    middle = front.at(u, v + z, depth)
                    thin = np.abs(front.along) * 0.8 * spacing + np.abs(front.out) * 0.03
                    shaper.box(tuple(middle), (thin[0], thin[1], tall), "metal")


def _flat_roof(
    shaper: Shaper,
    half: Floats,
    eaves: float,
    height: float,
    jut: float,
    style: str,
    rng: np.random.Generator,
) -> None:
    edge = 2 * (half + jut)
    shaper.box((0, 0, eaves + 0.05), (edge[0], edge[1], 0.22), "concrete")
    shaper.box(
        (0, 0, eaves + 0.25),
        (edge[0] - 0.3, edge[1] - 0.3, 0.2),
        "concrete" if style != "plaster" else "plaster",
    )
    for _ in range(int(rng.integers(2, 5))):
        x, y = rng.uniform(-0.7, 0.7, 2) * half
        a, b = rng.uniform(0.8, 2.4, 2)
        tall = height - eaves - 0.1
        shaper.box((x, y, height - tall / 2), (a, b, tall), "metal")


def _pitched_roof(
    shaper: Shaper,
    length: float,
    width: float,
    eaves: float,
    height: float,
    jut: float,
    wall: str,
    rng: np.random.Generator,
) -> None:
    a, b = length / 2, width / 2
    top = height - 0.12
    hip = 0.0 if rng.random() < 0.55 else 0.7 * b
    thick = 0.14
    low = eaves - 0.1
    rise = (top - low - thick) / b
    # Gables.
    if hip == 0.0:
        for side in (-1, 1):
            x = side * (a - jut)
            y = b - jut
            peak = low + thick + rise * b - 0.02
            shoulder = low + thick + rise * jut - 0.02
            outline = [
                (x, -y, low - 0.1),
                (x, y, low - 0.1),
                (x, y, shoulder),
                (x, 0, peak),
                (x, -y, shoulder),
            ]
            shaper.panel(outline[::side], wall, 0.2)
            if height - eaves > 2.4:
                v = eaves + 0.5
                front = _Front(
                    np.array([x, -side * 0.6, v]),
                    np.array([0, side * 1.0, 0]),
                    np.array([side * 1.0, 0, 0]),
                    1.2,
                )
                _panes(shaper, front, [(0.0, 0.0, 1.2, 1.2)], "barrier_white")
    for side in (-1, 1):
        face = [
            (-a, side * b, low + thick),
            (a, side * b, low + thick),
            (a - hip, 0, top),
            (-a + hip, 0, top),
        ]
        shaper.panel(face[::-side], "roof_tile", thick)
        shaper.box((0, side * (b - 0.05), low + 0.03), (2 * a, 0.1, 0.1), "metal")
        if hip:
            x = side * a
            shaper.panel(
                [(x, -b * side, low + thick), (x, b * side, low + thick), (x - side * hip, 0, top)],
                "roof_tile",
                thick,
            )
    shaper.box((0, 0, top), (2 * (a - hip), 0.22, 0.1), "roof_tile")
    x = float(rng.uniform(0.2, 0.6)) * a * float(rng.choice([-1, 1]))
    shaper.box((x, 0.25 * b, (height + top - 1.2) / 2), (0.7, 0.6, height - top + 1.2), "brick")
