"""Classes, statuses, visibility and relations against positions chosen by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailwire.simulation.nuscenes import NuScenes
from tailwire.simulation.questions.scene_graph import (
    class_of,
    direction_of,
    scene_graph,
    status_of,
    visibility_of,
)

from .crowds import Box, write_crowd


@pytest.mark.parametrize(
    ("x", "y", "direction"),
    [
        (10, 0, "front"),
        (10, 5, "front"),
        (10, 7, "front left"),
        (0, 10, "front left"),
        (-3, 10, "back left"),
        (-10, 6, "back left"),
        (-10, 5, "back"),
        (-10, 0, "back"),
        (-10, -5, "back"),
        (-10, -6, "back right"),
        (-3, -10, "back right"),
        (3, -10, "front right"),
        (10, -7, "front right"),
        (10, -5, "front"),
    ],
)
def test_relations_to_the_vehicle_and_to_an_object(x: float, y: float, direction: str) -> None:
    assert direction_of((x, y)) == direction
    assert direction_of((x - 20, y + 30), (-20, 30)) == direction


def test_there_is_no_direction_from_a_place_to_itself() -> None:
    assert direction_of((3.0, 4.0), (3.0, 4.0)) is None


@pytest.mark.parametrize(
    ("category", "name"),
    [
        ("vehicle.bus.bendy", "bus"),
        ("vehicle.bus.rigid", "bus"),
        ("human.pedestrian.police_officer", "pedestrian"),
        ("human.pedestrian.stroller", None),
        ("vehicle.emergency.police", "car"),
        ("vehicle.emergency.ambulance", "truck"),
        ("vehicle.construction", "construction vehicle"),
        ("movable_object.trafficcone", "traffic cone"),
        ("movable_object.debris", None),
        ("animal", None),
        ("static_object.bicycle_rack", None),
    ],
)
def test_categories_have_classes(category: str, name: str | None) -> None:
    assert class_of(category) == name


def test_a_status_is_one_that_the_class_can_have() -> None:
    assert status_of("pedestrian", ["pedestrian.moving"]) == "moving"
    assert status_of("pedestrian", ["pedestrian.sitting_lying_down"]) == "not standing"
    assert status_of("bicycle", ["vehicle.moving", "cycle.without_rider"]) == "without rider"
    assert status_of("car", ["cycle.with_rider"]) is None
    assert status_of("barrier", ["vehicle.parked"]) is None
    assert status_of("car", []) is None


@pytest.mark.parametrize(
    ("distance_m", "points", "level", "visibility"),
    [
        (10, 5, None, "seen"),
        (10, 4, None, "doubtful"),
        (10, 0, None, "unseen"),
        (10, 2, "v80-100", "seen"),
        (10, 0, "v80-100", "doubtful"),
        (10, 4, "v40-60", "doubtful"),
        (10, 19, "v0-40", "doubtful"),
        (10, 20, "v0-40", "seen"),
        (10, 0, "v0-40", "unseen"),
        (51, 99, "v80-100", "doubtful"),
        (61, 99, "v80-100", "unseen"),
        (10, 4, "of another data set", "doubtful"),
    ],
)
def test_what_can_be_seen(
    distance_m: float, points: int, level: str | None, visibility: str
) -> None:
    assert visibility_of(distance_m, points, level) == visibility


def test_positions_are_in_the_ego_frame_of_a_turned_vehicle(tmp_path: Path) -> None:
    boxes = [
        Box("vehicle.car", 12.0, 3.0, ("vehicle.parked",)),
        Box("animal", 5.0, 0.0),
        Box("vehicle.truck", -8.0, 1.0, ("vehicle.moving",), points=1),
        Box("human.pedestrian.adult", 4.0, -9.0, points=0, visibility="v0-40"),
    ]
    data = write_crowd(tmp_path / "root", [[[], boxes]])
    empty, sample = data.samples(data.scenes[0])
    assert scene_graph(data, empty.token).objects == ()
    car, truck = scene_graph(data, sample.token).objects
    assert (car.name, car.status, car.doubtful) == ("car", "parked", False)
    assert car.position == pytest.approx((12.0, 3.0), abs=1e-6)
    assert car.distance_m == pytest.approx(153**0.5)
    assert (truck.name, truck.status, truck.doubtful) == ("truck", "moving", True)
    assert truck.position == pytest.approx((-8.0, 1.0), abs=1e-6)


def test_the_real_keyframe_has_objects_on_all_sides(keyframe_root: Path) -> None:
    data = NuScenes.open(keyframe_root)
    (sample,) = data.samples(data.scenes[0])
    objects = scene_graph(data, sample.token).objects
    seen = [thing for thing in objects if not thing.doubtful]
    assert len(seen) > 30
    assert {thing.name for thing in seen} >= {"car", "truck", "pedestrian", "barrier"}
    assert all(thing.distance_m <= 50 for thing in seen)
