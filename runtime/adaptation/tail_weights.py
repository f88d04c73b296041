"""The weights that training goes through, as arrays: `export.tail_weights` makes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..model_config import LanguageModelConfig

Float = NDArray[np.float32]


@dataclass(frozen=True)
class BlockWeights:
    """One block, float32: matrices are `[outputs, inputs]`.

    Attributes:
        attention_norm: `[hidden_size]`.
        qkv: packed projections, queries above keys above values.
        qkv_bias: `[qkv_size]`, or None.
        output: of the attention.
        ffn_norm: `[hidden_size]`.
        ffn_in: gate above up.
        ffn_out: of the feed-forward network.
    """

    attention_norm: Float
    qkv: Float
    qkv_bias: Float | None
    output: Float
    ffn_norm: Float
    ffn_in: Float
    ffn_out: Float


@dataclass(frozen=True)
class TailWeights:
    """The last blocks of a language model, made by `export.tail_weights`.

    Attributes:
        config: of the whole model.
        blocks: the last ones, in their order.
        final_norm: `[hidden_size]`.
        rotary: cosines and sines, float32 `[positions, head_dim / 2]` each.
        vocabulary: rows of the output embedding, `[vocab_size, hidden_size]`.
    """

    config: LanguageModelConfig
    blocks: Sequence[BlockWeights]
    final_norm: Float
    rotary: tuple[Float, Float]
    vocabulary: Float
