"""What a camera adds to the light: glow, blur, drops, rain in the air, grain, its tone curve.

Numbers and pre-drawn tiles that both renderers share; all draws come from one seed per picture.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..world import Condition
from .lighting import Lighting
from .patterns import Float32, tiling_noise

GRAIN_TEXELS = 256
DROP_TEXELS = 512


@dataclass(frozen=True)
class Lens:
    """Settings of one picture.

    Attributes:
        seed: of shifts of the grain, rain and drops.
        exposure: factor on the light.
        shot, read: standard deviation of the noise at white, and in the dark.
        blur_s: shutter time; 0 for none that would show.
        glow: share of outshining light that spreads.
        rain: how strong falling rain shows, 0 to 1.
        drops: how much drops on the lens bend the view, 0 to 1.
    """

    seed: int
    exposure: float
    shot: float
    read: float
    blur_s: float
    glow: float
    rain: float
    drops: float

    @classmethod
    def of(cls, condition: Condition, lighting: Lighting, *names: object) -> Lens:
        """The settings under a condition.

        Args:
            condition: light and weather.
            lighting: of the condition.
            names: what makes this picture different from others (scene, camera, time).
        """
        digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
        raining = min(1.0, condition.rain_mm_h / 20)
        gain = math.sqrt(lighting.gain)
        return cls(
            seed=int.from_bytes(digest[:8], "little"),
            exposure=1.0,
            shot=0.008 * gain,
            read=0.0022 * gain,
            blur_s=lighting.exposure_s if lighting.night else 0.0,
            glow=0.55 if lighting.night else 0.35 if condition.name == "fog" else 0.0,
            rain=0.25 + 0.6 * raining if raining else 0.0,
            drops=0.35 + 0.65 * raining if raining else 0.0,
        )

    def rng(self) -> np.random.Generator:
        """The random numbers of this picture."""
        return np.random.default_rng(self.seed)


def grain_tile() -> NDArray[np.uint8]:
    """Gaussian noise, uint8 `[GRAIN_TEXELS, GRAIN_TEXELS, 3]`: 6 standard deviations are 0 to 255.

    Neighbouring pixels are a little alike, as after demosaicing.
    """
    rng = np.random.default_rng(77)
    noise = rng.standard_normal((GRAIN_TEXELS, GRAIN_TEXELS, 3)).astype(np.float32)
    noise = 0.65 * noise + 0.35 * noise.mean(axis=2, keepdims=True) * math.sqrt(3)
    soft = noise + 0.5 * (np.roll(noise, 1, 0) + np.roll(noise, 1, 1))
    soft /= soft.std()
    return np.clip(soft * 255 / 6 + 127.5 + 0.5, 0, 255).astype(np.uint8)


def drop_tile() -> NDArray[np.uint8]:
    """Drops on the lens and rain in the air, uint8 `[DROP_TEXELS, DROP_TEXELS, 3]`.

    The first two channels shift the view (128 is no shift), the third is falling rain.
    """
    rng = np.random.default_rng(78)
    line = np.arange(DROP_TEXELS, dtype=np.float32) / DROP_TEXELS
    bend = np.zeros((DROP_TEXELS, DROP_TEXELS, 2), np.float32)
    for _ in range(26):
        radius = float(rng.uniform(0.008, 0.026))
        dx = (line - rng.uniform() + 0.5) % 1 - 0.5
        dy = ((line - rng.uniform() + 0.5) % 1 - 0.5) * rng.uniform(0.5, 0.8)
        away = np.hypot(dx[None], dy[:, None]) / radius
        inside = np.clip(1 - away * away, 0, 1) ** 1.5
        bend[..., 0] -= inside * dx[None] / radius
        bend[..., 1] -= inside * dy[:, None] / radius
    tile = np.full((DROP_TEXELS, DROP_TEXELS, 3), 128, np.uint8)
    tile[..., :2] = np.clip(bend * 127 + 128, 0, 255)
    tile[..., 2] = np.clip(_falling(rng) * 255, 0, 255)
    return tile


def _falling(rng: np.random.Generator) -> Float32:
    """Streaks of rain, long and thin, a little slanted; float32 0 to 1."""
    seeds = (rng.uniform(size=(DROP_TEXELS, DROP_TEXELS)) > 0.9988).astype(np.float32)
    length = 46
    streaks = np.zeros_like(seeds)
    for step in range(length):
        weight = math.sin(math.pi * (step + 0.5) / length)
        streaks += weight * np.roll(seeds, (step, step // 9), axis=(0, 1))
    mist = np.clip(tiling_noise(DROP_TEXELS, 79, 1.2, 2) * 0.04 + 0.05, 0, 1)
    return np.clip(streaks * 0.9 + mist, 0, 1).astype(np.float32)
