"""What parts of a frame cost: floating-point operations and bytes, from one formula per layer kind.

Two operations per multiply-add. Only matrix products are counted (linear layers, attention,
convolutions); norms, activations and rotary embeddings are below one percent. Nothing is measured
here; times come from running.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .connections import ConnectionSpec
from .model_config import LanguageModelConfig, Precision

#: Bytes per weight: int8 has a float32 scale per 32, int4 a scale and an offset.
WEIGHT_BYTES: Mapping[Precision, float] = {"fp32": 4.0, "int8": 1.125, "int4": 0.75}


def linear_flops(tokens: int, inputs: int, outputs: int) -> int:
    """`[tokens, inputs] @ [inputs, outputs]`."""
    return 2 * tokens * inputs * outputs


def attention_flops(queries: int, keys: int, num_heads: int, head_dim: int) -> int:
    """Scores and weighted sum; masked pairs are computed too."""
    return 4 * queries * keys * num_heads * head_dim


@dataclass(frozen=True)
class LanguageModelCost:
    """Costs of the stages of a language model."""

    config: LanguageModelConfig

    @property
    def _ffn_inputs(self) -> int:
        gated = 2 if self.config.activation == "silu_gate" else 1
        return gated * self.config.ffn_size

    def block_weights(self) -> int:
        """Matrix elements of one block."""
        c = self.config
        return (
            c.hidden_size * c.qkv_size
            + c.num_heads * c.head_dim * c.hidden_size
            + c.hidden_size * self._ffn_inputs
            + c.ffn_size * c.hidden_size
        )

    def qkv(self, tokens: int) -> int:
        """Projections in front of a block's attention."""
        return linear_flops(tokens, self.config.hidden_size, self.config.qkv_size)

    def attention(self, queries: int, keys: int) -> int:
        return attention_flops(queries, keys, self.config.num_heads, self.config.head_dim)

    def after_attention(self, tokens: int) -> int:
        """Output projection and feed-forward network."""
        c = self.config
        return (
            linear_flops(tokens, c.num_heads * c.head_dim, c.hidden_size)
            + linear_flops(tokens, c.hidden_size, self._ffn_inputs)
            + linear_flops(tokens, c.ffn_size, c.hidden_size)
        )

    def block(self, tokens: int, keys: int) -> int:
        """One whole block."""
        return self.qkv(tokens) + self.attention(tokens, keys) + self.after_attention(tokens)

    def head(self, tokens: int, boundary: int) -> int:
        """Embed stage and blocks below `boundary`, with the projections of the block behind."""
        return self.qkv(tokens) + boundary * self.block(tokens, tokens)

    def tail(self, lengths: Sequence[int], boundary: int, prefix_rows: int) -> int:
        """All questions through blocks from `boundary` on, as one packed batch.

        The first block's projections are cached, the last block's output is for last tokens only.
        `prefix_rows` counts the rows of all questions together.
        """
        tokens, questions = sum(lengths), len(lengths)
        keys = prefix_rows + tokens
        blocks = self.config.num_blocks - boundary
        return (
            (blocks - 1) * (self.qkv(tokens) + self.after_attention(tokens))
            + blocks * self.attention(tokens, keys)
            + self.after_attention(questions)
        )

    def decode_step(self, keys: int) -> int:
        """One more token through all blocks, without the logits."""
        return self.config.num_blocks * self.block(1, keys)

    def logits(self, rows: int, tokens: int | None = None) -> int:
        """Scores of `tokens` vocabulary entries (all of them if None) for `rows` states."""
        wanted = self.config.vocab_size if tokens is None else tokens
        return linear_flops(rows, self.config.embedding_size, wanted)

    def weight_bytes(self, precision: Precision) -> int:
        """Bytes of all block matrices."""
        return round(self.config.num_blocks * self.block_weights() * WEIGHT_BYTES[precision])


def connection_flops(
    spec: ConnectionSpec,
    config: LanguageModelConfig,
    sensors: Sequence[tuple[int, int]],
    lengths: Sequence[int],
) -> int:
    """A frame's connection.

    Args:
        spec: of the connection.
        config: of the language model.
        sensors: tokens and width of each active sensor.
        lengths: tokens of each question.
    """
    out = spec.blocks_out * config.num_kv_heads * config.head_dim
    if not sensors:
        return 0
    if spec.kind == "plain":
        return sum(
            2 * (linear_flops(n, width, spec.hidden) + linear_flops(n, spec.hidden, out))
            for n, width in sensors
        )
    width = spec.width
    rows = 1 + sum(n for n, _ in sensors)
    longest, questions = max(lengths), len(lengths)
    per_question = rows + longest
    layer = linear_flops(per_question, width, 12 * width) + 4 * per_question * per_question * width
    return (
        sum(linear_flops(n, size, width) for n, size in sensors)
        + questions * linear_flops(longest, config.hidden_size, width)
        + questions * spec.layers * layer
        + questions * 2 * linear_flops(rows, width, out)
    )
