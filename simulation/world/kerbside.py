"""What stands along kerbs: parked vehicles, bus stops, bicycle stands, cones; and parking lots."""

from __future__ import annotations

import math

import numpy as np

from .catalogue import Kind, draw_kind
from .courts import add_courts
from .footprints import Occupied
from .markings import clear_stretches
from .standing import Box, KerbPlace, Standing, draw_place, is_blocked, side_yaw
from .streets import KERB_HEIGHT_M, PARKING_STRIP_M, Plan, Street
from .works import add_works

_REACH_M = 2.9  # from the kerb; farther out cyclists could not pass


def standing_things(
    plan: Plan, rng: np.random.Generator, occupied: Occupied, duration_s: float
) -> Standing:
    """Draw all that stands, and those who work there.

    Args:
        plan: the streets.
        rng: for the draws.
        occupied: all rectangles that are taken; grows.
        duration_s: who moves to and fro does so from 0 to here.
    """
    standing = Standing(occupied)
    main = plan.streets[0]
    if "works" in plan.features:
        add_works(plan, standing, duration_s, rng)
    if "bus" in plan.features:
        _bus_stops(plan, standing, rng)
    if "trailer" in plan.features and main.parking:
        _big_ones(plan, standing, ("trailer", "truck"), rng)
    if "machine_parked" in plan.features and main.parking:
        _big_ones(plan, standing, ("construction",), rng)
    for lot in range(len(plan.lots)):
        _fill_lot(plan, lot, standing, rng)
    add_courts(plan, standing, duration_s, rng)
    for number, street in enumerate(plan.streets):
        if street.parking:
            for side in (-1, 1):
                _park_along(plan, number, side, standing, rng)
    _cycle_stands(plan, standing, rng)
    _loose_cones(plan, standing, rng)
    return standing


def _bus_stops(plan: Plan, standing: Standing, rng: np.random.Generator) -> None:
    for _ in range(1 + int(rng.random() < 0.4)):
        place = draw_place(plan, standing, rng, 52.0, 0.5)
        if place is None:
            return
        standing.bus_stops.append(place)
        standing.closed.add((0, -place.side))


def _big_ones(
    plan: Plan, standing: Standing, whats: tuple[str, ...], rng: np.random.Generator
) -> None:
    """Long vehicles by the kerb, where the ego comes by."""
    street = plan.streets[0]
    for what in whats:
        kind = draw_kind(what, rng)
        place = draw_place(plan, standing, rng, kind.size_wlh[1], 2.0, (40.0, 200.0))
        if place is not None:
            _at_kerb(street, place.middle, place.side, kind, standing, rng)
            if kind.size_wlh[0] > _REACH_M - 0.05:
                standing.closed.add((0, -place.side))


def _at_kerb(
    street: Street, station: float, side: int, kind: Kind, standing: Standing,
    rng: np.random.Generator,
) -> bool:  # fmt: skip
    width = kind.size_wlh[0]
    gap = min(float(rng.uniform(0.12, 0.3)), max(_REACH_M - width, 0.05))
    lateral = side * (street.half_width - width / 2 - gap)
    x, y, _ = street.place(station, lateral).tolist()
    yaw = side_yaw(street, station, side) + float(rng.normal(0, 0.012))
    return standing.put(kind, x, y, 0.0, yaw, "vehicle.parked", gap=0.35)


def _park_along(
    plan: Plan, number: int, side: int, standing: Standing, rng: np.random.Generator
) -> None:
    street = plan.streets[number]
    for start, end in clear_stretches(plan, number):
        share = float(rng.choice([0.5, 0.7, 0.85, 0.95]))
        station = start + 9.0 + float(rng.uniform(0, 4))
        while station < end - 12.0:
            kind = draw_kind("car", rng)
            chance = rng.random()
            if chance < 0.055:
                kind = draw_kind("truck", rng)
            length = kind.size_wlh[1]
            place = KerbPlace(number, side, station, station + length)
            if is_blocked(plan, standing, place, 1.0):
                station += 3.0
                continue
            if not standing.occupied.is_free(_strip(street, place), 0.3):
                station += 3.0  # what stands there already is longer than a gap
                continue
            if rng.random() > share:
                standing.gaps.append(KerbPlace(number, side, station - 0.5, station + 6.0))
                station += 6.0
                continue
            if chance > 0.975:
                _motorcycles(street, station, side, standing, rng)
                station += 4.5
                continue
            if chance > 0.9 and number == 0 and side < 0 and len(standing.leaving) < 3:
                standing.leaving.append((kind, place))
                station += length + 6.5
                continue
            _at_kerb(street, place.middle, side, kind, standing, rng)
            station += length + float(rng.uniform(0.9, 2.2))


def _strip(street: Street, place: KerbPlace) -> Box:
    """The part of the parking strip at a place, and room to drive out of it or in."""
    lateral = place.side * (street.half_width - PARKING_STRIP_M / 2)
    x, y, heading = street.place(place.middle, lateral).tolist()
    return (x, y, heading, max(place.end - place.start, 6.5), PARKING_STRIP_M - 0.2)


def _motorcycles(
    street: Street, station: float, side: int, standing: Standing, rng: np.random.Generator
) -> None:
    for k in range(int(rng.integers(2, 4))):
        kind = draw_kind("motorcycle/standard", rng)
        lateral = side * (street.half_width - kind.size_wlh[1] / 2 - 0.2)
        x, y, heading = street.place(station + 0.5 + 1.25 * k, lateral).tolist()
        yaw = heading + side * math.pi / 2 + float(rng.normal(0, 0.1))
        standing.put(kind, x, y, 0.0, yaw, "cycle.without_rider", gap=0.1)


def _cycle_stands(plan: Plan, standing: Standing, rng: np.random.Generator) -> None:
    """Bicycles side by side at the kerb edge of the pavement."""
    for number, street in enumerate(plan.streets):
        for _ in range(3 if number == 0 else 1):
            side = int(rng.choice([-1, 1]))
            station = float(rng.uniform(30, street.length - 30))
            place = KerbPlace(number, side, station, station + 5)
            inside = any(a + 8 < station < b - 14 for a, b in clear_stretches(plan, number))
            if not inside or is_blocked(plan, standing, place, 3.0):
                continue
            for k in range(int(rng.integers(2, 5))):
                kind = draw_kind("bicycle/standard", rng)
                lateral = side * (street.half_width + 0.75)
                x, y, heading = street.place(station + 0.85 * k, lateral).tolist()
                yaw = heading + float(rng.normal(0.75, 0.08))
                if plan.road_distance([[x, y]])[0] > 0.6:
                    standing.put(kind, x, y, KERB_HEIGHT_M, yaw, "cycle.without_rider", gap=0.02)


def _loose_cones(plan: Plan, standing: Standing, rng: np.random.Generator) -> None:
    """A few cones round a manhole in the parking strip, barriers on a pavement."""
    street = plan.streets[0]
    if street.parking and rng.random() < 0.6:
        place = draw_place(plan, standing, rng, 4.0, 2.0)
        if place is not None:
            for k in range(4):
                lateral = street.half_width - 0.5 - (PARKING_STRIP_M - 0.9) * (k % 2)
                x, y, _ = street.place(place.start + 3.0 * (k // 2), place.side * lateral).tolist()
                standing.put(draw_kind("cone/standard", rng), x, y, 0.0, 0.0, "", gap=0.1)
    if rng.random() < 0.5:
        place = draw_place(plan, standing, rng, 12.0, 2.0)
        if place is not None:
            kind = draw_kind("barrier", rng)
            for k in range(4):
                station = place.start + (kind.size_wlh[0] + 0.3) * k
                lateral = place.side * (street.half_width + plan.pavement_m - 0.5)
                x, y, heading = street.place(station, lateral).tolist()
                standing.put(kind, x, y, KERB_HEIGHT_M, heading + math.pi / 2, "", gap=0.1)


def _fill_lot(plan: Plan, number: int, standing: Standing, rng: np.random.Generator) -> None:
    lot = plan.lots[number]
    c, s = math.cos(lot.yaw), math.sin(lot.yaw)
    share = float(rng.uniform(0.5, 0.85))
    big = "trailer" in plan.features and rng.random() < 0.7
    drive_side = 1 if (lot.drive[1] - lot.y) * c - (lot.drive[0] - lot.x) * s > 0 else -1
    if big:  # trailers along the far edge instead of cars
        kind = draw_kind("trailer", rng)
        along, across = -lot.length / 2 + 8.0, -drive_side * (lot.width / 2 - 2.2)
        x, y = lot.x + along * c - across * s, lot.y + along * s + across * c
        standing.put(kind, x, y, 0.0, lot.yaw, "vehicle.parked")
    for side in (-1, 1):
        for slot in np.arange(-lot.length / 2 + 2.45, lot.length / 2 - 2.0, 2.9):
            if (side == drive_side and abs(slot) < 6.4) or rng.random() > share:
                continue
            kind = draw_kind("car", rng)
            across = side * (lot.width / 2 - 0.4 - kind.size_wlh[1] / 2)
            x, y = lot.x + slot * c - across * s, lot.y + slot * s + across * c
            inward = 1 if rng.random() < 0.75 else -1
            yaw = lot.yaw + inward * side * math.pi / 2 + float(rng.normal(0, 0.02))
            standing.put(kind, x, y, 0.0, yaw, "vehicle.parked", gap=0.2)
