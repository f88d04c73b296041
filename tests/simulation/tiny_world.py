"""A small world whose every distance is known, for tests of cameras, LiDAR and annotations."""

from __future__ import annotations

import math

import numpy as np

from tailwire.simulation.meshes import Mesh, MeshKey, material_index
from tailwire.simulation.world import Agent, Condition, Placed, State, Track, World


def flat_ground(half: float = 120.0) -> Mesh:
    """A square of asphalt at z = 0."""
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float32) * half
    return Mesh(
        np.column_stack([corners, np.zeros(4)]).astype(np.float32),
        np.tile(np.array([0, 0, 1], np.float32), (4, 1)),
        corners,
        np.full(4, material_index("asphalt"), np.uint8),
        np.array([[0, 1, 2], [0, 2, 3]], np.int32),
    )


def tiny_world(condition: Condition | None = None, duration_s: float = 2.0) -> World:
    """The ego drives along x at 5 m/s from the origin; a parked car ahead on the left, a bus that
    comes towards it, a walker to the right, a cone ahead, a house on each side and a lamp."""
    moving = [State(5.0 * t, 0.0, 0.0, 0.0, 5.0) for t in (0.0, duration_s)]
    coming = [
        State(40.0 - 4.0 * t, 3.5, 0.0, math.pi, 4.0, "vehicle.moving") for t in (0.0, duration_s)
    ]
    walking = [
        State(12.0 + 1.2 * t, -6.0, 0.0, 0.0, 1.2, "pedestrian.moving", f"walk{int(t) % 8}")
        for t in (0.0, duration_s)
    ]
    ends = (0.0, duration_s)
    agents = (
        Agent(
            "car-1",
            "vehicle.car",
            "car/sedan",
            (1.85, 4.6, 1.5),
            (0.7, 0.1, 0.1),
            Track((0.0,), (State(15.0, 6.5, 0.0, 0.0, 0.0, "vehicle.parked"),)),
        ),
        Agent(
            "bus-1",
            "vehicle.bus.rigid",
            "bus/city",
            (2.9, 11.5, 3.3),
            (0.1, 0.3, 0.7),
            Track(ends, coming),
        ),
        Agent(
            "walker-1",
            "human.pedestrian.adult",
            "pedestrian/adult",
            (0.7, 0.75, 1.78),
            (0.2, 0.5, 0.3),
            Track(ends, walking),
        ),
        Agent(
            "cone-1",
            "movable_object.trafficcone",
            "cone/standard",
            (0.4, 0.4, 0.75),
            (0.9, 0.4, 0.1),
            Track((0.0,), (State(9.0, -2.5, 0.0, 0.0),)),
        ),
    )
    house = MeshKey("building/brick", (14.0, 30.0, 9.0))
    day = Condition("day", math.radians(50), math.radians(40), 0.2)
    return World(
        name="scene-0001",
        description="a small world",
        location="made-town",
        duration_s=duration_s,
        condition=condition or day,
        ego=Track(ends, moving),
        agents=agents,
        scenery=(
            Placed(house, 20.0, 20.0, 0.0, 0.0, (0.7, 0.6, 0.5)),
            Placed(house, 20.0, -20.0, 0.0, 0.0, (0.6, 0.6, 0.7)),
        ),
        ground=flat_ground(),
        lamps=np.array([[10.0, -5.0, 6.0], [35.0, 5.0, 6.0]]),
    )
