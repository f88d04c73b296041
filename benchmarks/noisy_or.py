"""A noisy or of sensors, to be compared with: each sees what is asked about with some chance, and a
question is answered as well as it can be if one of them does.

Accuracy is `blind + (best - blind) (1 - product of (1 - g c exp(-age / life)))` over the sensors of
a plan, with c the share of what is asked about that a sensor covers (Pearl, Probabilistic Reasoning
in Intelligent Systems, 1988, for the form).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..runtime.calibration_table import CalibrationCell
from ..runtime.utility_features import SensorTraits
from ..runtime.utility_fit import Contexts, counts_of

Float64 = NDArray[np.float64]

_STEPS, _RATE = 600, 0.05
#: Precision of the prior on deviations of kinds and conditions.
_DRAWN = 20.0
_EDGE = 1e-6


@dataclass(frozen=True)
class NoisyOr:
    """What was fitted; every array is by context, see `Contexts`.

    Attributes:
        traits: of the sensors.
        contexts: of questions.
        blind: `[contexts]`, logit of the accuracy without sensors.
        best: `[contexts]`, logit of the share of the rest that can be had at all.
        sees: `[modalities, contexts]`, logit of the chance that a sensor sees.
        life: `[modalities]`, logarithm of the life of tokens in milliseconds.
        depths: by depth, logarithm of what a gain is worth there.
    """

    traits: SensorTraits
    contexts: Contexts
    blind: Float64
    best: Float64
    sees: Float64
    life: Float64
    depths: dict[int | None, float]

    def means(self, cells: Sequence[CalibrationCell]) -> Float64:
        """Expected accuracy of each cell; its counts are not looked at."""
        data = _Data(cells, self.traits, self.contexts)
        depth = np.array([self.depths.get(cell.plan.tail_blocks, 0.0) for cell in cells])
        return data.forward(self.blind, self.best, self.sees, self.life, depth).mean


@dataclass(frozen=True)
class _Forward:
    """Accuracies `[n]`, with what their slopes are made of."""

    mean: Float64
    blind: Float64
    best: Float64
    sees: Float64
    fresh: Float64
    missed: Float64
    deep: Float64


class _Data:
    """Cells as arrays."""

    def __init__(
        self, cells: Sequence[CalibrationCell], traits: SensorTraits, contexts: Contexts
    ) -> None:
        counts = counts_of(cells, traits, contexts)
        self.context, self.cover, self.age_ms = counts.context, counts.cover, counts.age_ms
        self.group, self.asked, self.right = counts.group, counts.questions, counts.right

    def forward(
        self, blind: Float64, best: Float64, sees: Float64, life: Float64, depth: Float64
    ) -> _Forward:
        """Accuracies by the formula above."""
        guess = _sigmoid(self.context @ blind)
        most = _sigmoid(self.context @ best)
        # [n, sensors]
        chance = _sigmoid(self.context @ sees.T) @ self.group.T
        fresh = self.cover * np.exp(-self.age_ms / np.exp(self.group @ life))
        missed = np.maximum(1 - chance * fresh, _EDGE)
        deep = np.exp(depth)
        mean = guess + (1 - guess) * most * deep * (1 - missed.prod(axis=1))
        return _Forward(np.clip(mean, _EDGE, 1 - _EDGE), guess, most, chance, fresh, missed, deep)


def fit_noisy_or(
    cells: Sequence[CalibrationCell], traits: SensorTraits, dispersion: float = 1.0
) -> NoisyOr:
    """Fit by Adam (Kingma and Ba, 1412.6980), with deviations drawn to nothing."""
    contexts = Contexts(sorted({cell.condition for cell in cells}))
    data = _Data(cells, traits, contexts)
    data.asked, data.right = data.asked / dispersion, data.right / dispersion
    depths: list[int | None] = sorted(
        {cell.plan.tail_blocks for cell in cells}, key=lambda one: -(one or 0)
    )
    which = np.array([depths.index(cell.plan.tail_blocks) for cell in cells])
    size, groups = contexts.size, len(traits.groups)
    drawn = np.full(size, _DRAWN)
    drawn[contexts.places["all"]] = drawn[contexts.places["direction"]] = 0.1
    # Kinds differ widely, in what a guess earns at least.
    drawn[contexts.places["kind"]] = 1.0
    theta = np.zeros(size * (2 + groups) + groups + len(depths))
    theta[-groups - len(depths) : -len(depths)] = np.log(1500.0)
    first, second = np.zeros_like(theta), np.zeros_like(theta)

    def parts(flat: Float64) -> tuple[Float64, Float64, Float64, Float64, Float64]:
        rest = flat[size * (2 + groups) :]
        return (
            flat[:size],
            flat[size : 2 * size],
            flat[2 * size : (2 + groups) * size].reshape(groups, size),
            rest[:groups],
            rest[groups:],
        )

    for step in range(1, _STEPS + 1):
        blind, best, sees, life, depth = parts(theta)
        now = data.forward(blind, best, sees, life, depth[which])
        slope = data.right / now.mean - (data.asked - data.right) / (1 - now.mean)
        nothing = now.missed.prod(axis=1)
        found, span = 1 - nothing, (1 - now.blind) * now.best * now.deep
        d_blind = slope * (1 - now.best * now.deep * found) * now.blind * (1 - now.blind)
        d_best = slope * span * found * (1 - now.best)
        # d(1 - product) / d(chance of one sensor) is fresh * product of the others.
        others = slope[:, None] * span[:, None] * nothing[:, None] / now.missed
        d_sees = (others * now.fresh * now.sees * (1 - now.sees)) @ data.group
        fading = data.age_ms / np.exp(data.group @ life)
        d_life = (others * now.sees * now.fresh * fading).sum(axis=0) @ data.group
        d_depth = np.bincount(which, slope * span * found, minlength=len(depths))
        d_depth[0] = 0.0  # the deepest is what others are worth against
        gradient = np.concatenate(
            [
                data.context.T @ d_blind - drawn * blind,
                data.context.T @ d_best - drawn * best,
                (d_sees.T @ data.context - drawn * sees).ravel(),
                d_life - 4.0 * (life - np.log(1500.0)),
                d_depth - 4.0 * depth,
            ]
        )
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        rate = _RATE * min(1.0, 3 * (1 - step / (_STEPS + 1)))
        theta = theta + rate * (first / (1 - 0.9**step)) / (
            np.sqrt(second / (1 - 0.999**step)) + 1e-8
        )
    blind, best, sees, life, depth = parts(theta)
    by_depth = {one: float(value) for one, value in zip(depths, depth, strict=True)}
    return NoisyOr(traits, contexts, blind, best, sees, life, by_depth)


def _sigmoid(x: Float64) -> Float64:
    return 1 / (1 + np.exp(-x))
