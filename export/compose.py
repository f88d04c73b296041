"""Composes packs that were trained apart, on one base model, into one pack, without training.

Encoders, aligners and gates of each modality stay as they were. What the packs change in the
language model for text is merged: NaiveMC and DAMC (2402.12750), sums, or the methods of
`merging.py`. The composed pack keeps what it needs to give its parts back.
"""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray
from safetensors.numpy import save

from ..runtime.composition_specs import CompositionSpec, Method, PartSpec, TextChangeSpec
from ..runtime.errors import ConfigError, PackError
from ..runtime.files import (
    inside,
    open_atomic,
    sha256_of,
    write_atomic,
)
from ..runtime.low_rank import LowRankChange
from ..runtime.new_pack import new_pack
from ..runtime.pack import MANIFEST_NAME, FileSpec, PackManifest, SensorSpec, check_pack
from .compose_checks import check_parts, licence_notes
from .compose_connections import (
    JoinedConnection,
    Modalities,
    encoder_in,
    join_connections,
    with_lora,
)
from .compose_parts import Part, lora_change
from .merging import DEFAULT_WEIGHT, LINEAR, MergeOptions, merge
from .weight_files import StoredWeights, WeightFile

Float = NDArray[np.float32]

_CONNECTION = "connection.safetensors"
_MERGED, _MERGED_LORA = "text.safetensors", "lora.text.safetensors"
_FOLDED = "folded-lora.safetensors"


@dataclass(frozen=True)
class CompositionRequest:
    """How packs are to be composed.

    Attributes:
        method: of merging what they change in the language model.
        weights: by name of the part; None takes those of the method.
        options: of the method.
        fold: change the engines' weights instead of computing LoRAs beside them: nothing is added
            to a token's cost, and weights cannot change while the robot runs.
        name: of the composed pack; None joins those of the parts.
        version: of the composed pack.
    """

    method: Method = "damc"
    weights: Mapping[str, float] | None = None
    options: MergeOptions = field(default_factory=MergeOptions)
    fold: bool = False
    name: str | None = None
    version: str = "1"


@dataclass(frozen=True, eq=False)
class Composition:
    """A composed pack that is not written yet.

    Attributes:
        manifest: of it.
        made: content of the files that are new.
        copied: by name in the pack, files that stay as they are.
        licences: what they ask, a line each.
        notes: what could not be checked, and what a method left out.
    """

    manifest: PackManifest
    made: Mapping[str, bytes | WeightFile]
    copied: Mapping[str, Path]
    licences: Sequence[str]
    notes: Sequence[str]

    @property
    def weights(self) -> dict[str, float]:
        """By name of the part."""
        composition = self.manifest.composition
        return {} if composition is None else {p.name: p.weight for p in composition.parts}


def compose(parts: Sequence[Part], request: CompositionRequest) -> Composition:
    """Make one pack of several; their order does not matter, not for a bit.

    Args:
        parts: two or more, from `open_parts`.
        request: how.

    Raises:
        ConfigError: a weight or an option does not fit.
        PackError: the packs do not fit together, or one is broken.
    """
    if len(parts) < 2:
        raise ConfigError(
            "one pack alone is composed already", field="PACK", remedy="name two or more packs"
        )
    parts = sorted(parts, key=lambda part: part.name)
    notes = check_parts(parts)
    weights = part_weights(parts, request)
    request.options.check()
    modalities = Modalities.of(parts)
    stored = {part.name: _stored_names(part) for part in parts}
    merged = _merge(parts, weights, request, modalities, stored)
    made: dict[str, bytes | WeightFile] = {**merged.made}
    made[_CONNECTION] = WeightFile(merged.connection.arrays)
    copied: dict[str, Path] = {}
    for part in parts:
        copied[_manifest_name(part)] = part.manifest_file
        copied |= {stored[part.name][own]: path for own, path in part.files.items()}
    licences, terms = licence_notes(parts)
    hashes = {
        field: next((h for p in parts if (h := getattr(p.manifest.base_model, field))), None)
        for field in ("sha256", "tokenizer_sha256")
    }
    manifest = PackManifest(
        format=1,
        name=request.name or "+".join(part.name for part in parts),
        version=request.version,
        description=f"Composed of {', '.join(part.label for part in parts)}",
        trained=all(part.manifest.trained for part in parts),
        licences=licences,
        base_model=parts[0].manifest.base_model.model_copy(update=hashes),
        prompt=parts[0].manifest.prompt,
        sensors=_sensors(parts, modalities),
        encoders={
            modalities.names[part.name, encoder]: encoder_in(part, encoder, stored[part.name])
            for part in parts
            for encoder in part.manifest.encoders
        },
        connection=merged.connection.spec,
        tail_blocks=max(part.manifest.tail_blocks for part in parts),
        files=_files(parts, made, copied),
        questions=tuple(dict.fromkeys(q for part in parts for q in part.manifest.questions)),
        text=merged.text,
        composition=CompositionSpec(
            method=request.method,
            parts=tuple(
                PartSpec(
                    name=part.name,
                    pack=part.label,
                    manifest=_manifest_name(part),
                    files=stored[part.name],
                    weight=weights[part.name],
                )
                for part in parts
            ),
        ),
    )
    return Composition(manifest, made, copied, terms, [*notes, *merged.notes])


def part_weights(parts: Sequence[Part], request: CompositionRequest) -> dict[str, float]:
    """How much each part's change counts, by its name.

    Raises:
        ConfigError: a part has none, a name is unknown, a weight is not finite, all are 0, or the
            method takes none.
    """
    names = [part.name for part in parts]
    if request.weights is None:
        return dict.fromkeys(names, DEFAULT_WEIGHT[request.method] or 1 / len(names))
    if request.method == "naive":
        raise ConfigError(
            "naive composition is the plain average and takes no weights",
            field="--weights",
            remedy="leave them out, or use --method damc",
        )
    if set(request.weights) != set(names):
        raise ConfigError(
            f"weights of {', '.join(sorted(request.weights))} for {', '.join(names)}",
            field="--weights",
            remedy="give one weight a pack",
        )
    for name, weight in request.weights.items():
        if not math.isfinite(weight) or abs(weight) > _MOST_WEIGHT:
            raise ConfigError(
                f"the weight of '{name}' is {weight}",
                field="--weights",
                remedy=f"give numbers from -{_MOST_WEIGHT:g} to {_MOST_WEIGHT:g}",
            )
    if not any(request.weights.values()):
        raise ConfigError(
            "all weights are 0", field="--weights", remedy="let one part at least count"
        )
    return {name: float(request.weights[name]) for name in names}


def kept_weights(parts: Sequence[Part], method: Method) -> dict[str, float] | None:
    """Weights of what is left of a composed pack; None for those of the method.

    Where weights share out one whole, those that are left do.
    """
    known = {part.name: part.weight for part in parts if part.weight is not None}
    total = sum(known.values())
    if method == "naive" or len(known) < len(parts) or not total:
        return None
    if DEFAULT_WEIGHT[method] is None:
        return {name: weight / total for name, weight in known.items()}
    return known


#: More than that is a typing error.
_MOST_WEIGHT = 100.0


@dataclass(frozen=True)
class _Merged:
    connection: JoinedConnection
    text: tuple[TextChangeSpec, ...]
    made: Mapping[str, bytes]
    notes: Sequence[str]


def _merge(
    parts: Sequence[Part],
    weights: Mapping[str, float],
    request: CompositionRequest,
    modalities: Modalities,
    stored: Mapping[str, Mapping[str, str]],
) -> _Merged:
    """The connection, and what becomes of the parts' changes of the language model."""
    loaded = {part.name: part.connection_weights() for part in parts}
    if request.method not in LINEAR:
        return _merged_whole(parts, weights, request, modalities, loaded)
    text = [
        TextChangeSpec(
            file=stored[part.name][one.file], weight=weights[part.name] * one.weight, part=part.name
        )
        for part in parts
        for one in part.manifest.text
    ]
    if not request.fold:
        joined = join_connections(parts, loaded, modalities, weights)
        return _Merged(joined, tuple(text), {}, ())
    made: dict[str, bytes] = {}
    for part in parts:
        lora = lora_change(part, loaded[part.name])
        if lora.factors:
            file = f"{part.name}.{_FOLDED}"
            made[file] = _saved(lora.arrays())
            text.append(TextChangeSpec(file=file, weight=weights[part.name], part=part.name))
    return _Merged(join_connections(parts, loaded, modalities, None), tuple(text), made, ())


def _merged_whole(
    parts: Sequence[Part],
    weights: Mapping[str, float],
    request: CompositionRequest,
    modalities: Modalities,
    loaded: Mapping[str, StoredWeights],
) -> _Merged:
    """Methods that are no weighted sums: one change, of which the parts cannot be told apart."""
    loras = {part.name: lora_change(part, loaded[part.name]) for part in parts}
    texts = {part.name: part.text_change() or LowRankChange({}) for part in parts}
    beside = merge(request.method, {n: (weights[n], c) for n, c in loras.items()}, request.options)
    inside_ = merge(request.method, {n: (weights[n], c) for n, c in texts.items()}, request.options)
    joined = join_connections(parts, loaded, modalities, None)
    made: dict[str, bytes] = {}
    text: list[TextChangeSpec] = []
    if inside_.change.factors:
        made[_MERGED] = _saved(inside_.change.arrays())
        text.append(TextChangeSpec(file=_MERGED))
    if request.fold and beside.change.factors:
        made[_MERGED_LORA] = _saved(beside.change.arrays())
        text.append(TextChangeSpec(file=_MERGED_LORA))
    elif beside.change.factors:
        joined = with_lora(joined, beside.change, parts[0].manifest.base_model.num_blocks)
    left_out = max(beside.left_out, inside_.left_out)
    notes = [f"{left_out:.2%} of the merged change's energy is left out by its rank"]
    return _Merged(joined, tuple(text), made, notes if left_out > 1e-6 else ())


def _sensors(parts: Sequence[Part], modalities: Modalities) -> tuple[SensorSpec, ...]:
    return tuple(
        sensor.model_copy(update={"encoder": modalities.names[part.name, sensor.encoder]})
        for part in parts
        for sensor in part.manifest.sensors
    )


def _files(
    parts: Sequence[Part], made: Mapping[str, bytes | WeightFile], copied: Mapping[str, Path]
) -> dict[str, FileSpec]:
    files = {name: FileSpec(sha256=sha256_of(path)) for name, path in copied.items()}
    for part in parts:
        files |= {n: spec for n, spec in part.manifest.files.items() if spec.registry is not None}
    for name, content in made.items():
        digest = hashlib.sha256()
        for chunk in [content] if isinstance(content, bytes) else content.chunks():
            digest.update(chunk)
        files[name] = FileSpec(sha256=digest.hexdigest())
    return dict(sorted(files.items()))


def _manifest_name(part: Part) -> str:
    return f"{part.name}.{MANIFEST_NAME}"


def _stored_names(part: Part) -> dict[str, str]:
    """By a part's own names of files, their names in the composed pack: in one folder."""
    taken = {_manifest_name(part), f"{part.name}.{_FOLDED}", _CONNECTION, _MERGED, _MERGED_LORA}
    names: dict[str, str] = {}
    for own in sorted(part.files):
        name = f"{part.name}.{own.replace('/', '.')}"
        while name in taken:
            name += "_"
        taken.add(name)
        names[own] = name
    return names


def _saved(arrays: Mapping[str, Float]) -> bytes:
    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def write_composition(folder: Path, composition: Composition) -> None:
    """Write a composed pack: aside, checked as `load_pack` does, and only then under its name.

    Raises:
        ConfigError: something is in the way.
        PackError: a file was changed meanwhile.
        CacheError: the disk is full, or the folder cannot be written.
    """
    text = yaml.safe_dump(
        composition.manifest.model_dump(mode="json", exclude_none=True),
        sort_keys=False,
        allow_unicode=True,
    )
    content = {**composition.copied, **composition.made, MANIFEST_NAME: text.encode()}
    _write(folder, content)


def restore_part(folder: Path, part: Part) -> None:
    """Write a part of a composed pack as the pack that it was, bit for bit.

    Raises:
        ConfigError: something is in the way.
        PackError: what the composed pack keeps of it was changed.
        CacheError: the disk is full, or the folder cannot be written.
    """
    _write(folder, {**part.files, MANIFEST_NAME: part.manifest_file})


def _write(folder: Path, content: Mapping[str, bytes | Path | WeightFile]) -> None:
    with new_pack(folder, "composed pack") as aside:
        for name, data in content.items():
            path = inside(aside, name, error=PackError)
            if isinstance(data, bytes):
                write_atomic(path, data)
            elif isinstance(data, WeightFile):
                with open_atomic(path) as file:
                    file.writelines(data.chunks())
            else:
                with open_atomic(path) as file, data.open("rb") as source:
                    shutil.copyfileobj(source, file)
        check_pack(aside, StoredWeights)
