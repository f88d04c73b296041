"""How answers lose their worth while they are given again.

Tokens that are reused are carried forward to where things are now; an answer stays what it was. So
what is known of old tokens says nothing of old answers, and a calibration measures them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .calibration_table import CalibrationCell
from .question_kinds import KINDS, read_key

Float64 = NDArray[np.float64]

#: What is known beforehand of the logarithm of a life: of all kinds together, and of each kind
#: against that; with widths.
_START_MS, _WIDTH, _KIND_WIDTH = 3000.0, 1.0, 0.4
_LEAST_MS, _MOST_MS = 100.0, 60_000.0
_ROUNDS, _LARGEST_STEP = 20, 0.7
_EDGE = 1e-3


@dataclass(frozen=True)
class Fading:
    """In what time an answer loses all but 1/e of what it is worth beyond a blind one.

    Attributes:
        life_ms: `[kinds]`, in the order of `KINDS`.
    """

    life_ms: Float64

    def kept(self, kind: str, held_ms: float) -> float:
        """Share of its worth that an answer still has.

        Args:
            kind: of the question.
            held_ms: since it was given.
        """
        return float(np.exp(-held_ms / self.life_ms[KINDS.index(kind)]))


def fit_fading(
    cells: Sequence[CalibrationCell], blind: Float64, gain: Float64, dispersion: float = 1.0
) -> Fading | None:
    """Learn from answers that were counted again later.

    Args:
        cells: whose plans say how long answers were held.
        blind: `[cells]`, expected accuracy of sensors that see nothing of what is asked.
        gain: `[cells]`, what the plan adds to that when its answer is given.
        dispersion: of the table.

    Returns:
        None of no cell.
    """
    if not cells:
        return None
    held_ms = np.array([cell.plan.held_ms for cell in cells], np.float64)
    questions = np.array([cell.questions for cell in cells]) / dispersion
    right = np.array([cell.right for cell in cells]) / dispersion
    kinds = np.array([KINDS.index(read_key(cell.topic).kind) for cell in cells])

    def likeliest(mine: NDArray[np.bool_], expected: float, width: float) -> float:
        """Logarithm of a life under a Gaussian prior, by Fisher scoring."""
        asked, hits, age_ms = questions[mine], right[mine], held_ms[mine]
        base, more, life = blind[mine], gain[mine], expected
        for _ in range(_ROUNDS):
            kept = np.exp(-age_ms / np.exp(life))
            mean = np.clip(base + more * kept, _EDGE, 1 - _EDGE)
            slope = more * kept * age_ms / np.exp(life)
            variance = mean * (1 - mean)
            pull = (slope * (hits - asked * mean) / variance).sum()
            curve = (asked * slope**2 / variance).sum() + width**-2
            step = (pull - (life - expected) / width**2) / curve
            life += float(np.clip(step, -_LARGEST_STEP, _LARGEST_STEP))
            life = float(np.clip(life, np.log(_LEAST_MS), np.log(_MOST_MS)))
        return life

    together = likeliest(np.ones(len(cells), bool), float(np.log(_START_MS)), _WIDTH)
    lives = [likeliest(kinds == kind, together, _KIND_WIDTH) for kind in range(len(KINDS))]
    return Fading(np.exp(np.array(lives)))
