"""Requests to policies without a runtime: sizes of the driving pack, times and ages as wanted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailwire.kernels.plan_choice import PlanShares, Tangents
from tailwire.runtime.connections import ConnectionSpec
from tailwire.runtime.cost import ConnectionCost, LanguageModelCost
from tailwire.runtime.frame_cost import EncoderCost, FrameCost
from tailwire.runtime.model_config import Precision
from tailwire.runtime.part_times import PartSnapshot
from tailwire.runtime.plan_costs import MemoryUse, PlanCosts, PlanFormulas
from tailwire.runtime.plan_space import PlanSpace
from tailwire.runtime.plans import Budget
from tailwire.runtime.scheduler import PlanRequest, QuestionDemand, SensorState, UtilityModel

from .llama_sizes import smollm2_sizes

CONFIG = smollm2_sizes()
CAMERAS = tuple(f"cam_{i}" for i in range(6))
#: Encoder by sensor: eight of them, of which six share an engine.
SENSORS: dict[str, str] = {
    **dict.fromkeys(CAMERAS, "camera"),
    "lidar": "lidar",
    "objects": "objects",
}
ENCODERS = {
    "camera": EncoderCost(1_620_000_000, 16, 64),
    "lidar": EncoderCost(1_720_000_000, 64, 64),
    "objects": EncoderCost(0, 80, 64),
}
DEPTHS = (3, 4, 5, 6)
PRECISIONS: tuple[Precision, ...] = ("int8", "int4")
MIB = 1024**2


def formulas(
    sensors: Mapping[str, str] = SENSORS,
    precisions: Sequence[Precision] = PRECISIONS,
    kind: str = "conditioned",
    lora_rank: int = 0,
) -> PlanFormulas:
    spec = ConnectionSpec.model_validate(
        {"kind": kind, "tail_blocks": max(DEPTHS), "lora_rank": lora_rank}
    )
    encoders = {sensor: ENCODERS[name] for sensor, name in sensors.items()}
    frames: dict[Precision, FrameCost] = {
        precision: FrameCost(
            LanguageModelCost(CONFIG, precision), ConnectionCost(spec, CONFIG), encoders
        )
        for precision in precisions
    }
    return PlanFormulas(frames, sensors, lambda depth: CONFIG.num_blocks - depth)


def times(slower: float = 1.0) -> dict[str, PartSnapshot]:
    """Of a small machine; sizes as in `plan_costs`."""

    def part(base_ms: float, per_size_ms: float | None, p90_factor: float) -> PartSnapshot:
        return PartSnapshot(
            base_ms * slower,
            (per_size_ms or 0) * slower,
            p90_factor,
            32,
            0,
            per_size_ms is not None,
        )

    found = {
        "prepare": part(0.5, 1.5, 1.2),
        "encode camera": part(3.0, 9.0, 1.1),
        "encode lidar": part(2.0, 14.0, 1.15),
        "encode objects": part(0.05, 0.01, 1.3),
        "load camera": part(80.0, None, 1.5),
        "load lidar": part(60.0, None, 1.5),
        "load objects": part(0.0, None, 1.0),
        "connect": part(1.0, 8.0, 1.1),
        "decode": part(1.0, 0.8, 1.2),
        "rest": part(0.7, None, 1.4),
    }
    for depth in DEPTHS:
        found[f"tail {depth} int8"] = part(1.0, 7.0, 1.05)
        found[f"tail {depth} int4"] = part(1.5, 5.5, 1.25)
    return found


def costs(**changes: Any) -> PlanCosts:
    """Everything measured; `changes` are of `PlanCosts`."""
    given: dict[str, Any] = {
        "formulas": formulas(),
        "times": times(),
        "memory": MemoryUse(
            700 * MIB, {"camera": 40 * MIB, "lidar": 30 * MIB, "objects": 0}, 60 * MIB
        ),
        "mj_per_ms": 12.0,
    }
    return PlanCosts(**{**given, **changes})


def sensor(name: str, encoder: str | None = None, **changes: Any) -> SensorState:
    """A sensor with a new frame and tokens of 500 ms ago."""
    encoder = encoder or SENSORS[name]
    given: dict[str, Any] = {
        "encoder": encoder,
        "modality": encoder,
        "tokens": ENCODERS[encoder].tokens,
        "fresh_age_ms": 20.0,
        "held_age_ms": 500.0,
        "connected": True,
    }
    return SensorState(**{**given, **changes})


def questions(count: int = 5, **changes: Any) -> list[QuestionDemand]:
    kinds = ("exist", "count", "object", "status", "comparison")
    return [QuestionDemand(kinds[i % len(kinds)], 22, **changes) for i in range(count)]


def request(
    budget: Budget | None = None,
    sensors: Mapping[str, SensorState] | None = None,
    utility: UtilityModel | None = None,
    **changes: Any,
) -> PlanRequest:
    """All sensors of `SENSORS` as `sensor` makes them, and five questions."""
    given: dict[str, Any] = {
        "sensors": {name: sensor(name) for name in SENSORS} if sensors is None else sensors,
        "questions": questions(),
        "tail_blocks": 6,
        "precision": "int8",
        "depths": DEPTHS,
        "precisions": PRECISIONS,
        "budget": budget or Budget(),
        "condition": "day",
        "costs": costs(),
        "utility": utility,
    }
    return PlanRequest(**{**given, **changes})


class IndependentSensors:
    """A calibration by formula: each sensor that is used makes up for a share of what is missing.

    The older its tokens the less; a deeper tail and more bits are a little better.
    """

    def __init__(self, gains: Mapping[str, float], *, blind: float = 0.4) -> None:
        self.gains = dict(gains)
        self.blind = blind

    def bind(self, space: PlanSpace, modalities: Mapping[str, str]) -> BoundIndependentSensors:
        assert set(modalities) == set(space.sensors)
        return BoundIndependentSensors(self, space)

    def one(
        self,
        ages_ms: Mapping[str, float],
        depth: int,
        precision: Precision,
        weights: Mapping[str, float],
    ) -> float:
        """Expected share of one plan, by the ages of the tokens that it uses."""
        missing = 1.0
        for name, age_ms in ages_ms.items():
            missing *= 1 - self.gains[name] * math.exp(-age_ms / 800)
        return _of_kinds(self.blind, weights) + self.span(depth, precision) * (1 - missing)

    def span(self, depth: int, precision: Precision) -> float:
        return 0.4 + 0.02 * depth - 0.03 * (precision == "int4")


def _of_kinds(blind: float, weights: Mapping[str, float]) -> float:
    easy = weights.get("exist", 0.0) / sum(weights.values())
    return blind + 0.05 * easy


class BoundIndependentSensors:
    """`IndependentSensors` for all plans of a space."""

    def __init__(self, model: IndependentSensors, space: PlanSpace) -> None:
        self._model = model
        self._space = space
        self._gains = np.array([[model.gains[s]] for s in space.sensors], dtype=np.float32)
        self._spans = np.array(
            [[model.span(*variant)] for variant in space.variants], dtype=np.float32
        )

    def shares(
        self, weights: Mapping[str, float], condition: str | None, ages_ms: NDArray[np.float32]
    ) -> PlanShares:
        left = np.ones((len(self._space.sensors), 3), dtype=np.float32)
        left[:, 1:] -= self._gains.reshape(-1, 1) * np.exp(-ages_ms / 800)
        blind = _of_kinds(self._model.blind, weights)
        return PlanShares(
            worth=self._spans,
            least=np.full(len(self._spans), blind, dtype=np.float32),
            tangents=Tangents(1 - self._space.products(left)[None]),
        )


#: Cameras from bad to good, a LiDAR, and objects that are better than all of them.
UTILITY = IndependentSensors(
    {**{name: 0.1 + 0.03 * i for i, name in enumerate(CAMERAS)}, "lidar": 0.6, "objects": 0.8}
)
