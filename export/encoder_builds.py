"""Which builder makes the engine of which encoder; the builders are imported where they build."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from ..runtime.encoders import BevInput, CameraInput, EncoderSpec, LidarInput
from ..runtime.errors import PackError
from ..runtime.pack import read_encoder_weights, read_weights
from . import recipes

#: Holds the operations of a frame, beside the engine.
COST_FILE = "cost.json"


def encoder_recipe(spec: EncoderSpec, backbones: Sequence[str] = ()) -> str:
    """All that shapes the graph beside the weights of `spec.file`: a key of the engine cache."""
    shape = "x".join(map(str, spec.input.shape))
    recipe = f"{spec.kind}-{recipes.ENCODERS}-{shape}-{spec.engine_tokens}"
    if isinstance(spec.input, BevInput):
        recipe += f"-{spec.input.range_m}m-{spec.input.cell_m}m"
    return " ".join([recipe, *backbones])


def build_encoder(
    spec: EncoderSpec, files: Sequence[Path], folder: Path, progress: Callable[[str], None]
) -> None:
    """Build the engine of an encoder, and the file of its cost.

    Args:
        spec: of the encoder.
        files: weights, in the order of `EncoderSpec.files`.
        folder: for both.
        progress: told what is being built.

    Raises:
        PackError: there is no builder of this kind, or weights are of another shape.
    """
    from .detectors import build_bev_detector, build_camera_detector
    from .efficientnet_lite import build_camera_encoder
    from .range_encoder import build_lidar_encoder
    from .torch_checkpoint import read_state_dict

    progress(f"building the {spec.modality} encoder")
    target = folder / "encoder.onnx"
    weights, given = files[0], spec.input
    if spec.kind == "efficientnet_lite0" and isinstance(given, CameraInput):
        macs = build_camera_encoder(
            read_state_dict(weights), target, given.height, given.width, spec.engine_tokens
        )
    elif spec.kind == "range_encoder" and isinstance(given, LidarInput):
        macs = build_lidar_encoder(read_weights(weights), target, given.height, given.width)
    elif spec.kind == "camera_detector" and isinstance(given, CameraInput):
        macs = build_camera_detector(
            read_state_dict(files[1]),
            read_encoder_weights(weights),
            target,
            given.height,
            given.width,
            spec.engine_tokens,
        )
    elif spec.kind == "bev_detector" and isinstance(given, BevInput):
        macs = build_bev_detector(
            read_encoder_weights(weights),
            target,
            given.shape[-1],
            given.range_m,
            given.cell_m,
            spec.engine_tokens,
        )
    else:
        raise PackError(
            f"there is no builder for encoders of kind '{spec.kind}'",
            field=f"encoders.{spec.modality}.kind",
            remedy="use efficientnet_lite0, range_encoder, camera_detector or bev_detector",
        )
    (folder / COST_FILE).write_text(json.dumps({"flops": 2 * macs}), encoding="utf-8")
