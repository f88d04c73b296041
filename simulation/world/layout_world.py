"""A world around a real layout: its boxes as agents, and made surroundings that touch none."""

from __future__ import annotations

import dataclasses
import math
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...runtime.errors import ConfigError, TailwireError
from .catalogue import draw_kind
from .condition import Condition, ConditionName
from .description import describe
from .footprints import Occupied
from .generate import town_ground
from .layouts import Layout, LayoutTrack
from .model import Agent, State, Track, World
from .scenery import furnish
from .standing import Standing
from .streets import KERB_HEIGHT_M, Plan, Street
from .walkers import POSES

Float64 = NDArray[np.float64]

_STEP_S = 0.1
_BEYOND_M = 150.0
_CLOSE_M = 8.0
_GRID_MARGIN_M = 25.0
_STILL_M = 0.7  # a vehicle that stays within this is parked
_MOVING_MPS = {"pedestrian": 0.3}
_BESIDE_VEHICLE_M = 1.8
_VEHICLES = ("car", "truck", "bus", "trailer", "construction_vehicle")
_CATEGORIES = {
    "car": "vehicle.car",
    "truck": "vehicle.truck",
    "bus": "vehicle.bus.rigid",
    "trailer": "vehicle.trailer",
    "construction_vehicle": "vehicle.construction",
    "motorcycle": "vehicle.motorcycle",
    "bicycle": "vehicle.bicycle",
    "pedestrian": "human.pedestrian.adult",
    "traffic_cone": "movable_object.trafficcone",
    "barrier": "movable_object.barrier",
}


@dataclasses.dataclass(frozen=True, eq=False)
class _Way(Plan):
    """The street along the ego's way, widened to carry every vehicle of the layout."""

    vehicles: Float64 = dataclasses.field(default_factory=lambda: np.zeros((0, 3)))

    @cached_property
    def _yards(self) -> tuple[Float64, Float64]:
        """Corner `[2]` and signed distances of a grid a metre wide: paved where vehicles are.

        Narrow gaps between the vehicles and the street are closed, so that a row of parked cars
        is a parking lot and not so many islands.
        """
        ndimage = _scipy_ndimage()
        low = np.floor(self.vehicles[:, :2].min(axis=0)) - _GRID_MARGIN_M
        high = self.vehicles[:, :2].max(axis=0) + _GRID_MARGIN_M
        axes = [np.arange(a, b) for a, b in zip(low, high, strict=True)]
        cells = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
        road = self.streets[0].distance(cells) < 0
        for x, y, reach in self.vehicles:
            road |= (cells[:, 0] - x) ** 2 + (cells[:, 1] - y) ** 2 < reach * reach
        road = road.reshape([len(axis) for axis in axes])
        spread = ndimage.distance_transform_edt(~road) < _CLOSE_M
        closed = ndimage.distance_transform_edt(spread) > _CLOSE_M - 0.5
        signed = ndimage.distance_transform_edt(~closed) - ndimage.distance_transform_edt(closed)
        return low, ndimage.gaussian_filter(signed, 1.2)

    def road_distance(self, points: ArrayLike) -> Float64:
        points = np.asarray(points, np.float64).reshape(-1, 2)
        distance = self.streets[0].distance(points)
        if not len(self.vehicles):
            return distance
        low, grid = self._yards
        at = points - low
        inside = ((at > 0) & (at < np.array(grid.shape) - 1.001)).all(axis=1)
        cell = np.floor(at[inside]).astype(np.int64)
        u, v = (at[inside] - cell).T
        i, j = cell.T
        near = (1 - u) * ((1 - v) * grid[i, j] + v * grid[i, j + 1])
        near += u * ((1 - v) * grid[i + 1, j] + v * grid[i + 1, j + 1])
        distance[inside] = np.minimum(distance[inside], near)
        return distance


def world_of_layout(
    layout: Layout, seed: int, duration_s: float, condition: ConditionName
) -> World:
    """Make a world of a real scene.

    Args:
        layout: who was where.
        seed: of the surroundings, colours and details.
        duration_s: seconds; at most as long as the layout goes.
        condition: light and weather.

    Returns:
        The world; its frame is the global one, shifted to the first ego position.

    Raises:
        ConfigError: the duration is not a positive number.
    """
    if not duration_s > 0:
        raise ConfigError(
            f"a scene cannot last {duration_s} s", field="duration_s", remedy="give more than 0"
        )
    duration_s = min(duration_s, float(layout.times_s[-1]))
    looks, things, light = map(
        np.random.default_rng, np.random.SeedSequence([seed, len(layout.tracks)]).spawn(3)
    )
    times = _moments(0.0, float(layout.times_s[-1]))
    ego_poses = _at(layout.times_s, layout.ego, times)
    ego = _ego(times, ego_poses, duration_s)
    plan = _way(layout, ego_poses)
    agents = tuple(
        _agent(number, track, plan, things) for number, track in enumerate(layout.tracks)
    )
    occupied = Occupied()
    for track in layout.tracks:
        moments = _moments(float(track.times_s[0]), float(track.times_s[-1]))
        poses = _at(track.times_s, track.poses, moments)[::3]
        width, length, _ = track.size_wlh
        margin = 0.4
        occupied.add(
            np.column_stack([poses, np.tile([length + margin, width + margin], (len(poses), 1))])
        )
    near = np.array([[state.x, state.y] for state in ego.states[::5]])
    scenery, _, lamps = furnish(plan, Standing(occupied), occupied, near, duration_s, looks)
    parked = np.array(
        [[a.track.states[0].x, a.track.states[0].y] for a in agents
         if a.track.states[0].attribute == "vehicle.parked"]
    ).reshape(-1, 2)  # fmt: skip
    drawn = Condition.drawn(condition, light)
    return World(
        name=layout.name,
        description=describe(None, drawn, agents, ego),
        location=layout.location,
        duration_s=duration_s,
        condition=drawn,
        ego=ego,
        agents=agents,
        scenery=scenery,
        ground=town_ground(plan, near, looks, parked),
        lamps=lamps,
        global_from_world=layout.global_from_world,
    )


def _scipy_ndimage() -> Any:
    try:
        from scipy import ndimage
    except ImportError as error:
        raise TailwireError(
            "layouts need SciPy", field="scipy", remedy="pip install 'tailwire[sim]'"
        ) from error
    return ndimage


def _moments(first: float, last: float) -> Float64:
    count = max(1, math.ceil((last - first) / _STEP_S - 1e-6))
    return np.linspace(first, last, count + 1) if last > first else np.array([first])


def _at(times: Float64, poses: Float64, moments: Float64) -> Float64:
    """Poses `[m, 3]` between keyframes; headings turn the short way."""
    headings = np.unwrap(poses[:, 2])
    return np.stack(
        [np.interp(moments, times, axis) for axis in (poses[:, 0], poses[:, 1], headings)], axis=1
    )


def _ego(times: Float64, poses: Float64, duration_s: float) -> Track:
    speeds = _speeds(times, poses)
    slower = np.gradient(speeds, times) < -0.5
    states = [
        State(x, y, 0.0, yaw, float(speed), "vehicle.moving", "", bool(brakes or speed < 0.1))
        for (x, y, yaw), speed, brakes in zip(poses.tolist(), speeds, slower, strict=True)
    ]
    last = int(np.searchsorted(times, duration_s, side="right")) + 1
    return Track(tuple(times[:last].tolist()), tuple(states[:last]))


def _speeds(times: Float64, poses: Float64) -> Float64:
    """Smoothed over half a second, metres a second."""
    if len(times) < 2:
        return np.zeros(len(times))
    velocity = np.gradient(poses[:, :2], times, axis=0)
    width = min(5, len(times) // 2 * 2 - 1)
    speed = np.hypot(velocity[:, 0], velocity[:, 1])
    return np.convolve(np.pad(speed, width // 2, mode="edge"), np.ones(width) / width, "valid")


def _way(layout: Layout, ego: Float64) -> _Way:
    """A street along the ego's way, lengthened at both ends, with room round each vehicle."""
    kept = [ego[0]]
    for pose in ego[1:]:
        if np.hypot(*(pose[:2] - kept[-1][:2])) > 3.0:
            kept.append(pose)
    rows = np.array(kept)
    chords = np.diff(rows[:, :2], axis=0)
    headings = np.unwrap(np.arctan2(chords[:, 1], chords[:, 0])) if len(chords) else np.zeros(0)
    headings = np.append(headings, headings[-1]) if len(headings) else rows[:, 2]
    before = _beyond(rows[0], headings[0], -1)
    after = _beyond(rows[-1], headings[-1], 1)
    places = np.concatenate([before, rows[:, :2], after])
    yaws = np.concatenate([[headings[0]] * len(before), headings, [headings[-1]] * len(after)])
    # traffic that comes the other way needs the half of the road that the ego does not use
    side = -1.0 if layout.location.startswith("singapore") else 1.0
    shift = side * 1.7
    places = places + shift * np.stack([-np.sin(yaws), np.cos(yaws)], axis=1)
    street = Street(np.column_stack([places, yaws]), 1, False)
    room: list[Float64] = []
    for track in layout.tracks:
        if track.kind not in _VEHICLES and track.kind not in ("motorcycle", "traffic_cone"):
            continue
        poses = track.poses
        long = track.size_wlh[1] if track.kind in _VEHICLES else 1.0
        for offset in (-0.35, 0.0, 0.35):
            x = poses[:, 0] + offset * long * np.cos(poses[:, 2])
            y = poses[:, 1] + offset * long * np.sin(poses[:, 2])
            reach = track.size_wlh[0] / 2 + _BESIDE_VEHICLE_M
            room.append(np.column_stack([x, y, np.full(len(x), reach)]))
    vehicles = np.concatenate(room) if room else np.zeros((0, 3))
    vehicles = np.unique(np.round(vehicles / 0.5) * 0.5, axis=0)
    return _Way((street,), (), (), (), 4.5, "layout", vehicles=vehicles)


def _beyond(pose: Float64, heading: float, sign: int) -> Float64:
    step = sign * _BEYOND_M * np.array([[math.cos(heading), math.sin(heading)]])
    return pose[:2] + step


def _agent(number: int, track: LayoutTrack, plan: _Way, rng: np.random.Generator) -> Agent:
    moments = _moments(float(track.times_s[0]), float(track.times_s[-1]))
    poses = _at(track.times_s, track.poses, moments)
    speeds = _speeds(moments, poses)
    spread = float(np.ptp(poses[:, :2], axis=0).max())
    group = track.kind
    cycle = group in ("bicycle", "motorcycle")
    ridden = cycle and (spread > 3.0 or track.size_wlh[2] > 1.42)
    still = spread < _STILL_M
    category = _CATEGORIES[group]
    model = _model(track, rng)
    if model == "pedestrian/child":
        category = "human.pedestrian.child"
    paint = draw_kind(model, rng).paint
    heights = np.zeros(len(moments))
    if group in ("pedestrian", "bicycle", "barrier"):
        heights = np.clip(plan.road_distance(poses[:, :2]) / 0.3 + 0.5, 0, 1) * KERB_HEIGHT_M
    stride = 1.5 * track.size_wlh[2] / 1.75
    phase = float(rng.random())
    walked = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(poses[:, :2], axis=0).T))])
    slower = np.gradient(speeds, moments) < -0.6 if len(moments) > 1 else np.zeros(1, bool)
    states: list[State] = []
    for row, (x, y, yaw) in enumerate(np.round(poses, 4).tolist()):
        moving = speeds[row] > _MOVING_MPS.get(group, 0.25) and not still
        attribute, pose = "", ""
        if group == "pedestrian":
            sits = track.size_wlh[2] < 1.42 and track.size_wlh[1] > 0.95 and still
            attribute = "pedestrian.moving" if moving else "pedestrian.standing"
            pose = (
                f"walk{int((walked[row] / stride + phase) * POSES) % POSES}" if moving else "stand"
            )
            if sits:
                attribute, pose = "pedestrian.sitting_lying_down", "sit"
        elif cycle:
            attribute = "cycle.with_rider" if ridden else "cycle.without_rider"
            pose = "rider" if ridden else ""
        elif group in _VEHICLES:
            attribute = "vehicle.moving" if moving else "vehicle.stopped"
            attribute = "vehicle.parked" if still else attribute
        brakes = attribute == "vehicle.stopped" or (
            attribute == "vehicle.moving" and bool(slower[row])
        )
        states.append(
            State(x, y, round(float(heights[row]), 3), yaw, round(float(speeds[row]), 3),
                  attribute, pose, brakes)
        )  # fmt: skip
    times = tuple(moments.tolist())
    if len(times) == 1:  # seen in one keyframe only: there for a moment round it
        times = (times[0] - _STEP_S, times[0] + _STEP_S)
        states = states * 2
    size = (round(track.size_wlh[0], 3), round(track.size_wlh[1], 3), round(track.size_wlh[2], 3))
    return Agent(
        f"{group}-{number}", category, model, size, paint, Track(times, tuple(states)),
        int(rng.integers(0, 12)),
    )  # fmt: skip


def _model(track: LayoutTrack, rng: np.random.Generator) -> str:
    """The mesh whose usual shape is nearest to the box."""
    width, length, height = track.size_wlh
    if track.kind == "car":
        if height > 1.95:
            return "car/van"
        if height > 1.66:
            return "car/pickup" if length > 5.4 else "car/suv"
        return "car/sedan" if length > 4.35 else "car/hatchback"
    if track.kind == "truck":
        if height < 2.2:
            return "car/pickup"
        return "truck/box" if height > 2.9 else "truck/flatbed"
    if track.kind == "pedestrian":
        return "pedestrian/child" if height < 1.4 and length < 0.95 else "pedestrian/adult"
    if track.kind == "construction_vehicle":
        return "construction/excavator" if rng.random() < 0.5 else "construction/loader"
    return {
        "bus": "bus/city",
        "trailer": "trailer/box",
        "motorcycle": "motorcycle/standard",
        "bicycle": "bicycle/standard",
        "traffic_cone": "cone/standard",
        "barrier": "barrier/concrete" if width < 2.2 else "barrier/plastic",
    }[track.kind]
