"""What simulated schedules come to: curves of accuracy against FLOPs, gains, and their intervals.

Pure counting over plays. All plays have scored the same questions in the same order, so two of
them are compared question by question, and intervals are drawn over scenes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..simulation.questions.baselines import MAJORITY_PER_TEMPLATE
from .schedule_simulation import Play

Right = NDArray[np.float64]
_RESAMPLED = 2000


@dataclass(frozen=True)
class Entry:
    """A play with its place in the comparison.

    Attributes:
        policy: its name; of a fixed plan, what it runs.
        budget: FLOPs that each step was allowed, None without a limit.
        play: what came of it.
        is_fixed: whether it is one plan in every step.
    """

    policy: str
    budget: int | None
    play: Play
    is_fixed: bool = False

    @property
    def right(self) -> Right:
        """Of each question, 1 or 0."""
        return np.array([one.is_right for one in self.play.scored], np.float64)

    @property
    def accuracy(self) -> float:
        return float(self.right.mean())

    @property
    def mean_flops(self) -> float:
        """Spent a step."""
        return float(np.mean(self.play.flops))


class Scenes:
    """Draws scenes again with replacement, the same ones for everything that is compared."""

    def __init__(self, drives: Sequence[str]) -> None:
        """Take the drive of each question."""
        names, self._place = np.unique(np.asarray(drives), return_inverse=True)
        self.count = len(names)
        self._questions = np.bincount(self._place).astype(np.float64)
        drawn = np.random.default_rng(0).integers(self.count, size=(_RESAMPLED, self.count))
        self._drawn = drawn

    def shares(self, values: Right) -> Right:
        """Mean of a value of each question, for each drawing."""
        sums = np.bincount(self._place, weights=values)
        drawn = self._drawn
        return sums[drawn].sum(axis=1) / self._questions[drawn].sum(axis=1)

    def interval(self, values: Right) -> list[float] | None:
        """95 % interval (percentiles) of a mean; None with fewer than two scenes."""
        if self.count < 2:
            return None
        return [float(end) for end in np.percentile(self.shares(values), (2.5, 97.5))]


def curve_point(entry: Entry, scenes: Scenes) -> dict[str, Any]:
    """One point of a curve, as JSON holds it."""
    play, scored = entry.play, entry.play.scored
    flops = np.asarray(play.flops, np.float64)
    promised = [one for one in play.expected if one is not None]
    times = np.asarray(play.decision_us)
    return {
        "policy": entry.policy,
        "budget_gflop": None if entry.budget is None else entry.budget / 1e9,
        "mean_gflop": float(flops.mean()) / 1e9,
        "max_gflop": float(flops.max()) / 1e9,
        "accuracy": entry.accuracy,
        "accuracy_interval_95": scenes.interval(entry.right),
        "by_condition": _by(entry, lambda one: one.condition),
        "by_kind": _by(entry, lambda one: one.kind),
        "answered_share": float(np.mean(play.answered)),
        "encoders_per_step": float(np.mean(play.ran)),
        "mean_answer_age_ms": float(np.mean([one.age_ms for one in scored])),
        "unanswered_share": float(np.mean([one.text is None for one in scored])),
        "expected": float(np.mean(promised)) if promised else None,
        "steps_refused": play.refused,
        "decision_us_p50": float(np.percentile(times, 50)),
        "decision_us_p99": float(np.percentile(times, 99)),
        "decode_gflop": float(np.mean(play.decode_flops)) / 1e9 if play.decode_flops else None,
        "notes": play.notes,
    }


def guess_rows(play: Play) -> dict[str, Any]:
    """What is right without looking: the best baseline, and the majority of the template."""
    names = play.scored[0].guesses
    if not names:
        return {"blind_accuracy": None, "blind_baseline": None, "majority_accuracy": None}
    shares = {name: float(np.mean([one.guesses[name] for one in play.scored])) for name in names}
    best = max(shares, key=lambda name: shares[name])
    return {
        "blind_accuracy": shares[best],
        "blind_baseline": best,
        "majority_accuracy": shares.get(MAJORITY_PER_TEMPLATE),
    }


def best_fixed(fixed: Sequence[Entry], flops: float) -> Entry | None:
    """The fixed plan that turned out best among those that spend no more; None if none does.

    Chosen on the very questions that are scored, which favours it.
    """
    fitting = [one for one in fixed if one.mean_flops <= flops]
    return max(fitting, key=lambda one: (one.accuracy, -one.mean_flops), default=None)


def front(fixed: Sequence[Entry]) -> list[Entry]:
    """The fixed plans that no cheaper one is as good as, by what they spend."""
    kept: list[Entry] = []
    for one in sorted(fixed, key=lambda entry: (entry.mean_flops, -entry.accuracy)):
        if not kept or one.accuracy > kept[-1].accuracy:
            kept.append(one)
    return kept


def gains(entries: Sequence[Entry], fixed: Sequence[Entry], scenes: Scenes) -> list[dict[str, Any]]:
    """Of one policy at each budget, what it gains over the best fixed plan.

    The fixed plan may spend the whole budget *on average*, while the policy keeps to it in each
    step and so spends less; `at_equal_spending` lets it spend what the policy did. Where no plan
    that looks at a sensor fits, `any_fits` is false.
    """
    rows: list[dict[str, Any]] = []
    for entry in entries:
        assert entry.budget is not None
        row: dict[str, Any] = {"budget_gflop": entry.budget / 1e9, "accuracy": entry.accuracy}
        for name, flops in (
            ("at_equal_budget", float(entry.budget)),
            ("at_equal_spending", entry.mean_flops),
        ):
            best = best_fixed(fixed, flops)
            if best is None:
                row[name] = None
                continue
            gained = 100 * (entry.right - best.right)
            row[name] = {
                "fixed_plan": best.policy,
                "any_fits": any(0 < one.mean_flops <= flops for one in fixed),
                "fixed_accuracy": best.accuracy,
                "gain_points": float(gained.mean()),
                "interval_95": scenes.interval(gained),
            }
        rows.append(row)
    return rows


def flops_ratio(
    entries: Sequence[Entry], everything: Entry, scenes: Scenes, *, slack: float = 0.0
) -> dict[str, Any] | None:
    """How many times fewer FLOPs a policy spends than everything at full depth in each step.

    Args:
        entries: of one policy.
        everything: is compared with.
        scenes: for the interval of the difference in accuracy.
        slack: how much less may be right, 0 to 1.

    Returns:
        The cheapest point whose accuracy is as high; None if there is none.
    """
    wanted = everything.accuracy - slack
    equal = [one for one in entries if one.accuracy >= wanted]
    if not equal:
        return None
    best = min(equal, key=lambda one: one.mean_flops)
    return {
        "ratio": everything.mean_flops / best.mean_flops,
        "budget_gflop": None if best.budget is None else best.budget / 1e9,
        "mean_gflop": best.mean_flops / 1e9,
        "accuracy": best.accuracy,
        "everything_accuracy": everything.accuracy,
        "everything_gflop": everything.mean_flops / 1e9,
        "difference_points_interval_95": scenes.interval(100 * (best.right - everything.right)),
    }


def oracle_right(
    candidates: Sequence[Entry], budget: int, scored_steps: Sequence[int], per_window: int
) -> Right:
    """What knowing the truth would get: at each scored keyframe the best of some plans.

    Args:
        candidates: fixed plans, of which each keyframe takes those that fit there; and policies
            at this budget.
        budget: FLOPs of a step.
        scored_steps: which of the steps are scored.
        per_window: questions of a keyframe.

    Returns:
        Of each question, 1 or 0.
    """
    windows = len(scored_steps)
    best, most = np.zeros((windows, per_window)), np.full(windows, -1.0)
    for one in candidates:
        right = one.right.reshape(windows, per_window)
        flops = np.asarray(one.play.flops)[list(scored_steps)]
        count = np.where(flops <= budget, right.sum(axis=1), -1.0)
        better = count > most
        best[better], most[better] = right[better], count[better]
    return best.reshape(-1)


def _by(entry: Entry, key: Any) -> dict[str, float]:
    groups: dict[str, list[bool]] = {}
    for one in entry.play.scored:
        groups.setdefault(key(one), []).append(one.is_right)
    return {name: float(np.mean(groups[name])) for name in sorted(groups)}


def means(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any] | None:
    """Mean, largest and smallest gain over the budgets of a sweep at which a fixed plan fits."""
    found = [(row["budget_gflop"], row[name]) for row in rows if row[name] is not None]
    found = [(budget, one) for budget, one in found if one["any_fits"]]
    if not found:
        return None
    values = [one["gain_points"] for _, one in found]
    place = int(np.argmax(values))
    return {
        "mean": float(np.mean(values)),
        "max": float(values[place]),
        "max_at_gflop": found[place][0],
        "max_interval_95": found[place][1]["interval_95"],
        "min": float(np.min(values)),
        "budgets": len(values),
    }
