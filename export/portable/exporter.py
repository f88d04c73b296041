"""Writes a pack as portable graphs: encoders, connection and the language model's stages.

The folder is complete or absent: it is written under another name and renamed last.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from ... import __version__
from ...runtime.encoder_specs import EncoderSpec
from ...runtime.errors import ConfigError
from ...runtime.files import partial_name, sync_folder
from ...runtime.model_manifest import ModelManifest
from ...runtime.pack import Pack
from ..checkpoint import Checkpoint
from ..connection_graphs import build_connection
from ..encoder_builds import COST_FILE, build_encoder
from ..folded_checkpoint import open_for_pack
from ..graph import GraphBuilder
from ..llm_graphs import Stage, build_language_model
from .eight_bits import Arrays, activation_scales, with_eight_bits
from .halves import with_halves
from .layers import PortableLayers, PortableTypes
from .manifest import (
    LANGUAGE_MODEL_FOLDER,
    MANIFEST_NAME,
    ExportedGraph,
    ExportManifest,
    Target,
    TensorShapes,
    hashes_of,
    pack_identity,
)
from .precisions import PartPrecisions
from .profiles import (
    SizeLimits,
    SizeRange,
    aligner_sizes,
    connection_sizes,
    encoder_sizes,
    language_model_sizes,
    shape_at,
)
from .self_check import write_known

Progress = Callable[[str], None]

#: Frames of an encoder, to be run through for calibration.
Frames = Callable[[str], Iterable[Arrays]]

_EXTERNAL_BYTES = 1024


@dataclass(frozen=True)
class PackSources:
    """Where everything of a pack lies.

    Attributes:
        pack: the pack.
        model: name of its language model.
        checkpoint: path of the language model.
        checkpoint_sha256: its hash.
        encoder_files: by encoder, in the order of `EncoderSpec.files`; those with an engine.
    """

    pack: Pack
    model: str
    checkpoint: Path
    checkpoint_sha256: str
    encoder_files: Mapping[str, Sequence[Path]]


@dataclass(frozen=True)
class ExportOptions:
    """What is written.

    Attributes:
        target: `tensorrt` multiplies in float16 wherever weights are smaller than fp32, and has
            4-bit weights in blocks of 64.
        precisions: of the parts.
        limits: sizes that engines are built for.
        depths: tail depths that can be chosen without computing more; of the pack where empty.
        lora_rank: largest rank that the tail's graphs leave room for; None for that of the pack.
        threads: of runs for calibration.
    """

    target: Target
    precisions: PartPrecisions
    limits: SizeLimits = field(default_factory=SizeLimits)
    depths: tuple[int, ...] = ()
    lora_rank: int | None = None
    threads: int = 2


def export_pack(
    sources: PackSources,
    out: Path,
    options: ExportOptions,
    *,
    frames: Frames | None = None,
    progress: Progress | None = None,
) -> ExportManifest:
    """Write a pack as portable graphs.

    Args:
        sources: of the pack.
        out: the folder to make; must not exist.
        options: what to write.
        frames: of an encoder, for encoders of 8 bits.
        progress: told in a sentence what is being built.

    Returns:
        The manifest, which is also written to the folder.

    Raises:
        ConfigError: `out` exists, or 8-bit encoders have no frames.
        TailwireError: a part of the pack cannot be built.
    """
    if out.exists():
        raise ConfigError(
            "the folder exists already", field=str(out), remedy="name another one, or remove it"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.parent / partial_name(out.name)
    try:
        partial.mkdir()
        export = _Export(sources, partial, options, frames, progress or (lambda _: None))
        manifest = export.write()
        partial.rename(out)
        sync_folder(out.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest


class _Export:
    def __init__(
        self,
        sources: PackSources,
        folder: Path,
        options: ExportOptions,
        frames: Frames | None,
        progress: Progress,
    ) -> None:
        self._sources, self._folder, self._options = sources, folder, options
        self._frames, self._progress = frames, progress
        self._graphs: list[ExportedGraph] = []
        self._manifest = sources.pack.manifest
        tokens = {name: encoder.tokens for name, encoder in self._manifest.encoders.items()}
        self._sensor_tokens = [tokens[s.encoder] for s in self._manifest.sensors]

    def write(self) -> ExportManifest:
        for name, files in self._sources.encoder_files.items():
            self._encoder(name, self._manifest.encoders[name], files)
        checkpoint = open_for_pack(self._sources.checkpoint, self._sources.pack)
        self._connection(checkpoint)
        self._language_model(checkpoint)
        self._progress("running every graph once, for what its engines should give")
        write_known(self._folder, self._graphs, threads=self._options.threads)
        manifest = ExportManifest(
            tailwire=__version__,
            target=self._options.target,
            pack=self._manifest.name,
            pack_sha256=pack_identity(self._manifest),
            model=self._sources.model,
            model_sha256=self._sources.checkpoint_sha256,
            graphs=tuple(self._graphs),
            files=hashes_of(self._folder),
        )
        text = manifest.model_dump_json(indent=1)
        (self._folder / MANIFEST_NAME).write_text(text, encoding="utf-8")
        return manifest

    def _encoder(self, name: str, spec: EncoderSpec, files: Sequence[Path]) -> None:
        if not spec.needs_engine:
            return
        precision = self._options.precisions.encoders
        with tempfile.TemporaryDirectory(dir=self._folder) as made:
            build_encoder(spec, files, Path(made), self._progress)
            source = Path(made) / "encoder.onnx"
            model = onnx.load(str(source))
            cost = (Path(made) / COST_FILE).read_bytes()
            scales: dict[str, float] = {}
            if precision == "int8":
                if self._frames is None:
                    raise ConfigError(
                        "8-bit encoders are calibrated with frames, and none are given",
                        field="precision",
                        remedy="name a drive with --calibrate, or choose fp16",
                    )
                self._progress(f"calibrating the encoder {name}")
                threads = self._options.threads
                scales = activation_scales(source, self._frames(name), threads=threads)
        half = self._half(precision)
        if half:
            model = with_halves(model)
        if precision == "int8":
            model = with_eight_bits(model, scales)
        sensors = sum(sensor.encoder == name for sensor in self._manifest.sensors)
        self._save(
            model,
            f"encoder {name}",
            f"encoders/{name}.onnx",
            _stored_as(precision, half),
            encoder_sizes(max(1, sensors)),
        )
        (self._folder / "encoders" / f"{name}.json").write_bytes(cost)

    def _half(self, precision: str) -> bool:
        return precision == "fp16" or (self._options.target == "tensorrt" and precision != "fp32")

    def _connection(self, checkpoint: Checkpoint) -> None:
        spec, config = self._manifest.connection, checkpoint.config
        precision = self._options.precisions.connection
        with tempfile.TemporaryDirectory(dir=self._folder) as made:
            path = Path(made) / "connection.onnx"
            build_connection(spec, config, path)
            model = onnx.load(str(path))
        if precision == "fp16":
            model = with_halves(model, every_product=True)
        out = spec.blocks_out * config.num_kv_heads * config.head_dim
        if spec.kind == "plain":
            widths = [encoder.width for encoder in self._manifest.encoders.values()]
            sizes = aligner_sizes(max(self._sensor_tokens), widths, spec.hidden, out)
        else:
            sizes = connection_sizes(self._options.limits, sum(self._sensor_tokens))
        self._save(model, "connection", "connection.onnx", precision, sizes)

    def _language_model(self, checkpoint: Checkpoint) -> None:
        pack, options = self._manifest, self._options
        deepest = max(pack.connection.tail_blocks, pack.tail_blocks)
        depths = {pack.connection.tail_blocks, pack.tail_blocks, *options.depths}
        first, rank = checkpoint.config.num_blocks - deepest, self._lora_rank
        folder = self._folder / LANGUAGE_MODEL_FOLDER
        folder.mkdir()
        types: dict[str, PortableTypes] = {}

        def layers(graph: GraphBuilder, stage: Stage) -> PortableLayers:
            of_head = stage[1] <= first and stage[0] >= 0
            weights = options.precisions.head if of_head else options.precisions.tail
            types[graph.name] = PortableTypes(
                weights,
                half=self._half(weights),
                block=64 if options.target == "tensorrt" else 32,
                lora_rank=rank,
                lora_from=first,
            )
            return PortableLayers(graph, checkpoint.config, types[graph.name])

        manifest = build_language_model(
            checkpoint,
            folder,
            name=self._sources.model,
            content_hash=self._sources.checkpoint_sha256,
            # Of the embeddings.
            precision="int8" if options.precisions.head in ("int8", "int4") else "fp32",
            depths=sorted(depths),
            max_text_tokens=options.limits.question_tokens,
            progress=lambda what, done, total: self._progress(
                f"building {self._sources.model}: {what} ({done}/{total})"
            ),
            layers=layers,
        )
        self._describe_stages(manifest, types, folder)

    @property
    def _lora_rank(self) -> int:
        given = self._options.lora_rank
        # Keys and values have a LoRA each, which the graphs see side by side.
        return 2 * (self._manifest.connection.lora_rank if given is None else given)

    def _describe_stages(
        self, manifest: ModelManifest, types: Mapping[str, PortableTypes], folder: Path
    ) -> None:
        stages = {"embed": manifest.embed_file, "logits": manifest.logits_file}
        for group in manifest.groups:
            stages[f"blocks {group.start}-{group.stop - 1}"] = group.file
        rows = sum(self._sensor_tokens) + (self._manifest.connection.kind == "conditioned")
        for role, file in stages.items():
            model = onnx.load(str(folder / file), load_external_data=False)
            ranks = {
                dim.dim_param: self._lora_rank
                for value in model.graph.input
                for dim in value.type.tensor_type.shape.dim
                if dim.dim_param.startswith("ranks_")
            }
            sizes = language_model_sizes(self._options.limits, rows, ranks)
            of = types[model.graph.name]
            name = f"{LANGUAGE_MODEL_FOLDER}/{file}"
            # The output matrix has no less than 16 bits, see `PortableLayers`.
            small = role == "logits" and of.weights in ("int8", "int4")
            weights = "fp16" if small else of.weights
            precision = _stored_as(weights, of.half)
            self._graphs.append(_described(model, role, name, precision, sizes))

    def _save(
        self,
        model: onnx.ModelProto,
        role: str,
        file: str,
        precision: str,
        sizes: Mapping[str, SizeRange],
    ) -> None:
        path = self._folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save_model(
            model,
            str(path),
            save_as_external_data=True,
            location=path.with_suffix(".bin").name,
            size_threshold=_EXTERNAL_BYTES,
        )
        self._graphs.append(_described(model, role, file, precision, sizes))


def _stored_as(precision: str, half: bool) -> str:
    return f"{precision}-fp16" if half and precision != "fp16" else precision


def _described(
    model: onnx.ModelProto,
    role: str,
    file: str,
    precision: str,
    sizes: Mapping[str, SizeRange],
) -> ExportedGraph:
    def tensors(values: Iterable[onnx.ValueInfoProto]) -> tuple[TensorShapes, ...]:
        return tuple(_tensor(value, sizes) for value in values)

    return ExportedGraph(
        role=role,
        file=file,
        precision=precision,
        opset=model.opset_import[0].version,
        inputs=tensors(model.graph.input),
        outputs=tensors(model.graph.output),
    )


def _tensor(value: onnx.ValueInfoProto, sizes: Mapping[str, SizeRange]) -> TensorShapes:
    kind = value.type.tensor_type
    shape = tuple(dim.dim_param or dim.dim_value for dim in kind.shape.dim)
    return TensorShapes(
        name=value.name,
        dtype=onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name,
        shape=shape,
        least=shape_at(shape, sizes, "least"),
        usual=shape_at(shape, sizes, "usual"),
        most=shape_at(shape, sizes, "most"),
    )
