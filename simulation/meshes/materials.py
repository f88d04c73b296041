"""What surfaces are made of, as a camera and as a LiDAR see it.

One table for both, so that a thing cannot look like metal and reflect like cloth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Light = Literal["", "headlight", "taillight", "window", "lamp"]


@dataclass(frozen=True)
class Material:
    """One surface.

    Attributes:
        name: unique.
        colour: sRGB, 0 to 1; of the whole surface, or the mean of its texture.
        texture: name of the pattern that the camera draws, over uvs in metres.
        gloss: 0 matt to 1 mirror.
        paint: the colour is that of the placed thing instead.
        light: glows at night: `headlight` and `taillight` while the thing has its lights on,
            `window` here and there, `lamp` always.
        reflectance: of the LiDAR's 905 nm light at right angles, 0 to 1.
        retro: sends light back to its source (number plates, signs, safety vests): bright for
            the LiDAR from any angle, and for a camera in headlights.
        opacity: below 1 LiDAR beams pass with that share missing it (glass, foliage).
    """

    name: str
    colour: tuple[float, float, float]
    texture: str = "plain"
    gloss: float = 0.0
    paint: bool = False
    light: Light = ""
    reflectance: float = 0.2
    retro: bool = False
    opacity: float = 1.0


MATERIALS: tuple[Material, ...] = (
    Material("asphalt", (0.38, 0.38, 0.38), "asphalt", 0.05, reflectance=0.1),
    Material("road_paint", (0.82, 0.82, 0.8), "worn", 0.1, reflectance=0.5),
    Material("road_paint_yellow", (0.83, 0.65, 0.16), "worn", 0.1, reflectance=0.45),
    Material("paving", (0.55, 0.53, 0.5), "paving", 0.03, reflectance=0.25),
    Material("kerb", (0.62, 0.61, 0.58), "concrete", 0.03, reflectance=0.3),
    Material("concrete", (0.6, 0.59, 0.57), "concrete", 0.03, reflectance=0.3),
    Material("grass", (0.36, 0.39, 0.24), "grass", reflectance=0.35),
    Material("soil", (0.36, 0.28, 0.2), "soil", reflectance=0.25),
    Material("brick", (0.52, 0.3, 0.23), "brick", reflectance=0.3),
    Material("plaster", (0.8, 0.77, 0.7), "plaster", paint=True, reflectance=0.4),
    Material("window", (0.2, 0.25, 0.3), "window", 0.8, light="window", reflectance=0.08),
    Material("roof_tile", (0.45, 0.25, 0.19), "tiles", reflectance=0.25),
    Material("bark", (0.31, 0.24, 0.18), "bark", reflectance=0.3),
    Material("foliage", (0.33, 0.37, 0.21), "foliage", paint=True, reflectance=0.5, opacity=0.6),
    Material("car_paint", (0.7, 0.7, 0.7), "plain", 0.7, paint=True, reflectance=0.3),
    Material("car_glass", (0.08, 0.1, 0.12), "plain", 0.9, reflectance=0.05, opacity=0.5),
    Material("tyre", (0.06, 0.06, 0.065), "plain", 0.1, reflectance=0.05),
    Material("rim", (0.6, 0.61, 0.62), "plain", 0.6, reflectance=0.3),
    Material("dark_trim", (0.09, 0.09, 0.1), "plain", 0.2, reflectance=0.1),
    Material("chrome", (0.72, 0.73, 0.75), "plain", 0.9, reflectance=0.4),
    Material("headlight", (0.92, 0.93, 0.9), "plain", 0.8, light="headlight", reflectance=0.4),
    Material("taillight", (0.6, 0.05, 0.05), "plain", 0.6, light="taillight",
             reflectance=0.6, retro=True),
    Material("number_plate", (0.9, 0.9, 0.85), "plain", 0.2, reflectance=0.9, retro=True),
    Material("metal", (0.5, 0.51, 0.53), "metal", 0.5, reflectance=0.35),
    Material("metal_painted", (0.5, 0.5, 0.5), "metal", 0.4, paint=True, reflectance=0.35),
    Material("machine_yellow", (0.93, 0.68, 0.08), "metal", 0.3, reflectance=0.4),
    Material("safety_orange", (0.95, 0.36, 0.05), "plain", 0.2, reflectance=0.5),
    Material("retro_white", (0.92, 0.92, 0.92), "plain", 0.2, reflectance=0.95, retro=True),
    Material("sign_face", (0.85, 0.1, 0.1), "plain", 0.3, reflectance=0.9, retro=True),
    Material("skin", (0.72, 0.53, 0.42), "plain", 0.1, reflectance=0.45),
    Material("skin_2", (0.85, 0.68, 0.57), "plain", 0.1, reflectance=0.5),
    Material("skin_3", (0.62, 0.44, 0.32), "plain", 0.1, reflectance=0.42),
    Material("skin_4", (0.49, 0.33, 0.23), "plain", 0.1, reflectance=0.38),
    Material("skin_5", (0.35, 0.23, 0.16), "plain", 0.1, reflectance=0.34),
    Material("skin_6", (0.78, 0.62, 0.47), "plain", 0.1, reflectance=0.47),
    Material("hair", (0.13, 0.09, 0.07), "plain", 0.2, reflectance=0.15),
    Material("hair_2", (0.36, 0.25, 0.15), "plain", 0.2, reflectance=0.2),
    Material("hair_3", (0.55, 0.53, 0.5), "plain", 0.2, reflectance=0.3),
    Material("coat", (0.4, 0.4, 0.45), "cloth", paint=True, reflectance=0.4),
    Material("trousers", (0.16, 0.18, 0.26), "cloth", reflectance=0.3),
    Material("trousers_2", (0.25, 0.32, 0.43), "cloth", reflectance=0.32),
    Material("trousers_3", (0.09, 0.09, 0.1), "cloth", reflectance=0.25),
    Material("trousers_4", (0.56, 0.49, 0.38), "cloth", reflectance=0.4),
    Material("trousers_5", (0.37, 0.38, 0.4), "cloth", reflectance=0.33),
    Material("trousers_6", (0.3, 0.3, 0.21), "cloth", reflectance=0.3),
    Material("shoe", (0.1, 0.08, 0.07), "plain", 0.2, reflectance=0.1),
    Material("safety_vest", (0.85, 0.95, 0.1), "plain", 0.1, reflectance=0.8, retro=True),
    Material("barrier_red", (0.8, 0.12, 0.1), "plain", 0.2, reflectance=0.5),
    Material("barrier_white", (0.9, 0.9, 0.88), "plain", 0.2, reflectance=0.6),
    Material("lamp", (0.98, 0.93, 0.8), "plain", 0.3, light="lamp", reflectance=0.3),
    Material("signal_red", (0.95, 0.12, 0.08), "plain", 0.3, light="lamp", reflectance=0.3),
    Material("signal_amber", (0.98, 0.65, 0.08), "plain", 0.3, light="lamp", reflectance=0.3),
    Material("signal_green", (0.1, 0.85, 0.5), "plain", 0.3, light="lamp", reflectance=0.3),
)  # fmt: skip

_INDEX = {material.name: index for index, material in enumerate(MATERIALS)}


def material_index(name: str) -> int:
    """Row of a material in `MATERIALS`; KeyError for a name that is not there."""
    return _INDEX[name]
