"""Puts a runtime together from a folder that `tailwire export` wrote, on a back end of choice."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from .engine_assembly import DEFAULT_BACKEND, FoldedChange, Progress
from .export.parity_engines import EngineContestant
from .export.portable.manifest import (
    LANGUAGE_MODEL_FOLDER,
    ExportManifest,
    pack_identity,
    read_export,
)
from .export.portable.self_check import check_engine
from .exporting import ExportAssembly
from .runtime.backends.onnxruntime_cpu import OnnxRuntimeEngine
from .runtime.backends.onnxruntime_gpu import (
    CUDA,
    TENSORRT,
    check_provider,
    load_cuda,
    load_tensorrt_provider,
)
from .runtime.backends.portable import PortableEngine, load_portable
from .runtime.backends.with_spare import EngineWithSpare, Spares
from .runtime.config import RuntimeConfig
from .runtime.connections import Connection
from .runtime.encoder_specs import EncoderSpec
from .runtime.encoders import Encoder
from .runtime.engine import Engine, EngineLoader
from .runtime.errors import ConfigError, EngineError
from .runtime.language_model import LanguageModel
from .runtime.model_config import LanguageModelConfig, Precision
from .runtime.model_manifest import read_manifest as read_model
from .runtime.pack import Pack
from .runtime.runtime import Runtime
from .tensorrt_store import TensorRtLoader


def _fused(path: Path, *, threads: int) -> Engine:
    return PortableEngine(OnnxRuntimeEngine(path, threads=threads))


def _native(export: Path, progress: Progress) -> EngineLoader:
    loader = TensorRtLoader(export, progress)
    # What is missing altogether is an error of the configuration, not of one graph.
    _ = loader.context
    return WithCpu(loader, progress)


def _provider(name: str, loader: EngineLoader) -> Callable[[Path, Progress], EngineLoader]:
    def make(export: Path, progress: Progress) -> EngineLoader:
        check_provider(name)
        return WithCpu(loader, progress)

    return make


#: By name, what makes the loader of an export's graphs. `onnx-portable` runs operators one by one.
LOADERS: Mapping[str, Callable[[Path, Progress], EngineLoader]] = {
    "onnx-portable": lambda export, progress: load_portable,
    "onnxruntime-portable": lambda export, progress: _fused,
    "onnxruntime-cuda": _provider(CUDA, load_cuda),
    "onnxruntime-tensorrt": _provider(TENSORRT, load_tensorrt_provider),
    "tensorrt": _native,
}


class WithCpu:
    """A loader that takes ONNX Runtime on the CPU for a graph that a device cannot take.

    That is known when the engine is opened, or later, when a run finds the device's memory used up.
    """

    def __init__(self, loader: EngineLoader, progress: Progress, label: str = "") -> None:
        self._loader, self._progress, self._label = loader, progress, label
        #: What runs on the CPU, and why.
        self.spares = Spares(progress)

    def beside(self, export: Path) -> WithCpu:
        """A loader of another export on the same device, whose engines take turns with these."""
        loader = self._loader
        if isinstance(loader, TensorRtLoader):
            loader = TensorRtLoader(export, self._progress, context=loader.context)
        found = WithCpu(loader, self._progress, f"{export.name}/")
        found.spares = self.spares
        return found

    def __call__(self, path: Path, *, threads: int) -> Engine:
        """The engine of a graph; what goes to the CPU is said."""
        spare, name = partial(_fused, path, threads=threads), f"{self._label}{path.name}"
        try:
            engine = self._loader(path, threads=threads)
        except EngineError as error:
            engine = spare()
            self.spares.note(name, error)
            return engine
        return EngineWithSpare(engine, spare, name, self.spares)


def loader_of(backend: str, export: Path, progress: Progress) -> EngineLoader:
    """What opens the graphs of an export.

    Raises:
        ConfigError: there is no such back end.
        EngineError: this machine lacks what it needs.
    """
    if backend not in LOADERS:
        raise ConfigError(
            f"there is no back end '{backend}'",
            field="backend",
            remedy=f"use one of {', '.join((DEFAULT_BACKEND, *LOADERS))}",
        )
    return LOADERS[backend](export, progress)


def open_exported(config: RuntimeConfig, progress: Progress) -> Runtime:
    """A runtime on the graphs of `config.engines`.

    Raises:
        ConfigError: the back end is unknown, or no export is named.
        EngineError: the export is of another pack, or this machine cannot run it.
    """
    if config.backend in LOADERS and config.engines is None:
        raise ConfigError(
            f"the back end {config.backend} runs exported graphs, and none are named",
            field="engines",
            remedy="name a folder that `tailwire export` wrote",
        )
    folder = Path(config.engines or "")
    loader = loader_of(config.backend, folder, progress)
    assembly = ExportedAssembly(config, folder, loader, progress)
    sources = assembly.sources()
    assembly.check_pack(sources.pack, sources.checkpoint_sha256)
    for precision, name in config.tail_engines.items():
        further = Path(name)
        beside = loader.beside(further) if isinstance(loader, WithCpu) else loader
        tail = ExportedAssembly(config, further, beside, progress)
        tail.check_pack(sources.pack, sources.checkpoint_sha256)
        assembly.take_tail(precision, tail)
    return assembly.runtime()


class PackAssembly(ExportAssembly):
    """Opens the engines of a pack from the cache."""

    def contestant(self, name: str, pack: Pack, tail_blocks: int) -> EngineContestant:
        """All engines of the pack."""
        manifest = pack.manifest
        with self._all_or_nothing():
            depths = (tail_blocks, manifest.connection.tail_blocks)
            model = self.language_model(depths, FoldedChange.of(pack))
            encoders = {
                encoder: self._encoder(pack, spec)[0] for encoder, spec in manifest.encoders.items()
            }
            connection = self.connection(pack, model.config)
        self.model, self.encoders = model, encoders
        return EngineContestant(
            name, model, encoders, connection, manifest.sensor_encoders, tail_blocks
        )

    def close(self) -> None:
        """Free all engines."""
        for engine in self._opened:
            engine.close()


class ExportedAssembly(PackAssembly):
    """Opens the engines of a pack from a folder that `tailwire export` wrote."""

    def __init__(
        self, config: RuntimeConfig, folder: Path, loader: EngineLoader, progress: Progress
    ) -> None:
        # That of the tuned engines, which nothing of an export needs.
        super().__init__(config.model_copy(update={"backend": DEFAULT_BACKEND}), progress)
        self._folder = folder
        if isinstance(loader, WithCpu):
            self.spares = loader.spares
        self._loader = self._checked(loader)
        self.manifest: ExportManifest = read_export(folder)
        self.variant_target = self.manifest.target
        self._tails: dict[Precision, ExportedAssembly] = {}

    def _checked(self, loader: EngineLoader) -> EngineLoader:
        """A loader whose engines must give what their graphs give."""

        def load(path: Path, *, threads: int) -> Engine:
            engine = loader(path, threads=threads)
            try:
                for graph in self.manifest.graphs:
                    if self._folder / graph.file == path:
                        check_engine(self._folder, graph, engine)
            except EngineError:
                engine.close()
                raise
            return engine

        return load

    def take_tail(self, precision: Precision, other: ExportedAssembly) -> None:
        """Have a policy choose the tail of another export of the same pack.

        Args:
            precision: what plans call it.
            other: not opened yet.

        Raises:
            ConfigError: the first export is called so itself, or its stages are cut elsewhere.
        """
        own, its = (read_model(one._folder / LANGUAGE_MODEL_FOLDER) for one in (self, other))
        field = f"tail_engines.{precision}"
        if precision == own.precision:
            raise ConfigError(
                f"{self._folder} is called {precision} in plans itself",
                field=field,
                remedy="call the other one by another precision",
            )
        cuts = [
            ([(g.start, g.stop) for g in one.groups], one.max_text_tokens) for one in (own, its)
        ]
        if cuts[0] != cuts[1]:
            raise ConfigError(
                f"{other._folder} has other depths or lengths than {self._folder}",
                field=field,
                remedy="export both with the same --depths and --question-tokens",
            )
        self._tails[precision] = other

    def _other_precisions(
        self, depths: tuple[int, ...], change: FoldedChange | None
    ) -> dict[Precision, LanguageModel]:
        found: dict[Precision, LanguageModel] = {}
        for precision, other in self._tails.items():
            found[precision] = other.language_model(depths, change)
            self._opened += other._opened
        return found

    def check_pack(self, pack: Pack, model_sha256: str) -> None:
        """Refuse an export of another pack or language model.

        Raises:
            EngineError: it is one.
        """
        found = (pack_identity(pack.manifest), model_sha256)
        if (self.manifest.pack_sha256, self.manifest.model_sha256) != found:
            raise EngineError(
                f"the graphs were exported from pack '{self.manifest.pack}' with "
                f"{self.manifest.model}, and not from what is here now",
                field=str(self._folder),
                remedy="export the pack again",
            )

    def language_model(
        self,
        depths: tuple[int, ...],
        change: FoldedChange | None = None,
        precision: Precision | None = None,
    ) -> LanguageModel:
        """The exported stages, of the precision that they were exported at."""
        folder = self._folder / LANGUAGE_MODEL_FOLDER
        with self._all_or_nothing():
            return LanguageModel(folder, self._load, threads=self._config.threads)

    def _encoder(self, pack: Pack, spec: EncoderSpec) -> tuple[Encoder, int]:
        if not spec.needs_engine:
            return Encoder(spec, None), 0
        name = next(n for n, one in pack.manifest.encoders.items() if one is spec)
        graph = self.manifest.graph(f"encoder {name}")
        try:
            cost = (self._folder / graph.file).with_suffix(".json").read_text(encoding="utf-8")
            flops = int(json.loads(cost)["flops"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EngineError(
                f"the cost of the encoder cannot be read: {error}",
                field=str(self._folder / graph.file),
                remedy="export the pack again",
            ) from error
        return Encoder(spec, self._open(f"encoder {name}")), flops

    def connection(self, pack: Pack, config: LanguageModelConfig) -> Connection:
        engine = self._open("connection")
        return Connection(pack.manifest.connection, config, engine, pack.connection_weights)

    def _open(self, role: str) -> Any:
        path = self._folder / self.manifest.graph(role).file
        return self._load(path, threads=self._config.threads)
