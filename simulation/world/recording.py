"""Writes down where everybody is while a town lives, and turns that into tracks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .catalogue import Kind
from .driver import Driver
from .driving import EGO_NAME
from .footprints import overlaps, pairs_overlap
from .model import Agent, State, Track
from .streets import KERB_HEIGHT_M
from .traffic import Traffic
from .walkers import Walker, Walkers

Float64 = NDArray[np.float64]

_MOVING_MPS = 0.25
_CYCLES = ("bicycle", "motorcycle")


class Recorder:
    """Rows of what was where, one for each moment."""

    def __init__(self, traffic: Traffic, walkers: Walkers) -> None:
        self._traffic = traffic
        self._walkers = walkers
        self._times: list[float] = []
        self._poses: list[Float64] = []
        self._there: list[NDArray[np.bool_]] = []
        self._speeds: list[Float64] = []
        self._braking: list[list[bool]] = []
        self._parked: list[list[bool]] = []
        self._people: list[list[tuple[float, float]]] = []

    def record(self, time_s: float) -> None:
        """Write down this moment."""
        drivers = self._traffic.drivers
        self._times.append(time_s)
        self._poses.append(np.round(self._traffic.poses(), 4))
        self._there.append(np.array([driver.active for driver in drivers]))
        self._speeds.append(np.array([driver.speed for driver in drivers]))
        self._braking.append([_brakes(driver) for driver in drivers])
        self._parked.append([driver.parked or time_s < driver.leaves_s for driver in drivers])
        self._people.append([(walker.distance, walker.speed) for walker in self._walkers.walkers])

    def ego(self, kind: Kind) -> Track:
        """The way of the ego vehicle's rear axle."""
        poses = np.array([moment[0] for moment in self._poses])
        back = 0.3 * kind.size_wlh[1]
        states = [
            State(
                round(x - back * math.cos(yaw), 4), round(y - back * math.sin(yaw), 4), 0.0,
                yaw, float(speeds[0]), "vehicle.moving", "", braking[0],
            )
            for (x, y, yaw), speeds, braking in zip(
                poses.tolist(), self._speeds, self._braking, strict=True
            )
        ]  # fmt: skip
        return Track(tuple(self._times), tuple(states))

    def agents(self, near: Float64, reach_m: float, still: Sequence[Agent]) -> list[Agent]:
        """All moving agents that come near a way `[n, 2]`.

        Vehicles that touch another one, or one of the agents that stand still, are left out.
        """
        traffic = self._traffic
        kinds = [kind for driver in traffic.drivers for kind in driver.kinds]
        poses = np.array(self._poses)
        there = np.array(self._there)[:, traffic.owner]
        kept = ~self._touching(poses, there, kinds)
        kept &= ~self._touching_still(poses, there, kinds, still)
        agents: list[Agent] = []
        for body in np.flatnonzero(kept).tolist():
            driver = traffic.drivers[int(traffic.owner[body])]
            if driver.name == EGO_NAME or not _comes_near(
                poses[there[:, body], body, :2], near, reach_m
            ):
                continue
            agents.append(self._vehicle(driver, body, kinds[body], poses[:, body], there[:, body]))
        walked = np.array(self._people)
        for number, walker in enumerate(self._walkers.walkers):
            places = walker.places(walked[:, number, 0])
            if _comes_near(places[:, :2], near, reach_m):
                agents.append(self._person(number, walker, places, walked[:, number]))
        return agents

    def _touching(
        self, poses: Float64, there: NDArray[np.bool_], kinds: list[Kind]
    ) -> NDArray[np.bool_]:
        """Bodies to leave out because they or their trailer touch another at some moment."""
        owner = self._traffic.owner
        sizes = np.array([[kind.size_wlh[1], kind.size_wlh[0]] for kind in kinds])
        out = np.zeros(len(kinds), bool)
        for moment in range(0, len(poses), 2):
            rows = np.flatnonzero(there[moment] & ~out)
            boxes = np.concatenate([poses[moment, rows], sizes[rows]], axis=1)
            apart = boxes[:, None, :2] - boxes[None, :, :2]
            close = np.hypot(apart[..., 0], apart[..., 1]) < 14
            close &= owner[rows][:, None] < owner[rows][None, :]
            for a, b in zip(*np.nonzero(close), strict=True):
                if overlaps(boxes[a], boxes[b], 0.02)[0, 0]:
                    # the later of the two, so that the ego, the first, always stays
                    out |= owner == owner[rows[b]]
        return out

    def _touching_still(
        self, poses: Float64, there: NDArray[np.bool_], kinds: list[Kind], still: Sequence[Agent]
    ) -> NDArray[np.bool_]:
        """Bodies to leave out because they or their trailer touch what stands, but for the ego."""
        boxes = np.array(
            [
                (state.x, state.y, state.yaw_rad, agent.size_wlh[1], agent.size_wlh[0])
                for agent in still
                if agent.category.startswith("vehicle") and (state := agent.track.states[0])
            ]
        ).reshape(-1, 5)
        out = np.zeros(len(kinds), bool)
        owner = self._traffic.owner
        sizes = np.array([[kind.size_wlh[1], kind.size_wlh[0]] for kind in kinds])
        reach = np.hypot(sizes[:, :1], sizes[:, 1:]) / 2 + np.hypot(boxes[:, 3], boxes[:, 4]) / 2
        for moment in range(0, len(poses), 2):
            places = poses[moment]
            apart_x = places[:, :1] - boxes[:, 0]
            apart_y = places[:, 1:2] - boxes[:, 1]
            close = apart_x * apart_x + apart_y * apart_y < reach * reach
            bodies, things = np.nonzero(close & there[moment][:, None])
            mine = np.concatenate([places[bodies], sizes[bodies]], axis=1)
            touching = bodies[pairs_overlap(mine, boxes[things], -0.03)]
            out |= np.isin(owner, owner[touching])
        first = owner == 0
        return out & ~first

    def _vehicle(
        self, driver: Driver, body: int, kind: Kind, poses: Float64, there: NDArray[np.bool_]
    ) -> Agent:
        number = int(self._traffic.owner[body])
        group = kind.model.split("/")[0]
        rider = "rider" if group in _CYCLES else ""
        behind = body > int(np.argmax(self._traffic.owner == number))
        pose = "rear" if behind and kind.model == "bus/bendy" else rider
        rows = np.flatnonzero(there)
        states: list[State] = []
        for row in rows.tolist():
            speed = float(self._speeds[row][number])
            if rider:
                attribute = "cycle.with_rider"
            elif self._parked[row][number]:
                attribute = "vehicle.parked"
            else:
                attribute = "vehicle.moving" if speed > _MOVING_MPS else "vehicle.stopped"
            x, y, yaw = poses[row].tolist()
            braking = self._braking[row][number] and attribute != "vehicle.parked"
            states.append(State(x, y, 0.0, yaw, speed, attribute, pose, braking))
        times = [self._times[row] for row in rows.tolist()]
        if not np.any(poses[rows] != poses[rows[0]]) and len(rows) == len(poses):
            same = all(state == states[0] for state in states)
            times, states = (times[:1], states[:1]) if same else (times, states)
        return Agent(
            f"{driver.name}-{body}", kind.category, kind.model, kind.size_wlh, kind.paint,
            Track(tuple(times), tuple(states)), kind.variant,
        )  # fmt: skip

    def _person(self, number: int, walker: Walker, places: Float64, walked: Float64) -> Agent:
        road = self._walkers.plan.road_distance(places[:, :2])
        heights = np.clip(road / 0.3 + 0.5, 0, 1) * KERB_HEIGHT_M  # a step takes a stride
        rows = np.round(np.column_stack([places, heights, walked]), 3).tolist()
        states: list[State] = []
        for x, y, yaw, z, distance, speed in rows:
            moving = speed > _MOVING_MPS
            attribute = "pedestrian.moving" if moving else "pedestrian.standing"
            pose = walker.pose(distance) if moving else "stand"
            states.append(State(x, y, z, yaw, speed, attribute, pose))
        kind = walker.kind
        return Agent(
            f"walker-{number}",
            kind.category,
            kind.model,
            kind.size_wlh,
            kind.paint,
            Track(tuple(self._times), tuple(states)),
            kind.variant,
        )


def _brakes(driver: Driver) -> bool:
    return driver.acceleration < -0.4 or (driver.speed == 0 and driver.acceleration <= 0)


def _comes_near(places: Float64, near: Float64, reach_m: float) -> bool:
    some = places[::10]
    if not len(some):
        return False
    apart = np.hypot(*(some[:, None] - near[None]).transpose(2, 0, 1))
    return bool(apart.min() < reach_m)
