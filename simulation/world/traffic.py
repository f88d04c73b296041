"""Vehicles on their ways: they follow, stop at lines, take turns at junctions, yield and park.

Car following is the intelligent driver model (Treiber, Hennecke, Helbing 2000). What lies ahead
is whatever body touches the corridor along one's own way, so queues, merging, cyclists and people
on the road need no cases of their own; right of way at junctions is a reservation.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .driver import Driver
from .right_of_way import RightOfWay
from .routes import Route
from .streets import Plan

Float64 = NDArray[np.float64]

STEP_S = 0.1
_ACCELERATE, _BRAKE, _HEADWAY_S, _STANDSTILL_M = 1.6, 2.0, 1.3, 2.0
_SIDEWAYS = 2.0  # comfortable lateral acceleration, m/s2
_LOOK_M, _SAMPLE_M = 44.0, 2.0
_CIRCLES = 5


def speed_limits(route: Route, desired: float) -> Float64:
    """What a way's bends allow at each of its points, with time to brake for them, m/s."""
    along = np.gradient(route.points, axis=0)
    heading = np.unwrap(np.arctan2(along[:, 1], along[:, 0]))
    step = max(route.length / (len(route.points) - 1), 1e-3)
    bend = np.abs(np.gradient(heading, step))
    bend = np.convolve(np.pad(bend, 2, mode="edge"), np.ones(5) / 5, mode="valid")
    limit = np.minimum(desired, np.sqrt(_SIDEWAYS / np.maximum(bend, 1e-4)))
    reach = np.minimum(limit, 40.0) ** 2 + 2 * 1.5 * route.stations
    reach = np.minimum.accumulate(reach[::-1])[::-1]
    return np.sqrt(np.maximum(reach - 2 * 1.5 * route.stations, 1.0))


class Traffic:
    """All vehicles at one moment, and the step to the next."""

    def __init__(self, plan: Plan, drivers: list[Driver]) -> None:
        self.plan = plan
        self.drivers = drivers
        self.arrival_s = np.full(len(plan.crossings), np.inf)
        self.waiting = np.zeros(len(plan.crossings), bool)
        self.walkers: Float64 = np.zeros((0, 2))
        self.walker_crossing: NDArray[np.int64] = np.zeros(0, np.int64)
        self._crossed: frozenset[int] = frozenset()
        self._right_of_way = RightOfWay(plan)
        self._index_bodies()

    def _index_bodies(self) -> None:
        drivers = self.drivers
        owners = [d for d, driver in enumerate(drivers) for _ in driver.kinds]
        self.owner = np.array(owners, np.int64)
        self.offset = np.array([o for driver in drivers for o in driver.offsets])
        sizes = np.array([kind.size_wlh for driver in drivers for kind in driver.kinds])
        self.width, self.length = sizes[:, 0], sizes[:, 1]
        self._axle = 0.3 * self.length
        self._points = np.concatenate([driver.route.points for driver in drivers])
        counts = np.array([len(driver.route.points) for driver in drivers])
        self._first = np.concatenate([[0], np.cumsum(counts)[:-1]])
        self._last = counts - 1
        self._per_point = counts[:].astype(float) - 1
        self._per_point /= np.array([driver.route.length for driver in drivers])
        for driver in drivers:
            driver.limits = speed_limits(driver.route, driver.desired)
        spread = np.linspace(-1, 1, _CIRCLES)
        self._spokes = spread * (self.length / 2 - self.width / 2)[:, None]

    def _along(self, driver: NDArray[np.int64], distance: Float64) -> Float64:
        """Points `[..., 2]` of drivers' ways at distances; beyond their ends straight on."""
        at = distance * self._per_point[driver]
        last = self._last[driver]
        cell = np.clip(np.floor(at).astype(np.int64), 0, last - 1)
        first = self._first[driver] + cell
        a, b = self._points[first], self._points[first + 1]
        return a + (at - cell)[..., None] * (b - a)

    def poses(self) -> Float64:
        """Of all bodies, float64 `[b, 3]`: x, y, yaw."""
        distance = np.array([driver.distance for driver in self.drivers])
        middle = distance[self.owner] + self.offset
        front = self._along(self.owner, middle + self._axle)
        rear = self._along(self.owner, middle - self._axle)
        centre, chord = (front + rear) / 2, front - rear
        return np.column_stack([centre, np.arctan2(chord[:, 1], chord[:, 0])])

    def step(self, time_s: float) -> None:
        """Go on by `STEP_S`.

        Reads `walkers`, `walker_crossing` and `waiting`, writes `arrival_s`.
        """
        poses = self.poses()
        self._enter(time_s, poses)
        active = np.array([driver.active for driver in self.drivers])
        gaps, closing = self._ahead(poses, active)
        self.arrival_s[:] = np.inf
        self._crossed = frozenset(self.walker_crossing.tolist())
        self._right_of_way.release(time_s)
        here = [driver for driver in self.drivers if driver.active]
        for number, driver in enumerate(self.drivers):
            if not driver.active:
                continue
            driver.acceleration = self._accelerate(
                driver, time_s, float(gaps[number]), float(closing[number]), poses, here
            )
        for driver in self.drivers:
            if driver.active and not driver.parked:
                self._move(driver)

    def _enter(self, time_s: float, poses: Float64) -> None:
        for number, driver in enumerate(self.drivers):
            if driver.active or driver.gone or time_s < driver.enters_s:
                continue
            own = self.owner == number
            others = np.array([self.drivers[o].active for o in self.owner])
            if others.any():
                reach = self.length[others] / 2 + driver.length + 6
                apart = np.hypot(*(poses[others, :2] - poses[own][0, :2]).T)
                if (apart < reach).any():
                    continue
            driver.active = True

    def _ahead(self, poses: Float64, active: NDArray[np.bool_]) -> tuple[Float64, Float64]:
        """Free length ahead of each driver's nose, and the speed of what ends it."""
        drivers = self.drivers
        there = active[self.owner]
        c, s = np.cos(poses[:, 2]), np.sin(poses[:, 2])
        x = (poses[:, 0, None] + self._spokes * c[:, None])[there].ravel()
        y = (poses[:, 1, None] + self._spokes * s[:, None])[there].ravel()
        radius = np.repeat(self.width[there] / 2 + 0.1, _CIRCLES)
        owner = np.repeat(self.owner[there], _CIRCLES)
        speed = np.array([driver.speed for driver in drivers])[owner]
        vx, vy = speed * np.repeat(c[there], _CIRCLES), speed * np.repeat(s[there], _CIRCLES)
        people = len(self.walkers)
        x, y = np.append(x, self.walkers[:, 0]), np.append(y, self.walkers[:, 1])
        radius = np.append(radius, np.full(people, 0.7))
        owner = np.append(owner, np.full(people, -1))
        vx, vy = np.append(vx, np.zeros(people)), np.append(vy, np.zeros(people))

        who = np.flatnonzero(active)
        steps = np.arange(0.0, _LOOK_M, _SAMPLE_M)
        nose = np.array([drivers[d].nose for d in who])
        at = nose[:, None] + steps
        points = self._along(np.broadcast_to(who[:, None], at.shape), at)
        half = np.array([drivers[d].kinds[0].size_wlh[0] / 2 for d in who])
        gaps = np.full(len(drivers), np.inf)
        closing = np.zeros(len(drivers))
        # Only circles within a corridor's bounds can touch it.
        low, high = points.min(axis=1) - half[:, None], points.max(axis=1) + half[:, None]
        may = (x + radius > low[:, :1]) & (x - radius < high[:, :1])
        may &= (y + radius > low[:, 1:]) & (y - radius < high[:, 1:])
        may &= owner != who[:, None]
        one, other = np.nonzero(may)
        apart_x = x[other, None] - points[one, :, 0]
        apart_y = y[other, None] - points[one, :, 1]
        reach = (half[one] + radius[other])[:, None]
        pair, sample = np.nonzero(apart_x * apart_x + apart_y * apart_y < reach * reach)
        which, circle = one[pair], other[pair]
        nearest = np.full(len(who), 999)
        np.minimum.at(nearest, which, sample)
        first = sample <= nearest[which] + 1
        which, sample, circle, pair = which[first], sample[first], circle[first], pair[first]
        along_x = points[which, np.minimum(sample + 1, len(steps) - 1)]
        along_x = along_x - points[which, np.maximum(sample - 1, 0)]
        unit = along_x / np.maximum(np.linalg.norm(along_x, axis=1, keepdims=True), 1e-9)
        lead = apart_x[pair, sample] * unit[:, 0] + apart_y[pair, sample] * unit[:, 1]
        gap = steps[sample] + np.maximum(lead - radius[circle], -_SAMPLE_M)
        towards = vx[circle] * unit[:, 0] + vy[circle] * unit[:, 1]
        for w, g, v in zip(which.tolist(), gap.tolist(), towards.tolist(), strict=True):
            number = int(who[w])
            if g < gaps[number]:
                gaps[number], closing[number] = g, max(v, 0.0)
        return gaps, closing

    def _accelerate(
        self,
        driver: Driver,
        time_s: float,
        gap: float,
        lead_speed: float,
        poses: Float64,
        here: list[Driver],
    ) -> float:
        speed = driver.speed
        if time_s < driver.leaves_s or driver.parked:
            return 0.0
        if driver.leaves_s > -math.inf and speed == 0 and not driver.granted:
            if not self._may_pull_out(driver, poses):
                return 0.0
            driver.leaves_s = -math.inf
        limit = float(driver.limits[min(int(driver.distance + 0.5), len(driver.limits) - 1)])
        free = _ACCELERATE * (1 - (speed / max(limit, 0.5)) ** 4)
        free = max(free, -_BRAKE)
        wanted = min(free, _follow(speed, gap, lead_speed, free))
        for stop in self._stops(driver, time_s, here, poses):
            wanted = min(wanted, _follow(speed, stop - driver.nose + 1.4, 0.0, free))
        return max(wanted, -6.0)

    def _stops(
        self, driver: Driver, time_s: float, here: list[Driver], poses: Float64
    ) -> list[float]:
        """Distances along the way where this driver has to stop now."""
        stops: list[float] = []
        nose, speed = driver.nose, driver.speed
        route = driver.route
        if driver.parks:
            stops.append(route.length - 0.5)
        if driver.granted < len(route.passages):
            passage = route.passages[driver.granted]
            ahead = passage.stop - nose
            if ahead < 50 and not self._right_of_way.may_pass(driver, passage, ahead, time_s, here):
                stops.append(passage.stop)
        if driver.halts and nose < driver.halts[0][0] + 2:
            place, seconds = driver.halts[0]
            if speed < 0.1 and abs(place - nose) < 2.5:
                driver.halted_s += STEP_S
            if driver.halted_s > seconds and self._may_pull_out(driver, poses):
                driver.halts.pop(0)
                driver.halted_s = 0.0
            else:
                stops.append(place)
        for place, crossing in route.crossings:
            ahead = place - 2.2 - nose
            if ahead > 40 or place + 2 < driver.distance - driver.tail:
                continue
            if ahead < 0:
                if place + 2 > driver.distance - driver.tail and nose > place - 1:
                    self.arrival_s[crossing] = 0.0
                continue
            if speed > 0.8:
                arrival = ahead / speed
                self.arrival_s[crossing] = min(self.arrival_s[crossing], arrival)
            if ahead > speed * speed / 8 and self._blocked(route, place, crossing, ahead):
                stops.append(place - 2.4)
        return stops

    def _blocked(self, route: Route, place: float, crossing: int, ahead: float) -> bool:
        """Somebody is crossing before this way, or waits where traffic has to yield."""
        if self.waiting[crossing] and self.plan.crossings[crossing].painted:
            return True
        if crossing not in self._crossed:
            return False
        on = self.walkers[self.walker_crossing == crossing]
        x, y = route.at(place)
        return bool((np.hypot(on[:, 0] - x, on[:, 1] - y) < 4.6).any())

    def _may_pull_out(self, driver: Driver, poses: Float64) -> bool:
        """Nobody comes from behind on the left."""
        number = self.drivers.index(driver)
        own = poses[int(np.argmax(self.owner == number))]
        others = np.array([self.drivers[o].active and o != number for o in self.owner])
        speed = np.array([self.drivers[o].speed for o in self.owner])[others]
        offset = poses[others, :2] - own[:2]
        c, s = math.cos(own[2]), math.sin(own[2])
        ahead, left = offset[:, 0] * c + offset[:, 1] * s, offset[:, 1] * c - offset[:, 0] * s
        near = -9 - driver.length / 2 < ahead
        far = (-24 - driver.length / 2 - speed < ahead) & (speed > 0.3)
        return not ((near | far) & (ahead < 12) & (left > 0.5) & (left < 5.8)).any()

    def _move(self, driver: Driver) -> None:
        before = driver.speed
        driver.speed = max(0.0, before + driver.acceleration * STEP_S)
        if driver.speed < 0.06 and driver.acceleration <= 0.05:
            driver.speed = 0.0
        driver.distance += (before + driver.speed) / 2 * STEP_S
        room = driver.route.length - driver.distance
        if driver.parks and room < 1.0 + driver.kinds[0].size_wlh[1] / 2 and driver.speed == 0:
            driver.parked = True
        elif not driver.parks and room < 1.0 + driver.kinds[0].size_wlh[1] / 2:
            driver.active, driver.gone = False, True


def _follow(speed: float, gap: float, lead_speed: float, free: float) -> float:
    if gap == math.inf:
        return free
    closing = speed * (speed - lead_speed) / (2 * math.sqrt(_ACCELERATE * _BRAKE))
    desired = _STANDSTILL_M + max(0.0, speed * _HEADWAY_S + closing)
    share = desired / max(gap, 0.3)
    wanted = _ACCELERATE * (1 - share * share)
    return min(free, wanted)
