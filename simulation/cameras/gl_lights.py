"""Shadows by day and lamps by night, kept between pictures where nothing has changed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..nuscenes.geometry import Float64
from ..world import Placed, World
from .gl_programs import Programs
from .lamp_map import HEADLIGHTS_AHEAD_M, MAP_EDGE_M, MAP_TEXELS, LampMap
from .lighting import Lighting

if TYPE_CHECKING:
    import moderngl

_SHADOW_TEXELS = 2048
_SHADOW_REACH_M = 75.0
# One map serves all moments of such a span, so that the cameras of a keyframe, which fire within
# 43 ms of each other, share it. Spans do not depend on what was drawn before.
_MAP_SPAN_S = 0.05


def map_time(time_s: float) -> float:
    """The moment that the maps of a picture's span are drawn for: its middle."""
    return (math.ceil(round(time_s / _MAP_SPAN_S, 6)) - 0.5) * _MAP_SPAN_S


DrawCasters = Callable[[Float64, list[Placed]], None]


class ShadowMap:
    """Depths as the sun sees them, around the ego vehicle."""

    def __init__(self, context: moderngl.Context, programs: Programs) -> None:
        """Make the map; nothing is drawn."""
        self._context = context
        self.texture = context.depth_texture((_SHADOW_TEXELS, _SHADOW_TEXELS))
        self.texture.compare_func = "<="
        self.texture.repeat_x = self.texture.repeat_y = False
        self._target = context.framebuffer(depth_attachment=self.texture)
        self._drawn_at_s = math.inf
        self.shadow_from_world: Float64 = np.eye(4)

    def forget(self) -> None:
        """The world has changed."""
        self._drawn_at_s = math.inf

    def prepare(
        self,
        world: World,
        time_s: float,
        lighting: Lighting,
        draw_casters: DrawCasters,
    ) -> None:
        """Draw the map anew, if the one that is there is too old.

        Args:
            world: for the ego vehicle's place.
            time_s: of the picture.
            lighting: where the sun stands.
            draw_casters: draws all that throws a shadow with a projection.
        """
        time_s = map_time(time_s)
        if time_s == self._drawn_at_s:
            return
        self._drawn_at_s = time_s
        middle = world.ego_pose(time_s)[:3, 3]
        clip_from_world = _sun_projection(np.array(lighting.to_sun), middle)
        to_texture = np.diag([0.5, 0.5, 0.5, 1.0])
        to_texture[:3, 3] = 0.5
        self.shadow_from_world = to_texture @ clip_from_world
        near = [
            placed
            for placed in (*world.placed_agents(time_s), *world.placed_signals(time_s))
            if math.dist((placed.x, placed.y), middle[:2]) < _SHADOW_REACH_M
        ]
        self._target.use()
        self._target.clear(depth=1.0)
        self._context.enable_only(self._context.DEPTH_TEST | self._context.CULL_FACE)
        self._context.depth_func = "<"
        # Sides that face the sun would throw shadows on themselves; their backs do it as well.
        self._context.front_face, self._context.cull_face = "ccw", "front"
        draw_casters(clip_from_world, near)
        self._context.cull_face = "back"


def _sun_projection(to_sun: Float64, middle: Float64) -> Float64:
    """Parallel projection along the sun's rays, its pixels fixed to the world."""
    aside = np.cross([0.0, 0.0, 1.0], to_sun)
    aside /= np.linalg.norm(aside)
    up = np.cross(to_sun, aside)
    axes = np.stack([aside, up, -to_sun])
    # Moved by whole texels only, so that the edges of shadows do not crawl.
    texel = 2 * _SHADOW_REACH_M / _SHADOW_TEXELS
    origin = axes @ middle
    origin[:2] = np.round(origin[:2] / texel) * texel
    depth = _SHADOW_REACH_M + 60.0
    clip = np.eye(4)
    clip[:3, :3] = axes / np.array([[_SHADOW_REACH_M], [_SHADOW_REACH_M], [depth]])
    clip[:3, 3] = -origin / np.array([_SHADOW_REACH_M, _SHADOW_REACH_M, depth])
    return clip


class NightLights:
    """The map of lamps and headlights, and the ego's own beam."""

    def __init__(self, context: moderngl.Context) -> None:
        """Make the map; it is dark."""
        self.texture = context.texture((MAP_TEXELS, MAP_TEXELS), 3, dtype="f2")
        self.texture.repeat_x = self.texture.repeat_y = False
        self._map: LampMap | None = None
        self._drawn_at_s = math.inf
        self.headlights: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 0.0)

    @property
    def lamp_map(self) -> tuple[float, float, float]:
        """Low corner x y, and 1 / edge, metres."""
        low = (0.0, 0.0) if self._map is None else self._map.low
        return float(low[0]), float(low[1]), 1 / MAP_EDGE_M

    def forget(self) -> None:
        """The world has changed."""
        self._map, self._drawn_at_s = None, math.inf

    def prepare(self, world: World, time_s: float) -> None:
        """Draw the map of this moment's span, if it is not there."""
        pose = world.ego_pose(time_s)
        ahead, place = pose[:3, 0], pose[:3, 3]
        nose = place + ahead * HEADLIGHTS_AHEAD_M
        self.headlights = (float(nose[0]), float(nose[1]), float(ahead[0]), float(ahead[1]))
        time_s = map_time(time_s)
        if time_s == self._drawn_at_s:
            return
        self._drawn_at_s = time_s
        middle = LampMap.middle_near(world.ego_pose(time_s)[:3, 3])
        if self._map is None or self._map.middle != middle:
            self._map = LampMap(world.lamps, middle)
        light = self._map.with_beams(world.placed_agents(time_s), place)
        self.texture.write(light.astype(np.float16).tobytes())
