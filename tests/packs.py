"""Small packs for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray
from safetensors.numpy import save_file

from tailwire.export.range_encoder import TOKEN_WIDTH, TOKENS
from tailwire.runtime.connections import ConnectionSpec, weight_shapes
from tailwire.runtime.encoders import EncoderSpec, LidarInput
from tailwire.runtime.files import sha256_of
from tailwire.runtime.model_config import LanguageModelConfig
from tailwire.runtime.pack import (
    BaseModelSpec,
    FileSpec,
    PackManifest,
    PromptSpec,
    SensorSpec,
)

#: Small enough to be made in a moment; its weights are those of `random_weights`.
RANGE_LIDAR = EncoderSpec(
    modality="lidar",
    kind="range_encoder",
    input=LidarInput(height=8, width=64),
    tokens=TOKENS,
    width=TOKEN_WIDTH,
    file="lidar.safetensors",
    licence="Apache-2.0",
    source="tests",
)


def write_small_pack(
    folder: Path,
    config: LanguageModelConfig,
    spec: ConnectionSpec,
    encoders: Mapping[str, EncoderSpec],
    sensors: Mapping[str, str],
    *,
    name: str = "tiny",
    trained: bool = True,
    weights: Mapping[str, NDArray[np.float32]] | None = None,
) -> Path:
    """Complete a folder that holds the encoders' files; random weights where none are given."""
    sizes = {encoder: (one.tokens, one.width) for encoder, one in encoders.items()}
    rng = np.random.default_rng(0)
    if weights is None:
        weights = {
            weight: rng.normal(0, 0.3, shape).astype(np.float32)
            for weight, shape in weight_shapes(spec, config, sizes, sensors).items()
        }
    save_file(dict(weights), folder / spec.file)
    files = [file for one in encoders.values() for file in one.files] + [spec.file]
    manifest = PackManifest(
        format=1,
        name=name,
        version="1",
        description="for tests",
        trained=trained,
        licences=("Apache-2.0",),
        base_model=BaseModelSpec.of("tiny", config),
        prompt=PromptSpec(template="{question} Answer:", answer_prefix=" "),
        sensors=tuple(SensorSpec(name=sensor, encoder=one) for sensor, one in sensors.items()),
        encoders=dict(encoders),
        connection=spec,
        tail_blocks=2,
        files={file: FileSpec(sha256=sha256_of(folder / file)) for file in files},
    )
    (folder / "pack.yaml").write_text(yaml.safe_dump(manifest.model_dump(mode="json")))
    return folder
