"""A pack at several precisions, part by part: opened side by side, asked the same questions.

A variant is either the engines tuned for the CPU or an export of standard operators. Graphs that
two variants have in common are loaded once, encoders remember what they gave for a frame, and a
head runs once for all variants that have it, so that variants cost little beside one. What the
answers come to is in `variant_figures.py`.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..assembly import Assembly
from ..exported_assembly import ExportedAssembly, loader_of
from ..exporting import Moments, export
from ..runtime.answering import AskedQuestion
from ..runtime.config import RuntimeConfig
from ..runtime.engine import Array, BoundRun, Engine, EngineLoader
from ..runtime.errors import ConfigError
from ..runtime.files import sha256_of
from ..runtime.frames import SensorFrame
from ..runtime.language_model import LanguageModel
from ..runtime.plans import Answer
from ..runtime.questions import Question
from ..runtime.runtime import Runtime
from ..simulation.replay.examiner import WARM_UP, Examiner, HeadShelf

Progress = Callable[[str], None]

#: In front of a precision of the engines tuned for the CPU, and of one exported for TensorRT.
CPU, TENSORRT = "cpu:", "tensorrt:"
_BACKEND = "onnxruntime-portable"
_REMEMBERED = 4


@dataclass(frozen=True)
class OpenVariant:
    """A variant that can answer.

    Attributes:
        name: as it was asked for.
        runtime: of it.
        part_bytes: files of its graphs with their constants, by part.
        head_key: the same for variants whose heads are the same.
    """

    name: str
    runtime: Runtime
    part_bytes: Mapping[str, int]
    head_key: str


class SharedEngines:
    """Loads every graph once, by its content."""

    def __init__(self) -> None:
        self._engines: dict[str, RememberingEngine] = {}
        self._keys: dict[Path, str] = {}
        #: Whether encoders give again what they gave before for the same input.
        self.remembers = True

    def of(self, loader: EngineLoader) -> EngineLoader:
        """A loader that loads through this one what is not there yet."""

        def load(path: Path, *, threads: int) -> Engine:
            key = self.key(path)
            if key not in self._engines:
                encodes = path.parent.name == "encoders" or path.name == "encoder.onnx"
                self._engines[key] = RememberingEngine(loader(path, threads=threads), self, encodes)
            return self._engines[key]

        return load

    def key(self, path: Path) -> str:
        """Of the content of a graph and its constants, or of another file."""
        if path not in self._keys:
            hashes = [sha256_of(file) for file in graph_files(path)]
            self._keys[path] = hashlib.sha256(" ".join(hashes).encode()).hexdigest()
        return self._keys[path]

    def close(self) -> None:
        """Free all engines."""
        for engine in self._engines.values():
            engine.free()


class RememberingEngine:
    """An engine of several variants; closing it is left to `SharedEngines`."""

    def __init__(self, engine: Engine, shared: SharedEngines, encodes: bool) -> None:
        """Share an engine.

        Args:
            engine: of a graph.
            shared: says whether anything is remembered.
            encodes: whether it is an encoder's, of which it is worth it.
        """
        self._engine, self._shared, self._encodes = engine, shared, encodes
        self.input_specs, self.output_specs = engine.input_specs, engine.output_specs
        self.device = engine.device
        self._given: OrderedDict[bytes, dict[str, Array]] = OrderedDict()

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run it, or give again what it gave; see `Engine.run`."""
        if not (self._encodes and self._shared.remembers):
            return self._engine.run(inputs)
        digest = hashlib.blake2b(digest_size=16)
        for name, array in sorted(inputs.items()):
            digest.update(f"{name} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        key = digest.digest()
        if key not in self._given:
            self._given[key] = self._engine.run(inputs)
            if len(self._given) > _REMEMBERED:
                self._given.popitem(last=False)
        return {name: array.copy() for name, array in self._given[key].items()}

    def bind(self, buffers: Mapping[str, Array]) -> BoundRun:
        """See `Engine.bind`."""
        return self._engine.bind(buffers)

    def close(self) -> None:
        """Nothing: another variant may run it still."""

    def free(self) -> None:
        """Close the engine."""
        self._engine.close()


def graph_files(path: Path) -> list[Path]:
    """A graph with the files of its constants, which have its name but for the ending."""
    constants = [
        file
        for file in sorted(path.parent.glob(f"{path.stem}.*"))
        if file != path and file.suffix in (".bin", ".data") and ".known" not in file.name
    ]
    return [path, *constants]


class _SharedAssembly(Assembly):
    """Tuned engines, shared with other variants."""

    def __init__(self, config: RuntimeConfig, progress: Progress, shared: SharedEngines) -> None:
        super().__init__(config, progress)
        self._loader = shared.of(self._loader)


class Variants:
    """Opens variants of one pack, exporting those that are not there."""

    def __init__(
        self,
        config: RuntimeConfig,
        folder: Path,
        *,
        moments: Moments,
        calibration: str,
        progress: Progress,
    ) -> None:
        """Nothing is opened yet.

        Args:
            config: names pack, model and threads.
            folder: where exports are made and kept.
            moments: for the calibration of 8-bit encoders; not those that are asked about.
            calibration: says which they are, so that an export with others is made anew.
            progress: told what is being made.
        """
        self._config, self._folder = config, folder
        self._moments, self._calibration = moments, calibration
        self._progress = progress
        self.shared = SharedEngines()

    def open(self, name: str) -> OpenVariant:
        """A variant that can answer.

        Args:
            name: `cpu:` and a precision of the tuned engines, or what `tailwire export` takes as
                `--precision`, with `tensorrt:` in front for that target.

        Raises:
            TailwireError: it is no variant, or cannot be made.
        """
        self._progress(f"opening {name}")
        if name.startswith(CPU):
            try:
                config = RuntimeConfig.model_validate(
                    {**self._config.model_dump(), "precision": name.removeprefix(CPU)}
                )
            except ValueError as error:
                raise ConfigError(
                    f"'{name}' is no precision of the tuned engines",
                    field="--variants",
                    remedy="use cpu:fp32, cpu:int8 or cpu:int4",
                ) from error
            assembly: Assembly = _SharedAssembly(config, self._progress, self.shared)
        else:
            folder = self.exported(name)
            loader = self.shared.of(loader_of(_BACKEND, folder, self._progress))
            exported = ExportedAssembly(self._config, folder, loader, self._progress)
            sources = exported.sources()
            exported.check_pack(sources.pack, sources.checkpoint_sha256)
            assembly = exported
        runtime = assembly.runtime()
        stage = next(iter(runtime.model.groups))[0].file
        stages = assembly.graphs[Path(stage).stem].parent
        return OpenVariant(
            name,
            runtime,
            _part_bytes(runtime, assembly.graphs),
            self._head_key(runtime.model, stages, runtime.tail_blocks),
        )

    def exported(self, name: str) -> Path:
        """The folder of an export, made now if it is not there."""
        from ..export.portable.exporter import ExportOptions
        from ..export.portable.precisions import read_precisions

        precisions = read_precisions(name.removeprefix(TENSORRT))
        target = "tensorrt" if name.startswith(TENSORRT) else "onnx"
        content = f"{target} {precisions.model_dump_json()} {self._config.pack}"
        if precisions.encoders == "int8":
            content += f" {self._calibration}"
        digest = hashlib.sha256(content.encode()).hexdigest()[:12]
        folder = self._folder / f"export-{digest}"
        if not folder.exists():
            options = ExportOptions(
                target=target, precisions=precisions, threads=self._config.threads
            )
            export(self._config, folder, options, moments=self._moments, progress=self._progress)
        return folder

    def _head_key(self, model: LanguageModel, folder: Path, tail_blocks: int) -> str:
        manifest, boundary = model.manifest, model.boundary(tail_blocks)
        files = [manifest.embed_file]
        files += [group.file for group in manifest.groups if group.stop <= boundary]
        tables = sorted(folder.glob(f"{manifest.embedding_table}*.npy"))
        keys = [self.shared.key(path) for path in (*(folder / file for file in files), *tables)]
        return " ".join(keys)

    def close(self) -> None:
        """Free all engines."""
        self.shared.close()


def _part_bytes(runtime: Runtime, graphs: Mapping[str, Path]) -> dict[str, int]:
    """Bytes of graphs and constants: `encoder NAME`, `connection`, `head`, `tail`, `logits`, ..."""
    model = runtime.model
    boundary = model.boundary(runtime.tail_blocks)
    found: dict[str, int] = {}

    def add(part: str, path: Path) -> None:
        size = sum(file.stat().st_size for file in graph_files(path))
        found[part] = found.get(part, 0) + size

    stages = {Path(group.file).stem: group for group, _ in model.groups}
    folder = graphs[next(iter(stages))].parent
    for name, path in graphs.items():
        if name in stages:
            add("tail" if stages[name].start >= boundary else "head", path)
        elif path.parent.name == "encoders" or name.startswith("encoder "):
            # Tuned ones have the name of their weights' file.
            add(f"encoder {Path(name.removeprefix('encoder ')).stem}", path)
        elif name == "connection":
            add("connection", path)
    for part, file in (
        ("embed", model.manifest.embed_file),
        ("logits", model.manifest.logits_file),
    ):
        add(part, folder / file)
    return found


class VariantExaminer(Examiner):
    """Stands in for several runtimes in front of a player; answers are kept by variant."""

    def __init__(
        self, variants: Sequence[OpenVariant], sensors: Sequence[str], warmed: Sequence[str]
    ) -> None:
        """Nothing is asked yet.

        Args:
            variants: the first one is what others are compared with.
            sensors: that are switched on in all of them.
            warmed: sensors that are encoded where nothing but `WARM_UP` is asked.
        """
        names = [variant.name for variant in variants]
        super().__init__(
            variants[0].runtime, dict.fromkeys(names, sensors), HeadShelf(0, {}), warmed=warmed
        )
        self._variants = variants
        self._asked: dict[int, dict[str, AskedQuestion]] = {}

    def watch(self, question: Question) -> int:
        """Hold a question; its head runs now, once for all variants that share it."""
        by_head: dict[str, AskedQuestion] = {}
        for variant in self._variants:
            if variant.head_key not in by_head:
                by_head[variant.head_key] = variant.runtime.prepare(question)
                self.heads += 1
        self._last_key += 1
        self._asked[self._last_key] = {
            variant.name: by_head[variant.head_key] for variant in self._variants
        }
        return self._last_key

    def unwatch(self, key: int) -> None:
        """Let go of a question."""
        del self._asked[key]

    def push(self, frame: SensorFrame) -> bool:
        """Hand a frame to all variants."""
        return all([variant.runtime.push(frame) for variant in self._variants])

    def forget_frames(self) -> None:
        """Have all variants drop frames and tokens."""
        for variant in self._variants:
            variant.runtime.forget_frames()

    def step(self) -> list[Answer]:
        """Ask all questions held, once of each variant; see `Examiner.step`."""
        questions = [next(iter(asked.values())).question for asked in self._asked.values()]
        warming = questions == [WARM_UP]
        found: dict[str, dict[Question, Answer]] = {}
        for variant in self._variants:
            held = [asked[variant.name] for asked in self._asked.values()]
            # Questions of like length share a pass with little padding between them.
            held.sort(key=lambda asked: len(asked.head.token_ids))
            variant.runtime.switch_sensors(self._warmed if warming else self._sets[variant.name])
            answers = variant.runtime.answer(held)
            found[variant.name] = {
                asked.question: answer for asked, answer in zip(held, answers, strict=True)
            }
        if not warming:
            self.answers = found
        first = found[self._variants[0].name]
        return [first[question] for question in questions]
