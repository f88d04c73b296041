"""Encoders whose tokens go by direction: radar, sound, and detectors that are summed up."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from tailwire.kernels.direction_tokens import (
    DIRECTION_WIDTH,
    DIRECTIONS,
    object_directions,
    radar_directions,
    sound_directions,
)
from tailwire.kernels.object_tokens import SECTOR_MIDDLES_DEG, object_tokens
from tailwire.runtime.encoders import (
    BevInput,
    CameraInput,
    Encoder,
    EncoderSpec,
    RadarInput,
    SoundInput,
)
from tailwire.runtime.engine import Array, BoundRun, TensorSpec
from tailwire.runtime.errors import EngineError, SensorError
from tailwire.runtime.frames import SensorFrame, SensorGeometry
from tailwire.runtime.sensor_buffer import SensorBuffer

SOURCE: dict[str, Any] = {"licence": "Apache-2.0", "source": "tests"}
FOUND = 5


def spec_of(modality: str, kind: str, given: Any, **changes: Any) -> EncoderSpec:
    fields: dict[str, Any] = {"tokens": DIRECTIONS, "width": DIRECTION_WIDTH} | changes
    return EncoderSpec(modality=modality, kind=kind, input=given, **fields, **SOURCE)  # pyright: ignore[reportArgumentType]


RADAR = spec_of("radar", "radar_directions", RadarInput())
SOUND = spec_of("audio", "sound_directions", SoundInput())
BEV = spec_of(
    "lidar",
    "bev_detector",
    BevInput(range_m=8.0, cell_m=1.0),
    objects=FOUND,
    file="lidar.safetensors",
)
CAMERA = spec_of(
    "camera",
    "camera_detector",
    CameraInput(height=12, width=20),
    objects=FOUND,
    file="camera.safetensors",
    backbone="efficientnet-lite0",
)


class ObjectEngine:
    """Finds the same objects in every frame."""

    device = "cpu"

    def __init__(self, spec: EncoderSpec, rows: NDArray[np.float32]) -> None:
        self.input_specs = [TensorSpec("x", (-1, *spec.input.shape), "float32")]
        if spec.kind == "camera_detector":
            self.input_specs.append(TensorSpec("geometry", (-1, 16), "float32"))
        self.output_specs = [TensorSpec("y", (-1, *rows.shape), "float32")]
        self._rows = rows

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return {"y": np.repeat(self._rows[None], len(inputs["x"]), 0)}

    def bind(self, buffers: Mapping[str, Array]) -> BoundRun:
        raise NotImplementedError

    def close(self) -> None:
        pass


def some_objects() -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    objects = np.zeros((4, 12), np.float32)
    objects[:, 1] = 0.9
    objects[:, 2:4] = rng.uniform(-30, 30, (4, 2))
    objects[:, 5:8] = 2
    return object_tokens(objects, FOUND)


def looking(azimuth_deg: float) -> NDArray[np.float64]:
    """Where a level camera sits that looks to an azimuth (x right, y down, z forward)."""
    turn = math.radians(azimuth_deg)
    transform = np.eye(4)
    transform[:3, 2] = math.cos(turn), math.sin(turn), 0
    transform[:3, 0] = math.sin(turn), -math.cos(turn), 0
    transform[:3, 1] = 0, 0, -1
    return transform


def frame(modality: str, payload: Any, geometry: SensorGeometry | None = None) -> SensorFrame:
    return SensorFrame("s", modality, 1, "ego", payload, geometry)  # pyright: ignore[reportArgumentType]


def some_returns() -> NDArray[np.float32]:
    rng = np.random.default_rng(1)
    return rng.uniform(-20, 20, (30, 4)).astype(np.float32)


class TestRadarAndSound:
    def test_frames_become_tokens_without_an_engine(self) -> None:
        returns = some_returns()
        levels = np.random.default_rng(2).uniform(40, 80, (8, 6, 8)).astype(np.float32)
        np.testing.assert_array_equal(
            Encoder(RADAR, None).run(frame("radar", returns)), radar_directions(returns)
        )
        np.testing.assert_array_equal(
            Encoder(SOUND, None).run(frame("audio", levels)), sound_directions(levels)
        )

    def test_a_radar_that_sits_elsewhere_is_brought_into_the_ego_frame(self) -> None:
        returns = some_returns()
        turn = math.radians(30)
        mount = np.eye(4)
        mount[:2, :2] = [[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]
        mount[:2, 3] = 3, -1
        moved = [
            (
                x * math.cos(turn) - y * math.sin(turn) + 3,
                x * math.sin(turn) + y * math.cos(turn) - 1,
            )
            for x, y in returns[:, :2].tolist()
        ]
        wanted = radar_directions(np.concatenate([np.array(moved), returns[:, 2:]], axis=1))
        found = Encoder(RADAR, None).run(frame("radar", returns, SensorGeometry(mount)))
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(
        ("spec", "payload", "problem"),
        [
            (RADAR, b"abc", "bytes"),
            (RADAR, np.zeros((3, 5), np.float32), "radar returns are"),
            (RADAR, np.zeros((3, 4), np.float64), "ndarray"),
            (RADAR, np.full((3, 4), np.nan, np.float32), "finite"),
            (SOUND, np.zeros((8, 4, 8), np.float32), "sound levels are"),
            (SOUND, np.full((8, 6, 8), np.inf, np.float32), "finite"),
        ],
    )
    def test_a_bad_payload_is_refused(self, spec: EncoderSpec, payload: Any, problem: str) -> None:
        with pytest.raises(SensorError, match=problem) as error:
            Encoder(spec, None).run(frame(spec.modality, payload))
        assert error.value.field == "s" and error.value.remedy

    def test_buffers_take_their_frames(self) -> None:
        buffer = SensorBuffer(["s"])
        assert buffer.push(frame("radar", some_returns()))
        assert buffer.snapshot()["s"].modality == "radar"

    def test_an_engine_is_refused(self) -> None:
        with pytest.raises(EngineError, match="no engine"):
            Encoder(RADAR, ObjectEngine(BEV, some_objects()))


class TestDetectors:
    def test_a_lidar_looks_to_all_directions(self) -> None:
        rows = some_objects()
        sweep = np.random.default_rng(3).normal(0, 3, (50, 4)).astype(np.float32)
        geometry = SensorGeometry(np.eye(4))
        encoder = Encoder(BEV, ObjectEngine(BEV, rows))
        tokens = encoder.run(frame("lidar", sweep, geometry))
        wanted = object_directions(rows, np.ones(DIRECTIONS, np.bool_))
        np.testing.assert_array_equal(tokens, wanted)
        assert not encoder.spec.gives_objects

    @pytest.mark.parametrize(
        ("azimuth", "focal", "seen"),
        [(0, 14, [0]), (55, 14, [60]), (180, 14, [180]), (-110, 14, [-120]), (30, 14, [0, 60])],
    )
    def test_a_camera_looks_to_those_whose_middle_it_sees(
        self, azimuth: float, focal: float, seen: list[float]
    ) -> None:
        """Its picture is 20 wide: 35.5 degrees to either side at a focal length of 14."""
        rows = some_objects()
        lens = np.array([[focal, 0, 10], [0, focal, 6], [0, 0, 1.0]])
        geometry = SensorGeometry(looking(azimuth), lens)
        picture = np.zeros((12, 20, 3), np.uint8)
        encoder = Encoder(CAMERA, ObjectEngine(CAMERA, rows))
        tokens = encoder.run(frame("camera", picture, geometry))
        there = np.isin(SECTOR_MIDDLES_DEG, seen)
        np.testing.assert_array_equal(tokens.any(axis=1), there)
        np.testing.assert_array_equal(tokens, object_directions(rows, there))

    def test_engines_give_objects_not_directions(self) -> None:
        with pytest.raises(EngineError, match="output"):
            Encoder(BEV, ObjectEngine(BEV, np.zeros((DIRECTIONS, 64), np.float32)))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"file": "weights.safetensors"}, "must be left out"),
        ({"tokens": 5}, "tokens must be 6"),
        ({"width": 63}, "width must be 64"),
        ({"modality": "audio"}, "does not give the input"),
        ({"kind": "onnx", "file": "a.onnx"}, "goes with kind"),
        ({"objects": 3}, "objects goes with"),
    ],
)
def test_what_a_manifest_must_not_say(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        spec_of(
            **({"modality": "radar", "kind": "radar_directions", "given": RadarInput()} | change)
        )


def test_a_detector_by_direction_has_six_tokens() -> None:
    with pytest.raises(ValidationError, match="tokens must be 6"):
        spec_of("lidar", "bev_detector", BevInput(), objects=8, tokens=8, file="a.safetensors")
