"""Packed texts that attend each to itself alone: as rows of a padded batch, in attention only.

Packed, every token computes its attention to the tokens and prefix rows of all texts and masks
those of others, which grows with the square of their number. Side by side it grows linearly.
Everything else stays packed, without padding; engines change between the two forms themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .kv_prefix import KvPrefix
from .model_config import LanguageModelConfig
from .packing import PREFIX, PackedLayout, attention_bias

Float = NDArray[np.float32]
KeyValue = tuple[Float, Float]

#: Places of a padded batch, as a multiple of its tokens, up to which it is worth its padding.
_MOST_PLACES = 1.5


def attend_apart(lengths: Sequence[int]) -> bool:
    """Whether texts of these lengths attend side by side; one alone has nobody to mask."""
    return len(lengths) > 1 and len(lengths) * max(lengths) <= _MOST_PLACES * sum(lengths)


@dataclass(frozen=True)
class ApartLayout:
    """Places of packed texts in a padded batch.

    Attributes:
        packed: where they lie one after the other.
    """

    packed: PackedLayout

    @property
    def texts(self) -> int:
        return len(self.packed.lengths)

    @property
    def longest(self) -> int:
        return max(self.packed.lengths)

    @cached_property
    def unpack(self) -> NDArray[np.int64]:
        """The packed token of each place, int64 `[texts, longest]`; the last one again behind."""
        lengths, offsets = (
            np.asarray(values, np.int64)[:, None]
            for values in (self.packed.lengths, self.packed.offsets)
        )
        return offsets + np.minimum(np.arange(self.longest), lengths - 1)

    @cached_property
    def pack(self) -> NDArray[np.int64]:
        """The place of each packed token, int64 `[tokens]`."""
        return self.packed.owner * self.longest + self.packed.position_ids[0]

    @cached_property
    def position_ids(self) -> NDArray[np.int64]:
        """Int64 `[texts, longest]`."""
        return np.tile(np.arange(self.longest, dtype=np.int64), (self.texts, 1))

    def bias(self, config: LanguageModelConfig, rows: int, *, prefix_visible: bool = True) -> Float:
        """Attention bias over `[prefix rows ; the text]`, the same for all texts.

        Returns:
            Float32 `[1, 1 or heads, longest, rows + longest]`; causality is the operator's job.
        """
        positions = np.arange(self.longest)
        owners = np.zeros(rows + self.longest, np.int64)
        keys = np.concatenate([np.full(rows, PREFIX), positions])
        return attention_bias(
            config, (owners[rows:], positions), (owners, keys), prefix_visible=prefix_visible
        )

    def prefix(self, prefix: KvPrefix | Sequence[KvPrefix] | None) -> tuple[Float, Float] | None:
        """Keys and values `[blocks, texts, kv_heads, rows, head_dim]` of every text.

        Args:
            prefix: one for all texts, or one for each; for the same blocks.

        Returns:
            None where there is no prefix, or where they are of different sizes.
        """
        if prefix is None:
            return None
        each = [prefix] * self.texts if isinstance(prefix, KvPrefix) else list(prefix)
        if len({one.rows for one in each}) > 1:
            return None
        sides = ([one.keys for one in each], [one.values for one in each])
        keys, values = (np.stack([np.asarray(part) for part in side], 1) for side in sides)
        return keys, values


@dataclass(frozen=True)
class TailRows:
    """What the blocks of a tail attend to in front of the texts, and how.

    Attributes:
        layout: of the texts.
        blocks: that see the prefix.
        keys: `[blocks, texts, kv_heads, rows, head_dim]`.
        values: likewise.
        visible: bias of blocks that see it.
        hidden: bias of the others.
    """

    layout: ApartLayout
    blocks: tuple[int, ...]
    keys: Float
    values: Float
    visible: Float
    hidden: Float

    @property
    def count(self) -> int:
        """Rows in front of each text."""
        return self.keys.shape[3]

    def inputs(self, blocks: Iterable[int]) -> tuple[dict[int, KeyValue], dict[int, Float]]:
        """Keys and values in front, and bias, by block."""
        unused = np.zeros(self.keys.shape[1:], np.float32)
        past: dict[int, KeyValue] = {}
        bias: dict[int, Float] = {}
        for block in blocks:
            sees = block in self.blocks
            at = self.blocks.index(block) if sees else 0
            past[block] = (self.keys[at], self.values[at]) if sees else (unused, unused)
            bias[block] = self.visible if sees else self.hidden
        return past, bias


class ApartCaches(Mapping[int, KeyValue]):
    """Keys and values of texts that attended apart, packed when a block is asked for."""

    def __init__(self, caches: Mapping[int, KeyValue], rows: TailRows, *, shared: bool) -> None:
        """Nothing is copied yet.

        Args:
            caches: by block `[texts, kv_heads, rows + longest, head_dim]`.
            rows: what the texts attended to.
            shared: whether all texts have the same prefix, which then is there once.
        """
        self._caches, self._shared = caches, shared
        self._layout, self._rows = rows.layout, rows.count

    def __getitem__(self, block: int) -> KeyValue:
        keys, values = self._caches[block]
        return self._packed(keys), self._packed(values)

    def __iter__(self) -> Iterator[int]:
        return iter(self._caches)

    def __len__(self) -> int:
        return len(self._caches)

    def _packed(self, array: Float) -> Float:
        """`[1, kv_heads, prefix rows + tokens, head_dim]`."""
        rows = self._rows
        fronts = [array[:1]] if self._shared else np.split(array, len(array))
        parts = [front[:, :, :rows] for front in fronts]
        parts += [
            array[place : place + 1, :, rows : rows + length]
            for place, length in enumerate(self._layout.packed.lengths)
        ]
        return np.concatenate(parts, axis=2)
