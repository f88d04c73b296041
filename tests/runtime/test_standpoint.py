"""Reused tokens are used where the vehicle is now, if frames say where it was."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from tailwire.kernels.object_tokens import object_tokens
from tailwire.runtime.encoder_specs import EncoderSpec, ObjectsInput
from tailwire.runtime.encoders import Encoder
from tailwire.runtime.frames import SensorFrame, SensorGeometry
from tailwire.runtime.metrics import StageClock
from tailwire.runtime.perception import Perception
from tailwire.runtime.standpoint import CARRIED_FROM_MS, Standpoint

from ..fakes import SPECS, connection_spec, connection_weights, make_connection

if TYPE_CHECKING:
    from ..built_models import TinyModels

BOXES = EncoderSpec(
    modality="objects",
    kind="objects",
    input=ObjectsInput(),
    tokens=4,
    width=64,
    licence="Apache-2.0",
    source="tests",
)
CAR = np.array([[0, 0.9, 12, 3, 0.8, 4.5, 1.9, 1.6, 0.2, 5, 0, -1]], np.float32)


def pose(x: float, yaw: float = 0.0) -> NDArray[np.float64]:
    found = np.eye(4)
    found[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    found[0, 3] = x
    return found


def boxes(
    stamp_ms: float, at: NDArray[np.float64] | None, sensor: str = "boxes", objects: object = CAR
) -> SensorFrame:
    geometry = None if at is None else SensorGeometry(np.eye(4), global_from_ego=at)
    stamp_ns = round(stamp_ms * 1e6)
    payload = np.array(objects, np.float32)
    return SensorFrame(sensor, "objects", stamp_ns, "base_link", payload, geometry)


def test_a_car_that_drives_is_passed_by_a_vehicle_that_turns() -> None:
    then, now = boxes(0, pose(100.0)), boxes(500, pose(104.0, 0.1))
    here = Standpoint.of([then, now])
    assert here is not None
    assert here.carries(BOXES, then.stamp_ns, then.geometry)
    assert then.geometry is not None
    found = here.carry(object_tokens(CAR, 4), then.stamp_ns, then.geometry)
    # It stood at (112, 3) in the world, drove 2.5 m, and is seen from (104, 0), turned by 0.1.
    moved = CAR.copy()
    cosine, sine = np.cos(0.1), np.sin(0.1)
    moved[0, 2:4] = cosine * 10.5 + sine * 3, -sine * 10.5 + cosine * 3
    moved[0, 8] -= 0.1
    moved[0, 9:11] = 5 * cosine, -5 * sine
    np.testing.assert_allclose(found, object_tokens(moved, 4), rtol=0, atol=1e-4)


def test_what_is_carried() -> None:
    here = Standpoint(2_000_000_000, pose(0.0))
    before = round(2_000_000_000 - CARRIED_FROM_MS * 1e6)
    with_pose = SensorGeometry(np.eye(4), global_from_ego=pose(1.0))
    assert here.carries(BOXES, before - 1, with_pose)
    assert not here.carries(BOXES, before, with_pose)
    assert not here.carries(BOXES, 3_000_000_000, with_pose)
    assert not here.carries(BOXES, 0, None)
    assert not here.carries(BOXES, 0, SensorGeometry(np.eye(4)))
    # These tokens say nothing of places.
    assert not here.carries(SPECS["camera"], 0, with_pose)


def test_the_newest_frame_with_a_pose_says_where_the_vehicle_is() -> None:
    frames = [boxes(10, pose(1.0)), boxes(30, pose(3.0)), boxes(20, pose(2.0)), boxes(40, None)]
    here = Standpoint.of(frames)
    assert here == Standpoint(30_000_000, pose(9.0))
    assert here is not None
    assert here.global_from_ego[0, 3] == 3.0
    assert Standpoint.of([boxes(0, None)]) is None
    assert Standpoint.of([]) is None


@pytest.fixture
def perception() -> Perception:
    return Perception({"objects": Encoder(BOXES, None)}, {"boxes": "objects"}, threads=1)


def test_rows_are_those_of_carried_tokens(
    tiny: TinyModels, tmp_path: Path, perception: Perception
) -> None:
    config, spec = tiny.model("llama").config, connection_spec()
    weights = connection_weights(
        spec, config, specs={"objects": BOXES}, modalities={"boxes": "objects"}
    )
    connection = make_connection(tmp_path, spec, config, weights)
    then = boxes(0, pose(0.0))
    perception.encode([then], StageClock())
    as_it_was = perception.rows(["boxes"], connection)[0]
    assert perception.has_rows("boxes", connection)

    soon, later = (Standpoint(round(ms * 1e6), pose(ms / 100)) for ms in (90, 400))
    assert perception.rows(["boxes"], connection, soon)[0] is as_it_was
    assert not perception.has_rows("boxes", connection, later)
    carried = perception.rows(["boxes"], connection, later)[0]
    assert perception.has_rows("boxes", connection, Standpoint(400_000_000, pose(4.0)))
    assert perception.rows(["boxes"], connection, later)[0] is carried
    assert not perception.has_rows("boxes", connection, Standpoint(500_000_000, pose(5.0)))
    assert not perception.has_rows("boxes", connection)

    moved = CAR.copy()
    moved[0, 2] += 5 * 0.4 - 4.0
    expected = connection.prepare("boxes", "objects", object_tokens(moved, 4))
    np.testing.assert_allclose(carried.keys, expected.keys, rtol=0, atol=1e-4)
    np.testing.assert_allclose(carried.values, expected.values, rtol=0, atol=1e-4)
    assert np.abs(carried.keys - as_it_was.keys).max() > 1e-2
