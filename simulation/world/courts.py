"""Ground set back from the streets: front courts, driveways, yards, building sites, stands.

Courts lie behind the pavement, higher than the road by a kerb, and are paved with plates. What
stands on them fills the view to both sides of a drive.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .catalogue import Kind, draw_kind
from .footprints import corners
from .markings import clear_stretches
from .standing import Box, KerbPlace, Standing
from .streets import KERB_HEIGHT_M, Plan
from .works import add_worker, add_worker_on_way

_SLOT_M = 2.75
_BENT = 0.12  # radians between the ends of a court along a street, at most


class Court:
    """One piece of ground: u runs along the street from the middle, v away from it."""

    def __init__(
        self, plan: Plan, place: KerbPlace, depth: float, standing: Standing,
        rng: np.random.Generator,
    ) -> None:  # fmt: skip
        """Lay it out behind the pavement; nothing is placed yet."""
        street = plan.streets[place.street]
        self.place, self.depth, self.length = place, depth, place.end - place.start
        self.standing, self.rng = standing, rng
        self.pavement_m = plan.pavement_m
        inner = street.half_width + plan.pavement_m + 0.15
        self._x, self._y, self.heading = street.place(place.middle, place.side * inner).tolist()
        self.outward = self.heading + place.side * math.pi / 2

    def at(self, u: float, v: float) -> tuple[float, float]:
        """World x, y of a point on it."""
        c, s = math.cos(self.heading), math.sin(self.heading)
        side = self.place.side
        return self._x + u * c - side * v * s, self._y + u * s + side * v * c

    def box(self, u: float, v: float, along: float, across: float) -> Box:
        """A rectangle on it, by its middle and its sides along u and v."""
        return (*self.at(u, v), self.heading, along, across)

    def put(
        self, kind: Kind, u: float, v: float, yaw: float, attribute: str = "vehicle.parked",
        gap: float = 0.15,
    ) -> bool:  # fmt: skip
        """Stand something on it, heading as given in the world."""
        x, y = self.at(u, v)
        return self.standing.put(kind, x, y, KERB_HEIGHT_M, yaw, attribute, gap=gap)

    def pave(self, material: str, access_m: float) -> None:
        """Plates over all of it, and over the pavement where one drives in."""
        plates = self.standing.plates
        plates.append((material, self.box(0, self.depth / 2, self.length, self.depth)))
        if access_m:
            across = self.pavement_m - 0.1
            strip = self.box(0, -across / 2 - 0.05, access_m, across)
            plates.append((material, strip))
            self.standing.occupied.add(strip)
            half = access_m / 2 + 0.3
            middle = self.place.middle
            self.standing.accesses.append(
                KerbPlace(self.place.street, self.place.side, middle - half, middle + half)
            )

    def row(self, v: float, share: float, long: float = 5.0) -> None:
        """Cars side by side, noses in or out, with lines between them."""
        rng = self.rng
        count = int((self.length - 0.4) / _SLOT_M)
        for k in range(count + 1):
            line = (k - count / 2) * _SLOT_M
            self.standing.plates.append(("road_paint", self.box(line, v, 0.1, long)))
        for k in range(count):
            if rng.random() > share:
                continue
            kind = draw_kind("car", rng)
            u = (k + 0.5 - count / 2) * _SLOT_M + float(rng.normal(0, 0.07))
            yaw = self.outward + math.pi * (rng.random() < 0.35) + float(rng.normal(0, 0.02))
            self.put(kind, u, v + float(rng.normal(0, 0.12)), yaw)


def _front_court(court: Court, duration_s: float) -> None:
    court.pave(str(court.rng.choice(["asphalt", "concrete", "paving"])), court.length - 0.6)
    court.row(court.depth - 3.0, float(court.rng.uniform(0.7, 0.97)))


def _driveway(court: Court, duration_s: float) -> None:
    court.pave(str(court.rng.choice(["concrete", "paving", "asphalt"])), court.length - 0.4)
    court.row(court.depth - 3.1, 0.9, 0.01)


def _small_lot(court: Court, duration_s: float) -> None:
    rng = court.rng
    court.pave("asphalt", 5.0)
    share = float(rng.uniform(0.5, 0.85))
    court.row(court.depth - 2.9, share)
    if rng.random() < 0.5:
        _motorcycles(court, -court.length / 2 + 1.0, 1.6, 3)
    for k in range(int(court.length / 2 / _SLOT_M) - 1):
        if rng.random() < share:  # nearer the street, beside the way in
            kind = draw_kind("car", rng)
            u = court.length / 2 - (k + 0.6) * _SLOT_M
            court.put(kind, u, 2.9, court.outward + math.pi * (rng.random() < 0.35))


def _yard(court: Court, duration_s: float) -> None:
    """Trailers and trucks side by side before a loading bay."""
    rng = court.rng
    court.pave("concrete", 5.0)
    u = -court.length / 2 + 2.2
    while u < court.length / 2 - 1.9:
        kind = draw_kind("trailer" if rng.random() < 0.52 else "truck", rng)
        v = court.depth - 0.4 - kind.size_wlh[1] / 2
        court.put(kind, u, v, court.outward + math.pi)
        u += float(rng.choice([3.6, 3.6, 5.0]))


def _coach_bay(court: Court, duration_s: float) -> None:
    """Coaches along the street."""
    rng = court.rng
    court.pave("asphalt", 5.0)
    u = -court.length / 2 + 0.8
    while True:
        kind = draw_kind("bus/city", rng)
        long = kind.size_wlh[1]
        if u + long > court.length / 2:
            return
        yaw = court.heading + (math.pi if court.place.side > 0 else 0.0)
        court.put(kind, u + long / 2, court.depth / 2, yaw)
        u += long + float(rng.uniform(1.2, 3.0))


def _building_site(court: Court, duration_s: float) -> None:
    """A fence of barriers along the street, machines, a dump truck, people at work."""
    rng = court.rng
    court.pave("soil", 4.5)
    barrier = draw_kind("barrier", rng)
    step = barrier.size_wlh[0] + 0.2
    u = -court.length / 2 + step / 2
    fenced = u + float(rng.uniform(0.35, 1.0)) * court.length  # the rest is open yet
    while u < min(court.length / 2 - step / 2, fenced):
        if abs(u) > 2.4 + step / 2:
            court.put(barrier, u, 0.5, court.heading + math.pi / 2, "", gap=0.02)
        u += step
    for edge in (-2.6, 2.6):
        court.put(draw_kind("cone/standard", rng), edge, 0.5, 0.0, "", gap=0.02)
    machines = ["construction", "truck/dump" if rng.random() < 0.7 else "construction"]
    machines += ["construction"] if court.length > 23 else []
    u = -court.length / 2
    for what in machines:
        kind = draw_kind(what, rng)
        u += kind.size_wlh[1] / 2 + float(rng.uniform(0.5, 1.2))
        turn = float(rng.normal(0, 0.2)) + math.pi * (rng.random() < 0.5)
        attribute = "vehicle.parked" if rng.random() < 0.7 else "vehicle.stopped"
        if u + kind.size_wlh[1] / 2 < court.length / 2:
            court.put(kind, u, court.depth - 2.6, court.heading + turn, attribute)
        u += kind.size_wlh[1] / 2
    half = court.length / 2 - 3
    for number in range(int(rng.integers(2, 4))):
        for _try in range(6):
            x, y = court.at(float(rng.uniform(-half, half)), float(rng.uniform(2.0, 5.5)))
            done = (
                add_worker_on_way(
                    court.standing, (x, y, court.heading), KERB_HEIGHT_M, duration_s, rng
                )
                if number < 1
                else add_worker(court.standing, (x, y), KERB_HEIGHT_M, rng)
            )
            if done:
                break
    for _ in range(int(rng.integers(0, 3))):
        cone = draw_kind("cone/standard", rng)
        court.put(cone, float(rng.uniform(-half, half)), float(rng.uniform(1.4, 6.5)), 0.0, "")


def _motorcycles(court: Court, u: float, v: float, count: int) -> None:
    for k in range(count):
        kind = draw_kind("motorcycle/standard", court.rng)
        yaw = court.outward + float(court.rng.normal(0, 0.08))
        court.put(kind, u + 1.15 * k, v, yaw, "cycle.without_rider", gap=0.05)


def _cycle_stand(court: Court, duration_s: float) -> None:
    """Bicycles side by side, and a few motorcycles."""
    rng = court.rng
    court.pave("paving", 0.0)
    for k in range(int((court.length - 3.5) / 0.9)):
        if rng.random() < 0.65:
            kind = draw_kind("bicycle/standard", rng)
            yaw = court.outward + float(rng.normal(0, 0.06)) + math.pi * (rng.random() < 0.2)
            u = -court.length / 2 + 0.6 + 0.9 * k
            court.put(kind, u, 1.6, yaw, "cycle.without_rider", gap=0.02)
    _motorcycles(court, court.length / 2 - 2.6, 1.7, int(rng.integers(1, 4)))


def _barrier_store(court: Court, duration_s: float) -> None:
    """Barriers and cones laid ready for works."""
    rng = court.rng
    court.pave("concrete", 3.0)
    barrier = draw_kind("barrier", rng)
    for v in np.arange(2.0, court.depth - 0.6, 1.2):
        for u in np.arange(
            -court.length / 2 + 1.5, court.length / 2 - 1.2, barrier.size_wlh[0] + 0.3
        ):
            if rng.random() < 0.75:
                court.put(barrier, float(u), float(v), court.heading + math.pi / 2, "", gap=0.05)
    for _ in range(int(rng.integers(1, 4))):
        cone = draw_kind("cone/standard", rng)
        half = court.length / 2 - 0.5
        court.put(cone, float(rng.uniform(-half, half)), float(rng.uniform(0.6, 1.2)), 0.0, "")


def _plaza(court: Court, duration_s: float) -> None:
    """People who stand and talk."""
    rng = court.rng
    court.pave("paving", 0.0)
    for _ in range(int(rng.integers(1, 4))):
        half = court.length / 2 - 1.2
        u, v = float(rng.uniform(-half, half)), float(rng.uniform(1.4, court.depth - 1.2))
        group = int(rng.integers(1, 4))
        for number in range(group):
            angle = 2 * math.pi * number / group + u
            radius = 0.6 if group > 1 else 0.0
            x, y = court.at(u + radius * math.cos(angle), v + radius * math.sin(angle))
            x0, y0 = court.at(u, v)
            yaw = math.atan2(y0 - y, x0 - x) if group > 1 else angle
            court.standing.put(
                draw_kind("pedestrian", rng), x, y, KERB_HEIGHT_M, yaw, "pedestrian.standing",
                "stand", gap=0.05,
            )  # fmt: skip


_Filler = Callable[[Court, float], None]
# how often, least and greatest length along the street, depth, what stands on it
_KINDS: tuple[tuple[float, tuple[float, float], float, _Filler], ...] = (
    (9.0, (12.0, 29.0), 6.2, _front_court),
    (3.0, (3.2, 6.2), 6.6, _driveway),
    (2.5, (14.0, 24.0), 15.5, _small_lot),
    (3.6, (11.0, 19.0), 14.5, _yard),
    (4.8, (14.0, 30.0), 4.2, _coach_bay),
    (5.2, (19.0, 30.0), 9.5, _building_site),
    (0.45, (7.0, 10.0), 3.4, _cycle_stand),
    (0.15, (7.0, 11.0), 5.0, _barrier_store),
    (0.7, (7.0, 12.0), 6.0, _plaza),
)


def add_courts(plan: Plan, standing: Standing, duration_s: float, rng: np.random.Generator) -> None:
    """Lay courts along both sides of every street and fill them.

    Args:
        plan: the streets.
        standing: what already stands; grows.
        duration_s: who moves to and fro does so from 0 to here.
        rng: for the draws.
    """
    weights = np.array([kind[0] for kind in _KINDS])
    weights = weights / weights.sum()
    for number in range(len(plan.streets)):
        for side in (-1, 1):
            for start, end in clear_stretches(plan, number):
                station = start + 8.0 + float(rng.uniform(0, 12))
                while station < end - 12.0:
                    _, lengths, depth, fill = _KINDS[int(rng.choice(len(_KINDS), p=weights))]
                    place = KerbPlace(number, side, station, station + float(rng.uniform(*lengths)))
                    court = (
                        _laid(plan, place, depth, standing, rng) if place.end < end - 8 else None
                    )
                    if court is None:
                        station += 5.0
                        continue
                    fill(court, duration_s)
                    whole = court.box(0, depth / 2, court.length, depth)
                    standing.occupied.add(whole)
                    station = place.end + float(rng.choice([1.0, 6.0, 14.0, 22.0]))


def _laid(
    plan: Plan, place: KerbPlace, depth: float, standing: Standing, rng: np.random.Generator
) -> Court | None:
    """A court where there is room for it, None where there is none."""
    ends = plan.streets[place.street].place(np.array([place.start, place.end]), 0.0)[:, 2]
    if abs(float(ends[1] - ends[0])) > _BENT:
        return None
    court = Court(plan, place, depth, standing, rng)
    whole = court.box(0, depth / 2, court.length, depth)
    if not standing.occupied.is_free(whole, 0.4):
        return None
    outline = corners(whole)[0]
    ring = np.concatenate([outline, (outline + np.roll(outline, -1, axis=0)) / 2])
    if plan.road_distance(ring).min() < plan.pavement_m - 0.35:
        return None
    return court
