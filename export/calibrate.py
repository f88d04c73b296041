"""Finds which activation channels stand out, by running a short text through the model in numpy.

Language models have a few channels in the residual stream that are tens of times larger than the
rest. In a block of 32 that is rounded to 8 bits they cost all others their precision, so the int8
graphs take them apart (see `llm_layers.py`). They are the same for any text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from ..runtime.model_config import LanguageModelConfig
from ..runtime.packing import alibi_slopes
from .checkpoint import Checkpoint
from .llm_layers import rotary_tables
from .weights import Block, Linear, Norm

Float = NDArray[np.float32]

#: Prose, dialogue, numbers, code and a web address: what a model is used to.
_TEXT = (
    "The robot drives along the street and looks at the cars. A woman in a red coat waits at the "
    "crossing; two children follow her. Question: how many trucks are there in front of the bus? "
    "Answer: three. In 1984, the United States had 51 electoral votes & 12,300 people; see "
    "https://www.example.org for more.\n\ndef main(values):\n    return [v * 42 for v in values]\n"
    '"Once upon a time," she said, "there was a little girl who lived near the forest."'
)
_MAX_TOKENS = 128


@dataclass(frozen=True)
class Peaks:
    """Largest magnitudes of the inputs of a block's first layers, float32 `[hidden_size]`."""

    attention: Float
    feed_forward: Float


class CalibratedCheckpoint:
    """A checkpoint whose blocks know the peaks of their inputs; all else as in the original."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Run the text; takes about a second per hundred million weights."""
        self.config = checkpoint.config
        self.embedding = checkpoint.embedding
        self.positions = checkpoint.positions
        self.embedding_norm = checkpoint.embedding_norm
        self.project_in = checkpoint.project_in
        self.project_out = checkpoint.project_out
        self.final_norm = checkpoint.final_norm
        self.head = checkpoint.head
        self.tokenizer_json = checkpoint.tokenizer_json
        self.chat_template = checkpoint.chat_template
        self._block = checkpoint.block
        self._peaks = activation_peaks(checkpoint)

    def block(self, index: int) -> Block:
        """The weights of one block, with the peaks of what goes in."""
        block, peaks = self._block(index), self._peaks[index]
        return replace(
            block,
            qkv=replace(block.qkv, peaks=peaks.attention),
            ffn_in=replace(block.ffn_in, peaks=peaks.feed_forward),
        )


def activation_peaks(checkpoint: Checkpoint) -> list[Peaks]:
    """Peaks of every block, over a text of about a hundred tokens."""
    config = checkpoint.config
    ids = Tokenizer.from_str(checkpoint.tokenizer_json()).encode(_TEXT).ids
    tokens = np.asarray(ids[: min(_MAX_TOKENS, config.max_positions)])
    return list(_forward(checkpoint, tokens))


def _forward(checkpoint: Checkpoint, tokens: NDArray[np.int64]) -> Iterator[Peaks]:
    config = checkpoint.config
    x = checkpoint.embedding().dense()[tokens]
    projection, table = checkpoint.project_in(), checkpoint.positions()
    if projection is not None:
        x = _linear(x, projection)
    if table is not None:
        x = x + table[: len(tokens)]
    first = checkpoint.embedding_norm()
    if first is not None:
        x = _norm(config, x, first)
    bias = _bias(config, len(tokens))
    for index in range(config.num_blocks):
        block = checkpoint.block(index)
        attention_input = x if config.post_norm else _norm(config, x, block.attention_norm)
        x = x + _linear(_attention(config, attention_input, block, bias), block.output)
        if config.post_norm:
            x = _norm(config, x, block.attention_norm)
        ffn_input = x if config.post_norm else _norm(config, x, block.ffn_norm)
        inner = _activate(config, _linear(ffn_input, block.ffn_in))
        x = x + _linear(inner, block.ffn_out)
        if config.post_norm:
            x = _norm(config, x, block.ffn_norm)
        yield Peaks(np.abs(attention_input).max(axis=0), np.abs(ffn_input).max(axis=0))


def _linear(x: Float, layer: Linear) -> Float:
    y = x @ layer.weight.dense().T
    return y if layer.bias is None else y + layer.bias


def _norm(config: LanguageModelConfig, x: Float, norm: Norm) -> Float:
    if config.norm == "layer":
        x = x - x.mean(axis=-1, keepdims=True)
    scaled = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + config.norm_eps) * norm.weight
    return scaled if norm.bias is None else scaled + norm.bias


def _bias(config: LanguageModelConfig, tokens: int) -> Float:
    """Causal mask, with ALiBi where the model has it: `[1 or heads, tokens, tokens]`."""
    positions = np.arange(tokens, dtype=np.float32)
    distances = positions[None, :] - positions[:, None]
    slopes = alibi_slopes(config.num_heads) if config.position == "alibi" else np.zeros(1)
    causal = np.where(distances > 0, -np.inf, 0.0)
    return (causal[None] + slopes[:, None, None] * distances[None]).astype(np.float32)


def _attention(config: LanguageModelConfig, x: Float, block: Block, bias: Float) -> Float:
    heads, kv_heads, size = config.num_heads, config.num_kv_heads, config.head_dim
    packed = _linear(x, block.qkv).reshape(len(x), heads + 2 * kv_heads, size).transpose(1, 0, 2)
    query, key, value = np.split(packed, [heads, heads + kv_heads])
    if config.position == "rope":
        query, key = _rotate(config, query), _rotate(config, key)
    key, value = (np.repeat(part, heads // kv_heads, axis=0) for part in (key, value))
    scores = query @ key.transpose(0, 2, 1) / np.float32(np.sqrt(size)) + bias
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed = (weights / weights.sum(axis=-1, keepdims=True)) @ value
    return mixed.transpose(1, 0, 2).reshape(len(x), heads * size)


def _rotate(config: LanguageModelConfig, x: Float) -> Float:
    cos, sin = rotary_tables(config, x.shape[1])
    low, high = np.split(x, 2, axis=-1)
    turned = [low * cos - high * sin, high * cos + low * sin]
    return np.concatenate(turned, axis=-1, dtype=np.float32)


def _activate(config: LanguageModelConfig, x: Float) -> Float:
    if config.activation == "silu_gate":
        gate, up = np.split(x, 2, axis=-1)
        return (gate / (1 + np.exp(-gate)) * up).astype(np.float32)
    if config.activation == "relu":
        return np.maximum(x, 0)
    # The tanh form serves both kinds of GELU: only magnitudes matter here.
    curve = np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))
    return (0.5 * x * (1 + curve)).astype(np.float32)
