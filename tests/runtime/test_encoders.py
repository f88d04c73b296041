"""Encoders over a tiny engine: what they accept, what they refuse, and what they hand on."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from tailwire.kernels.image import preprocess_image
from tailwire.kernels.range_image import RANGE_MEAN, RANGE_STD, range_image
from tailwire.runtime.encoders import CameraInput, Encoder, EncoderSpec, LidarInput
from tailwire.runtime.engine import Array, BoundRun, TensorSpec
from tailwire.runtime.errors import EngineError, SensorError
from tailwire.runtime.frames import SensorFrame

from ..packs import RANGE_LIDAR

TOKENS, WIDTH = 2, 3

CAMERA = EncoderSpec(
    modality="camera",
    kind="onnx",
    input=CameraInput(height=12, width=16),
    tokens=TOKENS,
    width=WIDTH,
    file="camera.onnx",
    licence="Apache-2.0",
    source="tests",
)
LIDAR = RANGE_LIDAR.model_copy(update={"tokens": TOKENS, "width": WIDTH})


class MeanEngine:
    """Token values are the mean of the input, plus their index."""

    device = "cpu"

    def __init__(self, spec: EncoderSpec, batch: int = -1) -> None:
        self.input_specs = [TensorSpec("x", (batch, *spec.input.shape), "float32")]
        self.output_specs = [TensorSpec("y", (batch, spec.tokens, spec.width), "float32")]
        self.batches: list[int] = []
        self.closed = False

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        if self.closed:
            raise EngineError("the engine is closed")
        images = np.asarray(inputs["x"], np.float32)
        assert images.flags.c_contiguous
        self.batches.append(len(images))
        means = images.mean(axis=(1, 2, 3))[:, None, None]
        offsets = np.arange(TOKENS * WIDTH, dtype=np.float32).reshape(TOKENS, WIDTH)
        return {"y": means + offsets}

    def bind(self, buffers: Mapping[str, Array]) -> BoundRun:
        raise NotImplementedError

    def close(self) -> None:
        self.closed = True


def picture(seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 255, (24, 32, 3), dtype=np.uint8)


def cloud(seed: int = 0, columns: int = 5) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(100, columns)).astype(np.float32)


def camera_frame(payload: object) -> SensorFrame:
    return SensorFrame("cam_front", "camera", 1, "cam_front", payload)  # pyright: ignore[reportArgumentType]


def lidar_frame(payload: object) -> SensorFrame:
    return SensorFrame("lidar_top", "lidar", 1, "lidar_top", payload)  # pyright: ignore[reportArgumentType]


def jpeg() -> bytes:
    file = BytesIO()
    Image.fromarray(picture()).save(file, "JPEG")
    return file.getvalue()


class TestFrames:
    def test_a_picture_becomes_tokens(self) -> None:
        image = picture()
        wanted = preprocess_image(image, 12, 16, (127.0,) * 3, (128.0,) * 3)
        encoder = Encoder(CAMERA, MeanEngine(CAMERA))
        tokens = encoder.run(camera_frame(image))
        assert tokens.dtype == np.float32 and tokens.shape == (TOKENS, WIDTH)
        assert tokens[0, 0] == pytest.approx(wanted.mean(), abs=1e-5)
        np.testing.assert_array_equal(encoder.prepare(camera_frame(image))["x"], wanted)

    def test_a_jpeg_becomes_tokens(self) -> None:
        tokens = Encoder(CAMERA, MeanEngine(CAMERA)).run(camera_frame(jpeg()))
        assert tokens.shape == (TOKENS, WIDTH)

    def test_a_cloud_becomes_tokens(self) -> None:
        points = cloud()
        encoder = Encoder(LIDAR, MeanEngine(LIDAR))
        wanted = range_image(points, 8, 64, mean=RANGE_MEAN, std=RANGE_STD)
        np.testing.assert_array_equal(encoder.prepare(lidar_frame(points))["x"], wanted)
        assert encoder.run(lidar_frame(points))[0, 0] == pytest.approx(wanted.mean(), abs=1e-5)

    @pytest.mark.parametrize(("batch", "runs"), [(-1, [3]), (1, [1, 1, 1])])
    def test_frames_are_one_batch_where_the_engine_takes_one(
        self, batch: int, runs: list[int]
    ) -> None:
        engine = MeanEngine(CAMERA, batch)
        encoder = Encoder(CAMERA, engine)
        prepared = [encoder.prepare(camera_frame(picture(seed))) for seed in range(3)]
        tokens = np.asarray(encoder.encode(prepared))
        assert engine.batches == runs
        np.testing.assert_allclose(tokens[:, 0, 0], [p["x"].mean() for p in prepared], rtol=1e-4)

    def test_no_frames_give_no_tokens_and_no_run(self) -> None:
        engine = MeanEngine(CAMERA)
        assert np.asarray(Encoder(CAMERA, engine).encode([])).shape == (0, TOKENS, WIDTH)
        assert engine.batches == []

    def test_preparing_from_many_threads_gives_the_same(self) -> None:
        encoder = Encoder(CAMERA, MeanEngine(CAMERA))
        frames = [camera_frame(jpeg()), *(camera_frame(picture(seed)) for seed in range(7))]
        alone = [encoder.prepare(frame) for frame in frames]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(encoder.prepare, frames * 4))
        for index, prepared in enumerate(together):
            np.testing.assert_array_equal(prepared["x"], alone[index % len(frames)]["x"])

    def test_closing_closes_the_engine(self) -> None:
        engine = MeanEngine(CAMERA)
        encoder = Encoder(CAMERA, engine)
        encoder.close()
        assert engine.closed
        with pytest.raises(EngineError):
            encoder.run(camera_frame(picture()))


class TestBadFrames:
    @pytest.mark.parametrize(
        ("payload", "message"),
        [
            (np.zeros((24, 32), np.uint8), r"uint8 \[24, 32\]"),
            (np.zeros((24, 32, 4), np.uint8), r"\[24, 32, 4\]"),
            (np.zeros((24, 32, 3), np.float32), "float32"),
            (np.zeros((0, 32, 3), np.uint8), r"\[0, 32, 3\]"),
            (jpeg()[:-1], "truncated"),
            (jpeg()[:200], "truncated"),
            (b"", "neither a JPEG nor a PNG"),
            ("path.jpg", "a str"),
        ],
    )
    def test_of_cameras(self, payload: object, message: str) -> None:
        self.refuses(Encoder(CAMERA, MeanEngine(CAMERA)), camera_frame(payload), message)

    @pytest.mark.parametrize(
        ("payload", "message"),
        [
            (cloud(columns=3), r"\[100, 3\]"),
            (cloud().astype(np.float64), "float64"),
            (cloud()[0], r"\[5\]"),
            (cloud()[:0], "empty"),
            (np.full((9, 4), np.nan, np.float32), "none of the 9 points"),
            (np.zeros((9, 4), np.float32), "none of the 9 points"),
            (b"1234", "bytes"),
        ],
    )
    def test_of_lidars(self, payload: object, message: str) -> None:
        self.refuses(Encoder(LIDAR, MeanEngine(LIDAR)), lidar_frame(payload), message)

    def test_of_the_other_modality(self) -> None:
        self.refuses(Encoder(LIDAR, MeanEngine(LIDAR)), camera_frame(jpeg()), "a camera frame")

    def refuses(self, encoder: Encoder, frame: SensorFrame, message: str) -> None:
        with pytest.raises(SensorError, match=message) as caught:
            encoder.run(frame)
        assert caught.value.field == frame.sensor
        assert caught.value.remedy

    @pytest.mark.parametrize(
        ("sensors", "named"), [(["left", "front", "right"], "front"), ([], "frame 1")]
    )
    def test_tokens_that_are_not_finite_name_their_sensor(
        self, sensors: list[str], named: str
    ) -> None:
        encoder = Encoder(CAMERA, MeanEngine(CAMERA))
        prepared = [{"x": np.zeros((3, 12, 16), np.float32)} for _ in range(3)]
        prepared[1]["x"][0, 0, 0] = np.inf
        with pytest.raises(SensorError, match="not finite") as caught:
            encoder.encode(prepared, sensors)
        assert caught.value.field == named


class TestEngineFit:
    @pytest.mark.parametrize(
        "wrong",
        [
            TensorSpec("x", (-1, 3, 12, 17), "float32"),
            TensorSpec("x", (-1, 3, 12), "float32"),
            TensorSpec("x", (2, 3, 12, 16), "float32"),
            TensorSpec("x", (-1, 3, 12, 16), "float16"),
            TensorSpec("x", (), "float32"),
        ],
    )
    def test_inputs_of_another_shape(self, wrong: TensorSpec) -> None:
        engine = MeanEngine(CAMERA)
        engine.input_specs = [wrong]
        with pytest.raises(EngineError, match=r"camera\.onnx: the input x"):
            Encoder(CAMERA, engine)

    def test_outputs_of_another_width(self) -> None:
        engine = MeanEngine(CAMERA.model_copy(update={"width": WIDTH + 1}))
        with pytest.raises(EngineError, match="the output y"):
            Encoder(CAMERA, engine)

    def test_more_than_one_input(self) -> None:
        engine = MeanEngine(CAMERA)
        engine.input_specs *= 2
        with pytest.raises(EngineError, match="2 inputs"):
            Encoder(CAMERA, engine)


class TestSpec:
    @pytest.mark.parametrize("spec", [CAMERA, LIDAR], ids=["camera", "lidar"])
    def test_a_written_spec_reads_back(self, spec: EncoderSpec) -> None:
        assert EncoderSpec.model_validate_json(spec.model_dump_json()) == spec

    @pytest.mark.parametrize(
        ("change", "where"),
        [
            ({"tokenz": 4}, "tokenz"),
            ({"tokens": 0}, "tokens"),
            ({"modality": "lidar"}, "a lidar does not give"),
            ({"file": "../camera.onnx"}, "file"),
            ({"file": "a/b.onnx"}, "file"),
            ({"file": ""}, "file is missing"),
            ({"kind": "bev_detector"}, "bev_detector takes the input bev_grid, not image"),
            ({"kind": "objects"}, "objects takes the input objects"),
            ({"modality": "objects", "input": {"kind": "objects"}}, "goes with kind objects"),
            ({"licence": ""}, "licence"),
            ({"input": {"kind": "image", "height": 12, "width": 0}}, r"input\.image\.width"),
            ({"input": {"kind": "image", "height": 12, "widht": 16}}, r"input\.image\.widht"),
            (
                {"input": {"kind": "image", "height": 1, "width": 1, "std": [1, 0, 1]}},
                r"input\.image\.std\.1",
            ),
            ({"input": {"kind": "sound"}}, "kind"),
        ],
    )
    def test_what_is_wrong_is_named(self, change: dict[str, object], where: str) -> None:
        with pytest.raises(ValidationError, match=where):
            EncoderSpec.model_validate(CAMERA.model_dump() | change)

    def test_a_field_of_view_upside_down(self) -> None:
        with pytest.raises(ValidationError, match="below fov_up_deg"):
            LidarInput(fov_up_deg=-30, fov_down_deg=10)
