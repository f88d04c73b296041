"""Dug-up stretches of street: fenced in, with machines, and people who work there."""

from __future__ import annotations

import math

import numpy as np

from .catalogue import Kind, draw_kind
from .model import State, Track
from .standing import KerbPlace, Standing, draw_place, side_yaw
from .streets import LANE_M, Plan, Street
from .walkers import pose_of

_PACE_MPS = 1.05
_STEP_S = 0.1


def add_works(plan: Plan, standing: Standing, duration_s: float, rng: np.random.Generator) -> None:
    """Dig up one or two stretches of the main street."""
    street = plan.streets[0]
    for _ in range(1 + int(rng.random() < 0.4)):
        place = draw_place(plan, standing, rng, float(rng.uniform(26, 42)), 6.0)
        if place is None:
            return
        if not street.parking and street.lanes < 2:
            return
        standing.works.append(place)
        standing.closed.add((0, -place.side))
        inner = street.lanes_edge + 0.3
        if street.lanes >= 2:
            inner -= LANE_M - 0.2
        _fence_works(street, place, inner, standing, rng)
        _fill_works(street, place, inner, standing, duration_s, rng)


def _fence_works(
    street: Street, place: KerbPlace, inner: float, standing: Standing, rng: np.random.Generator
) -> None:
    outer = street.half_width - 0.4
    upstream, direction = (place.start, 1) if place.side < 0 else (place.end, -1)
    cone = draw_kind("cone/standard", rng)
    for k in range(5):  # a taper of cones before it
        station = upstream + direction * 2.0 * k
        lateral = place.side * (outer + (inner + 0.3 - outer) * k / 4)
        x, y, _ = street.place(station, lateral).tolist()
        standing.put(cone, x, y, 0.0, float(rng.uniform(-3, 3)), "", gap=0.0)
    with_barriers = rng.random() < 0.75
    barrier = draw_kind("barrier", rng)
    length = place.end - place.start
    step = barrier.size_wlh[1] if not with_barriers else barrier.size_wlh[0] + 0.25
    station = 11.0
    while station < length - 2:
        where = upstream + direction * station
        x, y, heading = street.place(where, place.side * (inner + 0.3)).tolist()
        if with_barriers:
            # a barrier's box is wide, not long: its width lies along the street
            standing.put(barrier, x, y, 0.0, heading + math.pi / 2, "", gap=0.0)
            station += step
        else:
            standing.put(cone, x, y, 0.0, heading, "", gap=0.0)
            station += 3.2
    lateral = inner + 1.9
    while lateral < outer - 0.8:
        x, y, heading = street.place(
            upstream + direction * (length - 1.0), place.side * lateral
        ).tolist()
        standing.put(barrier, x, y, 0.0, heading, "", gap=0.0)
        lateral += barrier.size_wlh[0] + 0.2


def _fill_works(
    street: Street, place: KerbPlace, inner: float, standing: Standing, duration_s: float,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    outer = street.half_width
    direction = -place.side
    upstream = place.start if direction > 0 else place.end
    length = place.end - place.start
    middle = (inner + 0.7 + outer) / 2
    at = 13.0 + float(rng.uniform(0, 3))
    machines = ["construction", "truck/dump"] if rng.random() < 0.8 else ["construction"]
    for what in machines:
        kind = draw_kind(what, rng)
        if at + kind.size_wlh[1] > length - 3:
            break
        station = upstream + direction * (at + kind.size_wlh[1] / 2)
        lateral = max(middle, inner + 0.75 + kind.size_wlh[0] / 2)
        x, y, _ = street.place(station, place.side * lateral).tolist()
        yaw = side_yaw(street, station, place.side) + (math.pi if rng.random() < 0.3 else 0.0)
        attribute = "vehicle.parked" if rng.random() < 0.7 else "vehicle.stopped"
        standing.put(kind, x, y, 0.0, yaw, attribute)
        at += kind.size_wlh[1] + 3.0
    ways = int(rng.integers(1, 3))
    for number in range(ways + int(rng.integers(1, 4))):
        for _try in range(8):
            station = upstream + direction * float(rng.uniform(9, length - 3))
            lateral = float(rng.uniform(inner + 1.2, outer - 0.6))
            x, y, heading = street.place(station, place.side * lateral).tolist()
            done = (
                add_worker_on_way(standing, (x, y, heading), 0.0, duration_s, rng)
                if number < ways
                else add_worker(standing, (x, y), 0.0, rng)
            )
            if done:
                break
    for _ in range(int(rng.integers(1, 4))):
        station = upstream + direction * float(rng.uniform(9, length - 3))
        lateral = float(rng.uniform(inner + 1.2, outer - 0.5))
        x, y, _ = street.place(station, place.side * lateral).tolist()
        standing.put(draw_kind("cone/standard", rng), x, y, 0.0, 0.0, "")


def add_worker(
    standing: Standing, place: tuple[float, float], z: float, rng: np.random.Generator
) -> bool:
    """Stand a construction worker somewhere if it is free there; whether it was."""
    kind = draw_kind("pedestrian/worker", rng)
    yaw = float(rng.uniform(-3.1, 3.1))
    return standing.put(kind, *place, z, yaw, "pedestrian.standing", "stand", gap=0.15)


def add_worker_on_way(
    standing: Standing,
    middle: tuple[float, float, float],
    z: float,
    duration_s: float,
    rng: np.random.Generator,
) -> bool:
    """A worker who goes to and fro on a straight way, if that is free; whether it was.

    Args:
        standing: where the worker is added.
        middle: x, y of the middle of the way, and its heading.
        z: height of the ground, metres.
        duration_s: from 0 to here.
        rng: for the draws.
    """
    kind = draw_kind("pedestrian/worker", rng)
    reach = float(rng.uniform(2.5, 5.0))
    x, y, yaw = middle
    strip = (x, y, yaw, reach + kind.size_wlh[1], kind.size_wlh[0] + 0.1)
    if not standing.occupied.take(strip, 0.1):
        return False
    standing.add(kind, _to_and_fro(kind, middle, z, reach, duration_s, rng), "way")
    return True


def _to_and_fro(
    kind: Kind, middle: tuple[float, float, float], z: float, reach: float, duration_s: float,
    rng: np.random.Generator,
) -> Track:  # fmt: skip
    """Walks one way, stands for a while, walks back."""
    x, y, yaw = middle
    c, s = math.cos(yaw), math.sin(yaw)
    walk, pause = reach / _PACE_MPS, float(rng.uniform(1.5, 6.0))
    begun = float(rng.uniform(0, 2 * (walk + pause)))
    count = max(1, math.ceil(duration_s / _STEP_S - 1e-9))
    times = [min(round(k * _STEP_S, 3), duration_s) for k in range(count + 1)]
    states: list[State] = []
    for time_s in times:
        phase = (begun + time_s) % (2 * (walk + pause))
        back = phase >= walk + pause
        since = phase - (walk + pause) * back
        along = min(since, walk) * _PACE_MPS
        offset = (reach / 2 - along) if back else along - reach / 2
        walks = since < walk
        states.append(
            State(
                round(x + offset * c, 3),
                round(y + offset * s, 3),
                z,
                round(yaw + math.pi * back, 4),
                _PACE_MPS if walks else 0.0,
                "pedestrian.moving" if walks else "pedestrian.standing",
                pose_of(along, kind.size_wlh[2]) if walks else "stand",
            )
        )
    return Track(tuple(times), tuple(states))
