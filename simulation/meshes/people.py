"""People: a figure of joints, dressed; standing, walking, sitting, or riding something.

Proportions are those of anthropometric tables (Drillis and Contini, 1966, segment lengths over
stature); the walking cycle is a pair of pendulums with a knee that bends in the swing.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np

from .materials import material_index
from .mesh import Mesh, MeshKey
from .shapes import Floats, Shaper, at, turn_about

WALK_POSES = tuple(f"walk{k}" for k in range(8))
POSES = (*WALK_POSES, "stand", "sit")


@dataclass
class Figure:
    """Joints, `[3]` each, metres; pairs are left and right.

    Attributes:
        stature: height of the person when standing, metres.
        pelvis, neck, head: middle of the hips, root of the neck, middle of the skull.
        hands, elbows, shoulders, hips, knees, ankles: of arms and legs.
        toes: unit vectors from heel to toe.
    """

    stature: float
    pelvis: Floats
    neck: Floats
    head: Floats
    shoulders: list[Floats]
    elbows: list[Floats]
    hands: list[Floats]
    hips: list[Floats]
    knees: list[Floats]
    ankles: list[Floats]
    toes: list[Floats]


@dataclass(frozen=True)
class Clothes:
    """Materials of what a figure wears, and what it carries; no hair means a helmet over all."""

    torso: str = "coat"
    arms: str = "coat"
    legs: str = "trousers"
    shoes: str = "shoe"
    hair: str = "hair"
    hat: str = ""
    long_hair: bool = False
    skirt: bool = False
    short_sleeves: bool = False
    bag: bool = False
    vest: bool = False
    skin: str = "skin"
    carries: bool = False


_SKINS = ("skin", "skin_2", "skin_3", "skin_4", "skin_5", "skin_6")
_TROUSERS = ("trousers", "trousers_2", "trousers_3", "trousers_4", "trousers_5", "trousers_6")
_TROUSERS_SHARES = (0.16, 0.27, 0.24, 0.12, 0.13, 0.08)
_HAIRS = ("hair", "hair_2", "hair_3")


def drawn_skin(rng: np.random.Generator) -> tuple[str, str]:
    """Materials of somebody's skin and hair; fair hair goes with fair skin, grey with any."""
    skin = _SKINS[int(rng.integers(len(_SKINS)))]
    fair = skin in ("skin", "skin_2", "skin_6")
    shares = (0.5, 0.35, 0.15) if fair else (0.88, 0.0, 0.12)
    return skin, _HAIRS[int(rng.choice(3, p=shares))]


def build_pedestrian(style: str, key: MeshKey) -> Mesh:
    """An `adult`, a `child` or a `worker` in one of `POSES` (none: stand)."""
    pose = key.pose or "stand"
    width, length, height = key.size_wlh
    stature = height / 0.79 if pose == "sit" else height
    rng = np.random.default_rng(key.variant)
    clothes = _worker_clothes(rng) if style == "worker" else _drawn_clothes(rng, style)
    # What stands over the skull makes the person under it shorter.
    stature *= 0.985 if clothes.hat else 1.0
    # Steps as long as the box has room for.
    reach = min(0.5, max(0.22, 0.5 * (length - 0.17 * stature) / (0.47 * stature)))
    figure = _posed(stature, pose, reach, style == "child", clothes.carries)
    shaper = Shaper()
    add_figure(shaper, figure, clothes, style == "child")
    if pose == "sit":
        seat = 0.245 * stature
        shaper.box(
            (-0.05 * stature, 0, seat / 2),
            (0.26 * stature, min(width, 0.3 * stature), seat),
            "concrete",
        )
    return shaper.mesh(key.size_wlh, stretch=False)


def _drawn_clothes(rng: np.random.Generator, style: str) -> Clothes:
    draw = rng.random(6)
    trousers = _TROUSERS[int(rng.choice(6, p=_TROUSERS_SHARES))]
    skin, hair = drawn_skin(rng)
    return Clothes(
        legs=trousers if draw[0] < 0.88 else "coat",
        skin=skin,
        hair=hair,
        long_hair=bool(draw[1] < 0.4),
        skirt=bool(draw[1] < 0.4 and draw[2] < 0.35),
        short_sleeves=bool(draw[3] < 0.3),
        bag=bool(draw[4] < (0.5 if style == "child" else 0.3)),
        hat=trousers if draw[5] < 0.15 else "",
    )


def _worker_clothes(rng: np.random.Generator) -> Clothes:
    skin, hair = drawn_skin(rng)
    return Clothes(
        torso="safety_vest" if rng.random() < 0.7 else "safety_orange",
        arms="safety_orange" if rng.random() < 0.6 else "trousers",
        legs=str(rng.choice(["trousers", "trousers_2", "trousers_5", "trousers_3"])),
        hat="machine_yellow" if rng.random() < 0.6 else "barrier_white",
        vest=True,
        skin=skin,
        hair=hair,
        carries=bool(rng.random() < 0.35),
    )


def _posed(stature: float, pose: str, reach: float, child: bool, carries: bool = False) -> Figure:
    h = stature
    sitting = pose == "sit"
    walking = pose.startswith("walk")
    phase = int(pose[4:]) * pi / 4 if walking else 0.0
    thigh, shank, upper, fore = 0.245 * h, 0.246 * h, 0.172 * h, 0.155 * h
    hips, knees, ankles, toes = [], [], [], []
    shoulders, elbows, hands = [], [], []
    lean = 0.04 if walking else 0.0
    shoulder_z = 0.272 * h if not child else 0.255 * h
    for side, offset in ((1, 0.0), (-1, pi)):
        swing = sin(phase + offset)
        hip_angle = reach * swing + 0.03 if walking else (1.5 if sitting else 0.03 * side)
        knee = 0.1 + 0.8 * max(0.0, cos(phase + offset)) ** 1.5 if walking else 0.02
        knee = 1.5 if sitting else knee
        hip = np.array([0, side * 0.048 * h, -0.012 * h])
        spread = 0.12 if sitting else 0.02
        down = np.array([sin(hip_angle), side * spread, -cos(hip_angle)])
        joint = hip + thigh * down
        low = hip_angle - knee
        ankle = joint + shank * np.array([sin(low), 0, -cos(low)])
        # The foot follows the shank, but a foot on the ground lies flat.
        tilt = 0.0 if not walking else 0.8 * min(0.0, low + 0.15) + 0.35 * max(0.0, swing) * reach
        hips.append(hip)
        knees.append(joint)
        ankles.append(ankle)
        toes.append(np.array([cos(tilt), side * 0.12, sin(tilt)]))
        arm = -0.85 * reach * swing if walking else (0.35 if sitting else 0.04)
        bend = 0.35 + 0.2 * max(0.0, -swing) if walking else (0.75 if sitting else 0.12)
        if carries:  # forearms level, before the chest
            arm, bend = 0.25, 1.3
        shoulder = np.array([lean * 0.27 * h, side * 0.1 * h, shoulder_z])
        elbow = shoulder + upper * np.array([sin(arm), side * 0.16, -cos(arm)])
        hand = elbow + fore * np.array([sin(arm + bend), -side * 0.03, -cos(arm + bend)])
        shoulders.append(shoulder)
        elbows.append(elbow)
        hands.append(hand)
    pelvis = np.zeros(3)
    head_z = 0.407 * h if not child else 0.39 * h
    neck = np.array([lean * 0.3 * h, 0, 0.315 * h])
    head = np.array([lean * 0.4 * h + 0.012 * h, 0, head_z])
    figure = Figure(
        stature, pelvis, neck, head, shoulders, elbows, hands, hips, knees, ankles, toes
    )
    return _lift(figure)


def _lift(figure: Figure) -> Figure:
    """The figure with its lower ankle as high over the ground as a shoe is."""
    lowest = min(float(ankle[2]) for ankle in figure.ankles)
    up = np.array([0, 0, 0.045 * figure.stature - lowest])
    return Figure(
        figure.stature,
        figure.pelvis + up,
        figure.neck + up,
        figure.head + up,
        [joint + up for joint in figure.shoulders],
        [joint + up for joint in figure.elbows],
        [joint + up for joint in figure.hands],
        [joint + up for joint in figure.hips],
        [joint + up for joint in figure.knees],
        [joint + up for joint in figure.ankles],
        figure.toes,
    )


def add_figure(shaper: Shaper, figure: Figure, clothes: Clothes, child: bool = False) -> None:
    """Flesh and clothes about the joints of a figure."""
    h = figure.stature
    _add_torso(shaper, figure, clothes)
    for k in (0, 1):
        _add_arm(shaper, figure, clothes, k)
        _add_leg(shaper, figure, clothes, k)
    _add_head(shaper, figure, clothes, child)
    if clothes.carries:
        grip = (figure.hands[0] + figure.hands[1]) / 2
        crate = (0.15 * h, 0.24 * h, 0.13 * h)
        shaper.box((float(grip[0]) + 0.035 * h, 0, float(grip[2]) + 0.03 * h), crate, "bark")
    if clothes.bag:
        spine = figure.neck - figure.pelvis
        spine /= np.linalg.norm(spine)
        back = np.array([-spine[2], 0, spine[0]])
        middle = figure.pelvis + 0.19 * h * spine + 0.085 * h * back
        turn = turn_about(1, float(np.arctan2(spine[0], spine[2])))
        shaper.box(tuple(middle), (0.08 * h, 0.16 * h, 0.22 * h), "dark_trim", turn, (0.7, 0.8))


def _add_torso(shaper: Shaper, figure: Figure, clothes: Clothes) -> None:
    h = figure.stature
    spine = figure.neck - figure.pelvis
    size = float(np.linalg.norm(spine))
    along = spine / size
    front = np.array([along[2], 0, -along[0]])
    angle = np.arange(10) * (2 * pi / 10)
    sections = [  # share of the way up, half depth, half width, all but the first over stature
        (-0.2, 0.05, 0.075),
        (-0.15, 0.07, 0.105),
        (0.0, 0.066, 0.1),
        (0.25, 0.06, 0.092),
        (0.45, 0.06, 0.094),
        (0.68, 0.069, 0.107),
        (0.82, 0.064, 0.118),
        (0.91, 0.056, 0.112),
        (0.98, 0.042, 0.07),
        (1.03, 0.032, 0.038),
    ]
    if clothes.skirt:
        sections[:1] = [(-0.85, 0.1, 0.14)]
    rings = []
    for share, depth, half in sections:
        middle = figure.pelvis + along * (share * size)
        ring = depth * np.cos(angle)[:, None] * front * h + (half * np.sin(angle) * h)[
            :, None
        ] * np.array([0, 1, 0])
        rings.append(middle + ring)
    bands = [clothes.torso] * (len(sections) - 1)
    if not clothes.skirt:
        bands[0] = clothes.legs
    if clothes.vest:
        bands[4] = "retro_white"
    rows = np.array([[material_index(name)] * 10 for name in bands])
    shaper.loft(np.array(rings), rows, (bands[0], bands[-1]), 70)


def _limb(shaper: Shaper, points: list[Floats], radii: list[float], material: str) -> None:
    """A limb with round ends: rings drawn in at its first and its last point."""
    path = np.array(points)
    first, last = path[0] - path[1], path[-1] - path[-2]
    first *= radii[0] * 0.6 / np.linalg.norm(first)
    last *= radii[-1] * 0.6 / np.linalg.norm(last)
    path = np.concatenate([[path[0] + first], path, [path[-1] + last]])
    shaper.tube(path, [radii[0] * 0.6, *radii, radii[-1] * 0.6], material, 8)


def _add_arm(shaper: Shaper, figure: Figure, clothes: Clothes, k: int) -> None:
    h = figure.stature
    shoulder, elbow, hand = figure.shoulders[k], figure.elbows[k], figure.hands[k]
    sleeve = clothes.skin if clothes.short_sleeves else clothes.arms
    if clothes.short_sleeves:
        half_way = 0.35 * shoulder + 0.65 * elbow
        _limb(shaper, [shoulder, half_way], [0.033 * h, 0.029 * h], clothes.arms)
        points, radii = [half_way, elbow, hand], [0.023 * h, 0.022 * h, 0.016 * h]
    else:
        points, radii = [shoulder, elbow, hand], [0.032 * h, 0.027 * h, 0.022 * h]
    upper = 0.5 * points[0] + 0.5 * points[1]
    points.insert(1, upper)
    radii.insert(1, 0.5 * (radii[0] + radii[1]))
    _limb(shaper, points, radii, sleeve)
    reach = (hand - elbow) / np.linalg.norm(hand - elbow)
    palm = hand + reach * 0.03 * h
    _limb(
        shaper,
        [hand - reach * 0.01 * h, palm, palm + reach * 0.03 * h],
        [0.014 * h, 0.02 * h, 0.011 * h],
        clothes.skin,
    )


def _add_leg(shaper: Shaper, figure: Figure, clothes: Clothes, k: int) -> None:
    h = figure.stature
    hip, knee, ankle = figure.hips[k], figure.knees[k], figure.ankles[k]
    legs = clothes.skin if clothes.skirt else clothes.legs
    calf = 0.68 * knee + 0.32 * ankle + np.array([-0.008 * h, 0, 0])
    slim = 0.8 if clothes.skirt else 1.0
    points = [hip, 0.5 * (hip + knee), knee, calf, ankle]
    radii = [0.045 * h, 0.044 * h, 0.035 * h * slim, 0.034 * h * slim, 0.026 * h * slim]
    if clothes.skirt:
        points, radii = points[1:], radii[1:]
    _limb(shaper, points, radii, legs)
    toe = figure.toes[k] / np.linalg.norm(figure.toes[k])
    up = np.array([-toe[2], 0, toe[0]])
    out = np.cross(up, toe)
    # Heel, instep, ball, tip: half width, height of the upper over the sole.
    rings = []
    outline = np.array([[-1, 0], [1, 0], [1.05, 0.4], [0.6, 1], [-0.6, 1], [-1.05, 0.4]])
    for along, half, tall in (
        (-0.04, 0.018, 0.04),
        (-0.025, 0.025, 0.062),
        (0.025, 0.025, 0.052),
        (0.07, 0.029, 0.032),
        (0.1, 0.02, 0.022),
    ):
        middle = ankle + (toe * along - up * 0.042) * h
        ring = [middle + (out * half * a + up * tall * b) * h for a, b in outline]
        rings.append(ring)
    shaper.loft(np.array(rings), clothes.shoes, crease_deg=60)


def _add_head(shaper: Shaper, figure: Figure, clothes: Clothes, child: bool) -> None:
    h = figure.stature * (1.25 if child else 1.0)
    head, neck = figure.head, figure.neck
    if child:
        head = head + np.array([0, 0, 0.018 * figure.stature])
    shaper.tube(
        [neck - at(0, 0, 0.02 * h), head - at(0.004 * h, 0, 0.03 * h)],
        [0.034 * h, 0.029 * h],
        clothes.skin,
        8,
    )
    # Jaw narrower than the skull, face forward.
    angle = np.arange(10) * (2 * pi / 10)
    rings = []
    for z, depth, half, shift in (
        (-0.068, 0.016, 0.016, 0.022),
        (-0.058, 0.034, 0.027, 0.014),
        (-0.03, 0.046, 0.037, 0.006),
        (0.0, 0.05, 0.042, 0.001),
        (0.03, 0.049, 0.042, -0.003),
        (0.05, 0.036, 0.032, -0.004),
    ):
        ring = np.column_stack(
            [shift + depth * np.cos(angle), half * np.sin(angle), np.full(10, z)]
        )
        rings.append(head + ring * h)
    shaper.loft(np.array(rings), clothes.skin, crease_deg=80)
    if not clothes.hair:  # under a helmet
        return
    nose = head + np.array([0.052, 0, -0.012]) * h
    shaper.box(tuple(nose), (0.022 * h, 0.014 * h, 0.024 * h), clothes.skin, None, (0.4, 0.6))
    for side in (-1, 1):
        ear = head + np.array([-0.003, side * 0.043, -0.005]) * h
        shaper.box(tuple(ear), (0.02 * h, 0.008 * h, 0.03 * h), clothes.skin)
        eye = head + np.array([0.046, side * 0.017, 0.006]) * h
        shaper.box(tuple(eye), (0.008 * h, 0.012 * h, 0.006 * h), "hair")
    # Hair: a cap that reaches low at the back and leaves the face free.
    cap = head + np.array([-0.009, 0, 0.02]) * h
    turn = turn_about(1, -0.62)
    rings = []
    for z, share in ((-0.022, 0.98), (0.0, 1.03), (0.025, 0.93), (0.044, 0.62), (0.053, 0.25)):
        ring = np.column_stack(
            [0.055 * share * np.cos(angle), 0.047 * share * np.sin(angle), np.full(10, z)]
        )
        rings.append(cap + ring @ turn.T * h)
    shaper.loft(np.array(rings), clothes.hair, crease_deg=80)
    if clothes.long_hair:
        _limb(
            shaper,
            [
                head + np.array([-0.035, 0, 0.0]) * h,
                head + np.array([-0.05, 0, -0.06]) * h,
                head + np.array([-0.055, 0, -0.11]) * h,
            ],
            [0.04 * h, 0.036 * h, 0.016 * h],
            clothes.hair,
        )
    if clothes.hat:
        crown = [(1.08, 0.0), (1.04, 0.03), (0.8, 0.058), (0.3, 0.072), (0.0, 0.074)]
        centre = tuple(head + np.array([-0.004, 0, 0.022]) * h)
        shaper.lathe(
            [(r * 0.052 * h, z * h) for r, z in crown],
            clothes.hat,
            centre,
            2,
            10,
            (1.05, 0.92, 1),
            70,
        )
        brim = head + np.array([0.045, 0, 0.024]) * h
        shaper.box(tuple(brim), (0.06 * h, 0.075 * h, 0.007 * h), clothes.hat)
