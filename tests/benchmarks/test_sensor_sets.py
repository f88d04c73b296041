"""Sets of sensors from patterns."""

from __future__ import annotations

import pytest

from tailwire.benchmarks.sensor_sets import bound_set, parse_sensor_sets
from tailwire.runtime.errors import ConfigError, SensorError

PACK = {"cam_back": "camera", "cam_front": "camera", "lidar_top": "lidar", "objects": "objects"}


def test_patterns_mean_sensors_in_the_order_of_the_pack() -> None:
    texts = [("lidar_top", "cam_*"), ("cam_front",), ()]
    with pytest.raises(ConfigError, match="twice"):
        parse_sensor_sets(texts, PACK, "--sensor-sets")
    assert parse_sensor_sets(texts[:2], PACK, "--sensor-sets") == {
        "lidar_top,cam_*": ("cam_back", "cam_front", "lidar_top"),
        "cam_front": ("cam_front",),
    }


def test_ground_truth_takes_part_only_where_it_is_named() -> None:
    assert parse_sensor_sets([()], PACK, "--sensors") == {
        "all sensors": ("cam_back", "cam_front", "lidar_top")
    }
    assert parse_sensor_sets([("*",)], PACK, "--sensors")["*"] == tuple(PACK)[:3]
    with pytest.raises(SensorError, match="obj"):
        parse_sensor_sets([("obj*",)], PACK, "--sensors")
    assert parse_sensor_sets([("objects",)], PACK, "--sensors") == {"objects": ("objects",)}
    with pytest.raises(SensorError, match="ground-truth"):
        parse_sensor_sets([()], {"objects": "objects"}, "--sensors")


def test_an_unknown_sensor_is_named_with_those_that_there_are() -> None:
    with pytest.raises(SensorError, match=r"radar.*Remedy: use some of cam_back"):
        parse_sensor_sets([("radar",)], PACK, "--sensors")


def test_the_bound_is_that_of_the_sensor_objects() -> None:
    assert bound_set(PACK, "objects") == ("objects",)
    assert bound_set({"objects": "camera"}, "objects") is None
    assert bound_set({"boxes": "objects"}, "objects") is None
