"""How long a decision takes: requests as a robot makes them, at random, to a policy alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..runtime.frame_cost import FrameCost
from ..runtime.model_config import Precision
from ..runtime.parts import RuntimeParts
from ..runtime.plan_costs import PlanCosts, PlanFormulas
from ..runtime.plans import Budget
from ..runtime.question_kinds import DIRECTIONS, KINDS
from ..runtime.scheduler import (
    PlanRequest,
    Policy,
    QuestionDemand,
    SensorState,
    UtilityModel,
)
from ..simulation.questions.conditions import CONDITIONS

#: Standing questions of a robot change seldom: so many sets of so many come again and again.
_SETS, _QUESTIONS = 8, 5
_GAP_MS = 250.0
_WARM_UP = 200
_PRECISIONS: tuple[Precision, ...] = ("int8", "int4")


def bench_decisions(
    policy: Policy,
    parts: RuntimeParts,
    utility: UtilityModel | None,
    *,
    depths: int = 4,
    decisions: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Time decisions of one policy over all sensors of a pack.

    Depths and precisions that the loaded engines lack take part too: what a decision takes is a
    matter of formulas alone.

    Args:
        policy: that decides.
        parts: of a runtime; all its sensors take part.
        utility: how often plans are right; None where the pack is not calibrated.
        depths: how many, up to that of the pack.
        decisions: all of them; the first ones are not counted.
        seed: of the requests.

    Returns:
        Microseconds: `p50`, `p99`, `max`, and `cpu_p50`, `cpu_p99` of the thread alone, which
        waits for no other process; and how many plans there were.
    """
    deepest = parts.connection.spec.tail_blocks
    used = tuple(range(max(1, deepest - depths + 1), deepest + 1))
    cost = parts.frame_cost()
    frames: dict[Precision, FrameCost] = {
        precision: replace(cost, model=replace(cost.model, precision=precision))
        for precision in _PRECISIONS
    }
    formulas = PlanFormulas(frames, parts.pack.sensor_encoders, parts.model.boundary)
    costs = PlanCosts(formulas)
    rng = np.random.default_rng(seed)
    standing = [_questions(rng) for _ in range(_SETS)]
    requests = [_request(rng, parts, utility, costs, used, standing) for _ in range(decisions)]
    highest = max(one.cost(_all_run(one), deepest, "int8").flops for one in requests[:20])
    timed = [
        replace(one, budget=Budget(flops=int(highest * rng.uniform(0.3, 1.1)))) for one in requests
    ]
    # Standing questions come again in each frame, so what is kept of them is kept before.
    for request in timed[:_WARM_UP]:
        policy.choose(request)
    took_us: list[float] = []
    cpu_us: list[float] = []
    for request in timed[_WARM_UP:]:
        begun_s, begun_cpu_s = time.perf_counter(), time.thread_time()
        policy.choose(request)
        cpu_us.append((time.thread_time() - begun_cpu_s) * 1e6)
        took_us.append((time.perf_counter() - begun_s) * 1e6)
    sensors = len(parts.pack.sensor_encoders)
    return {
        "sensors": sensors,
        "depths": list(used),
        "precisions": list(_PRECISIONS),
        "plans": 3**sensors * len(used) * len(_PRECISIONS),
        "decisions": len(took_us),
        "p50": float(np.percentile(took_us, 50)),
        "p99": float(np.percentile(took_us, 99)),
        "max": max(took_us),
        "cpu_p50": float(np.percentile(cpu_us, 50)),
        "cpu_p99": float(np.percentile(cpu_us, 99)),
    }


def _all_run(request: PlanRequest) -> dict[str, Any]:
    return dict.fromkeys(request.sensors, "run")


def _request(
    rng: np.random.Generator,
    parts: RuntimeParts,
    utility: UtilityModel | None,
    costs: PlanCosts,
    depths: Sequence[int],
    standing: Sequence[Sequence[QuestionDemand]],
) -> PlanRequest:
    sensors: dict[str, SensorState] = {}
    for sensor, name in parts.pack.sensor_encoders.items():
        spec = parts.pack.encoders[name]
        held_ms = float(rng.integers(5)) * _GAP_MS
        sensors[sensor] = SensorState(
            encoder=name,
            modality=spec.modality,
            tokens=spec.tokens,
            fresh_age_ms=float(rng.uniform(0, 50)),
            held_age_ms=held_ms if held_ms else None,
            connected=bool(held_ms) and bool(rng.integers(2)),
        )
    questions: list[QuestionDemand] = []
    for one in standing[int(rng.integers(len(standing)))]:
        held_ms = float(rng.integers(5)) * _GAP_MS
        held = {"held_age_ms": held_ms, "held_share": float(rng.uniform(0.4, 0.8))}
        questions.append(replace(one, **held) if held_ms else one)
    return PlanRequest(
        sensors=sensors,
        questions=questions,
        tail_blocks=depths[-1],
        precision="int8",
        depths=tuple(depths),
        precisions=_PRECISIONS,
        budget=Budget(),
        condition=str(rng.choice(CONDITIONS)),
        costs=costs,
        utility=utility,
    )


def _questions(rng: np.random.Generator) -> list[QuestionDemand]:
    found: list[QuestionDemand] = []
    for _ in range(_QUESTIONS):
        kind = str(rng.choice(KINDS))
        if rng.integers(2):
            kind += f"@{rng.choice(list(DIRECTIONS))}"
        found.append(QuestionDemand(kind=kind, length=int(rng.integers(14, 32))))
    return found
