"""The tail of a language model in torch: what gradients flow through while connections learn.

Its weights are frozen; only prefixes (and low-rank branches beside the key and value projections)
lead to what is trained. Text enters as cached head states, so an epoch costs the tail alone, and
nothing below the tail is ever loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ..errors import ConfigError
from .attention import attend
from .tail_weights import TailWeights

#: Keys and values of text rows cost one column each; masked ones get this score.
_MASKED = -1e30


@dataclass(frozen=True)
class Prefix:
    """What a connection puts in front of the text in each tail block.

    Attributes:
        keys: `[batch, blocks, kv_heads, rows, head_dim]`; `[batch, 1, …]` is shared by all blocks.
        values: like keys.
        present: bool `[batch, rows]`, rows that are there at all.
    """

    keys: Tensor
    values: Tensor
    present: Tensor

    def last(self, blocks: int) -> Prefix:
        """What the last `blocks` blocks get of it."""
        return Prefix(self.keys[:, -blocks:], self.values[:, -blocks:], self.present)


#: By block of the tail and `key` or `value`: the two factors `[hidden_size, rank]`, `[rank, kv]`.
LowRank = Mapping[tuple[int, str], tuple[Tensor, Tensor]]


def without_first(branches: LowRank, blocks: int) -> LowRank:
    """The branches of a tail that is shallower by `blocks`."""
    return {
        (block - blocks, side): factors
        for (block, side), factors in branches.items()
        if block >= blocks
    }


class TailModel(nn.Module):
    """The last blocks; text comes from caches, sensors as prefixes."""

    final_norm: nn.Parameter
    _cos: Tensor
    _sin: Tensor

    def __init__(
        self,
        weights: TailWeights,
        dtype: torch.dtype = torch.bfloat16,
        device: torch.device | str = "cpu",
    ) -> None:
        """Copy the weights.

        Args:
            weights: of the blocks.
            dtype: of products; norms, the residual stream and softmax stay float32.
            device: where they lie.

        Raises:
            ConfigError: the model is of another kind than Llama or Qwen2.
        """
        super().__init__()
        config = weights.config
        if config.position != "rope" or config.norm != "rms" or config.activation != "silu_gate":
            raise ConfigError(
                f"training goes through models of the Llama and Qwen2 kind, not "
                f"{config.architecture}",
                field="base_model",
                remedy="train with another base model; running is not affected",
            )
        self.config = config
        self.dtype = dtype
        self.num_blocks = len(weights.blocks)

        def frozen(array: NDArray, kind: torch.dtype = torch.float32) -> nn.Parameter:
            tensor = torch.tensor(array, dtype=kind, device=device)
            return nn.Parameter(tensor, requires_grad=False)

        for index, block in enumerate(weights.blocks):
            for name in ("attention_norm", "ffn_norm"):
                self.register_parameter(f"{name}{index}", frozen(getattr(block, name)))
            for name in ("qkv", "output", "ffn_in", "ffn_out"):
                self.register_parameter(f"{name}{index}", frozen(getattr(block, name), dtype))
            bias = None if block.qkv_bias is None else frozen(block.qkv_bias, dtype)
            self.register_parameter(f"qkv_bias{index}", bias)
        self.register_parameter("final_norm", frozen(weights.final_norm))
        self.vocabulary = weights.vocabulary
        cos, sin = (torch.from_numpy(table).to(device) for table in weights.rotary)
        self.register_buffer("_cos", cos, persistent=False)
        self.register_buffer("_sin", sin, persistent=False)

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        return self.final_norm.device

    def rows_of(self, token_ids: Sequence[int]) -> Tensor:
        """Output embeddings of a few tokens, float32 `[len(token_ids), hidden_size]`."""
        rows = torch.from_numpy(self.vocabulary[list(token_ids)].astype("float32"))
        return rows.to(self.device)

    def output_projection(self, index: int) -> Tensor:
        """Of the attention of a block of this tail, `[hidden_size, heads * head_dim]`."""
        return self._parameter("output", index)

    def final_scale(self) -> Tensor:
        """Weights of the norm before the logits, float32 `[hidden_size]`."""
        return self.final_norm

    @torch.no_grad()
    def mean_queries(self, residual: Tensor, lengths: Tensor) -> list[Tensor]:
        """By block, the mean query of the last tokens, float32 `[heads, head_dim]`.

        Args:
            residual: see `forward`.
            lengths: see `forward`.
        """
        seen: list[Tensor] = []
        self.forward(residual, lengths, None, queries=seen)
        return seen

    @torch.no_grad()
    def streams(self, residual: Tensor, lengths: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """The residual stream that enters some blocks, of all tokens, without any sensor.

        Args:
            residual: see `forward`; enters the first block.
            lengths: see `forward`.
            blocks: of this model, ascending; the number of blocks is what leaves the last one.

        Returns:
            By block float32 `[batch, tokens, hidden_size]`.
        """
        return self.streams_with_gradients(residual, lengths, blocks)

    def streams_with_gradients(
        self,
        residual: Tensor,
        lengths: Tensor,
        blocks: Sequence[int],
        low_rank: LowRank | None = None,
    ) -> list[Tensor]:
        """What `streams` gives, for training that goes through these blocks too.

        Args:
            residual: see `streams`.
            lengths: see `streams`.
            blocks: see `streams`.
            low_rank: see `forward`.
        """
        bias = self._bias(len(residual), residual.shape[1], None)
        x, found = residual, []
        for index in range(max(blocks) + 1):
            if index in blocks:
                found.append(x)
            if index < max(blocks):
                normed = self._norm(x, f"attention_norm{index}").to(self.dtype)
                query, key, value = self._project(normed, index, low_rank)
                attended = self._attend(query, key, value, lengths - 1, None, bias)
                x = self._behind_attention(x, attended, index)
        return found

    def forward(
        self,
        residual: Tensor,
        lengths: Tensor,
        prefix: Prefix | None,
        low_rank: LowRank | None = None,
        first_block: int = 0,
        queries: list[Tensor] | None = None,
    ) -> Tensor:
        """States behind the last token of each text.

        Args:
            residual: float32 `[batch, tokens, hidden_size]`, the cached head states that enter
                block `first_block`, padded on the right.
            lengths: int64 `[batch]`, tokens of each text.
            prefix: for the blocks from `first_block` on.
            low_rank: branches beside the key and value projections, by block of this tail.
            first_block: of this tail; a shallower tail skips the ones before.
            queries: gets the mean query of the last tokens of each block.

        Returns:
            float32 `[batch, hidden_size]`, normed: logits are products with `rows_of`.
        """
        batch, tokens, _ = residual.shape
        bias = self._bias(batch, tokens, None if prefix is None else prefix.present)
        prefixes = None if prefix is None else self._by_block(prefix, first_block)
        last = lengths - 1
        x = residual
        for index in range(first_block, self.num_blocks):
            is_last = index == self.num_blocks - 1
            normed = self._norm(x, f"attention_norm{index}").to(self.dtype)
            query, key, value = self._project(normed, index, low_rank)
            if queries is not None:
                at_last = query[torch.arange(batch, device=x.device), last][:, None].transpose(1, 2)
                turned = self._rotate(at_last, last[:, None, None])
                queries.append(turned[:, :, 0].float().mean(0))
            x_in, block_bias = x, bias
            if is_last:
                at = torch.arange(batch, device=x.device)
                query = query[at, last][:, None]
                x_in = x[at, last][:, None]
                block_bias = bias[at, :, last][:, :, None]
            rows = None if prefixes is None else prefixes[index - first_block]
            attended = self._attend(query, key, value, last, rows, block_bias)
            x = self._behind_attention(x_in, attended, index)
        return self._norm(x[:, 0], "final_norm")

    def _behind_attention(self, x: Tensor, attended: Tensor, index: int) -> Tensor:
        """The block's output: attention and feed-forward network added to the stream."""
        x = x + functional.linear(attended, self._parameter("output", index)).float()
        normed = self._norm(x, f"ffn_norm{index}").to(self.dtype)
        gate, up = functional.linear(normed, self._parameter("ffn_in", index)).chunk(2, -1)
        inner = functional.silu(gate) * up
        return x + functional.linear(inner, self._parameter("ffn_out", index)).float()

    def _parameter(self, name: str, index: int) -> Tensor:
        return getattr(self, f"{name}{index}")

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return functional.rms_norm(x, x.shape[-1:], getattr(self, name), self.config.norm_eps)

    def _bias(self, batch: int, tokens: int, present: Tensor | None) -> Tensor:
        """Attention bias `[batch, 1, tokens, rows + tokens]`, in the dtype of products."""
        causal = torch.full((tokens, tokens), _MASKED, device=self.device).triu(1)
        causal = causal.expand(batch, 1, tokens, tokens)
        if present is None:
            return causal.to(self.dtype)
        rows = torch.zeros(present.shape, device=self.device).masked_fill(~present, _MASKED)
        rows = rows[:, None, None, :].expand(batch, 1, tokens, -1)
        return torch.cat([rows, causal], dim=-1).to(self.dtype)

    def _project(
        self, normed: Tensor, index: int, low_rank: LowRank | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries `[batch, tokens, heads, dim]`, keys and values `[batch, kv_heads, tokens, dim]`;
        keys have their rotary position."""
        c = self.config
        packed = functional.linear(
            normed, self._parameter("qkv", index), self._parameter("qkv_bias", index)
        )
        sizes = [c.num_heads * c.head_dim, *[c.num_kv_heads * c.head_dim] * 2]
        query, key, value = packed.split(sizes, -1)
        if low_rank is not None:
            for side in ("key", "value"):
                if (index, side) not in low_rank:
                    continue
                a, b = low_rank[index, side]
                branch = normed @ a.to(self.dtype) @ b.to(self.dtype)
                key, value = (key + branch, value) if side == "key" else (key, value + branch)
        query = query.unflatten(-1, (c.num_heads, c.head_dim))
        key = key.unflatten(-1, (c.num_kv_heads, c.head_dim)).transpose(1, 2)
        value = value.unflatten(-1, (c.num_kv_heads, c.head_dim)).transpose(1, 2)
        return query, self._rotate(key, torch.arange(key.shape[2], device=key.device)), value

    def _by_block(self, prefix: Prefix, first_block: int) -> list[tuple[Tensor, Tensor]]:
        """Keys and values for the blocks from `first_block` on."""
        blocks = self.num_blocks - first_block
        # Taken apart at once: a slice for each block would have gradients of the whole size each,
        # zeros but for one block, and filling these took longer than all the products.
        keys, values = (
            side.to(self.dtype).unbind(1) * (1 if side.shape[1] > 1 else blocks)
            for side in (prefix.keys, prefix.values)
        )
        return list(zip(keys, values, strict=True))

    def _rotate(self, x: Tensor, positions: Tensor) -> Tensor:
        """Rotary positions in the half-split convention; `x` ends in `[positions, head_dim]`."""
        cos, sin = self._cos[positions], self._sin[positions]
        low, high = x.float().chunk(2, -1)
        turned = torch.cat([low * cos - high * sin, high * cos + low * sin], dim=-1)
        return turned.to(self.dtype)

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        last: Tensor,
        rows: tuple[Tensor, Tensor] | None,
        bias: Tensor,
    ) -> Tensor:
        one_each = query.shape[1] == 1 and key.shape[2] > 1
        query = query.transpose(1, 2)
        if one_each:
            query = self._rotate(query, last[:, None, None])
        else:
            query = self._rotate(query, torch.arange(query.shape[2], device=query.device))
        if rows is not None:
            key, value = (torch.cat(pair, dim=2) for pair in zip(rows, (key, value), strict=True))
        return attend(query, key, value, bias).transpose(1, 2).flatten(2)
