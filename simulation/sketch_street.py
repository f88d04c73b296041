"""The street of the sketch drive: what stands there, what moves, and the blocks it is made of.

Positions are in the street frame: x along the street, y to the left of its middle, z up, metres.
Where things are seen from is not known here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .nuscenes.geometry import Float64
from .sketch_render import KERB_Y, LANE_Y, WALL_Y, Block, Colour

CROSSING_X = 45.0
"""The zebra crossing."""

EGO_LANE_Y = -LANE_Y / 2

_START_X = -70.0
_PARKING_Y = (LANE_Y + KERB_Y) / 2
_Part = tuple[Float64, Colour, str, float]

_CAR_COLOURS: tuple[Colour, ...] = (
    (176, 34, 36), (36, 66, 140), (214, 214, 218), (44, 46, 50),
    (128, 132, 138), (232, 188, 60), (52, 104, 76),
)  # fmt: skip
_COAT_COLOURS: tuple[Colour, ...] = ((180, 52, 60), (50, 90, 160), (230, 200, 90), (80, 130, 90))
_HOUSE_COLOURS: tuple[Colour, ...] = (
    (176, 128, 104), (196, 184, 160), (150, 156, 164), (206, 198, 186), (142, 104, 88),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Actor:
    """A thing that is annotated: what it is, where it stands, how it moves.

    Attributes:
        name: unique in the drive.
        category: of nuScenes.
        size_wlh: of the annotated box, metres.
        start: x y of its middle at time 0, street frame, metres.
        yaw_rad: 0, or a multiple of a quarter turn.
        colour: of its body.
        speed_mps: along its own x.
        stops_at_s: from then on it stands.
        resting: attribute while it stands; `moving` is told from the category.
    """

    name: str
    category: str
    size_wlh: tuple[float, float, float]
    start: tuple[float, float]
    yaw_rad: float
    colour: Colour
    speed_mps: float = 0.0
    stops_at_s: float = math.inf
    resting: str = ""

    def position(self, time_s: float) -> tuple[float, float]:
        """x y of its middle, street frame."""
        way = self.speed_mps * min(time_s, self.stops_at_s)
        return (
            self.start[0] + way * math.cos(self.yaw_rad),
            self.start[1] + way * math.sin(self.yaw_rad),
        )

    def centre(self, time_s: float) -> tuple[float, float, float]:
        """x y z of the middle of its box, street frame."""
        return (*self.position(time_s), self.size_wlh[2] / 2)

    def attributes(self, time_s: float) -> list[str]:
        """The nuScenes attribute at this time, if its category has any."""
        if self.speed_mps and time_s < self.stops_at_s:
            return [f"{self.category.split('.')[0].replace('human', 'pedestrian')}.moving"]
        return [self.resting] if self.resting else []

    def blocks(self, time_s: float) -> list[Block]:
        """Its parts at this time; all within the annotated box but for a few millimetres."""
        x, y = self.position(time_s)
        cos, sin = round(math.cos(self.yaw_rad)), round(math.sin(self.yaw_rad))
        turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], dtype=np.float64)
        strides = self.attributes(time_s) == ["pedestrian.moving"]
        stride = math.sin(time_s * 6) * 0.16 if strides else 0.0
        return [
            Block(corners @ turn.T + (x, y, 0), colour, style, self.name, reflectance)
            for corners, colour, style, reflectance in _parts(self, stride)
        ]


def cast_of(rng: np.random.Generator, length: float) -> list[Actor]:
    """Everything that is annotated: traffic, parked cars, people, a road works site.

    Args:
        rng: decides colours, gaps and who walks.
        length: how far the street goes on ahead, metres.
    """
    return [*_traffic(rng), *_parked(rng, length), *_people(rng, length), *_road_works()]


def scenery_of(rng: np.random.Generator, length: float) -> list[Block]:
    """What is not annotated: houses, trees and lamp posts on both sides."""
    blocks: list[Block] = []
    for side in (-1, 1):
        x = _START_X
        while x < length:
            front, height = rng.uniform(9, 20), rng.uniform(7, 17)
            wall = WALL_Y + rng.uniform(0, 1.5)
            near, far = sorted((side * wall, side * (wall + 12)))
            colour = _pick(rng, _HOUSE_COLOURS)
            house = _box((x, x + front), (near, far), (0, height))
            blocks.append(Block(house, colour, "house", reflectance=0.3))
            x += front + (rng.uniform(2, 6) if rng.random() < 0.3 else 0.2)
        for x in np.arange(_START_X + 6, length, 14.0):
            y = side * (KERB_Y + 0.9)
            blocks += _tree(x + rng.uniform(-2, 2), y, rng.uniform(0.85, 1.2))
            pole = _box((x + 6.95, x + 7.05), (y - 0.05, y + 0.05), (0, 6.5))
            blocks.append(Block(pole, (74, 78, 80), reflectance=0.3))
    return blocks


def _pick(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    return colours[int(rng.integers(len(colours)))]


def _traffic(rng: np.random.Generator) -> list[Actor]:
    """The story: one car drives away ahead, three come, of which two wait at the crossing."""
    car, ahead, oncoming = (1.9, 4.5, 1.55), 0.0, math.pi
    lane, other = EGO_LANE_Y, -EGO_LANE_Y
    red, white, blue = _CAR_COLOURS[0], _CAR_COLOURS[2], _CAR_COLOURS[1]
    walker: Colour = _pick(rng, _COAT_COLOURS)
    stopped = "vehicle.stopped"
    return [
        Actor("lead", "vehicle.car", car, (16, lane), ahead, red, 9.0, math.inf, stopped),
        Actor("passing", "vehicle.car", car, (34, other), oncoming, white, 8.0, math.inf, stopped),
        Actor("waiting", "vehicle.car", car, (74, other), oncoming, blue, 8.0, 2.75, stopped),
        Actor(
            "bus", "vehicle.bus.rigid", (2.6, 11.0, 3.1), (100, other), oncoming,
            (232, 150, 40), 7.0, 5.0, stopped,
        ),
        Actor("follower", "vehicle.car", car, (-16, lane), ahead, (60, 62, 66), 5.0),
        Actor(
            "crossing", "human.pedestrian.adult", (0.66, 0.7, 1.76), (CROSSING_X, -8.5),
            math.pi / 2, walker, 1.4, 12.0, "pedestrian.standing",
        ),
    ]  # fmt: skip


def _parked(rng: np.random.Generator, length: float) -> list[Actor]:
    parked: list[Actor] = []
    for side in (-1, 1):
        x = _START_X + 5
        while x < length:
            is_truck = rng.random() < 0.1
            size = (2.3, 7.2, 2.9) if is_truck else (1.86, float(rng.uniform(4.1, 4.8)), 1.52)
            middle = x + size[1] / 2
            clear = abs(middle - CROSSING_X) > 11 and not (side < 0 and 15 < middle < 32)
            if clear and rng.random() < 0.55:
                kind = "vehicle.truck" if is_truck else "vehicle.car"
                place = (middle, side * _PARKING_Y)
                yaw = 0.0 if side < 0 else math.pi
                colour = _pick(rng, _CAR_COLOURS)
                name = f"parked-{len(parked)}"
                parked.append(Actor(name, kind, size, place, yaw, colour, resting="vehicle.parked"))
            x += size[1] + rng.uniform(0.9, 2.2)
    return parked


def _people(rng: np.random.Generator, length: float) -> list[Actor]:
    people: list[Actor] = []
    for x in np.arange(-25, length - 20, 7.0):
        side, walks = rng.choice((-1, 1)), rng.random() < 0.65
        place = (float(x + rng.uniform(-2, 2)), float(side * rng.uniform(8.0, 9.9)))
        size = (0.62, 0.66, float(rng.uniform(1.6, 1.85)))
        people.append(
            Actor(
                f"person-{len(people)}", "human.pedestrian.adult", size, place,
                float(rng.choice((0.0, math.pi))), _pick(rng, _COAT_COLOURS),
                float(rng.uniform(1.0, 1.5)) if walks else 0.0, math.inf, "pedestrian.standing",
            )
        )  # fmt: skip
    return people


def _road_works() -> list[Actor]:
    cones = [
        Actor(
            f"cone-{n}", "movable_object.trafficcone", (0.42, 0.42, 0.78),
            (17.0 + 2.6 * n, -3.95 if 0 < n < 4 else -4.6), 0.0, (236, 92, 24),
        )
        for n in range(5)
    ]  # fmt: skip
    barriers = [
        Actor(
            f"barrier-{n}", "movable_object.barrier", (2.0, 0.4, 1.0),
            (19.0 + 6.5 * n, -4.9), 0.0, (214, 60, 40),
        )
        for n in range(2)
    ]  # fmt: skip
    return [*cones, *barriers]


def _tree(x: float, y: float, scale: float) -> list[Block]:
    def part(half: float, top: float, low: float, high: float, colour: Colour) -> Block:
        half, top, low, high = half * scale, top * scale, low * scale, high * scale
        corners = _box(
            (x - half, x + half), (y - half, y + half), (low, high), (x - top, x + top), half - top
        )
        return Block(corners, colour, reflectance=0.25)

    return [
        part(0.13, 0.1, 0, 2.2, (98, 76, 58)),
        part(1.0, 1.5, 2.2, 3.4, (66, 104, 56)),
        part(1.5, 0.7, 3.4, 5.2, (78, 120, 62)),
    ]


def _parts(actor: Actor, stride_m: float) -> list[_Part]:
    """The blocks of a thing in its own frame: corners, colour, style, reflectance.

    They stay two centimetres within the annotated box, so that a point measured on a side face
    is not lost from the count by its range noise.
    """
    width, length, height = actor.size_wlh
    half_l, half_w, top = length / 2 - 0.02, width / 2 - 0.02, height - 0.02
    x, y, colour = (-half_l, half_l), (-half_w, half_w), actor.colour
    kind = actor.category.rpartition(".")[2]
    if kind == "car":
        waist = 0.56 * height
        cabin_x, roof_x = (-0.88 * half_l, 0.42 * half_l), (-0.66 * half_l, 0.08 * half_l)
        cabin_y = (-half_w + 0.06, half_w - 0.06)
        cabin = _box(cabin_x, cabin_y, (waist, top), roof_x, 0.16)
        return [
            (_box(x, y, (0.28, waist)), colour, "car", 0.35),
            (cabin, colour, "cabin", 0.15),
        ]
    if kind == "truck":
        split = 0.42 * half_l
        return [
            (_box((-half_l, split - 0.1), y, (0.55, top)), (206, 206, 202), "cargo", 0.4),
            (_box((split, half_l), y, (0.45, 0.42 * top)), colour, "cab", 0.35),
            (_box((split, half_l), y, (0.42 * top, 0.78 * top), (split, 0.94 * half_l)), colour,
             "cabin", 0.15),
        ]  # fmt: skip
    if kind == "rigid":
        return [(_box(x, y, (0.32, top)), colour, "bus", 0.35)]
    if kind == "trafficcone":
        cone = _box((-0.14, 0.14), (-0.14, 0.14), (0.05, top), (-0.02, 0.02), 0.12)
        return [(_box(x, y, (0, 0.05)), (40, 40, 42), "", 0.1), (cone, colour, "cone", 0.6)]
    if kind == "barrier":
        return [(_box(x, y, (0.25, top)), colour, "barrier", 0.6)]
    hip, neck, trousers = 0.48 * height, 0.83 * height, (48, 50, 66)
    legs = [
        (_box((step - 0.08, step + 0.08), side, (0, hip), (-0.08, 0.08)), trousers, "", 0.2)
        for step, side in ((stride_m, (0.02, 0.16)), (-stride_m, (-0.16, -0.02)))
    ]
    torso = _box((-0.13, 0.13), (-0.2, 0.2), (hip, neck), (-0.12, 0.12), 0.03)
    head = _box((-0.09, 0.11), (-0.09, 0.09), (neck + 0.03, top))
    arms = [
        (_box((-0.06 - step, 0.06 - step), side, (0.5 * height, 0.8 * height), (-0.06, 0.06)),
         colour, "", 0.2)
        for step, side in ((stride_m, (0.205, 0.28)), (-stride_m, (-0.28, -0.205)))
    ]  # fmt: skip
    return [*legs, (torso, colour, "", 0.2), *arms, (head, (206, 164, 138), "", 0.3)]


def _box(
    x: tuple[float, float],
    y: tuple[float, float],
    z: tuple[float, float],
    top_x: tuple[float, float] | None = None,
    top_inset_y: float = 0.0,
) -> Float64:
    """Corners `[8, 3]` of a block; `top_x` and `top_inset_y` make its top smaller."""
    corners = []
    for height, (back, front), inset in ((z[0], x, 0.0), (z[1], top_x or x, top_inset_y)):
        right, left = y[0] + inset, y[1] - inset
        corners += [[front, left, height], [back, left, height]]
        corners += [[back, right, height], [front, right, height]]
    return np.array(corners, dtype=np.float64)
