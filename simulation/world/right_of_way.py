"""Who may enter a junction: lights, stop lines, and a reservation that others have to respect."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .driver import Driver
from .routes import Passage, Route
from .streets import Plan

Float64 = NDArray[np.float64]

_CONFLICT_M = 3.3  # ways closer than this cannot be driven at the same time


class RightOfWay:
    """The junctions of a town and who holds them."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._holders: list[list[tuple[Driver, Passage]]] = [[] for _ in plan.junctions]
        self._conflicts: dict[tuple[tuple[float, ...], tuple[float, ...]], bool] = {}

    def release(self, time_s: float) -> None:
        """Those who are through give their junction back, and those who did not get to it."""
        for holders in self._holders:
            kept: list[tuple[Driver, Passage]] = []
            for driver, passage in holders:
                if not driver.active or driver.distance - driver.tail >= passage.end:
                    continue
                late = driver.speed < 1.0 or self._light(driver, passage, time_s) == "red"
                if driver.nose < passage.stop - 1.0 and late:
                    driver.granted -= 1
                    continue
                kept.append((driver, passage))
            holders[:] = kept

    def may_pass(
        self, driver: Driver, passage: Passage, ahead: float, time_s: float, here: list[Driver]
    ) -> bool:
        """Take the junction if it is this driver's turn; whether it has it."""
        junction = self.plan.junctions[passage.junction]
        speed = driver.speed
        if ahead < -1.5:  # already over the line when the world began
            self._grant(driver, passage)
            return True
        if ahead > max(12.0, speed * speed / 3.2 + 4):
            return junction.control == "stop" or self._light(driver, passage, time_s) != "red"
        major = self._is_major(driver, passage)
        if junction.control == "signal":
            light = self._light(driver, passage, time_s)
            if light == "red" or (light == "yellow" and ahead > speed * speed / 5.2):
                return False
        elif not major and driver.stopped_for != driver.granted:
            if speed < 0.4 and ahead < 2.5:
                driver.stopped_for = driver.granted
            return False
        for holder, held in self._holders[passage.junction]:
            if self._conflict(driver, passage, holder, held) and self._still_conflict(
                driver, passage, holder, held
            ):
                return False
        for other in here:
            if other is driver or other.granted >= len(other.route.passages):
                continue
            theirs = other.route.passages[other.granted]
            if theirs.junction != passage.junction or other.parked:
                continue
            away = theirs.stop - other.nose
            if not 0 <= away < 45 or away / max(other.speed, 0.1) > 5.0:
                continue
            first = self._is_major(other, theirs) and not major and junction.control == "stop"
            oncoming = passage.turn == "left" and theirs.turn != "left"
            if junction.control == "signal":
                light = self._light(other, theirs, time_s)
                oncoming = oncoming and light != "red"
            if (first or oncoming) and self._conflict(driver, passage, other, theirs):
                return False
        if self._exit_is_full(driver, passage, here):
            return False
        self._grant(driver, passage)
        return True

    def _grant(self, driver: Driver, passage: Passage) -> None:
        self._holders[passage.junction].append((driver, passage))
        driver.granted += 1

    def _light(self, driver: Driver, passage: Passage, time_s: float) -> str:
        junction = self.plan.junctions[passage.junction]
        if junction.control != "signal":
            return "green"
        return junction.signal(self._is_major(driver, passage), time_s)[0]

    def _is_major(self, driver: Driver, passage: Passage) -> bool:
        street = next(span[2] for span in driver.route.spans if abs(span[1] - passage.stop) < 0.01)
        arms = self.plan.junctions[passage.junction].arms
        return any(arm.street == street and arm.major for arm in arms)

    def _conflict(self, a: Driver, pa: Passage, b: Driver, pb: Passage) -> bool:
        ends = [(*r.at(p.stop), *r.at(p.end)) for r, p in ((a.route, pa), (b.route, pb))]
        keys = [tuple(round(v, 1) for v in end) for end in ends]
        if keys[0][:2] == keys[1][:2]:
            return False
        key = (min(keys), max(keys))
        if key not in self._conflicts:
            lines = [_points_between(r, p.stop, p.end) for r, p in ((a.route, pa), (b.route, pb))]
            apart = np.hypot(*(lines[0][:, None] - lines[1][None]).transpose(2, 0, 1))
            self._conflicts[key] = bool(apart.min() < _CONFLICT_M)
        return self._conflicts[key]

    def _still_conflict(self, a: Driver, pa: Passage, holder: Driver, held: Passage) -> bool:
        """The part of a junction that its holder has yet to clear is in the way."""
        rear = max(held.stop, holder.distance - holder.tail)
        ours = _points_between(a.route, pa.stop, pa.end)
        theirs = _points_between(holder.route, rear, max(held.end, rear + 1))
        apart = np.hypot(*(ours[:, None] - theirs[None]).transpose(2, 0, 1))
        return bool(apart.min() < _CONFLICT_M)

    def _exit_is_full(self, driver: Driver, passage: Passage, here: list[Driver]) -> bool:
        """Standing vehicles behind the junction leave no room for this one."""
        for other in here:
            if other is driver or other.speed > 1.5 or other.parked:
                continue
            along, across = _seen_from(driver.route, passage.end, *other.route.at(other.distance))
            if abs(across) < 1.6 and -3 < along < driver.length + 3 + other.length / 2:
                return True
        return False


def _points_between(route: Route, first: float, last: float) -> Float64:
    """Points a metre apart, `[n, 2]`."""
    at = np.arange(first, last + 0.5, 1.0)
    return np.stack([np.interp(at, route.stations, axis) for axis in route.points.T], axis=1)


def _seen_from(route: Route, distance: float, x: float, y: float) -> tuple[float, float]:
    """A point as seen from a place on a way: how far ahead, and how far to the left."""
    ax, ay = route.at(distance)
    bx, by = route.at(min(distance + 2, route.length))
    length = max(math.hypot(bx - ax, by - ay), 1e-6)
    ux, uy = (bx - ax) / length, (by - ay) / length
    return (x - ax) * ux + (y - ay) * uy, (y - ay) * ux - (x - ax) * uy
