"""Packs whose encoders are detectors: built from a head and a backbone, and refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import save_file

from tailwire import open_runtime
from tailwire.export.detector_layers import DetectorKind, weight_shapes
from tailwire.kernels.object_tokens import TOKEN_WIDTH
from tailwire.runtime import connections
from tailwire.runtime.config import RuntimeConfig
from tailwire.runtime.connections import ConnectionSpec
from tailwire.runtime.encoders import BevInput, CameraInput, EncoderSpec
from tailwire.runtime.errors import ModelError, PackError
from tailwire.runtime.files import sha256_of
from tailwire.runtime.frames import SensorFrame, SensorGeometry

from .packs import write_small_pack
from .torch_efficientnet import random_efficientnet

if TYPE_CHECKING:
    from .built_models import TinyModels

TOKENS = 5
SOURCE = {"licence": "Apache-2.0", "source": "tests"}
CAMERA = EncoderSpec(
    modality="camera",
    kind="camera_detector",
    input=CameraInput(height=64, width=96),
    tokens=TOKENS,
    width=TOKEN_WIDTH,
    file="camera.safetensors",
    backbone="backbone.pth",
    **SOURCE,
)
LIDAR = EncoderSpec(
    modality="lidar",
    kind="bev_detector",
    input=BevInput(range_m=20.0, cell_m=1.0),
    tokens=TOKENS,
    width=TOKEN_WIDTH,
    file="lidar.safetensors",
    **SOURCE,
)
QUESTION = ("Is there a bus behind me?", ("yes", "no"))


def head(kind: DetectorKind, dtype: type) -> dict[str, Any]:
    """Random weights as training leaves them, counters included."""
    rng = np.random.default_rng(0)
    weights: dict[str, Any] = {
        name: np.abs(rng.normal(0, 0.1, shape)).astype(dtype)
        for name, shape in weight_shapes(kind, 8, 12).items()
    }
    weights["merge.norm.num_batches_tracked"] = np.asarray(7, np.int64)
    return weights


def frames() -> list[SensorFrame]:
    pose = np.eye(4)
    pose[:3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    lens = np.asarray([[60.0, 0, 48], [0, 60, 32], [0, 0, 1]])
    picture = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    cloud = np.random.default_rng(0).uniform(0, 10, (200, 4)).astype(np.float32)
    return [
        SensorFrame("cam_front", "camera", 1, "cam_front", picture, SensorGeometry(pose, lens)),
        SensorFrame("lidar_top", "lidar", 1, "lidar_top", cloud, SensorGeometry(np.eye(4))),
    ]


@pytest.fixture
def config(tiny: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RuntimeConfig:
    monkeypatch.setenv("TAILWIRE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TAILWIRE_OFFLINE", "1")
    folder = tmp_path / "pack"
    folder.mkdir()
    model = tiny.model("llama").config
    spec = ConnectionSpec(kind="plain", tail_blocks=3, hidden=8, width=8, layers=1, heads=2)
    encoders = {"camera": CAMERA, "lidar": LIDAR}
    sensors = {"cam_front": "camera", "lidar_top": "lidar"}
    sizes = {name: (one.tokens, one.width) for name, one in encoders.items()}
    shapes = connections.weight_shapes(spec, model, sizes, sensors)
    weights = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    save_file(head("camera_detector", np.float16), folder / CAMERA.file)
    save_file(head("bev_detector", np.float32), folder / LIDAR.file)
    torch.save(random_efficientnet(0).state_dict(), folder / "backbone.pth")
    write_small_pack(folder, model, spec, encoders, sensors, name="detectors", weights=weights)
    return RuntimeConfig(
        model=str(tiny.folder("llama")), precision="fp32", pack=str(folder), threads=1
    )


def read(folder: Path) -> dict[str, Any]:
    return yaml.safe_load((folder / "pack.yaml").read_text())


def write(folder: Path, manifest: dict[str, Any]) -> None:
    (folder / "pack.yaml").write_text(yaml.safe_dump(manifest))


def test_both_detectors_answer_and_what_shapes_them_is_in_their_key(
    config: RuntimeConfig, tmp_path: Path
) -> None:
    with open_runtime(config) as rt:
        answer = rt.ask(frames(), *QUESTION)
        assert answer.text in QUESTION[1]
        assert not answer.dropped
    first = set((tmp_path / "cache" / "engines").glob("*/encoder.onnx"))
    assert len(first) == 2

    folder = Path(config.pack)
    manifest = read(folder)
    # As many cells, but each of another size: another graph of the same weights.
    manifest["encoders"]["lidar"]["input"] |= {"range_m": 10.0, "cell_m": 0.5}
    torch.save(random_efficientnet(1).state_dict(), folder / "backbone.pth")
    manifest["files"]["backbone.pth"]["sha256"] = sha256_of(folder / "backbone.pth")
    write(folder, manifest)
    open_runtime(config).close()
    second = set((tmp_path / "cache" / "engines").glob("*/encoder.onnx"))
    assert len(second - first) == 2


@pytest.mark.parametrize(
    ("file", "field"), [(CAMERA.file, "row"), (LIDAR.file, "head.rest.weight")]
)
def test_a_head_without_an_array_is_refused(config: RuntimeConfig, file: str, field: str) -> None:
    folder = Path(config.pack)
    kind: DetectorKind = "camera_detector" if file == CAMERA.file else "bev_detector"
    weights = head(kind, np.float32)
    del weights[field]
    save_file(weights, folder / file)
    manifest = read(folder)
    manifest["files"][file]["sha256"] = sha256_of(folder / file)
    write(folder, manifest)
    with pytest.raises(ModelError, match=field):
        open_runtime(config)


@pytest.mark.parametrize("dtype", [np.float64, np.int32])
def test_a_head_of_another_dtype_is_refused(config: RuntimeConfig, dtype: type) -> None:
    folder = Path(config.pack)
    save_file(head("bev_detector", dtype), folder / LIDAR.file)
    manifest = read(folder)
    manifest["files"][LIDAR.file]["sha256"] = sha256_of(folder / LIDAR.file)
    write(folder, manifest)
    with pytest.raises(PackError, match="float32 or float16 is needed"):
        open_runtime(config)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda m: m["files"].pop("backbone.pth"), "backbone.pth"),
        (lambda m: m["files"]["backbone.pth"].update(sha256="0" * 64), "backbone.pth"),
        (lambda m: m["encoders"]["camera"].update(backbone=None), "backbone"),
        (lambda m: m["encoders"]["lidar"].update(backbone="backbone.pth"), "backbone"),
        (lambda m: m["encoders"]["lidar"].update(width=320), "width must be 64"),
    ],
    ids=["unlisted", "hash", "none", "of a LiDAR", "width"],
)
def test_a_manifest_that_does_not_fit_is_refused(
    config: RuntimeConfig, change: Any, word: str
) -> None:
    folder = Path(config.pack)
    manifest = read(folder)
    change(manifest)
    write(folder, manifest)
    with pytest.raises(PackError, match=word):
        open_runtime(config)
