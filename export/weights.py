"""Weights as the graph builders want them: matrices that know how they were stored.

A matrix of a GGUF file keeps its own codes, so that int4 engines can carry them without rounding
a second time. Nothing here knows an architecture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

#: Elements of one quantisation block, along the input dimension.
BLOCK = 32


@dataclass(frozen=True)
class AffineBlocks:
    """`weight = scale * (code - 8) + offset`, one scale and offset per block of 32 inputs.

    Attributes:
        codes: uint8 `[rows, columns]`, values 0..15.
        scales: float32 `[rows, columns / 32]`.
        offsets: float32 `[rows, columns / 32]`, or None where all are zero (Q4_0).
    """

    codes: NDArray[np.uint8]
    scales: NDArray[np.float32]
    offsets: NDArray[np.float32] | None

    def dense(self) -> NDArray[np.float32]:
        rows, columns = self.codes.shape
        centred = self.codes.astype(np.float32).reshape(rows, -1, BLOCK) - 8
        values = centred * self.scales[..., None]
        if self.offsets is not None:
            values += self.offsets[..., None]
        return values.reshape(rows, columns)


@dataclass(frozen=True)
class SymmetricBlocks:
    """`weight = scale * code`, signed 8-bit codes, one scale per block of 32 inputs.

    Attributes:
        codes: int8 `[rows, columns]`.
        scales: float32 `[rows, columns / 32]`.
    """

    codes: NDArray[np.int8]
    scales: NDArray[np.float32]

    def dense(self) -> NDArray[np.float32]:
        rows, columns = self.codes.shape
        values = self.codes.astype(np.float32).reshape(rows, -1, BLOCK) * self.scales[..., None]
        return values.reshape(rows, columns)


class Matrix(Protocol):
    """A weight matrix `[rows (outputs), columns (inputs)]`."""

    @property
    def shape(self) -> tuple[int, int]: ...

    def dense(self) -> NDArray[np.float32]:
        """All values as float32 `[rows, columns]`."""
        ...

    def affine(self) -> AffineBlocks | None:
        """The 4-bit codes that the file holds, or None."""
        ...

    def symmetric(self) -> SymmetricBlocks | None:
        """The 8-bit codes that the file holds, or None."""
        ...


@dataclass(frozen=True)
class DenseMatrix:
    """A matrix stored as floats."""

    values: NDArray[np.float32]

    @property
    def shape(self) -> tuple[int, int]:
        return (self.values.shape[0], self.values.shape[1])

    def dense(self) -> NDArray[np.float32]:
        return self.values

    def affine(self) -> AffineBlocks | None:
        return None

    def symmetric(self) -> SymmetricBlocks | None:
        return None


@dataclass(frozen=True)
class BlockMatrix:
    """A matrix stored as blocks of codes."""

    blocks: AffineBlocks | SymmetricBlocks

    @property
    def shape(self) -> tuple[int, int]:
        return (self.blocks.codes.shape[0], self.blocks.codes.shape[1])

    def dense(self) -> NDArray[np.float32]:
        return self.blocks.dense()

    def affine(self) -> AffineBlocks | None:
        return self.blocks if isinstance(self.blocks, AffineBlocks) else None

    def symmetric(self) -> SymmetricBlocks | None:
        return self.blocks if isinstance(self.blocks, SymmetricBlocks) else None


def stack_rows(matrices: Sequence[Matrix]) -> Matrix:
    """Put matrices of equal width below each other, keeping the codes where all have them."""
    affine = [m.affine() for m in matrices]
    if all(a is not None for a in affine):
        kept = [a for a in affine if a is not None]
        offsets = [np.zeros_like(a.scales) if a.offsets is None else a.offsets for a in kept]
        return BlockMatrix(
            AffineBlocks(
                np.concatenate([a.codes for a in kept]),
                np.concatenate([a.scales for a in kept]),
                None if all(a.offsets is None for a in kept) else np.concatenate(offsets),
            )
        )
    symmetric = [m.symmetric() for m in matrices]
    if all(s is not None for s in symmetric):
        held = [s for s in symmetric if s is not None]
        return BlockMatrix(
            SymmetricBlocks(
                np.concatenate([s.codes for s in held]), np.concatenate([s.scales for s in held])
            )
        )
    return DenseMatrix(np.concatenate([m.dense() for m in matrices]))


def take_rows(matrix: Matrix, rows: NDArray[np.int64]) -> Matrix:
    """Reorder or select rows, keeping the codes."""
    affine = matrix.affine()
    if affine is not None:
        offsets = None if affine.offsets is None else affine.offsets[rows]
        return BlockMatrix(AffineBlocks(affine.codes[rows], affine.scales[rows], offsets))
    symmetric = matrix.symmetric()
    if symmetric is not None:
        return BlockMatrix(SymmetricBlocks(symmetric.codes[rows], symmetric.scales[rows]))
    return DenseMatrix(matrix.dense()[rows])


@dataclass(frozen=True)
class Linear:
    """`y = x @ weight.T + bias`.

    Attributes:
        weight: `[rows (outputs), columns (inputs)]`.
        bias: float32 `[rows]`, or None.
        peaks: float32 `[columns]`, largest magnitude of each input channel where it was measured;
            lets int8 take the channels that stand out apart.
    """

    weight: Matrix
    bias: NDArray[np.float32] | None = None
    peaks: NDArray[np.float32] | None = None


def stack_biases(parts: Sequence[Linear]) -> NDArray[np.float32] | None:
    """Biases of layers whose rows are stacked; None if no layer has one."""
    if all(part.bias is None for part in parts):
        return None
    return np.concatenate(
        [np.zeros(p.weight.shape[0], np.float32) if p.bias is None else p.bias for p in parts]
    )


@dataclass(frozen=True)
class Norm:
    """Scale and, for layer normalisation, shift; float32 `[hidden_size]`."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Block:
    """One transformer block.

    Attributes:
        qkv: packed projections: all query heads, then key heads, then value heads; rotary models
            use the half-split convention (Hugging Face), whatever the file used.
        ffn_in: gate above up for gated networks, else the first layer.
    """

    attention_norm: Norm
    qkv: Linear
    output: Linear
    ffn_norm: Norm
    ffn_in: Linear
    ffn_out: Linear
