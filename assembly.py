"""Puts a runtime together: models from the registry, engines from the cache, a pack on top.

With `engine_assembly.py` the one module that knows all rooms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .engine_assembly import (
    DEFAULT_BACKEND,
    EngineAssembly,
    FoldedChange,
    Progress,
    opened_checkpoint,
)
from .export import recipes
from .runtime.config import (
    CONDITIONED_STARTER_PACK,
    STARTER_PACK,
    RuntimeConfig,
    pack_folder,
)
from .runtime.connections import Connection, ConnectionSpec
from .runtime.encoders import CameraInput, Encoder, EncoderSpec
from .runtime.engine import Engine
from .runtime.engine_key import EngineKey
from .runtime.errors import ConfigError, PackError
from .runtime.files import inside
from .runtime.language_model import LanguageModel
from .runtime.measured_variants import VariantTarget
from .runtime.model_config import LanguageModelConfig, Precision
from .runtime.model_registry import ModelRegistry
from .runtime.pack import Pack, check_base_model, load_pack
from .runtime.parts import RuntimeParts
from .runtime.perception import Perception
from .runtime.runtime import Runtime
from .runtime.scheduler import FixedPolicy

if TYPE_CHECKING:
    from .runtime.adaptation.tail_weights import TailWeights
    from .runtime.scheduler import UtilityModel


def open_runtime(config: RuntimeConfig | None = None, progress: Progress | None = None) -> Runtime:
    """Load everything that `config` names, building engines that the cache lacks.

    Args:
        config: what to load; None for the defaults.
        progress: told in a sentence what is being fetched or built.

    Raises:
        TailwireError: something is missing or does not fit; nothing stays half loaded.
    """
    config, tell = config or RuntimeConfig(), progress or (lambda _: None)
    if config.backend != DEFAULT_BACKEND:
        if config.precisions:
            raise ConfigError(
                f"back end {config.backend} runs precisions that were exported",
                field="precisions",
                remedy="name further exports in tail_engines, or use the back end "
                + DEFAULT_BACKEND,
            )
        from .exported_assembly import open_exported

        return open_exported(config, tell)
    if config.tail_engines:
        raise ConfigError(
            f"back end {config.backend} runs no exports",
            field="tail_engines",
            remedy="name precisions instead, or another back end",
        )
    return Assembly(config, tell).runtime()


def load_language_model(
    model: str,
    precision: Precision,
    *,
    threads: int,
    depths: tuple[int, ...] = (),
    pack: Path | None = None,
    progress: Progress | None = None,
) -> LanguageModel:
    """Load a language model alone, building its engines if the cache lacks them.

    Args:
        model: name in the registry, a GGUF file or a Hugging Face folder.
        precision: of the block matrices.
        threads: of one engine run.
        depths: tail depths that must start a group, beside the default ones.
        pack: folder of a pack whose change of the model is folded in, None for the model itself.
        progress: told what is being fetched or built.
    """
    config = RuntimeConfig(model=model, precision=precision, threads=threads)
    change = None if pack is None else FoldedChange.of(load_pack(pack))
    return Assembly(config, progress or (lambda _: None)).language_model(depths, change)


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


def load_pack_encoders(
    pack: Pack, *, threads: int, progress: Progress | None = None
) -> tuple[dict[str, Encoder], dict[str, str]]:
    """The encoders of a pack that need an engine.

    Args:
        pack: loaded.
        threads: of one engine run.
        progress: told what is being fetched or built.

    Returns:
        By name the encoders, and what tells their weights apart from others.
    """
    assembly = Assembly(RuntimeConfig(threads=threads), progress or (lambda _: None))
    return assembly.pack_encoders(pack)


def load_connection(pack: Pack, model: LanguageModel, *, threads: int) -> Connection:
    """The connection of a pack, without its encoders.

    Args:
        pack: loaded.
        model: that it serves.
        threads: of one engine run.

    Raises:
        PackError: the pack was made for another model.
    """
    check_base_model(pack.manifest, model.config, model.manifest.name)
    assembly = Assembly(RuntimeConfig(threads=threads), lambda _: None)
    return assembly.connection(pack, model.config)


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


class Assembly(EngineAssembly):
    """One loading of a runtime."""

    #: What runs the engines, as measured variants tell them apart.
    variant_target: VariantTarget = "cpu"

    def runtime(self) -> Runtime:
        """Load all parts; see `open_runtime`."""
        config = self._config
        with self._all_or_nothing():
            made_here = config.pack in (STARTER_PACK, CONDITIONED_STARTER_PACK)
            pack = None if made_here else load_pack(pack_folder(config.pack))
            depths: tuple[int, ...] = ()
            change: FoldedChange | None = None
            if pack is not None:
                # Adaptation goes through the tail that serves, so its first block starts a group.
                depths = (pack.manifest.connection.tail_blocks, pack.manifest.tail_blocks)
                change = FoldedChange.of(pack)
            model = self.language_model(depths, change)
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
                connection=self.connection(pack, model.config),
                policy=FixedPolicy(),
                encoder_flops=flops,
                tail_weights=self._tail_reader(change),
                pack_folder=pack.folder,
                fit_utility=_utility_of(pack, self.variant_target),
                spares=self.spares,
                others=self._other_precisions(depths, change),
            )
            return Runtime(
                parts,
                tail_blocks=config.tail_blocks,
                sensors=config.sensors,
                max_age_ms=config.max_age_ms,
                policy=config.policy,
                budget=config.budget,
                depths=config.depths,
                measure=config.measure,
            )

    def _other_precisions(
        self, depths: tuple[int, ...], change: FoldedChange | None
    ) -> dict[Precision, LanguageModel]:
        """The language model at the further precisions that the configuration names."""
        found: dict[Precision, LanguageModel] = {}
        # The graphs of a card are those of the first precision.
        own = dict(self.graphs)
        for precision in dict.fromkeys(self._config.precisions):
            if precision != self._config.precision:
                found[precision] = self.language_model(depths, change, precision)
        self.graphs.update(own)
        return found

    def _tail_reader(self, change: FoldedChange | None) -> Callable[[int], TailWeights]:
        """Reads the last blocks of the checkpoint; nothing is opened before it is called."""
        path = self._model_path(self._config.model)

        def read(tail_blocks: int) -> TailWeights:
            from .export.tail_weights import tail_weights

            return tail_weights(opened_checkpoint(path, change), tail_blocks)

        return read

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
        if not spec.needs_engine:
            return Encoder(spec, None), 0
        # In the order of `EncoderSpec.files`: the weights, then those of the backbone.
        files = [self._pack_file(pack, name) for name in spec.files]
        hashes = [pack.manifest.files[name].sha256 for name in spec.files]
        return self._encoder_of(spec, files, hashes)

    def pack_encoders(self, pack: Pack) -> tuple[dict[str, Encoder], dict[str, str]]:
        """See `load_pack_encoders`."""
        specs = {name: one for name, one in pack.manifest.encoders.items() if one.needs_engine}
        with self._all_or_nothing():
            encoders = {name: self._encoder(pack, one)[0] for name, one in specs.items()}
        identities = {
            name: " ".join(
                [one.model_dump_json(), *(pack.manifest.files[file].sha256 for file in one.files)]
            )
            for name, one in specs.items()
        }
        return encoders, identities

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

    def connection(self, pack: Pack, config: LanguageModelConfig) -> Connection:
        """The connection of a pack; its engine is built where the cache lacks it."""
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


def _utility_of(pack: Pack, target: VariantTarget) -> Callable[[], UtilityModel | None] | None:
    """Fits how often plans are right to a pack's calibration; None if it has none."""
    name = pack.manifest.calibration
    if name is None:
        return None

    def fit() -> UtilityModel | None:
        from .runtime.calibration_table import read_calibration
        from .runtime.utility import fit_utility

        table = read_calibration(inside(pack.folder, name, error=PackError))
        return fit_utility(table, manifest, target)

    manifest = pack.manifest
    return fit


def _starter_connection(pack: str, config: LanguageModelConfig) -> ConnectionSpec | None:
    if pack == STARTER_PACK:
        return None
    return ConnectionSpec(kind="conditioned", tail_blocks=min(10, config.num_blocks))
