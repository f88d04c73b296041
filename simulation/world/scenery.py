"""What stands in a town and is not annotated: houses, trees, lamps, lights and signs, furniture."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..meshes.mesh import MeshKey
from .footprints import Occupied, corners
from .markings import clear_stretches
from .model import Placed, Signal
from .standing import Standing, side_yaw
from .streets import KERB_HEIGHT_M, STOP_BEHIND_EDGE_M, Plan, light_changes

Float64 = NDArray[np.float64]

_RANGE_M = 200.0
_BUILDINGS = ("building/brick", "building/plaster", "building/office", "building/shop",
              "building/house")  # fmt: skip
_WALLS: tuple[tuple[float, float, float], ...] = (
    (0.86, 0.82, 0.72), (0.78, 0.7, 0.58), (0.9, 0.88, 0.85), (0.72, 0.74, 0.75),
    (0.83, 0.66, 0.52), (0.68, 0.55, 0.48), (0.75, 0.78, 0.68), (0.62, 0.66, 0.72),
)  # fmt: skip
# of leaves in photographs: dull, towards yellow, a few trees of another tint
_LEAVES: tuple[tuple[float, float, float], ...] = (
    (0.30, 0.34, 0.20), (0.27, 0.32, 0.19), (0.34, 0.36, 0.22), (0.29, 0.34, 0.23),
    (0.25, 0.30, 0.18), (0.37, 0.38, 0.24), (0.33, 0.36, 0.26), (0.42, 0.35, 0.21),
)  # fmt: skip
_BEHIND_COURTS_M = (0.0, 5.0, 10.0, 16.0)
_SIGNAL_SIZE, _SIGNAL_PAINT = (0.4, 0.4, 3.4), (0.12, 0.13, 0.13)
LAMP_SIZE = (0.4, 2.4, 7.4)


def furnish(
    plan: Plan, standing: Standing, occupied: Occupied, near: Float64, duration_s: float,
    rng: np.random.Generator,
) -> tuple[tuple[Placed, ...], tuple[Signal, ...], Float64]:  # fmt: skip
    """Draw the scenery around a way.

    Args:
        plan: the streets.
        standing: what already stands; benches are told to it.
        occupied: all rectangles that are taken; grows.
        near: the ego's way, float64 `[n, 2]`.
        duration_s: signals change from 0 to here.
        rng: for the draws.

    Returns:
        The scenery, the traffic lights, and the lamps' lights float64 `[n, 3]`.
    """
    draw = _Scenery(plan, standing, occupied, near, rng)
    draw.signals_and_signs(duration_s)
    draw.kerb_furniture()
    draw.buildings()
    draw.greenery()
    return tuple(draw.placed), tuple(draw.signals), np.array(draw.lamps).reshape(-1, 3)


class _Scenery:
    def __init__(
        self, plan: Plan, standing: Standing, occupied: Occupied, near: Float64,
        rng: np.random.Generator,
    ) -> None:  # fmt: skip
        self.plan, self.standing, self.occupied, self.near = plan, standing, occupied, near
        self.rng = rng
        self.placed: list[Placed] = []
        self.signals: list[Signal] = []
        self.lamps: list[tuple[float, float, float]] = []
        self._style = int(rng.integers(3))  # town centre, mixed, suburb

    def _put(
        self, model: str, size: tuple[float, float, float], x: float, y: float, yaw: float,
        paint: tuple[float, float, float] = (0.35, 0.37, 0.38), gap: float = 0.1,
        footprint: tuple[float, float] | None = None, off_road: bool = False,
    ) -> bool:  # fmt: skip
        """Place a piece if its footprint (length, width; else the whole box) is free."""
        length, width = footprint or (size[1], size[0])
        if not self.occupied.take((x, y, yaw, length, width), gap):
            return False
        rounded = (round(size[0], 2), round(size[1], 2), round(size[2], 2))
        key = MeshKey(model, rounded, "", int(self.rng.integers(0, 8)))
        off_road = off_road or self.plan.road_distance([[x, y]])[0] >= 0
        height = KERB_HEIGHT_M if off_road else 0.0
        self.placed.append(Placed(key, round(x, 3), round(y, 3), height, yaw, paint))
        return True

    def _is_near(self, x: float, y: float, reach: float) -> bool:
        return float(np.hypot(self.near[:, 0] - x, self.near[:, 1] - y).min()) < reach

    def signals_and_signs(self, duration_s: float) -> None:
        """Lights or stop signs to the right of each stop line, speed signs along the street."""
        for junction in self.plan.junctions:
            if not self._is_near(junction.x, junction.y, 150):
                continue
            for arm in junction.arms:
                street = self.plan.streets[arm.street]
                if junction.control == "stop" and arm.major:
                    continue
                station = arm.station + arm.sign * (arm.reach + STOP_BEHIND_EDGE_M - 0.8)
                side = arm.sign  # traffic towards the junction is on the left of an arm
                x, y, heading = street.place(station, side * (street.half_width + 0.7)).tolist()
                facing = heading if arm.sign > 0 else heading + math.pi
                if junction.control == "signal":
                    if self._put("signal/post", _SIGNAL_SIZE, x, y, facing, _SIGNAL_PAINT, 0.0):
                        changes = light_changes(junction, arm.major, duration_s)
                        placed = self.placed.pop()
                        shown = placed.mesh._replace(pose=changes[0][1])
                        self.signals.append(Signal(replace(placed, mesh=shown), changes))
                else:
                    self._put("sign/stop", (0.75, 0.12, 2.7), x, y, facing, gap=0.0)
        for _ in range(5):
            station = float(self.rng.uniform(80, self.plan.streets[0].length - 60))
            self._beside(0, int(self.rng.choice([-1, 1])), station, 0.5, "sign/speed",
                         (0.6, 0.12, 2.6), turn=math.pi)  # fmt: skip

    def _beside(
        self, number: int, side: int, station: float, off: float, model: str,
        size: tuple[float, float, float], turn: float = 0.0, gap: float = 0.25,
        footprint: tuple[float, float] | None = None,
        paint: tuple[float, float, float] = (0.35, 0.37, 0.38),
    ) -> tuple[float, float, float] | None:  # fmt: skip
        """Place a piece `off` metres behind the kerb, turned from the way of traffic."""
        street = self.plan.streets[number]
        x, y, _ = street.place(station, side * (street.half_width + off)).tolist()
        if not self._is_near(x, y, _RANGE_M):
            return None
        if abs(self.plan.road_distance([[x, y]])[0] - off) > 0.25:  # a corner or a way in
            return None
        yaw = side_yaw(street, station, side) + turn
        if self._put(model, size, x, y, yaw, paint, gap, footprint, off > 0.3):
            return (x, y, yaw)
        return None

    def kerb_furniture(self) -> None:
        """Lamps, street trees, bins, benches and bollards in a row along each kerb."""
        rng = self.rng
        for number in range(len(self.plan.streets)):
            free = [c.station for c in self.plan.crossings if c.street == number and c.painted]
            for side in (-1, 1):
                with_trees = rng.random() < (0.45, 0.7, 0.85)[self._style]
                spacing = float(rng.uniform(8, 13))
                for start, end in clear_stretches(self.plan, number):
                    first = start + float(rng.uniform(1, 4)) + (13 if side > 0 else 0)
                    for station in np.arange(first, end - 1, 27.0):
                        if all(abs(station - c) > 2.5 for c in free):
                            self._lamp(number, side, float(station))
                    for station in np.arange(start + 6 + spacing / 2, end - 6, spacing):
                        if with_trees and all(abs(station - c) > 6 for c in free):
                            self._street_tree(number, side, float(station))
                    for station in np.arange(start + 9, end - 6, 17.0):
                        self._small_piece(number, side, float(station + rng.uniform(-3, 3)))

    def _lamp(self, number: int, side: int, station: float) -> None:
        # its arm reaches over the road: the pole is at the back of the box
        _, length, height = LAMP_SIZE
        street = self.plan.streets[number]
        pole = 0.55
        x, y, _ = street.place(station, side * (street.half_width + pole)).tolist()
        if not self._is_near(x, y, _RANGE_M):
            return
        if abs(self.plan.road_distance([[x, y]])[0] - pole) > 0.25:
            return
        yaw = side_yaw(street, station, side) + math.pi / 2
        if not self.occupied.take((x, y, yaw, 0.3, 0.3), 0.25):
            return
        reach = length / 2 - 0.15
        cx, cy = x + reach * math.cos(yaw), y + reach * math.sin(yaw)
        key = MeshKey("lamp/street", LAMP_SIZE, "", 0)
        self.placed.append(Placed(key, cx, cy, KERB_HEIGHT_M, yaw, (0.35, 0.37, 0.38)))
        tip = length / 2 - 0.35
        self.lamps.append(
            (cx + tip * math.cos(yaw), cy + tip * math.sin(yaw), KERB_HEIGHT_M + height - 0.2)
        )

    def _street_tree(self, number: int, side: int, station: float) -> None:
        rng = self.rng
        stops = [s for s in self.standing.bus_stops if (s.street, s.side) == (number, side)]
        if any(stop.start < station < stop.end for stop in stops):
            return  # buses are taller than the lowest branches
        crown = float(rng.uniform(2.3, 3.1))
        size = (crown, crown, float(rng.uniform(5.5, 8.5)))
        model = "tree/round" if rng.random() < 0.7 else "tree/tall"
        self._beside(number, side, station, 0.95, model, size, float(rng.uniform(-3, 3)), 0.3,
                     footprint=(0.5, 0.5), paint=self._leaves())  # fmt: skip

    def _leaves(self) -> tuple[float, float, float]:
        """The colour of one tree's leaves."""
        green = np.array(_LEAVES[int(self.rng.integers(len(_LEAVES)))])
        red, green, blue = (green * self.rng.uniform(0.88, 1.14)).tolist()
        return red, green, blue

    def _small_piece(self, number: int, side: int, station: float) -> None:
        rng = self.rng
        what = rng.random()
        if what < 0.3:
            self._beside(number, side, station, 0.6, "bin/street", (0.5, 0.5, 1.0))
        elif what < 0.6:
            # against the back of the pavement, looking at the road
            off = self.plan.pavement_m - 0.5
            bench = self._beside(number, side, station, off, "bench/street", (1.7, 0.62, 0.82),
                                 turn=math.pi / 2)  # fmt: skip
            if bench is not None:
                self.standing.benches.append(bench)
        elif what < 0.75:
            for k in range(4):
                self._beside(number, side, station + 1.5 * k, 0.35, "bollard/street",
                             (0.16, 0.16, 0.9))  # fmt: skip

    def buildings(self) -> None:
        """Rows along the streets, rows behind them, and something across every street's end."""
        rng = self.rng
        for number, street in enumerate(self.plan.streets):
            for side in (-1, 1):
                for row in range(3):
                    station = -20.0 if number == 0 else -5.0
                    setback = float(rng.uniform(0.4, 1.5) if self._style == 0
                                    else rng.uniform(1.5, 7.0)) + row * 24.0  # fmt: skip
                    while station < street.length + 25:
                        station += self._building(number, side, station, setback, row)
            for end, out in ((0.0, -1), (street.length, 1)):
                self._across_end(number, end, out)

    def _building(self, number: int, side: int, station: float, setback: float, row: int) -> float:
        """Try to build one; how far to go on along the street."""
        rng = self.rng
        street = self.plan.streets[number]
        shares = ((3, 3, 3, 3, 0.3), (3, 3, 1, 2, 2), (1.5, 2, 0.3, 1, 5))[self._style]
        model = _BUILDINGS[int(rng.choice(5, p=np.array(shares) / sum(shares)))]
        width = float(rng.uniform(*{"building/house": (8, 13)}.get(model, (12, 26))))
        depth = float(rng.uniform(*{"building/house": (8, 12)}.get(model, (10, 17))))
        storeys = {"building/house": (1, 3), "building/shop": (1, 4), "building/office": (4, 11),
                   "building/brick": (3, 7), "building/plaster": (2, 6)}[model]  # fmt: skip
        height = float(rng.integers(*storeys)) * 3.2 + (2.6 if model == "building/house" else 0.8)
        if row:
            height += 3.2 * float(rng.integers(0, 4))
        off = street.half_width + self.plan.pavement_m + setback + depth / 2
        x, y, heading = street.place(station + width / 2, side * off).tolist()
        step = width + (float(rng.choice([0.0, 0.0, 3.0, 9.0])) if self._style == 0
                        else float(rng.uniform(2, 12)))  # fmt: skip
        if not self._is_near(x, y, _RANGE_M + 40):
            return step
        yaw = heading - side * math.pi / 2
        for back in _BEHIND_COURTS_M if row == 0 else (0.0,):
            bx = x - side * back * math.sin(heading)
            by = y + side * back * math.cos(heading)
            if self.occupied.is_free((bx, by, yaw, depth, width)):
                if self._erect(model, (width, depth, height), bx, by, yaw):
                    return step
                break
        return 11.0 if row else 6.0

    def _across_end(self, number: int, end: float, out: int) -> None:
        rng = self.rng
        street = self.plan.streets[number]
        for lateral in np.arange(-66.0, 67.0, 22.0):
            size = (21.5, 14.0, float(rng.integers(2, 7)) * 3.2 + 0.8)
            station = end + out * (self.plan.pavement_m + float(rng.uniform(9, 12)))
            x, y, heading = street.place(station, lateral).tolist()
            yaw = heading + (math.pi if out > 0 else 0.0)
            self._erect(_BUILDINGS[int(rng.integers(3))], size, x, y, yaw)

    def _erect(
        self, model: str, size: tuple[float, float, float], x: float, y: float, yaw: float
    ) -> bool:
        box = (x, y, yaw, size[1], size[0])
        outline = corners(box)[0]
        ring = np.concatenate([outline, (outline + np.roll(outline, -1, axis=0)) / 2, [[x, y]]])
        if self.plan.road_distance(ring).min() < self.plan.pavement_m + 0.3:
            return False
        paint = _WALLS[int(self.rng.integers(len(_WALLS)))]
        return self._put(model, size, x, y, yaw, paint, 0.0, None, True)

    def greenery(self) -> None:
        """Trees, hedges and fences on the ground between houses and pavements."""
        rng = self.rng
        low, high = self.near.min(axis=0) - 150, self.near.max(axis=0) + 150
        count = (160, 320, 420)[self._style]
        spots = rng.uniform(low, high, (count, 2))
        sizes = np.stack([rng.uniform(3.5, 6.5, count), rng.uniform(6, 12, count)], axis=1)
        off = self.plan.road_distance(spots)
        for (x, y), (crown, height), away in zip(spots, sizes, off, strict=True):
            if away > self.plan.pavement_m + crown / 2 - 0.5:
                model = "tree/round" if rng.random() < 0.6 else "tree/tall"
                size = (float(crown), float(crown), float(height))
                yaw = float(rng.uniform(-3, 3))
                self._put(model, size, float(x), float(y), yaw, self._leaves(), 0.2, None, True)
        for number in range(len(self.plan.streets)):
            street = self.plan.streets[number]
            for side in (-1, 1):
                hedge = self._leaves()
                for station in np.arange(4.0, street.length - 4, 4.1):
                    run = int(station // 26) * 7 + number * 3 + side + self._style
                    if run % 5 > 1:
                        continue
                    model, size = (("hedge/clipped", (0.8, 4.0, 1.3)) if run % 5 else
                                   ("fence/metal", (0.1, 4.05, 1.2)))  # fmt: skip
                    off = self.plan.pavement_m + 0.7
                    self._beside(number, side, float(station), off, model, size, gap=0.0,
                                 paint=hedge)  # fmt: skip
