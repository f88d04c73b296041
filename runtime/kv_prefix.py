"""Keys and values that sensors contribute to the tail blocks of a language model.

A prefix is what connections make and the language model attends to. It carries no rotary position
and is gated already; where no sensor is active there is simply no prefix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError


@dataclass(frozen=True)
class KvPrefix:
    """Keys and values of all active modalities, for each block that gets them.

    Attributes:
        blocks: indices of the blocks that attend to the prefix, ascending.
        keys: float32 `[blocks, kv_heads, rows, head_dim]`, gated, without position.
        values: float32, same shape, gated.
    """

    blocks: tuple[int, ...]
    keys: NDArray[np.float32]
    values: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.keys.shape != self.values.shape or self.keys.ndim != 4:
            raise ConfigError(
                f"keys {self.keys.shape} and values {self.values.shape} must both be "
                "[blocks, kv_heads, rows, head_dim]",
                field="prefix",
                remedy="rebuild the connection",
            )
        if self.keys.shape[0] != len(self.blocks) or list(self.blocks) != sorted(set(self.blocks)):
            raise ConfigError(
                f"{len(self.blocks)} block indices {self.blocks} for {self.keys.shape[0]} blocks",
                field="prefix.blocks",
                remedy="give one ascending index per block",
            )

    @property
    def rows(self) -> int:
        """Rows that the prefix adds to each of its blocks."""
        return self.keys.shape[2]

    @property
    def first_block(self) -> int:
        """The lowest block that attends to the prefix."""
        return self.blocks[0]


def join_rows(prefixes: Sequence[KvPrefix]) -> KvPrefix:
    """Put the rows of several prefixes for the same blocks one after the other."""
    if len(prefixes) == 1:
        return prefixes[0]
    blocks = {prefix.blocks for prefix in prefixes}
    if len(blocks) != 1:
        raise ConfigError(
            f"prefixes for different blocks cannot be joined: {sorted(blocks)}",
            field="prefix.blocks",
            remedy="make all prefixes for the same tail",
        )
    return KvPrefix(
        prefixes[0].blocks,
        np.concatenate([prefix.keys for prefix in prefixes], axis=2),
        np.concatenate([prefix.values for prefix in prefixes], axis=2),
    )
