"""What answers of a pack's variants come to: what precision costs, in accuracy, bytes and times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..runtime.measured_variants import MeasuredVariant
from .evaluation import Mark
from .evaluation_figures import accuracy_row, scene_interval, set_accuracy
from .measure import Timings

_RESAMPLED = 2000

METHOD = (
    "Every variant is asked the same questions about the same frames, through the runtime itself. "
    "accuracy: exact answers. difference_points: accuracy less that of the reference, in points; "
    "its 95 % interval by drawing scenes again with replacement, each with all its questions and "
    "with both variants' answers to them, so that what scenes have in common cancels. "
    "same_answers: as the reference's, right or wrong. part_bytes: graphs with their constants, as "
    "they lie on disk; tail: blocks from the tail's first on. stages_ms: medians over moments that "
    "all variants see in turn, in an order that rotates, encoders running anew each time."
)


def variant_rows(
    marks: Sequence[Mark],
    names: Sequence[str],
    part_bytes: Mapping[str, Mapping[str, int]],
    stages: Mapping[str, Mapping[str, Timings]],
) -> list[dict[str, Any]]:
    """One row per variant, the reference first.

    Args:
        marks: all questions, with what each variant answered.
        names: of the variants; the first one is the reference.
        part_bytes: by variant and part.
        stages: times by variant and stage; may lack variants.
    """
    scenes = [mark.drive for mark in marks]
    wanted = [mark.given[names[0]].text for mark in marks]
    right = {name: [mark.given[name].text == mark.item.answer for mark in marks] for name in names}
    rows: list[dict[str, Any]] = []
    for name in names:
        same = sum(mark.given[name].text == text for mark, text in zip(marks, wanted, strict=True))
        rows.append(
            {
                "variant": name,
                "accuracy": set_accuracy(marks, name),
                "accuracy_interval_95": scene_interval(scenes, right[name]),
                **paired_difference(scenes, right[name], right[names[0]]),
                "same_answers": same,
                "part_bytes": dict(part_bytes[name]),
                "bytes": sum(part_bytes[name].values()),
                "stages_ms": {
                    stage: timings.summary() for stage, timings in stages.get(name, {}).items()
                },
            }
        )
    return rows


def measured_variants(
    rows: Sequence[Mapping[str, Any]], guessed: Mapping[str, Any], measured_on: str
) -> list[MeasuredVariant]:
    """What a pack keeps of it.

    Args:
        rows: of `variant_rows`, the first one of the pack in float32.
        guessed: of `baselines`.
        measured_on: in words.
    """
    questions = guessed["questions"]
    return [
        MeasuredVariant(
            variant=row["variant"],
            measured_on=measured_on,
            questions=questions,
            right=round(row["accuracy"] * questions),
            blind_accuracy=guessed["blind_accuracy"],
            difference_points=row["difference_points"],
            interval_points=row["difference_interval_95"],
            same_answers=row["same_answers"],
            bytes=row["bytes"],
        )
        for row in rows
    ]


def baselines(marks: Sequence[Mark], reference: str) -> dict[str, Any]:
    """How many are right that see nothing, see `accuracy_row`."""
    row = accuracy_row(marks, reference, None)
    kept = ("questions", "blind_accuracy", "blind_baseline", "majority_accuracy")
    return {name: row[name] for name in kept}


def paired_difference(
    scenes: Sequence[str], right: Sequence[bool], reference: Sequence[bool]
) -> dict[str, Any]:
    """By how much one variant is more often right than another, on the same questions.

    Args:
        scenes: of each question.
        right: whether the variant was right.
        reference: whether the other one was.

    Returns:
        `difference_points`; `difference_interval_95` over scenes, None for fewer than two; `lost`
        and `won`: questions that only the reference, or only the variant, has right.
    """
    change = np.asarray(right, np.float64) - np.asarray(reference, np.float64)
    found: dict[str, Any] = {
        "difference_points": 100 * float(change.mean()) if len(change) else None,
        "difference_interval_95": None,
        "lost": int((change < 0).sum()),
        "won": int((change > 0).sum()),
    }
    names, place = np.unique(np.asarray(scenes), return_inverse=True)
    if len(names) >= 2:
        questions = np.bincount(place)
        sums = np.bincount(place, weights=change)
        drawn = np.random.default_rng(0).integers(len(names), size=(_RESAMPLED, len(names)))
        shares = 100 * sums[drawn].sum(axis=1) / questions[drawn].sum(axis=1)
        found["difference_interval_95"] = [float(end) for end in np.percentile(shares, (2.5, 97.5))]
    return found
