"""Light and weather of a scene, as physical quantities that cameras and LiDAR share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

ConditionName = Literal["day", "night", "rain", "fog"]
CONDITIONS: tuple[ConditionName, ...] = get_args(ConditionName)


@dataclass(frozen=True)
class Condition:
    """Light and weather, the same over a scene.

    Attributes:
        name: the kind.
        sun_azimuth_rad: towards the sun, counter-clockwise from the world's x.
        sun_elevation_rad: of the sun; negative at night, when lamps are the light.
        cloud: 0 clear to 1 overcast (no shadows).
        rain_mm_h: rain rate.
        visibility_m: meteorological optical range (contrast down to 5 %).
        wetness: 0 dry road to 1 a mirror of puddles.
    """

    name: ConditionName
    sun_azimuth_rad: float
    sun_elevation_rad: float
    cloud: float
    rain_mm_h: float = 0.0
    visibility_m: float = 20_000.0
    wetness: float = 0.0

    @property
    def lights_on(self) -> bool:
        """Vehicles drive with their lights on."""
        return self.name != "day"

    @classmethod
    def drawn(cls, name: ConditionName, rng: np.random.Generator) -> Condition:
        """A condition of this kind with its details drawn at random."""
        azimuth = float(rng.uniform(-math.pi, math.pi))
        elevation = math.radians(float(rng.uniform(22, 62)))
        if name == "day":
            cloud = float(rng.choice([0.1, 0.3, 0.6, 0.9]))
            return cls(name, azimuth, elevation, cloud, visibility_m=float(rng.uniform(8e3, 3e4)))
        if name == "night":
            wetness = float(rng.choice([0.0, 0.0, 0.5]))
            return cls(name, azimuth, math.radians(-18), 0.4, wetness=wetness)
        if name == "rain":
            rate = float(rng.uniform(4, 25))
            return cls(name, azimuth, elevation, 1.0, rate, 6_000.0 / (1 + rate / 5), 0.8)
        return cls(name, azimuth, elevation, 1.0, 0.0, float(rng.uniform(45, 160)), 0.3)
