"""The packs that a composed one is made of, from their folders or as a composed pack keeps them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..runtime.calibration_table import CalibrationTable, read_calibration
from ..runtime.composition_specs import Method
from ..runtime.errors import ConfigError, PackError
from ..runtime.files import inside
from ..runtime.low_rank import LowRankChange, Place, join, read_change
from ..runtime.pack import MANIFEST_NAME, PackManifest, check_pack, read_manifest_file
from .weight_files import StoredWeights

Float = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Part:
    """A pack that is to be composed.

    Attributes:
        name: tells it apart from the other parts.
        manifest: its own.
        manifest_file: where that lies.
        files: by its own names, where its files lie; without those of the registry.
        weight: that was given to it in an earlier composition, None in a pack of its own.
        method: of that composition.
    """

    name: str
    manifest: PackManifest
    manifest_file: Path
    files: dict[str, Path]
    weight: float | None = None
    method: Method | None = None

    @property
    def label(self) -> str:
        return f"{self.manifest.name} {self.manifest.version}"

    def connection_weights(self) -> StoredWeights:
        """Of its connection; read when they are asked for."""
        return StoredWeights(self.files[self.manifest.connection.file])

    def text_change(self) -> LowRankChange | None:
        """What it changes in all projections of the language model, None for nothing."""
        if not self.manifest.text:
            return None
        return join([(one.weight, read_change(self.files[one.file])) for one in self.manifest.text])

    def calibration(self) -> CalibrationTable | None:
        """How often it is right, None where nobody measured it."""
        name = self.manifest.calibration
        return None if name is None else read_calibration(self.files[name])


def open_parts(folders: Sequence[Path], names: Sequence[str] | None) -> list[Part]:
    """Read and check packs; a composed one is taken apart into its parts.

    Args:
        folders: of packs.
        names: of the parts, one a folder; None takes those of the packs.

    Raises:
        ConfigError: names do not fit the folders, or two parts have one name.
        PackError: a pack is broken.
    """
    if names is not None and len(names) != len(folders):
        raise ConfigError(
            f"{len(names)} names for {len(folders)} packs",
            field="--names",
            remedy="give one name a pack",
        )
    parts: list[Part] = []
    for index, folder in enumerate(folders):
        manifest = check_pack(folder, StoredWeights)
        if manifest.composition is not None:
            parts += parts_of(folder, manifest)
            continue
        files = {
            name: inside(folder, name, error=PackError)
            for name, spec in manifest.files.items()
            if spec.registry is None
        }
        name = part_name(manifest.name) if names is None else names[index]
        if names is not None and part_name(name) != name:
            raise ConfigError(
                f"'{name}' is no name of a part",
                field="--names",
                remedy="use letters, digits, _ and -",
            )
        parts.append(Part(name, manifest, folder / MANIFEST_NAME, files))
    known: dict[str, Part] = {}
    for part in parts:
        if part.name in known:
            raise ConfigError(
                f"two packs are called '{part.name}' ({known[part.name].label} and {part.label})",
                field="--names",
                remedy="tell them apart: --names first,second",
            )
        known[part.name] = part
    return parts


def parts_of(folder: Path, manifest: PackManifest) -> list[Part]:
    """The parts of a composed pack, with what they had before.

    Raises:
        PackError: it is not composed, or what it keeps of a part is broken.
    """
    if manifest.composition is None:
        raise PackError(
            "this pack was not composed", field=str(folder), remedy="name a composed pack"
        )
    parts: list[Part] = []
    for spec in manifest.composition.parts:
        path = inside(folder, spec.manifest, error=PackError)
        files = {own: inside(folder, here, error=PackError) for own, here in spec.files.items()}
        own = read_manifest_file(path)
        method = manifest.composition.method
        parts.append(Part(spec.name, own, path, files, spec.weight, method))
    return parts


def part_name(name: str) -> str:
    """The name of a pack as that of a part: what files and manifests take."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "pack"


def lora_change(part: Part, weights: Mapping[str, Float]) -> LowRankChange:
    """The LoRA of a part's connection as a change of the language model's blocks."""
    spec, base = part.manifest.connection, part.manifest.base_model
    first = base.num_blocks - spec.tail_blocks
    factors: dict[Place, tuple[Float, Float]] = {}
    if spec.lora_rank:
        counted = spec.lora_weights
        for at in range(spec.tail_blocks):
            for side in ("key", "value"):
                a, b = weights[f"lora.{at}.{side}.a"], weights[f"lora.{at}.{side}.b"]
                factors[first + at, side] = (a, b if counted is None else b * counted[:, None])
    return LowRankChange(factors)
