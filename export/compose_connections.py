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
        weights: of it.
    """

    spec: ConnectionSpec
    weights: dict[str, Float]


def join_connections(
    parts: Sequence[Part],
    loaded: Mapping[str, Mapping[str, Float]],
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
    weights: dict[str, Float] = {}
    for part in ordered:
        own = loaded[part.name]
        for sensor in part.manifest.sensor_encoders:
            weights[f"sensor.{sensor}"] = own[f"sensor.{sensor}"]
        for encoder in part.manifest.encoders:
            name = modalities.names[part.name, encoder]
            weights[f"gate.{name}"] = own[f"gate.{encoder}"]
            for side in ("key", "value"):
                for factor in ("w1", "b1", "w2", "b2"):
                    array = own[f"{encoder}.{side}.{factor}"]
                    fitted = _fitted(array, factor, part.manifest.connection, spec)
                    weights[f"{name}.{side}.{factor}"] = fitted
    if lora_weights is None:
        return JoinedConnection(spec, weights)
    with_lora = [part for part in ordered if part.manifest.connection.lora_rank]
    if with_lora:
        ranks = {part.name: part.manifest.connection.lora_rank for part in with_lora}
        for at in range(spec.tail_blocks):
            for side in ("key", "value"):
                factors = [_lora(part, loaded[part.name], at, side) for part in with_lora]
                name = f"lora.{at}.{side}"
                weights[f"{name}.a"] = np.concatenate([a for a, _ in factors], axis=1)
                weights[f"{name}.b"] = np.concatenate([b for _, b in factors])
        lora_parts = tuple(
            LoraPart(name=name, rank=rank, weight=lora_weights[name])
            for name, rank in ranks.items()
        )
        rank = sum(ranks.values())
        changes = {"lora_rank": rank, "lora_parts": lora_parts}
        spec = ConnectionSpec.model_validate(spec.model_dump() | changes)
    return JoinedConnection(spec, weights)


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
    weights = dict(joined.weights)
    for at in range(spec.tail_blocks):
        for side in ("key", "value"):
            a = np.zeros((some[0].shape[0], rank), np.float32)
            b = np.zeros((rank, some[1].shape[1]), np.float32)
            found = change.factors.get((num_blocks - spec.tail_blocks + at, side))
            if found is not None:
                a[:, : found[0].shape[1]], b[: len(found[1])] = found
            weights[f"lora.{at}.{side}.a"], weights[f"lora.{at}.{side}.b"] = a, b
    changes = {"lora_rank": rank, "lora_parts": ()}
    return JoinedConnection(ConnectionSpec.model_validate(spec.model_dump() | changes), weights)


def encoder_in(part: Part, encoder: str, stored: Mapping[str, str]) -> EncoderSpec:
    """An encoder of a part as the composed pack has it: its file has another name there."""
    spec = part.manifest.encoders[encoder]
    changes = {
        field: stored[name]
        for field, name in (("file", spec.file), ("backbone", spec.backbone))
        if name and name in stored
    }
    return EncoderSpec.model_validate(spec.model_dump() | changes)


def _lora(part: Part, weights: Mapping[str, Float], at: int, side: str) -> tuple[Float, Float]:
    """Factors of one part; where it was composed or adapted itself, as its own parts counted."""
    a, b = weights[f"lora.{at}.{side}.a"], weights[f"lora.{at}.{side}.b"]
    counted = part.manifest.connection.lora_weights
    return a, b if counted is None else b * counted[:, None]


def _fitted(array: Float, factor: str, own: ConnectionSpec, spec: ConnectionSpec) -> Float:
    """A factor of an aligner in the composed shape: the same function.

    Inner columns that are added give GELU(0) = 0 and meet rows of zeros. Keys that were shared by
    all blocks are said once per block.
    """
    more = spec.hidden - own.hidden
    if factor == "w1" and more:
        array = np.pad(array, ((0, 0), (0, more)))
    elif factor == "b1" and more:
        array = np.pad(array, (0, more))
    elif factor == "w2" and more:
        array = np.pad(array, ((0, more), (0, 0)))
    if factor in ("w2", "b2") and spec.per_block and not own.per_block:
        array = np.tile(array, (1, spec.tail_blocks) if factor == "w2" else spec.tail_blocks)
    return array
