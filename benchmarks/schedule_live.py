"""A real runtime with its scheduler, live: deadlines on a disturbed machine, budgets that step.

Frames of a drive come one behind the other as fast as they are answered, with stamps that go on at
the drive's rate. What is measured is time and what was done, not whether answers are right.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..runtime.errors import BudgetError
from ..runtime.frames import SensorFrame
from ..runtime.plans import Answer, Budget
from ..runtime.runtime import Runtime
from .disturbance import Disturbance, overlaps

#: A deadline is so many times the median without any disturbance.
DEADLINE = 1.5
_WARM_UP = 10
#: Shares of what everything costs that the budget steps through; None is no limit.
_STEPS = (None, 0.6, 0.35, 0.25, 0.45, 0.8, None)
#: Share of it while sensors die, so that there is something to choose.
_DYING = 0.6


@dataclass(frozen=True)
class LiveFrame:
    """One frame.

    Attributes:
        begun: by `time.monotonic()`.
        done: when its answers were there.
        answers: to all standing questions; none where no plan fitted.
    """

    begun: float
    done: float
    answers: Sequence[Answer]

    @property
    def ms(self) -> float:
        return (self.done - self.begun) * 1e3

    @property
    def is_cut(self) -> bool:
        return any(answer.cut is not None for answer in self.answers)

    @property
    def is_marked(self) -> bool:
        """Whether it says that something was not done anew, or late."""
        return self.is_cut or any(
            answer.held or answer.late_ms is not None for answer in self.answers
        )

    @property
    def plan_flops(self) -> int:
        """That were planned: a budget holds for these."""
        return self.answers[0].plan.flops if self.answers else 0


class LiveBench:
    """Steps one runtime with standing questions."""

    def __init__(
        self,
        runtime: Runtime,
        ticks: Sequence[Sequence[SensorFrame]],
        *,
        questions: int,
        rate_hz: float,
        seed: int = 0,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Nothing is stepped yet.

        Args:
            runtime: with standing questions, and the policy that is measured.
            ticks: frames of each tick; they repeat, with stamps that go on.
            questions: that stand.
            rate_hz: ticks a second, of sensor time.
            seed: of the disturbance.
            progress: told what is going on.
        """
        self._runtime, self._ticks, self._questions = runtime, ticks, questions
        self._gap_ns = round(1e9 / rate_hz)
        self._seed, self._progress = seed, progress
        self._number = 0

    def disturbed(self, frames: int, alone: int, minutes: float | None = None) -> dict[str, Any]:
        """Hold a deadline while another process takes a core on and off.

        Args:
            frames: under the disturbance.
            alone: without it and without a deadline, from which the deadline comes.
            minutes: after which no frame under the disturbance is begun; None takes all.
        """
        self._runtime.budget = Budget()
        self._many(_WARM_UP)
        self._progress(f"{alone} frames without a deadline")
        calm = self._many(alone)
        median_ms = float(np.median([one.ms for one in calm]))
        deadline_ms = DEADLINE * median_ms
        self._runtime.budget = Budget(latency_ms=deadline_ms)
        self._progress(f"{frames} frames with a deadline of {deadline_ms:.1f} ms, disturbed")
        with Disturbance(self._seed) as other:
            end = None if minutes is None else time.monotonic() + 60 * minutes
            found = self._many(frames, end=end)
            spans, core = other.spans, other.core
        self._runtime.budget = Budget()
        busy = [overlaps(spans, one.begun, one.done) for one in found]
        late = [one.ms > deadline_ms for one in found]
        return {
            "frames": len(found),
            "frames_wanted": frames,
            "median_alone_ms": median_ms,
            "p99_alone_ms": float(np.percentile([one.ms for one in calm], 99)),
            "alone_over_deadline": float(np.mean([one.ms > deadline_ms for one in calm])),
            "deadline_ms": deadline_ms,
            "deadline_miss_rate": float(np.mean(late)),
            "miss_rate_while_disturbed": _share(late, busy),
            "miss_rate_while_calm": _share(late, [not one for one in busy]),
            "disturbed_share": float(np.mean(busy)),
            "core": core,
            "p50_ms": float(np.percentile([one.ms for one in found], 50)),
            "p99_ms": float(np.percentile([one.ms for one in found], 99)),
            "max_ms": max(one.ms for one in found),
            "answers_missing": sum(self._questions - len(one.answers) for one in found),
            "frames_cut": sum(one.is_cut for one in found),
            "frames_marked": sum(one.is_marked for one in found),
            "late_and_not_marked": sum(
                is_late and not one.is_marked for is_late, one in zip(late, found, strict=True)
            ),
            "mean_gflop": float(np.mean([one.plan_flops / 1e9 for one in found])),
            "timeline": {
                "ms": [round(one.ms, 2) for one in found],
                "busy": busy,
                "cut": [one.is_cut for one in found],
            },
        }

    def budget_steps(self, each: int) -> dict[str, Any]:
        """Let the FLOPs that a frame may take step down and up.

        Args:
            each: frames of a step.
        """
        self._progress("the budget steps down and up")
        self._runtime.budget = Budget()
        full = max(one.plan_flops for one in self._many(_WARM_UP))
        found: list[LiveFrame] = []
        budgets: list[int | None] = []
        for share in _STEPS:
            limit = None if share is None else int(share * full)
            self._runtime.budget = Budget(flops=limit)
            found += self._many(each)
            budgets += [limit] * each
        self._runtime.budget = Budget()
        over = [
            limit is not None and one.plan_flops > limit
            for one, limit in zip(found, budgets, strict=True)
        ]
        return {
            "frames": len(found),
            "frames_over_budget": sum(over),
            "frames_refused": sum(not one.answers for one in found),
            "answers_missing": sum(self._questions - len(one.answers) for one in found),
            "timeline": {
                "gflop": [one.plan_flops / 1e9 for one in found],
                "budget_gflop": [None if limit is None else limit / 1e9 for limit in budgets],
                "ms": [round(one.ms, 2) for one in found],
                "expected": [
                    one.answers[0].plan.expected if one.answers else None for one in found
                ],
            },
        }

    def sensors_dying(
        self, each: int, sensors: Sequence[str], share: float = _DYING
    ) -> dict[str, Any]:
        """Let one sensor after the other stop sending, all at once, and come back.

        Args:
            each: frames of a phase.
            sensors: all of them.
            share: of what frames take without a limit, that they may take.
        """
        self._progress("sensors stop sending and come back")
        self._runtime.budget = Budget()
        full = max(one.plan_flops for one in self._many(_WARM_UP))
        first, last = sensors[0], sensors[-1]
        phases: list[Collection[str]] = [(), (last,), (first, last), tuple(sensors), (first,), ()]
        self._runtime.budget = Budget(flops=int(share * full))
        found: list[LiveFrame] = []
        dead: list[list[str]] = []
        for phase in phases:
            found += self._many(each, without=phase)
            dead += [sorted(phase)] * each
        self._runtime.budget = Budget()
        uses = [
            {
                sensor: "reuse" if use.reused else "run"
                for sensor, use in (one.answers[0].sensors if one.answers else {}).items()
            }
            for one in found
        ]
        return {
            "frames": len(found),
            "sensors": list(sensors),
            "answers_missing": sum(self._questions - len(one.answers) for one in found),
            "frames_of_the_dead": sum(
                used.get(sensor) == "run"
                for used, gone in zip(uses, dead, strict=True)
                for sensor in gone
            ),
            "timeline": {"uses": uses, "dead": dead, "ms": [round(one.ms, 2) for one in found]},
        }

    def _many(
        self, count: int, without: Collection[str] = (), end: float | None = None
    ) -> list[LiveFrame]:
        found = [self._one(without)]
        while len(found) < count and (end is None or time.monotonic() < end):
            found.append(self._one(without))
        return found

    def _one(self, without: Collection[str]) -> LiveFrame:
        frames = self._stamped(without)
        begun = time.monotonic()
        try:
            answers = self._runtime.step(frames)
        except BudgetError:
            answers = []
        return LiveFrame(begun, time.monotonic(), answers)

    def _stamped(self, without: Collection[str]) -> list[SensorFrame]:
        """The frames of the next tick, copied so that each is encoded anew."""
        frames = self._ticks[self._number % len(self._ticks)]
        newest = max(frame.stamp_ns for frame in frames)
        base = 10**18 + self._number * self._gap_ns
        self._number += 1
        return [
            replace(one, stamp_ns=base + one.stamp_ns - newest)
            for one in frames
            if one.sensor not in without
        ]


def _share(hits: Sequence[bool], among: Sequence[bool]) -> float | None:
    chosen = [hit for hit, inside in zip(hits, among, strict=True) if inside]
    return float(np.mean(chosen)) if chosen else None
