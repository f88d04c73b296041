"""Rays at a world against the slab test of ray and box, written here a second time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tailwire.simulation.lidar import RayWorld
from tailwire.simulation.lidar.triangles import Triangles
from tailwire.simulation.meshes import MeshKey
from tailwire.simulation.nuscenes.geometry import Float64, inverse_rigid
from tailwire.simulation.world import Placed, World

from ..made_parts import BoxLibrary
from ..tiny_world import tiny_world

pytest.importorskip("embreex", reason="embreex is not installed (pip install 'tailwire[sim]')")


def slab_distances(thing: Placed, origin: Float64, directions: Float64) -> Float64:
    """To the box of a thing, infinite where a ray misses it."""
    width, length, height = thing.mesh.size_wlh
    mesh_from_world = inverse_rigid(thing.transform)
    start = mesh_from_world[:3, :3] @ origin + mesh_from_world[:3, 3]
    turned = directions @ mesh_from_world[:3, :3].T
    low = np.array([-length / 2, -width / 2, 0.0])
    with np.errstate(divide="ignore"):
        a, b = (low - start) / turned, (low - start + np.array([length, width, height])) / turned
    enters, leaves = np.minimum(a, b).max(axis=1), np.maximum(a, b).min(axis=1)
    return np.where((enters <= leaves) & (enters > 0), enters, np.inf)


def all_around(count: int = 20_000) -> NDArray[np.float32]:
    rays = np.random.default_rng(3).normal(size=(count, 3))
    return (rays / np.linalg.norm(rays, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("time_s", [0.0, 0.73, 2.0])
def test_the_nearest_thing_is_met_at_its_distance(time_s: float) -> None:
    world = tiny_world()
    rays = RayWorld(world, BoxLibrary())
    eye = np.array([2.0, 0.5, 1.8])
    directions = all_around()
    hits = rays.at(time_s).first_hits(eye[None].astype(np.float32), directions)

    things = [*world.placed_agents(time_s), *world.scenery]
    exact = directions.astype(np.float64)
    distances = np.stack([slab_distances(thing, eye, exact) for thing in things])
    with np.errstate(divide="ignore"):
        to_ground = np.where(exact[:, 2] < 0, -eye[2] / exact[:, 2], np.inf)
    met = eye + np.where(np.isfinite(to_ground), to_ground, 0)[:, None] * exact
    to_ground[np.abs(met[:, :2]).max(axis=1) > 120] = np.inf
    nearest = np.minimum(distances.min(axis=0), to_ground)
    owners = np.array([*(thing.owner for thing in things), ""])
    expected = owners[np.argmin(np.vstack([distances, to_ground]), axis=0)]

    # A ray along an edge may fall to either side.
    alike = np.isclose(hits.distances, nearest, rtol=1e-4, atol=1e-3)
    assert (~alike).sum() <= 3
    got = np.array(rays.owners)[np.maximum(hits.things, 0)]
    settled = alike & np.isfinite(nearest)
    assert (got[settled] != expected[settled]).sum() <= 3
    assert {"bus-1", "cone-1"} <= set(got)
    assert (hits.things[~np.isfinite(nearest)] == -1).all()
    lengths = np.linalg.norm(hits.normals[settled], axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-4)


def test_one_origin_or_many_are_the_same() -> None:
    moment = RayWorld(tiny_world(), BoxLibrary()).at(0.5)
    directions = all_around(2000)
    origin = np.array([[1.0, 0.2, 1.8]], np.float32)
    one = moment.first_hits(origin, directions)
    many = moment.first_hits(np.repeat(origin, len(directions), axis=0), directions)
    np.testing.assert_allclose(one.distances, many.distances, rtol=1e-4)
    np.testing.assert_array_equal(one.things, many.things)


def test_what_has_gone_is_not_met() -> None:
    world = tiny_world()
    bus = world.agents_by_name["bus-1"]
    short = replace(bus, track=replace(bus.track, times_s=(0.0, 1.0)))
    others = tuple(agent for agent in world.agents if agent is not bus)
    rays = RayWorld(replace(world, agents=(*others, short)), BoxLibrary())
    row = rays.owners.index("bus-1")
    origin, directions = np.array([[0, 0, 1.8]], np.float32), all_around()
    assert row in rays.at(1.0).first_hits(origin, directions).things
    assert row not in rays.at(1.1).first_hits(origin, directions).things


def test_some_rays_go_through_glass_and_meet_what_is_behind() -> None:
    world = walled({"pane": 5.0, "wall": 9.0})
    rays = RayWorld(world, BoxLibrary({"pane": "car_glass"}))
    directions = np.tile(np.array([[1, 0, 0]], np.float32), (4000, 1))
    directions += np.random.default_rng(0).normal(0, 0.02, directions.shape).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    origin = np.array([[0, 0, 1.5]], np.float32)
    hits = rays.at(0.0).hits_behind_gaps(origin, directions, np.random.default_rng(1))
    forward = hits.distances * directions[:, 0]
    # Half go through the front of the pane, half of those through its back.
    assert 0.2 < (forward > 6).mean() < 0.3
    np.testing.assert_allclose(forward[forward > 6], 8.9, atol=2e-3)
    np.testing.assert_allclose(forward[forward < 5], 4.9, atol=2e-3)


def test_nothing_is_met_where_nothing_is() -> None:
    empty = Triangles(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    hits = empty.first_hits(np.zeros((5, 3), np.float32), all_around(5))
    assert np.isinf(hits.distances).all()
    assert (hits.faces == -1).all()


def walled(walls: dict[str, float]) -> World:
    """Walls of 0.2 m thickness across the way, as scenery, and nothing else."""
    return replace(
        tiny_world(),
        agents=(),
        scenery=tuple(
            Placed(MeshKey(model, (8.0, 0.2, 4.0)), x, 0.0, 0.0, 0.0) for model, x in walls.items()
        ),
    )
