"""Loads engines from the cache, building those that it lacks: language models and encoders.

What of them makes a runtime is in `assembly.py`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnxruntime

from .export import recipes
from .export.encoder_builds import COST_FILE, build_encoder, encoder_recipe
from .runtime.backends.onnxruntime_cpu import OnnxRuntimeEngine
from .runtime.backends.with_spare import Spares
from .runtime.config import RuntimeConfig
from .runtime.encoders import CameraInput, Encoder, EncoderSpec
from .runtime.engine import Engine, EngineLoader
from .runtime.engine_key import EngineKey, machine_identity
from .runtime.engine_store import EngineStore
from .runtime.errors import ConfigError, EngineError, ModelError
from .runtime.files import cache_dir, inside, sha256_of
from .runtime.language_model import LanguageModel
from .runtime.low_rank import LowRankChange
from .runtime.model_config import Precision
from .runtime.model_registry import ModelRegistry
from .runtime.pack import Pack
from .runtime.reloadable_engine import ReloadableEngine

if TYPE_CHECKING:
    from .export.checkpoint import Checkpoint

# The builders of `export/` are imported where they build: a robot with a warm cache never loads
# them, nor `onnx` and `gguf` behind them.
Progress = Callable[[str], None]

#: Runs engines that are tuned for it, from the cache; the others run exported graphs, see
#: `exported_assembly.py`.
DEFAULT_BACKEND = "onnxruntime-cpu"

_BACKENDS: Mapping[str, tuple[EngineLoader, str]] = {
    DEFAULT_BACKEND: (OnnxRuntimeEngine, f"onnxruntime {onnxruntime.__version__}"),
}
_BACKBONE = "efficientnet-lite0"
_FEATURES_FILE = "features.onnx"


@dataclass(frozen=True)
class FoldedChange:
    """A pack's change of the language model, to be folded into the weights of its engines.

    Attributes:
        label: tells it apart from others.
        field: named in errors.
        read: reads it; asked only where engines are built.
    """

    label: str
    field: str
    read: Callable[[], LowRankChange | None]

    @classmethod
    def of(cls, pack: Pack) -> FoldedChange | None:
        """That of a pack, None for one that changes nothing."""
        if not pack.text_label:
            return None
        return cls(pack.text_label, f"{pack.label}: text", pack.text_change)


def opened_checkpoint(path: Path, change: FoldedChange | None) -> Checkpoint:
    """A checkpoint with the change of a pack, if there is one."""
    from .export.checkpoint import open_checkpoint
    from .export.folded_checkpoint import FoldedCheckpoint

    checkpoint, low_rank = open_checkpoint(path), None if change is None else change.read()
    if change is None or low_rank is None:
        return checkpoint
    return FoldedCheckpoint(checkpoint, low_rank, change.field)


class EngineAssembly:
    """One loading of engines."""

    def __init__(self, config: RuntimeConfig, progress: Progress) -> None:
        if config.backend not in _BACKENDS:
            raise ConfigError(
                f"there is no back end '{config.backend}'",
                field="backend",
                remedy=f"use one of {', '.join(_BACKENDS)}",
            )
        self._config = self.config = config
        self._progress = progress
        loader, self._library = _BACKENDS[config.backend]
        self._keeps_memory = config.budget.memory_bytes is None
        if loader is OnnxRuntimeEngine and not self._keeps_memory:
            # What a run needed is given back after it, so that the next engine can have it.
            loader = functools.partial(OnnxRuntimeEngine, keeps_memory=False)
        self._loader: EngineLoader = loader
        self._opened: list[Engine] = []
        #: Graphs of all engines, also of those that are loaded late; encoders as `encoder <label>`.
        self.graphs: dict[str, Path] = {}
        #: Graphs that run on the CPU because a device could not take them; see `with_spare.py`.
        self.spares = Spares(progress)
        self._registry = ModelRegistry()
        self._store = EngineStore(cache_dir() / "engines")
        self._machine = machine_identity()

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Close the engines that are loaded already where a later part fails."""
        try:
            yield
        except BaseException:
            for engine in self._opened:
                engine.close()
            raise

    def _load(self, path: Path, *, threads: int) -> Engine:
        engine = self._loader(path, threads=threads)
        self._opened.append(engine)
        self.graphs[path.stem] = path
        return engine

    def language_model(
        self,
        depths: tuple[int, ...],
        change: FoldedChange | None = None,
        precision: Precision | None = None,
    ) -> LanguageModel:
        """The language model, from the cache or built now.

        Args:
            depths: of tails that must start a group.
            change: to fold into its weights.
            precision: of its blocks, None for that of the configuration.
        """
        config = self._config
        path = self._model_path(config.model)
        content = self._registry.sha256(config.model)
        used = precision or config.precision
        folder = self._language_model_folder(path, content, depths, change, used)
        with self._all_or_nothing():
            model = LanguageModel(folder, self._load, threads=config.threads)
        names = [model.manifest.embed_file, *(group.file for group in model.manifest.groups)]
        self.graphs |= {Path(name).stem: folder / name for name in names}
        return model

    def _model_path(self, name: str) -> Path:
        known = {entry.name: entry for entry in self._registry.entries()}
        if name in known and known[name].state == "missing":
            self._progress(f"fetching {name}")
            return self._registry.get(name, progress=self._progress)
        return self._registry.path(name)

    def _language_model_folder(
        self,
        path: Path,
        content: str,
        depths: tuple[int, ...],
        change: FoldedChange | None,
        precision: Precision,
    ) -> Path:
        config = self._config
        wanted = tuple(sorted({*recipes.DEFAULT_DEPTHS, *depths}))

        def build(folder: Path) -> None:
            from .export.llm_graphs import build_language_model

            build_language_model(
                opened_checkpoint(path, change),
                folder,
                name=config.model,
                content_hash=content,
                precision=precision,
                depths=wanted,
                progress=lambda what, done, total: self._progress(
                    f"building {config.model} {precision}: {what} ({done}/{total})"
                ),
            )

        recipe = f"{recipes.LANGUAGE_MODEL}-depths-{'-'.join(map(str, wanted))}"
        if change is not None:
            recipe += f"-folded-{change.label}"
        return self._store.get(
            self._key(content, recipe, precision), build, progress=self._progress
        )

    def _key(self, content: str, recipe: str, precision: str) -> EngineKey:
        return EngineKey(
            source_sha256=content,
            recipe=recipe,
            precision=precision,
            library=self._library,
            machine=self._machine,
        )

    def _encoder_of(
        self, spec: EncoderSpec, files: Sequence[Path], hashes: Sequence[str]
    ) -> tuple[Encoder, int]:
        folder = self._store.get(
            self._key(hashes[0], encoder_recipe(spec, hashes[1:]), "fp32"),
            lambda target: build_encoder(spec, files, target, self._progress),
            progress=self._progress,
        )
        try:
            flops = int(json.loads((folder / COST_FILE).read_text())["flops"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EngineError(
                f"the cost file cannot be read: {error}",
                field=str(folder / COST_FILE),
                remedy="remove the folder, the engine is then built again",
            ) from error
        path, threads = folder / "encoder.onnx", self._config.threads
        engine = ReloadableEngine(
            lambda: self._loader(path, threads=threads),
            spec.label,
            keeps_memory=self._keeps_memory,
        )
        if not self._keeps_memory:
            # Now it is known what it holds; the frame that needs it decides what makes room for it.
            engine.unload()
        self._opened.append(engine)
        self.graphs[f"encoder {spec.label}"] = path
        return Encoder(spec, engine), flops

    def trained_encoders(
        self, specs: Mapping[str, EncoderSpec], folder: Path
    ) -> tuple[dict[str, Encoder], str]:
        """See `load_trained_encoders`."""
        encoders: dict[str, Encoder] = {}
        parts: list[str] = []
        with self._all_or_nothing():
            for name, spec in specs.items():
                parts.append(spec.model_dump_json())
                if not spec.needs_engine:
                    encoders[name] = Encoder(spec, None)
                    continue
                files = [inside(folder, spec.file, error=ModelError)]
                if not files[0].is_file():
                    raise ModelError(
                        f"there are no weights of the encoder '{name}'",
                        field=str(files[0]),
                        remedy=f"train it: tailwire train encoders --modality {name}",
                    )
                hashes = [sha256_of(files[0])]
                if spec.backbone is not None:
                    files.append(self._model_path(spec.backbone))
                    hashes.append(self._registry.sha256(spec.backbone))
                encoders[name], _ = self._encoder_of(spec, files, hashes)
                parts += hashes
        return encoders, " ".join(parts)

    def camera_features(self, spec: CameraInput) -> tuple[Engine, str]:
        """See `load_camera_features`."""
        path = self._model_path(_BACKBONE)
        content = self._registry.sha256(_BACKBONE)

        def build(target: Path) -> None:
            from .export.efficientnet_lite import build_camera_features
            from .export.torch_checkpoint import read_state_dict

            self._progress("building the camera backbone")
            build_camera_features(
                read_state_dict(path), target / _FEATURES_FILE, spec.height, spec.width
            )

        recipe = f"features-{recipes.ENCODERS}-{spec.height}x{spec.width}"
        key = self._key(content, recipe, "fp32")
        folder = self._store.get(key, build, progress=self._progress)
        with self._all_or_nothing():
            engine = self._load(folder / _FEATURES_FILE, threads=self._config.threads)
        return engine, f"{content} {recipe}"
