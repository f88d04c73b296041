"""The sky of a condition as a picture of the upper half of all directions.

The picture is hemi-octahedral (Cigolle et al., "A Survey of Efficient Representations for
Independent Unit Vectors", JCGT 2014): a square whose edge is the horizon and whose middle is the
zenith. Looking up a direction takes no trigonometry.
"""

from __future__ import annotations

import zlib

import numpy as np

from ..world import Condition
from .lighting import Lighting
from .patterns import Float32, sampled, tiling_noise

SKY_SIZE = 768


def sky_picture(condition: Condition, lighting: Lighting, name: str) -> Float32:
    """Radiance of the sky.

    Args:
        condition: cloud cover.
        lighting: colours and the sun's direction.
        name: of the world; each has its own clouds.

    Returns:
        float32 `[SKY_SIZE, SKY_SIZE, 3]`, linear RGB.
    """
    grid = ((np.arange(SKY_SIZE) + 0.5) / SKY_SIZE * 2 - 1).astype(np.float32)
    u, v = np.meshgrid(grid, grid)
    x, y = (u + v) / 2, (u - v) / 2
    z = 1 - np.abs(x) - np.abs(y)
    length = np.sqrt(x * x + y * y + z * z)
    x, y, z = x / length, y / length, z / length
    rise = np.clip(z, 0, 1)[..., None]
    zenith, horizon = np.array(lighting.zenith, np.float32), np.array(lighting.horizon, np.float32)
    sky = zenith + (horizon - zenith) * np.exp(-5.0 * rise)
    sx, sy, sz = lighting.to_sun
    facing = np.clip(x * sx + y * sy + z * sz, 0, 1)[..., None]
    if not lighting.night:
        glow = 0.25 * facing**6 + 0.8 * facing**60 + 6 * facing**2500
        sky = sky + glow * np.array(lighting.sun, np.float32) * 0.6
    if condition.name == "fog":
        return np.ascontiguousarray(sky, np.float32)
    # Clouds lie in a plane above, so they shrink and crowd towards the horizon.
    reach = 0.055 / (z + 0.10)
    noise = tiling_noise(256, zlib.crc32(name.encode()), slope=1.55, low=2.0)
    height = sampled(noise, x * reach + 0.37, y * reach + 0.11)
    height = height + 0.45 * sampled(noise, x * reach * 3.7, y * reach * 3.7)
    threshold = 1.5 - 2.6 * condition.cloud
    cover = np.clip((height - threshold) / 0.9, 0, 1)[..., None]
    cover = cover * cover * (3 - 2 * cover)
    lit = np.array(lighting.sun, np.float32) * 0.42 + np.array(lighting.sky, np.float32) * 1.15
    relief = np.clip(0.5 + 0.22 * height, 0.25, 1)[..., None]
    if lighting.night:
        lit, relief = np.array([0.035, 0.028, 0.024], np.float32), 0.6 + 0.4 * relief
    shade = lit * (1.12 - (0.35 + 0.2 * condition.cloud) * relief * cover)
    fade = np.clip(z * 14, 0, 1)[..., None]
    return np.ascontiguousarray(sky + (shade - sky) * cover * fade * 0.92, np.float32)


def sky_radiance(picture: Float32, directions: Float32) -> Float32:
    """Radiance in directions `[..., 3]`; those below the horizon give the horizon."""
    x, y = directions[..., 0], directions[..., 1]
    z = np.maximum(directions[..., 2], 0)
    norm = np.abs(x) + np.abs(y) + z
    x, y = x / norm, y / norm
    size = picture.shape[0]
    column = np.clip(((x + y) * 0.5 + 0.5) * size, 0, size - 1).astype(np.int32)
    row = np.clip(((x - y) * 0.5 + 0.5) * size, 0, size - 1).astype(np.int32)
    return picture[row, column]
