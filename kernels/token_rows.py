"""Tokens of a sensor as rows that a connection's engine takes: chosen, shifted, multiplied.

Two twins run the bodies of `token_rows.h`, in C (`arrays.c`) and CUDA (`token_rows.cu`), and give
the same bits; the one in numpy, which runs in production on the CPU, sums products in another
order.
"""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from .array_library import ArrayLibrary

Float = NDArray[np.float32]

#: States of a token: a row of zeros, a token, one with a number that is not finite.
NO_TOKEN, TOKEN, BROKEN_TOKEN = 0, 1, 2


class TokenParameters(ctypes.Structure):
    """`TokenRows` of `token_rows.h`."""

    _fields_ = tuple((name, ctypes.c_int32) for name in ("rows", "width", "columns", "product"))


def token_states(tokens: Float, *, library: ArrayLibrary | None = None) -> NDArray[np.int32]:
    """What each token is.

    Args:
        tokens: float32 `[tokens, width]`.
        library: None computes in numpy, with the same result.

    Returns:
        int32 `[tokens]`: `NO_TOKEN`, `TOKEN` or `BROKEN_TOKEN`.
    """
    count, width = tokens.shape
    if library is None:
        states = np.where(tokens.any(axis=1), TOKEN, NO_TOKEN).astype(np.int32)
        states[~np.isfinite(tokens).all(axis=1)] = BROKEN_TOKEN
        return states
    tokens, states = np.ascontiguousarray(tokens), np.empty(count, np.int32)
    parameters = TokenParameters(rows=count, width=width, columns=0, product=0)
    library.token_states(ctypes.addressof(parameters), tokens.ctypes.data, states.ctypes.data)
    return states


def token_rows(
    tokens: Float,
    offsets: Float,
    chosen: NDArray[np.int64],
    weights: Float | None = None,
    bias: Float | None = None,
    *,
    library: ArrayLibrary | None = None,
) -> Float:
    """`(tokens + offsets)` at the chosen places, times `weights` plus `bias` where there are any.

    Args:
        tokens: float32 `[tokens, width]`.
        offsets: float32, of the same shape.
        chosen: int64 `[rows]`, which tokens.
        weights: float32 `[width, columns]`, or None for the shifted tokens themselves.
        bias: float32 `[columns]`, with weights.
        library: None computes in numpy.

    Returns:
        float32 `[rows, columns]`.

    Raises:
        ValueError: shapes or dtypes do not fit, or a chosen token is not there.
    """
    parameters = token_parameters(tokens.shape, offsets, chosen, weights, bias)
    if library is None:
        x = (tokens + offsets)[chosen]
        if weights is None or bias is None:
            return x
        return (x @ weights + bias).astype(np.float32, copy=False)
    result = np.empty((parameters.rows, parameters.columns), np.float32)
    held = [np.ascontiguousarray(a) for a in (tokens, offsets, chosen)]
    made = [None if a is None else np.ascontiguousarray(a) for a in (weights, bias)]
    library.token_rows(
        ctypes.addressof(parameters),
        *(a.ctypes.data for a in held),
        *(None if a is None else a.ctypes.data for a in made),
        result.ctypes.data,
    )
    return result


def token_parameters(
    shape: tuple[int, ...],
    offsets: Float,
    chosen: NDArray[np.int64],
    weights: Float | None,
    bias: Float | None,
) -> TokenParameters:
    """What the compiled twins are given; `shape` is that of the tokens, errors as `token_rows`."""
    if len(shape) != 2 or offsets.shape != shape or offsets.dtype != np.float32:
        raise ValueError(
            f"offsets are {offsets.dtype} {list(offsets.shape)} for tokens {list(shape)}"
        )
    if chosen.dtype != np.int64 or chosen.ndim != 1:
        raise ValueError(f"chosen tokens are int64 [rows], got {chosen.dtype}")
    if len(chosen) and not 0 <= chosen.min() <= chosen.max() < shape[0]:
        raise ValueError(f"a chosen token is not among {shape[0]}")
    columns = shape[1]
    if (weights is None) != (bias is None):
        raise ValueError("weights come with a bias")
    if weights is not None and bias is not None:
        columns = len(bias)
        if weights.shape != (shape[1], columns) or {weights.dtype, bias.dtype} != {
            np.dtype(np.float32)
        }:
            raise ValueError(
                f"weights are {weights.dtype} {list(weights.shape)} for tokens {list(shape)} and "
                f"a bias of {columns}"
            )
    return TokenParameters(
        rows=len(chosen), width=shape[1], columns=columns, product=weights is not None
    )
