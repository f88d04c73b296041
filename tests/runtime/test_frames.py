"""Sensor frames: what may be in them, and that it stays so."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from tailwire.runtime.errors import SensorError
from tailwire.runtime.frames import SensorFrame


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
