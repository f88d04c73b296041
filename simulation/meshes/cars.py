"""Cars: one skin lofted through the silhouette of a style, with wheels, lights and mirrors.

The skin has columns along the car and rows around it. The upper rows follow the top line of the
style (bonnet, windscreen, roof, rear window, boot), the lower ones arch over the wheels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .materials import material_index
from .mesh import Mesh, MeshKey
from .shapes import Shaper
from .wheels import add_wheel


@dataclass(frozen=True)
class CarStyle:
    """Proportions of a kind of car; x from 0 at the front to 1 at the back, z from 0 to 1.

    Attributes:
        top: x at the belt, x at the top and height of the points of the top line, front to back.
        windscreen: numbers of the points in `top` where the windscreen begins and ends.
        rear_window: the same of the rear window.
        windows: from x to x at the belt, of each side window.
        belt: heights of the belt line at the front, at the windscreen, and at the back.
        axles: of front and rear.
        wheel: radius over length.
        roof_width: half width of the roof over that of the body.
        bed: the part behind the cab is an open bed, from this x on; 1 for none.
    """

    top: tuple[tuple[float, float, float], ...]
    windscreen: tuple[int, int]
    rear_window: tuple[int, int]
    windows: tuple[tuple[float, float], ...]
    belt: tuple[float, float, float]
    axles: tuple[float, float]
    wheel: float = 0.073
    roof_width: float = 0.7
    bed: float = 1.0


STYLES = {
    "sedan": CarStyle(
        top=((0, 0.0, 0.47), (0.035, 0.035, 0.54), (0.15, 0.15, 0.6), (0.265, 0.265, 0.645),
             (0.32, 0.43, 0.955), (0.45, 0.5, 0.99), (0.55, 0.57, 1.0), (0.7, 0.67, 0.985),
             (0.79, 0.73, 0.95), (0.855, 0.865, 0.71), (0.93, 0.94, 0.69), (1, 0.995, 0.66)),
        windscreen=(3, 4), rear_window=(8, 9),
        windows=((0.325, 0.525), (0.55, 0.735), (0.75, 0.785)),
        belt=(0.46, 0.6, 0.655), axles=(0.2, 0.8),
    ),
    "hatchback": CarStyle(
        top=((0, 0.0, 0.45), (0.04, 0.04, 0.53), (0.13, 0.13, 0.59), (0.245, 0.245, 0.64),
             (0.31, 0.43, 0.95), (0.45, 0.52, 0.99), (0.62, 0.62, 1.0), (0.8, 0.78, 0.985),
             (0.89, 0.9, 0.945), (0.965, 0.965, 0.66), (1, 0.99, 0.6)),
        windscreen=(3, 4), rear_window=(8, 9),
        windows=((0.315, 0.56), (0.585, 0.79), (0.81, 0.87)),
        belt=(0.44, 0.59, 0.64), axles=(0.19, 0.82), wheel=0.078,
    ),
    "suv": CarStyle(
        top=((0, 0.0, 0.5), (0.025, 0.025, 0.58), (0.14, 0.14, 0.62), (0.25, 0.25, 0.655),
             (0.31, 0.4, 0.955), (0.45, 0.5, 0.99), (0.62, 0.62, 1.0), (0.82, 0.82, 0.985),
             (0.91, 0.925, 0.95), (0.965, 0.965, 0.67), (1, 0.992, 0.62)),
        windscreen=(3, 4), rear_window=(8, 9),
        windows=((0.315, 0.53), (0.555, 0.735), (0.755, 0.885)),
        belt=(0.5, 0.615, 0.64), axles=(0.195, 0.8), wheel=0.08, roof_width=0.76,
    ),
    "van": CarStyle(
        top=((0, 0.0, 0.36), (0.02, 0.02, 0.43), (0.08, 0.08, 0.48), (0.14, 0.14, 0.525),
             (0.19, 0.27, 0.93), (0.3, 0.33, 0.985), (0.5, 0.5, 1.0), (0.8, 0.8, 0.995),
             (0.955, 0.965, 0.965), (0.975, 0.985, 0.62), (1, 0.994, 0.5)),
        windscreen=(3, 4), rear_window=(8, 9),
        windows=((0.195, 0.36), (0.39, 0.62), (0.65, 0.91)),
        belt=(0.36, 0.5, 0.52), axles=(0.17, 0.78), wheel=0.068, roof_width=0.84,
    ),
    "pickup": CarStyle(
        top=((0, 0.0, 0.5), (0.02, 0.02, 0.575), (0.12, 0.12, 0.605), (0.22, 0.22, 0.635),
             (0.27, 0.335, 0.955), (0.36, 0.4, 0.99), (0.45, 0.45, 1.0), (0.53, 0.53, 0.98),
             (0.575, 0.57, 0.945), (0.6, 0.595, 0.64), (0.612, 0.605, 0.47), (0.965, 0.965, 0.47),
             (0.975, 0.975, 0.62), (1, 0.995, 0.6)),
        windscreen=(3, 4), rear_window=(8, 9),
        windows=((0.275, 0.425), (0.445, 0.565)),
        belt=(0.5, 0.6, 0.615), axles=(0.17, 0.77), wheel=0.07, roof_width=0.78, bed=0.602,
    ),
}  # fmt: skip


def build_car(style_name: str, key: MeshKey) -> Mesh:
    """A car of a style in `STYLES` that fills the box of its key."""
    style = STYLES[style_name]
    width, length, height = key.size_wlh
    shaper = Shaper()
    # Mirrors stand out by 6 % on each side: the body is that much narrower than the box.
    half = width / 2 * 0.925
    radius = min(style.wheel * length, 0.27 * height)
    axles = [(0.5 - x) * length for x in style.axles]
    _add_body(shaper, style, length, half, height, radius)
    tyre = 0.125 * width
    for x in axles:
        for side in (-1, 1):
            add_wheel(shaper, (x, side * (half * 0.985 - tyre / 2), radius), radius, tyre, side)
    _add_face(shaper, style, length, half, height)
    _add_back(shaper, style, length, half, height)
    _add_sides(shaper, style, length, width, half, height)
    return shaper.mesh(key.size_wlh)


def _plan(x: np.ndarray) -> np.ndarray:
    """Half width over the greatest, seen from above: corners drawn in."""
    return np.interp(
        x,
        [0, 0.012, 0.035, 0.09, 0.2, 0.8, 0.92, 0.97, 0.99, 1],
        [0.7, 0.83, 0.91, 0.965, 1, 1, 0.97, 0.92, 0.86, 0.76],
    )


def _add_body(
    shaper: Shaper, style: CarStyle, length: float, half: float, height: float, radius: float
) -> None:
    top = np.array(style.top)
    arch = radius * 1.13
    marks = [0.012, 0.985, *(x for x, _, _ in style.top)]
    marks += [x for window in style.windows for x in window]
    angles = np.radians([0, 3, 27, 58, 90, 122, 153, 177, 180])
    arches = [axle - np.cos(angles) * arch / length for axle in style.axles]
    in_arch = [(a[0] - 0.004, a[-1] + 0.004) for a in arches]
    columns = [x for x in marks if not any(a < x < b for a, b in in_arch)]
    needed = set(x for window in style.windows for x in window) | {t[0] for t in style.top}
    columns += [x for x in needed if any(a < x < b for a, b in in_arch)]
    columns = np.unique(np.round(np.concatenate([columns, *arches]), 5))
    x_top = np.interp(columns, top[:, 0], top[:, 1])
    z_top = np.interp(columns, top[:, 0], top[:, 2]) * height
    cowl, tail = style.top[style.windscreen[0]][0], style.top[style.rear_window[1]][0]
    belt = (
        np.interp(
            columns,
            [0, 0.04, cowl, tail, 1],
            [style.belt[0] - 0.04, style.belt[0] + 0.03, *style.belt[1:], style.belt[2] - 0.02],
        )
        * height
    )
    belt = belt if style.bed < 1 else np.minimum(belt, z_top - 0.012 * height)
    # How much of a cabin stands over the belt here: 0 on bonnet and boot, 1 under the roof.
    cabin = np.clip((z_top - belt) / (0.3 * height), 0, 1)
    y = half * _plan(columns)
    y_top = y * (0.9 + (style.roof_width - 0.9) * cabin)
    sill = np.interp(columns, [0, 0.05, 0.1, 0.9, 1], [0.16, 0.125, 0.12, 0.13, 0.2]) * height
    low = sill.copy()
    for axle in style.axles:
        inside = np.maximum(arch**2 - ((columns - axle) * length) ** 2, 0)
        low = np.maximum(low, np.where(inside > 0, radius + np.sqrt(inside), 0))
    lower = np.maximum(sill + 0.1 * height, low + 0.018 * height)
    waist = np.maximum(0.72 * belt + 0.28 * sill, lower + 0.015 * height)
    x = (0.5 - columns) * length
    x_roof = (0.5 - x_top) * length
    crown = (0.018 + 0.03 * cabin) * height
    # The nose and the tail lean: the bumper stands out most at about two fifths of the height.
    lean = np.interp(columns, [0, 0.02, 0.05, 0.95, 0.98, 1], [1, 0.6, 0, 0, -0.5, -1]) * length
    in_bed = (columns > style.bed) & (columns < 0.97)
    edge = np.where(in_bed, belt, z_top - crown)
    side = [
        (x - 0.016 * lean, y * 0.9, low),
        (x - 0.002 * lean, y * 0.975, lower),
        (x, y, waist),
        (x - 0.006 * lean, y * 0.985, np.maximum(belt - 0.05 * height, waist + 0.005)),
        (x - 0.012 * lean, y * 0.955, belt),
        (
            x + 0.86 * (x_roof - x),
            y * 0.945 + 0.86 * (y_top - y * 0.945),
            belt + 0.86 * (edge - belt),
        ),
        (x_roof, y_top, edge),
        (x_roof, np.where(in_bed, y_top * 0.985, y_top * 0.6), z_top - crown * 0.2),
    ]
    # The windscreen bulges forward in the middle, as the rear window does backward.
    bulge = 0.012 * length * np.sign(0.5 - columns) * cabin * (1 - cabin) * 4
    left = np.array([np.column_stack(row) for row in side])
    left[6:, :, 0] += (np.array([0, 0.8])[:, None] * bulge)[:, :]
    right = left[::-1] * (1, -1, 1)
    middle = np.column_stack([x_roof + bulge, np.zeros_like(x), z_top])[None]
    rings = np.concatenate([left, middle, right]).transpose(1, 0, 2)
    materials = _body_materials(style, columns, rings.shape[1])
    shaper.loft(rings, materials, ("car_paint", "car_paint"), crease_deg=38)
    # Axles and what hangs between them: nobody looks through a car from wheel to wheel.
    for axle in style.axles:
        shaper.box(
            ((0.5 - axle) * length, 0, radius * 1.25), (arch * 1.7, half * 1.3, radius), "dark_trim"
        )


def _body_materials(style: CarStyle, columns: np.ndarray, around: int) -> np.ndarray:
    paint, glass, trim = (material_index(m) for m in ("car_paint", "car_glass", "dark_trim"))
    materials = np.full((len(columns) - 1, around), paint)
    middles = (columns[:-1] + columns[1:]) / 2
    rows = np.arange(around)
    glazing = (rows == 4) | (rows == around - 6)
    across = (rows >= 6) & (rows <= around - 8)
    for start, end in style.windows:
        inside = (middles > start) & (middles < end)
        materials[np.ix_(inside, glazing)] = glass
    # Between two side windows the pillar is dark, as it is on most cars.
    for (_, start), (end, _) in zip(style.windows, style.windows[1:], strict=False):
        inside = (middles > start) & (middles < end)
        materials[np.ix_(inside, glazing)] = trim
    for first, last in (style.windscreen, style.rear_window):
        inside = (middles > style.top[first][0]) & (middles < style.top[last][0])
        materials[np.ix_(inside, across)] = glass
    if style.bed < 1:
        inside = (middles > style.bed) & (middles < 0.97)
        inner = (rows >= 6) & (rows <= around - 8)
        materials[np.ix_(inside, inner)] = trim
    materials[:, 0] = materials[:, around - 2] = paint
    materials[:, around - 1] = trim
    return materials


def _add_face(shaper: Shaper, style: CarStyle, length: float, half: float, height: float) -> None:
    x = length / 2
    lamp = (style.belt[0] - 0.045) * height
    tall = 0.085 * height
    for side in (-1, 1):
        # A lamp wraps around the corner: a short bar bent along the plan of the body.
        path = [
            (x - 0.006 * length, side * half * 0.5, lamp),
            (x - 0.021 * length, side * half * 0.8, lamp + 0.01 * height),
            (x - 0.055 * length, side * half * 0.915, lamp + 0.025 * height),
        ]
        shaper.tube(path, [tall * 0.4, tall * 0.5, tall * 0.28], "headlight", 6)
        shaper.box(
            (x - 0.004 * length, side * half * 0.62, 0.2 * height),
            (0.02, 0.16 * half, 0.035 * height),
            "dark_trim",
        )
    shaper.block(
        (x - 0.008, 0, lamp - 0.01 * height), (0.05, half * 0.82, tall * 0.75), 0.012, "dark_trim"
    )
    shaper.box((x + 0.012, 0, lamp - 0.002 * height), (0.02, half * 0.18, 0.03 * height), "chrome")
    shaper.block(
        (x - 0.01, 0, 0.215 * height), (0.05, half * 1.0, 0.08 * height), 0.012, "dark_trim"
    )
    shaper.box((x + 0.004, 0, 0.315 * height), (0.024, 0.5, 0.11), "number_plate")


def _add_back(shaper: Shaper, style: CarStyle, length: float, half: float, height: float) -> None:
    x = -length / 2
    upright = style.rear_window[1] > 0 and style.top[style.rear_window[1]][0] > 0.93
    lamp = (style.belt[2] - (0.09 if not upright else 0.1)) * height
    tall = (0.06 if not upright else 0.13) * height
    if style.bed < 1:
        lamp, tall = 0.5 * height, 0.11 * height
    for side in (-1, 1):
        path = [
            (x + 0.012 * length, side * half * 0.6, lamp),
            (x + 0.022 * length, side * half * 0.82, lamp),
            (x + 0.06 * length, side * half * 0.92, lamp),
        ]
        shaper.tube(path, [tall * 0.6, tall * 0.65, tall * 0.45], "taillight", 6)
    shaper.block(
        (x + 0.012, 0, 0.21 * height), (0.05, half * 1.35, 0.07 * height), 0.012, "dark_trim"
    )
    plate = 0.47 if not upright and style.bed == 1 else 0.36
    shaper.box((x + 0.002, 0, plate * height), (0.03, 0.5, 0.11), "number_plate")
    shaper.cylinder((x + 0.06, half * 0.55, 0.15 * height), 0.028, 0.14, "chrome", 0, 8)


def _add_sides(
    shaper: Shaper, style: CarStyle, length: float, width: float, half: float, height: float
) -> None:
    belt = style.belt[1] * height
    start = style.windows[0][0]
    mirror = (0.5 - start - 0.012) * length
    for side in (-1, 1):
        reach = width / 2 - half * 0.9
        shaper.block(
            (mirror, side * (width / 2 - 0.065), belt + 0.075),
            (0.085, 0.13, 0.115),
            0.03,
            "car_paint",
        )
        shaper.box(
            (mirror - 0.045, side * (width / 2 - 0.065), belt + 0.075),
            (0.012, 0.1, 0.085),
            "chrome",
        )
        shaper.box(
            (mirror, side * (half * 0.9 + reach / 3), belt + 0.03),
            (0.04, reach * 0.7, 0.025),
            "dark_trim",
        )
        sill = (style.axles[1] - style.axles[0]) * length - 2.5 * style.wheel * length
        shaper.box(
            ((0.5 - sum(style.axles) / 2) * length, side * half * 0.93, 0.135 * height),
            (sill, 0.05, 0.045 * height),
            "dark_trim",
        )
        for first, last in style.windows[:2]:
            if last - first > 0.08:
                handle = (0.5 - last + 0.02) * length
                shaper.box(
                    (handle, side * half * 0.972, belt - 0.075 * height),
                    (0.17, 0.035, 0.028),
                    "chrome",
                )
        # Gaps between the doors.
        for x in (style.windows[0][1] + 0.01, style.windows[0][0] + 0.01):
            shaper.box(
                ((0.5 - x) * length, side * half * 0.972, 0.4 * height),
                (0.012, 0.05 * half, 0.34 * height),
                "dark_trim",
            )
