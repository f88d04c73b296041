"""Who is on foot in a town: walkers, those who wait, sit, and cross in a hurry."""

from __future__ import annotations

import math

import numpy as np

from .catalogue import draw_kind
from .plan import EGO_START_STATION_M, WARM_UP_S
from .standing import Standing, side_yaw
from .streets import KERB_HEIGHT_M, Plan
from .walkers import PavementGraph, Walker

_PER_METRE_OF_STREET = 0.027


def walkers_of(plan: Plan, duration_s: float, rng: np.random.Generator) -> list[Walker]:
    """All who walk; most alone, some in pairs side by side."""
    graph = PavementGraph(plan)
    seconds = duration_s + WARM_UP_S
    busy = float(rng.uniform(0.6, 1.5))
    total = sum(street.length for street in plan.streets)
    count = round(total * _PER_METRE_OF_STREET * busy)
    walkers: list[Walker] = []
    room = plan.pavement_m * 0.58 - 1.5  # furniture stands nearer the kerb
    room = max(min(room, plan.pavement_m * 0.42 - 0.6), 0.2)
    while len(walkers) < count:
        child = rng.random() < 0.05
        kind = draw_kind("pedestrian/child" if child else "pedestrian/adult", rng)
        pace = float(np.clip(rng.normal(1.32, 0.2), 0.8, 1.9)) * (0.85 if child else 1.0)
        points, crossings, start = graph.draw_way(rng, pace * seconds + 4, 2.5)
        shift = rng.uniform(-room, room, 2)
        pair = 2 if rng.random() < 0.22 else 1
        for number in range(pair):
            if number:
                kind = draw_kind("pedestrian", rng)
                heading = math.atan2(*(points[1] - points[0])[::-1])
                beside = np.array([-math.sin(heading), math.cos(heading)]) * 0.75
                shift = np.clip(shift + beside, -room - 0.35, room + 0.35)
            walkers.append(
                Walker(kind, points + shift, list(crossings), pace, start, float(rng.random()))
            )
    return walkers


def add_sitters_and_standers(plan: Plan, standing: Standing, rng: np.random.Generator) -> None:
    """Put those who stay where they are: at bus stops, on benches, in groups that talk."""
    main = plan.streets[0]
    for stop in standing.bus_stops:
        for _ in range(int(rng.integers(2, 5))):
            station = stop.middle + float(rng.uniform(-5, 5))
            lateral = stop.side * (main.half_width + float(rng.uniform(0.7, plan.pavement_m - 0.7)))
            x, y, _ = main.place(station, lateral).tolist()
            yaw = side_yaw(main, station, stop.side) + math.pi / 2 + float(rng.normal(0, 0.5))
            _stand(standing, rng, x, y, yaw)
    for _ in range(7):
        station = EGO_START_STATION_M + float(rng.uniform(20, 330))
        side = int(rng.choice([-1, 1]))
        lateral = side * (main.half_width + plan.pavement_m - 0.75)
        x, y, heading = main.place(station, lateral).tolist()
        if not plan.pavement_m > plan.road_distance([[x, y]])[0] > 1.5:
            continue
        group = int(rng.choice([1, 1, 2, 3]))
        for number in range(group):
            angle = heading + 2 * math.pi * number / group
            radius = 0.55 if group > 1 else 0.0
            _stand(standing, rng, x + radius * math.cos(angle), y + radius * math.sin(angle),
                   angle + math.pi)  # fmt: skip
    for x, y, yaw in standing.benches:
        if rng.random() < 0.55:
            kind = draw_kind("pedestrian/adult", rng)
            width, _, height = kind.size_wlh
            size = (width, 0.85, round(0.79 * height, 2))
            seated = type(kind)(kind.category, kind.model, size, kind.paint, kind.variant)
            across = float(rng.uniform(-0.5, 0.5))
            place = (x + 0.22 * math.cos(yaw) - across * math.sin(yaw),
                     y + 0.22 * math.sin(yaw) + across * math.cos(yaw))  # fmt: skip
            standing.put(seated, *place, KERB_HEIGHT_M, yaw, "pedestrian.sitting_lying_down",
                         "sit", gap=None)  # fmt: skip


def _stand(standing: Standing, rng: np.random.Generator, x: float, y: float, yaw: float) -> None:
    kind = draw_kind("pedestrian", rng)
    standing.put(kind, x, y, KERB_HEIGHT_M, yaw, "pedestrian.standing", "stand", gap=0.05)
