"""Puts a runtime together: models from the registry, engines from the cache, a pack on top.

The one module that knows all rooms; builds what the cache lacks and says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import onnxruntime

from .export import recipes
from .export.encoder_builds import COST_FILE, build_encoder, encoder_recipe
from .runtime.backends.onnxruntime_cpu import OnnxRuntimeEngine
from .runtime.config import (
    CONDITIONED_STARTER_PACK,
    STARTER_PACK,
    RuntimeConfig,
    pack_folder,
)
from .runtime.connections import Connection, ConnectionSpec
from .runtime.encoders import CameraInput, Encoder, EncoderSpec, ObjectsInput
from .runtime.engine import Engine, EngineLoader
from .runtime.engine_key import EngineKey, machine_identity
from .runtime.engine_store import EngineStore
from .runtime.errors import ConfigError, EngineError, ModelError, PackError
from .runtime.files import cache_dir, inside, sha256_of
from .runtime.language_model import LanguageModel
from .runtime.model_config import LanguageModelConfig, Precision
from .runtime.model_registry import ModelRegistry
from .runtime.pack import Pack, check_base_model, load_pack
from .runtime.parts import RuntimeParts
from .runtime.perception import Perception
from .runtime.reloadable_engine import ReloadableEngine
from .runtime.runtime import Runtime
from .runtime.scheduler import FixedPolicy

if TYPE_CHECKING:
    from .runtime.adaptation.tail_weights import TailWeights

# The builders of `export/` are imported where they build: a robot with a warm cache never loads
# them, nor `onnx` and `gguf` behind them.
Progress = Callable[[str], None]

_BACKENDS: Mapping[str, tuple[EngineLoader, str]] = {
    "onnxruntime-cpu": (OnnxRuntimeEngine, f"onnxruntime {onnxruntime.__version__}"),
}
_BACKBONE = "efficientnet-lite0"
_FEATURES_FILE = "features.onnx"


def open_runtime(config: RuntimeConfig | None = None, progress: Progress | None = None) -> Runtime:
    """Load everything that `config` names, building engines that the cache lacks.

    Args:
        config: what to load; None for the defaults.
        progress: told in a sentence what is being fetched or built.

    Raises:
        TailwireError: something is missing or does not fit; nothing stays half loaded.
    """
    return Assembly(config or RuntimeConfig(), progress or (lambda _: None)).runtime()


def load_language_model(
    model: str,
    precision: Precision,
    *,
    threads: int,
    depths: tuple[int, ...] = (),
    progress: Progress | None = None,
) -> LanguageModel:
    """Load a language model alone, building its engines if the cache lacks them.

    Args:
        model: name in the registry, a GGUF file or a Hugging Face folder.
        precision: of the block matrices.
        threads: of one engine run.
        depths: tail depths that must start a group, beside the default ones.
        progress: told what is being fetched or built.
    """
    config = RuntimeConfig(model=model, precision=precision, threads=threads)
    return Assembly(config, progress or (lambda _: None)).language_model(depths)


def load_trained_encoders(
    specs: Mapping[str, EncoderSpec],
    folder: Path,
    *,
    threads: int,
    progress: Progress | None = None,
) -> tuple[dict[str, Encoder], str]:
    """The encoders as they will run, from weights that no pack holds yet.

    Args:
        specs: by name; `backbone` names an entry of the registry.
        folder: holds the `file` of each spec.
        threads: of one engine run.
        progress: told what is being fetched or built.

    Returns:
        Encoders by name, and what tells their weights apart from others.

    Raises:
        ModelError: weights are missing.
        PackError: weights are of another shape.
    """
    assembly = Assembly(RuntimeConfig(threads=threads), progress or (lambda _: None))
    return assembly.trained_encoders(specs, folder)


def load_camera_features(
    spec: CameraInput, *, threads: int, progress: Progress | None = None
) -> tuple[Engine, str]:
    """The camera backbone alone, see `export.efficientnet_lite.build_camera_features`.

    Args:
        spec: size of the picture.
        threads: of one engine run.
        progress: told what is being fetched or built.

    Returns:
        The engine, and what tells its features apart from others.
    """
    assembly = Assembly(RuntimeConfig(threads=threads), progress or (lambda _: None))
    return assembly.camera_features(spec)


def model_path(model: str) -> Path:
    """Where the checkpoint of a language model lies; fetched if the registry knows it.

    Raises:
        ModelError: there is none.
    """
    registry = ModelRegistry()
    known = {entry.name for entry in registry.entries()}
    return registry.get(model) if model in known else registry.path(model)


class Assembly:
    """One loading of a runtime."""

    def __init__(self, config: RuntimeConfig, progress: Progress) -> None:
        if config.backend not in _BACKENDS:
            raise ConfigError(
                f"there is no back end '{config.backend}'",
                field="backend",
                remedy=f"use one of {', '.join(_BACKENDS)}",
            )
        self._config = config
        self._progress = progress
        self._loader, self._library = _BACKENDS[config.backend]
        self._opened: list[Engine] = []
        self._registry = ModelRegistry()
        self._store = EngineStore(cache_dir() / "engines")
        self._machine = machine_identity()

    def runtime(self) -> Runtime:
        """Load all parts; see `open_runtime`."""
        config = self._config
        with self._all_or_nothing():
            made_here = config.pack in (STARTER_PACK, CONDITIONED_STARTER_PACK)
            pack = None if made_here else load_pack(pack_folder(config.pack))
            depths: tuple[int, ...] = ()
            if pack is not None:
                # Adaptation goes through the tail that serves, so its first block starts a group.
                depths = (pack.manifest.connection.tail_blocks, pack.manifest.tail_blocks)
            model = self.language_model(depths)
            if pack is None:
                pack = self.starter_pack(model, _starter_connection(config.pack, model.config))
            check_base_model(pack.manifest, model.config, model.manifest.name)
            encoders: dict[str, Encoder] = {}
            flops: dict[str, int] = {}
            for name, spec in pack.manifest.encoders.items():
                encoders[name], flops[name] = self._encoder(pack, spec)
            parts = RuntimeParts(
                model=model,
                pack=pack.manifest,
                perception=Perception(
                    encoders,
                    pack.manifest.sensor_encoders,
                    config.threads,
                    pack.manifest.mounts,
                ),
                connection=self._connection(pack, model.config),
                policy=FixedPolicy(),
                encoder_flops=flops,
                tail_weights=self._tail_reader(),
                pack_folder=pack.folder,
            )
            return Runtime(
                parts,
                tail_blocks=config.tail_blocks,
                sensors=config.sensors,
                max_age_ms=config.max_age_ms,
                budget=config.budget,
            )

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
        return engine

    def language_model(self, depths: tuple[int, ...]) -> LanguageModel:
        """The language model, from the cache or built now."""
        config = self._config
        path = self._model_path(config.model)
        content = self._registry.sha256(config.model)
        folder = self._language_model_folder(path, content, depths)
        with self._all_or_nothing():
            return LanguageModel(folder, self._load, threads=config.threads)

    def _model_path(self, name: str) -> Path:
        known = {entry.name: entry for entry in self._registry.entries()}
        if name in known and known[name].state == "missing":
            self._progress(f"fetching {name}")
            return self._registry.get(name, progress=self._progress)
        return self._registry.path(name)

    def _tail_reader(self) -> Callable[[int], TailWeights]:
        """Reads the last blocks of the checkpoint; nothing is opened before it is called."""
        path = self._model_path(self._config.model)

        def read(tail_blocks: int) -> TailWeights:
            from .export.checkpoint import open_checkpoint
            from .export.tail_weights import tail_weights

            return tail_weights(open_checkpoint(path), tail_blocks)

        return read

    def _language_model_folder(self, path: Path, content: str, depths: tuple[int, ...]) -> Path:
        config = self._config
        wanted = tuple(sorted({*recipes.DEFAULT_DEPTHS, *depths}))

        def build(folder: Path) -> None:
            from .export.checkpoint import open_checkpoint
            from .export.llm_graphs import build_language_model

            build_language_model(
                open_checkpoint(path),
                folder,
                name=config.model,
                content_hash=content,
                precision=config.precision,
                depths=wanted,
                progress=lambda what, done, total: self._progress(
                    f"building {config.model} {config.precision}: {what} ({done}/{total})"
                ),
            )

        recipe = f"{recipes.LANGUAGE_MODEL}-depths-{'-'.join(map(str, wanted))}"
        return self._store.get(
            self._key(content, recipe, config.precision), build, progress=self._progress
        )

    def _key(self, content: str, recipe: str, precision: str) -> EngineKey:
        return EngineKey(
            source_sha256=content,
            recipe=recipe,
            precision=precision,
            library=self._library,
            machine=self._machine,
        )

    def starter_pack(self, model: LanguageModel, spec: ConnectionSpec | None = None) -> Pack:
        """The untrained pack that fits `model`, made once and kept in the cache."""
        self._model_path("efficientnet-lite0")
        camera = self._registry.sha256("efficientnet-lite0")
        template = model.manifest.chat_template
        chat = template is not None and "<|im_start|>" in template

        def build(folder: Path) -> None:
            from .export.starter_pack import make_starter_pack

            make_starter_pack(
                folder,
                model_name=model.manifest.name,
                model_config=model.config,
                chat=chat,
                camera_sha256=camera,
                connection=spec,
            )

        shape = "default" if spec is None else spec.model_dump_json()
        key = EngineKey(
            source_sha256=model.manifest.content_hash,
            recipe=f"{recipes.STARTER_PACK} {camera[:12]} {shape}",
            precision="fp32",
            library="none",
            machine="any",
        )
        return load_pack(self._store.get(key, build, progress=self._progress))

    def _encoder(self, pack: Pack, spec: EncoderSpec) -> tuple[Encoder, int]:
        if isinstance(spec.input, ObjectsInput):
            return Encoder(spec, None), 0
        # In the order of `EncoderSpec.files`: the weights, then those of the backbone.
        files = [self._pack_file(pack, name) for name in spec.files]
        hashes = [pack.manifest.files[name].sha256 for name in spec.files]
        return self._encoder_of(spec, files, hashes)

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
        engine = ReloadableEngine(lambda: self._loader(path, threads=threads), spec.label)
        self._opened.append(engine)
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
                if isinstance(spec.input, ObjectsInput):
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

    def _pack_file(self, pack: Pack, name: str) -> Path:
        """Where a file of the pack lies; one from the registry is fetched and its hash compared."""
        file = pack.manifest.files[name]
        if file.registry is None:
            return inside(pack.folder, name, error=PackError)
        path = self._model_path(file.registry)
        found = self._registry.sha256(file.registry)
        if found != file.sha256:
            raise PackError(
                f"sha256 of '{file.registry}' is {found}, the pack asks for {file.sha256}",
                field=f"{pack.label}: files.{name}",
                remedy="use the registry entry that the pack was made with",
            )
        return path

    def _connection(self, pack: Pack, config: LanguageModelConfig) -> Connection:
        spec = pack.manifest.connection
        shape = spec.kind if spec.kind == "plain" else spec.model_dump_json()
        sizes = f"{config.hidden_size} {config.num_kv_heads} {config.head_dim}"
        key = self._key("weights are inputs", f"{recipes.CONNECTION} {shape} {sizes}", "fp32")

        def build(target: Path) -> None:
            from .export.connection_graphs import build_connection

            build_connection(spec, config, target / "connection.onnx")

        folder = self._store.get(key, build)
        engine = self._load(folder / "connection.onnx", threads=self._config.threads)
        return Connection(spec, config, engine, pack.connection_weights)


def _starter_connection(pack: str, config: LanguageModelConfig) -> ConnectionSpec | None:
    if pack == STARTER_PACK:
        return None
    return ConnectionSpec(kind="conditioned", tail_blocks=min(10, config.num_blocks))
