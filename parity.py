"""Opens back ends of one pack and compares them; how is in `export/parity.py`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .engine_assembly import FoldedChange, Progress
from .export.parity import Case, Contestant, Parity, compare
from .export.parity_engines import EngineContestant
from .export.portable.manifest import LANGUAGE_MODEL_FOLDER, ExportManifest, read_export
from .exporting import ExportAssembly, Moments
from .runtime.asking import Preparer
from .runtime.backends.portable import load_portable
from .runtime.config import RuntimeConfig
from .runtime.connections import Connection
from .runtime.encoder_specs import EncoderSpec, ObjectsInput
from .runtime.encoders import Encoder
from .runtime.engine import EngineLoader
from .runtime.errors import ConfigError, EngineError, SensorError
from .runtime.files import sha256_of
from .runtime.language_model import LanguageModel
from .runtime.model_config import LanguageModelConfig
from .runtime.pack import MANIFEST_NAME, Pack
from .runtime.questions import NUSCENES_QA_ANSWERS, Question

#: Back ends that are compared, the reference first.
BACKENDS = ("onnx-cpu", "onnx-portable", "torch", "tensorrt")


class ParityAssembly(ExportAssembly):
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
            connection = self._connection(pack, model.config)
        self.model, self.encoders = model, encoders
        return EngineContestant(
            name, model, encoders, connection, manifest.sensor_encoders, tail_blocks
        )

    def close(self) -> None:
        """Free all engines."""
        for engine in self._opened:
            engine.close()


class ExportedAssembly(ParityAssembly):
    """Opens the engines of a pack from a folder that `tailwire export` wrote."""

    def __init__(
        self, config: RuntimeConfig, folder: Path, loader: EngineLoader, progress: Progress
    ) -> None:
        super().__init__(config, progress)
        self._folder = folder
        self._loader = loader
        self.manifest: ExportManifest = read_export(folder)

    def check_pack(self, pack: Pack, model_sha256: str) -> None:
        """Refuse an export of another pack or language model.

        Raises:
            EngineError: it is one.
        """
        found = (sha256_of(pack.folder / MANIFEST_NAME), model_sha256)
        if (self.manifest.pack_sha256, self.manifest.model_sha256) != found:
            raise EngineError(
                f"the graphs were exported from pack '{self.manifest.pack}' with "
                f"{self.manifest.model}, and not from what is here now",
                field=str(self._folder),
                remedy="export the pack again",
            )

    def language_model(self, depths: tuple[int, ...], change: Any = None) -> LanguageModel:
        """The exported stages."""
        folder = self._folder / LANGUAGE_MODEL_FOLDER
        with self._all_or_nothing():
            return LanguageModel(folder, self._load, threads=self._config.threads)

    def _encoder(self, pack: Pack, spec: EncoderSpec) -> tuple[Encoder, int]:
        if isinstance(spec.input, ObjectsInput):
            return Encoder(spec, None), 0
        name = next(n for n, one in pack.manifest.encoders.items() if one is spec)
        return Encoder(spec, self._open(f"encoder {name}")), 0

    def _connection(self, pack: Pack, config: LanguageModelConfig) -> Connection:
        engine = self._open("connection")
        return Connection(pack.manifest.connection, config, engine, pack.connection_weights)

    def _open(self, role: str) -> Any:
        path = self._folder / self.manifest.graph(role).file
        return self._load(path, threads=self._config.threads)


def run_parity(
    config: RuntimeConfig,
    backends: Sequence[str],
    moments: Moments,
    *,
    export: Path | None,
    questions: Sequence[Question] = (),
    new_tokens: int = 8,
    progress: Progress | None = None,
) -> list[Parity]:
    """Compare back ends of one pack with the first of them.

    Args:
        config: names pack and model, and the precision of the tuned engines.
        backends: some of `BACKENDS`.
        moments: frames to compare on.
        export: folder that `tailwire export` wrote, for the back ends that need it.
        questions: to ask; none asks those of the pack.
        new_tokens: tokens to decode per moment.
        progress: told what is being opened.

    Raises:
        TailwireError: a back end is unknown or cannot be opened, or there is nothing to compare.
    """
    tell = progress or (lambda _: None)
    _check(backends, export)
    with ExitStack() as stack:
        local = ParityAssembly(config, tell)
        sources = local.sources()
        pack = sources.pack
        depth = config.tail_blocks or pack.manifest.tail_blocks
        # Prepares frames and questions, whether it competes or not.
        tuned = local.contestant("onnx-cpu", pack, depth)
        stack.callback(local.close)
        opened: list[Contestant] = []
        for name in backends:
            tell(f"opening {name}")
            if name == "onnx-cpu":
                opened.append(tuned)
            elif name == "torch":
                from .export.folded_checkpoint import open_for_pack
                from .export.parity_torch import TorchContestant

                checkpoint = open_for_pack(sources.checkpoint, pack)
                opened.append(TorchContestant(pack, checkpoint, depth))
            elif export is not None:  # `_check` has seen to it.
                loader = load_portable if name == "onnx-portable" else _tensorrt(export)
                exported = ExportedAssembly(config, export, loader, tell)
                exported.check_pack(pack, sources.checkpoint_sha256)
                opened.append(exported.contestant(name, pack, depth))
                stack.callback(exported.close)
        asked = tuple(questions) or tuple(
            Question(one.text, one.answers) for one in pack.manifest.questions
        )
        cases = _cases(local, pack, asked, moments, depth)
        return compare(opened, cases, pack.manifest.sensor_encoders, new_tokens=new_tokens)


def _check(backends: Sequence[str], export: Path | None) -> None:
    unknown = [name for name in backends if name not in BACKENDS]
    if unknown or len(set(backends)) < max(2, len(backends)):
        raise ConfigError(
            f"'{unknown[0]}' is no back end" if unknown else "two different back ends are needed",
            field="--backends",
            remedy=f"name two or more of {', '.join(BACKENDS)}, the reference first",
        )
    if export is None and {"onnx-portable", "tensorrt"} & set(backends):
        raise ConfigError(
            "portable graphs are compared from a folder, and none is named",
            field="--export",
            remedy="name one that `tailwire export` wrote",
        )


def _tensorrt(export: Path) -> EngineLoader:
    from .tensorrt_store import TensorRtLoader

    return TensorRtLoader(export)


def _cases(
    assembly: ParityAssembly,
    pack: Pack,
    questions: Sequence[Question],
    moments: Moments,
    depth: int,
) -> Iterator[Case]:
    manifest, model = pack.manifest, assembly.model
    preparer = Preparer(model, manifest.prompt)
    texts, allowed = [], []
    for question in questions:
        answers = question.answers or NUSCENES_QA_ANSWERS
        asked = preparer.prepare(Question(question.text, answers), [depth])
        texts.append(asked.head.token_ids)
        if asked.trie is not None:
            allowed.append(np.fromiter(asked.trie.root.children, np.int64))
    if not texts:
        raise ConfigError(
            "the pack has no questions of its own", field="--question", remedy="ask one"
        )
    used = 0
    for frames in moments():
        prepared = _prepared(assembly.encoders, pack, frames)
        if prepared:
            used += 1
            yield Case(prepared, texts, allowed)
    if not used:
        raise ConfigError(
            "the drive has no usable frame of a sensor of this pack",
            field="--nuscenes",
            remedy=f"name one with some of {', '.join(manifest.sensor_encoders)}",
        )


def _prepared(
    encoders: Mapping[str, Encoder], pack: Pack, frames: Mapping[str, Any]
) -> dict[str, Any]:
    prepared: dict[str, Any] = {}
    mounts = pack.manifest.mounts
    for sensor, encoder in pack.manifest.sensor_encoders.items():
        frame = frames.get(sensor)
        if frame is None or isinstance(encoders[encoder].spec.input, ObjectsInput):
            continue
        if frame.geometry is None and sensor in mounts:
            frame = replace(frame, geometry=mounts[sensor])
        try:
            prepared[sensor] = encoders[encoder].prepare(frame)
        except SensorError:
            continue
    return prepared
