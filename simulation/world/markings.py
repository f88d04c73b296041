"""What is painted on the roads: lines, zebras, stop lines, parking bays."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..meshes.mesh import Mesh
from .streets import CYCLE_STRIP_M, LANE_M, PARKING_STRIP_M, Lot, Plan, Street
from .surfaces import flat_quads

Float64 = NDArray[np.float64]

_HEIGHT_M = 0.012
_ZEBRA_M = 3.2
_UNPAINTED_M = 4.0


class _Paint:
    def __init__(self) -> None:
        self.quads: dict[str, list[Float64]] = {}

    def line(
        self,
        street: Street,
        stations: tuple[float, float],
        lateral: float,
        width: float = 0.14,
        material: str = "road_paint",
        dash: tuple[float, float] | None = None,
    ) -> None:
        """Along a street; dashes of one length with gaps of the other."""
        start, end = stations
        if end - start < 0.5:
            return
        straight = len(street.centre) == 2
        if dash:
            starts = np.arange(start, end - dash[0], dash[0] + dash[1])
            pairs = np.stack([starts, starts + dash[0]], axis=1)
        else:
            count = 1 if straight else max(1, math.ceil((end - start) / 3.0))
            edges = np.linspace(start, end, count + 1)
            pairs = np.stack([edges[:-1], edges[1:]], axis=1)
        self.bars(street, pairs, np.array([lateral - width / 2, lateral + width / 2]), material)

    def bars(
        self, street: Street, pairs: Float64, laterals: Float64, material: str = "road_paint"
    ) -> None:
        """Quads between pairs of stations `[n, 2]` and laterals `[2]` or `[n, 2]`."""
        low, high = np.broadcast_to(laterals, (len(pairs), 2)).T
        corners = [
            street.place(pairs[:, side], lateral)[:, :2]
            for side, lateral in ((0, low), (1, low), (1, high), (0, high))
        ]
        self.quads.setdefault(material, []).append(np.stack(corners, axis=1))


def markings(plan: Plan, unpainted: Float64 | None = None) -> Mesh:
    """All paint of a town as thin level quads a centimetre above the roads.

    Args:
        plan: the streets.
        unpainted: points `[m, 2]` that no quad comes near to; None for none.
    """
    paint = _Paint()
    for number, street in enumerate(plan.streets):
        _street(paint, plan, number, street)
    for crossing in plan.crossings:
        if crossing.painted:
            street = plan.streets[crossing.street]
            laterals = np.arange(-street.half_width + 0.5, street.half_width - 0.5, 1.0)
            near, far = crossing.station - _ZEBRA_M / 2, crossing.station + _ZEBRA_M / 2
            pairs = np.tile([near, far], (len(laterals), 1))
            paint.bars(street, pairs, np.stack([laterals, laterals + 0.5], axis=1))
    for lot in plan.lots:
        _lot(paint, lot)
    meshes = [
        flat_quads(_away_from(unpainted, np.concatenate(quads)), material, _HEIGHT_M)
        for material, quads in paint.quads.items()
    ]
    return Mesh.joined(meshes)


def _away_from(points: Float64 | None, quads: Float64) -> Float64:
    if points is None or not len(points):
        return quads
    apart = quads.mean(axis=1)[:, None] - points[None]
    return quads[np.hypot(apart[..., 0], apart[..., 1]).min(axis=1) > _UNPAINTED_M]


def clear_stretches(plan: Plan, number: int) -> list[tuple[float, float]]:
    """Stretches of a street between junctions, from stop line to stop line."""
    street = plan.streets[number]
    gaps: list[tuple[float, float]] = []
    for junction in plan.junctions:
        arms = [arm for arm in junction.arms if arm.street == number]
        if arms:
            stops = [arm.stop_station for arm in arms]
            middle = arms[0].station
            gaps.append((min([*stops, middle]), max([*stops, middle])))
    edges = [0.0, *(edge for gap in sorted(gaps) for edge in gap), street.length]
    return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a > 1]


def _street(paint: _Paint, plan: Plan, number: int, street: Street) -> None:
    zebras = [c for c in plan.crossings if c.street == number and c.junction < 0 and c.painted]
    for start, end in clear_stretches(plan, number):
        cuts = [start]
        for zebra in sorted(zebras, key=lambda crossing: crossing.station):
            if start < zebra.station < end:
                cuts += [zebra.station - _ZEBRA_M / 2 - 0.8, zebra.station + _ZEBRA_M / 2 + 0.8]
        cuts.append(end)
        for stretch in zip(cuts[::2], cuts[1::2], strict=True):
            if street.lanes == 1 and number:
                paint.line(street, stretch, 0.0, dash=(3.0, 4.5))
            else:
                for lateral in (-0.13, 0.13):
                    paint.line(street, stretch, lateral, 0.1, "road_paint_yellow")
            for side in (-1, 1):
                for lane in range(1, street.lanes):
                    paint.line(street, stretch, side * lane * LANE_M, dash=(3.0, 6.0))
                edge = street.lanes_edge
                paint.line(street, stretch, side * edge)
                if street.parking:
                    strip = edge + CYCLE_STRIP_M
                    paint.line(street, stretch, side * strip, 0.1)
                    ticks = np.arange(stretch[0] + 6.0, stretch[1] - 6.0, 6.5)
                    pairs = np.stack([ticks, ticks + 0.1], axis=1)
                    low, high = sorted((side * strip, side * (strip + PARKING_STRIP_M - 0.2)))
                    if len(pairs):
                        paint.bars(street, pairs, np.array([low, high]))
    for junction in plan.junctions:
        for arm in junction.arms:
            if arm.street != number or (junction.control == "stop" and arm.major):
                continue
            # traffic towards the junction keeps right: that is to the left of an arm with sign 1
            low, high = sorted(
                (arm.sign * 0.2, arm.sign * (street.lanes_edge + CYCLE_STRIP_M - 0.1))
            )
            near = arm.stop_station - 0.2
            paint.bars(street, np.array([[near, near + 0.4]]), np.array([low, high]))


def _lot(paint: _Paint, lot: Lot) -> None:
    yard = Street(
        np.array(
            [
                [lot.x - lot.length / 2 * math.cos(lot.yaw),
                 lot.y - lot.length / 2 * math.sin(lot.yaw), lot.yaw],
                [lot.x + lot.length / 2 * math.cos(lot.yaw),
                 lot.y + lot.length / 2 * math.sin(lot.yaw), lot.yaw],
            ]
        ), 1, False,
    )  # fmt: skip
    for side in (-1, 1):
        edge = side * lot.width / 2
        low, high = sorted((edge - side * 0.3, edge - side * 5.3))
        ticks = np.arange(1.0, lot.length - 0.9, 2.9)
        if side * _drive_side(lot) > 0:
            ticks = ticks[np.abs(ticks - lot.length / 2) > 5.0]
        paint.bars(yard, np.stack([ticks, ticks + 0.1], axis=1), np.array([low, high]))


def _drive_side(lot: Lot) -> int:
    """On which side of its middle the way in is, 1 to the left."""
    dx, dy = lot.drive[0] - lot.x, lot.drive[1] - lot.y
    return 1 if dy * math.cos(lot.yaw) - dx * math.sin(lot.yaw) > 0 else -1
