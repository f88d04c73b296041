"""Keys or values of sensors, gated and laid out as the tail's blocks read them.

Three twins give the same bits: numpy here, C (`arrays.c`) and CUDA (`prefix_pack.cu`), the latter
two with the body of `prefix_pack.h`.
"""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from .array_library import ArrayLibrary

Float = NDArray[np.float32]


class PackParameters(ctypes.Structure):
    """`PrefixPack` of `prefix_pack.h`."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("blocks", "heads", "questions", "rows", "head_dim")),
        *((f"{name}_stride", ctypes.c_int64) for name in ("block", "head", "question", "row")),
        ("capacity", ctypes.c_int64),
        ("first", ctypes.c_int64),
        ("half", ctypes.c_int32),
    )


def prefix_pack(
    source: Float,
    gates: Float,
    target: NDArray[np.float32] | NDArray[np.float16],
    first: int = 0,
    *,
    library: ArrayLibrary | None = None,
) -> None:
    """Write `gates * source` into rows `first` and on of a buffer.

    Args:
        source: float32 `[blocks, heads, questions, rows, head_dim]`, any view whose last axis is
            contiguous; a block axis of stride 0 gives all blocks the same.
        gates: float32 `[blocks, rows]`.
        target: float32 or float16 `[blocks, heads, capacity, head_dim]`, contiguous; the questions'
            rows go there one after the other.
        first: where they begin.
        library: None computes in numpy, with the same result.

    Raises:
        ValueError: shapes or dtypes do not fit, or the buffer has too few rows.
    """
    parameters = pack_parameters(source, gates, target, first)
    if library is None:
        blocks, heads, questions, rows, head_dim = source.shape
        view = target[:, :, first : first + questions * rows]
        view = view.reshape(blocks, heads, questions, rows, head_dim)
        gated = source * gates[:, None, None, :, None]
        if np.shares_memory(view, target):
            view[...] = gated
        else:
            target[:, :, first : first + questions * rows] = gated.reshape(
                blocks, heads, questions * rows, head_dim
            )
        return
    gates = np.ascontiguousarray(gates)
    library.prefix_pack(
        ctypes.addressof(parameters),
        source.ctypes.data,
        gates.ctypes.data,
        target.ctypes.data,
        0,
    )


def pack_parameters(
    source: Float, gates: Float, target: NDArray[np.float32] | NDArray[np.float16], first: int
) -> PackParameters:
    """What the compiled twins are given; arguments and errors as those of `prefix_pack`."""
    if source.dtype != np.float32 or source.ndim != 5 or gates.dtype != np.float32:
        raise ValueError(
            "keys and values are float32 [blocks, heads, questions, rows, head_dim] with float32 "
            f"gates, got {source.dtype} {list(source.shape)} and {gates.dtype}"
        )
    blocks, heads, questions, rows, head_dim = source.shape
    if gates.shape != (blocks, rows):
        raise ValueError(f"gates are {list(gates.shape)} for {blocks} blocks of {rows} rows")
    fits = target.ndim == 4 and (target.shape[:2], target.shape[3]) == ((blocks, heads), head_dim)
    if not fits or target.dtype not in (np.float32, np.float16) or not target.flags.c_contiguous:
        raise ValueError(
            f"the buffer is {target.dtype} {list(target.shape)}, not contiguous float32 or float16 "
            f"[{blocks}, {heads}, capacity, {head_dim}]"
        )
    if first < 0 or first + questions * rows > target.shape[2]:
        raise ValueError(
            f"{questions * rows} rows from {first} on do not fit a buffer of {target.shape[2]}"
        )
    strides = [stride // source.itemsize for stride in source.strides]
    if head_dim > 1 and strides[4] != 1:
        raise ValueError("the last axis of keys and values is not contiguous")
    return PackParameters(
        blocks=blocks,
        heads=heads,
        questions=questions,
        rows=rows,
        head_dim=head_dim,
        block_stride=strides[0],
        head_stride=strides[1],
        question_stride=strides[2],
        row_stride=strides[3],
        capacity=target.shape[2],
        first=first,
        half=target.dtype == np.float16,
    )
