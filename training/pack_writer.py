"""Writes what was trained as a pack: encoders, a connection, a manifest, and how they were made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray
from safetensors.numpy import save

from ..kernels.object_tokens import TOKEN_WIDTH
from ..runtime.calibration_table import CalibrationTable
from ..runtime.connections import ConnectionSpec, check_weights, weight_shapes
from ..runtime.encoder_specs import BevInput, CameraInput, EncoderSpec, ObjectsInput
from ..runtime.errors import ConfigError
from ..runtime.files import open_atomic, sha256_of, write_atomic
from ..runtime.model_config import LanguageModelConfig
from ..runtime.pack import (
    MANIFEST_NAME,
    BaseModelSpec,
    FileSpec,
    MountSpec,
    PackManifest,
    PromptSpec,
    SensorSpec,
    StandingQuestionSpec,
)
from ..simulation.annotated_objects import OBJECTS
from ..simulation.rig import CAMERAS, LIDAR

#: Object tokens per frame of each encoder.
CAMERA_TOKENS, LIDAR_TOKENS, OBJECT_TOKENS = 16, 64, 80
CAMERA_INPUT = CameraInput(height=224, width=400)
BACKBONE = "efficientnet-lite0"
PROMPT = PromptSpec(
    template="<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n", answer_prefix=""
)
HOW_MADE = "TRAINING.md"
CALIBRATION = "calibration.json"

_LICENCE = "Apache-2.0"
_IMAGE_WIDTH = 1600
_MADE_ON = "trained on drives that Tailwire made"

Weights = Mapping[str, NDArray[np.floating]]
_Row = tuple[float, float, float]


def encoder_specs() -> dict[str, EncoderSpec]:
    """The encoders of a pack of detectors: `camera`, `lidar` and `objects`."""
    return {
        "camera": EncoderSpec(
            modality="camera",
            kind="camera_detector",
            input=CAMERA_INPUT,
            tokens=CAMERA_TOKENS,
            width=TOKEN_WIDTH,
            file="camera.safetensors",
            backbone=BACKBONE,
            licence=_LICENCE,
            source=f"EfficientNet-Lite0 with ImageNet weights below a head {_MADE_ON}",
        ),
        "lidar": EncoderSpec(
            modality="lidar",
            kind="bev_detector",
            input=BevInput(),
            tokens=LIDAR_TOKENS,
            width=TOKEN_WIDTH,
            file="lidar.safetensors",
            licence=_LICENCE,
            source=_MADE_ON,
        ),
        OBJECTS: EncoderSpec(
            modality="objects",
            kind="objects",
            input=ObjectsInput(),
            tokens=OBJECT_TOKENS,
            width=TOKEN_WIDTH,
            licence=_LICENCE,
            source="no weights",
        ),
    }


def sensor_specs() -> tuple[SensorSpec, ...]:
    """The sensors of the nuScenes car, with their mounts, and given objects."""
    cameras = (
        SensorSpec(
            name=mount.channel.lower(),
            encoder="camera",
            mount=MountSpec(
                translation=mount.translation,
                rotation=mount.rotation,
                intrinsic=_rows(mount.intrinsic(_IMAGE_WIDTH)),
                image_size=(_IMAGE_WIDTH, _IMAGE_WIDTH * 9 // 16),
            ),
        )
        for mount in CAMERAS
    )
    lidar = MountSpec(translation=LIDAR.translation, rotation=LIDAR.rotation)
    return (
        *cameras,
        SensorSpec(name=LIDAR.channel.lower(), encoder="lidar", mount=lidar),
        SensorSpec(name=OBJECTS, encoder=OBJECTS),
    )


def _rows(matrix: NDArray[np.floating]) -> tuple[_Row, _Row, _Row]:
    first, second, third = ((float(a), float(b), float(c)) for a, b, c in matrix.round(4))
    return first, second, third


@dataclass(frozen=True)
class PackContent:
    """What goes into a pack.

    Attributes:
        name: of the pack.
        version: of the pack.
        description: one sentence.
        model_name: of the language model in the registry.
        model_config: of the language model.
        model_sha256: of its checkpoint.
        tokenizer_sha256: of its tokenizer.
        backbone_sha256: of the camera's ImageNet weights in the registry.
        encoders: weights of `camera` and `lidar`, as their trainings wrote them.
        connection: its shape.
        weights: of the connection.
        tail_blocks: depth used when none is asked for.
        questions: for demonstrations, with their allowed answers.
        calibration: how often it is right; None where nobody measured it.
        how_made: commands, seeds and figures, as Markdown.
    """

    name: str
    version: str
    description: str
    model_name: str
    model_config: LanguageModelConfig
    backbone_sha256: str
    encoders: Mapping[str, Weights]
    connection: ConnectionSpec
    weights: Mapping[str, NDArray[np.float32]]
    tail_blocks: int
    questions: Sequence[tuple[str, Sequence[str] | None]] = ()
    calibration: CalibrationTable | None = None
    model_sha256: str | None = None
    tokenizer_sha256: str | None = None
    how_made: str = field(default="", repr=False)


def write_pack(folder: Path, content: PackContent) -> PackManifest:
    """Write a pack; its manifest comes last, so that half a pack is none.

    Args:
        folder: to make; must not hold a pack.
        content: of the pack.

    Raises:
        ConfigError: there is a pack in the folder, or an encoder's weights are missing.
        PackError: the connection's weights do not fit.
    """
    if (folder / MANIFEST_NAME).exists():
        raise ConfigError(
            "there is a pack already", field=str(folder), remedy="name another folder, or remove it"
        )
    specs, sensors = encoder_specs(), sensor_specs()
    base = BaseModelSpec.of(
        content.model_name,
        content.model_config,
        sha256=content.model_sha256,
        tokenizer_sha256=content.tokenizer_sha256,
    )
    shapes = weight_shapes(
        content.connection,
        base,
        {name: (spec.tokens, spec.width) for name, spec in specs.items()},
        {sensor.name: sensor.encoder for sensor in sensors},
    )
    check_weights(content.weights, shapes, content.connection.file)
    folder.mkdir(parents=True, exist_ok=True)
    files = {BACKBONE: FileSpec(sha256=content.backbone_sha256, registry=BACKBONE)}
    for name, spec in specs.items():
        if not spec.file:
            continue
        if name not in content.encoders:
            raise ConfigError(
                f"there are no weights of the encoder '{name}'",
                field="encoders",
                remedy=f"train it: tailwire train encoders --modality {name} …",
            )
        files[spec.file] = _save(folder / spec.file, content.encoders[name])
    files[content.connection.file] = _save(folder / content.connection.file, content.weights)
    if content.calibration is not None:
        write_atomic(folder / CALIBRATION, content.calibration.to_json())
        files[CALIBRATION] = FileSpec(sha256=sha256_of(folder / CALIBRATION))
    if content.how_made:
        write_atomic(folder / HOW_MADE, content.how_made)
        files[HOW_MADE] = FileSpec(sha256=sha256_of(folder / HOW_MADE))
    manifest = PackManifest(
        format=1,
        name=content.name,
        version=content.version,
        description=content.description,
        trained=True,
        licences=(_LICENCE,),
        base_model=base,
        prompt=PROMPT,
        sensors=sensors,
        encoders=specs,
        connection=content.connection,
        tail_blocks=content.tail_blocks,
        files=files,
        questions=tuple(
            StandingQuestionSpec(text=text, answers=None if answers is None else tuple(answers))
            for text, answers in content.questions
        ),
        calibration=None if content.calibration is None else CALIBRATION,
    )
    text = yaml.safe_dump(
        manifest.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True
    )
    write_atomic(folder / MANIFEST_NAME, text)
    return manifest


def _save(path: Path, weights: Weights) -> FileSpec:
    arrays = {name: np.ascontiguousarray(array) for name, array in weights.items()}
    with open_atomic(path) as file:
        file.write(save(arrays))
    return FileSpec(sha256=sha256_of(path))
