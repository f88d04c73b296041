"""Quantisation of matrices to blocks of 32, and the layouts of ONNX Runtime's `MatMulNBits`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import ModelError
from .weights import BLOCK, AffineBlocks, Matrix, SymmetricBlocks


def can_quantize(matrix: Matrix) -> bool:
    """Whether the matrix splits into whole blocks."""
    return matrix.shape[1] % BLOCK == 0


def to_int8(matrix: Matrix) -> SymmetricBlocks:
    """8-bit symmetric blocks: the file's own codes where it has them, else rounded to nearest."""
    held = matrix.symmetric()
    if held is not None:
        return held
    values = _blocks(matrix)
    scales = np.abs(values).max(axis=2) / 127.0
    safe = np.where(scales > 0, scales, 1.0)
    codes = np.rint(values / safe[..., None]).astype(np.int8)
    return SymmetricBlocks(codes.reshape(matrix.shape), scales.astype(np.float32))


def to_int4(matrix: Matrix) -> AffineBlocks:
    """4-bit blocks: the file's own codes where it has them, else minimum to maximum per block.

    Rounding a float checkpoint here costs accuracy (see `docs/language_model.md`); codes that the
    file already holds are carried exactly.
    """
    held = matrix.affine()
    if held is not None:
        return held
    values = _blocks(matrix)
    low, high = values.min(axis=2), values.max(axis=2)
    scales = (high - low) / 15.0
    safe = np.where(scales > 0, scales, 1.0)
    codes = np.clip(np.rint((values - low[..., None]) / safe[..., None]), 0, 15).astype(np.uint8)
    return AffineBlocks(
        codes.reshape(matrix.shape), scales.astype(np.float32), (low + 8 * scales).astype(np.float32)
    )


def pack_int4(blocks: AffineBlocks) -> NDArray[np.uint8]:
    """Codes in the order of `MatMulNBits`: `[rows, blocks, 16]`, the even element in the low half."""
    rows, columns = blocks.codes.shape
    pairs = blocks.codes.reshape(rows, columns // BLOCK, BLOCK // 2, 2)
    return pairs[..., 0] | (pairs[..., 1] << 4)


def pack_int8(blocks: SymmetricBlocks) -> NDArray[np.uint8]:
    """Codes in the order of `MatMulNBits`: `[rows, blocks, 32]`, offset by 128."""
    rows, columns = blocks.codes.shape
    shifted = (blocks.codes.astype(np.int16) + 128).astype(np.uint8)
    return shifted.reshape(rows, columns // BLOCK, BLOCK)


def _blocks(matrix: Matrix) -> NDArray[np.float32]:
    rows, columns = matrix.shape
    if columns % BLOCK:
        raise ModelError(
            f"a matrix of {columns} columns does not split into blocks of {BLOCK}",
            field="precision",
            remedy="use precision fp32 for this model",
        )
    return matrix.dense().reshape(rows, columns // BLOCK, BLOCK)
