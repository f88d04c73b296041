"""Pictures of the surfaces that materials are made of, baked once per process.

A texel multiplies the material's colour (128 leaves it as it is); its alpha is how much of the
gloss shows there, and for foliage where leaves are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from .patterns import Float32, tiling_noise

TEXELS = 512
_Pixels = tuple[NDArray[np.floating], NDArray[np.floating]]  # brightness or colour factor, alpha


def _grid(cells: float) -> tuple[Float32, Float32]:
    line = ((np.arange(TEXELS) + 0.5) / TEXELS * cells).astype(np.float32)
    return np.broadcast_to(line, (TEXELS, TEXELS)), np.broadcast_to(line[:, None], (TEXELS, TEXELS))


def _noise(seed: int, slope: float, low: float = 1, high: float | None = None) -> Float32:
    return tiling_noise(TEXELS, seed, slope, low, high)


def _cells(count: int, seed: int, spread: float) -> Float32:
    rng = np.random.default_rng(seed)
    values = 1 + spread * rng.uniform(-1, 1, (count, count))
    return values.astype(np.float32)


def _ones() -> Float32:
    return np.ones((TEXELS, TEXELS), np.float32)


def _plain() -> _Pixels:
    return _ones(), _ones()


def _asphalt() -> _Pixels:
    grain = 1 + 0.13 * _noise(1, 0.15, 30) + 0.05 * _noise(2, 1.0, 2, 40)
    ridge = np.abs(_noise(3, 1.7, 2, 60))
    crack = np.clip(1 - ridge / 0.012, 0, 1) * (_noise(4, 1.8, 1, 8) > 0.7)
    return grain * (1 - 0.4 * crack), _ones()


def _worn() -> _Pixels:
    wear = np.clip((_noise(5, 0.8, 4) - 1.1) / 0.8, 0, 1)
    return (1 + 0.04 * _noise(6, 0.2, 20)) * (1 - 0.55 * wear), _ones()


def _paving() -> _Pixels:
    x, y = _grid(6)
    joint = np.minimum(np.minimum(x % 1, 1 - x % 1), np.minimum(y % 1, 1 - y % 1))
    slab = _cells(6, 7, 0.09)[np.int32(y) % 6, np.int32(x) % 6]
    return (
        slab * (1 + 0.05 * _noise(8, 0.5, 8)) * np.where(joint < 0.02, 0.62, 1),
        _ones(),
    )


def _concrete() -> _Pixels:
    return 1 + 0.05 * _noise(9, 0.3, 10) + 0.07 * _noise(10, 1.2), _ones()


def _grass() -> _Pixels:
    blades = 1 + 0.24 * _noise(11, 0.2, 16) + 0.16 * _noise(12, 1.2, 2)
    dry = np.clip(0.5 + 0.4 * _noise(13, 1.4, 1, 30), 0, 1)[..., None]
    green = (
        np.array([1, 1, 1], np.float32)
        + dry * np.array([0.35, 0.08, 0.0], np.float32)
        - np.array([0.1, 0, 0], np.float32)
    )
    return np.clip(blades, 0.2, 2)[..., None] * green, _ones()


def _soil() -> _Pixels:
    return 1 + 0.15 * _noise(14, 0.4, 8) + 0.12 * _noise(15, 1.2), _ones()


def _brick() -> _Pixels:
    # Tile of 2.4 m: ten bricks of 24 cm by thirty-two courses of 7.5 cm.
    x, y = _grid(1)
    course = np.int32(y * 32)
    along = x * 10 + 0.5 * (course % 2)
    tone = _cells(32, 16, 0.22)[course % 32, np.int32(along) % 10]
    joint = ((along % 1) < 0.05) | ((y * 32) % 1 < 0.14)
    brick = (tone * (1 + 0.06 * _noise(17, 0.3, 20)))[..., None] * np.ones(3, np.float32)
    mortar = np.array([1.15, 1.7, 1.9], np.float32) * 0.85
    return np.where(joint[..., None], mortar, brick), _ones()


def _plaster() -> _Pixels:
    streaks = tiling_noise(TEXELS, 18, 0.9, 3)
    streaks = np.mean([np.roll(streaks, 6 * k, axis=0) for k in range(16)], axis=0)
    return 1 + 0.02 * _noise(19, 0.2, 30) + 0.05 * _noise(20, 1.4) - 0.06 * streaks, _ones()


def _window() -> _Pixels:
    # Tile of 6 m: four by four panes of 1.5 m, each with its frame, some with blinds.
    x, y = _grid(4)
    rng = np.random.default_rng(21)
    column, row = np.int32(x) % 4, np.int32(y) % 4
    blind = rng.uniform(0, 1, (4, 4))[row, column]
    drawn = rng.uniform(0.2, 0.9, (4, 4))[row, column]
    tone = 0.7 + 0.5 * rng.uniform(0, 1, (4, 4))[row, column]
    covered = (blind > 0.55) & (y % 1 > 1 - drawn)
    slats = 0.85 + 0.15 * np.sign(np.sin(y * 60))
    colour = np.where(covered, 1.9 * slats, tone)
    edge = np.minimum(np.minimum(x % 1, 1 - x % 1), np.minimum(y % 1, 1 - y % 1))
    frame = edge < 0.035
    gloss = np.where(frame, 0.15, np.where(covered, 0.7, 1.0))
    return np.where(frame, 1.6, colour).astype(np.float32), gloss.astype(np.float32)


def _tiles() -> _Pixels:
    x, y = _grid(8)
    row = np.int32(y)
    along = x + 0.5 * (row % 2)
    tone = _cells(8, 22, 0.18)[row % 8, np.int32(along) % 8]
    return tone * (0.72 + 0.4 * (y % 1)) * (0.85 + 0.15 * np.sin(np.pi * (along % 1))), _ones()


def _bark() -> _Pixels:
    ridges = _noise(23, 0.7, 4)
    ridges = np.mean([np.roll(ridges, 5 * k, axis=0) for k in range(12)], axis=0)
    return np.clip(1 + 0.4 * ridges / ridges.std() * 0.6, 0.3, 1.8), _ones()


def _foliage() -> _Pixels:
    leaves = _noise(24, 0.55, 10, 90)
    clumps = _noise(25, 1.2, 2, 24)
    light = np.clip(1 + 0.30 * leaves + 0.28 * clumps, 0.2, 2)[..., None]
    tint = np.clip(0.5 + 0.4 * _noise(26, 1.0, 3, 40), 0, 1)[..., None]
    colour = light * (
        np.array([0.9, 0.97, 0.9], np.float32) + tint * np.array([0.28, 0.08, 0.0], np.float32)
    )
    alpha = np.clip(0.62 + 0.55 * (0.6 * leaves + 0.5 * clumps), 0, 1)
    return colour, alpha


def _metal() -> _Pixels:
    x, _ = _grid(4)
    seam = np.minimum(x % 1, 1 - x % 1) < 0.012
    return (1 + 0.03 * _noise(27, 1.2)) * np.where(seam, 0.7, 1), 1 + 0.1 * _noise(28, 0.6)


def _cloth() -> _Pixels:
    return 1 + 0.06 * _noise(29, 0.1, 40) + 0.16 * _noise(30, 1.3, 2, 20), _ones()


def _blotches() -> _Pixels:
    # Laid over large surfaces at 25 m a tile, so that the tiles of the others do not show.
    return 1 + 0.10 * _noise(31, 1.1, 1, 60) + 0.04 * _noise(32, 0.6, 10), _ones()


_BAKERS: dict[str, tuple[float, Callable[[], _Pixels]]] = {
    "plain": (4.0, _plain),
    "asphalt": (3.0, _asphalt),
    "worn": (3.0, _worn),
    "paving": (3.0, _paving),
    "concrete": (4.0, _concrete),
    "grass": (3.5, _grass),
    "soil": (4.0, _soil),
    "brick": (2.4, _brick),
    "plaster": (7.0, _plaster),
    "window": (6.0, _window),
    "tiles": (2.4, _tiles),
    "bark": (1.5, _bark),
    "foliage": (2.2, _foliage),
    "metal": (5.0, _metal),
    "cloth": (0.8, _cloth),
    "blotches": (25.0, _blotches),
}

LAYERS: tuple[str, ...] = tuple(_BAKERS)
"""Names of the textures in their order; `blotches` is nobody's own."""

TILE_M: tuple[float, ...] = tuple(tile for tile, _ in _BAKERS.values())
"""How many metres a texture covers before it repeats."""


LEVEL_GROUND = frozenset(
    {"asphalt", "road_paint", "road_paint_yellow", "paving", "concrete", "grass", "soil"}
)
"""Names of materials that get wet, mirror and are blotched."""


def layer_index(texture: str) -> int:
    """Row of a texture in `LAYERS`; one that is not known is plain."""
    return LAYERS.index(texture) if texture in _BAKERS else 0


@cache
def baked_surfaces() -> NDArray[np.uint8]:
    """All textures, uint8 `[len(LAYERS), TEXELS, TEXELS, 4]`."""
    layers = np.empty((len(LAYERS), TEXELS, TEXELS, 4), np.uint8)
    for layer, (_, bake) in zip(layers, _BAKERS.values(), strict=True):
        factor, alpha = bake()
        if factor.ndim == 2:
            factor = factor[..., None]
        layer[..., :3] = np.clip(factor * 127.5 + 0.5, 0, 255)
        layer[..., 3] = np.clip(alpha * 255 + 0.5, 0, 255)
    layers.flags.writeable = False
    return layers
