"""Fixed plans: what a person would set up who has no scheduler, from next to nothing to everything.

The best of them at each budget is chosen afterwards, on the questions that are scored.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..runtime.plans import Plan, SensorAction
from ..runtime.scheduler import PlanRequest

#: A modality of ground truth, which no robot has.
_TRUTH = "objects"


@dataclass(frozen=True)
class FixedPlan:
    """Every new frame of some sensors, at one depth, for all questions, in every step.

    Attributes:
        sensors: that are used.
        tail_blocks: depth.
        name: for tables.
    """

    sensors: frozenset[str]
    tail_blocks: int
    name: str

    def choose(self, request: PlanRequest) -> Plan:
        """The plan of a step, whatever it costs."""
        actions: dict[str, SensorAction] = {
            sensor: "run" if state.fresh_age_ms is not None else "reuse"
            for sensor, state in request.sensors.items()
            if sensor in self.sensors and state.usable
        }
        cost = request.cost(actions, self.tail_blocks, request.precision)
        return Plan(
            sensors=actions,
            tail_blocks=self.tail_blocks,
            precision=request.precision,
            flops=cost.flops,
            policy="fixed",
        )


def fixed_menu(modalities: Mapping[str, str], depths: Sequence[int]) -> list[FixedPlan]:
    """Fixed plans to compare with; the last one is everything at full depth.

    Of each modality none, one, two, three, half and all of its sensors, those that see apart first,
    together with those of the other modalities, at every depth. Nothing at all is left out: the
    language model alone was never taught to guess, and guesses from the words are counted apart.

    Args:
        modalities: by sensor, in the pack's order, in which neighbours look next to each other.
        depths: of the tail.
    """
    kinds: dict[str, list[str]] = {}
    for sensor, modality in modalities.items():
        if modality != _TRUTH:
            kinds.setdefault(modality, []).append(sensor)
    spread = {kind: _spread(sensors) for kind, sensors in kinds.items()}
    menu: list[FixedPlan] = []
    for numbers in itertools.product(*(_counts(len(sensors)) for sensors in spread.values())):
        if not any(numbers):
            continue
        chosen = [
            sensor
            for count, sensors in zip(numbers, spread.values(), strict=True)
            for sensor in sensors[:count]
        ]
        parts = [f"{n} {kind}" for n, kind in zip(numbers, spread, strict=True) if n]
        label = " + ".join(parts)
        for depth in sorted(depths):
            menu.append(FixedPlan(frozenset(chosen), depth, f"{label}, tail {depth}"))
    return menu


def _counts(sensors: int) -> list[int]:
    return sorted({*range(min(3, sensors) + 1), sensors // 2, sensors})


def _spread(sensors: Sequence[str]) -> list[str]:
    """Around a circle, each as far as can be from those before it; the first one stays."""
    size = len(sensors)
    chosen = [0]
    while len(chosen) < size:
        left = [place for place in range(size) if place not in chosen]
        chosen.append(
            max(left, key=lambda p: min(min((p - c) % size, (c - p) % size) for c in chosen))
        )
    return [sensors[place] for place in chosen]
