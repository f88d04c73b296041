"""What comes back to the LiDAR: how much light, whether it is enough, what number stands for it,
and what rain and fog throw back before the beam has met anything.

A simple radiometric model: received power is reflectance times a factor of incidence over the
squared range, weakened twice by the air (Beer-Lambert, extinction from visibility by Koschmieder's
law, sigma = 3 / V). The constants were set beside one real sweep of a 32-beam LiDAR, so that the
road is lost and intensities lie about where they do there. It is no model of a certain device.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..meshes import MATERIALS
from ..world import Condition
from .ray_world import GROUND, Hits
from .triangles import Float32

_REFLECTANCE = np.array([material.reflectance for material in MATERIALS], np.float32)
_GLOSS = np.array([material.gloss for material in MATERIALS], np.float32)
_IS_PAINT = np.array([material.paint for material in MATERIALS])
#: Leaves fill a part of the beam, glass sends a part of it on.
_OPACITY = np.array([material.opacity for material in MATERIALS], np.float32)
_IS_RETRO = np.array([material.retro for material in MATERIALS])

#: Power at which half of the returns are detected, in units of reflectance over square metres.
_THRESHOLD = 1.3e-5
_STEEPNESS = 3.0
_LOST_ANYWAY = 0.004
_RETRO_GAIN = 20.0
#: The reflectance 1 met at right angles gives this intensity; what is not a retroreflector stays
#: below `_DIFFUSE_MOST`, as on sensors that keep the upper half of the scale for those.
_INTENSITY_SCALE = 150.0
_DIFFUSE_MOST = 110.0
#: The beams of the sensor are focused far away: what is near looks darker to it.
_FOCUS_M = 9.0
_SPECKLE = 0.3
#: Nearer than this nothing is reported.
NEAREST_M = 1.0

_FOG_REACH_M = 15.0


class Returns(NamedTuple):
    """What came back of each beam.

    Attributes:
        detected: bool `[n]`.
        intensities: float32 `[n]`, whole numbers 0 to 255.
    """

    detected: NDArray[np.bool_]
    intensities: Float32


def extinction_per_m(condition: Condition) -> float:
    """Share of light that a metre of air takes away, 1 / m."""
    return 3.0 / condition.visibility_m


def returns(
    hits: Hits,
    directions: Float32,
    paints: Float32,
    condition: Condition,
    rng: np.random.Generator,
) -> Returns:
    """What comes back from surfaces.

    Args:
        hits: what the beams met.
        directions: `[n, 3]`, unit length, world frame.
        paints: `[t, 3]`, sRGB of things, see `RayWorld.paints`.
        condition: of air and road.
        rng: of speckle and drop-out.
    """
    count = len(directions)
    met = np.isfinite(hits.distances)
    distances = np.where(met, np.maximum(hits.distances, 0.1), 1e6).astype(np.float32)
    cosines = np.abs(np.einsum("ij,ij->i", hits.normals, directions))
    backscatter = _backscatter(hits, cosines, paints, condition)
    retro = _IS_RETRO[hits.materials] & (cosines > 0.2)
    backscatter[retro] = _REFLECTANCE[hits.materials[retro]] * _RETRO_GAIN
    backscatter *= np.exp(rng.normal(0, _SPECKLE, count)).astype(np.float32)
    backscatter *= np.exp(-2 * extinction_per_m(condition) * distances)

    power = backscatter / distances**2
    with np.errstate(divide="ignore", over="ignore"):
        chance = 1 / (1 + (_THRESHOLD / power) ** _STEEPNESS)
    chance *= 1 - _LOST_ANYWAY
    detected = met & (distances >= NEAREST_M) & (rng.random(count) < chance)

    focus = np.clip(distances / _FOCUS_M, 0.3, 1.0)
    most = np.where(retro, 255.0, _DIFFUSE_MOST)
    intensities = np.round(np.minimum(_INTENSITY_SCALE * backscatter * focus, most))
    return Returns(detected, intensities.astype(np.float32))


def _backscatter(hits: Hits, cosines: Float32, paints: Float32, condition: Condition) -> Float32:
    """Share of the light that a surface sends back to where it came from."""
    materials = hits.materials
    reflectance = _REFLECTANCE[materials] * _OPACITY[materials]
    # Dark paints swallow near infrared too, if less thoroughly than light.
    lightness = 0.35 + 1.3 * paints[hits.things].mean(axis=1)
    reflectance = np.where(_IS_PAINT[materials], reflectance * lightness, reflectance)
    gloss = _GLOSS[materials]
    on_ground = hits.things == GROUND
    wet = np.where(on_ground, np.float32(condition.wetness), np.float32(0))
    # Water darkens the road, and turns it into a mirror that sends beams away.
    reflectance = reflectance * (1 - 0.7 * wet)
    rough = 0.4 * (1 - np.maximum(gloss * 0.7, wet))
    diffuse = (1 - 0.5 * gloss) * (rough + (1 - rough) * cosines)
    mirror = 1.5 * gloss * cosines**30
    return (reflectance * (diffuse + mirror)).astype(np.float32)


def weather_returns(
    distances: Float32, condition: Condition, rng: np.random.Generator
) -> tuple[NDArray[np.intp], Float32, Float32]:
    """Beams that rain or fog throws back before they meet anything.

    Args:
        distances: `[n]` to what the beams meet, metres; infinite where nothing.
        condition: of the air.
        rng: draws which, where and how bright.

    Returns:
        Rows of the beams, ranges in metres and intensities.
    """
    count = len(distances)
    # Drops: a few per thousand beams in heavy rain; fog: from a twentieth to a fifth.
    rain_chance = 0.0012 * condition.rain_mm_h**0.8
    fog_chance = min(0.3, 9.0 / condition.visibility_m) if condition.name == "fog" else 0.0
    draws = rng.random(count)
    rows = np.flatnonzero(draws < rain_chance + fog_chance)
    of_fog = draws[rows] >= rain_chance
    ranges = np.where(
        of_fog,
        NEAREST_M + rng.gamma(2.0, 2.0, len(rows)),
        NEAREST_M + rng.exponential(4.0, len(rows)),
    )
    bright = np.where(of_fog, rng.exponential(3.0, len(rows)), rng.exponential(1.5, len(rows)))
    kept = (ranges < _FOG_REACH_M) & (ranges < distances[rows] - 0.5)
    return (
        rows[kept],
        ranges[kept].astype(np.float32),
        np.clip(np.round(bright[kept]), 0, 30).astype(np.float32),
    )
