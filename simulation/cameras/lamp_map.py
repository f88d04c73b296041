"""Light of street lamps and of other vehicles' headlights, as a map over the ground.

Lamps are many and pixels are more, so the light is summed once per place instead of per pixel.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from ..nuscenes.geometry import Float64
from ..world import Placed
from .patterns import Float32

MAP_TEXELS = 384
MAP_EDGE_M = 230.0

HEADLIGHT = 6.0
"""Strength of the ego's own beam."""
HEADLIGHTS_AHEAD_M = 3.3
"""The ego's headlights, before the middle of its rear axle."""

_BEAMS_WITHIN_M = 70.0
_CELL_M = 40.0
_LAMP_COLOUR = np.array([1.0, 0.70, 0.36], np.float32)
_HEADLIGHT_COLOUR = np.array([1.0, 0.94, 0.82], np.float32)
_LAMP_REACH_M = 28.0
_BEAM_REACH_M = 26.0


class LampMap:
    """The map around one place; another is made when the ego vehicle has gone to another cell."""

    def __init__(self, lamps: Float64, middle: tuple[float, float]) -> None:
        """Sum the lamps.

        Args:
            lamps: `[n, 3]`, world frame, metres.
            middle: x y, metres.
        """
        self.middle = middle
        self.low = np.array(middle) - MAP_EDGE_M / 2
        texel = MAP_EDGE_M / MAP_TEXELS
        line = ((np.arange(MAP_TEXELS) + 0.5) * texel).astype(np.float32)
        self._x = line + np.float32(self.low[0])
        self._y = line + np.float32(self.low[1])
        self.lamps = np.zeros((MAP_TEXELS, MAP_TEXELS, 3), np.float32)
        for x, y, z in lamps:
            window = self._window(x, y, _LAMP_REACH_M)
            if window is None:
                continue
            rows, columns = window
            dx, dy = self._x[columns][None] - x, self._y[rows][:, None] - y
            squared = dx * dx + dy * dy
            height = max(float(z), 2.0)
            # Lambert's law below a lamp that shines evenly downwards: cosine to the fourth.
            level = (height**2 / (squared + height**2)) ** 2
            fade = np.clip(1 - squared / _LAMP_REACH_M**2, 0, 1)
            self.lamps[rows, columns] += (level * fade)[..., None] * _LAMP_COLOUR * 0.9

    @staticmethod
    def middle_near(place: Float64) -> tuple[float, float]:
        """The middle of the map for a place: that of its cell, whatever was drawn before."""
        x, y = (round(float(part) / _CELL_M) * _CELL_M for part in place[:2])
        return x, y

    def with_beams(self, agents: Iterable[Placed], place: Float64) -> Float32:
        """The map with the headlights of those that have them on near a place.

        Args:
            agents: all that is there.
            place: x y (z), metres.

        Returns:
            float32 `[texels, texels, 3]`.
        """
        vehicles = [
            placed
            for placed in agents
            if placed.lights_on and math.dist((placed.x, placed.y), place[:2]) < _BEAMS_WITHIN_M
        ]
        if not vehicles:
            return self.lamps
        light = self.lamps.copy()
        for placed in vehicles:
            cos, sin = math.cos(placed.yaw_rad), math.sin(placed.yaw_rad)
            half = placed.mesh.size_wlh[1] / 2
            x, y = placed.x + cos * half, placed.y + sin * half
            window = self._window(x + cos * 12, y + sin * 12, _BEAM_REACH_M / 2 + 6)
            if window is None:
                continue
            rows, columns = window
            dx, dy = self._x[columns][None] - x, self._y[rows][:, None] - y
            along, aside = dx * cos + dy * sin, np.abs(dy * cos - dx * sin)
            ahead = np.clip(along / 2.5, 0, 1) * np.clip(1 - along / _BEAM_REACH_M, 0, 1)
            narrow = np.clip(1 - aside / (1.2 + 0.32 * np.maximum(along, 0)), 0, 1)
            light[rows, columns] += (0.9 * ahead * narrow)[..., None] * _HEADLIGHT_COLOUR
        return light

    def _window(self, x: float, y: float, reach: float) -> tuple[slice, slice] | None:
        texel = MAP_EDGE_M / MAP_TEXELS
        edges = [
            (int((x - reach - self.low[0]) / texel), int((x + reach - self.low[0]) / texel) + 2),
            (int((y - reach - self.low[1]) / texel), int((y + reach - self.low[1]) / texel) + 2),
        ]
        (left, right), (top, bottom) = ((max(a, 0), min(max(b, 0), MAP_TEXELS)) for a, b in edges)
        return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None
