"""What the light and the air of a condition do in front of a camera, in units of its exposure.

Radiance 1 is what the camera's automatic exposure takes for white. Both renderers use these
numbers, so that a scene has one light whichever draws it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..world import Condition

Rgb = tuple[float, float, float]


def linear_from_srgb(colour: np.ndarray | Rgb) -> NDArray[np.float64]:
    """Light of an sRGB value, both 0 to 1 (IEC 61966-2-1)."""
    c = np.asarray(colour, np.float64)
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


@dataclass(frozen=True)
class Lighting:
    """Light of a condition; colours are linear RGB.

    Attributes:
        to_sun: unit vector, world frame.
        sun: what a white surface facing the sun sends out of it.
        sky: the same of the sky above, for a surface that faces up.
        bounce: the same of the ground, for a surface that faces down.
        zenith, horizon: of the sky as it is seen.
        air: light that the air scatters into the view.
        extinction: of the air, 1/m (Koschmieder: 5 % contrast is left at the visibility).
        gain: of the sensor, relative to a sunny day; noise grows with it.
        exposure_s: how long the shutter is open; sets the motion blur.
        night: lamps are the light.
    """

    to_sun: tuple[float, float, float]
    sun: Rgb
    sky: Rgb
    bounce: Rgb
    zenith: Rgb
    horizon: Rgb
    air: Rgb
    extinction: float
    gain: float
    exposure_s: float
    night: bool

    @property
    def contact_shade(self) -> float:
        """How dark it is under things, where the sky does not reach, 0 to 1."""
        return 0.4 if self.night else 0.62

    @classmethod
    def of(cls, condition: Condition) -> Lighting:
        """The light of a condition."""
        elevation = max(condition.sun_elevation_rad, math.radians(2))
        to_sun = (
            math.cos(elevation) * math.cos(condition.sun_azimuth_rad),
            math.cos(elevation) * math.sin(condition.sun_azimuth_rad),
            math.sin(elevation),
        )
        extinction = 3.0 / condition.visibility_m
        if condition.name == "night":
            return cls(
                to_sun,
                (0.0, 0.0, 0.0),
                (0.010, 0.011, 0.016),
                (0.008, 0.007, 0.006),
                (0.004, 0.005, 0.010),
                (0.030, 0.022, 0.016),
                (0.022, 0.017, 0.013),
                extinction,
                gain=24.0,
                exposure_s=0.018,
                night=True,
            )
        cloud = condition.cloud
        low = 1 - math.exp(-4 * elevation)  # the lower the sun, the redder and weaker
        direct = max(0.0, 1 - cloud) ** 0.7 if cloud < 0.95 else 0.0
        sun = np.array([1.0, 0.80 + 0.15 * low, 0.62 + 0.26 * low]) * 2.1 * low * direct
        clear = np.array([0.30, 0.42, 0.62])
        grey = np.array([0.93, 0.97, 1.0]) * 0.82
        sky = clear * (1 - cloud) + grey * cloud
        bounce = np.array([0.24, 0.22, 0.20]) * (0.45 + 0.75 * direct)
        zenith = np.array([0.16, 0.33, 0.68]) * (1 - cloud) + np.array([0.80, 0.85, 0.92]) * cloud
        horizon = np.array([0.80, 0.93, 1.1]) * (1 - cloud) + np.array([1.0, 1.02, 1.05]) * cloud
        air = horizon * 0.8
        gain, exposure_s = 1.0 + cloud, 0.004
        if condition.name == "rain":
            sky, zenith, horizon = sky * 0.72, zenith * 0.62, horizon * 0.72
            air, gain, exposure_s = np.array([0.58, 0.61, 0.65]), 4.0, 0.008
        elif condition.name == "fog":
            sky, air = sky * 0.85, np.array([0.74, 0.76, 0.78])
            zenith = horizon = air
            gain, exposure_s = 3.0, 0.006
        return cls(
            to_sun,
            _rgb(sun),
            _rgb(sky),
            _rgb(bounce),
            _rgb(zenith),
            _rgb(horizon),
            _rgb(air),
            extinction,
            gain,
            exposure_s,
            night=False,
        )


def _rgb(colour: NDArray[np.float64]) -> Rgb:
    red, green, blue = (float(value) for value in colour)
    return red, green, blue
