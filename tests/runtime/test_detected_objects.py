"""Boxes under names become the rows that the encoder of objects takes."""

from __future__ import annotations

import numpy as np
import pytest

import tailwire
from tailwire.kernels.object_tokens import OBJECT_CLASSES, OBJECT_STATUSES
from tailwire.runtime.detected_objects import DetectedObject, objects_frame
from tailwire.runtime.errors import SensorError
from tailwire.runtime.frames import SensorGeometry

BUS = DetectedObject("bus", (10, -3, 1.5), (11, 2.9, 3.3), 0.5, (4, 1), "moving", 0.9)


def test_boxes_become_rows() -> None:
    cone = DetectedObject("traffic cone", (5, 2, 0.4), (0.4, 0.4, 0.8), 0.0)
    mounted = SensorGeometry(np.eye(4))
    frame = tailwire.objects_frame("objects", 7, [BUS, cone], geometry=mounted)
    assert (frame.modality, frame.stamp_ns, frame.geometry) == ("objects", 7, mounted)
    bus, moving = OBJECT_CLASSES.index("bus"), OBJECT_STATUSES.index("moving")
    number, nan = OBJECT_CLASSES.index("traffic cone"), np.nan
    expected = np.array(
        [
            [bus, 0.9, 10, -3, 1.5, 11, 2.9, 3.3, 0.5, 4, 1, moving],
            [number, 1, 5, 2, 0.4, 0.4, 0.4, 0.8, 0, nan, nan, -1],
        ],
        np.float32,
    )
    np.testing.assert_array_equal(np.asarray(frame.payload), expected)
    assert np.asarray(frame.payload).dtype == np.float32


def test_a_detector_may_see_nothing() -> None:
    assert np.shape(objects_frame("objects", 7, []).payload) == (0, 12)


@pytest.mark.parametrize(
    ("name", "status", "problem"),
    [("tram", None, "class: 'tram'.*car, truck"), ("car", "flying", "status: 'flying'.*parked")],
)
def test_unknown_names_are_told_with_those_there_are(
    name: str, status: str | None, problem: str
) -> None:
    box = DetectedObject(name, (1, 1, 1), (1, 1, 1), 0.0, status=status)
    with pytest.raises(SensorError, match=problem):
        objects_frame("objects", 7, [BUS, box])
