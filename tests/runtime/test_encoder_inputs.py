"""What detectors get: pinholes of cropped pictures, sweeps in one frame, objects of a detector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from tailwire.kernels.bev_grid import bev_grid
from tailwire.kernels.object_tokens import OBJECT_COLUMNS, TOKEN_WIDTH, object_tokens
from tailwire.runtime.encoders import (
    BevInput,
    CameraInput,
    Encoder,
    EncoderSpec,
    ObjectsInput,
)
from tailwire.runtime.engine import Array, BoundRun, TensorSpec
from tailwire.runtime.errors import EngineError, SensorError
from tailwire.runtime.frames import SensorFrame, SensorGeometry

from ..fakes import jpeg

TOKENS = 3
SOURCE: dict[str, Any] = {"licence": "Apache-2.0", "source": "tests"}


def spec_of(modality: str, kind: str, given: Any, **changes: Any) -> EncoderSpec:
    fields = {"tokens": TOKENS, "width": TOKEN_WIDTH, "file": f"{modality}.onnx"} | changes
    return EncoderSpec(modality=modality, kind=kind, input=given, **fields, **SOURCE)  # pyright: ignore[reportArgumentType]


CAMERA = spec_of(
    "camera", "camera_detector", CameraInput(height=12, width=20), backbone="efficientnet-lite0"
)
BEV = spec_of("lidar", "bev_detector", BevInput(range_m=8.0, cell_m=1.0))
OBJECTS = spec_of("objects", "objects", ObjectsInput(), file="")


class EchoEngine:
    """Remembers what it was given; its tokens are zeros."""

    device = "cpu"

    def __init__(self, spec: EncoderSpec, batch: int = -1) -> None:
        self.input_specs = [TensorSpec("x", (batch, *spec.input.shape), "float32")]
        if spec.kind == "camera_detector":
            self.input_specs.append(TensorSpec("geometry", (batch, 16), "float32"))
        self.output_specs = [TensorSpec("y", (batch, spec.tokens, spec.width), "float32")]
        self.runs: list[dict[str, Array]] = []

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self.runs.append(dict(inputs))
        return {"y": np.zeros((len(inputs["x"]), TOKENS, TOKEN_WIDTH), np.float32)}

    def bind(self, buffers: Mapping[str, Array]) -> BoundRun:
        raise NotImplementedError

    def close(self) -> None:
        pass


def turned(yaw: float, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> np.ndarray:
    transform = np.eye(4)
    transform[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    transform[:3, 3] = x, y, z
    return transform


class TestCameraGeometry:
    #: Camera axes (x right, y down, z forward) of a camera that looks to the left of the vehicle.
    EGO_FROM_CAMERA = turned(0.8, 1.5, 0.3, 1.6) @ np.array(
        [[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]]
    )
    INTRINSIC = np.array([[30.0, 0, 15.5], [0, 31.0, 12.5], [0, 0, 1]])

    def prepared(self, payload: Any, geometry: SensorGeometry | None) -> Mapping[str, np.ndarray]:
        frame = SensorFrame("cam_front", "camera", 1, "cam", payload, geometry)
        return Encoder(CAMERA, EchoEngine(CAMERA)).prepare(frame)

    @pytest.mark.parametrize("resized", [1, 2])
    def test_points_fall_on_the_same_spot_through_both_pinholes(self, resized: int) -> None:
        """The picture is 32 x 24: cut to 32 x 19.2 about its middle, made 20 x 12 of."""
        matrix = np.diag([resized, resized, 1]) @ self.INTRINSIC
        geometry = SensorGeometry(
            self.EGO_FROM_CAMERA, matrix, (32 * resized, 24 * resized), turned(1.0, 500, 600)
        )
        found = self.prepared(jpeg(), geometry)["geometry"]
        assert found.dtype == np.float32 and found.shape == (16,)
        fx, fy, cx, cy = found[:4]
        ego_from_camera = np.vstack([found[4:].reshape(3, 4), [0, 0, 0, 1]])
        np.testing.assert_allclose(ego_from_camera, self.EGO_FROM_CAMERA, atol=1e-6)
        points = np.random.default_rng(0).normal(0, 4, (20, 3)) + np.array([12, 14, 1])
        camera = np.linalg.inv(self.EGO_FROM_CAMERA)
        seen = points @ camera[:3, :3].T + camera[:3, 3]
        pixels = seen @ self.INTRINSIC.T
        u, v = pixels[:, 0] / pixels[:, 2], pixels[:, 1] / pixels[:, 2]
        # By the encoder's pinhole alone, as a detector does.
        x = fx * seen[:, 0] / seen[:, 2] + cx
        y = fy * seen[:, 1] / seen[:, 2] + cy
        np.testing.assert_allclose(x, u * 20 / 32, rtol=1e-5)
        np.testing.assert_allclose(y, (v - 2.4) * 20 / 32, rtol=1e-5, atol=1e-5)

    def test_without_a_size_the_matrix_is_of_the_picture(self) -> None:
        sized, without = (
            self.prepared(jpeg(), SensorGeometry(self.EGO_FROM_CAMERA, self.INTRINSIC, size))
            for size in ((32, 24), None)
        )
        np.testing.assert_array_equal(sized["geometry"], without["geometry"])

    def test_frames_are_one_batch(self) -> None:
        geometry = SensorGeometry(self.EGO_FROM_CAMERA, self.INTRINSIC)
        for batch, runs in ((-1, [2]), (1, [1, 1])):
            engine = EchoEngine(CAMERA, batch)
            encoder = Encoder(CAMERA, engine)
            frame = SensorFrame("cam_front", "camera", 1, "cam", jpeg(), geometry)
            encoder.encode([encoder.prepare(frame)] * 2)
            assert [len(run["x"]) for run in engine.runs] == runs
            assert [run["geometry"].shape for run in engine.runs] == [(n, 16) for n in runs]

    @pytest.mark.parametrize(
        ("geometry", "problem"),
        [(None, "where the sensor sits"), (SensorGeometry(np.eye(4)), "no intrinsic")],
    )
    def test_what_is_missing_is_told_with_the_remedy(
        self, geometry: SensorGeometry | None, problem: str
    ) -> None:
        with pytest.raises(SensorError, match=problem) as caught:
            self.prepared(jpeg(), geometry)
        assert caught.value.field == "cam_front"
        assert "SensorFrame.geometry" in caught.value.remedy and "mount" in caught.value.remedy

    def test_the_engine_must_have_both_inputs(self) -> None:
        engine = EchoEngine(CAMERA)
        pictures, geometry = engine.input_specs
        engine.input_specs = [pictures]
        with pytest.raises(EngineError, match="1 inputs instead of two"):
            Encoder(CAMERA, engine)
        engine.input_specs = [pictures, TensorSpec("pose", (-1, 16), "float32")]
        with pytest.raises(EngineError, match="no input geometry"):
            Encoder(CAMERA, engine)
        engine.input_specs = [TensorSpec("geometry", (-1, 12), "float32"), pictures]
        with pytest.raises(EngineError, match=r"geometry is float32 \[-1, 12\]"):
            Encoder(CAMERA, engine)
        engine.input_specs = [geometry, pictures]
        Encoder(CAMERA, engine)


class TestSweeps:
    #: Posts of a world that stands still, map frame.
    WORLD = np.random.default_rng(3).uniform([-6, -6, 0.4], [6, 6, 3.9], (200, 3)) + np.array(
        [1e5, 2e5, 0]
    )
    EGO_FROM_LIDAR = turned(-np.pi / 2, 0.9, 0.1, 1.8)

    def sweep(self, stamp_ms: float, yaw: float, x: float, *, posed: bool = True) -> SensorFrame:
        """What the LiDAR sees of the world from a pose far from the origin of the map."""
        pose = turned(yaw, 1e5 + x, 2e5)
        world_from_lidar = pose @ self.EGO_FROM_LIDAR
        seen = (self.WORLD - world_from_lidar[:3, 3]) @ world_from_lidar[:3, :3]
        points = np.column_stack([seen, np.full(len(seen), 100), np.zeros(len(seen))])
        geometry = SensorGeometry(self.EGO_FROM_LIDAR, global_from_ego=pose if posed else None)
        return SensorFrame(
            "lidar_top", "lidar", round(stamp_ms * 1e6), "top", points.astype(np.float32), geometry
        )

    def grid(self, *frames: SensorFrame) -> np.ndarray:
        return Encoder(BEV, EchoEngine(BEV)).prepare(*frames)["x"]

    def test_a_sweep_is_seen_in_the_ego_frame(self) -> None:
        found = self.grid(self.sweep(0, 0.4, 1.0))
        pose = turned(0.4, 1e5 + 1.0, 2e5)
        ego = (self.WORLD - pose[:3, 3]) @ pose[:3, :3]
        points = np.column_stack([ego, np.full(len(ego), 100)]).astype(np.float32)
        expected = bev_grid(points, range_m=8.0, cell_m=1.0)
        # Rounding may put a point on an edge into the next cell.
        assert np.isclose(found, expected, atol=1e-3).mean() > 0.995
        assert not found[-4:].any()

    def test_what_stands_still_lies_in_the_same_cells_of_both_sweeps(self) -> None:
        now, before = self.sweep(500, 0.4, 1.0), self.sweep(100, -0.3, -2.5)
        found = self.grid(now, before)
        # Had the earlier sweep been taken now, it would be the same.
        expected = self.grid(now, self.sweep(100, 0.4, 1.0))
        assert np.isclose(found, expected, atol=1e-3).mean() > 0.995
        np.testing.assert_allclose(found[-1], 0.4)
        assert found[-4].any()

    @pytest.mark.parametrize("unknown", ["now", "before"])
    def test_without_a_pose_there_is_no_earlier_sweep(self, unknown: str) -> None:
        now = self.sweep(500, 0.4, 1.0, posed=unknown != "now")
        before = self.sweep(100, -0.3, -2.5, posed=unknown != "before")
        np.testing.assert_array_equal(self.grid(now, before), self.grid(now))

    def test_points_that_are_not_finite_are_left_out(self) -> None:
        frame = self.sweep(0, 0.4, 1.0)
        holes = np.array(frame.payload)
        holes[::2, 1] = np.nan
        holes[1::4, 0] = np.inf
        whole = np.array(frame.payload)[3::4]
        found, expected = (
            self.grid(SensorFrame("lidar_top", "lidar", 0, "top", points, frame.geometry))
            for points in (holes, whole)
        )
        np.testing.assert_array_equal(found, expected)

    @pytest.mark.parametrize(
        ("payload", "problem"),
        [
            (np.zeros((0, 5), np.float32), "empty"),
            (np.zeros((5, 3), np.float32), r"\[5, 3\]"),
            (np.zeros((5, 4)), "float64"),
            (b"points", "bytes"),
        ],
    )
    def test_bad_clouds(self, payload: Any, problem: str) -> None:
        frame = SensorFrame("lidar_top", "lidar", 0, "top", payload, SensorGeometry(np.eye(4)))
        with pytest.raises(SensorError, match=problem) as caught:
            self.grid(frame)
        assert caught.value.field == "lidar_top"

    def test_a_lidar_of_which_nobody_knows_where_it_sits(self) -> None:
        frame = SensorFrame("lidar_top", "lidar", 0, "top", np.ones((5, 4), np.float32))
        with pytest.raises(SensorError, match=r"lidar_top: where the sensor sits.*mount"):
            self.grid(frame)

    @pytest.mark.parametrize(
        ("change", "problem"),
        [
            ({"cell_m": 0.3}, "do not divide"),
            ({"previous_ms": (700, 200)}, "previous_ms"),
            ({"previous_ms": (0, 200)}, "previous_ms"),
            ({"previous_ms": (200, 1200)}, "previous_ms"),
        ],
    )
    def test_specifications_that_make_no_sense(self, change: Any, problem: str) -> None:
        with pytest.raises(ValidationError, match=problem):
            BevInput(**change)


class TestObjects:
    BUS = (2, 0.9, 10, -3, 1.5, 11, 2.9, 3.3, 0.5, 4, 1, 0)
    CAR = (0, 0.8, 5, 2, 0.7, 4.5, 1.9, 1.5, -0.2, np.nan, np.nan, -1)

    def frame(self, payload: Any, geometry: SensorGeometry | None = None) -> SensorFrame:
        return SensorFrame("objects", "objects", 0, "ego", payload, geometry)

    @pytest.mark.parametrize("rows", [(), (BUS,), (BUS, CAR, BUS, CAR)])
    def test_they_become_tokens_without_an_engine(self, rows: Any) -> None:
        objects = np.array(rows, np.float32).reshape(-1, len(OBJECT_COLUMNS))
        encoder = Encoder(OBJECTS, None)
        expected = object_tokens(objects, TOKENS)
        for geometry in (None, SensorGeometry(np.eye(4))):
            np.testing.assert_array_equal(encoder.run(self.frame(objects, geometry)), expected)
        prepared = encoder.prepare(self.frame(objects))
        np.testing.assert_array_equal(encoder.encode([prepared] * 2), [expected] * 2)
        encoder.close()

    def test_those_of_a_turned_sensor_are_moved_to_the_ego_frame(self) -> None:
        mounted = SensorGeometry(turned(np.pi / 2, 1.0, 2.0, 0.5))
        found = Encoder(OBJECTS, None).run(
            self.frame(np.array([self.BUS, self.CAR], np.float32), mounted)
        )
        bus = (2, 0.9, 1 + 3, 2 + 10, 2.0, 11, 2.9, 3.3, 0.5 + np.pi / 2, -1, 4, 0)
        car = (0, 0.8, 1 - 2, 2 + 5, 1.2, 4.5, 1.9, 1.5, -0.2 + np.pi / 2, np.nan, np.nan, -1)
        expected = object_tokens(np.array([bus, car], np.float32), TOKENS)
        np.testing.assert_allclose(found, expected, atol=1e-5)

    @pytest.mark.parametrize("geometry", [None, SensorGeometry(np.eye(4))])
    @pytest.mark.parametrize(
        ("payload", "problem"),
        [
            (b"boxes", "bytes"),
            (np.zeros((2, 11), np.float32), r"\[2, 11\]"),
            (np.zeros(12, np.float32), r"\[12\]"),
            (np.zeros((2, 12)), "float64"),
            (np.array([(10, *BUS[1:])], np.float32), "class of object 0 is 10"),
            (np.array([(*BUS[:2], np.nan, *BUS[3:])], np.float32), "x of object 0"),
        ],
    )
    def test_bad_ones(self, payload: Any, problem: str, geometry: SensorGeometry | None) -> None:
        with pytest.raises(SensorError, match=problem) as caught:
            Encoder(OBJECTS, None).run(self.frame(payload, geometry))
        assert caught.value.field == "objects" and caught.value.remedy

    def test_they_have_no_engine_and_all_others_have_one(self) -> None:
        with pytest.raises(EngineError, match="no engine"):
            Encoder(OBJECTS, EchoEngine(BEV))
        with pytest.raises(EngineError, match="no engine"):
            Encoder(BEV, None)

    @pytest.mark.parametrize(
        ("change", "problem"),
        [({"file": "x.onnx"}, "left out"), ({"width": 32}, "width must be 64")],
    )
    def test_specifications_that_make_no_sense(self, change: Any, problem: str) -> None:
        with pytest.raises(ValidationError, match=problem):
            spec_of("objects", "objects", ObjectsInput(), **({"file": ""} | change))


@pytest.mark.parametrize("spec", [CAMERA, BEV, OBJECTS], ids=lambda spec: spec.kind)
def test_a_written_spec_reads_back(spec: EncoderSpec) -> None:
    assert EncoderSpec.model_validate_json(spec.model_dump_json()) == spec
