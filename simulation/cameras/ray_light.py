"""Light of surface points in numpy, the twin of `shaders/scene.frag`: sun and sky by day, lamps
and headlights by night, then the air. Change one and the other has to follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..meshes import MATERIALS
from ..world import Placed, World
from .lamp_map import HEADLIGHT, HEADLIGHTS_AHEAD_M, MAP_EDGE_M, LampMap
from .lighting import Lighting, linear_from_srgb
from .ray_scene import RayScene, SurfaceHits
from .ray_textures import Floats, SurfacePictures, bilinear, single
from .sky import sky_radiance
from .surfaces import LAYERS, LEVEL_GROUND, layer_index

_BLOTCHES = LAYERS.index("blotches")


class MaterialTable:
    """`MATERIALS` in columns."""

    def __init__(self) -> None:
        """Gather them."""
        self.colours = np.array([linear_from_srgb(m.colour) for m in MATERIALS], np.float32)
        self.gloss = np.array([m.gloss for m in MATERIALS], np.float32)
        self.painted = np.array([m.paint for m in MATERIALS])
        self.retro = np.array([m.retro for m in MATERIALS])
        self.level = np.array([m.name in LEVEL_GROUND for m in MATERIALS])
        self.layers = np.array([layer_index(m.texture) for m in MATERIALS], np.int32)
        self.lights = np.array([m.light for m in MATERIALS])


@dataclass(frozen=True, eq=False)
class NightLight:
    """Lamps and headlights of a moment.

    Attributes:
        ground: float32 `[texels, texels, 3]`, light of lamps and of others' headlights.
        low: x y of the map's corner, metres.
        nose: x y of the ego's headlights, metres.
        ahead: x y, where they shine, unit length.
    """

    ground: Floats
    low: Floats
    nose: Floats
    ahead: Floats

    @classmethod
    def of(cls, world: World, time_s: float, agents: Sequence[Placed]) -> NightLight:
        """The lamps of a world and the lights of what drives there at a moment."""
        pose = world.ego_pose(time_s)
        place, ahead = pose[:3, 3], pose[:2, 0]
        lamps = LampMap(world.lamps, LampMap.middle_near(place))
        nose = place[:2] + ahead * HEADLIGHTS_AHEAD_M
        return cls(
            lamps.with_beams(agents, place),
            lamps.low.astype(np.float32),
            nose.astype(np.float32),
            ahead.astype(np.float32),
        )

    def on_ground(self, xy: Floats) -> Floats:
        """Light at places `[n, 2]`, metres; float32 `[n, 3]`."""
        u, v = ((xy - self.low) / np.float32(MAP_EDGE_M)).T
        return bilinear(self.ground, u, v, repeat=False)

    def beam(self, points: Floats) -> Floats:
        """How much of the ego's headlights reaches points `[n, 3]`; float32 `[n]`."""
        away = points[:, :2] - self.nose
        along = away @ self.ahead
        forward = np.maximum(along, np.float32(0.5))
        aside = np.abs(away[:, 0] * self.ahead[1] - away[:, 1] * self.ahead[0])
        wide = 1 - _smoothstep(0.10, 0.55, aside / (forward + 1.5))
        rise = (points[:, 2] - 0.65) / forward
        low = 1 - _smoothstep(-0.005, 0.03, rise)
        low = np.maximum(low, 0.06 * (1 - _smoothstep(0.0, 0.2, rise)))
        return np.where(along < 0.5, 0, HEADLIGHT * wide * low / (1 + forward**2 / 150))


@dataclass(frozen=True, eq=False)
class SurfaceLight:
    """The light of one picture.

    Attributes:
        lighting: of the condition.
        wetness: of level ground, 0 to 1.
        sky: picture of the sky, see `sky.sky_picture`.
        scene: for shadows.
        night: lamps and headlights; None by day.
        table: of materials.
        pictures: of surfaces.
    """

    lighting: Lighting
    wetness: float
    sky: Floats
    scene: RayScene
    night: NightLight | None
    table: MaterialTable
    pictures: SurfacePictures

    def radiance(
        self, points: Floats, sight: Floats, hits: SurfaceHits, pixel_rad: float
    ) -> tuple[Floats, Floats]:
        """Light that reaches the camera from surface points through the air.

        Args:
            points: `[n, 3]`, world frame, metres.
            sight: `[n, 3]`, from the camera to them, unit length.
            hits: what is there; each has met something.
            pixel_rad: angle that a pixel covers.

        Returns:
            float32 `[n, 3]`, linear RGB, and `[n]`, how much of what stands behind wet ground it
            mirrors.
        """
        lighting, table, rows = self.lighting, self.table, hits.materials
        cosine = np.einsum("ij,ij->i", hits.normals, sight)[:, None]
        n = np.where(cosine > 0, -hits.normals, hits.normals)
        cosine = np.abs(cosine[:, 0])
        footprint = hits.distances * pixel_rad / np.maximum(cosine, np.float32(0.02))
        base, texel, level = self._base(points, hits, footprint)
        wet = np.where(level, np.float32(self.wetness), 0)
        base *= (1 - 0.45 * wet)[:, None]

        light, lit = self._light(points, n, level)
        if self.night is not None:
            back = np.append(self.night.nose, np.float32(0.7)) - points
            back /= np.linalg.norm(back, axis=1, keepdims=True)
            beam = self.night.beam(points)
            facing = np.maximum(np.einsum("ij,ij->i", n, back), np.where(level, 0.16, 0))
            light += single([1.0, 0.95, 0.85]) * (beam * facing)[:, None]
            retro = np.where(table.retro[rows], beam, 0)
            light += single([14.0, 13.5, 12.5]) * retro[:, None]
        sent = base * light
        gloss = table.gloss[rows] * texel[:, 3]
        puddles = 0.35 + 0.65 * _smoothstep(0.42, 0.6, texel[:, 1])
        gloss = np.maximum(gloss, wet * 0.75 * puddles)
        shiny = np.flatnonzero(gloss > 0.04)
        seen, share = self._mirrored(
            points[shiny], sight[shiny], n[shiny], cosine[shiny], level[shiny], lit[shiny]
        )
        share = np.clip(share * gloss[shiny], 0, 1)[:, None]
        sent[shiny] += (seen - sent[shiny]) * share
        self._glow(sent, points, hits, cosine, texel)
        through = np.exp(-np.float32(lighting.extinction) * hits.distances)[:, None]
        flat_on = 1 - np.clip(-sight[:, 2], 0, 1)
        mirrors = wet * through[:, 0] * (0.10 + 0.75 * flat_on**4)
        mirrors = mirrors * (0.4 + 0.6 * _smoothstep(0.42, 0.6, texel[:, 1]))
        return sent * through + single(lighting.air) * (1 - through), mirrors

    def _base(
        self, points: Floats, hits: SurfaceHits, footprint: Floats
    ) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """Colours of the surfaces, their texels, and which are level ground."""
        table, rows = self.table, hits.materials
        layers = table.layers[rows]
        texel = np.tile(single([0.5, 0.5, 0.5, 1.0]), (len(rows), 1))
        drawn = np.flatnonzero(layers > 0)
        texel[drawn] = self.pictures.sample(layers[drawn], hits.uvs[drawn], footprint[drawn])
        base = np.where(table.painted[rows, None], hits.paints**2, table.colours[rows])
        base = base * (texel[:, :3] * 2)
        level = table.level[rows]
        ground = np.flatnonzero(level)
        blotches = np.full(len(ground), _BLOTCHES, np.int32)
        spots = self.pictures.sample(blotches, points[ground, :2], footprint[ground])
        base[ground] *= spots[:, :3] * 2
        return base, texel, level

    def _light(self, points: Floats, n: Floats, level: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """Light on the surfaces, and how much of the sun they see."""
        lighting = self.lighting
        bounce, sky = single(lighting.bounce), single(lighting.sky)
        light = bounce + (sky - bounce) * (n[:, 2:] * 0.5 + 0.5)
        # What stands on the ground keeps the sky from its foot.
        foot = 0.62 + 0.38 * np.clip(points[:, 2] * 0.7, 0, 1)
        light *= np.where(level, 1, foot)[:, None]
        lit = np.zeros(len(points), np.float32)
        if any(lighting.sun):
            to_sun = single(lighting.to_sun)
            facing = n @ to_sun
            turned = np.flatnonzero(facing > 0)
            outside = points[turned] + n[turned] * np.float32(0.08) + to_sun * np.float32(0.05)
            lit[turned] = ~self.scene.in_shadow(outside, to_sun)
            light += single(lighting.sun) * (np.maximum(facing, 0) * lit)[:, None]
        if self.night is not None:
            under = 1 - 0.8 * _smoothstep(4.5, 9.0, points[:, 2])
            share = under * (0.4 + 0.6 * np.maximum(n[:, 2], 0))
            light += self.night.on_ground(points[:, :2]) * share[:, None]
        return light.astype(np.float32), lit

    def _mirrored(
        self,
        points: Floats,
        sight: Floats,
        n: Floats,
        cosine: Floats,
        level: NDArray[np.bool_],
        lit: Floats,
    ) -> tuple[Floats, Floats]:
        """What glossy surfaces mirror, and Schlick's share of it."""
        lighting = self.lighting
        mirrored = sight + 2 * cosine[:, None] * n
        fresnel = 0.05 + 0.95 * (1 - cosine) ** 5
        seen = sky_radiance(single(self.sky), single(mirrored))
        # Below the horizon the ground is mirrored; walls opposite darken what is low.
        clear = _smoothstep(-0.05, 0.35, mirrored[:, 2])
        clear = np.where(level, 0.35 + 0.65 * clear, clear)[:, None]
        ground = single(lighting.bounce) * np.float32(0.3)
        seen = ground + (seen - ground) * clear
        glint = mirrored @ single(lighting.to_sun)
        spark = np.where(glint > 0.95, lit * 9 * np.maximum(glint, 0) ** 180, 0)
        seen += single(lighting.sun) * spark[:, None].astype(np.float32)
        if self.night is not None:
            lamps = self.night.on_ground(points[:, :2] + mirrored[:, :2] * 6)
            seen += lamps * np.where(level, np.float32(0.35), 0)[:, None]
        return seen.astype(np.float32), fresnel

    def _glow(
        self, sent: Floats, points: Floats, hits: SurfaceHits, cosine: Floats, texel: Floats
    ) -> None:
        """Add what shines by itself."""
        kinds = self.table.lights[hits.materials]
        night = self.night is not None
        on, braking = (hits.lights & 1) > 0, (hits.lights & 2) > 0
        rows = np.flatnonzero((kinds == "headlight") & on)
        strength = (9.0 if night else 1.6) * (0.35 + 0.65 * cosine[rows])
        sent[rows] += single([1.0, 0.96, 0.88]) * strength[:, None]
        rear = kinds == "taillight"
        sent[rear & braking] += single([2.2, 0.06, 0.03])
        dim = single([0.75, 0.02, 0.012]) * np.float32(1.0 if night else 0.6)
        sent[rear & on & ~braking] += dim
        if not night:
            return
        sent[kinds == "lamp"] += single([7.0, 5.4, 3.4])
        rows = np.flatnonzero(kinds == "window")
        pane = np.floor(hits.uvs[rows] / np.float32(1.5)) + np.floor(points[rows, :2] / 9)
        chance = _hash(pane)
        warm, cold = single([0.5, 0.36, 0.16]), single([0.42, 0.43, 0.4])
        colour = np.where(chance[:, None] >= 0.9, cold, warm)
        strength = np.where(chance > 0.74, (0.35 + chance * 0.6) * texel[rows, 3], 0)
        sent[rows] += colour * strength[:, None].astype(np.float32)


def _smoothstep(low: float, high: float, x: Floats) -> Floats:
    t = np.clip((x - np.float32(low)) / np.float32(high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _hash(p: Floats) -> Floats:
    # In single precision as a shader has it, or other windows would be lit.
    value = p[:, 0] * np.float32(12.9898) + p[:, 1] * np.float32(78.233)
    value = np.sin(value) * np.float32(43758.5453)
    return value - np.floor(value)
