"""Packs of one modality each for tests of composition, and what is the same in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from safetensors.numpy import save_file

from tailwire.runtime.connections import ConnectionSpec
from tailwire.runtime.encoders import CameraInput, EncoderSpec, LidarInput
from tailwire.runtime.files import sha256_of
from tailwire.runtime.low_rank import PROJECTIONS, LowRankChange, Place, projection_shape
from tailwire.runtime.model_config import LanguageModelConfig

from .packs import write_small_pack

Float = NDArray[np.float32]
WIDTH = 8
TAIL = 3


def encoder(modality: str, file: str, tokens: int = 3) -> EncoderSpec:
    return EncoderSpec(
        modality="camera" if modality == "camera" else "lidar",
        kind="onnx",
        input=CameraInput(height=12, width=16) if modality == "camera" else LidarInput(),
        tokens=tokens,
        width=WIDTH,
        file=file,
        licence="Apache-2.0",
        source="tests",
    )


#: By pack: its encoders, and the sensors that have them.
PACKS: dict[str, tuple[dict[str, EncoderSpec], dict[str, str]]] = {
    "camera": (
        {"camera": encoder("camera", "camera.onnx")},
        {"cam_front": "camera", "cam_back": "camera"},
    ),
    "lidar": ({"lidar": encoder("lidar", "lidar.onnx", 2)}, {"lidar_top": "lidar"}),
    # Its encoder is called as that of the first pack.
    "rear": ({"camera": encoder("camera", "camera.onnx", 4)}, {"cam_rear": "camera"}),
}


def shape(**changes: Any) -> ConnectionSpec:
    sizes: dict[str, Any] = {"kind": "plain", "tail_blocks": TAIL, "hidden": 8, "lora_rank": 2}
    return ConnectionSpec(**{**sizes, "width": 8, "layers": 1, "heads": 2, **changes})


def random_change(
    config: LanguageModelConfig, blocks: tuple[int, ...], seed: int = 0, rank: int = 2
) -> LowRankChange:
    """Changes of all seven projections, about a third as large as they are."""
    rng = np.random.default_rng(seed)
    factors: dict[Place, tuple[Float, Float]] = {}
    for block in blocks:
        for name in PROJECTIONS:
            rows, columns = projection_shape(config, name)
            a = rng.normal(0, rows**-0.5, (rows, rank)).astype(np.float32)
            factors[block, name] = (a, rng.normal(0, 0.3, (rank, columns)).astype(np.float32))
    return LowRankChange(factors)


def write_part(
    folder: Path,
    config: LanguageModelConfig,
    name: str,
    spec: ConnectionSpec | None = None,
    *,
    seed: int = 0,
    text: LowRankChange | None = None,
    weights: Mapping[str, Float] | None = None,
) -> Path:
    """A pack of `PACKS` whose weights differ from those of the others."""
    folder.mkdir(parents=True)
    encoders, sensors = PACKS[name]
    for one in encoders.values():
        (folder / one.file).write_bytes(f"{name} {one.file}".encode())
    spec = spec or shape()
    write_small_pack(folder, config, spec, encoders, sensors, name=name, weights=weights)
    if weights is None:
        from tailwire.runtime.pack import read_weights

        rng = np.random.default_rng([seed, sorted(PACKS).index(name)])
        made = read_weights(folder / spec.file)
        made = {n: rng.normal(0, 0.3, a.shape).astype(np.float32) for n, a in made.items()}
        save_file(made, folder / spec.file)
    changes: dict[str, Any] = {}
    if text is not None:
        save_file(text.arrays(), folder / "text.safetensors")
        changes["text"] = [{"file": "text.safetensors"}]
    seal(folder, **changes)
    return folder


def seal(folder: Path, **changes: Any) -> None:
    """Change fields of the manifest, and note the hashes of all files that lie there."""
    path = folder / "pack.yaml"
    manifest = yaml.safe_load(path.read_text())
    for field, value in changes.items():
        where, *rest = field.split("__")
        target = manifest
        for step in rest:
            target, where = target[where], step
        target[where] = value
    manifest["files"] = {
        **{name: one for name, one in manifest["files"].items() if one.get("registry")},
        **{
            file.name: {"sha256": sha256_of(file)}
            for file in sorted(folder.iterdir())
            if file.name != "pack.yaml"
        },
    }
    path.write_text(yaml.safe_dump(manifest))


def content(folder: Path) -> dict[str, bytes]:
    """All files of a folder."""
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}
