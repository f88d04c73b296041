"""Expected accuracy of any plan, from what a pack's calibration counted of some of them.

`fit_utility` makes the model once, when a pack is loaded; `bind` prepares the plans of a scheduler,
and `expected` looks at all of them within a decision. How counts become coefficients is in
`utility_fit.py`, what a plan offers to a question in `utility_features.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .calibration_table import CalibrationCell, CalibrationTable
from .model_config import Precision
from .pack import PackManifest
from .plan_space import ACTIONS, PlanSpace
from .question_kinds import KINDS, Topic, read_key
from .utility_features import SensorTraits
from .utility_fit import Contexts, Design, Fit, blind_and_gain, counts_of, fit

Float = NDArray[np.float32]
Float64 = NDArray[np.float64]
Variant = tuple[int | None, Precision | None]

#: Widths of what is known beforehand of the worth of a variant against the reference: of all kinds
#: of questions together, and of each kind against that.
_VARIANT_WIDTH, _KIND_WIDTH = 0.5, 0.15
_LARGEST_WORTH = 1.5
_EDGE = 1e-3
#: Mixes of questions that are kept by a bound model; standing questions are few.
_KEPT = 64


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
    ) -> None:
        """Put together what was fitted; see `fit_utility`.

        Args:
            design: effects and contexts.
            fitted: their coefficients, at the reference.
            reference: depth and precision with the most counts.
            worth: by variant, what its answers are worth beyond those of a guess without sensors,
                as a share of what those of the reference are, by kind `[kinds]`.
        """
        self.design, self.fitted = design, fitted
        self.reference, self._worth = reference, dict(worth)

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
        return blind + np.array(worth) * gain

    def bind(self, space: PlanSpace, modalities: Mapping[str, str]) -> BoundUtility:
        """Prepare a space for quick decisions.

        Args:
            space: the plans.
            modalities: by sensor of the space.
        """
        return BoundUtility(self, space, modalities)


def fit_utility(table: CalibrationTable, manifest: PackManifest) -> UtilityModel | None:
    """Make a model of a table.

    Args:
        table: of the pack.
        manifest: of the pack, for its sensors and where they look.

    Returns:
        None of a table without cells.
    """
    return fit_cells(list(table.cells), SensorTraits.of(manifest), table.dispersion)


def fit_cells(
    cells: Sequence[CalibrationCell], traits: SensorTraits, dispersion: float = 1.0
) -> UtilityModel | None:
    """As `fit_utility`, of some cells."""
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
        wanted = (cell for cell in cells)
        return [c for c in wanted if (c.plan.tail_blocks, c.plan.precision) == variant]

    fitted = fit(counts_of(of(reference), traits, contexts), design, dispersion)
    worth = {reference: np.ones(len(KINDS))}
    for variant in questions:
        if variant != reference:
            worth[variant] = _worth_of(of(variant), design, fitted)
    return UtilityModel(design, fitted, reference, worth)


def _worth_of(cells: Sequence[CalibrationCell], design: Design, fitted: Fit) -> Float64:
    """What a variant is worth against the reference, by kind; see `UtilityModel.__init__`."""
    blind, gain = blind_and_gain(cells, design, fitted)
    questions = np.array([cell.questions for cell in cells], np.float64)
    hits = np.array([cell.right for cell in cells], np.float64)
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


def _nearest(by_depth: Mapping[int | None, Float64], depth: int) -> Float64 | None:
    """That of the nearest depth that was measured, the deeper of two."""
    known = [one for one in by_depth if one is not None]
    if not known:
        return None
    return by_depth[min(known, key=lambda one: (abs(one - depth), -one))]


def _sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


@dataclass(frozen=True)
class _Mix:
    """The questions of a frame in one condition, for the plans of a space.

    Attributes:
        cover: float32 `[topics, sensors, 1]`.
        strengths: float32 `[topics, effects, 1]`, halved: a sigmoid is a hyperbolic tangent of half
            its argument.
        worth: float32 `[variants, topics]`, what the tangents are multiplied with.
        least: float32 `[variants, 1]`, what is added.
    """

    cover: Float
    strengths: Float
    worth: Float
    least: Float


class BoundUtility:
    """How often the plans of one space are right.

    States are those of the modality with the most sensors times those of all other sensors: what
    sensors of one modality have in common is worked out for each of the two parts alone, and only
    the logit and its sigmoid for all of their pairs.
    """

    def __init__(
        self, model: UtilityModel, space: PlanSpace, modalities: Mapping[str, str]
    ) -> None:
        """Prepare; see `UtilityModel.bind`."""
        self._model, self._space = model, space
        traits = model.traits
        names = traits.groups
        groups = [
            names.index(modalities[s]) if modalities.get(s) in names else None
            for s in space.sensors
        ]
        self._groups = groups
        counts = [groups.count(group) for group in range(len(names))]
        self._large = int(np.argmax(counts)) if names else 0
        first = [at for at, group in enumerate(groups) if group == self._large]
        rest = [at for at, group in enumerate(groups) if group != self._large]
        self._first, self._rest = _Part(first), _Part(rest)
        order = self._first.number(space) * self._rest.states + self._rest.number(space)
        self._order = None if np.array_equal(order, np.arange(len(order))) else order
        life_ms = [np.inf if g is None else model.fitted.life_ms[g] for g in groups]
        self._decay = -1 / np.asarray(life_ms, np.float32)[:, None]
        self._others = [g for g in dict.fromkeys(groups) if g is not None and g != self._large]
        self._mixes: dict[tuple[tuple[tuple[str, float], ...], str | None], _Mix] = {}

    def expected(
        self, weights: Mapping[str, float], condition: str | None, ages_ms: Float
    ) -> Float:
        """Expected share of right answers of every plan.

        Args:
            weights: kind of question (or `Topic.key`) to the sum of priorities asked of it.
            condition: of light and weather, None if it is not known.
            ages_ms: float32 `[sensors, 2]`, of tokens that are reused and of tokens made now; what
                there is not may be any finite number or NaN.

        Returns:
            float32 `[variants, states]`.
        """
        key = (tuple(weights.items()), condition)
        mix = self._mixes.get(key)
        if mix is None:
            if len(self._mixes) >= _KEPT:
                self._mixes.clear()
            mix = self._mixes[key] = self._mixed(weights, condition)
        tangents = self._half_logits(mix, ages_ms)
        np.tanh(tangents, out=tangents)
        found = mix.worth @ tangents.reshape(len(tangents), -1)
        found += mix.least
        return found if self._order is None else found[:, self._order]

    def _half_logits(self, mix: _Mix, ages_ms: Float) -> Float:
        """`[topics, states of the first part, states of the rest]`."""
        large, strength, topics = self._large, mix.strengths, len(mix.cover)
        # Off sees nothing; the two others by the age of their tokens.
        action = np.zeros((topics, len(self._groups), ACTIONS), np.float32)
        fresh = np.exp(self._decay * np.nan_to_num(ages_ms))
        np.multiply(mix.cover, fresh, out=action[:, :, 1:])
        # The logit is seen * across + own + base, a product of three columns with three rows.
        left = np.ones((topics, self._first.states, 3), np.float32)
        right = np.ones((topics, 3, self._rest.states), np.float32)
        seen = self._first.seen(action, self._groups, large)
        own = strength[:, 1 + large] * seen
        other = {g: self._rest.seen(action, self._groups, g) for g in self._others}
        base, across = right[:, 2], right[:, 0]
        base[:] = strength[:, 0]
        across[:] = 0
        for group, its in other.items():
            base += strength[:, 1 + group] * its
        design = self._model.design
        at = 1 + len(design.traits.groups)
        for group in design.several:
            if group == large:
                own += strength[:, at] * seen**2
            elif group in other:
                base += strength[:, at] * other[group] ** 2
            at += 1
        for one, two in design.pairs:
            if large in (one, two):
                group = two if one == large else one
                if group in other:
                    across += strength[:, at] * other[group]
            elif one in other and two in other:
                base += strength[:, at] * other[one] * other[two]
            at += 1
        left[:, :, 0], left[:, :, 1] = seen, own
        return left @ right

    def _mixed(self, weights: Mapping[str, float], condition: str | None) -> _Mix:
        model, traits = self._model, self._model.traits
        topics = [read_key(key) for key in weights]
        total = sum(weights.values())
        share = np.array([weight / total for weight in weights.values()])
        strengths = np.stack([model.strengths(topic, condition) for topic in topics])
        kinds = [KINDS.index(topic.kind) for topic in topics]
        variants = self._space.variants
        worth = np.stack([model.worth(depth, precision)[kinds] for depth, precision in variants])
        blind = 1 / (1 + np.exp(-strengths[:, 0]))
        least = (share * (worth / 2 + (1 - worth) * blind)).sum(axis=1)
        known = np.array([group is not None for group in self._groups], np.float64)
        cover = traits.coverages(self._space.sensors, topics) * known
        return _Mix(
            cover=cover.astype(np.float32)[:, :, None],
            strengths=(strengths / 2).astype(np.float32)[:, :, None],
            worth=(share * worth / 2).astype(np.float32),
            least=least.astype(np.float32)[:, None],
        )


class _Part:
    """Some of the sensors of a space, with all that they can do."""

    def __init__(self, places: Sequence[int]) -> None:
        """Number their states; `places` are their numbers in the space."""
        self.places = list(places)
        self.states = ACTIONS ** len(self.places)
        space = PlanSpace(tuple(map(str, self.places)), ())
        hot = space.states[:, :, None] == np.arange(ACTIONS)
        #: Which action of which sensor a state has, `[sensors, 3, states]`.
        self._hot = np.ascontiguousarray(hot.transpose(1, 2, 0), np.float32)

    def number(self, space: PlanSpace) -> NDArray[np.intp]:
        """The number of this part in each state of the space."""
        powers = ACTIONS ** np.arange(len(self.places), dtype=np.intp)[::-1]
        return space.states[:, self.places].astype(np.intp) @ powers

    def seen(self, action: Float, groups: Sequence[int | None], group: int) -> Float:
        """Coverage of a modality, `[topics, states]`, from that of actions `[topics, all, 3]`."""
        mine = [at for at, place in enumerate(self.places) if groups[place] == group]
        values = action[:, [self.places[at] for at in mine]].reshape(len(action), -1)
        return values @ self._hot[mine].reshape(-1, self.states)
