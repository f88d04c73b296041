"""Quantisation of matrices to blocks of 32, and the layouts of ONNX Runtime's `MatMulNBits`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import ModelError
from .weights import BLOCK, AffineBlocks, Matrix, SymmetricBlocks


def can_quantize(matrix: Matrix) -> bool:
    """Whether the matrix splits into whole blocks."""
    return matrix.shape[1] % BLOCK == 0


#: Finest subdivision of a 4-bit step that 8-bit codes are tried with.
_MAX_STEPS = 16


def to_int8(matrix: Matrix) -> SymmetricBlocks:
    """8-bit symmetric blocks: the file's own codes where it has them, else rounded to nearest.

    4-bit codes of a file are widened so that each keeps its exact spacing, see `_widen`.
    """
    held = matrix.symmetric()
    if held is not None:
        return held
    affine = matrix.affine()
    if affine is not None:
        return _widen(affine)
    return _round_int8(_blocks(matrix).reshape(matrix.shape))


def _widen(blocks: AffineBlocks) -> SymmetricBlocks:
    """Carry 4-bit codes in 8 bits almost exactly.

    A weight is `scale * (code + r)` with `r = offset / scale - 8`. With a step of `scale / k` it is
    `step * (k * code + k * r)`: exact but for the rounding of `k * r`, the same for a whole block.
    Some `k` up to 16 brings `k * r` within 1/17 of an integer (Dirichlet), so the best `k` that
    fits 8 bits leaves a third of the error of rounding each weight to 1/127 of the largest.

    Blocks that this does not help (all values alike, or far from zero) are rounded as floats are.
    """
    has_step = blocks.scales != 0
    scales = np.where(has_step, blocks.scales, np.float32(1))
    offsets = np.zeros_like(scales) if blocks.offsets is None else blocks.offsets
    ratio = offsets / scales - 8
    grouped = blocks.codes.reshape(*scales.shape, BLOCK)
    lowest, highest = (codes.astype(np.float32) for codes in (grouped.min(2), grouped.max(2)))
    best_error = np.full(scales.shape, np.inf, dtype=np.float32)
    best_steps = np.ones(scales.shape, dtype=np.float32)
    for steps in range(1, _MAX_STEPS + 1):
        shift = np.rint(steps * ratio)
        fits = (shift + lowest * steps >= -127) & (shift + highest * steps <= 127)
        error = np.where(fits, np.abs(steps * ratio - shift) / steps, np.inf)
        better = error < best_error
        best_error = np.where(better, error, best_error)
        best_steps = np.where(better, steps, best_steps)
    rounded = _round_int8(blocks.dense())
    is_wide = (has_step & (best_error * np.abs(scales) <= rounded.scales / 2))[..., None]
    shift = np.where(is_wide, np.rint(best_steps * ratio)[..., None], 0)
    codes = grouped * best_steps[..., None] + shift
    fallback = rounded.codes.reshape(codes.shape)
    return SymmetricBlocks(
        np.where(is_wide, codes, fallback).astype(np.int8).reshape(blocks.codes.shape),
        np.where(is_wide[..., 0], blocks.scales / best_steps, rounded.scales).astype(np.float32),
    )


def _round_int8(dense: NDArray[np.float32]) -> SymmetricBlocks:
    values = dense.reshape(dense.shape[0], -1, BLOCK)
    scales = np.abs(values).max(axis=2) / 127.0
    safe = np.where(scales > 0, scales, 1.0)
    codes = np.rint(values / safe[..., None]).astype(np.int8)
    return SymmetricBlocks(codes.reshape(dense.shape), scales.astype(np.float32))


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
        codes.reshape(matrix.shape),
        scales.astype(np.float32),
        (low + 8 * scales).astype(np.float32),
    )


def pack_int4(blocks: AffineBlocks) -> NDArray[np.uint8]:
    """Codes in the order of `MatMulNBits`: `[rows, blocks, 16]`, even elements in the low half."""
    rows, columns = blocks.codes.shape
    pairs = blocks.codes.reshape(rows, columns // BLOCK, BLOCK // 2, 2)
    return pairs[..., 0] | (pairs[..., 1] << np.uint8(4))


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
