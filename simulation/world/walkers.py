"""People on foot: ways along pavements and over crossings, waiting at kerbs, walking poses."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .catalogue import Kind
from .streets import Arm, Plan
from .traffic import STEP_S, Traffic

Float64 = NDArray[np.float64]

_STRIDE_M = 1.5  # of a whole cycle of the eight walking poses, for an adult
POSES = 8


def pose_of(distance: float, height: float, phase: float = 0.0) -> str:
    """Of the limbs of somebody so tall after so much walking, metres; `phase` in cycles."""
    stride = _STRIDE_M * height / 1.75
    return f"walk{int((distance / stride + phase) * POSES) % POSES}"


@dataclass(eq=False)
class Walker:
    """Somebody on foot.

    Attributes:
        kind: who.
        points: float64 `[n, 2]`, the way.
        crossings: first and last distance along the way, and index, of each crossing.
        pace: metres a second while walking.
        distance: along the way now.
        phase: shift of the pose's phase, so that people do not march in step.
    """

    kind: Kind
    points: Float64
    crossings: list[tuple[float, float, int]]
    pace: float
    distance: float
    phase: float = 0.0
    speed: float = 0.0
    stations: Float64 = field(init=False)
    done: bool = False

    def __post_init__(self) -> None:
        steps = np.hypot(*np.diff(self.points, axis=0).T)
        self.stations = np.concatenate([[0.0], np.cumsum(steps)])

    def places(self, distances: Float64) -> Float64:
        """x, y and heading `[n, 3]` at distances `[n]` along the way."""
        at = np.clip(distances, 0, self.stations[-1])
        x, y = (np.interp(at, self.stations, axis) for axis in self.points.T)
        cells = np.clip(np.searchsorted(self.stations, at, "right") - 1, 0, len(self.points) - 2)
        along = self.points[cells + 1] - self.points[cells]
        return np.column_stack([x, y, np.arctan2(along[:, 1], along[:, 0])])

    def pose(self, distance: float) -> str:
        """Of the limbs after so much walking."""
        return pose_of(distance, self.kind.size_wlh[2], self.phase)

    def on_crossing(self) -> int:
        """Index of the crossing this walker is on, -1 on the pavement."""
        for start, end, crossing in self.crossings:
            if start + 0.05 < self.distance < end:
                return crossing
        return -1


class Walkers:
    """All who walk, and their step in time."""

    def __init__(self, plan: Plan, walkers: list[Walker]) -> None:
        self.plan = plan
        self.walkers = walkers

    def step(self, time_s: float, traffic: Traffic) -> None:
        """Go on by `STEP_S`; tells the traffic who is on the road and who waits."""
        traffic.waiting[:] = False
        places: list[tuple[float, float]] = []
        crossings: list[int] = []
        for walker in self.walkers:
            if walker.done:
                continue
            waits = False
            for start, end, crossing in walker.crossings:
                before = start - walker.distance
                if -0.05 <= before < walker.pace * STEP_S + 0.02:
                    seconds = (end - start) / walker.pace
                    waits = not self._may_cross(crossing, seconds, time_s, traffic)
                    if waits and self._unsignalled(crossing):
                        traffic.waiting[crossing] = True
            target = 0.0 if waits else walker.pace
            change = min(max(target - walker.speed, -3.0 * STEP_S), 1.5 * STEP_S)
            walker.speed = 0.0 if waits else walker.speed + change
            walker.distance += walker.speed * STEP_S
            if walker.distance >= walker.stations[-1] - 0.05:
                walker.done = True
                walker.speed = 0.0
            crossing = walker.on_crossing()
            if crossing >= 0:
                places.append(walker.places(np.array([walker.distance]))[0, :2].tolist())
                crossings.append(crossing)
        traffic.walkers = np.array(places).reshape(-1, 2)
        traffic.walker_crossing = np.array(crossings, np.int64)

    def _unsignalled(self, crossing: int) -> bool:
        junction = self.plan.crossings[crossing].junction
        return junction < 0 or self.plan.junctions[junction].control != "signal"

    def _may_cross(self, index: int, seconds: float, time_s: float, traffic: Traffic) -> bool:
        crossing = self.plan.crossings[index]
        if not self._unsignalled(index):
            junction = self.plan.junctions[crossing.junction]
            major = any(arm.major and arm.crossing == index for arm in junction.arms)
            light, stays = junction.signal(major, time_s)
            return light == "red" and stays > seconds and traffic.arrival_s[index] > 1.5
        patience = 3.0 if crossing.painted else seconds + 2.0
        return bool(traffic.arrival_s[index] > patience)


@dataclass(frozen=True)
class _Edge:
    to: int
    points: Float64
    crossing: int


class PavementGraph:
    """Corners of blocks, joined by pavements and crossings."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.nodes: list[tuple[float, float]] = []
        self.edges: list[list[_Edge]] = []
        self._build()

    def _node(self, x: float, y: float) -> int:
        for index, (ox, oy) in enumerate(self.nodes):
            if math.hypot(ox - x, oy - y) < 0.6:
                return index
        self.nodes.append((x, y))
        self.edges.append([])
        return len(self.nodes) - 1

    def _join(self, points: Float64, crossing: int = -1) -> None:
        a, b = self._node(*points[0].tolist()), self._node(*points[-1].tolist())
        if a != b:
            self.edges[a].append(_Edge(b, points, crossing))
            self.edges[b].append(_Edge(a, points[::-1], crossing))

    def _build(self) -> None:
        plan = self.plan
        walk = plan.pavement_m * 0.58
        for number, street in enumerate(plan.streets):
            # stations at which the pavement of a side bends round a corner, and free crossings
            lateral = street.half_width + walk
            for side in (-1, 1):
                ends_in_junction = any(
                    arm.street == number and arm.station < 1
                    for j in plan.junctions
                    for arm in j.arms
                )
                cuts = [street.length - 6.0] + ([] if ends_in_junction else [6.0])
                gaps: list[tuple[float, float, int]] = []
                for junction in plan.junctions:
                    arms = [arm for arm in junction.arms if arm.street == number]
                    if not arms:
                        continue
                    reach = arms[0].reach + walk
                    crossed = self._arm_on_side(junction.arms, number, side)
                    gaps.append((arms[0].station - reach, arms[0].station + reach, crossed))
                    cuts += [arms[0].station - reach, arms[0].station + reach]
                for crossing in plan.crossings:
                    if crossing.street == number and crossing.junction < 0:
                        cuts.append(crossing.station)
                cuts = sorted(cut for cut in cuts if cut <= street.length)
                for low, high in pairwise(cuts):
                    if high - low < 0.5:
                        continue
                    inside = [gap for gap in gaps if gap[0] - 0.1 < low and high < gap[1] + 0.1]
                    count = max(2, math.ceil((high - low) / 2.0))
                    points = street.place(np.linspace(low, high, count), side * lateral)[:, :2]
                    self._join(points, inside[0][2] if inside else -1)
            for index, crossing in enumerate(plan.crossings):
                if crossing.street == number and crossing.junction < 0:
                    laterals = np.linspace(-lateral, lateral, 12)
                    self._join(street.place(crossing.station, laterals)[:, :2], index)

    def _arm_on_side(self, arms: tuple[Arm, ...], number: int, side: int) -> int:
        """The crossing that a pavement of street `number` meets at a junction, -1 for none."""
        street = self.plan.streets[number]
        own = next(arm for arm in arms if arm.street == number)
        heading = float(street.place(own.station, 0.0)[2])
        for arm in arms:
            if arm.street == number:
                continue
            other = float(self.plan.streets[arm.street].place(arm.station, 0.0)[2])
            away = other if arm.sign > 0 else other + math.pi
            if math.sin(away - heading) * side > 0.5:
                return arm.crossing
        return -1

    def draw_way(
        self, rng: np.random.Generator, length_m: float, crossing_taste: float = 1.0
    ) -> tuple[Float64, list[tuple[float, float, int]], float]:
        """Draw a way.

        Args:
            rng: draws start and turns.
            length_m: it is at least this long where the graph goes on.
            crossing_taste: how much more often than straight on a crossing is taken.

        Returns:
            Points `[n, 2]`, the crossings on it (first and last distance, index), and a distance
            to start at.
        """
        lengths = [
            sum(self._long(edge) for edge in edges if edge.crossing < 0) for edges in self.edges
        ]
        weights = np.array(lengths) + 1e-9
        node = int(rng.choice(len(weights), p=weights / weights.sum()))
        open_edges = [edge for edge in self.edges[node] if edge.crossing < 0]
        weights = np.array([self._long(edge) for edge in open_edges])
        edge = open_edges[int(rng.choice(len(open_edges), p=weights / weights.sum()))]
        start = float(rng.uniform(0, self._long(edge)))
        pieces, crossings, done, back = [edge.points], [], self._long(edge), node
        while done - start < length_m:
            onward = [e for e in self.edges[edge.to] if e.to != back]
            if not onward:
                break
            taste = np.array([self._taste(e) * (crossing_taste if e.crossing >= 0 else 1.0)
                              for e in onward])  # fmt: skip
            back = edge.to
            edge = onward[int(rng.choice(len(onward), p=taste / taste.sum()))]
            long = self._long(edge)
            if edge.crossing >= 0:
                crossings.append((*self._roadway(edge, done), edge.crossing))
            pieces.append(edge.points[1:])
            done += long
        return np.concatenate(pieces), crossings, start

    def _taste(self, edge: _Edge) -> float:
        if edge.crossing < 0:
            return 1.0
        return 0.9 if self.plan.crossings[edge.crossing].painted else 0.06

    def _long(self, edge: _Edge) -> float:
        return float(np.hypot(*np.diff(edge.points, axis=0).T).sum())

    def _roadway(self, edge: _Edge, done: float) -> tuple[float, float]:
        """First and last distance of the part of an edge that is on the road."""
        count = 60
        share = np.linspace(0, 1, count)
        first, last = edge.points[0], edge.points[-1]
        on = self.plan.road_distance(first + share[:, None] * (last - first)) < 0.25
        long = self._long(edge)
        inside = np.flatnonzero(on)
        if not len(inside):
            return done + long / 2, done + long / 2
        first_m, last_m = float(share[inside[0]]) * long, float(share[inside[-1]]) * long
        return done + first_m - 0.3, done + last_m + 0.3
