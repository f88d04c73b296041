"""What the blocks of a tail attend to in front of the questions: rows of the prefix, and masks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from .apart import TailRows, attend_apart
from .errors import ConfigError
from .head_state import Float, KeyValue, PackedHeads
from .kv_prefix import KvPrefix, join_rows
from .model_config import LanguageModelConfig
from .on_device import is_on_device

#: One for all questions, one for each, or none.
Prefixes = KvPrefix | Sequence[KvPrefix] | None


def join_prefixes(prefix: Prefixes, questions: int) -> tuple[KvPrefix | None, NDArray[np.int64]]:
    """All rows one after the other, and the question that each belongs to, -1 for all.

    Raises:
        ConfigError: there are not as many as questions, or they are for different blocks.
    """
    if prefix is None:
        return None, np.zeros(0, dtype=np.int64)
    if isinstance(prefix, KvPrefix):
        return prefix, np.full(prefix.rows, -1)
    if len(prefix) != questions:
        raise ConfigError(
            f"{len(prefix)} prefixes for {questions} questions",
            field="prefix",
            remedy="give one for all or one per question",
        )
    owner = np.repeat(np.arange(questions), [p.rows for p in prefix])
    return join_rows(prefix), owner


def no_rows(config: LanguageModelConfig) -> KeyValue:
    """Nothing to attend to."""
    empty = np.zeros((1, config.num_kv_heads, 0, config.head_dim), dtype=np.float32)
    return empty, empty


def rows_in_front(
    config: LanguageModelConfig,
    blocks: Iterable[int],
    prefix: KvPrefix | None,
    visible: Float,
    hidden: Float,
) -> tuple[dict[int, KeyValue], dict[int, Float]]:
    """Keys and values in front of packed questions, and bias, by block.

    Args:
        config: of the language model.
        blocks: of a group.
        prefix: with the rows of all questions, where it lies; None for none.
        visible: bias of blocks that see the prefix.
        hidden: of those that do not.
    """
    blocks = list(blocks)
    if prefix is None:
        return dict.fromkeys(blocks, no_rows(config)), dict.fromkeys(blocks, visible)
    shape, keys = (1, *prefix.keys.shape[1:]), prefix.keys
    unused = keys.device.zeros(shape) if is_on_device(keys) else np.zeros(shape, np.float32)
    past: dict[int, KeyValue] = {}
    bias: dict[int, Float] = {}
    for block in blocks:
        if block in prefix.blocks:
            at = prefix.blocks.index(block)
            past[block] = (prefix.keys[at : at + 1], prefix.values[at : at + 1])
            bias[block] = visible
        else:
            past[block] = (unused, unused)
            bias[block] = hidden
    return past, bias


def side_by_side(
    config: LanguageModelConfig,
    packed: PackedHeads,
    prefix: Prefixes,
    joined: KvPrefix | None,
) -> TailRows | None:
    """What each question attends to by itself; None where all attend packed.

    Args:
        config: of the language model.
        packed: the questions.
        prefix: one, or one per question.
        joined: its rows one after the other.
    """
    layout = packed.apart
    if not attend_apart(packed.layout.lengths):
        return None
    if joined is None:
        shape = (0, layout.texts, config.num_kv_heads, 0, config.head_dim)
        keys = values = np.zeros(shape, np.float32)
        return TailRows(layout, (), keys, values, *packed.apart_biases(config, 0))
    stacked = layout.prefix(prefix)
    if stacked is None:
        return None
    biases = packed.apart_biases(config, stacked[0].shape[3])
    return TailRows(layout, joined.blocks, *stacked, *biases)
