"""Streets as curves with a cross-section, where they meet, and how far a point is from a road.

The cross-section from the middle outwards, on both sides: travel lanes, a strip for cyclists, a
strip for parking (where there is one), the kerb, the pavement. Traffic keeps right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float64 = NDArray[np.float64]

LANE_M = 3.4
CYCLE_STRIP_M = 1.7
PARKING_STRIP_M = 2.5
KERB_HEIGHT_M = 0.15
_FEW = 16  # points that are looked at one by one rather than all at once
CORNER_RADIUS_M = 5.0
ZEBRA_BEHIND_EDGE_M = 3.0  # from the edge of the street that is met to the middle of the zebra
STOP_BEHIND_EDGE_M = 6.4  # the same to the stop line


@dataclass(frozen=True, eq=False)
class Street:
    """One street.

    Attributes:
        centre: float64 `[n, 3]`: x, y and heading at vertices of its middle line.
        lanes: travel lanes in each direction.
        parking: strips for parking along both kerbs.
    """

    centre: Float64
    lanes: int
    parking: bool

    @cached_property
    def stations(self) -> Float64:
        """Distance along the middle line at each vertex, float64 `[n]`."""
        steps = np.hypot(*np.diff(self.centre[:, :2], axis=0).T)
        return np.concatenate([[0.0], np.cumsum(steps)])

    @property
    def length(self) -> float:
        """Of the middle line, metres."""
        return float(self.stations[-1])

    @property
    def lanes_edge(self) -> float:
        """Lateral of the outer edge of the travel lanes."""
        return self.lanes * LANE_M

    @property
    def half_width(self) -> float:
        """From the middle line to the kerb."""
        return self.lanes_edge + CYCLE_STRIP_M + PARKING_STRIP_M * self.parking

    def lane_lateral(self, lane: int) -> float:
        """Lateral of a lane's middle, 0 the inner one; `lanes` is the cyclists' strip."""
        if lane == self.lanes:
            return self.lanes_edge + CYCLE_STRIP_M / 2
        return (lane + 0.5) * LANE_M

    def place(self, station: ArrayLike, lateral: ArrayLike) -> Float64:
        """Points beside the middle line; beyond its ends it goes straight on.

        Args:
            station: along it, metres.
            lateral: to the left of it, metres.

        Returns:
            float64 `[..., 3]`: x, y, heading of the street there.
        """
        station = np.asarray(station, np.float64)
        x, y, heading = (np.interp(station, self.stations, column) for column in self.centre.T)
        beyond = station - np.clip(station, 0.0, self.length)
        lateral = np.asarray(lateral, np.float64)
        cos, sin = np.cos(heading), np.sin(heading)
        return np.stack(
            [
                x + beyond * cos - lateral * sin,
                y + beyond * sin + lateral * cos,
                heading + 0 * lateral,
            ],
            axis=-1,
        )

    def at_least(self, points: Float64) -> float:
        """What none of the distances of points `[n, 2]` is below; quick."""
        x0, y0, x1, y1 = self._bounds
        (px0, py0), (px1, py1) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
        dx, dy = max(x0 - px1, px0 - x1, 0.0), max(y0 - py1, py0 - y1, 0.0)
        return math.hypot(dx, dy) - self.half_width

    @cached_property
    def _bounds(self) -> tuple[float, float, float, float]:
        (x0, y0), (x1, y1) = self.centre[:, :2].min(axis=0), self.centre[:, :2].max(axis=0)
        return float(x0), float(y0), float(x1), float(y1)

    def distance(self, points: Float64) -> Float64:
        """Signed distance of points `[n, 2]` from the kerb line, negative on the road."""
        if len(self.centre) == 2:  # straight: with square ends, so that a T has a straight side
            (ax, ay, yaw), (bx, by, _) = self.centre
            box = ((ax + bx) / 2, (ay + by) / 2, yaw, self.length, 2 * self.half_width)
            return _box_distance(points, box)
        if len(points) < 200:  # a few: all pieces at once
            starts, along = self.centre[:-1, :2], np.diff(self.centre[:, :2], axis=0)
            offset = points[:, None] - starts
            share = (offset * along).sum(axis=2) / (along * along).sum(axis=1)
            offset -= np.clip(share, 0, 1)[..., None] * along
            return np.sqrt((offset * offset).sum(axis=2).min(axis=1)) - self.half_width
        best = np.full(len(points), np.inf)
        for a, b in zip(self.centre[:-1, :2], self.centre[1:, :2], strict=True):
            along = b - a
            share = np.clip((points - a) @ along / (along @ along), 0, 1)
            offset = points - a - share[:, None] * along
            np.minimum(best, offset[:, 0] ** 2 + offset[:, 1] ** 2, out=best)
        return np.sqrt(best) - self.half_width


def bent_centre(
    start: tuple[float, float, float], pieces: list[tuple[float, float]], step_m: float = 3.0
) -> Float64:
    """A middle line of straight pieces and arcs.

    Args:
        start: x, y, heading.
        pieces: length and curvature (1 / radius, left positive) of each.
        step_m: between vertices on arcs.

    Returns:
        float64 `[n, 3]`: x, y, heading.
    """
    x, y, heading = start
    rows = [start]
    for length, curvature in pieces:
        count = max(1, round(length / step_m)) if curvature else 1
        for _ in range(count):
            turn = curvature * length / count
            chord = length / count * (math.sin(turn / 2) / (turn / 2) if turn else 1.0)
            x += chord * math.cos(heading + turn / 2)
            y += chord * math.sin(heading + turn / 2)
            heading += turn
            rows.append((x, y, heading))
    return np.array(rows)


@dataclass(frozen=True)
class Arm:
    """One street's part on one side of a junction.

    Attributes:
        street: index of the street.
        station: of the junction's middle on it.
        sign: 1 where the arm runs to growing stations, else -1.
        reach: from the middle to the edge of the street that is met.
        crossing: index of its zebra crossing.
        major: traffic from here need not stop where there are no signals.
    """

    street: int
    station: float
    sign: int
    reach: float
    crossing: int
    major: bool

    @property
    def stop_station(self) -> float:
        """Where the stop line is."""
        return self.station + self.sign * (self.reach + STOP_BEHIND_EDGE_M)


@dataclass(frozen=True)
class Crossing:
    """Where people cross a street.

    Attributes:
        street: index of the street.
        station: of its middle.
        junction: index of the junction whose signals it follows, -1 between junctions.
        painted: it is a zebra; else only where somebody in a hurry crosses.
    """

    street: int
    station: float
    junction: int = -1
    painted: bool = True


@dataclass(frozen=True)
class Junction:
    """Where two streets meet.

    Attributes:
        arms: three or four.
        x, y: its middle.
        control: `signal` or `stop` (for those who are not on the major street).
        offset_s: of the signals' cycle.
        green_s: of the major and the minor street.
    """

    arms: tuple[Arm, ...]
    x: float
    y: float
    control: Literal["signal", "stop"]
    offset_s: float = 0.0
    green_s: tuple[float, float] = (13.0, 9.0)

    def signal(self, major: bool, time_s: float) -> tuple[Literal["green", "yellow", "red"], float]:
        """The light for the major or minor street, and for how long it stays so."""
        amber, clear = 3.0, 2.0
        first, second = self.green_s
        cycle = first + second + 2 * (amber + clear)
        phase = (time_s + self.offset_s) % cycle
        start, green = (0.0, first) if major else (first + amber + clear, second)
        since = (phase - start) % cycle
        if since < green:
            return "green", green - since
        if since < green + amber:
            return "yellow", green + amber - since
        return "red", cycle - since


def light_changes(
    junction: Junction, major: bool, duration_s: float
) -> tuple[tuple[float, str], ...]:
    """When the major or minor street's light changes, seconds, and to what; the first at 0."""
    time_s, changes = 0.0, list[tuple[float, str]]()
    while not changes or time_s <= duration_s:
        light, stays = junction.signal(major, time_s)
        changes.append((round(time_s, 3), {"yellow": "amber"}.get(light, light)))
        time_s += stays + 1e-6
    return tuple(changes)


@dataclass(frozen=True)
class Lot:
    """A paved yard beside a street, with its way in.

    Attributes:
        x, y, yaw: of its middle; x runs along the street.
        length, width: along and across.
        drive: rectangle of the way in: x, y, yaw, length, width.
    """

    x: float
    y: float
    yaw: float
    length: float
    width: float
    drive: tuple[float, float, float, float, float]


@dataclass(frozen=True, eq=False)
class Plan:
    """The streets of one town.

    Attributes:
        streets: the first is the one the ego vehicle starts on.
        junctions: where they meet.
        crossings: where people cross.
        lots: yards.
        pavement_m: width of every pavement.
    """

    streets: tuple[Street, ...]
    junctions: tuple[Junction, ...]
    crossings: tuple[Crossing, ...]
    lots: tuple[Lot, ...]
    pavement_m: float
    kind: str = ""
    features: frozenset[str] = field(default_factory=frozenset)

    def road_distance(self, points: ArrayLike) -> Float64:
        """Signed distance of points `[n, 2]` to the kerb of the nearest road, negative on it.

        Corners between streets are rounded (the closed form of a fillet between two distances).
        """
        points = np.asarray(points, np.float64).reshape(-1, 2)
        distance = self.streets[0].distance(points)
        few = len(points) < _FEW
        for street in self.streets[1:]:
            # a road farther than the one found and than a corner's radius changes nothing
            if few and street.at_least(points) > max(CORNER_RADIUS_M, float(distance.max())):
                continue
            distance = _rounded_minimum(distance, street.distance(points), CORNER_RADIUS_M)
        for lot in self.lots:
            yard = _box_distance(points, (lot.x, lot.y, lot.yaw, lot.length, lot.width))
            drive = _box_distance(points, lot.drive)
            both = _rounded_minimum(yard, drive, 1.5)
            distance = _rounded_minimum(distance, both, 1.5)
        return distance

    def height(self, points: ArrayLike) -> Float64:
        """Height of the ground at points `[n, 2]`, metres."""
        return np.where(self.road_distance(points) < 0, 0.0, KERB_HEIGHT_M)


def _rounded_minimum(a: Float64, b: Float64, radius: float) -> Float64:
    rounded = np.hypot(np.maximum(radius - a, 0), np.maximum(radius - b, 0))
    return np.maximum(radius, np.minimum(a, b)) - rounded


def _box_distance(points: Float64, box: tuple[float, float, float, float, float]) -> Float64:
    x, y, yaw, length, width = box
    c, s = math.cos(yaw), math.sin(yaw)
    dx, dy = points[:, 0] - x, points[:, 1] - y
    along = np.abs(dx * c + dy * s) - length / 2
    across = np.abs(dy * c - dx * s) - width / 2
    outside = np.hypot(np.maximum(along, 0), np.maximum(across, 0))
    return outside + np.minimum(np.maximum(along, across), 0)
