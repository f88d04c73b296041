"""Ways of vehicles through the streets: smooth curves with stop lines and crossings on them."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .streets import Arm, Plan

Float64 = NDArray[np.float64]
_STEP_M = 1.0


@dataclass(frozen=True)
class Passage:
    """One way's passing of a junction.

    Attributes:
        junction: index.
        arm: the index of the arm that is left.
        turn: `left`, `straight` or `right`.
        stop: distance along the way of the stop line.
        end: of the end of the junction.
    """

    junction: int
    arm: int
    turn: str
    stop: float
    end: float


@dataclass(eq=False)
class Route:
    """A way.

    Attributes:
        points: float64 `[n, 2]`, about a metre apart.
        passages: of junctions, in order.
        crossings: distance along the way and index of each crossing.
        spans: pieces on streets: first and last distance, street, direction, lane.
    """

    points: Float64
    passages: list[Passage] = field(default_factory=list)
    crossings: list[tuple[float, int]] = field(default_factory=list)
    spans: list[tuple[float, float, int, int, int]] = field(default_factory=list)

    @cached_property
    def stations(self) -> Float64:
        """Distance along the way at each point."""
        return np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(self.points, axis=0).T))])

    @property
    def length(self) -> float:
        """Metres."""
        return float(self.stations[-1])

    def at(self, distance: float) -> tuple[float, float]:
        """The point at a distance along the way."""
        stations, points = self._lists
        after = min(max(bisect.bisect_right(stations, distance), 1), len(stations) - 1)
        s0, s1 = stations[after - 1], stations[after]
        share = min(max((distance - s0) / (s1 - s0), 0.0), 1.0)
        (ax, ay), (bx, by) = points[after - 1], points[after]
        return ax + share * (bx - ax), ay + share * (by - ay)

    @cached_property
    def _lists(self) -> tuple[list[float], list[list[float]]]:
        """Stations and points as Python's numbers: one look-up is much faster in these."""
        return self.stations.tolist(), self.points.tolist()

    def shifted(self, knots: list[tuple[float, float]], blend_m: float = 14.0) -> Route:
        """The way moved sideways: each knot is where a shift to the left begins to be blended in.

        Args:
            knots: distance along the way and the shift from there on, metres, in order.
            blend_m: how long a blend takes.
        """
        s = self.stations
        shift, last = np.zeros_like(s), 0.0
        for start, target in knots:
            share = np.clip((s - start) / blend_m, 0, 1)
            shift += (target - last) * share**3 * (10 - 15 * share + 6 * share**2)
            last = target
        along = np.gradient(self.points, axis=0)
        along /= np.linalg.norm(along, axis=1, keepdims=True)
        normal = np.stack([-along[:, 1], along[:, 0]], axis=1)
        points = self.points + shift[:, None] * normal
        return Route(points, self.passages, self.crossings, self.spans)


def draw_route(
    plan: Plan,
    street: int,
    direction: int,
    lane: int,
    station: float,
    length_m: float,
    rng: np.random.Generator,
    straight_on: float = 0.62,
    closed: frozenset[tuple[int, int]] = frozenset(),
) -> Route:
    """Draw a way along a lane and through the junctions it meets.

    Args:
        plan: the town.
        street: where it starts; `lane` equal to its `lanes` is the cyclists' strip.
        direction: 1 along growing stations, -1 against.
        lane: 0 the inner one.
        station: of its start.
        length_m: it ends when it is this long, or with the street.
        rng: draws the turns.
        straight_on: chance of not turning where one may.
        closed: streets and directions that are not entered by turning (their strips are dug up).
    """
    pieces: list[Float64] = []
    route = Route(np.zeros((0, 2)))
    done = 0.0
    while True:
        here = plan.streets[street]
        cycling = lane == here.lanes
        ahead = _next_arm(plan, street, direction, station)
        if ahead is None:
            end = here.length if direction > 0 else 0.0
        else:
            end = plan.junctions[ahead[0]].arms[ahead[1]].stop_station
        piece = _lane_points(plan, street, direction, lane, station, end)
        stretch = float(np.hypot(*np.diff(piece, axis=0).T).sum())
        longer = stretch / max(abs(end - station), 1e-6)  # than the middle line, in a bend
        for index, crossing in enumerate(plan.crossings):
            offset = (crossing.station - station) * direction * longer
            if crossing.street == street and crossing.junction < 0 and 0 < offset < stretch:
                route.crossings.append((done + offset, index))
        route.spans.append((done, done + stretch, street, direction, lane))
        pieces.append(piece)
        done += stretch
        if ahead is None or done > length_m:
            break
        junction = plan.junctions[ahead[0]]
        entered = junction.arms[ahead[1]]
        choices = _choices(plan, junction.arms, entered, lane, cycling, closed)
        if not choices:
            break
        straight = [choice for choice in choices if choice[1] == "straight"]
        turns = [choice for choice in choices if choice[1] != "straight"]
        keep = straight and (not turns or rng.random() < straight_on)
        pool = straight if keep else turns
        left_arm, turn = pool[int(rng.integers(len(pool)))]
        exit_arm = junction.arms[left_arm]
        street, direction = exit_arm.street, exit_arm.sign
        lanes = plan.streets[street].lanes
        lane = {"left": 0, "right": lanes - 1}.get(turn, min(lane, lanes - 1))
        lane = lanes if cycling else lane
        start = _lane_points(plan, street, direction, lane, exit_arm.stop_station, None)
        curve = _turn(piece, start)
        span = float(np.hypot(*np.diff(curve, axis=0).T).sum())
        route.passages.append(Passage(ahead[0], left_arm, turn, done, done + span))
        route.crossings += [(done + 3.0, entered.crossing), (done + span - 3.0, exit_arm.crossing)]
        pieces.append(curve)
        done += span
        station = exit_arm.stop_station
    joined = np.concatenate(pieces)
    steps = np.hypot(*np.diff(joined, axis=0).T)
    joined = joined[np.concatenate([[True], steps > 1e-6])]
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(joined, axis=0).T))])
    every = np.linspace(0, along[-1], max(2, round(along[-1] / _STEP_M) + 1))
    route.points = np.stack([np.interp(every, along, joined[:, k]) for k in (0, 1)], axis=1)
    return route


def _next_arm(plan: Plan, street: int, direction: int, station: float) -> tuple[int, int] | None:
    """Junction and arm whose stop line is the next ahead."""
    best, found = math.inf, None
    for j, junction in enumerate(plan.junctions):
        for a, arm in enumerate(junction.arms):
            offset = (arm.stop_station - station) * direction
            if arm.street == street and arm.sign == -direction and 0 < offset < best:
                best, found = offset, (j, a)
    return found


def _choices(
    plan: Plan,
    arms: tuple[Arm, ...],
    entered: Arm,
    lane: int,
    cycling: bool,
    closed: frozenset[tuple[int, int]],
) -> list[tuple[int, str]]:
    lanes = plan.streets[entered.street].lanes
    come = _heading(plan, entered) + math.pi
    choices: list[tuple[int, str]] = []
    for index, arm in enumerate(arms):
        if arm is entered:
            continue
        bend = math.remainder(_heading(plan, arm) - come, 2 * math.pi)
        turn = "straight" if abs(bend) < 0.6 else "left" if bend > 0 else "right"
        if (turn == "left" and (lane > 0 or cycling)) or (turn == "right" and lane < lanes - 1):
            continue
        if turn != "straight" and (arm.street, arm.sign) in closed:
            continue
        choices.append((index, turn))
    return choices


def _heading(plan: Plan, arm: Arm) -> float:
    """Away from the junction along an arm."""
    along = float(plan.streets[arm.street].place(arm.station, 0.0)[2])
    return along if arm.sign > 0 else along + math.pi


def _lane_points(
    plan: Plan, street: int, direction: int, lane: int, start: float, end: float | None
) -> Float64:
    """Points of a lane `[n, 2]`; with no end the first one and one a metre on."""
    here = plan.streets[street]
    end = start + direction if end is None else end
    count = max(2, math.ceil(abs(end - start) / 2.0) + 1)
    stations = np.linspace(start, end, count)
    return here.place(stations, -direction * here.lane_lateral(lane))[:, :2]


def _turn(before: Float64, after: Float64) -> Float64:
    """Straight, arc, straight from the end of one piece to the start of the next."""
    p, q = before[-1], after[0]
    u, v = p - before[-2], after[1] - q
    u, v = u / np.hypot(*u), v / np.hypot(*v)
    cross = float(u[0] * v[1] - u[1] * v[0])
    if abs(cross) < 0.15:  # straight on, perhaps one lane further: an S that is level at its ends
        share = np.linspace(0, 1, 24)[:, None]
        gap = float(np.hypot(*(q - p)))
        h00, h10 = 2 * share**3 - 3 * share**2 + 1, share**3 - 2 * share**2 + share
        h01, h11 = 3 * share**2 - 2 * share**3, share**3 - share**2
        return h00 * p + h10 * gap * u + h01 * q + h11 * gap * v
    delta = q - p
    along = float(delta[0] * v[1] - delta[1] * v[0]) / cross  # from p to where the lines meet
    corner = p + along * u
    back = float(np.dot(q - corner, v))
    reach = min(along, back)
    bend = math.asin(max(-1.0, min(1.0, cross)))
    radius = reach / math.tan(abs(bend) / 2)
    first, side = corner - reach * u, math.copysign(1.0, cross)
    centre = first + side * radius * np.array([-u[1], u[0]])
    angles = np.linspace(0, bend, max(6, round(radius * abs(bend))))
    c, s = np.cos(angles)[:, None], np.sin(angles)[:, None]
    spoke = first - centre
    arc = centre + c * spoke + s * np.array([-spoke[1], spoke[0]])
    return np.concatenate([p[None], arc, q[None]])
