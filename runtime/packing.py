"""Several texts in one row of tokens, without padding, kept apart by an attention bias.

Linear layers see the tokens of all questions as one matrix; the bias makes each token attend to
its own question and to the prefix rows meant for it. Causality is the attention operator's job.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .model_config import LanguageModelConfig

#: Added to a score to forbid it; `exp` of it is exactly 0, and it cannot overflow to -inf.
MASKED = np.float32(-1e30)

#: Position of rows that have none.
PREFIX = -1

#: Owner and position of rows, int64 `[rows]` each.
Rows = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class PackedLayout:
    """Where the tokens of each text lie in the packed row.

    Attributes:
        lengths: tokens per text.
        offsets: first token of each text.
        position_ids: int64 `[1, tokens]`, starting at 0 in every text.
        last_index: int64 `[texts]`, the last token of each text.
        owner: int64 `[tokens]`, the text that a token belongs to.
    """

    lengths: tuple[int, ...]
    offsets: tuple[int, ...]
    position_ids: NDArray[np.int64]
    last_index: NDArray[np.int64]
    owner: NDArray[np.int64]

    @property
    def tokens(self) -> int:
        return len(self.owner)


def pack_lengths(lengths: Sequence[int]) -> PackedLayout:
    """Lay texts of these lengths out one after the other."""
    ends = np.cumsum(lengths)
    return PackedLayout(
        lengths=tuple(lengths),
        offsets=tuple(int(end - length) for end, length in zip(ends, lengths, strict=True)),
        position_ids=np.concatenate([np.arange(n, dtype=np.int64) for n in lengths])[None],
        last_index=(ends - 1).astype(np.int64),
        owner=np.repeat(np.arange(len(lengths)), lengths),
    )


def packed_bias(
    config: LanguageModelConfig,
    layout: PackedLayout,
    prefix_owner: NDArray[np.int64],
    *,
    prefix_visible: bool = True,
) -> NDArray[np.float32]:
    """Attention bias of packed texts over `[prefix rows ; the same texts]`.

    Args:
        config: of the model; decides about ALiBi.
        layout: of the texts.
        prefix_owner: int64 `[rows]`, the text that may see a prefix row, -1 for all.
        prefix_visible: False for blocks that do not attend to the prefix.

    Returns:
        Float32 `[1, 1 or heads, tokens, rows + tokens]`.
    """
    prefix_positions = np.full(len(prefix_owner), PREFIX)
    return attention_bias(
        config,
        (layout.owner, layout.position_ids[0]),
        (
            np.concatenate([prefix_owner, layout.owner]),
            np.concatenate([prefix_positions, layout.position_ids[0]]),
        ),
        prefix_visible=prefix_visible,
    )


def attention_bias(
    config: LanguageModelConfig,
    queries: Rows,
    keys: Rows,
    *,
    prefix_visible: bool = True,
) -> NDArray[np.float32]:
    """Attention bias between rows of several texts.

    Args:
        config: of the model; decides about ALiBi.
        queries: owner and position of each query.
        keys: owner (-1: all may see it) and position (`PREFIX`: a prefix row) of each key.
        prefix_visible: False for blocks that do not attend to the prefix.

    Returns:
        Float32 `[1, 1 or heads, queries, keys]`. With ALiBi, prefix rows are at distance 0 from
        every token, since they have no position.
    """
    (query_owner, query_positions), (key_owner, key_positions) = queries, keys
    allowed = (key_owner[None, :] < 0) | (query_owner[:, None] == key_owner[None, :])
    is_prefix = key_positions == PREFIX
    if not prefix_visible:
        allowed &= ~is_prefix[None, :]
    bias = np.where(allowed, np.float32(0), MASKED)[None, None]
    if config.position != "alibi":
        return bias
    distances = np.where(is_prefix[None, :], 0, key_positions[None, :] - query_positions[:, None])
    return bias + alibi_slopes(config.num_heads)[None, :, None, None] * distances.astype(np.float32)


def step_bias(
    config: LanguageModelConfig, position: int, prefix_rows: int, *, prefix_visible: bool = True
) -> NDArray[np.float32]:
    """Bias of one new token at `position` over `[prefix rows ; positions 0 … position]`.

    Returns:
        Float32 `[1, 1 or heads, 1, rows + position + 1]`.
    """
    keys = np.concatenate([np.full(prefix_rows, PREFIX), np.arange(position + 1)])
    query: Rows = (np.zeros(1, dtype=np.int64), np.asarray([position], dtype=np.int64))
    owners = np.zeros(len(keys), dtype=np.int64)
    return attention_bias(config, query, (owners, keys), prefix_visible=prefix_visible)


def alibi_slopes(num_heads: int) -> NDArray[np.float32]:
    """Slopes of ALiBi (Press et al., 2108.12409), as BLOOM extends them to any number of heads."""
    power = 2 ** int(np.floor(np.log2(num_heads)))
    base = 2.0 ** (-(2.0 ** -(np.log2(power) - 3)))
    slopes = [base ** (i + 1) for i in range(power)]
    extra_base = 2.0 ** (-(2.0 ** -(np.log2(2 * power) - 3)))
    slopes += [extra_base ** (2 * i + 1) for i in range(num_heads - power)]
    return np.asarray(slopes, dtype=np.float32)
