"""Makes a world from a seed: draws the town, furnishes it, lets it live and records it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..meshes.mesh import Mesh
from .condition import Condition, ConditionName
from .description import describe, place_name
from .driving import drivers_of, ego_kind
from .footprints import Occupied, corners
from .kerbside import standing_things
from .markings import markings
from .model import Agent, Track, World
from .people import add_sitters_and_standers, walkers_of
from .plan import WARM_UP_S, draw_plan
from .recording import Recorder
from .scenery import furnish
from .standing import Box, Standing
from .streets import KERB_HEIGHT_M, Plan
from .surfaces import flat_quads, ground_mesh
from .traffic import STEP_S, Traffic
from .walkers import Walkers

Float64 = NDArray[np.float64]

AGENT_RANGE_M = 130.0
_GROUND_RANGE_M = 255.0
_KERB_M = 0.2
_PLATE_M = 0.012
_TRIES_MORE = 2
_LEAST_MEAN_MPS = 1.2  # an ego that only waits shows little: other traffic is tried


def make_world(seed: int, index: int, duration_s: float, condition: ConditionName) -> World:
    """Make one scene; the same arguments give the same world.

    Args:
        seed: of the set of worlds.
        index: of the world in the set; kinds of streets take turns with it.
        duration_s: states are known from 0 to here, seconds.
        condition: light and weather.

    Returns:
        A world named `scene-` and its index.
    """
    streams = np.random.SeedSequence([seed, index]).spawn(6)
    town, things, traffic, people, looks, light = map(np.random.default_rng, streams)
    plan = draw_plan(seed, index, duration_s, town)
    occupied = Occupied()
    standing = standing_things(plan, things, occupied, duration_s)
    recorder = _live(plan, standing, duration_s, traffic, people)
    for _ in range(_TRIES_MORE):
        if _way_m(recorder.ego(ego_kind())) > _LEAST_MEAN_MPS * duration_s:
            break
        recorder = _live(plan, standing, duration_s, traffic, people)
    ego = recorder.ego(ego_kind())
    near = np.array([[state.x, state.y] for state in ego.states[::5]])
    moving = recorder.agents(near, AGENT_RANGE_M, standing.agents)
    scenery, signals, lamps = furnish(plan, standing, occupied, near, duration_s, looks)
    add_sitters_and_standers(plan, standing, people)
    still = [agent for agent in standing.agents if _is_near(agent, near)]
    agents = (*moving, *still)
    drawn = Condition.drawn(condition, light)
    return World(
        name=f"scene-{index:04d}",
        description=describe(plan, drawn, agents, ego),
        location=place_name(seed, index),
        duration_s=duration_s,
        condition=drawn,
        ego=ego,
        agents=agents,
        scenery=scenery,
        ground=town_ground(plan, near, looks, plates=standing.plates),
        lamps=lamps,
        global_from_world=_global_from_world(light),
        signals=signals,
    )


def _live(
    plan: Plan,
    standing: Standing,
    duration_s: float,
    traffic_rng: np.random.Generator,
    people_rng: np.random.Generator,
) -> Recorder:
    """Run the town: first until queues and gaps look lived in, then with the recorder on."""
    traffic = Traffic(plan, drivers_of(plan, standing, duration_s, traffic_rng))
    walkers = Walkers(plan, walkers_of(plan, duration_s, people_rng))
    recorder = Recorder(traffic, walkers)
    first = -round(WARM_UP_S / STEP_S)
    last = math.ceil(duration_s / STEP_S - 1e-9)
    for number in range(first, last + 1):
        time_s = round(number * STEP_S, 3)
        if number >= 0:
            recorder.record(min(time_s, duration_s))
        if number < last:
            walkers.step(time_s, traffic)
            traffic.step(time_s)
    return recorder


def _way_m(ego: Track) -> float:
    places = np.array([[state.x, state.y] for state in ego.states])
    return float(np.hypot(*np.diff(places, axis=0).T).sum())


def town_ground(
    plan: Plan,
    near: Float64,
    rng: np.random.Generator,
    unpainted: Float64 | None = None,
    plates: Sequence[tuple[str, Box]] = (),
) -> Mesh:
    """The ground around a way `[n, 2]`, out to the horizon that matters.

    Args:
        plan: the streets.
        near: the ego's way.
        rng: draws what lies beyond the pavements.
        unpainted: points `[m, 2]` that no marking comes near to.
        plates: material and rectangle of paved ground off the streets.
    """
    low, high = near.min(axis=0) - _GROUND_RANGE_M, near.max(axis=0) + _GROUND_RANGE_M
    beyond = str(rng.choice(["grass", "grass", "concrete"]))
    pavement = plan.pavement_m
    surface = ground_mesh(
        plan.road_distance,
        (float(low[0]), float(low[1]), float(high[0]), float(high[1])),
        (0.0, _KERB_M, pavement),
        (("asphalt", 0.0), ("kerb", 0.15), ("paving", 0.15), (beyond, 0.15)),
    )
    return Mesh.joined([surface, markings(plan, unpainted), *_paved(plates)])


def _paved(plates: Sequence[tuple[str, Box]]) -> list[Mesh]:
    """Plates that lie on the ground, painted lines on top."""
    meshes: list[Mesh] = []
    for material in sorted({material for material, _ in plates}):
        quads = corners([box for name, box in plates if name == material])
        above = _PLATE_M * (2 if material == "road_paint" else 1)
        meshes.append(flat_quads(quads, material, KERB_HEIGHT_M + above))
    return meshes


def _is_near(agent: Agent, near: Float64) -> bool:
    state = agent.track.states[0]
    return bool(np.hypot(near[:, 0] - state.x, near[:, 1] - state.y).min() < AGENT_RANGE_M)


def _global_from_world(rng: np.random.Generator) -> Float64:
    yaw = float(rng.uniform(-math.pi, math.pi))
    pose = np.eye(4)
    pose[:2, :2] = [[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]]
    pose[:2, 3] = np.round(rng.uniform(350, 1900, 2), 2)
    return pose
