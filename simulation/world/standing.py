"""What stands still and is annotated: the list of it, and which places along kerbs are free."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from .catalogue import Kind
from .footprints import Occupied
from .markings import clear_stretches
from .model import Agent, State, Track
from .plan import EGO_START_STATION_M
from .streets import Plan, Street

Box = tuple[float, float, float, float, float]


@dataclass(frozen=True)
class KerbPlace:
    """A place along one kerb of a street.

    Attributes:
        street: index.
        side: 1 the left of the middle line, -1 the right.
        start, end: stations.
    """

    street: int
    side: int
    start: float
    end: float

    @property
    def middle(self) -> float:
        """Station halfway."""
        return (self.start + self.end) / 2


@dataclass(eq=False)
class Standing:
    """What stands in a town, and what is left for those that move.

    Attributes:
        agents: all that never moves.
        bus_stops: where buses halt.
        works: stretches that are dug up.
        leaving: parked vehicles that will drive off, with their stations.
        gaps: free places that somebody may park in.
        closed: streets and directions whose outer lane and strip are not used.
        benches: x, y and yaw of each.
        accesses: kerbs that are crossed by ways in and so kept free.
        plates: material and rectangle (x, y, yaw, length, width) of paved ground off the streets.
        occupied: rectangles of all of it.
    """

    occupied: Occupied
    agents: list[Agent] = field(default_factory=list)
    bus_stops: list[KerbPlace] = field(default_factory=list)
    works: list[KerbPlace] = field(default_factory=list)
    leaving: list[tuple[Kind, KerbPlace]] = field(default_factory=list)
    gaps: list[KerbPlace] = field(default_factory=list)
    closed: set[tuple[int, int]] = field(default_factory=set)
    benches: list[tuple[float, float, float]] = field(default_factory=list)
    accesses: list[KerbPlace] = field(default_factory=list)
    plates: list[tuple[str, Box]] = field(default_factory=list)

    def put(
        self, kind: Kind, x: float, y: float, z: float, yaw: float, attribute: str, pose: str = "",
        gap: float | None = 0.25,
    ) -> bool:  # fmt: skip
        """Stand something somewhere if it is free there; whether it was.

        Args:
            kind: what.
            x, y, z: the middle of its footprint.
            yaw: radians.
            attribute: of nuScenes.
            pose: of its limbs.
            gap: to everything else; None does not look.
        """
        width, length, _ = kind.size_wlh
        box = (x, y, yaw, length, width)
        if gap is not None and not self.occupied.is_free(box, gap):
            return False
        self.occupied.add(box)
        state = State(round(x, 3), round(y, 3), z, round(yaw, 4), 0.0, attribute, pose)
        self.add(kind, Track((0.0,), (state,)), "still")
        return True

    def add(self, kind: Kind, track: Track, how: str) -> None:
        """Add somebody whose whole way is known."""
        name = f"{kind.model.split('/')[0]}-{how}-{len(self.agents)}"
        self.agents.append(
            Agent(name, kind.category, kind.model, kind.size_wlh, kind.paint, track, kind.variant)
        )


def side_yaw(street: Street, station: float, side: int) -> float:
    """Heading of traffic on one side of a street."""
    heading = float(street.place(station, 0.0)[2])
    return heading if side < 0 else heading + math.pi


def is_blocked(plan: Plan, standing: Standing, place: KerbPlace, margin: float) -> bool:
    """The kerb is kept free: crossings, ways in, stops, works."""
    kept = [(c.station, 4.0) for c in plan.crossings if c.street == place.street]
    if place.street == 0:
        for lot in plan.lots:
            stations = plan.streets[0].place(np.arange(0, plan.streets[0].length, 1.0), 0.0)
            near = np.hypot(stations[:, 0] - lot.drive[0], stations[:, 1] - lot.drive[1])
            kept.append((float(near.argmin()), 6.0))
    kept += [
        (other.middle, (other.end - other.start) / 2)
        for other in [*standing.bus_stops, *standing.works, *standing.accesses]
        if (other.street, other.side) == (place.street, place.side)
    ]
    half = (place.end - place.start) / 2
    return any(abs(place.middle - at) < half + reach + margin for at, reach in kept)


def draw_place(
    plan: Plan,
    standing: Standing,
    rng: np.random.Generator,
    length: float,
    margin: float,
    spread: tuple[float, float] = (45.0, 215.0),
) -> KerbPlace | None:
    """A free stretch of kerb on the main street where the ego will come by."""
    stretches = clear_stretches(plan, 0)
    for _ in range(60):
        start = EGO_START_STATION_M + float(rng.uniform(*spread))
        place = KerbPlace(0, int(rng.choice([-1, -1, 1])), start, start + length)
        inside = any(a + 9 < place.start and place.end < b - 9 for a, b in stretches)
        if inside and not is_blocked(plan, standing, place, margin):
            return place
    return None
