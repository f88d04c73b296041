"""All switches of an adaptation benchmark together, since a single one may differ by chance.

What a switch of few scenes gains is of the size of its error, and the cost at equal accuracy of one
switch with it. The mean over conditions and changes is surer: looks of the same place in their runs
are averaged, and their FLOPs added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .adaptation_errors import costs_at_equal_accuracy, drawn_accuracies, interval, unpacked
from .adaptation_record import Row

if TYPE_CHECKING:
    from .adaptation_data import Exam


def pooled(
    pairs: Sequence[tuple[str, Row, Row]], exams: Mapping[str, Exam]
) -> dict[str, Any] | None:
    """A baseline's cost over ours at equal mean accuracy.

    Args:
        pairs: condition, our switch and the baseline's; the same for all baselines.
        exams: by condition.

    Returns:
        `switches`; `points` of `ours` and `theirs` (mean `accuracy` and added `flops` of each
        look); `flops` of theirs until their best look over those of ours until the first that is
        as right, None where none is or where theirs learned nothing; `flops_interval` (95 %,
        scenes of each condition drawn again, None where ours is never as right), `flops_reached`
        (share of the draws in which it is); `accuracy_gain` of the best looks with its
        `accuracy_gain_error`. None for no pair, or where runs have not the same looks.
    """
    sides = [[pair[1] for pair in pairs], [pair[2] for pair in pairs]]
    counts = [{len(row["points"]) for row in rows} for rows in sides]
    if any(len(count) != 1 for count in counts):
        return None
    flops = [
        np.array([[point["flops"] for point in row["points"]] for row in rows]).sum(0)
        for rows in sides
    ]
    means = [
        np.array([[point["accuracy"] for point in row["points"]] for row in rows]).mean(0)
        for rows in sides
    ]
    ours, theirs = means
    ratio, learned = _ratios(ours[None], theirs[None], *flops)[0], flops[1][theirs.argmax()] > 0
    found = {
        "switches": len(pairs),
        "points": {
            name: [
                {"accuracy": float(share), "flops": int(cost)}
                for share, cost in zip(mean, costs, strict=True)
            ]
            for name, mean, costs in zip(("ours", "theirs"), means, flops, strict=True)
        },
        "flops": float(ratio) if learned and np.isfinite(ratio) and ratio > 0 else None,
        "accuracy_gain": float(ours.max() - theirs.max()),
        **dict.fromkeys(("flops_interval", "flops_reached", "accuracy_gain_error")),
    }
    draws = _draws(pairs, exams)
    if draws is None:
        return found
    ratios = _ratios(*draws, *flops)
    ends = interval(ratios)
    return {
        **found,
        "flops_interval": [end if np.isfinite(end) and end > 0 else None for end in ends],
        "flops_reached": float((ratios > 0).mean()),
        "accuracy_gain_error": float(np.std(draws[0].max(1) - draws[1].max(1))),
    }


def _ratios(
    ours: NDArray[np.float64],
    theirs: NDArray[np.float64],
    our_flops: NDArray[np.integer],
    their_flops: NDArray[np.integer],
) -> NDArray[np.float64]:
    """By draw, of accuracies `[draws, looks]`; 0 where ours is never as right."""
    cost, needed, reached = costs_at_equal_accuracy(ours, theirs, our_flops, their_flops)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Where they learned nothing, ours needs nothing either, or is behind them.
        ratios = np.where(cost > 0, cost / needed, np.where(needed > 0, 0.0, 1.0))
    return np.where(reached, ratios, 0.0)


def _draws(
    pairs: Sequence[tuple[str, Row, Row]], exams: Mapping[str, Exam]
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Mean accuracies `[draws, looks]` of ours and theirs when scenes are drawn again."""
    sides: tuple[list[NDArray[np.float64]], ...] = ([], [])
    for number, condition in enumerate(dict.fromkeys(pair[0] for pair in pairs)):
        exam, own = exams[condition], [pair for pair in pairs if pair[0] == condition]
        if len(np.unique(exam.block)) < 2:
            return None
        right: list[NDArray[np.bool_]] = []
        for row in (row for pair in own for row in pair[1:]):
            looks = unpacked(row["points"], exam.questions)
            if looks is None:
                return None
            right.append(looks)
        # The same scenes for all runs of a condition, others for each condition.
        drawn = drawn_accuracies(right, exam.block, seed=number)
        sides[0].extend(drawn[::2])
        sides[1].extend(drawn[1::2])
    ours, theirs = (np.mean(side, axis=0) for side in sides)
    return ours, theirs
