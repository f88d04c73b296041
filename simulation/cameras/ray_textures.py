"""Look-ups in pictures as a graphics card does them: between texels, smaller for what is far."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .surfaces import LAYERS, TEXELS, TILE_M, baked_surfaces

Floats = NDArray[np.floating]
"""float32 where rays are many; single numbers of Python do not say so in types."""


def single(values: ArrayLike) -> NDArray[np.float32]:
    """An array in single precision."""
    return np.asarray(values, np.float32)


def bilinear(picture: NDArray[np.generic], u: Floats, v: Floats, repeat: bool) -> Floats:
    """Samples between the texel centres.

    Args:
        picture: `[h, w, c]`.
        u, v: `[...]`, 0 to 1 over its width and height.
        repeat: beyond the edge it goes on with the other side instead of the edge.

    Returns:
        float32 `[..., c]`.
    """
    height, width = picture.shape[:2]
    x, y = u * width - 0.5, v * height - 0.5
    left, top = np.floor(x).astype(np.int32), np.floor(y).astype(np.int32)
    fx, fy = (x - left).astype(np.float32), (y - top).astype(np.float32)
    right, bottom = left + 1, top + 1
    if repeat:
        left, right, top, bottom = left % width, right % width, top % height, bottom % height
    else:
        left, right = np.clip(left, 0, width - 1), np.clip(right, 0, width - 1)
        top, bottom = np.clip(top, 0, height - 1), np.clip(bottom, 0, height - 1)
    flat = picture.reshape(height * width, -1)
    mixed = np.zeros((*np.shape(x), flat.shape[1]), np.float32)
    for row, row_share in ((top, 1 - fy), (bottom, fy)):
        for column, share in ((left, 1 - fx), (right, fx)):
            mixed += flat[row * width + column] * (row_share * share)[..., None]
    return mixed


class SurfacePictures:
    """The textures of all surfaces in halving sizes, sampled by place and footprint."""

    def __init__(self) -> None:
        """Bake them, which takes about a second."""
        level = baked_surfaces()
        self._levels = [level]
        while level.shape[1] > 1:
            size = level.shape[1] // 2
            blocks = level.reshape(len(LAYERS), size, 2, size, 2, 4)
            level = (blocks.mean(axis=(2, 4), dtype=np.float32) + 0.5).astype(np.uint8)
            self._levels.append(level)
        self._tile_m = np.array(TILE_M, np.float32)

    def sample(self, layers: NDArray[np.integer], uv_m: Floats, footprint_m: Floats) -> Floats:
        """Texels of surfaces.

        Args:
            layers: `[n]`, rows of `LAYERS`.
            uv_m: `[n, 2]`, metres along the surface.
            footprint_m: `[n]`, metres of surface that a pixel covers.

        Returns:
            float32 `[n, 4]`, 0 to 1.
        """
        tile = self._tile_m[layers]
        wanted = np.log2(np.maximum(footprint_m / tile * TEXELS, 1e-3))
        # Halfway between two sizes goes to the larger, as OpenGL has it.
        chosen = np.clip(np.ceil(wanted - 0.5), 0, len(self._levels) - 1).astype(np.int32)
        # Stacked one below the other, every layer repeats in itself.
        u, v = np.mod(uv_m / tile[:, None], 1).astype(np.float32).T
        texels = np.empty((len(layers), 4), np.float32)
        keys = chosen * len(LAYERS) + layers
        order = np.argsort(keys, kind="stable")
        borders = np.flatnonzero(np.diff(keys[order])) + 1
        for rows in np.split(order, borders):
            if len(rows):
                picture = self._levels[chosen[rows[0]]][layers[rows[0]]]
                texels[rows] = bilinear(picture, u[rows], v[rows], repeat=True)
        return texels / 255
