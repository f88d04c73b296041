"""One vehicle on its way: what it is, where it is, what it intends; no rules of the road."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .catalogue import Kind
from .routes import Route

Float64 = NDArray[np.float64]


@dataclass(eq=False)
class Driver:
    """One vehicle, with a trailer or a second section perhaps, and its way.

    Attributes:
        kinds: of its bodies, front to back.
        route: its way.
        distance: of the middle of its first body along the way now, metres.
        speed: now, m/s.
        desired: what it would drive on a free straight road.
        enters_s: not there before.
        leaves_s: stands parked before; -inf where it does not.
        halts: distance along the way and seconds of each stop at a bus stop.
        parks: stays parked at the end of its way instead of going out of the world.
        name: prefix of its bodies' names.
    """

    kinds: tuple[Kind, ...]
    route: Route
    distance: float
    speed: float
    desired: float
    enters_s: float = -math.inf
    leaves_s: float = -math.inf
    halts: list[tuple[float, float]] = field(default_factory=list)
    parks: bool = False
    name: str = ""
    offsets: tuple[float, ...] = (0.0,)
    acceleration: float = 0.0
    active: bool = False
    gone: bool = False
    parked: bool = False
    stopped_for: int = -1
    granted: int = 0
    halted_s: float = 0.0
    limits: Float64 = field(default_factory=lambda: np.zeros(0))

    @property
    def length(self) -> float:
        """From the first bumper to the last."""
        return self.kinds[0].size_wlh[1] / 2 + self.tail

    @property
    def tail(self) -> float:
        """From the middle of the first body to the last bumper."""
        return self.kinds[-1].size_wlh[1] / 2 - self.offsets[-1]

    @property
    def nose(self) -> float:
        """Of its front bumper along the way."""
        return self.distance + self.kinds[0].size_wlh[1] / 2


# A semi-trailer lies on the frame of its tractor; the bellows of a bendy bus touch.
_GAPS_M = {"truck/semi": -2.3, "bus/bendy": 0.04}


def coupled(kinds: Sequence[Kind]) -> tuple[float, ...]:
    """Where the middles of coupled bodies are along a way, relative to the first."""
    offsets = [0.0]
    for before, behind in pairwise(kinds):
        half = (before.size_wlh[1] + behind.size_wlh[1]) / 2
        offsets.append(offsets[-1] - half - _GAPS_M.get(before.model, 0.6))
    return tuple(offsets)
