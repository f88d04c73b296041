"""A checkpoint with low-rank changes folded into its weights: engines that cost what they cost.

What the file held as codes is rounded once more where a block is changed; other blocks keep their
codes. The changes come from packs, see `runtime/low_rank.py`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import PackError
from ..runtime.low_rank import LowRankChange, Projection
from ..runtime.pack import Pack
from .checkpoint import Checkpoint, open_checkpoint
from .weights import Block, DenseMatrix, Linear

Float = NDArray[np.float32]

#: Layers of a block, and the projections whose rows they hold, from the top.
_LAYERS: dict[str, tuple[Projection, ...]] = {
    "qkv": ("query", "key", "value"),
    "output": ("output",),
    "ffn_in": ("gate", "up"),
    "ffn_out": ("down",),
}


def open_for_pack(path: Path, pack: Pack) -> Checkpoint:
    """Open a checkpoint as a pack has it: with the change of the language model that it brings.

    Raises:
        ModelError: see `open_checkpoint`.
        PackError: the change is broken, or was made for another model.
    """
    checkpoint, change = open_checkpoint(path), pack.text_change()
    if change is None:
        return checkpoint
    return FoldedCheckpoint(checkpoint, change, f"{pack.label}: text")


class FoldedCheckpoint:
    """A checkpoint whose blocks hold `W + (A B)^T`; all else as in the original."""

    def __init__(self, checkpoint: Checkpoint, change: LowRankChange, field: str = "text") -> None:
        """Check that the change fits; nothing is computed before a block is asked for.

        Args:
            checkpoint: the original.
            change: of its projections.
            field: named in errors.

        Raises:
            PackError: it was made for another model.
        """
        change.check_fits(checkpoint.config, field)
        self.config = checkpoint.config
        self.embedding = checkpoint.embedding
        self.positions = checkpoint.positions
        self.embedding_norm = checkpoint.embedding_norm
        self.project_in = checkpoint.project_in
        self.project_out = checkpoint.project_out
        self.final_norm = checkpoint.final_norm
        self.head = checkpoint.head
        self.tokenizer_json = checkpoint.tokenizer_json
        self.chat_template = checkpoint.chat_template
        self._block, self._change, self._field = checkpoint.block, change, field

    def block(self, index: int) -> Block:
        """The weights of one block, changed.

        Raises:
            PackError: a folded weight is not finite.
        """
        block = self._block(index)
        changed = {
            layer: self._folded(getattr(block, layer), index, projections)
            for layer, projections in _LAYERS.items()
            if any((index, name) in self._change.factors for name in projections)
        }
        return replace(block, **changed)

    def _folded(self, layer: Linear, index: int, projections: tuple[Projection, ...]) -> Linear:
        dense = np.array(layer.weight.dense(), np.float32)
        for name, rows in self._rows(projections).items():
            if (index, name) in self._change.factors:
                dense[rows] += self._change.dense((index, name)).T
        if not np.isfinite(dense).all():
            raise PackError(
                "the weights are not finite when the change is folded in",
                field=f"{self._field}: {index}.{'/'.join(projections)}",
                remedy="give smaller weights to the parts",
            )
        return Linear(DenseMatrix(dense), layer.bias)

    def _rows(self, projections: tuple[Projection, ...]) -> dict[Projection, slice]:
        """Rows of each projection in the matrix of its layer."""
        c = self.config
        sizes: dict[Projection, int] = {
            "query": c.num_heads * c.head_dim,
            "key": c.num_kv_heads * c.head_dim,
            "value": c.num_kv_heads * c.head_dim,
            "output": c.hidden_size,
            "gate": c.ffn_size if c.activation == "silu_gate" else 0,
            "up": c.ffn_size,
            "down": c.hidden_size,
        }
        rows: dict[Projection, slice] = {}
        first = 0
        for name in projections:
            rows[name] = slice(first, first + sizes[name])
            first += sizes[name]
        return rows
