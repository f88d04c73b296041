"""Who rides a bicycle or a motorcycle: a figure between saddle, grips and pedals."""

from __future__ import annotations

from math import cos, sin

import numpy as np

from .people import Clothes, Figure, add_figure, drawn_skin
from .shapes import Floats, Shaper, at


def add_rider(
    shaper: Shaper,
    stature: float,
    saddle: Floats,
    grips: list[Floats],
    feet: list[Floats],
    top: float,
    lean: float,
    variant: int,
    helmet: bool = False,
) -> None:
    """A person from saddle to `top`, hands on the grips, feet on the pedals (left, right)."""
    # So tall that the crown of a leaning person reaches the top of the box.
    h = (top - saddle[2]) / (0.05 + 0.3 * cos(lean) + 0.19)
    pelvis = saddle + at(0, 0, 0.05 * h)
    spine = np.array([sin(lean), 0, cos(lean)])
    neck = pelvis + 0.3 * h * spine
    head = neck + np.array([0.03 * h, 0, 0.1 * h])
    shoulders, elbows, hips, knees = [], [], [], []
    for k, side in enumerate((1, -1)):
        shoulder = pelvis + 0.262 * h * spine + at(0, side * 0.104 * h, 0)
        hand = grips[k]
        elbows.append(
            _joint(shoulder, hand, 0.17 * h, 0.16 * h, np.array([-0.3, side * 0.6, -1.0]))
        )
        shoulders.append(shoulder)
        hip = pelvis + at(0, side * 0.055 * h, 0)
        ankle = feet[k] + at(-0.03 * h, 0, 0.05 * h)
        knees.append(_joint(hip, ankle, 0.245 * h, 0.246 * h, np.array([1.0, side * 0.12, 0.4])))
        hips.append(hip)
    ankles = [foot + at(-0.03 * h, 0, 0.05 * h) for foot in feet]
    toes = [np.array([1.0, side * 0.08, -0.1]) for side in (1, -1)]
    figure = Figure(h, pelvis, neck, head, shoulders, elbows, grips, hips, knees, ankles, toes)
    rng = np.random.default_rng(variant)
    skin, hair = drawn_skin(rng)
    legs = str(rng.choice(["trousers", "trousers_2", "trousers_3", "trousers_5"]))
    if helmet:
        clothes = Clothes(
            legs=legs,
            skin=skin,
            torso="dark_trim" if variant % 2 else "coat",
            arms="dark_trim",
            hair="",
        )
    else:
        clothes = Clothes(
            legs=legs,
            skin=skin,
            hair=hair,
            short_sleeves=bool(rng.random() < 0.4),
            bag=bool(rng.random() < 0.3),
            hat="barrier_white" if rng.random() < 0.4 else "",
        )
    add_figure(shaper, figure, clothes)
    if helmet:
        shaper.ellipsoid(
            tuple(head + at(0.0, 0, 0.0)), (0.078 * h, 0.066 * h, 0.08 * h), "car_paint", 10, 5
        )
        shaper.block(
            tuple(head + at(0.052 * h, 0, 0.006 * h)),
            (0.06 * h, 0.105 * h, 0.045 * h),
            0.01 * h,
            "car_glass",
        )


def _joint(start: Floats, end: Floats, upper: float, lower: float, towards: Floats) -> Floats:
    """Where elbow or knee is between the ends of a limb, bent towards a direction."""
    way = end - start
    apart = float(np.linalg.norm(way))
    way = way / apart
    apart = min(apart, 0.999 * (upper + lower))
    along = (upper**2 - lower**2 + apart**2) / (2 * apart)
    out = max(upper**2 - along**2, 0.0) ** 0.5
    towards = towards - way * (towards @ way)
    return start + way * along + towards / np.linalg.norm(towards) * out
