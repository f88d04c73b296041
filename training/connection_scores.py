"""How good a connection is on held-out scenes, by set of sensors, type and condition."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.adaptation.samples import Samples
from ..simulation.questions.baselines import MAJORITY_PER_TEMPLATE
from .prepared_data import HeldOut, chosen_questions

#: Tells for decisions and sensors which are right, as `Trainer.evaluate`.
Evaluate = Callable[[Samples, Sequence[str]], NDArray[np.bool_]]


def held_out_scores(
    evaluate: Evaluate,
    samples: Samples,
    known: HeldOut,
    sets: Sequence[Sequence[str]],
    most: int,
    seed: int,
) -> dict[str, Any]:
    """Accuracy per question, beside guesses that see no sensor.

    Args:
        evaluate: answers decisions.
        samples: all held-out decisions.
        known: what is known of them.
        sets: of sensors.
        most: questions that are looked at; which ones follows from the seed.
        seed: of the choice.

    Returns:
        `questions`, `blind` (the best baseline on these very questions, with its name),
        `majority` (per template) and `sensor_sets`, each a row of `accuracy`, `by_type` and
        `by_condition`, and `cells`: `[type, condition, questions, right]` each.
    """
    chosen = chosen_questions(len(known.questions), most, seed)
    place = np.full(len(known.questions), -1, np.int64)
    place[chosen] = np.arange(len(chosen))
    decisions = np.flatnonzero(place[known.question] >= 0)
    owner = place[known.question[decisions]]
    kinds = [known.questions[number].template_type for number in chosen]
    conditions = [known.conditions[number] for number in chosen]
    truth = [known.questions[number].answer for number in chosen]

    def row(right: NDArray[np.bool_]) -> dict[str, Any]:
        return {
            "accuracy": float(right.mean()),
            "by_type": _by(right, kinds),
            "by_condition": _by(right, conditions),
            "cells": _cells(right, kinds, conditions),
        }

    guessed = {
        name: np.array([answers[n] == t for n, t in zip(chosen, truth, strict=True)])
        for name, answers in known.guesses.items()
    }
    best = max(guessed, key=lambda name: guessed[name].mean())
    taken = samples.take(decisions)
    sensor_sets = []
    for sensors in sets:
        right = np.ones(len(chosen), np.bool_)
        np.logical_and.at(right, owner, evaluate(taken, sensors))
        sensor_sets.append({"sensors": list(sensors), **row(right)})
    return {
        "questions": len(chosen),
        "blind": {"baseline": best, **row(guessed[best])},
        "majority": row(guessed[MAJORITY_PER_TEMPLATE]),
        "sensor_sets": sensor_sets,
    }


def _cells(
    right: NDArray[np.bool_], kinds: Sequence[str], conditions: Sequence[str]
) -> list[tuple[str, str, int, int]]:
    asked = Counter(zip(kinds, conditions, strict=True))
    hits = Counter(
        (kind, condition)
        for kind, condition, hit in zip(kinds, conditions, right, strict=True)
        if hit
    )
    return [(*cell, count, hits[cell]) for cell, count in sorted(asked.items())]


def _by(right: NDArray[np.bool_], names: Sequence[str]) -> Mapping[str, float]:
    groups = np.asarray(names)
    return {name: float(right[groups == name].mean()) for name in sorted(set(names))}
