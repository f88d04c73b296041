"""Who drives in a town: the ego, those on their lanes, buses, riders, those who park or leave."""

from __future__ import annotations

import math

import numpy as np

from .catalogue import Kind, draw_kind
from .driver import Driver, coupled
from .markings import clear_stretches
from .plan import EGO_START_STATION_M, WARM_UP_S
from .routes import Route, draw_route
from .standing import KerbPlace, Standing
from .streets import Plan, Street

EGO_NAME = "ego"
_FASTEST_MPS = 14.0


def ego_kind() -> Kind:
    """The ego vehicle's body, which is not annotated."""
    return Kind("", "car/hatchback", (1.73, 4.08, 1.56), (0.9, 0.9, 0.9), 0)


def drivers_of(
    plan: Plan, standing: Standing, duration_s: float, rng: np.random.Generator
) -> list[Driver]:
    """All drivers of a town, the ego first."""
    crew = _Crew(plan, standing, duration_s, rng)
    crew.add_ego()
    crew.add_buses()
    crew.add_parkers()
    for number in range(len(plan.streets)):
        for direction in (-1, 1):
            crew.add_lanes(number, direction)
            crew.add_riders(number, direction)
    return crew.drivers


class _Crew:
    def __init__(
        self, plan: Plan, standing: Standing, duration_s: float, rng: np.random.Generator
    ) -> None:
        self.plan = plan
        self.standing = standing
        self.rng = rng
        self.seconds = duration_s + WARM_UP_S
        self.drivers: list[Driver] = []
        self.closed = frozenset(standing.closed)
        self._taken: list[tuple[float, float, float]] = []  # x, y, half length

    def _route(
        self, street: int, direction: int, lane: int, station: float, straight_on: float = 0.62
    ) -> Route:
        return draw_route(
            self.plan, street, direction, lane, station, _FASTEST_MPS * self.seconds + 40,
            self.rng, straight_on, self.closed,
        )  # fmt: skip

    def _add(self, driver: Driver) -> None:
        driver.offsets = coupled(driver.kinds)
        driver.name = f"{driver.kinds[0].model.split('/')[0]}-{len(self.drivers)}"
        self.drivers.append(driver)

    def _claim(self, route: Route, distance: float, half: float, gap: float = 3.5) -> bool:
        x, y = route.at(distance)
        if any(math.hypot(x - ox, y - oy) < half + other + gap and half + other + gap > 0
               for ox, oy, other in self._taken):  # fmt: skip
            return False
        self._taken.append((x, y, half))
        return True

    def _usable_lanes(self, number: int, direction: int) -> int:
        lanes = self.plan.streets[number].lanes
        shut = any((w.street, -w.side) == (number, direction) for w in self.standing.works)
        return lanes - 1 if shut and lanes >= 2 else lanes

    def add_ego(self) -> None:
        """On the main street, where its story begins."""
        rng = self.rng
        lane = int(rng.integers(self._usable_lanes(0, 1)))
        desired = float(rng.uniform(8.0, 12.5))
        for straight_on in (0.45, 0.5, 0.6, 0.7, 0.8, 1.0):
            route = self._route(0, 1, lane, EGO_START_STATION_M - 10, straight_on)
            early = any(p.turn != "straight" and p.stop < 85 for p in route.passages)
            if not early and route.length - 25 > 0.85 * desired * self.seconds:
                break
        driver = Driver((ego_kind(),), route, 10.0, desired * 0.7, desired)
        self._claim(route, 10.0, 8.0)
        driver.offsets = (0.0,)
        driver.name = EGO_NAME
        self.drivers.append(driver)

    def add_buses(self) -> None:
        """One for every stop: it stands there, is about to come, or drives off."""
        rng = self.rng
        for place in self.standing.bus_stops:
            street = self.plan.streets[place.street]
            direction = -place.side
            middle = place.middle + direction * 2
            lane = street.lanes - 1
            before = float(rng.choice([4.0, 26.0, 60.0]))
            start = middle - direction * (before + 24)
            if not _is_clear(self.plan, place.street, start, 14.0):
                before, start = 4.0, middle - direction * 28
            route = self._route(place.street, direction, lane, start)
            aside = 0.0
            if street.parking:
                aside = street.half_width - street.lane_lateral(lane) - 1.75
                aside = min(aside, 3.4)
                knots = [(before + 24 - 27.0, -aside), (before + 24 + 8.0, 0.0)]
                route = route.shifted(knots, 25.0)
            bendy = rng.random() < 0.45
            first = draw_kind("bus/bendy" if bendy else "bus/city", rng)
            kinds = (first,)
            if bendy:
                kinds = (
                    first,
                    Kind(first.category, first.model, first.size_wlh, first.paint, first.variant),
                )
            halt = (before + 24 + first.size_wlh[1] / 2, float(rng.uniform(8, 30)))
            driver = Driver(kinds, route, 24.0, 0.0, float(rng.uniform(8, 10.5)), halts=[halt])
            if self._claim(route, 20.0, 12.0):
                self._add(driver)

    def add_parkers(self) -> None:
        """Some who leave the kerb and some who come to it."""
        rng = self.rng
        for kind, place in self.standing.leaving:
            street = self.plan.streets[place.street]
            direction = -place.side
            lane = self._usable_lanes(place.street, direction) - 1
            tail = 6.0
            start = place.middle - direction * tail
            route = self._route(place.street, direction, lane, start)
            aside = street.half_width - street.lane_lateral(lane) - kind.size_wlh[0] / 2 - 0.2
            knots = [(-40.0, -aside), (tail + 2.0, 0.0)]
            leaves = float(rng.uniform(-2, 14))
            driver = Driver((kind,), route.shifted(knots, 18.0), tail, 0.0, 9.0, leaves_s=leaves)
            self._add(driver)
        for place in self._long_gaps()[:2]:
            street = self.plan.streets[place.street]
            direction = -place.side
            kind = draw_kind("car", rng)
            lane = self._usable_lanes(place.street, direction) - 1
            back = float(rng.uniform(40, 90))
            end = (place.end if direction > 0 else place.start) - direction * 1.0
            start = end - direction * (back + 20)
            if not _is_clear(self.plan, place.street, start, 10.0):
                continue
            if any(min(start, end) < arm.station < max(start, end)
                   for junction in self.plan.junctions for arm in junction.arms
                   if arm.street == place.street):  # fmt: skip
                continue
            route = self._route(place.street, direction, lane, start)
            aside = street.half_width - street.lane_lateral(lane) - kind.size_wlh[0] / 2 - 0.25
            route = route.shifted([(back + 20 - 21.0, -aside)], 14.0)
            cut = route.stations <= back + 20
            route = Route(route.points[cut], [], route.crossings, route.spans)
            driver = Driver((kind,), route, 5.0, 5.0, 7.0, parks=True)
            if self._claim(route, 5.0, 4.0):
                self._add(driver)

    def _long_gaps(self) -> list[KerbPlace]:
        """Gaps of the main street that are long enough to pull into forwards, shuffled."""
        merged: list[KerbPlace] = []
        for gap in self.standing.gaps:
            last = merged[-1] if merged else None
            if (
                last is not None
                and (last.street, last.side) == (gap.street, gap.side)
                and abs(last.end - gap.start) < 1.5
            ):
                merged[-1] = KerbPlace(gap.street, gap.side, last.start, gap.end)
            else:
                merged.append(gap)
        long = [gap for gap in merged if gap.street == 0 and gap.end - gap.start > 17]
        return [long[k] for k in self.rng.permutation(len(long))]

    def add_lanes(self, number: int, direction: int) -> None:
        """Cars, trucks and motorcycles on the travel lanes, at random headways."""
        rng, street = self.rng, self.plan.streets[number]
        for lane in range(self._usable_lanes(number, direction)):
            mean = float(rng.choice([24.0, 34.0, 48.0])) * (1.5 if number else 1.0)
            station = float(rng.uniform(8, 30))
            while station < street.length - 12:
                kinds = self._vehicle()
                driver = self._on_lane(number, direction, lane, station, kinds)
                if driver is not None:
                    self._add(driver)
                station += 9 + float(rng.exponential(mean))
            for _ in range(2):  # and those who come in later
                at = 4.0 if direction > 0 else street.length - 4.0
                if number and not self._starts_at_end(street, number, direction):
                    continue
                enters = float(rng.uniform(-WARM_UP_S, 0.6 * self.seconds - WARM_UP_S))
                driver = self._on_lane(
                    number, direction, lane, at, (draw_kind("car", rng),), enters
                )
                if driver is not None:
                    self._add(driver)

    def _starts_at_end(self, street: Street, number: int, direction: int) -> bool:
        station = 0.0 if direction > 0 else street.length
        return all(
            abs(arm.station - station) > 30
            for junction in self.plan.junctions for arm in junction.arms if arm.street == number
        )  # fmt: skip

    def _vehicle(self) -> tuple[Kind, ...]:
        rng = self.rng
        chance = rng.random()
        if chance < 0.76:
            return (draw_kind("car", rng),)
        if chance < 0.82:
            return (draw_kind("truck", rng),)
        if chance < 0.88:
            return (draw_kind("motorcycle/standard", rng, rider=True),)
        if chance < 0.94:
            return (draw_kind("truck/semi", rng), draw_kind("trailer", rng))
        return (draw_kind("bus/city", rng),)

    def _on_lane(
        self, number: int, direction: int, lane: int, station: float, kinds: tuple[Kind, ...],
        enters_s: float = -math.inf,
    ) -> Driver | None:  # fmt: skip
        rng = self.rng
        if not _is_clear(self.plan, number, station, 8.0):
            return None
        long = sum(kind.size_wlh[1] for kind in kinds)
        back = 4.0 if long < 6 else long + 2.0
        if long > 6 and not _is_clear(self.plan, number, station - direction * back, 8.0):
            return None
        stops = [p for p in self.standing.bus_stops if (p.street, -p.side) == (number, direction)]
        if any(abs(place.middle - station) < 30 for place in stops):
            return None
        route = self._route(number, direction, lane, station - direction * back)
        desired = float(np.clip(rng.normal(10.5, 1.6), 7, _FASTEST_MPS))
        if enters_s == -math.inf and not self._claim(route, back, long / 2):
            return None
        return Driver(kinds, route, back, 0.6 * desired, desired, enters_s)

    def add_riders(self, number: int, direction: int) -> None:
        """Bicycles on their strip."""
        street = self.plan.streets[number]
        if (number, direction) in self.closed:
            return
        if any((place.street, -place.side) == (number, direction)
               for _, place in self.standing.leaving):  # fmt: skip
            return
        station = float(self.rng.uniform(10, 80))
        while station < street.length - 15:
            if _is_clear(self.plan, number, station, 8.0):
                kind = draw_kind("bicycle/standard", self.rng, rider=True)
                route = self._route(number, direction, street.lanes, station - 2.0 * direction)
                pace = float(np.clip(self.rng.normal(4.6, 0.8), 2.8, 6.5))
                if self._claim(route, 2.0, 0.8, 0.3):
                    self._add(Driver((kind,), route, 2.0, pace, pace))
            station += 20 + float(self.rng.exponential(75 if number == 0 else 120))


def _is_clear(plan: Plan, number: int, station: float, margin: float) -> bool:
    """A place on a street that is well away from its junctions."""
    return any(a + margin < station < b - margin for a, b in clear_stretches(plan, number))
