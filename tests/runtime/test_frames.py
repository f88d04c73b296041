"""Sensor frames: what may be in them, and that it stays so."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from tailwire.runtime.errors import SensorError
from tailwire.runtime.frames import SensorFrame, SensorGeometry


def test_a_frame_cannot_be_changed() -> None:
    picture = np.zeros((4, 6, 3), np.uint8)
    frame = SensorFrame("cam_front", "camera", 5, "camera_link", picture)
    assert isinstance(frame.payload, np.ndarray)
    with pytest.raises(ValueError, match="read-only"):
        frame.payload[0, 0, 0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        frame.stamp_ns = 6  # pyright: ignore[reportAttributeAccessIssue] - that is the point


def test_an_array_is_handed_over() -> None:
    """A driver that fills the same buffer again is told at once, instead of tearing frames."""
    cloud = np.zeros((3, 4), np.float32)
    frame = SensorFrame("lidar_top", "lidar", 5, "lidar_link", cloud)
    assert frame.payload is cloud
    with pytest.raises(ValueError, match="read-only"):
        cloud[0, 0] = 1


def test_encoded_pictures_are_kept_as_they_are() -> None:
    data = b"\xff\xd8\xff"
    assert SensorFrame("cam_front", "camera", 0, "camera_link", data).payload is data


@pytest.mark.parametrize("stamp", [-1, 1.5, float("nan"), None, "now"])
def test_wrong_stamps_are_refused_with_the_sensors_name(stamp: Any) -> None:
    with pytest.raises(SensorError, match=rf"cam_front.*{stamp}"):
        SensorFrame("cam_front", "camera", stamp, "camera_link", b"")


def test_stamps_of_numpy_become_whole_numbers() -> None:
    stamp: Any = np.int64(7)
    frame = SensorFrame("cam_front", "camera", stamp, "camera_link", b"")
    assert (frame.stamp_ns, type(frame.stamp_ns)) == (7, int)


def turned(angle: float = 0.3) -> np.ndarray:
    transform = np.eye(4)
    transform[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    transform[:3, 3] = 1, 2, 3
    return transform


PINHOLE = np.array([[20.0, 0, 16], [0, 21, 9], [0, 0, 1]])


def test_a_geometry_is_a_copy_that_cannot_be_changed() -> None:
    given = turned()
    geometry = SensorGeometry(given, PINHOLE.tolist(), (32, 18), turned(1.0))
    given[0, 3] = 7
    assert geometry.ego_from_sensor[0, 3] == 1
    for array in (geometry.ego_from_sensor, geometry.intrinsic, geometry.global_from_ego):
        assert array is not None and array.dtype == np.float64
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 1
    frame = SensorFrame("cam_front", "camera", 0, "camera_link", b"", geometry)
    assert frame.geometry is geometry
    assert SensorFrame("cam_front", "camera", 0, "camera_link", b"").geometry is None


def scaled() -> np.ndarray:
    transform = turned()
    transform[:3, :3] *= 1.1
    return transform


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("ego_from_sensor", np.eye(3), r"\[4, 4\] but \[3, 3\]"),
        ("ego_from_sensor", "north", r"\[4, 4\]"),
        ("ego_from_sensor", np.full((4, 4), np.nan), "not finite"),
        ("ego_from_sensor", scaled(), "no rotation"),
        ("ego_from_sensor", np.diag([1.0, 1, -1, 1]), "reflection"),
        ("ego_from_sensor", turned().T, "last row"),
        ("global_from_ego", np.zeros((4, 4)), "no rotation"),
        ("intrinsic", np.zeros((3, 3)), "pinhole"),
        ("intrinsic", np.eye(4), r"\[3, 3\]"),
        ("intrinsic", PINHOLE.T, "pinhole"),
        ("image_size", (0, 18), "size"),
        ("image_size", (32, 18, 3), "size"),
        ("image_size", (3.5, 2), "size"),
    ],
)
def test_what_is_wrong_with_a_geometry_is_named(field: str, value: Any, problem: str) -> None:
    given: dict[str, Any] = {"ego_from_sensor": np.eye(4), field: value}
    with pytest.raises(SensorError, match=problem) as caught:
        SensorGeometry(**given)
    assert caught.value.field == field
    assert caught.value.remedy
