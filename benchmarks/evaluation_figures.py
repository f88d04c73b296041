"""What the answers of an evaluation come to: accuracies beside those that see nothing or all.

Pure counting over marks; rows of a table are dictionaries that JSON can hold.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ..simulation.questions.baselines import MAJORITY_PER_TEMPLATE
from ..simulation.questions.calibration import coverage_curve, reliability
from ..simulation.questions.conditions import CONDITIONS
from .evaluation import Mark

_RESAMPLED = 2000


def accuracy_rows(marks: Sequence[Mark], main: str, bound: str | None) -> dict[str, Any]:
    """Accuracy over all, by type, by hop, by both and by condition.

    Args:
        marks: all questions.
        main: set of sensors whose accuracy it is.
        bound: set that gives the bound, None without one.

    Returns:
        `overall`, a row, and `by_type`, `by_hop`, `by_type_and_hop` (keys such as `exist, 0`) and
        `by_condition`, rows by name; see `accuracy_row`.
    """

    def rows(key: Callable[[Mark], str], order: Sequence[str] = ()) -> dict[str, dict[str, object]]:
        groups = _grouped(marks, key)
        names = [name for name in order if name in groups] if order else sorted(groups)
        return {name: accuracy_row(groups[name], main, bound) for name in names}

    return {
        "overall": accuracy_row(marks, main, bound),
        "by_type": rows(lambda mark: mark.item.template_type),
        "by_hop": rows(lambda mark: str(mark.item.num_hop)),
        "by_type_and_hop": rows(lambda mark: f"{mark.item.template_type}, {mark.item.num_hop}"),
        "by_condition": rows(lambda mark: mark.condition, CONDITIONS),
    }


def accuracy_row(marks: Sequence[Mark], main: str, bound: str | None) -> dict[str, object]:
    """Accuracies of one group of questions.

    The blind accuracy is that of the best baseline on these very questions, which can only make
    blindness look better and the pack look worse.

    Returns:
        `questions`, `accuracy`, `blind_accuracy`, `blind_baseline` (its name),
        `majority_accuracy` (per template) and `objects_bound`; None where there is none.
    """
    guessers = marks[0].guesses if marks else {}
    blind = {
        name: _share(mark.guesses[name] == mark.item.answer for mark in marks) for name in guessers
    }
    best = max(blind, key=lambda name: blind[name] or 0.0) if blind else None
    return {
        "questions": len(marks),
        "accuracy": set_accuracy(marks, main),
        "blind_accuracy": None if best is None else blind[best],
        "blind_baseline": best,
        "majority_accuracy": blind.get(MAJORITY_PER_TEMPLATE),
        "objects_bound": None if bound is None else set_accuracy(marks, bound),
    }


def set_accuracy(marks: Sequence[Mark], name: str) -> float | None:
    """Share of questions that a set of sensors answers right; None without questions."""
    return _share(mark.given[name].text == mark.item.answer for mark in marks)


def set_figures(marks: Sequence[Mark], name: str, sensors: Sequence[str]) -> dict[str, Any]:
    """All figures of one set of sensors.

    Args:
        marks: all questions, at least one.
        name: of the set.
        sensors: of the set.

    Returns:
        Accuracies by type and condition; `accuracy_interval_95` over scenes, None for fewer than
        two; `calibration` (see `calibration.reliability`) and `coverage` (see
        `calibration.coverage_curve`); and how many answers had no sensor, or not all of them,
        behind them.
    """
    given = [mark.given[name] for mark in marks]
    right = [mark.given[name].text == mark.item.answer for mark in marks]
    sure = [one.confidence for one in given]
    found = reliability(sure, right)
    by_type = _grouped(marks, lambda mark: mark.item.template_type)
    by_condition = _grouped(marks, lambda mark: mark.condition)
    return {
        "name": name,
        "sensors": list(sensors),
        "accuracy": set_accuracy(marks, name),
        "accuracy_interval_95": scene_interval([mark.drive for mark in marks], right),
        "by_type": {key: set_accuracy(by_type[key], name) for key in sorted(by_type)},
        "by_condition": {
            key: set_accuracy(by_condition[key], name) for key in CONDITIONS if key in by_condition
        },
        "calibration": {
            "error": found.error,
            "brier": found.brier,
            "mean_confidence": found.confidence,
            "bins": [asdict(one) for one in found.bins],
        },
        "coverage": [asdict(point) for point in coverage_curve(sure, right)],
        "answers_without_sensors": sum(not one.sensors for one in given),
        "answers_missing_a_sensor": sum(one.sensors < len(sensors) for one in given),
    }


def scene_interval(scenes: Sequence[str], right: Sequence[bool]) -> list[float] | None:
    """95 % interval of the accuracy, by drawing scenes again with replacement (percentiles).

    Questions of one scene are about the same street, so they are no independent trials.

    Args:
        scenes: of each question.
        right: whether each was answered right.

    Returns:
        Lower and upper end, None for fewer than two scenes.
    """
    names, place = np.unique(np.asarray(scenes), return_inverse=True)
    if len(names) < 2:
        return None
    questions = np.bincount(place)
    hits = np.bincount(place, weights=np.asarray(right, np.float64))
    drawn = np.random.default_rng(0).integers(len(names), size=(_RESAMPLED, len(names)))
    shares = hits[drawn].sum(axis=1) / questions[drawn].sum(axis=1)
    return [float(end) for end in np.percentile(shares, (2.5, 97.5))]


def _grouped(marks: Sequence[Mark], key: Callable[[Mark], str]) -> Mapping[str, list[Mark]]:
    groups: defaultdict[str, list[Mark]] = defaultdict(list)
    for mark in marks:
        groups[key(mark)].append(mark)
    return groups


def _share(hits: Any) -> float | None:
    found = list(hits)
    return sum(found) / len(found) if found else None
