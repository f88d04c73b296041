"""The same arguments give the same picture, whatever was drawn before, and worlds are let go."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest

from tailwire.simulation.cameras.gl_geometry import StandingScene
from tailwire.simulation.cameras.ray_scene import StandingSurfaces
from tailwire.simulation.meshes import MeshLibrary
from tailwire.simulation.world import Condition, World

from ..tiny_world import tiny_world
from .conftest import Open
from .scenes import FRONT, MOUNTS, NIGHT, RAIN, SUNNY

WIDTH = 160
KINDS = ["gl", "ray"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("condition", [SUNNY, NIGHT, RAIN], ids=["day", "night", "rain"])
def test_a_picture_comes_again_bit_for_bit(open_one: Open, kind: str, condition: Condition) -> None:
    world = replace(tiny_world(), condition=condition)
    library = MeshLibrary()
    one, other = open_one(kind, library), open_one(kind, library)
    first = one.render(world, 0.5, FRONT, WIDTH)
    np.testing.assert_array_equal(first, one.render(world, 0.5, FRONT, WIDTH))
    np.testing.assert_array_equal(first, other.render(world, 0.5, FRONT, WIDTH))
    # Another moment and another camera have other grain.
    assert (first != one.render(world, 0.6, FRONT, WIDTH)).mean() > 0.3
    one.close()
    other.close()


@pytest.mark.parametrize("kind", KINDS)
def test_worlds_in_turn_do_not_mix(open_one: Open, kind: str) -> None:
    library = MeshLibrary()
    day, night = tiny_world(SUNNY), replace(tiny_world(NIGHT), name="scene-0002")
    expected = []
    for world in (day, night):
        for channel in ("CAM_FRONT", "CAM_BACK"):
            fresh = open_one(kind, library)
            expected.append(fresh.render(world, 0.5, MOUNTS[channel], WIDTH))
            fresh.close()
    renderer = open_one(kind, library)
    for _ in range(2):
        found = [
            renderer.render(world, 0.5, MOUNTS[channel], WIDTH)
            for world in (day, night)
            for channel in ("CAM_FRONT", "CAM_BACK")
        ]
        np.testing.assert_array_equal(found, expected)
    renderer.close()


@pytest.mark.parametrize("kind", KINDS)
def test_renderers_side_by_side_do_not_mix(open_one: Open, kind: str) -> None:
    library = MeshLibrary()
    worlds = tiny_world(SUNNY), replace(tiny_world(NIGHT), name="scene-0002")
    renderers = [open_one(kind, library) for _ in worlds]
    first, second = (
        [
            renderer.render(world, 0.5, FRONT, WIDTH)
            for renderer, world in zip(renderers, worlds, strict=True)
        ]
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)
    assert first[0].mean() > 2 * first[1].mean()
    renderers[0].close()
    # The other one goes on.
    np.testing.assert_array_equal(renderers[1].render(worlds[1], 0.5, FRONT, WIDTH), first[1])
    renderers[1].close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("condition", [SUNNY, NIGHT], ids=["day", "night"])
def test_moments_in_turn_do_not_mix(open_one: Open, kind: str, condition: Condition) -> None:
    library = MeshLibrary()
    world = replace(tiny_world(), condition=condition)
    renderer, fresh = open_one(kind, library), open_one(kind, library)
    for time_s in (1.5, 0.0):
        renderer.render(world, time_s, FRONT, WIDTH)
    late = renderer.render(world, 0.04, FRONT, WIDTH)
    np.testing.assert_array_equal(late, fresh.render(world, 0.04, FRONT, WIDTH))
    renderer.close()
    fresh.close()


@pytest.mark.parametrize(("kind", "held"), [("gl", StandingScene), ("ray", StandingSurfaces)])
def test_of_thirty_worlds_only_the_last_is_kept(open_one: Open, kind: str, held: type) -> None:
    gc.collect()
    before = _alive(held)
    renderer = open_one(kind, MeshLibrary())
    worlds: list[weakref.ref[World]] = []
    for number in range(30):
        world = replace(tiny_world(SUNNY), name=f"scene-{number:04}")
        renderer.render(world, 0.0, FRONT, 64)
        worlds.append(weakref.ref(world))
        del world
    gc.collect()
    assert [number for number, world in enumerate(worlds) if world() is not None] == [29]
    assert _alive(held) - before == 1
    renderer.close()


def _alive(held: type) -> int:
    return sum(isinstance(thing, held) for thing in gc.get_objects())
