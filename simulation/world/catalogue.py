"""What kinds of annotated things there are: category, mesh, size and colour, drawn at random.

Sizes follow the means and spreads of the boxes of nuScenes; a box with a rider includes the rider.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Size = tuple[float, float, float]
Colour = tuple[float, float, float]
_Choice = TypeVar("_Choice")


@dataclass(frozen=True)
class Kind:
    """One drawn thing, without a place.

    Attributes:
        category: of nuScenes.
        model: of its mesh.
        size_wlh: metres, whole centimetres.
        paint: sRGB.
        variant: seed of details.
    """

    category: str
    model: str
    size_wlh: Size
    paint: Colour
    variant: int


# category, mean size, and relative spread of the three sides
_MODELS: dict[str, tuple[str, Size, float]] = {
    "car/sedan": ("vehicle.car", (1.87, 4.68, 1.5), 0.04),
    "car/hatchback": ("vehicle.car", (1.82, 4.1, 1.53), 0.04),
    "car/suv": ("vehicle.car", (1.98, 4.75, 1.76), 0.04),
    "car/van": ("vehicle.car", (2.03, 5.1, 2.05), 0.05),
    "car/pickup": ("vehicle.car", (2.02, 5.4, 1.88), 0.04),
    "truck/box": ("vehicle.truck", (2.5, 7.4, 3.2), 0.07),
    "truck/flatbed": ("vehicle.truck", (2.35, 6.6, 2.5), 0.07),
    "truck/dump": ("vehicle.truck", (2.55, 7.2, 3.0), 0.06),
    "truck/semi": ("vehicle.truck", (2.55, 6.3, 3.5), 0.04),
    "bus/city": ("vehicle.bus.rigid", (2.85, 11.6, 3.3), 0.05),
    "bus/bendy": ("vehicle.bus.bendy", (2.9, 9.4, 3.35), 0.03),
    "trailer/box": ("vehicle.trailer", (2.6, 11.8, 3.85), 0.05),
    "trailer/tank": ("vehicle.trailer", (2.5, 10.8, 3.5), 0.05),
    "construction/excavator": ("vehicle.construction", (2.75, 7.2, 3.2), 0.06),
    "construction/loader": ("vehicle.construction", (2.6, 6.6, 3.1), 0.06),
    "motorcycle/standard": ("vehicle.motorcycle", (0.78, 2.1, 1.22), 0.05),
    "bicycle/standard": ("vehicle.bicycle", (0.6, 1.72, 1.08), 0.05),
    "pedestrian/adult": ("human.pedestrian.adult", (0.67, 0.72, 1.74), 0.05),
    "pedestrian/child": ("human.pedestrian.child", (0.48, 0.5, 1.25), 0.09),
    "pedestrian/worker": ("human.pedestrian.construction_worker", (0.72, 0.76, 1.78), 0.04),
    "cone/standard": ("movable_object.trafficcone", (0.41, 0.41, 0.8), 0.12),
    "barrier/plastic": ("movable_object.barrier", (2.3, 0.52, 1.0), 0.07),
    "barrier/concrete": ("movable_object.barrier", (2.6, 0.6, 0.95), 0.04),
}
_RIDER_HEIGHT = {"motorcycle/standard": (1.5, 1.72), "bicycle/standard": (1.62, 1.84)}
_SHARES: dict[str, dict[str, float]] = {
    "car": {"car/sedan": 38, "car/hatchback": 22, "car/suv": 26, "car/van": 8, "car/pickup": 6},
    "truck": {"truck/box": 5, "truck/flatbed": 3, "truck/dump": 2},
    "trailer": {"trailer/box": 3, "trailer/tank": 1},
    "construction": {"construction/excavator": 1, "construction/loader": 1},
    "pedestrian": {"pedestrian/adult": 92, "pedestrian/child": 8},
    "barrier": {"barrier/plastic": 3, "barrier/concrete": 1},
}
_CAR_PAINTS: tuple[tuple[float, Colour], ...] = (
    (24, (0.9, 0.9, 0.89)), (19, (0.05, 0.05, 0.055)), (17, (0.36, 0.37, 0.39)),
    (14, (0.66, 0.68, 0.7)), (8, (0.12, 0.22, 0.45)), (7, (0.55, 0.07, 0.07)),
    (3, (0.3, 0.5, 0.68)), (3, (0.32, 0.27, 0.2)), (2, (0.1, 0.27, 0.16)),
    (1.5, (0.85, 0.62, 0.1)), (1.5, (0.75, 0.3, 0.08)),
)  # fmt: skip
_TRUCK_PAINTS: tuple[Colour, ...] = (
    (0.92, 0.92, 0.9), (0.85, 0.85, 0.83), (0.15, 0.3, 0.55), (0.6, 0.1, 0.08),
    (0.18, 0.4, 0.25), (0.75, 0.6, 0.15), (0.4, 0.42, 0.45),
)  # fmt: skip
_BUS_PAINTS: tuple[Colour, ...] = (
    (0.75, 0.12, 0.1), (0.1, 0.35, 0.65), (0.9, 0.88, 0.82), (0.12, 0.5, 0.35), (0.85, 0.6, 0.1),
)  # fmt: skip
# coats as they are worn: dark and dull most of all, a bright one now and then
_CLOTHES: tuple[tuple[float, Colour], ...] = (
    (17, (0.09, 0.09, 0.1)), (12, (0.13, 0.16, 0.25)), (11, (0.24, 0.25, 0.27)),
    (9, (0.43, 0.44, 0.46)), (8, (0.62, 0.55, 0.43)), (7, (0.27, 0.28, 0.2)),
    (8, (0.83, 0.82, 0.79)), (7, (0.3, 0.38, 0.5)), (4, (0.4, 0.13, 0.14)),
    (5, (0.34, 0.25, 0.19)), (3, (0.55, 0.63, 0.7)), (2.5, (0.68, 0.53, 0.53)),
    (2, (0.22, 0.36, 0.32)), (1.5, (0.68, 0.2, 0.17)), (1.5, (0.76, 0.6, 0.25)),
    (1.5, (0.2, 0.4, 0.66)),
)  # fmt: skip
_VARIANTS = {"pedestrian": 48, "bicycle": 24, "motorcycle": 24}


def draw_kind(what: str, rng: np.random.Generator, *, rider: bool = False) -> Kind:
    """Draw a thing.

    Args:
        what: a class (`car`, `truck`, `trailer`, `construction`, `pedestrian`, `barrier`) or a
            mesh model, e.g. `bus/city`.
        rng: its details come from here.
        rider: a motorcycle's or bicycle's box includes its rider.
    """
    model = what
    if what in _SHARES:
        model = _one_of(tuple((share, name) for name, share in _SHARES[what].items()), rng)
    category, mean, spread = _MODELS[model]
    # sides grow together: a long car is seldom a narrow one
    common, *own = (min(max(k, -1.5), 1.5) for k in rng.normal(0, 0.7, 4).tolist())
    width, length, height = (
        side * (1 + spread * (common + k)) for side, k in zip(mean, own, strict=True)
    )
    if model in ("pedestrian/adult", "pedestrian/worker"):
        height = min(max(float(rng.normal(1.73, 0.09)), 1.5), 1.98)
    if model == "cone/standard":
        height = float(rng.uniform(0.5, 1.1))
        width = length = 0.24 + 0.2 * height
    if rider:
        height = float(rng.uniform(*_RIDER_HEIGHT[model]))
    size = (round(width, 2), round(length, 2), round(height, 2))
    variants = _VARIANTS.get(model.split("/")[0], 12)
    return Kind(category, model, size, _paint(model, rng), int(rng.integers(0, variants)))


def _paint(model: str, rng: np.random.Generator) -> Colour:
    group = model.split("/")[0]
    if group in ("car", "motorcycle", "bicycle"):
        return _one_of(_CAR_PAINTS, rng)
    if group in ("truck", "trailer"):
        return _TRUCK_PAINTS[int(rng.integers(len(_TRUCK_PAINTS)))]
    if group == "bus":
        return _BUS_PAINTS[int(rng.integers(len(_BUS_PAINTS)))]
    if group == "pedestrian":
        shade = float(rng.uniform(0.8, 1.15))
        red, green, blue = (min(shade * part, 1.0) for part in _one_of(_CLOTHES, rng))
        return red, green, blue
    if group == "cone":
        return (0.95, 0.36, 0.05)
    return (0.93, 0.68, 0.08)


def _one_of(choices: Sequence[tuple[float, _Choice]], rng: np.random.Generator) -> _Choice:
    """One of several, each as often as its share says."""
    left = float(rng.random()) * sum(share for share, _ in choices)
    for share, choice in choices:
        left -= share
        if left < 0:
            return choice
    return choices[-1][1]
