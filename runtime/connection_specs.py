"""Shapes of connections: what a manifest says of one, and which weights it has.

Nothing here computes; `connections.py` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from .composition_specs import LoraPart
from .errors import PackError

Float = NDArray[np.float32]


class ConnectionSpec(BaseModel):
    """Shape of a connection.

    Attributes:
        kind: `plain` or `conditioned`.
        tail_blocks: deepest tail that it has gates for.
        per_block: whether each tail block has keys and values of its own (plain kind; the
            conditioned kind always has).
        hidden: inner width of the aligners (plain kind).
        width: of the small transformer (conditioned kind).
        layers: of the small transformer.
        heads: of the small transformer.
        lora_rank: of the LoRA on the key and value projections of all tail blocks, 0 for none.
        lora_parts: whose columns these are in a composed connection, and how much each counts;
            empty where all count as they are.
        file: weights in the pack.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["plain", "conditioned"]
    tail_blocks: int = Field(gt=0)
    per_block: bool = False
    hidden: int = Field(default=1280, gt=0)
    width: int = Field(default=160, gt=0)
    layers: int = Field(default=4, gt=0)
    heads: int = Field(default=4, gt=0)
    lora_rank: int = Field(default=0, ge=0)
    lora_parts: tuple[LoraPart, ...] = ()
    file: str = "connection.safetensors"

    @model_validator(mode="after")
    def _heads_divide(self) -> ConnectionSpec:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")
        return self

    @model_validator(mode="after")
    def _parts_fill_the_rank(self) -> ConnectionSpec:
        ranks = sum(part.rank for part in self.lora_parts)
        if self.lora_parts and ranks != self.lora_rank:
            raise ValueError(
                f"lora_parts have rank {ranks} together, lora_rank is {self.lora_rank}"
            )
        if len({part.name for part in self.lora_parts}) != len(self.lora_parts):
            raise ValueError("lora_parts has a name twice")
        return self

    @property
    def lora_weights(self) -> Float | None:
        """How much each column of the LoRA counts, float32 `[lora_rank]`; None: all as they are."""
        if not self.lora_parts:
            return None
        ranks = [part.rank for part in self.lora_parts]
        return np.repeat(np.array([p.weight for p in self.lora_parts], np.float32), ranks)

    def with_lora_rank(self, rank: int) -> ConnectionSpec:
        """With a LoRA of another rank; columns beyond those of the parts count as they are."""
        parts, left = self.lora_parts, rank - self.lora_rank
        if parts and left > 0:
            known = {part.name for part in parts}
            name = next(n for i in range(len(parts) + 1) if (n := f"added{i or ''}") not in known)
            parts = (*parts, LoraPart(name=name, rank=left, weight=1.0))
        return ConnectionSpec.model_validate(
            self.model_dump() | {"lora_rank": rank, "lora_parts": parts if left >= 0 else ()}
        )

    @property
    def blocks_out(self) -> int:
        """How many sets of keys and values the weights make."""
        return self.tail_blocks if self.per_block or self.kind == "conditioned" else 1


class ModelSizes(Protocol):
    """The sizes of a language model that the weights of a connection depend on."""

    @property
    def hidden_size(self) -> int: ...
    @property
    def num_kv_heads(self) -> int: ...
    @property
    def head_dim(self) -> int: ...


def weight_shapes(
    spec: ConnectionSpec,
    config: ModelSizes,
    encoders: Mapping[str, tuple[int, int]],
    sensors: Mapping[str, str],
) -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight of a connection.

    Args:
        spec: of the connection.
        config: sizes of the language model.
        encoders: by modality name, tokens and width of its encoder.
        sensors: modality name by sensor.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    out = spec.blocks_out * config.num_kv_heads * config.head_dim
    for modality, (_, width) in encoders.items():
        shapes[f"gate.{modality}"] = (spec.tail_blocks,)
        if spec.kind == "conditioned":
            shapes[f"{modality}.in.w"] = (width, spec.width)
            shapes[f"{modality}.in.b"] = (spec.width,)
            continue
        for side in ("key", "value"):
            shapes[f"{modality}.{side}.w1"] = (width, spec.hidden)
            shapes[f"{modality}.{side}.b1"] = (spec.hidden,)
            shapes[f"{modality}.{side}.w2"] = (spec.hidden, out)
            shapes[f"{modality}.{side}.b2"] = (out,)
    for sensor, modality in sensors.items():
        shapes[f"sensor.{sensor}"] = encoders[modality]
    if spec.kind == "conditioned":
        shapes |= transformer_shapes(spec, config.hidden_size, out)
    return shapes | lora_shapes(spec, config)


def lora_shapes(spec: ConnectionSpec, config: ModelSizes) -> dict[str, tuple[int, ...]]:
    """Of the matrices by tail block, counted from the front of the deepest tail.

    The scale `alpha / r` is part of `b`.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for block in range(spec.tail_blocks if spec.lora_rank else 0):
        for side in ("key", "value"):
            shapes[f"lora.{block}.{side}.a"] = (config.hidden_size, spec.lora_rank)
            out = config.num_kv_heads * config.head_dim
            shapes[f"lora.{block}.{side}.b"] = (spec.lora_rank, out)
    return shapes


def transformer_shapes(
    spec: ConnectionSpec, hidden_size: int, out: int
) -> dict[str, tuple[int, ...]]:
    """Of the small transformer of the conditioned kind; `out` is the width of its keys."""
    width = spec.width
    shapes: dict[str, tuple[int, ...]] = {
        "gate.summary": (spec.tail_blocks,),
        "summary": (1, width),
        "question.w": (hidden_size, width),
        "question.b": (width,),
        "question.norm": (hidden_size,),
        "final.norm.w": (width,),
        "final.norm.b": (width,),
    }
    for side in ("key", "value"):
        shapes[f"{side}.w"] = (width, out)
        shapes[f"{side}.b"] = (out,)
    for layer in range(spec.layers):
        for norm in ("norm1", "norm2"):
            shapes[f"layer{layer}.{norm}.w"] = (width,)
            shapes[f"layer{layer}.{norm}.b"] = (width,)
        for name, rows, columns in (
            ("qkv", width, 3 * width),
            ("out", width, width),
            ("ffn1", width, 4 * width),
            ("ffn2", 4 * width, width),
        ):
            shapes[f"layer{layer}.{name}.w"] = (rows, columns)
            shapes[f"layer{layer}.{name}.b"] = (columns,)
    return shapes


def check_weights(
    weights: Mapping[str, Float], shapes: Mapping[str, tuple[int, ...]], field: str
) -> None:
    """Refuse weights that do not fit.

    Raises:
        PackError: a weight is missing, unknown, of another shape, not float32, or not finite.
    """
    missing, unknown = (
        sorted(shapes.keys() - weights.keys()),
        sorted(weights.keys() - shapes.keys()),
    )
    if missing or unknown:
        raise PackError(
            f"weights are missing: {missing[:3]}, unknown: {unknown[:3]}",
            field=field,
            remedy="the weights belong to another connection; make the pack again",
        )
    for name, shape in shapes.items():
        array = weights[name]
        if array.shape != shape:
            raise PackError(
                f"shape {array.shape} where {shape} is needed",
                field=f"{field}: {name}",
                remedy="the weights belong to another connection; make the pack again",
            )
        if array.dtype != np.float32:
            raise PackError(
                f"dtype {array.dtype} where float32 is needed",
                field=f"{field}: {name}",
                remedy="convert the weights",
            )
        if not np.isfinite(array).all():
            raise PackError(
                "the weights are not finite",
                field=f"{field}: {name}",
                remedy="training diverged; use an earlier checkpoint",
            )
