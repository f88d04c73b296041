"""What the camera makes of light, in numpy: the twin of `shaders/develop.frag`, `shaders/blur.frag`
and the tone curve of `shaders/scene.frag`. Change one and the other has to follow.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .lens import GRAIN_TEXELS, Lens, drop_tile, grain_tile
from .ray_textures import Floats, bilinear, single

_LUMA = single([0.3, 0.59, 0.11])
_GLOW_SHRINK = 4
_GLOW_WEIGHTS = (0.204, 0.180, 0.124, 0.066, 0.028)
_BLUR_SAMPLES = 6
_LONGEST_BLUR = 0.06
_MIRROR_SAMPLES = 6


def tone_curve(light: Floats) -> Floats:
    """A camera's curve with a soft shoulder, its pale shadows and its gamma.

    Args:
        light: `[..., 3]`, linear RGB.

    Returns:
        float32 of the same shape, 0 to 1.
    """
    c = 1 - np.exp(-1.25 * np.maximum(light, 0))
    c += 0.12 * ((c @ _LUMA)[..., None] - c)
    return np.sqrt(c * 0.985 + 0.002).astype(np.float32)


class Developer:
    """Develops pictures; keeps the tiles of grain and drops."""

    def __init__(self) -> None:
        """Draw the tiles."""
        self._grain, self._drops = grain_tile(), drop_tile()

    def developed(
        self,
        picture: Floats,
        lens: Lens,
        before: Floats | None = None,
        mirrors: Floats | None = None,
        horizon: float = 0.0,
    ) -> NDArray[np.uint8]:
        """A picture as the camera gives it.

        Args:
            picture: `[h, w, 3]` after `tone_curve`.
            lens: settings of this picture.
            before: `[h, w, 2]`, where each pixel's surface was when the shutter opened, in parts
                of the width and height; None for a shutter too short to show it.
            mirrors: `[h, w]`, how much of what stands behind it the ground mirrors; None where
                it is dry.
            horizon: row of the horizon, in parts of the height.

        Returns:
            uint8 `[h, w, 3]`.
        """
        height, width = picture.shape[:2]
        rng = lens.rng()
        grain_shift, drop_shift, rain_shift = (rng.uniform(size=count) for count in (2, 2, 4))
        u, v = np.meshgrid(
            (np.arange(width, dtype=np.float32) + 0.5) / width,
            (np.arange(height, dtype=np.float32) + 0.5) / height,
        )
        at = np.stack([u, v], axis=-1)
        p = at
        if lens.drops:
            bend = _sampled(self._drops, at + drop_shift, repeat=True)[..., :2] / 255 - 0.5
            p = (at + bend * (0.07 * lens.drops)).astype(np.float32)
        glow = _sampled(_glow(picture), p) * lens.glow if lens.glow else 0
        c = _smoothed(picture, p)
        if before is not None:
            c = _blurred(picture, c, p, before)
        if mirrors is not None:
            c = _mirrored(picture, c, p, mirrors, horizon)
        c = c + glow
        if lens.rain:
            near = _sampled(self._drops, at * (2.2, 0.7) + rain_shift[:2], repeat=True)[..., 2]
            far = _sampled(self._drops, at * (5.0, 1.7) + rain_shift[2:], repeat=True)[..., 2]
            falling = lens.rain * np.clip(near * (0.55 / 255) + far * (0.4 / 255), 0, 1)
            c += (c * np.float32(0.55) + np.float32(0.36) - c) * falling[..., None]
        off = at - 0.5
        c *= lens.exposure * (1 - 0.2 * (off * off).sum(axis=-1, keepdims=True))
        scale = width / GRAIN_TEXELS, height / GRAIN_TEXELS
        g = _sampled(self._grain, at * scale + grain_shift, repeat=True) / 255 - np.float32(0.5)
        c += g * 6 * np.sqrt(np.maximum(lens.shot**2 * c + lens.read**2, 0))
        return (np.clip(c, 0, 1) * 255 + 0.5).astype(np.uint8)


def _sampled(picture: NDArray[np.generic], at: NDArray, repeat: bool = False) -> Floats:
    return bilinear(picture, at[..., 0], at[..., 1], repeat)


def _luma_at(luma: Floats, at: Floats) -> Floats:
    return _sampled(luma[..., None], at)[..., 0]


def _smoothed(picture: Floats, at: Floats) -> Floats:
    """Edges smoothed along their direction, in the manner of FXAA (Lottes, 2009)."""
    height, width = picture.shape[:2]
    step = single([1 / width, 1 / height])
    luma = picture @ _LUMA
    middle = _sampled(picture, at)
    m = middle @ _LUMA
    nw, ne, sw, se = (
        _luma_at(luma, at + step * single(corner) / 2)
        for corner in ((-1, -1), (1, -1), (-1, 1), (1, 1))
    )
    low = np.minimum.reduce([m, nw, ne, sw, se])
    high = np.maximum.reduce([m, nw, ne, sw, se])
    edge = high - low >= 0.02 + 0.06 * high
    nw, ne, sw, se, low, high = (part[edge] for part in (nw, ne, sw, se, low, high))
    p = at[edge]
    along = np.stack([(sw + se) - (nw + ne), (nw + sw) - (ne + se)], axis=-1)
    least = np.abs(along).min(axis=-1)
    along /= np.maximum(least, 0.03 * (nw + ne + sw + se) + 1e-3)[..., None]
    along = np.clip(along, -6, 6) * step
    near = 0.5 * (_sampled(picture, p - along / 6) + _sampled(picture, p + along / 6))
    wide = 0.5 * near + 0.25 * (
        _sampled(picture, p - along * 0.5) + _sampled(picture, p + along * 0.5)
    )
    w = wide @ _LUMA
    middle[edge] = np.where(((w < low) | (w > high))[..., None], near, wide)
    return middle


def _blurred(picture: Floats, smooth: Floats, at: Floats, before: Floats) -> Floats:
    """The mean over the way that each surface went while the shutter was open."""
    height, width = picture.shape[:2]
    column = np.clip((at[..., 0] * width).astype(np.int32), 0, width - 1)
    row = np.clip((at[..., 1] * height).astype(np.int32), 0, height - 1)
    way = before[row, column] - at
    length = np.linalg.norm(way, axis=-1, keepdims=True)
    way = way * np.minimum(1, _LONGEST_BLUR / np.maximum(length, 1e-5))
    mixed = smooth.copy()
    for k in range(1, _BLUR_SAMPLES):
        mixed += _sampled(picture, at + way * (k / (_BLUR_SAMPLES - 1)))
    return mixed / _BLUR_SAMPLES


def _mirrored(picture: Floats, seen: Floats, at: Floats, mirrors: Floats, horizon: float) -> Floats:
    """A wet road with what stands beyond it, smeared between the horizon and its mirror image."""
    share = _sampled(mirrors[..., None], at)[..., 0]
    rows = (share > 0.02) & (at[..., 1] > horizon)
    p, share = at[rows], share[rows, None]
    image = np.zeros((len(p), 3), np.float32)
    for k in range(_MIRROR_SAMPLES):
        up = np.clip(horizon - (p[:, 1] - horizon) * ((k + 0.5) / (_MIRROR_SAMPLES - 1)), 0, 1)
        image += _sampled(picture, np.stack([p[:, 0] + 0.002 * (k - 3), up], axis=1))
    mixed = seen.copy()
    mixed[rows] += (image / _MIRROR_SAMPLES - mixed[rows]) * share
    return mixed


def _glow(picture: Floats) -> Floats:
    """Blurred light that outshines white, at a quarter of the size."""
    height, width = picture.shape[0] // _GLOW_SHRINK, picture.shape[1] // _GLOW_SHRINK
    u, v = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    at = np.stack([u, v], axis=-1)
    passes = (
        ((1.4 / width, 0.0), 0.86),
        ((0.0, 1.4 / height), 0.0),
        ((3.4 / width, 0.0), 0.0),
        ((0.0, 3.4 / height), 0.0),
    )
    spread = picture
    for stride, threshold in passes:
        total = np.zeros((height, width, 3), np.float32)
        for k in range(-4, 5):
            c = _sampled(spread, at + np.array(stride) * k)
            total += np.maximum(c - threshold, 0) * (_GLOW_WEIGHTS[abs(k)] / (1 - threshold))
        spread = total
    return spread
