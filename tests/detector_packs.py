"""Packs of two small detectors with random weights, and frames for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.numpy import save_file

from tailwire.export.detector_layers import DetectorKind, weight_shapes
from tailwire.kernels.object_tokens import TOKEN_WIDTH
from tailwire.runtime.connections import ConnectionSpec
from tailwire.runtime.encoders import BevInput, CameraInput, EncoderSpec
from tailwire.runtime.frames import SensorFrame, SensorGeometry

from .packs import write_small_pack
from .torch_efficientnet import random_efficientnet

if TYPE_CHECKING:
    from tailwire.runtime.model_config import LanguageModelConfig

TOKENS = 5
SOURCE: dict[str, Any] = {"licence": "Apache-2.0", "source": "tests"}
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
ENCODERS = {"camera": CAMERA, "lidar": LIDAR}
SENSORS = {"cam_front": "camera", "lidar_top": "lidar"}


def head(kind: DetectorKind, dtype: type) -> dict[str, Any]:
    """Random weights as training leaves them, counters included."""
    rng = np.random.default_rng(0)
    weights: dict[str, Any] = {
        name: np.abs(rng.normal(0, 0.1, shape)).astype(dtype)
        for name, shape in weight_shapes(kind, 8, 12).items()
    }
    weights["merge.norm.num_batches_tracked"] = np.asarray(7, np.int64)
    return weights


def calm_head(kind: DetectorKind, dtype: type) -> dict[str, Any]:
    """Random weights that keep activations at the size of the input, as trained ones do."""
    rng = np.random.default_rng(1)
    weights: dict[str, Any] = {}
    for name, shape in weight_shapes(kind, 8, 12).items():
        ones = name.endswith("running_var") or ("norm" in name and name.endswith("weight"))
        spread = (2 / np.prod(shape[1:])) ** 0.5 if len(shape) == 4 else 0.1
        if "heat" in name:
            spread /= 50  # Scores of exactly 1 would be in no order.
        values = np.ones(shape) if ones else rng.normal(0, spread, shape)
        weights[name] = values.astype(dtype)
    return weights


def frames(seed: int = 0) -> list[SensorFrame]:
    """One picture and one cloud."""
    pose = np.eye(4)
    pose[:3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    lens = np.asarray([[60.0, 0, 48], [0, 60, 32], [0, 0, 1]])
    rng, stamp = np.random.default_rng(seed), seed + 1
    picture = rng.integers(0, 255, (64, 96, 3), dtype=np.uint8)
    cloud = rng.uniform(0, 10, (200, 4)).astype(np.float32)
    return [
        SensorFrame("cam_front", "camera", stamp, "cam_front", picture, SensorGeometry(pose, lens)),
        SensorFrame("lidar_top", "lidar", stamp, "lidar_top", cloud, SensorGeometry(np.eye(4))),
    ]


def write_detector_pack(
    folder: Path,
    model: LanguageModelConfig,
    spec: ConnectionSpec,
    *,
    make_head: Callable[[DetectorKind, type], dict[str, Any]] = head,
    **options: Any,
) -> Path:
    """A pack with both detectors; `options` as those of `write_small_pack`."""
    folder.mkdir()
    save_file(make_head("camera_detector", np.float16), folder / CAMERA.file)
    save_file(make_head("bev_detector", np.float32), folder / LIDAR.file)
    torch.save(random_efficientnet(0).state_dict(), folder / "backbone.pth")
    return write_small_pack(folder, model, spec, ENCODERS, SENSORS, **options)
