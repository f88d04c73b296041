"""Draws the streets of a town: which kind of street the ego drives on, and what it meets."""

from __future__ import annotations

import math

import numpy as np

from .streets import (
    STOP_BEHIND_EDGE_M,
    ZEBRA_BEHIND_EDGE_M,
    Arm,
    Crossing,
    Junction,
    Lot,
    Plan,
    Street,
    bent_centre,
)

KINDS = ("city", "crossing", "tee", "curve", "works", "arterial", "lot")
EGO_START_STATION_M = 120.0
WARM_UP_S = 12.0
SIDE_LENGTH_M = 150.0
_FASTEST_MEAN_MPS = 11.5


def draw_plan(seed: int, index: int, duration_s: float, rng: np.random.Generator) -> Plan:
    """The streets of world `index`; kinds and features take turns, so that a few worlds have all.

    Args:
        seed: of the set of worlds.
        index: of the world in it.
        duration_s: the ego drives this long.
        rng: for everything that is left to chance.
    """
    turn = seed + index
    kind = KINDS[turn % len(KINDS)]
    features = {
        name
        for name, every, shift, chance in (
            ("works", 2, 0, 0.25),
            ("bus", 2, 1, 0.6),
            ("trailer", 2, 0, 0.35),
            ("cycles", 1, 0, 1.0),
            ("machine_parked", 3, 1, 0.1),
        )
        if (turn + shift) % every == 0 or rng.random() < chance
    }
    features |= {"works"} if kind == "works" else set()
    main, straight = _main_street(kind, duration_s, rng)
    streets, junctions, crossings = [main], [], []
    station = EGO_START_STATION_M + float(rng.uniform(55, 110))
    if kind == "crossing":
        station = EGO_START_STATION_M + float(rng.uniform(60, 85))
    while station < main.length - 60:
        if any(low + 28 < station < high - 28 for low, high in straight):
            _add_junction(kind, station, main, streets, junctions, crossings, rng)
        station += float(rng.uniform(95, 150))
    taken = [arm.station for junction in junctions for arm in junction.arms if arm.street == 0]
    for painted, count in ((True, 2), (False, 4)):
        for _ in range(count):
            middle = float(rng.uniform(40, main.length - 40))
            if all(abs(middle - other) > 42 for other in taken):
                crossings.append(Crossing(0, middle, painted=painted))
                taken.append(middle)
    pavement = float(rng.uniform(3.6, 5.4))
    lots = _lots(main, taken, pavement, 2 if kind == "lot" else int(rng.random() < 0.5), rng)
    return Plan(
        tuple(streets), tuple(junctions), tuple(crossings), lots, pavement, kind,
        frozenset(features),
    )  # fmt: skip


def _main_street(
    kind: str, duration_s: float, rng: np.random.Generator
) -> tuple[Street, list[tuple[float, float]]]:
    length = EGO_START_STATION_M + 130 + _FASTEST_MEAN_MPS * (WARM_UP_S + duration_s)
    lanes = {"arterial": int(rng.integers(2, 4)), "crossing": int(rng.integers(1, 3))}.get(kind, 1)
    parking = kind != "arterial" or bool(rng.random() < 0.5)
    start = (-EGO_START_STATION_M - 60, 0.0, 0.0)
    if kind != "curve" and rng.random() < 0.7:
        return Street(bent_centre(start, [(length, 0.0)]), lanes, parking), [(0.0, length)]
    radius = float(rng.uniform(55, 130))
    arc = radius * math.radians(float(rng.uniform(25, 70)))
    first = EGO_START_STATION_M + float(rng.uniform(60, 150))
    rest = max(length - first - arc, 60.0)
    pieces = [(first, 0.0), (arc, float(rng.choice([-1, 1])) / radius), (rest, 0.0)]
    street = Street(bent_centre(start, pieces), lanes, parking)
    return street, [(0.0, first), (first + arc, first + arc + rest)]


def _add_junction(
    kind: str,
    station: float,
    main: Street,
    streets: list[Street],
    junctions: list[Junction],
    crossings: list[Crossing],
    rng: np.random.Generator,
) -> None:
    x, y, heading = (float(v) for v in main.place(station, 0.0))
    across = kind == "crossing" or rng.random() < (0.15 if kind == "tee" else 0.55)
    side_of = int(rng.choice([-1, 1]))
    lanes = 2 if main.lanes >= 2 and rng.random() < 0.3 else 1
    yaw = heading + side_of * math.pi / 2
    back = SIDE_LENGTH_M if across else 0.0
    start = (x - back * math.cos(yaw), y - back * math.sin(yaw), yaw)
    street = Street(
        bent_centre(start, [(SIDE_LENGTH_M + back, 0.0)]), lanes, bool(rng.random() < 0.65)
    )
    ends = street.place(np.arange(0.0, street.length + 1, 10.0), 0.0)[:, :2]
    far = np.hypot(ends[:, 0] - x, ends[:, 1] - y) > 40
    for other in streets:  # a bent street may come back to where this one leads
        clear = 45.0 if other is not main else 22.0
        if (other.distance(ends[far]) < street.half_width + clear).any():
            return
    side, junction, first = len(streets), len(junctions), len(crossings)
    signs = (1, -1) if across else (1,)
    arms = [Arm(0, station, sign, street.half_width, first + k, True)
            for k, sign in enumerate((1, -1))]  # fmt: skip
    arms += [Arm(side, back, sign, main.half_width, first + 2 + k, False)
             for k, sign in enumerate(signs)]  # fmt: skip
    crossings.extend(
        Crossing(arm.street, arm.station + arm.sign * (arm.reach + ZEBRA_BEHIND_EDGE_M), junction)
        for arm in arms
    )
    signals = kind in ("crossing", "arterial") or (across and rng.random() < 0.6)
    streets.append(street)
    junctions.append(
        Junction(
            tuple(arms), x, y, "signal" if signals else "stop", float(rng.uniform(0, 32)),
            (float(rng.uniform(12, 17)), float(rng.uniform(6, 8))),
        )
    )  # fmt: skip


def _lots(
    main: Street, taken: list[float], pavement: float, count: int, rng: np.random.Generator
) -> tuple[Lot, ...]:
    lots: list[Lot] = []
    for _ in range(12):
        if len(lots) == count:
            break
        station = float(rng.uniform(EGO_START_STATION_M + 40, min(main.length - 60, 380)))
        length, width = float(rng.uniform(32, 46)), float(rng.uniform(19, 22))
        reach = length / 2 + STOP_BEHIND_EDGE_M + 16
        if any(abs(station - other) < reach + 10 for other in taken):
            continue
        side = int(rng.choice([-1, 1]))
        low, high = main.place(np.array([station - 25, station + 25]), 0.0)[:, 2]
        if abs(high - low) > 0.02:
            continue
        inner = main.half_width + pavement + 1.0
        x, y, yaw = (float(v) for v in main.place(station, side * (inner + width / 2)))
        mouth = main.place(station, side * (main.half_width + (pavement + 3) / 2))
        drive = (float(mouth[0]), float(mouth[1]), yaw, 6.5, pavement + 4.0)
        lots.append(Lot(x, y, yaw, length, width, drive))
        taken.append(station)
    return tuple(lots)
