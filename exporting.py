"""Exports packs as portable graphs: finds their parts and the frames to calibrate with.

What is written is in `export/portable/`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .assembly import Assembly, _starter_connection
from .engine_assembly import Progress
from .export.portable.exporter import ExportOptions, PackSources, export_pack
from .export.portable.manifest import ExportManifest
from .runtime.backends.tapped import TappedEngine
from .runtime.config import CONDITIONED_STARTER_PACK, STARTER_PACK, RuntimeConfig, pack_folder
from .runtime.encoders import Encoder
from .runtime.engine import Engine
from .runtime.errors import ConfigError
from .runtime.frame_clock import StageClock
from .runtime.frames import SensorFrame
from .runtime.pack import Pack, check_base_model, load_pack
from .runtime.perception import Perception

if TYPE_CHECKING:
    from .export.portable.eight_bits import Arrays

#: Frames of one moment, one of each sensor.
Moments = Callable[[], Iterable[Mapping[str, SensorFrame]]]


def export(
    config: RuntimeConfig,
    out: Path,
    options: ExportOptions,
    *,
    moments: Moments | None = None,
    progress: Progress | None = None,
) -> ExportManifest:
    """Write the pack and the language model of a configuration as portable graphs.

    Args:
        config: names pack and model; its precision and back end are not read.
        out: the folder to make.
        options: what to write.
        moments: of drives, for the calibration of 8-bit encoders.
        progress: told in a sentence what is being built.

    Raises:
        TailwireError: something is missing or does not fit; `out` is then not made.
    """
    assembly = ExportAssembly(config, progress or (lambda _: None))
    sources = assembly.sources()
    recorded: dict[str, list[Arrays]] | None = None
    if options.precisions.encoders == "int8" and moments is not None:
        recorded = assembly.encoder_inputs(sources.pack, moments())
    return export_pack(
        sources,
        out,
        options,
        frames=None if recorded is None else lambda name: recorded.get(name, ()),
        progress=progress,
    )


class ExportAssembly(Assembly):
    """Finds the parts of a pack where a runtime finds them."""

    def sources(self) -> PackSources:
        """Where everything of the configured pack lies; fetched and made if need be."""
        config = self._config
        path = self._model_path(config.model)
        if config.pack in (STARTER_PACK, CONDITIONED_STARTER_PACK):
            with self._all_or_nothing():
                model = self.language_model(())
                pack = self.starter_pack(model, _starter_connection(config.pack, model.config))
                model.close()
        else:
            from .export.checkpoint import open_checkpoint

            pack = load_pack(pack_folder(config.pack))
            check_base_model(pack.manifest, open_checkpoint(path).config, config.model)
        return PackSources(
            pack=pack,
            model=config.model,
            checkpoint=path,
            checkpoint_sha256=self._registry.sha256(config.model),
            encoder_files={
                name: [self._pack_file(pack, file) for file in spec.files]
                for name, spec in pack.manifest.encoders.items()
                if spec.needs_engine
            },
        )

    def encoder_inputs(
        self, pack: Pack, moments: Iterable[Mapping[str, SensorFrame]]
    ) -> dict[str, list[Arrays]]:
        """What goes into the engines of encoders at some moments, by encoder, frame by frame.

        Raises:
            ConfigError: no frame of any sensor of the pack could be used.
        """
        load = self._loader
        taps: dict[Path, TappedEngine] = {}

        def tapped(path: Path, *, threads: int) -> Engine:
            taps[path] = TappedEngine(load(path, threads=threads))
            return taps[path]

        self._loader = tapped
        encoders: dict[str, Encoder] = {}
        by_name: dict[str, TappedEngine] = {}
        with self._all_or_nothing():
            for name, spec in pack.manifest.encoders.items():
                before = len(taps)
                encoders[name], _ = self._encoder(pack, spec)
                if len(taps) > before:
                    by_name[name] = taps[next(reversed(taps))]
        of = pack.manifest.sensor_encoders
        perception = Perception(encoders, of, self._config.threads, pack.manifest.mounts)
        try:
            for frames in moments:
                known = [frame for frame in frames.values() if frame.sensor in of]
                perception.encode(known, StageClock())
        finally:
            perception.close()
            self._loader = load
        recorded = {name: _single_frames(tap) for name, tap in by_name.items()}
        if not any(recorded.values()):
            raise ConfigError(
                "the drive has no usable frame of a sensor of this pack",
                field="--calibrate",
                remedy=f"name one with some of {', '.join(of)}",
            )
        return recorded


def _single_frames(tap: TappedEngine) -> list[Arrays]:
    """The batches that went through an encoder, cut into frames."""
    frames: list[Arrays] = []
    for run in tap.runs:
        count = len(next(iter(run.inputs.values())))
        frames += [
            {name: np.asarray(array[i : i + 1]) for name, array in run.inputs.items()}
            for i in range(count)
        ]
    return frames
