"""Policies beside fixed plans on drives with known answers, over a sweep of FLOPs per frame.

Puts world, simulation and figures together; drives go one by one, so that heads of questions are
in memory for one drive at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..runtime.errors import ConfigError
from ..runtime.plans import Budget, Plan, SensorAction
from ..runtime.scheduler import PlanRequest, Policy
from .schedule_drives import ScheduleDrive
from .schedule_figures import (
    Entry,
    Scenes,
    best_fixed,
    curve_point,
    flops_ratio,
    front,
    gains,
    guess_rows,
    means,
    oracle_right,
)
from .schedule_menu import FixedPlan, fixed_menu
from .schedule_planning import Planning
from .schedule_simulation import Choose, Play, ScoredAnswer, Simulation
from .schedule_world import ScheduleWorld

MAIN = "optimal"
"""The policy that gains are about."""

HALF_RATE = "everything at half the rate"
QUESTION_ONLY = "question only, no model"
_SLACK = 0.01
#: Share of the cheapest fixed plan at which a sweep begins.
_LOWEST = 0.6


@dataclass(frozen=True)
class _Task:
    """One play of all drives."""

    policy: str
    budget: int | None
    make: Callable[[], Choose]
    is_fixed: bool = False


class ScheduleBench:
    """One run; drives that are done stay done in `entries`."""

    def __init__(
        self,
        world: ScheduleWorld,
        planning: Planning,
        drives: Sequence[ScheduleDrive],
        policies: Mapping[str, Callable[[], Policy]],
        *,
        max_age_ms: float,
        budgets: Sequence[int] | None = None,
        points: int = 10,
    ) -> None:
        """Nothing is played yet.

        Args:
            world: answers what is scored.
            planning: of the same pack and language model.
            drives: that are played.
            policies: makes of each policy a new one for every drive.
            max_age_ms: older tokens and answers are not used.
            budgets: FLOPs of a step, ascending; None for even steps of their logarithm, from a
                part of what the cheapest fixed plan takes to what everything takes.
            points: how many of these.

        Raises:
            ConfigError: `optimal` is not among the policies, or there is no budget.
        """
        if MAIN not in policies:
            raise ConfigError(
                f"there is no policy '{MAIN}'", field="--policies", remedy="name it too"
            )
        self._world, self._planning, self._drives = world, planning, drives
        self._max_age_ms = max_age_ms
        self._menu = fixed_menu(planning.modalities, planning.depths)
        self.budgets = list(budgets or self._sweep(points))
        if not self.budgets:
            raise ConfigError("there is no budget", field="--budgets", remedy="give some")
        everything = self._menu[-1]
        tasks = [_Task(plan.name, None, _always(plan), is_fixed=True) for plan in self._menu]
        tasks += [
            _Task(f"{HALF_RATE}, {phase}", None, _half_rate(everything, phase)) for phase in (0, 1)
        ]
        for name, make in policies.items():
            tasks += [
                _Task(name, budget, lambda make=make: make().choose) for budget in self.budgets
            ]
        self._tasks = tasks
        self._policies = tuple(policies)
        self.entries = [Entry(t.policy, t.budget, Play(), t.is_fixed) for t in tasks]

    def run(self, progress: Callable[[str], None]) -> None:
        """Play everything."""
        begun = time.monotonic()
        total = len(self._drives) * len(self._tasks)
        for number, drive in enumerate(self._drives):
            self._world.contexts(drive, progress)
            for place, (task, entry) in enumerate(zip(self._tasks, self.entries, strict=True)):
                done = number * len(self._tasks) + place
                left_s = (time.monotonic() - begun) / max(done, 1) * (total - done)
                progress(
                    f"{drive.name} ({number + 1} of {len(self._drives)}): {task.policy}"
                    + ("" if task.budget is None else f" at {task.budget / 1e9:.1f} GFLOP")
                    + f"; {self._world.encoded} frames, {self._world.answered} answers made, "
                    + f"{left_s / 60:.0f} min left"
                )
                budget = Budget(flops=task.budget)
                Simulation(
                    self._world,
                    self._planning,
                    drive,
                    task.make(),
                    budget,
                    entry.play,
                    max_age_ms=self._max_age_ms,
                    is_steered=task.budget is not None,
                ).run()
            self._world.forget_heads()

    def figures(self) -> dict[str, Any]:
        """All figures of what was played; see docs/scheduler.md for what each key means."""
        of = {(entry.policy, entry.budget): entry for entry in self.entries}
        first = self.entries[0].play
        scenes = Scenes([one.drive for one in first.scored])
        fixed = [entry for entry in self.entries if entry.is_fixed]
        guesses = guess_rows(first)
        blind = _question_only(first, guesses["blind_baseline"])
        known = [*fixed, blind] if blind is not None else fixed
        everything = fixed[-1]
        curves = {name: [of[name, budget] for budget in self.budgets] for name in self._policies}
        compared = {name: gains(curve, known, scenes) for name, curve in curves.items()}
        main = compared[MAIN]
        mean_gain = means(main, "at_equal_budget")
        equal = flops_ratio(curves[MAIN], everything, scenes)
        halves = [of[f"{HALF_RATE}, {phase}", None] for phase in (0, 1)]
        oracle = self._oracle(fixed, curves, scenes)
        return {
            "questions": len(first.scored),
            "keyframes": sum(len(drive.windows) for drive in self._drives),
            "steps": len(first.flops),
            "scenes": len(self._drives),
            "gain_points_at_equal_flops": None if mean_gain is None else mean_gain["mean"],
            "gain_points": {
                name: {kind: means(rows, kind) for kind in ("at_equal_budget", "at_equal_spending")}
                for name, rows in compared.items()
            },
            "flops_ratio_at_equal_accuracy": None if equal is None else equal["ratio"],
            "equal_accuracy": {
                name: {
                    "as_high": flops_ratio(curve, everything, scenes),
                    "one_point_less": flops_ratio(curve, everything, scenes, slack=_SLACK),
                }
                for name, curve in (*curves.items(), ("fixed", front(fixed)))
            },
            "everything": curve_point(everything, scenes),
            "everything_at_half_the_rate": {
                "mean_gflop": float(np.mean([one.mean_flops for one in halves])) / 1e9,
                "accuracy": float(np.mean([one.accuracy for one in halves])),
            },
            "gap_to_oracle_points": _gap(oracle, curves[MAIN]),
            "oracle": oracle,
            "gains": compared,
            "curves": {
                name: [curve_point(entry, scenes) for entry in curve]
                for name, curve in curves.items()
            },
            "best_fixed": [curve_point(entry, scenes) for entry in front(fixed)],
            "fixed": [
                {
                    "plan": entry.policy,
                    "mean_gflop": entry.mean_flops / 1e9,
                    "accuracy": entry.accuracy,
                }
                for entry in fixed
            ],
            **guesses,
        }

    def _oracle(
        self, fixed: Sequence[Entry], curves: Mapping[str, Sequence[Entry]], scenes: Scenes
    ) -> list[dict[str, Any]]:
        steps = [moment for drive in self._drives for moment in drive.moments]
        scored = [number for number, moment in enumerate(steps) if moment.is_scored]
        per_window = len(self._drives[0].windows[0])
        rows: list[dict[str, Any]] = []
        for place, budget in enumerate(self.budgets):
            candidates = [*fixed, *(curve[place] for curve in curves.values())]
            right = oracle_right(candidates, budget, scored, per_window)
            best = best_fixed(fixed, float(budget))
            rows.append(
                {
                    "budget_gflop": budget / 1e9,
                    "accuracy": float(right.mean()),
                    "accuracy_interval_95": scenes.interval(right),
                    "best_fixed_accuracy": None if best is None else best.accuracy,
                }
            )
        return rows

    def _sweep(self, points: int) -> list[int]:
        """Budgets about what fixed plans take for the longest questions, rounded to 0.1 GFLOP."""
        longest = max(
            sum(self._world.length(one.question) for one in window)
            for drive in self._drives
            for window in drive.windows
        )
        cost, model = self._world.cost, self._world.parts.model
        per_window = len(self._drives[0].windows[0])
        lengths = [-(-longest // per_window)] * per_window

        def flops(plan: FixedPlan) -> int:
            boundary = model.boundary(plan.tail_blocks)
            actions: dict[str, SensorAction] = {
                s: "run" for s in self._planning.modalities if s in plan.sensors
            }
            return cost.look(actions, (), boundary, lengths, plan.tail_blocks)

        low = _LOWEST * min(map(flops, self._menu))
        even = np.geomspace(low, flops(self._menu[-1]), points)
        return sorted({int(np.ceil(flop / 1e8) * 1e8) for flop in even})


def _always(plan: FixedPlan) -> Callable[[], Choose]:
    return lambda: plan.choose


def _half_rate(plan: FixedPlan, phase: int) -> Callable[[], Choose]:
    """The plan in every second step, nothing in the others."""

    def make() -> Choose:
        steps = iter(range(phase, 1 << 62))

        def choose(request: PlanRequest) -> Plan:
            chosen = plan.choose(request)
            if next(steps) % 2 == 0:
                return chosen
            return chosen.model_copy(update={"sensors": {}, "questions": (), "flops": 0})

        return choose

    return make


def _question_only(play: Play, baseline: str | None) -> Entry | None:
    """The best blind guess as if it were a fixed plan that costs nothing."""
    if baseline is None:
        return None
    scored: list[ScoredAnswer] = [
        replace(one, is_right=one.guesses[baseline]) for one in play.scored
    ]
    return Entry(QUESTION_ONLY, None, Play(scored=scored, flops=[0]), is_fixed=True)


def _gap(oracle: Sequence[Mapping[str, Any]], curve: Sequence[Entry]) -> dict[str, float]:
    gaps = [
        100 * (row["accuracy"] - entry.accuracy) for row, entry in zip(oracle, curve, strict=True)
    ]
    return {"mean": float(np.mean(gaps)), "max": float(np.max(gaps)), "min": float(np.min(gaps))}
