"""What a made world is: things in space over time, and how to ask where they are.

The world frame is in metres, x and y in the ground plane, z up, the road at z = 0, its origin
somewhere near the ego vehicle's way so that float32 is exact enough; the global frame of nuScenes
is `global_from_world` away. Who looks at a world (cameras, LiDAR, annotations) asks for a moment.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..meshes.mesh import Mesh, MeshKey
from .condition import Condition

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class State:
    """A moving or standing thing at one moment.

    Attributes:
        x, y, z: the middle of its footprint, and the height of what it stands on, metres.
        yaw_rad: where its front points, counter-clockwise from x.
        speed_mps: along its front.
        attribute: of nuScenes, e.g. `vehicle.moving`; empty for things that have none.
        pose: of its limbs, see `MeshKey`.
        braking: its brake lights are on.
    """

    x: float
    y: float
    z: float
    yaw_rad: float
    speed_mps: float = 0.0
    attribute: str = ""
    pose: str = ""
    braking: bool = False


@dataclass(frozen=True)
class Track:
    """States at growing times; between two of them place and heading are interpolated.

    A thing with one state is there always; one with several from the first to the last time.

    Attributes:
        times_s: of the states.
        states: as many.
    """

    times_s: Sequence[float]
    states: Sequence[State]

    def at(self, time_s: float) -> State | None:
        """The state at a moment, None before it comes and after it has gone.

        Attribute, pose and brake lights are those of the earlier state.
        """
        if len(self.states) == 1:
            return self.states[0]
        after = bisect.bisect_right(self.times_s, time_s)
        if after == len(self.times_s) and time_s <= self.times_s[-1]:
            return self.states[-1]
        if after in (0, len(self.times_s)):
            return None
        a, b = self.states[after - 1], self.states[after]
        t0, t1 = self.times_s[after - 1], self.times_s[after]
        share = (time_s - t0) / (t1 - t0)
        turn = math.remainder(b.yaw_rad - a.yaw_rad, 2 * math.pi)
        return State(
            a.x + share * (b.x - a.x),
            a.y + share * (b.y - a.y),
            a.z + share * (b.z - a.z),
            a.yaw_rad + share * turn,
            a.speed_mps + share * (b.speed_mps - a.speed_mps),
            a.attribute,
            a.pose,
            a.braking,
        )


@dataclass(frozen=True)
class Agent:
    """A thing that is annotated: what it is, and where over time.

    Attributes:
        name: unique in the world.
        category: of nuScenes, e.g. `vehicle.car`.
        model: of its mesh, e.g. `car/sedan`.
        size_wlh: of the annotated box, which its mesh fills: width, length, height, metres.
        paint: sRGB, 0 to 1.
        track: its states.
        variant: seed of details of its mesh.
    """

    name: str
    category: str
    model: str
    size_wlh: tuple[float, float, float]
    paint: tuple[float, float, float]
    track: Track
    variant: int = 0


@dataclass(frozen=True)
class Placed:
    """A mesh somewhere at a moment.

    Attributes:
        mesh: which.
        x, y, z: where the mesh's origin is.
        yaw_rad: how it is turned.
        paint: sRGB of its painted materials.
        owner: name of the agent; empty for what is not annotated.
        lights_on: head and tail lights are on.
        braking: brake lights are on.
    """

    mesh: MeshKey
    x: float
    y: float
    z: float
    yaw_rad: float
    paint: tuple[float, float, float] = (0.6, 0.6, 0.6)
    owner: str = ""
    lights_on: bool = False
    braking: bool = False

    @property
    def transform(self) -> Float64:
        """world_from_mesh, float64 `[4, 4]`."""
        cos, sin = math.cos(self.yaw_rad), math.sin(self.yaw_rad)
        return np.array(
            [
                [cos, -sin, 0, self.x],
                [sin, cos, 0, self.y],
                [0, 0, 1, self.z],
                [0, 0, 0, 1],
            ]
        )


@dataclass(frozen=True)
class Signal:
    """A traffic light that changes.

    Attributes:
        placed: its post; the pose in its mesh key is that of the first change.
        changes: from when on, seconds, it shows which pose (`red`, `amber` or `green`); times
            grow, the first is not after the scene's beginning.
    """

    placed: Placed
    changes: tuple[tuple[float, str], ...]

    def at(self, time_s: float) -> Placed:
        """The post with the pose of a moment; before its first change that of the first."""
        after = bisect.bisect_right(self.changes, time_s, key=lambda change: change[0])
        pose = self.changes[max(after - 1, 0)][1]
        return replace(self.placed, mesh=self.placed.mesh._replace(pose=pose))


@dataclass(frozen=True, eq=False)
class World:
    """One scene.

    Attributes:
        name: e.g. `scene-0001`; unique in its data set.
        description: for people; names weather, place and events as nuScenes does.
        location: e.g. `made-town`.
        duration_s: states are known from 0 to here.
        condition: light and weather.
        ego: the ego vehicle's way; `z` is 0, the frame that of nuScenes (origin under the middle
            of the rear axle, x to the front).
        agents: all that is annotated.
        scenery: what stands there and is not annotated: buildings, trees, lamps, signs.
        ground: roads, markings, pavements, lawns, kerbs, world frame.
        lamps: float64 `[n, 3]`, the light of each street lamp, world frame.
        global_from_world: float64 `[4, 4]`; a turn about z and a shift.
        signals: traffic lights; not in `scenery`, since they change.
    """

    name: str
    description: str
    location: str
    duration_s: float
    condition: Condition
    ego: Track
    agents: tuple[Agent, ...]
    scenery: tuple[Placed, ...]
    ground: Mesh
    lamps: Float64 = field(default_factory=lambda: np.zeros((0, 3)))
    global_from_world: Float64 = field(default_factory=lambda: np.eye(4))
    signals: tuple[Signal, ...] = ()

    @cached_property
    def agents_by_name(self) -> dict[str, Agent]:
        """The agents under their names."""
        return {agent.name: agent for agent in self.agents}

    def ego_pose(self, time_s: float) -> Float64:
        """world_from_ego, float64 `[4, 4]`; outside the scene its first or last pose."""
        times = self.ego.times_s
        state = self.ego.at(min(max(time_s, times[0]), times[-1]))
        assert state is not None  # the ends of the track are in it
        return Placed(MeshKey("", (0, 0, 0)), state.x, state.y, state.z, state.yaw_rad).transform

    def placed_signals(self, time_s: float) -> list[Placed]:
        """The traffic lights, each with what it shows at a moment."""
        return [signal.at(time_s) for signal in self.signals]

    def placed_agents(self, time_s: float) -> list[Placed]:
        """The agents that are there at a moment."""
        placed: list[Placed] = []
        for agent in self.agents:
            state = agent.track.at(time_s)
            if state is None:
                continue
            driven = state.attribute in ("vehicle.moving", "vehicle.stopped", "cycle.with_rider")
            placed.append(
                Placed(
                    MeshKey(agent.model, agent.size_wlh, state.pose, agent.variant),
                    state.x,
                    state.y,
                    state.z,
                    state.yaw_rad,
                    agent.paint,
                    agent.name,
                    lights_on=driven and self.condition.lights_on,
                    braking=state.braking,
                )
            )
        return placed
