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
    owner = layout.owner[:, None]
    same_text = owner == layout.owner[None, :]
    sees_row = (prefix_owner[None, :] < 0) | (owner == prefix_owner[None, :])
    allowed = np.concatenate([sees_row & prefix_visible, same_text], axis=1)
    bias = np.where(allowed, np.float32(0), MASKED)[None, None]
    if config.position != "alibi":
        return bias
    positions = layout.position_ids[0]
    distances = _alibi_distances(positions, positions, len(prefix_owner))
    return bias + alibi_slopes(config.num_heads)[None, :, None, None] * distances


def step_bias(
    config: LanguageModelConfig, position: int, prefix_rows: int, *, prefix_visible: bool = True
) -> NDArray[np.float32]:
    """Bias of one new token at `position` over `[prefix rows ; positions 0 … position]`.

    Returns:
        Float32 `[1, 1 or heads, 1, rows + position + 1]`.
    """
    bias = np.zeros((1, 1, 1, prefix_rows + position + 1), dtype=np.float32)
    if not prefix_visible:
        bias[..., :prefix_rows] = MASKED
    if config.position != "alibi":
        return bias
    keys = np.arange(position + 1)
    distances = _alibi_distances(keys[-1:], keys, prefix_rows)
    return bias + alibi_slopes(config.num_heads)[None, :, None, None] * distances


def _alibi_distances(
    queries: NDArray[np.int64], keys: NDArray[np.int64], prefix_rows: int
) -> NDArray[np.float32]:
    """Key minus query position; prefix rows are at distance 0 from every token."""
    text = (keys[None, :] - queries[:, None]).astype(np.float32)
    prefix = np.zeros((len(queries), prefix_rows), dtype=np.float32)
    return np.concatenate([prefix, text], axis=1)


def alibi_slopes(num_heads: int) -> NDArray[np.float32]:
    """Slopes of ALiBi (Press et al., 2108.12409), as BLOOM extends them to any number of heads."""
    power = 2 ** int(np.floor(np.log2(num_heads)))
    base = 2.0 ** (-(2.0 ** -(np.log2(power) - 3)))
    slopes = [base ** (i + 1) for i in range(power)]
    extra_base = 2.0 ** (-(2.0 ** -(np.log2(2 * power) - 3)))
    slopes += [extra_base ** (2 * i + 1) for i in range(num_heads - power)]
    return np.asarray(slopes, dtype=np.float32)
