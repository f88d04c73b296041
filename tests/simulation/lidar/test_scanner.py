"""Sweeps: their format, what is in them, what weather and materials do to them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from tailwire.simulation.lidar import LidarScanner, RayWorld, Sweep
from tailwire.simulation.meshes import MeshKey
from tailwire.simulation.nuscenes.geometry import (
    points_in_box,
    transform_points,
    yaw_quaternion,
)
from tailwire.simulation.rig import LIDAR
from tailwire.simulation.world import Condition, Placed, World

from ..made_parts import BoxLibrary
from ..tiny_world import tiny_world

pytest.importorskip("embreex", reason="embreex is not installed (pip install 'tailwire[sim]')")

DAY = Condition("day", 0.5, 0.7, 0.2)
FOG = Condition("fog", 0.5, 0.7, 1.0, visibility_m=80.0, wetness=0.3)
RAIN = Condition("rain", 0.5, 0.7, 1.0, rain_mm_h=20.0, visibility_m=1200.0, wetness=0.8)


def scan(world: World, time_s: float = 0.5, materials: dict[str, str] | None = None) -> Sweep:
    return LidarScanner(world, RayWorld(world, BoxLibrary(materials)), (7, 0)).sweep(time_s)


def facing(material: str, x: float = 12.0, paint: float = 0.6) -> np.ndarray:
    """Intensities of a wall of this material straight ahead."""
    wall = Placed(MeshKey("wall", (6.0, 0.2, 3.0)), x, 0.0, 0.0, 0.0, (paint, paint, paint))
    world = replace(tiny_world(), agents=(), scenery=(wall,))
    sweep = scan(world, 0.0, {"wall": material})
    return sweep.cloud[sweep.things == 1, 3]


def ranges(sweep: Sweep) -> np.ndarray:
    return np.linalg.norm(sweep.cloud[:, :3], axis=1)


def test_a_sweep_has_the_format_of_nuscenes() -> None:
    cloud = scan(tiny_world()).cloud
    assert cloud.dtype == np.float32
    assert cloud.shape[1] == 5
    assert 15_000 < len(cloud) <= 32 * LIDAR.columns
    assert np.isfinite(cloud).all()
    assert set(np.unique(cloud[:, 4])) == set(range(32))
    np.testing.assert_array_equal(cloud[:, 3], np.round(cloud[:, 3]))
    assert cloud[:, 3].min() >= 0
    assert cloud[:, 3].max() <= 255
    elevation = np.degrees(np.arctan2(cloud[:, 2], np.hypot(cloud[:, 0], cloud[:, 1])))
    means = [elevation[cloud[:, 4] == ring].mean() for ring in range(32)]
    np.testing.assert_allclose(means, LIDAR.elevations_deg, atol=0.01)
    # The turn begins on the left and goes clockwise.
    first, last = cloud[: len(cloud) // 10], cloud[-len(cloud) // 10 :]
    assert first[:, 1].min() > -0.1
    assert last[:, 1].max() < 0.1


def test_points_lie_on_what_they_are_said_to_lie_on() -> None:
    world, time_s = tiny_world(), 0.5
    rays = RayWorld(world, BoxLibrary())
    scanner = LidarScanner(world, rays, (7, 0))
    sweep = scanner.sweep(time_s)
    points = transform_points(scanner.world_from_lidar(time_s), sweep.cloud[:, :3])
    for thing in world.placed_agents(time_s):
        own = sweep.things == rays.owners.index(thing.owner)
        if thing.owner != "car-1":
            assert own.sum() > 10
        width, length, height = thing.mesh.size_wlh
        inside = points_in_box(
            points[own],
            (thing.x, thing.y, thing.z + height / 2),
            (width + 0.15, length + 0.15, height + 0.15),
            yaw_quaternion(thing.yaw_rad),
        )
        assert inside.all()
    on_ground = sweep.things == 0
    assert np.abs(points[on_ground, 2]).max() < 0.05


def test_the_roof_casts_its_shadow_and_is_no_point() -> None:
    sweep = scan(replace(tiny_world(), agents=(), scenery=()))
    assert ranges(sweep).min() > 2.5
    lowest = sweep.cloud[sweep.cloud[:, 4] == 0]
    assert 100 < len(lowest) < 0.5 * LIDAR.columns
    # To the sides, where the car is narrow, the road is seen near by.
    assert np.abs(np.degrees(np.arctan2(lowest[:, 1], np.abs(lowest[:, 0])))).max() < 65


def test_noise_follows_from_seed_and_time() -> None:
    world = tiny_world()
    rays = RayWorld(world, BoxLibrary())
    one = LidarScanner(world, rays, (7, 0))
    first = one.sweep(0.5).cloud
    one.sweep(0.55)
    np.testing.assert_array_equal(one.sweep(0.5).cloud, first)
    other = LidarScanner(world, rays, (7, 1)).sweep(0.5).cloud
    assert other.shape != first.shape or (other != first).any()


def test_fog_takes_the_far_and_adds_the_near() -> None:
    clear, fog = scan(tiny_world(DAY)), scan(tiny_world(FOG))
    assert (ranges(clear) > 50).any()
    assert not (ranges(fog) > 50).any()
    assert not (clear.things == -1).any()
    scattered = ranges(fog)[fog.things == -1]
    assert len(scattered) > 1000
    assert scattered.max() < 15
    assert np.median(fog.cloud[fog.things == -1, 3]) < 10


def test_rain_adds_a_few_points_and_weakens_the_road() -> None:
    clear, rain = scan(tiny_world(DAY)), scan(tiny_world(RAIN))
    assert 20 < (rain.things == -1).sum() < 1000
    road = [sweep.cloud[sweep.things == 0] for sweep in (clear, rain)]
    far = [(np.linalg.norm(cloud[:, :3], axis=1) > 18).sum() for cloud in road]
    assert far[1] < 0.6 * far[0]
    assert road[1][:, 3].mean() < road[0][:, 3].mean()


def test_intensity_tells_materials_apart() -> None:
    assert np.median(facing("retro_white")) > 200
    assert facing("concrete").max() <= 110
    assert np.median(facing("concrete")) > 1.5 * np.median(facing("asphalt"))
    assert np.median(facing("car_paint", paint=0.9)) > 1.5 * np.median(facing("car_paint", paint=0))


def test_far_and_dark_is_lost_first() -> None:
    assert len(facing("tyre", x=60.0)) < 0.9 * len(facing("concrete", x=60.0))
    assert len(facing("retro_white", x=75.0)) > 0


def test_nothing_comes_back_from_beyond_the_range() -> None:
    assert len(facing("retro_white", x=LIDAR.range_m + 5)) == 0


def test_noise_of_range_is_centimetres() -> None:
    wall = Placed(MeshKey("wall", (40.0, 0.2, 9.0)), 12.0, 0.0, 0.0, 0.0)
    world = replace(tiny_world(), agents=(), scenery=(wall,))
    rays = RayWorld(world, BoxLibrary())
    scanner = LidarScanner(world, rays, (7, 0))
    sweep = scanner.sweep(0.0)
    points = transform_points(scanner.world_from_lidar(0.0), sweep.cloud[:, :3])
    ahead = (sweep.things == 1) & (np.abs(points[:, 1]) < 1)
    offsets = points[ahead, 0] - 11.9
    assert abs(offsets.mean()) < 0.003
    assert math.isclose(offsets.std(), 0.015, rel_tol=0.2)
