"""What the convolutional encoders share: checked weights, folded batch norms, pooling to tokens.

It knows layers, no architectures; those are in `efficientnet_lite.py` and `range_encoder.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import ConfigError, ModelError
from .graph import GraphBuilder

Floats = NDArray[np.float32]
Weights = Mapping[str, NDArray[np.generic]]

#: Added to the variance by the layer normalisation of tokens (the default of torch).
LAYER_NORM_EPSILON = 1e-5


@dataclass(frozen=True)
class FeatureMap:
    """A value of a graph: float32 `[batch, channels, rows, columns]`."""

    value: str
    channels: int
    rows: int
    columns: int


def weight(weights: Weights, name: str, shape: Sequence[int]) -> Floats:
    """Return the float32 array `name`.

    Raises:
        ModelError: it is missing, of another shape, or holds values that are not finite.
    """
    if name not in weights:
        raise ModelError(
            f"the checkpoint has no {name}",
            field=name,
            remedy="use the weights of this architecture",
        )
    array = weights[name]
    if array.shape != tuple(shape):
        raise ModelError(
            f"shape {list(array.shape)} instead of {list(shape)}",
            field=name,
            remedy="use the weights of this architecture",
        )
    array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise ModelError(
            "holds values that are not finite",
            field=name,
            remedy="fetch the weights again",
        )
    return array


def folded(
    weights: Weights, convolution: str, norm: str, shape: Sequence[int], epsilon: float
) -> tuple[Floats, Floats]:
    """Fold the batch norm that follows a bias-free convolution into it.

    Args:
        weights: the state dict.
        convolution: key of the kernel.
        norm: prefix of the batch norm: `.weight`, `.bias`, `.running_mean`, `.running_var`.
        shape: shape of the kernel, `[out, in / groups, kh, kw]`.
        epsilon: what the batch norm adds to the variance.

    Returns:
        Kernel `shape` and bias `[out]` of the convolution that does both.

    Raises:
        ModelError: see `weight`.
    """
    kernel = weight(weights, convolution, shape)
    names = ("weight", "bias", "running_mean", "running_var")
    gain, bias, mean, variance = (weight(weights, f"{norm}.{n}", shape[:1]) for n in names)
    if (variance < 0).any():
        raise ModelError("a negative variance", field=f"{norm}.running_var")
    scale = gain / np.sqrt(variance + epsilon)
    return _float32(kernel * scale[:, None, None, None]), _float32(bias - mean * scale)


def _float32(array: NDArray[np.floating]) -> Floats:
    return array.astype(np.float32, copy=False)


def sector_weights(columns: int, tokens: int, start: float = 0.0) -> Floats:
    """Weights that average the columns of equal-width sectors.

    A column on the border of two sectors counts for both by its share, so `tokens` need not divide
    `columns`.

    Args:
        columns: columns of the feature map.
        tokens: number of sectors.
        start: where sector 0 begins, in columns; sectors wrap around the right edge.

    Returns:
        float32 `[columns, tokens]`; each column of it sums to 1.

    Raises:
        ConfigError: there are more sectors than columns, or none.
    """
    if not 1 <= tokens <= columns:
        raise ConfigError(
            f"{tokens} tokens from a feature map of {columns} columns",
            field="tokens",
            remedy=f"choose 1 to {columns} tokens, or a wider input",
        )
    width = columns / tokens
    left = np.arange(columns)[:, None]
    matrix = np.zeros((columns, tokens))
    for turn in (-columns, 0, columns):
        begin = start + turn + np.arange(tokens) * width
        matrix += np.clip(np.minimum(left + 1, begin + width) - np.maximum(left, begin), 0, None)
    return (matrix / width).astype(np.float32)


def pool_tokens(graph: GraphBuilder, features: str, sectors: Floats, channels: int) -> str:
    """Average sectors of a feature map and normalise each token over its channels.

    Means and a matrix product instead of pooling windows: they also serve sectors that wrap around
    or end within a column, and every back end has them.

    Args:
        graph: the graph to add to.
        features: float32 `[batch, channels, rows, columns]`.
        sectors: `[columns, tokens]`, see `sector_weights`.
        channels: width of a token.

    Returns:
        The value float32 `[batch, tokens, channels]`, mean 0 and variance 1 per token.
    """
    rows_gone = graph.op("ReduceMean", features, graph.ints(2), keepdims=0)
    pooled = graph.op("MatMul", rows_gone, graph.constant(sectors, "sectors"))
    tokens = graph.op("Transpose", pooled, perm=[0, 2, 1])
    ones = graph.constant(np.ones(channels, np.float32), "ones")
    return graph.op("LayerNormalization", tokens, ones, axis=-1, epsilon=LAYER_NORM_EPSILON)
