"""Exports of one tiny pack, for tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tailwire.export.portable.exporter import ExportOptions
from tailwire.export.portable.precisions import read_precisions
from tailwire.export.portable.profiles import SizeLimits
from tailwire.exporting import export
from tailwire.runtime.config import RuntimeConfig
from tailwire.runtime.connections import ConnectionSpec
from tailwire.runtime.frames import SensorFrame

from .detector_packs import calm_head, frames, write_detector_pack

if TYPE_CHECKING:
    from .built_models import TinyModels

LIMITS = SizeLimits(questions=3, question_tokens=40, usual_questions=2, usual_tokens=8)


class Exports:
    """Exports of one tiny pack, each made when it is asked for."""

    def __init__(self, tiny: TinyModels, root: Path, kind: str) -> None:
        self.root = root
        spec = ConnectionSpec(
            kind=kind,  # pyright: ignore[reportArgumentType]
            tail_blocks=3,
            hidden=8,
            width=8,
            layers=1,
            heads=2,
        )
        config = tiny.model("llama").config
        write_detector_pack(root / "pack", config, spec, make_head=calm_head)
        self.config = RuntimeConfig(
            model=str(tiny.folder("llama")), pack=str(root / "pack"), threads=1
        )

    def get(self, precision: str, target: str = "onnx", rank: int | None = None) -> Path:
        folder = self.root / f"{precision}-{target}-{rank}".replace("=", "-").replace(",", "-")
        if not folder.exists():
            options = ExportOptions(
                target=target,  # pyright: ignore[reportArgumentType]
                precisions=read_precisions(precision),
                limits=LIMITS,
                lora_rank=rank,
                threads=1,
            )
            export(self.config, folder, options, moments=moments)
        return folder


def moments() -> Iterator[Mapping[str, SensorFrame]]:
    for seed in range(3):
        yield {frame.sensor: frame for frame in frames(seed)}
