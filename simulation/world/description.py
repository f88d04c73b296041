"""A scene in a few words, in the manner of nuScenes: weather, street, what is there, events."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from .condition import Condition
from .model import Agent, Track
from .streets import Plan

_PLACES = ("riverside", "old-town", "harbour", "station-quarter", "hillside", "market", "garden")
_STREETS = {
    "arterial": "wide road",
    "curve": "bend",
    "crossing": "large crossing",
    "tee": "T-junction",
    "lot": "parking lot",
}
_WEATHER = {"night": "Night", "rain": "Rain", "fog": "Fog"}


def place_name(seed: int, index: int) -> str:
    """Where a made world lies."""
    return f"made-{_PLACES[(seed * 5 + index // 3) % len(_PLACES)]}"


def describe(plan: Plan | None, condition: Condition, agents: Sequence[Agent], ego: Track) -> str:
    """The description of a scene."""
    words = [_WEATHER[condition.name]] if condition.name in _WEATHER else []
    if plan is not None and plan.kind in _STREETS:
        words.append(_STREETS[plan.kind])
    seen = Counter(agent.category for agent in agents if _passes_by(agent, ego))
    parked = sum(
        agent.track.states[0].attribute == "vehicle.parked" and _passes_by(agent, ego)
        for agent in agents
    )
    if parked >= 3:
        words.append("parked cars")
    if seen["human.pedestrian.adult"] >= 5:
        words.append("many peds")
    elif seen["human.pedestrian.adult"]:
        words.append("peds")
    for category, word in (
        ("human.pedestrian.construction_worker", "construction"),
        ("vehicle.bus.rigid", "bus"),
        ("vehicle.bus.bendy", "bendy bus"),
        ("vehicle.trailer", "trailer"),
        ("vehicle.bicycle", "bicycles"),
        ("vehicle.motorcycle", "motorcycles"),
        ("movable_object.barrier", "barriers"),
    ):
        if seen[category]:
            words.append(word)
    speeds = [state.speed_mps for state in ego.states]
    turn = math.degrees(_turned(ego))
    if turn > 50:
        words.append("turn left at intersection")
    elif turn < -50:
        words.append("turn right at intersection")
    if min(speeds) < 0.3 < max(speeds):
        words.append("wait at intersection" if plan is not None else "stop")
    text = ", ".join(words) if words else "empty street"
    return text[0].upper() + text[1:]


def _passes_by(agent: Agent, ego: Track) -> bool:
    """It comes within 30 m of the ego's way."""
    way = np.array([[state.x, state.y] for state in ego.states[::10]])
    places = np.array([[state.x, state.y] for state in agent.track.states[::10]])
    apart = np.hypot(*(places[:, None] - way[None]).transpose(2, 0, 1))
    return bool(apart.min() < 30)


def _turned(ego: Track) -> float:
    headings = np.unwrap([state.yaw_rad for state in ego.states])
    return float(headings[-1] - headings[0])
