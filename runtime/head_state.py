"""What stays of questions after the head, one by one and packed for a batch.

A batch of standing questions is the same in every frame, so what packing makes of it (states,
layout, attention bias) is kept too.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .apart import ApartLayout
from .lora import CutNorms, Lora
from .model_config import LanguageModelConfig
from .packing import PackedLayout, pack_lengths, packed_bias

Float = NDArray[np.float32]
KeyValue = tuple[Float, Float]

#: Batches kept by `PackedHeadsCache`: standing questions at a few depths.
_KEPT = 8


@dataclass(frozen=True, eq=False)
class HeadState:
    """A question after the head: all that later frames need of it.

    Attributes:
        token_ids: int64 `[tokens]`.
        states: by boundary block, the residual stream `[1, tokens, hidden_size]` and the packed
            projections `[1, tokens, qkv_size]` that enter that block.
        cache: by block below the highest boundary, keys and values
            `[1, kv_heads, tokens, head_dim]`.
    """

    token_ids: NDArray[np.int64]
    states: Mapping[int, KeyValue]
    cache: Mapping[int, KeyValue]

    @property
    def nbytes(self) -> int:
        """Bytes held for this question."""
        pairs = (*self.states.values(), *self.cache.values())
        return sum(a.nbytes + b.nbytes for a, b in pairs)


@dataclass
class PackedHeads:
    """A batch of questions at one boundary.

    Attributes:
        boundary: first block of the tail.
        heads: the questions.
        layout: where their tokens lie.
        residual: `[1, tokens, hidden_size]`.
        qkv: `[1, tokens, qkv_size]`.
    """

    boundary: int
    heads: tuple[HeadState, ...]
    layout: PackedLayout
    residual: Float
    qkv: Float
    _biases: dict[bytes, tuple[Float, Float]] = field(default_factory=dict)
    _apart_biases: dict[int, tuple[Float, Float]] = field(default_factory=dict)
    _adapted: tuple[Lora, Float] | None = None

    def biases(
        self, config: LanguageModelConfig, prefix_owner: NDArray[np.int64]
    ) -> tuple[Float, Float]:
        """Attention bias for blocks that see the prefix, and for those that do not."""
        key = prefix_owner.tobytes()
        if key not in self._biases:
            if len(self._biases) >= _KEPT:
                self._biases.clear()
            self._biases[key] = (
                packed_bias(config, self.layout, prefix_owner),
                packed_bias(config, self.layout, prefix_owner, prefix_visible=False),
            )
        return self._biases[key]

    @cached_property
    def apart(self) -> ApartLayout:
        """Places of the questions where each attends to itself alone."""
        return ApartLayout(self.layout)

    def apart_biases(self, config: LanguageModelConfig, rows: int) -> tuple[Float, Float]:
        """As `biases`, where each question attends to itself alone, behind `rows` of a prefix."""
        if rows not in self._apart_biases:
            if len(self._apart_biases) >= _KEPT:
                self._apart_biases.clear()
            self._apart_biases[rows] = (
                self.apart.bias(config, rows),
                self.apart.bias(config, rows, prefix_visible=False),
            )
        return self._apart_biases[rows]

    def projections(self, lora: Lora | None, norms: CutNorms) -> Float:
        """`qkv` with what a LoRA adds to it; computed once as long as the LoRA is the same."""
        if lora is None or self.boundary not in lora.blocks:
            return self.qkv
        if self._adapted is None or self._adapted[0] is not lora:
            x = norms.attention_input(self.boundary, self.residual)
            self._adapted = (lora, self.qkv + lora.change(self.boundary, x))
        return self._adapted[1]


class PackedHeadsCache:
    """The batches that were used last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[tuple[HeadState, ...], int], PackedHeads] = OrderedDict()

    def get(self, heads: Sequence[HeadState], boundary: int) -> PackedHeads:
        """Pack `heads` at `boundary`, or return what was packed before."""
        # Questions are told apart by identity: their states never change.
        key = (tuple(heads), boundary)
        packed = self._kept.pop(key, None)
        if packed is None:
            states = [head.states[boundary] for head in heads]
            packed = PackedHeads(
                boundary=boundary,
                heads=key[0],
                layout=pack_lengths([len(head.token_ids) for head in heads]),
                residual=np.concatenate([residual for residual, _ in states], axis=1),
                qkv=np.concatenate([qkv for _, qkv in states], axis=1),
            )
        self._kept[key] = packed
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return packed
