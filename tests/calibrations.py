"""Calibration tables with a known truth, for the sensors of the pack that ships."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tailwire.benchmarks.calibration_plans import plans_to_measure
from tailwire.runtime.calibration_table import CalibrationCell, MeasuredPlan
from tailwire.runtime.pack import read_manifest
from tailwire.runtime.question_kinds import KINDS, read_key
from tailwire.runtime.utility_features import SensorTraits

DRIVING = Path(__file__).parents[1] / "packs" / "driving"
CONDITIONS = ("day", "night")
DIRECTIONS = ("", "@front", "@back left")
TOPICS = tuple(kind + place for kind in KINDS[:-1] for place in DIRECTIONS)

_BLIND = {"exist": 0.52, "count": 0.25, "object": 0.33, "status": 0.4, "comparison": 0.55}
_BEST = {"exist": 0.9, "count": 0.7, "object": 0.8, "status": 0.8, "comparison": 0.9}
_WORTH = {"camera": 0.75, "lidar": 0.8, "objects": 0.97}
_LIFE_MS = {"camera": 1500.0, "lidar": 1000.0, "objects": 2000.0}


def driving_traits() -> SensorTraits:
    """Sensors of the shipped pack."""
    return SensorTraits.of(read_manifest(DRIVING))


def true_accuracy(plan: MeasuredPlan, key: str, condition: str, traits: SensorTraits) -> float:
    """Accuracy in a made-up world: each sensor may miss what is asked about (a noisy or)."""
    topic, missed = read_key(key), 1.0
    for sensor, age_ms in zip(plan.sensors, plan.ages_ms, strict=True):
        modality = traits.modalities[sensor]
        dark = 0.6 if condition == "night" and modality == "camera" else 1.0
        seen = _WORTH[modality] * dark * traits.coverage(sensor, topic)
        missed *= 1 - seen * math.exp(-age_ms / _LIFE_MS[modality])
    kind = topic.kind if topic.kind in _BLIND else "exist"
    shallow = 0.8 if plan.tail_blocks == 4 else 1.0
    return _BLIND[kind] + (_BEST[kind] - _BLIND[kind]) * (1 - missed) * shallow


def drawn_cells(
    questions: int,
    seed: int = 0,
    plans: Sequence[MeasuredPlan] | None = None,
    topics: Sequence[str] = TOPICS,
    conditions: Sequence[str] = CONDITIONS,
) -> list[CalibrationCell]:
    """Cells as a measurement would give them; `questions` in each on average."""
    rng, traits = np.random.default_rng(seed), driving_traits()
    measured = plans_to_measure(traits.modalities, depths=(4, 6))
    known = plans or [plan for plan in measured if not plan.held_ms]
    cells: list[CalibrationCell] = []
    for plan in known:
        for key in topics:
            for condition in conditions:
                asked = int(rng.poisson(questions))
                if asked:
                    share = true_accuracy(plan, key, condition, traits)
                    right = int(rng.binomial(asked, share))
                    cells.append(CalibrationCell(plan, key, condition, asked, right))
    return cells
