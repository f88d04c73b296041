"""What parts of a frame cost: floating-point operations and bytes, from one formula per layer kind.

Two operations per multiply-add. Only matrix products are counted (linear layers, attention,
convolutions); norms, activations and rotary embeddings are below one percent. Nothing is measured
here; times come from running.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .apart import attend_apart
from .connections import ConnectionSpec, ModelSizes
from .model_config import LanguageModelConfig, Precision

#: Inputs that share a scale in quantised matrices.
_BLOCK = 32
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
    """Costs of the stages of a language model.

    Attributes:
        config: its sizes.
        precision: of its block matrices. int4 has a small product for the offsets of its blocks.
            The few channels that some int8 matrices multiply twice are left out: which ones do is
            known to the engines only, and they are below two percent of a model.
        apart: whether engines let packed texts attend each to itself alone (`runtime/apart.py`).
    """

    config: LanguageModelConfig
    precision: Precision = "fp32"
    apart: bool = True

    @property
    def _ffn_inputs(self) -> int:
        gated = 2 if self.config.activation == "silu_gate" else 1
        return gated * self.config.ffn_size

    def _linear(self, tokens: int, inputs: int, outputs: int) -> int:
        offsets = inputs // _BLOCK if self.precision == "int4" and inputs % _BLOCK == 0 else 0
        return linear_flops(tokens, inputs + offsets, outputs)

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
        return self._linear(tokens, self.config.hidden_size, self.config.qkv_size)

    def attention(self, queries: int, keys: int) -> int:
        return attention_flops(queries, keys, self.config.num_heads, self.config.head_dim)

    def after_attention(self, tokens: int) -> int:
        """Output projection and feed-forward network."""
        c = self.config
        return (
            self._linear(tokens, c.num_heads * c.head_dim, c.hidden_size)
            + self._linear(tokens, c.hidden_size, self._ffn_inputs)
            + self._linear(tokens, c.ffn_size, c.hidden_size)
        )

    def block(self, tokens: int, keys: int) -> int:
        """One whole block."""
        return self.qkv(tokens) + self.attention(tokens, keys) + self.after_attention(tokens)

    def embed(self, tokens: int) -> int:
        """From embeddings to the projections of the first block."""
        return self._project_in(tokens) + self.qkv(tokens)

    def _project_in(self, tokens: int) -> int:
        """Between embeddings and hidden states, where their sizes differ (OPT-350M)."""
        c = self.config
        differs = c.embedding_size != c.hidden_size
        return self._linear(tokens, c.embedding_size, c.hidden_size) if differs else 0

    def _project_out(self, tokens: int) -> int:
        c = self.config
        differs = c.embedding_size != c.hidden_size
        return self._linear(tokens, c.hidden_size, c.embedding_size) if differs else 0

    def lora(self, tokens: int, rank: int, blocks: int) -> int:
        """A LoRA of this rank on the keys and values of `blocks` blocks; see `Lora.packed`."""
        c = self.config
        products = linear_flops(tokens, c.hidden_size, 2 * rank)
        return blocks * (products + linear_flops(tokens, 2 * rank, c.qkv_size))

    def head(self, tokens: int, boundary: int) -> int:
        """Embed stage and blocks below `boundary`, with the projections of the block behind."""
        return self.embed(tokens) + boundary * self.block(tokens, tokens)

    def tail(self, lengths: Sequence[int], boundary: int, prefix_rows: int, copies: int = 1) -> int:
        """All questions through blocks from `boundary` on, as one packed batch.

        The first block's projections are cached, the last block's output is for last tokens only.

        Args:
            lengths: tokens of each question.
            boundary: first block.
            prefix_rows: that each question attends to.
            copies: how often these rows are there where questions attend packed: once, or once
                per question.
        """
        tokens, questions = sum(lengths), len(lengths)
        blocks = self.config.num_blocks - boundary
        return (
            (blocks - 1) * (self.qkv(tokens) + self.after_attention(tokens))
            + blocks * self._text_attention(lengths, prefix_rows, copies)
            + self.after_attention(questions)
            + self._project_out(questions)
        )

    def _text_attention(self, lengths: Sequence[int], prefix_rows: int, copies: int) -> int:
        """Of one block, with padding or with what is masked."""
        if self.apart and attend_apart(lengths):
            longest = max(lengths)
            return len(lengths) * self.attention(longest, prefix_rows + longest)
        tokens = sum(lengths)
        return self.attention(tokens, copies * prefix_rows + tokens)

    def decode_step(self, tokens: int, text_keys: int, boundary: int, prefix_rows: int) -> int:
        """One more token of `tokens` questions through all blocks, without the logits.

        Args:
            tokens: new ones, one per question.
            text_keys: text tokens that they attend to, with themselves.
            boundary: first block whose keys begin with the prefix.
            prefix_rows: rows of the prefix.
        """
        blocks = self.config.num_blocks
        return (
            self._project_in(tokens)
            + blocks * self.block(tokens, text_keys)
            + (blocks - boundary) * self.attention(tokens, prefix_rows)
            + self._project_out(tokens)
        )

    def logits(self, rows: int, tokens: int | None = None) -> int:
        """Scores of `tokens` vocabulary entries (all of them if None) for `rows` states.

        A quantised engine scores all entries in two passes, to keep more bits of the states.
        """
        size = self.config.embedding_size
        if tokens is not None:
            return linear_flops(rows, size, tokens)
        passes = 1 if self.precision == "fp32" or size % _BLOCK else 2
        return linear_flops(passes * rows, size, self.config.vocab_size)

    def weight_bytes(self, precision: Precision) -> int:
        """Bytes of all block matrices."""
        return round(self.config.num_blocks * self.block_weights() * WEIGHT_BYTES[precision])


@dataclass(frozen=True)
class ConnectionCost:
    """Costs of a connection, in the two steps that `Connection` takes."""

    spec: ConnectionSpec
    config: ModelSizes

    @property
    def _out(self) -> int:
        return self.spec.blocks_out * self.config.num_kv_heads * self.config.head_dim

    def prepare(self, tokens: int, width: int) -> int:
        """What a sensor's tokens need once, whatever is asked; see `Connection.prepare`."""
        if self.spec.kind == "conditioned":
            return linear_flops(tokens, width, self.spec.width)
        hidden = self.spec.hidden
        return 2 * (linear_flops(tokens, width, hidden) + linear_flops(tokens, hidden, self._out))

    def connect(self, sensor_tokens: int, lengths: Sequence[int]) -> int:
        """What a batch of questions needs; see `Connection.connect`.

        Args:
            sensor_tokens: of all active sensors.
            lengths: tokens of each question; shorter ones are padded to the longest.
        """
        if self.spec.kind == "plain" or not sensor_tokens:
            return 0
        width, longest, rows = self.spec.width, max(lengths), self.rows(sensor_tokens)
        total = rows + longest
        layer = linear_flops(total, width, 12 * width) + 4 * total * total * width
        return len(lengths) * (
            linear_flops(longest, self.config.hidden_size, width)
            + self.spec.layers * layer
            + 2 * linear_flops(rows, width, self._out)
        )

    def rows(self, sensor_tokens: int) -> int:
        """Prefix rows that a question attends to."""
        summary = 1 if self.spec.kind == "conditioned" and sensor_tokens else 0
        return sensor_tokens + summary

    def packed_rows(self, sensor_tokens: int, questions: int) -> int:
        """Prefix rows of a packed batch: conditioned ones are there once per question."""
        return self.rows(sensor_tokens) * self.copies(questions)

    def copies(self, questions: int) -> int:
        """How often each row is there in a packed batch."""
        return questions if self.spec.kind == "conditioned" else 1
