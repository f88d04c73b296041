"""Noise that tiles without a seam, the raw stuff of surfaces, clouds and sensor grain."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


def tiling_noise(
    size: int, seed: int, slope: float = 1.0, low: float = 1.0, high: float | None = None
) -> Float32:
    """Gaussian noise with a power-law spectrum, periodic in both directions.

    Args:
        size: edge of the square, pixels.
        seed: of the random numbers.
        slope: the amplitude falls as 1 / frequency ** slope.
        low: frequencies below have no part, cycles per edge.
        high: frequencies above have no part; None keeps all.

    Returns:
        float32 `[size, size]`, mean 0, standard deviation 1.
    """
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft2(rng.standard_normal((size, size)))
    fy, fx = np.fft.fftfreq(size, 1 / size), np.fft.rfftfreq(size, 1 / size)
    frequency = np.hypot(fy[:, None], fx[None, :])
    keep = (frequency >= low) & (frequency <= (high or size))
    spectrum *= keep / np.maximum(frequency, 1) ** slope
    noise = np.fft.irfft2(spectrum, s=(size, size))
    return ((noise - noise.mean()) / noise.std()).astype(np.float32)


def sampled(tile: Float32, u: NDArray[np.floating], v: NDArray[np.floating]) -> Float32:
    """Bilinear samples of a periodic tile at u, v in units of its edge."""
    size = tile.shape[0]
    x, y = u * size, v * size
    x0, y0 = np.floor(x).astype(np.int32), np.floor(y).astype(np.int32)
    fx, fy = (x - x0).astype(np.float32), (y - y0).astype(np.float32)
    x0, y0 = x0 % size, y0 % size
    x1, y1 = (x0 + 1) % size, (y0 + 1) % size
    top = tile[y0, x0] * (1 - fx) + tile[y0, x1] * fx
    bottom = tile[y1, x0] * (1 - fx) + tile[y1, x1] * fx
    return (top * (1 - fy) + bottom * fy).astype(np.float32)
