"""Several plain connections as one, exactly: what each modality had stays apart and as it was.

A plain connection makes keys and values of each modality on its own, so the composed one holds the
aligners, gates and offsets of all, under names that differ. Where shapes differ, the smaller is
filled up with zeros that change nothing, or said once per block instead of once for all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..runtime.composition_specs import LoraPart
from ..runtime.connections import ConnectionSpec
from ..runtime.encoder_specs import EncoderSpec
from ..runtime.low_rank import LowRankChange
from .compose_parts import Part
from .weight_files import LaterArray, StoredWeights

Float = NDArray[np.float32]


@dataclass(frozen=True)
class Modalities:
    """Encoders of all parts under names that differ.

    Attributes:
        names: by part and the part's own name of the encoder, its name in the composed pack.
    """

    names: Mapping[tuple[str, str], str]

    @classmethod
    def of(cls, parts: Sequence[Part]) -> Modalities:
        """Keep names that one part alone has; others begin with the part's name."""
        owners: dict[str, list[str]] = {}
        for part in parts:
            for encoder in part.manifest.encoders:
                owners.setdefault(encoder, []).append(part.name)
        taken = {encoder for encoder, of in owners.items() if len(of) == 1}
        names: dict[tuple[str, str], str] = {}
        for encoder, of in sorted(owners.items()):
            for part in sorted(of):
                name = encoder
                if len(of) > 1:
                    name = _free(f"{part}_{encoder}", taken)
                    taken.add(name)
                names[part, encoder] = name
        return cls(names)


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name


@dataclass(frozen=True)
class JoinedConnection:
    """One connection made of several.

    Attributes:
        spec: its shape.
        arrays: its weights, made when they are written.
    """

    spec: ConnectionSpec
    arrays: dict[str, LaterArray]


def join_connections(
    parts: Sequence[Part],
    loaded: Mapping[str, StoredWeights],
    modalities: Modalities,
    lora_weights: Mapping[str, float] | None,
) -> JoinedConnection:
    """Put aligners, gates, offsets and LoRAs beside each other.

    Args:
        parts: with plain connections of one depth.
        loaded: by name of the part, the weights of its connection.
        modalities: names of the encoders in the composed pack.
        lora_weights: by name of the part, how much its LoRA counts; None leaves LoRAs out.
    """
    ordered = sorted(parts, key=lambda part: part.name)
    specs = [part.manifest.connection for part in ordered]
    spec = ConnectionSpec(
        kind="plain",
        tail_blocks=specs[0].tail_blocks,
        per_block=any(one.per_block for one in specs),
        hidden=max(one.hidden for one in specs),
    )
    arrays: dict[str, LaterArray] = {}
    for part in ordered:
        own, shape = loaded[part.name], part.manifest.connection
        for sensor in part.manifest.sensor_encoders:
            name = f"sensor.{sensor}"
            arrays[name] = _kept(own, name)
        for encoder in part.manifest.encoders:
            name = modalities.names[part.name, encoder]
            arrays[f"gate.{name}"] = _kept(own, f"gate.{encoder}")
            for side in ("key", "value"):
                for factor in ("w1", "b1", "w2", "b2"):
                    source = f"{encoder}.{side}.{factor}"
                    arrays[f"{name}.{side}.{factor}"] = _fitted(own, source, factor, shape, spec)
    with_lora = [part for part in ordered if part.manifest.connection.lora_rank]
    if lora_weights is None or not with_lora:
        return JoinedConnection(spec, arrays)
    ranks = {part.name: part.manifest.connection.lora_rank for part in with_lora}
    for at in range(spec.tail_blocks):
        for side in ("key", "value"):
            for factor, axis in (("a", 1), ("b", 0)):
                name = f"lora.{at}.{side}.{factor}"
                arrays[name] = _beside(with_lora, loaded, name, axis)
    lora_parts = tuple(
        LoraPart(name=name, rank=rank, weight=lora_weights[name]) for name, rank in ranks.items()
    )
    changes = {"lora_rank": sum(ranks.values()), "lora_parts": lora_parts}
    return JoinedConnection(ConnectionSpec.model_validate(spec.model_dump() | changes), arrays)


def with_lora(joined: JoinedConnection, change: LowRankChange, num_blocks: int) -> JoinedConnection:
    """The same connection with a LoRA that counts as it is.

    Args:
        joined: without one.
        change: of keys and values of the tail; of rank 0 where it says nothing.
        num_blocks: of the language model.
    """
    spec = joined.spec
    rank = max((a.shape[1] for a, _ in change.factors.values()), default=0)
    if not rank:
        return joined
    some = next(iter(change.factors.values()))
    arrays = dict(joined.arrays)
    for at in range(spec.tail_blocks):
        for side in ("key", "value"):
            a = np.zeros((some[0].shape[0], rank), np.float32)
            b = np.zeros((rank, some[1].shape[1]), np.float32)
            found = change.factors.get((num_blocks - spec.tail_blocks + at, side))
            if found is not None:
                a[:, : found[0].shape[1]], b[: len(found[1])] = found
            for factor, array in (("a", a), ("b", b)):
                made = LaterArray(array.shape, lambda array=array: array)
                arrays[f"lora.{at}.{side}.{factor}"] = made
    changes = {"lora_rank": rank, "lora_parts": ()}
    return JoinedConnection(ConnectionSpec.model_validate(spec.model_dump() | changes), arrays)


def encoder_in(part: Part, encoder: str, stored: Mapping[str, str]) -> EncoderSpec:
    """An encoder of a part as the composed pack has it: its file has another name there."""
    spec = part.manifest.encoders[encoder]
    changes = {
        field: stored[name]
        for field, name in (("file", spec.file), ("backbone", spec.backbone))
        if name and name in stored
    }
    return EncoderSpec.model_validate(spec.model_dump() | changes)


def _kept(weights: StoredWeights, name: str) -> LaterArray:
    """An array as it is."""
    return LaterArray(weights.shape(name), lambda: weights[name])


def _beside(
    parts: Sequence[Part], loaded: Mapping[str, StoredWeights], name: str, axis: int
) -> LaterArray:
    """One factor of all LoRAs side by side; of a part that was adapted, as its parts counted."""

    def make() -> Float:
        found: list[Float] = []
        for part in parts:
            array, counted = loaded[part.name][name], part.manifest.connection.lora_weights
            found.append(array if counted is None or axis else array * counted[:, None])
        return np.concatenate(found, axis=axis)

    shapes = [loaded[part.name].shape(name) for part in parts]
    shape = [*shapes[0]]
    shape[axis] = sum(one[axis] for one in shapes)
    return LaterArray(tuple(shape), make)


def _fitted(
    weights: StoredWeights, name: str, factor: str, own: ConnectionSpec, spec: ConnectionSpec
) -> LaterArray:
    """A factor of an aligner in the composed shape: the same function.

    Inner columns that are added give GELU(0) = 0 and meet rows of zeros. Keys that were shared by
    all blocks are said once per block.
    """
    more = spec.hidden - own.hidden
    padding = {"w1": ((0, 0), (0, more)), "b1": ((0, more),), "w2": ((0, more), (0, 0))}
    wide = padding.get(factor, ((0, 0),))
    times = spec.tail_blocks if spec.per_block and not own.per_block else 1
    repeats = {"w2": (1, times), "b2": (times,)}.get(factor)
    shape = [size + sum(pad) for size, pad in zip(weights.shape(name), wide, strict=True)]
    if repeats is not None:
        shape = [size * often for size, often in zip(shape, repeats, strict=True)]

    def make() -> Float:
        array = weights[name]
        if more:
            array = np.pad(array, wide)
        return array if repeats is None or times == 1 else np.tile(array, repeats)

    return LaterArray(tuple(shape), make)
