"""The best of some rows of a table for states of the language model: which answers are likeliest.

Two twins run the bodies of `top_rows.h`, in C (`arrays.c`) and CUDA (`top_rows.cu`), and give the
same bits; the one in numpy sums in another order, so its scores differ by rounding.
"""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from .array_library import ArrayLibrary

Float = NDArray[np.float32]

#: Columns that share a scale in a table of 8-bit codes.
BLOCK = 32


class TopParameters(ctypes.Structure):
    """`TopRows` of `top_rows.h`."""

    _fields_ = tuple(
        (name, ctypes.c_int32) for name in ("states", "size", "allowed", "best", "coded", "unused")
    )


def top_rows(
    states: Float,
    table: NDArray[np.float32] | NDArray[np.int8],
    scales: Float | None,
    allowed: NDArray[np.int64],
    best: int,
    *,
    library: ArrayLibrary | None = None,
) -> tuple[NDArray[np.int64], Float]:
    """Which of the allowed rows have the largest product with each state.

    Args:
        states: float32 `[states, size]`, finite.
        table: `[rows, size]`: float32, or int8 codes with a scale per 32 columns.
        scales: float32 `[rows, size / 32]` for codes, else None.
        allowed: int64 `[allowed]`, rows of the table.
        best: how many are wanted, at most `allowed`.
        library: None computes in numpy.

    Returns:
        int64 `[states, best]`, places in `allowed` from the best on (equal scores in the order of
        `allowed`), and their scores, float32 of the same shape.

    Raises:
        ValueError: shapes or dtypes do not fit, a row is not in the table, or more are wanted than
            allowed.
    """
    parameters = top_parameters(states, table, scales, allowed, best)
    if library is None:
        chosen = np.asarray(table[allowed], np.float32)
        if scales is not None:
            blocks = chosen.reshape(len(allowed), -1, BLOCK)
            chosen = (blocks * scales[allowed][..., None]).reshape(chosen.shape)
        scores = states @ chosen.T
        places = np.argsort(-scores, axis=1, kind="stable")[:, :best]
        return places, np.take_along_axis(scores, places, axis=1)
    states, allowed = np.ascontiguousarray(states), np.ascontiguousarray(allowed)
    if not table.flags.c_contiguous:
        table = table.copy()
    scales = None if scales is None else np.ascontiguousarray(scales)
    scores = np.empty((len(states), len(allowed)), np.float32)
    places = np.empty((len(states), best), np.int64)
    chosen = np.empty((len(states), best), np.float32)
    library.top_rows(
        ctypes.addressof(parameters),
        states.ctypes.data,
        table.ctypes.data,
        None if scales is None else scales.ctypes.data,
        allowed.ctypes.data,
        scores.ctypes.data,
        chosen.ctypes.data,
        places.ctypes.data,
    )
    return places, chosen


def top_parameters(
    states: Float,
    table: NDArray[np.float32] | NDArray[np.int8],
    scales: Float | None,
    allowed: NDArray[np.int64],
    best: int,
) -> TopParameters:
    """What the compiled twins are given; arguments and errors as those of `top_rows`."""
    size = table.shape[-1]
    if states.dtype != np.float32 or states.ndim != 2 or states.shape[1] != size:
        raise ValueError(
            f"states are float32 [states, {size}], got {states.dtype} {list(states.shape)}"
        )
    wanted = np.float32 if scales is None else np.int8
    if table.ndim != 2 or table.dtype != wanted:
        raise ValueError(f"the table is {table.dtype} {list(table.shape)}, not {wanted.__name__}")
    if scales is not None and (size % BLOCK or scales.shape != (len(table), size // BLOCK)):
        raise ValueError(f"scales are {list(scales.shape)} for a table of {list(table.shape)}")
    if allowed.dtype != np.int64 or allowed.ndim != 1 or not 0 < best <= len(allowed):
        raise ValueError(f"{best} of {len(allowed)} rows are wanted, given as {allowed.dtype}")
    if allowed.min() < 0 or allowed.max() >= len(table):
        raise ValueError(f"a row is not in the table of {len(table)}")
    return TopParameters(
        states=len(states),
        size=size,
        allowed=len(allowed),
        best=best,
        coded=scales is not None,
    )
