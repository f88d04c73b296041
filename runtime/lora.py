"""LoRA on the key and value projections of tail blocks (2106.09685), as inputs of the engines.

Beside `x W` a block computes `(x A) B` with matrices that are given with each call, so another
LoRA takes effect from one call to the next. The matrices belong to a connection; whoever writes
them folds the scale `alpha / r` into B.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError, EngineError
from .model_config import LanguageModelConfig

Float = NDArray[np.float32]

#: Of one block: A and B of the keys, A and B of the values.
BlockMatrices = tuple[Float, Float, Float, Float]


@dataclass(frozen=True, eq=False)
class Lora:
    """Low-rank changes of the key and value projections of some blocks; told apart by identity.

    Attributes:
        config: of the model that they are for.
        blocks: by index of the block, float32 `key_a [hidden_size, rank]`, `key_b [rank,
            num_kv_heads * head_dim]`, `value_a` and `value_b` alike.
    """

    config: LanguageModelConfig
    blocks: Mapping[int, BlockMatrices]

    def __post_init__(self) -> None:
        config = self.config
        hidden, out = config.hidden_size, config.num_kv_heads * config.head_dim
        for block, matrices in self.blocks.items():
            if not 0 <= block < config.num_blocks:
                raise ConfigError(
                    f"block {block} where the model has 0 to {config.num_blocks - 1}",
                    field="lora.blocks",
                    remedy="make the LoRA for this model",
                )
            for a, b in (matrices[:2], matrices[2:]):
                if a.shape != (hidden, a.shape[-1]) or b.shape != (a.shape[-1], out):
                    raise ConfigError(
                        f"matrices of {a.shape} and {b.shape} in block {block}, where "
                        f"[{hidden}, rank] and [rank, {out}] are needed",
                        field="lora",
                        remedy="make the LoRA for this model",
                    )
                if a.dtype != np.float32 or b.dtype != np.float32:
                    raise ConfigError(
                        f"matrices of block {block} are {a.dtype} and {b.dtype}, not float32",
                        field="lora",
                        remedy="convert them",
                    )

    def check_fits(self, config: LanguageModelConfig, boundary: int) -> None:
        """Check that a tail of a model has all these blocks.

        Raises:
            ConfigError: it has not, or the LoRA was made for another model.
        """
        if config != self.config:
            raise ConfigError(
                "the LoRA was made for another language model",
                field="lora",
                remedy="make the LoRA for this model",
            )
        first = min(self.blocks, default=boundary)
        if first < boundary:
            raise ConfigError(
                f"the LoRA starts at block {first}, the tail at {boundary}",
                field="lora.blocks",
                remedy="deepen the tail, or take the LoRA of this depth",
            )

    @cached_property
    def packed(self) -> Mapping[int, tuple[Float, Float]]:
        """By block, one A `[hidden_size, ranks]` and one B `[ranks, qkv_size]` for the packed row.

        Keys and values lie side by side in A and below each other in B, whose columns for queries
        are zero. So a graph needs two products and a sum, not four, two sums and a join.
        """
        return {block: self._pack(*matrices) for block, matrices in self.blocks.items()}

    def _pack(
        self, key_a: Float, key_b: Float, value_a: Float, value_b: Float
    ) -> tuple[Float, Float]:
        rank, out = key_b.shape
        b = np.zeros((rank + len(value_b), self.config.qkv_size), dtype=np.float32)
        b[:rank, -2 * out : -out] = key_b
        b[rank:, -out:] = value_b
        # In rows also where the parts lie in columns: engines and the native decoder want them so.
        return np.ascontiguousarray(np.concatenate([key_a, value_a], axis=1)), b

    def change(self, block: int, x: Float) -> Float:
        """What is added to the packed projections of a block that has a LoRA.

        Args:
            block: its index.
            x: input of its projections, `[..., hidden_size]`.

        Returns:
            Float32 `[..., qkv_size]`.
        """
        a, b = self.packed[block]
        return np.matmul(x @ a, b, dtype=np.float32)


def lora_inputs(
    config: LanguageModelConfig, lora: Lora | None, blocks: Iterable[int]
) -> dict[str, Float]:
    """Inputs of an engine that computes the projections of `blocks`; of rank 0 without a LoRA."""
    packed: Mapping[int, tuple[Float, Float]] = {} if lora is None else lora.packed
    none = (
        np.zeros((config.hidden_size, 0), dtype=np.float32),
        np.zeros((0, config.qkv_size), dtype=np.float32),
    )
    inputs: dict[str, Float] = {}
    for block in blocks:
        inputs[f"lora_a_{block}"], inputs[f"lora_b_{block}"] = packed.get(block, none)
    return inputs


class CutNorms:
    """Norms in front of the blocks at which stages are cut.

    The projections of such a block come from the cached head, without a LoRA; what a LoRA adds to
    them is computed here, once per question, from the residual stream that the head kept as well.
    """

    def __init__(self, config: LanguageModelConfig, path: Path, cuts: Iterable[int]) -> None:
        """Read the norms of a folder of engines.

        Args:
            config: of the model.
            path: float32 `[cuts, 1 or 2, hidden_size]`, scales and, in layer norms, shifts.
            cuts: the blocks.

        Raises:
            EngineError: the file is missing, corrupt, or does not fit.
        """
        self._config = config
        cuts = tuple(cuts)
        try:
            array = np.load(path, allow_pickle=False)
            shape = (len(cuts), 1 if config.norm == "rms" else 2, config.hidden_size)
            if array.shape != shape or array.dtype != np.float32:
                raise ValueError(f"{array.dtype} {array.shape} where float32 {shape} is needed")
        except (OSError, ValueError, EOFError) as error:
            raise EngineError(
                f"the norms cannot be read: {error}",
                field=str(path),
                remedy="remove the folder, the engines are then built again",
            ) from error
        self._norms = dict(zip(cuts, array, strict=True))

    def attention_input(self, block: int, residual: Float) -> Float:
        """What the projections of `block` see of a residual stream `[..., hidden_size]`."""
        if self._config.post_norm:
            return residual
        x = residual
        if self._config.norm == "layer":
            x = x - x.mean(axis=-1, keepdims=True)
        energy = (x * x).mean(axis=-1, keepdims=True)
        norm = self._norms[block]
        x = x / np.sqrt(energy + np.float32(self._config.norm_eps)) * norm[0]
        return x if self._config.norm == "rms" else x + norm[1]
