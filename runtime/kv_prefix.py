"""Keys and values that sensors contribute to the tail blocks of a language model.

A prefix is what connections make and the language model attends to. It carries no rotary position
and is gated already; where no sensor is active there is simply no prefix. It may lie in a device's
memory (`on_device.py`), where the tail's engines read it without a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError
from .model_config import LanguageModelConfig
from .on_device import consecutive


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
        if self.keys.dtype != np.float32 or self.values.dtype != np.float32:
            raise ConfigError(
                f"keys are {self.keys.dtype}, values {self.values.dtype}, both must be float32",
                field="prefix",
                remedy="convert them",
            )
        if not self.blocks:
            raise ConfigError(
                "no block gets the prefix",
                field="prefix.blocks",
                remedy="name a block, or give no prefix at all",
            )
        if self.keys.shape[0] != len(self.blocks) or list(self.blocks) != sorted(set(self.blocks)):
            raise ConfigError(
                f"{len(self.blocks)} block indices {self.blocks} for {self.keys.shape[0]} blocks",
                field="prefix.blocks",
                remedy="give one ascending index per block",
            )

    def check_fits(self, config: LanguageModelConfig) -> None:
        """Check that a language model has these blocks and heads.

        Raises:
            ConfigError: it has not.
        """
        if self.blocks[0] < 0 or self.blocks[-1] >= config.num_blocks:
            raise ConfigError(
                f"blocks {self.blocks} where the model has 0 to {config.num_blocks - 1}",
                field="prefix.blocks",
                remedy="make the prefix for this model",
            )
        heads = (self.keys.shape[1], self.keys.shape[3])
        if heads != (config.num_kv_heads, config.head_dim):
            raise ConfigError(
                f"{heads[0]} heads of {heads[1]} where the model has {config.num_kv_heads} of "
                f"{config.head_dim}",
                field="prefix",
                remedy="make the prefix for this model",
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
    sides = [[prefix.keys for prefix in prefixes], [prefix.values for prefix in prefixes]]
    return KvPrefix(prefixes[0].blocks, *(_joined(side) for side in sides))


def _joined(parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    # On a device they lie side by side already, as the connection has packed them.
    whole = consecutive(parts, axis=2)
    return np.concatenate(parts, axis=2) if whole is None else whole
