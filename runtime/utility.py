"""Expected accuracy of any plan, from what a pack's calibration counted of some of them.

`fit_utility` makes the model once, when a pack is loaded; `bind` prepares the plans of a scheduler
(`bound_utility.py`). How counts become coefficients is in `utility_fit.py`, what a plan offers to a
question in `utility_features.py`.

A plan without any sensor is a case of its own: the language model then has no prefix at all, which
it was never trained for, and may be far worse than with sensors that see nothing of what is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .bound_utility import BoundUtility
from .calibration_table import CalibrationCell, CalibrationTable
from .measured_variants import VariantTarget, worth_of_tails
from .model_config import Precision
from .pack import PackManifest
from .plan_space import PlanSpace
from .question_kinds import KINDS, Topic, read_key
from .utility_features import SensorTraits
from .utility_fit import Contexts, Design, Fit, blind_and_gain, counts_of, fit
from .utility_held import Fading, fit_fading

Float64 = NDArray[np.float64]
Variant = tuple[int | None, Precision | None]

#: Widths of what is known beforehand of the worth of a variant against the reference: of all kinds
#: of questions together, and of each kind against that.
_VARIANT_WIDTH, _KIND_WIDTH = 0.5, 0.15
_LARGEST_WORTH = 1.5
_EDGE = 1e-3
#: Answers that the rate of all kinds counts for, in the rate of a kind without sensors.
_LEAN = 10.0


@dataclass(frozen=True)
class Estimate:
    """How often a plan is right.

    Attributes:
        mean: expected share of right answers.
        deviation: standard deviation of what is known of it, not of single answers.
    """

    mean: float
    deviation: float


class UtilityModel:
    """How often plans are right."""

    def __init__(
        self,
        design: Design,
        fitted: Fit,
        reference: Variant,
        worth: Mapping[Variant, Float64],
        bare: Sequence[Estimate] | None = None,
        fading: Fading | None = None,
    ) -> None:
        """Put together what was fitted; see `fit_utility`.

        Args:
            design: effects and contexts.
            fitted: their coefficients, at the reference.
            reference: depth and precision with the most counts.
            worth: by variant, what its answers are worth beyond those with sensors that see nothing
                of what is asked, as a share of what those of the reference are, by kind `[kinds]`.
            bare: accuracy without any sensor, by kind; None where it was not measured, then as with
                sensors that see nothing.
            fading: of answers that are given again; None where it was not measured, then as if
                their tokens were used again.
        """
        self.fading = fading
        self.design, self.fitted = design, fitted
        self.reference, self._worth = reference, dict(worth)
        self.bare = None if bare is None else tuple(bare)

    @property
    def traits(self) -> SensorTraits:
        """Of the sensors of the pack."""
        return self.design.traits

    def strengths(self, topic: Topic, condition: str | None) -> Float64:
        """What each effect adds to the logit, `[effects]`, for one topic and condition."""
        return self.fitted.coefficients @ self.design.contexts.row(topic, condition)

    def worth(self, depth: int, precision: Precision) -> Float64:
        """See `__init__`; where a variant was not measured, from its depth and its precision."""
        known = self._worth
        if (depth, precision) in known:
            return known[depth, precision]
        own_depth, own_precision = self.reference
        by_depth = _nearest({d: w for (d, p), w in known.items() if p == own_precision}, depth)
        by_precision = known.get((own_depth, precision))
        none = np.ones(len(KINDS))
        return (none if by_depth is None else by_depth) * (
            none if by_precision is None else by_precision
        )

    def take_precisions(self, worth: Mapping[Precision, float]) -> None:
        """Take over what tails of other precisions are worth, where the table did not count them.

        Args:
            worth: by precision, see `measured_variants.worth_of_tails`.
        """
        depth, own = self.reference
        counted = {precision for _, precision in self._worth}
        if own is None or not worth.get(own, 1.0):
            return
        for precision, share in worth.items():
            if precision not in counted:
                beside = share / worth.get(own, 1.0)
                self._worth[depth, precision] = np.full(len(KINDS), beside)

    def accuracy(
        self,
        key: str,
        condition: str | None,
        ages_ms: Mapping[str, float],
        depth: int,
        precision: Precision,
    ) -> Estimate:
        """Expected accuracy of one plan, with what is not known of it.

        Args:
            key: kind and directions of the question, see `question_kinds.Topic.key`.
            condition: of light and weather, None if it is not known.
            ages_ms: of the tokens of each sensor that is used.
            depth: of the tail.
            precision: of the language model.
        """
        topic, traits = read_key(key), self.traits
        if not ages_ms and self.bare is not None:
            return self.bare[KINDS.index(topic.kind)]
        seen = np.zeros(len(traits.groups))
        for sensor, age_ms in ages_ms.items():
            group = traits.group_of(sensor)
            if group is not None:
                life_ms = self.fitted.life_ms[group]
                seen[group] += traits.coverage(sensor, topic) * np.exp(-age_ms / life_ms)
        context = self.design.contexts.row(topic, condition)
        values = self.design.values(seen[None])[0]
        blind = _sigmoid(float(self.fitted.coefficients[0] @ context))
        mean = _sigmoid(float(values @ (self.fitted.coefficients @ context)))
        share = float(self.worth(depth, precision)[KINDS.index(topic.kind)])
        row = np.concatenate(
            [values[effect] * context[place] for effect, place in self.fitted.columns]
        )
        spread = float(np.sqrt(row @ self.fitted.covariance @ row))
        return Estimate(
            mean=blind + share * (mean - blind), deviation=share * mean * (1 - mean) * spread
        )

    def held(
        self,
        key: str,
        condition: str | None,
        ages_ms: Mapping[str, float],
        held_ms: float,
        depth: int,
        precision: Precision,
    ) -> Estimate:
        """Expected accuracy of an answer that is given again.

        Args:
            key: as of `accuracy`, and all others too.
            condition: of now.
            ages_ms: of the tokens behind the answer, when it was given.
            held_ms: since then.
            depth: of the tail.
            precision: of the language model.
        """
        if self.fading is None or not ages_ms:
            older = {sensor: age_ms + held_ms for sensor, age_ms in ages_ms.items()}
            return self.accuracy(key, condition, older, depth, precision)
        topic = read_key(key)
        given = self.accuracy(key, condition, ages_ms, depth, precision)
        context = self.design.contexts.row(topic, condition)
        blind = _sigmoid(float(self.fitted.coefficients[0] @ context))
        kept = self.fading.kept(topic.kind, held_ms)
        return Estimate(blind + kept * (given.mean - blind), kept * given.deviation)

    def means(self, cells: Sequence[CalibrationCell]) -> Float64:
        """Expected accuracy of cells, `[cells]`; their counts are not looked at.

        A plan that names no depth or precision is taken to be the reference.
        """
        blind, gain = blind_and_gain(cells, self.design, self.fitted)
        shares: dict[tuple[Variant, str], float] = {}
        for cell in cells:
            depth, precision = variant = (cell.plan.tail_blocks, cell.plan.precision)
            if (variant, cell.topic) in shares:
                continue
            share = 1.0
            if depth is not None and precision is not None:
                kind = KINDS.index(read_key(cell.topic).kind)
                share = float(self.worth(depth, precision)[kind])
            shares[variant, cell.topic] = share
        worth = [shares[(c.plan.tail_blocks, c.plan.precision), c.topic] for c in cells]
        kept = np.array([self._kept(cell) for cell in cells])
        found = blind + np.array(worth) * kept * gain
        if self.bare is not None:
            for number, cell in enumerate(cells):
                if not cell.plan.sensors:
                    found[number] = self.bare[KINDS.index(read_key(cell.topic).kind)].mean
        return found

    def _kept(self, cell: CalibrationCell) -> float:
        """What an answer is still worth when it is given again; 1 of one that is not."""
        if not cell.plan.held_ms or self.fading is None:
            return 1.0
        return self.fading.kept(read_key(cell.topic).kind, cell.plan.held_ms)

    def bind(self, space: PlanSpace, modalities: Mapping[str, str]) -> BoundUtility:
        """Prepare a space for quick decisions.

        Args:
            space: the plans.
            modalities: by sensor of the space.
        """
        return BoundUtility(self, space, modalities)


def fit_utility(
    table: CalibrationTable, manifest: PackManifest, target: VariantTarget = "cpu"
) -> UtilityModel | None:
    """Make a model of a table.

    Args:
        table: of the pack.
        manifest: of the pack, for its sensors and where they look.
        target: what runs the pack, for precisions that the table did not count.

    Returns:
        None of a table that counted no plan with a sensor.
    """
    model = fit_cells(list(table.cells), SensorTraits.of(manifest), table.dispersion)
    if model is not None:
        model.take_precisions(worth_of_tails(table.variants, target))
    return model


def fit_cells(
    cells: Sequence[CalibrationCell], traits: SensorTraits, dispersion: float = 1.0
) -> UtilityModel | None:
    """As `fit_utility`, of some cells."""
    without = [cell for cell in cells if not cell.plan.sensors]
    again = [cell for cell in cells if cell.plan.sensors and cell.plan.held_ms]
    cells = [cell for cell in cells if cell.plan.sensors and not cell.plan.held_ms]
    if not cells:
        return None
    questions: dict[Variant, int] = {}
    for cell in cells:
        variant = (cell.plan.tail_blocks, cell.plan.precision)
        questions[variant] = questions.get(variant, 0) + cell.questions
    reference = max(questions, key=questions.__getitem__)
    contexts = Contexts(sorted({cell.condition for cell in cells}))
    design = Design(traits, contexts)

    def of(variant: Variant) -> list[CalibrationCell]:
        return [c for c in cells if (c.plan.tail_blocks, c.plan.precision) == variant]

    fitted = fit(counts_of(of(reference), traits, contexts), design, dispersion)
    worth = {reference: np.ones(len(KINDS))}
    for variant in questions:
        if variant != reference:
            worth[variant] = _worth_of(of(variant), design, fitted, dispersion)
    bare = _bare_of(without, dispersion) if without else None
    model = UtilityModel(design, fitted, reference, worth, bare)
    if again:
        given = [cell._replace(plan=cell.plan.model_copy(update={"held_ms": 0})) for cell in again]
        blind, _ = blind_and_gain(given, design, fitted)
        model.fading = fit_fading(again, blind, model.means(given) - blind, dispersion)
    return model


def _worth_of(
    cells: Sequence[CalibrationCell], design: Design, fitted: Fit, dispersion: float
) -> Float64:
    """What a variant is worth against the reference, by kind; see `UtilityModel.__init__`."""
    blind, gain = blind_and_gain(cells, design, fitted)
    questions = np.array([cell.questions for cell in cells]) / dispersion
    hits = np.array([cell.right for cell in cells]) / dispersion
    kinds = np.array([KINDS.index(read_key(cell.topic).kind) for cell in cells])

    def best(mine: NDArray[np.bool_], expected: float, width: float) -> float:
        """The likeliest worth under a Gaussian prior, by Fisher scoring."""
        asked, right = questions[mine], hits[mine]
        guess, more, worth = blind[mine], gain[mine], expected
        for _ in range(12):
            mean = np.clip(guess + worth * more, _EDGE, 1 - _EDGE)
            variance = mean * (1 - mean)
            slope = (more * (right - asked * mean) / variance).sum() - (worth - expected) / width**2
            curve = (asked * more**2 / variance).sum() + width**-2
            worth = float(np.clip(worth + slope / curve, 0, _LARGEST_WORTH))
        return worth

    together = best(np.ones(len(cells), bool), 1.0, _VARIANT_WIDTH)
    return np.array([best(kinds == kind, together, _KIND_WIDTH) for kind in range(len(KINDS))])


def _bare_of(cells: Sequence[CalibrationCell], dispersion: float) -> list[Estimate]:
    """Accuracy without any sensor, by kind: its own counts leaning on those of all."""
    asked, right = np.zeros(len(KINDS)), np.zeros(len(KINDS))
    for cell in cells:
        kind = KINDS.index(read_key(cell.topic).kind)
        asked[kind] += cell.questions
        right[kind] += cell.right
    common = (right.sum() + 1) / (asked.sum() + 2)
    means = (right + _LEAN * common) / (asked + _LEAN)
    spread = np.sqrt(dispersion * means * (1 - means) / (asked + _LEAN))
    pairs = zip(means.tolist(), spread.tolist(), strict=True)
    return [Estimate(mean, deviation) for mean, deviation in pairs]


def _nearest(by_depth: Mapping[int | None, Float64], depth: int) -> Float64 | None:
    """That of the nearest depth that was measured, the deeper of two."""
    known = [one for one in by_depth if one is not None]
    if not known:
        return None
    return by_depth[min(known, key=lambda one: (abs(one - depth), -one))]


def _sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))
