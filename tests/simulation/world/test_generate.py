"""Made worlds: reproducible, rich, and nobody where nobody can be."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from tailwire.simulation.world import Agent, State, World, make_world

SEED = 11
SECONDS = 6.0
VEHICLES = ("vehicle.car", "vehicle.truck", "vehicle.bus", "vehicle.trailer")
TEN_CLASSES = (
    "vehicle.car", "vehicle.truck", "vehicle.bus", "vehicle.trailer", "vehicle.construction",
    "vehicle.motorcycle", "vehicle.bicycle", "human.pedestrian", "movable_object.trafficcone",
    "movable_object.barrier",
)  # fmt: skip
ATTRIBUTES = {
    "vehicle": {"vehicle.moving", "vehicle.stopped", "vehicle.parked"},
    "cycle": {"cycle.with_rider", "cycle.without_rider"},
    "human": {"pedestrian.moving", "pedestrian.standing", "pedestrian.sitting_lying_down"},
    "movable_object": {""},
}


@pytest.fixture(scope="module")
def worlds() -> list[World]:
    """Ten worlds in a row."""
    return [make_world(SEED, index, SECONDS, "day") for index in range(10)]


def _rectangle(x: float, y: float, yaw: float, length: float, width: float) -> np.ndarray:
    along = np.array([math.cos(yaw), math.sin(yaw)]) * length / 2
    across = np.array([-math.sin(yaw), math.cos(yaw)]) * width / 2
    middle = np.array([x, y])
    corners = [middle + a * along + b * across for a, b in ((1, 1), (-1, 1), (-1, -1), (1, -1))]
    return np.array(corners)


def _overlap_m(first: np.ndarray, second: np.ndarray) -> float:
    """How deep two convex outlines overlap; negative where a line separates them."""
    depth = math.inf
    for outline in (first, second):
        for edge in np.roll(outline, -1, axis=0) - outline:
            normal = np.array([-edge[1], edge[0]]) / np.hypot(*edge)
            a, b = first @ normal, second @ normal
            depth = min(depth, a.max() - b.min(), b.max() - a.min())
    return float(depth)


def _outline(agent: Agent, state: State) -> np.ndarray:
    return _rectangle(state.x, state.y, state.yaw_rad, agent.size_wlh[1], agent.size_wlh[0])


def _is_vehicle(agent: Agent) -> bool:
    return agent.category.startswith("vehicle")


def test_same_arguments_give_the_same_world() -> None:
    first, second = (make_world(3, 4, 2.0, "rain") for _ in range(2))
    assert first.agents == second.agents
    assert first.ego == second.ego
    assert first.scenery == second.scenery
    assert first.signals == second.signals
    assert first.condition == second.condition
    assert first.description == second.description
    np.testing.assert_array_equal(first.ground.positions, second.ground.positions)
    np.testing.assert_array_equal(first.global_from_world, second.global_from_world)


def test_worlds_differ_by_index(worlds: list[World]) -> None:
    assert len({world.name for world in worlds}) == len(worlds)
    ends = {(world.ego.states[-1].x, world.ego.states[-1].y) for world in worlds}
    assert len(ends) == len(worlds)


def test_all_ten_classes_are_near_the_ego_in_ten_worlds(worlds: list[World]) -> None:
    seen: Counter[str] = Counter()
    for world in worlds:
        for name in TEN_CLASSES:
            seen[name] += any(
                agent.category.startswith(name) and _nearest_m(world, agent) < 50
                for agent in world.agents
            )
    assert min(seen[name] for name in TEN_CLASSES) >= 2, seen


def _nearest_m(world: World, agent: Agent) -> float:
    best = math.inf
    for time_s in np.arange(0, SECONDS, 1.0).tolist():
        state, ego = agent.track.at(time_s), world.ego.at(time_s)
        if state is not None and ego is not None:
            best = min(best, math.hypot(state.x - ego.x, state.y - ego.y))
    return best


def test_names_are_unique_and_sizes_are_whole_centimetres(worlds: list[World]) -> None:
    for world in worlds:
        assert len(world.agents_by_name) == len(world.agents)
        for agent in world.agents:
            for side in agent.size_wlh:
                assert side > 0.2
                assert side == round(side, 2)


def test_attributes_fit_category_and_speed(worlds: list[World]) -> None:
    for world in worlds:
        for agent in world.agents:
            cycle = agent.category in ("vehicle.bicycle", "vehicle.motorcycle")
            allowed = ATTRIBUTES["cycle" if cycle else agent.category.split(".")[0]]
            for state in agent.track.states:
                assert state.attribute in allowed
                if state.attribute.endswith(".moving"):
                    assert state.speed_mps > 0.2
                if state.attribute in ("vehicle.stopped", "pedestrian.standing"):
                    assert state.speed_mps < 0.3
                if state.attribute == "vehicle.parked":
                    assert state.speed_mps == 0


def test_no_two_vehicles_touch_at_any_time(worlds: list[World]) -> None:
    for world in worlds:
        for time_s in np.arange(0, SECONDS + 0.01, 0.5).tolist():
            boxes = [
                (_outline(agent, state), agent.name)
                for agent in world.agents
                if _is_vehicle(agent) and (state := agent.track.at(time_s)) is not None
            ]
            ego = world.ego.at(min(time_s, SECONDS))
            assert ego is not None
            c, s = math.cos(ego.yaw_rad), math.sin(ego.yaw_rad)
            boxes.append(
                (_rectangle(ego.x + 1.2 * c, ego.y + 1.2 * s, ego.yaw_rad, 4.08, 1.73), "ego")
            )
            middles = np.array([outline.mean(axis=0) for outline, _ in boxes])
            apart = np.hypot(*(middles[:, None] - middles[None]).transpose(2, 0, 1))
            for a, b in np.argwhere(
                (apart < 13) & (np.arange(len(boxes))[:, None] < np.arange(len(boxes)))
            ):
                coupled = boxes[a][1].rsplit("-", 1)[0] == boxes[b][1].rsplit("-", 1)[0]
                if coupled and "still" not in boxes[a][1]:
                    continue  # a trailer's corner swings towards its tractor
                touch = _overlap_m(boxes[a][0], boxes[b][0])
                assert touch < 0.05, (world.name, time_s, boxes[a][1], boxes[b][1], touch)


def test_no_agent_is_in_a_building(worlds: list[World]) -> None:
    for world in worlds:
        walls = [
            _rectangle(p.x, p.y, p.yaw_rad, p.mesh.size_wlh[1], p.mesh.size_wlh[0])
            for p in world.scenery
            if p.mesh.model.startswith("building")
        ]
        middles = np.array([wall.mean(axis=0) for wall in walls])
        for agent in world.agents:
            for state in agent.track.states[::15]:
                near = np.hypot(middles[:, 0] - state.x, middles[:, 1] - state.y) < 26
                for wall in np.flatnonzero(near):
                    assert _overlap_m(_outline(agent, state), walls[wall]) < 0.01, agent.name


def test_headings_follow_motion(worlds: list[World]) -> None:
    errors: list[float] = []
    for world in worlds:
        for agent in world.agents:
            if not (_is_vehicle(agent) or "pedestrian" in agent.category):
                continue
            for a, b in zip(agent.track.states[::5], agent.track.states[5::5], strict=False):
                moved = math.hypot(b.x - a.x, b.y - a.y)
                if moved > 0.4 and abs(a.yaw_rad - b.yaw_rad) < 0.1:
                    way = math.atan2(b.y - a.y, b.x - a.x)
                    errors.append(abs(math.remainder(way - (a.yaw_rad + b.yaw_rad) / 2, math.tau)))
    assert len(errors) > 1000
    assert np.percentile(errors, 99) < math.radians(12)


def test_speeds_and_accelerations_are_those_of_traffic(worlds: list[World]) -> None:
    for world in worlds:
        for agent in [*world.agents]:
            speeds = np.array([state.speed_mps for state in agent.track.states])
            limit = 3.0 if "pedestrian" in agent.category else 14.5
            assert speeds.max() <= limit
            if _is_vehicle(agent) and len(speeds) > 2:
                steps = np.diff(speeds) / np.diff(agent.track.times_s)
                assert steps.max() < 2.5
                assert steps.min() > -6.5
        ego = np.array([state.speed_mps for state in world.ego.states])
        assert 0 <= ego.min() <= ego.max() <= 14


def test_walkers_keep_to_pavements_and_crossings(worlds: list[World]) -> None:
    on_road = total = 0
    for world in worlds:
        for agent in world.agents:
            if agent.category in ("human.pedestrian.adult", "human.pedestrian.child"):
                total += len(agent.track.states)
                on_road += sum(state.z < 0.01 for state in agent.track.states)
    assert 0.002 < on_road / total < 0.25


def test_walking_poses_advance_with_the_way(worlds: list[World]) -> None:
    poses: set[str] = set()
    for agent in worlds[0].agents:
        if agent.category == "human.pedestrian.adult":
            for state in agent.track.states:
                assert state.pose.startswith("walk") == (state.attribute == "pedestrian.moving")
                poses.add(state.pose)
    assert {f"walk{number}" for number in range(8)} <= poses


def _seen(world: World, time_s: float, reach_m: float = 50.0) -> list[tuple[Agent, float]]:
    """Agents near the ego at a moment, with their bearings from it in radians."""
    found: list[tuple[Agent, float]] = []
    ego = world.ego.at(time_s)
    assert ego is not None
    for agent in world.agents:
        state = agent.track.at(time_s)
        if state is not None and math.hypot(state.x - ego.x, state.y - ego.y) < reach_m:
            found.append((agent, math.atan2(state.y - ego.y, state.x - ego.x) - ego.yaw_rad))
    return found


def test_something_is_all_round_the_ego(worlds: list[World]) -> None:
    sixths: Counter[int] = Counter()
    for world in worlds:
        for time_s in (0.0, SECONDS / 2, SECONDS):
            seen = _seen(world, time_s)
            assert 15 < len(seen) < 110, world.name
            sixths.update(round(bearing / (math.pi / 3)) % 6 for _, bearing in seen)
    assert min(sixths[k] for k in range(6)) >= 0.09 * sum(sixths.values()), sixths


def test_classes_are_mixed_as_on_real_streets(worlds: list[World]) -> None:
    counts = [
        Counter(agent.model.split("/")[0] for agent, _ in _seen(world, SECONDS / 2))
        for world in worlds
    ]
    kinds = sum(counts, Counter[str]())
    total = sum(kinds.values())
    assert 0.3 < kinds["car"] / total < 0.55
    assert 0.1 < kinds["pedestrian"] / total < 0.3
    assert min(kinds.values()) > 0.01 * total and len(kinds) == 10
    assert sum(count["car"] > count["pedestrian"] for count in counts) > len(worlds) / 2


def test_tractors_have_their_trailers_and_bendy_buses_both_halves(worlds: list[World]) -> None:
    found: Counter[str] = Counter()
    for world in worlds:
        for agent in world.agents:
            if agent.model not in ("truck/semi", "bus/bendy"):
                continue
            prefix, _, body = agent.name.rpartition("-")
            state = agent.track.states[len(agent.track.states) // 2]
            time_s = agent.track.times_s[len(agent.track.states) // 2]
            if agent.model == "bus/bendy" and state.pose == "rear":
                front = world.agents_by_name[f"{prefix}-{int(body) - 1}"]
                before = front.track.at(time_s)
                assert before is not None and before.pose == ""
                gap = math.hypot(before.x - state.x, before.y - state.y) - agent.size_wlh[1]
                assert -0.5 < gap < 0.3  # a turn bends the chord between the middles
                found["bus"] += 1
            elif agent.model == "truck/semi":
                behind = world.agents_by_name[f"{prefix}-{int(body) + 1}"]
                assert behind.category == "vehicle.trailer"
                after = behind.track.at(time_s)
                assert after is not None
                middles = math.hypot(after.x - state.x, after.y - state.y)
                both = (agent.size_wlh[1] + behind.size_wlh[1]) / 2
                assert both - 4 < middles < both - 1.5  # it lies on the tractor's frame
                found["semi"] += 1
    assert found["bus"] and found["semi"]


def test_some_workers_walk_and_machines_have_trucks_near(worlds: list[World]) -> None:
    attributes: Counter[str] = Counter()
    for world in worlds:
        for agent in world.agents:
            if agent.category == "human.pedestrian.construction_worker":
                moves = {state.attribute for state in agent.track.states}
                attributes["walks" if "pedestrian.moving" in moves else "stands"] += 1
                for a, b in zip(agent.track.states, agent.track.states[1:], strict=False):
                    assert math.hypot(b.x - a.x, b.y - a.y) < 0.3
    assert attributes["walks"] > 5 and attributes["stands"] > 5
    machines = [(w, a) for w in worlds for a in w.agents if a.model.startswith("construction")]
    near = sum(
        any(other.model == "truck/dump"
            and math.hypot(other.track.states[0].x - machine.track.states[0].x,
                           other.track.states[0].y - machine.track.states[0].y) < 20
            for other in world.agents)
        for world, machine in machines
    )  # fmt: skip
    assert near > 0.4 * len(machines)


def test_lights_change_and_traffic_obeys_them(worlds: list[World]) -> None:
    shown: set[str] = set()
    for world in worlds:
        assert not any(placed.mesh.model.startswith("signal") for placed in world.scenery)
        assert len(world.placed_signals(0.0)) == len(world.signals)
        for signal in world.signals:
            times = [time_s for time_s, _ in signal.changes]
            assert times[0] == 0 and times == sorted(set(times)) and times[-1] <= SECONDS
            for (_, pose), (_, following) in itertools.pairwise(signal.changes):
                assert following == {"green": "amber", "amber": "red", "red": "green"}[pose]
            for time_s, pose in signal.changes:
                assert signal.at(time_s).mesh.pose == pose
                assert signal.at(time_s - 1e-3).mesh.pose == pose or time_s > 0
            shown |= {pose for _, pose in signal.changes}
    assert shown == {"red", "amber", "green"}


def test_nobody_passes_a_red_light_at_speed() -> None:
    passed = 0
    for index in (1, 5, 8, 12):
        world = make_world(SEED, index, 16.0, "day")
        for signal in world.signals:
            post = signal.placed
            ahead = np.array([-math.cos(post.yaw_rad), -math.sin(post.yaw_rad)])
            left = np.array([-ahead[1], ahead[0]])
            for agent in world.agents:
                if agent.category != "vehicle.car" or len(agent.track.states) < 2:
                    continue
                places = np.array([[state.x, state.y] for state in agent.track.states])
                offset = places - (post.x, post.y)
                along, aside = offset @ ahead, offset @ left
                nose = along + agent.size_wlh[1] / 2
                for row in np.flatnonzero((nose[:-1] < 1.2) & (nose[1:] >= 1.2)).tolist():
                    way = agent.track.states[row]
                    heading = math.cos(way.yaw_rad) * ahead[0] + math.sin(way.yaw_rad) * ahead[1]
                    if not 0.5 < aside[row] < 11 or heading < 0.95:
                        continue
                    time_s = agent.track.times_s[row]
                    lately = {signal.at(time_s - back).mesh.pose for back in (0.0, 0.5, 1.0)}
                    slow = way.speed_mps < 4.0  # it came in with the light and waited there
                    assert slow or lately != {"red"}, (world.name, agent.name, time_s)
                    passed += 1
    assert passed > 5


def test_ground_covers_the_surroundings_at_the_right_height(worlds: list[World]) -> None:
    world = worlds[0]
    corners = world.ground.positions[world.ground.faces]
    level = np.abs(world.ground.normals[world.ground.faces[:, 0], 2]) > 0.5
    flat = corners[level & (np.ptp(corners[:, :, 2], axis=1) < 1e-6)]
    ground = np.isin(np.round(flat[:, 0, 2].astype(np.float64), 3), [0.0, 0.15])
    flat = flat[ground]  # without paint and plates, which lie on it
    a, b = flat[:, 1, :2] - flat[:, 0, :2], flat[:, 2, :2] - flat[:, 0, :2]
    areas = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]) / 2
    assert areas.min() > -1e-4  # counter-clockwise from above
    spans = np.ptp(flat[:, :, :2].reshape(-1, 2), axis=0)
    # no gap and no overlap: the pieces add up to the whole
    assert areas.sum() == pytest.approx(spans.prod(), rel=1e-4)
    ego = np.array([[state.x, state.y] for state in world.ego.states])
    low, high = flat[:, :, :2].min(axis=(0, 1)), flat[:, :, :2].max(axis=(0, 1))
    assert (ego.min(axis=0) - low > 240).all()
    assert (high - ego.max(axis=0) > 240).all()


def test_descriptions_name_the_weather() -> None:
    assert make_world(1, 0, 1.0, "night").description.startswith("Night")
    assert "Rain" in make_world(1, 1, 1.0, "rain").description


def test_lamps_hang_over_the_road_edge(worlds: list[World]) -> None:
    for world in worlds:
        assert len(world.lamps) > 4
        assert (np.abs(world.lamps[:, 2] - 7.3) < 1).all()
