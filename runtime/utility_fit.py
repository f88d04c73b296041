"""Fits how often plans are right to a calibration table: a hierarchical logistic regression.

Every effect (a modality's coverage, its square, the overlap of two) has one coefficient for all
questions and small deviations for each kind, condition and pair of them. Deviations are drawn to
nothing by a Gaussian prior whose width is learned from the counts, so that full cells speak for
themselves and sparse ones lean on their neighbours. How fast tokens age is fitted beside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .calibration_table import CalibrationCell
from .question_kinds import KINDS, Topic, read_key
from .utility_features import SensorTraits

Float64 = NDArray[np.float64]

#: Lengths of time in which a token loses all but 1/e of its worth: where fitting begins, limits.
_START_MS, _LEAST_MS, _MOST_MS = 1500.0, 100.0, 60_000.0
#: Weight of the prior on the logarithm of a life, and the largest step of it in a round.
_LIFE_PRIOR, _LARGEST_STEP = 4.0, 0.7
#: Rounds of fitting at most; it ends when the likelihood of a question changes by less.
_ROUNDS, _TOLERANCE = 15, 2e-5
_EDGE = 1e-3
#: Width of the prior of coefficients that all questions share, and limits of the learned ones.
_WIDE, _NARROWEST, _WIDEST = 3.0, 0.02, 3.0
#: Logits beforehand, with their widths: of answers that rest on nothing, and of what it adds to see
#: all that is asked about. Old tables have no plan that sees little, so they cannot tell.
_ASKED, _ASKED_WIDTH = -0.5, 0.7
_SEEN, _SEEN_WIDTH = 1.5, 1.0
_LARGEST_LOGIT, _LARGEST_MOVE = 15.0, 2.0
#: Of a question of another kind nothing is known but what all have in common.
_KNOWN = KINDS[:-1]
#: Parts of the context that squares and overlaps depend on; more would never be told apart.
_FEW = ("all", "kind", "direction", "condition")


class Contexts:
    """Where a question stands: kind, whether it names a direction, condition; as 0 and 1."""

    def __init__(self, conditions: Sequence[str]) -> None:
        self.conditions = tuple(conditions)
        kinds, count = len(_KNOWN), len(self.conditions)
        #: Name of each part, and how many columns it has.
        self.parts = {
            "all": 1,
            "kind": kinds,
            "direction": 1,
            "kind, direction": kinds,
            "condition": count,
            "kind, condition": kinds * count,
        }
        self.size = sum(self.parts.values())
        starts = np.cumsum([0, *self.parts.values()])
        #: Where each part lies.
        self.places = {
            name: slice(int(start), int(stop))
            for name, start, stop in zip(self.parts, starts, starts[1:], strict=False)
        }

    def row(self, topic: Topic, condition: str | None) -> Float64:
        """`[size]`; what is not known has zeros, which is the average of what is."""
        kind = np.array([float(topic.kind == one) for one in _KNOWN])
        place = np.array([float(condition == one) for one in self.conditions])
        named = float(bool(topic.directions))
        parts = [[1.0], kind, [named], named * kind, place, np.outer(kind, place).ravel()]
        return np.concatenate([np.asarray(part, np.float64) for part in parts])


@dataclass(frozen=True)
class Fit:
    """What was fitted.

    Attributes:
        coefficients: `[effects, contexts]`.
        columns: effect and contexts of the rows of the covariance.
        covariance: of the coefficients that were fitted.
        life_ms: by modality, in what time a token loses all but 1/e of its worth.
        widths: of priors, by their names.
        rounds: that it took.
    """

    coefficients: Float64
    columns: tuple[tuple[int, slice], ...]
    covariance: Float64
    life_ms: Float64
    widths: Mapping[str, float]
    rounds: int


class Design:
    """Effects of plans: from coverage by modality to the columns of a regression."""

    def __init__(self, traits: SensorTraits, contexts: Contexts) -> None:
        self.traits, self.contexts = traits, contexts
        groups = len(traits.groups)
        #: Modalities with several sensors; their worth need not add up.
        self.several = [
            number
            for number, name in enumerate(traits.groups)
            if list(traits.modalities.values()).count(name) > 1
        ]
        self.pairs = [(one, other) for one in range(groups) for other in range(one + 1, groups)]
        #: Effects: being asked at all, coverage of each modality, its square, overlaps.
        self.effects = 1 + groups + len(self.several) + len(self.pairs)

    def values(self, seen: Float64) -> Float64:
        """`[n, effects]` from coverage by modality, `[n, modalities]`."""
        columns = [np.ones(len(seen)), *seen.T]
        columns += [seen[:, one] ** 2 for one in self.several]
        columns += [seen[:, one] * seen[:, other] for one, other in self.pairs]
        return np.stack(columns, axis=1)

    def slopes(self, seen: Float64, group: int) -> Float64:
        """`[n, effects]`: how effects change with the coverage of one modality."""
        out = np.zeros((len(seen), self.effects))
        out[:, 1 + group] = 1
        at = 1 + seen.shape[1]
        for place, one in enumerate(self.several):
            if one == group:
                out[:, at + place] = 2 * seen[:, one]
        at += len(self.several)
        for place, (one, other) in enumerate(self.pairs):
            if group == one:
                out[:, at + place] = seen[:, other]
            elif group == other:
                out[:, at + place] = seen[:, one]
        return out

    def scales(self) -> list[tuple[int, slice, str | None]]:
        """Effect, its contexts, and the name of the prior that they share; None is the wide one.

        In the order of the columns of the regression.
        """
        groups = len(self.traits.groups)
        found: list[tuple[int, slice, str | None]] = []
        for effect in range(self.effects):
            sort = "asked" if not effect else "seen" if effect <= groups else "together"
            for part in _FEW if sort == "together" else self.contexts.parts:
                # What all questions share is hardly drawn to nothing.
                shared = part in ("all", "direction")
                name = None if shared else f"{sort}: {part}"
                found.append((effect, self.contexts.places[part], name))
        return found


@dataclass(frozen=True)
class Counts:
    """Cells of a table as arrays.

    Attributes:
        context: `[n, contexts]`.
        cover: `[n, sensors]`, coverage of what is asked by each sensor of the plan, 0 of others.
        age_ms: `[n, sensors]`, 0 of others.
        group: `[sensors, modalities]`, 0 and 1.
        questions: `[n]`.
        right: `[n]`.
    """

    context: Float64
    cover: Float64
    age_ms: Float64
    group: Float64
    questions: Float64
    right: Float64

    def seen(self, life_ms: Float64) -> Float64:
        """Coverage by modality, `[n, modalities]`, with tokens that lose their worth with age."""
        return (self.cover * self._fresh(life_ms)) @ self.group

    def seen_slope(self, life_ms: Float64) -> Float64:
        """Change of `seen` with the logarithm of each modality's life."""
        fading = self.age_ms / (self.group @ life_ms)
        return (self.cover * self._fresh(life_ms) * fading) @ self.group

    def _fresh(self, life_ms: Float64) -> Float64:
        return np.exp(-self.age_ms / (self.group @ life_ms))


def counts_of(cells: Sequence[CalibrationCell], traits: SensorTraits, contexts: Contexts) -> Counts:
    """Cells as arrays; sensors that the pack does not have are left out of plans."""
    sensors = tuple(traits.modalities)
    place = {sensor: number for number, sensor in enumerate(sensors)}
    topics = {key: read_key(key) for key in {cell.topic for cell in cells}}
    covers = {key: traits.coverages(sensors, [topic])[0] for key, topic in topics.items()}
    rows = {
        key: contexts.row(topics[key[0]], key[1])
        for key in {(cell.topic, cell.condition) for cell in cells}
    }
    used = np.zeros((len(cells), len(sensors)))
    age_ms = np.zeros_like(used)
    for number, cell in enumerate(cells):
        for sensor, age in zip(cell.plan.sensors, cell.plan.ages_ms, strict=True):
            if sensor in place:
                used[number, place[sensor]] = 1
                age_ms[number, place[sensor]] = age
    group = np.zeros((len(sensors), len(traits.groups)))
    for sensor, number in place.items():
        group[number, traits.groups.index(traits.modalities[sensor])] = 1
    return Counts(
        context=np.stack([rows[cell.topic, cell.condition] for cell in cells]),
        cover=used * np.stack([covers[cell.topic] for cell in cells]),
        age_ms=age_ms,
        group=group,
        questions=np.array([cell.questions for cell in cells], np.float64),
        right=np.array([cell.right for cell in cells], np.float64),
    )


def fit(counts: Counts, design: Design, dispersion: float = 1.0) -> Fit:
    """Fit by Newton's method, with widths of priors and lives of tokens learned on the way.

    Widths follow MacKay's fixed point (Bayesian Interpolation, 1992): the sum of squared
    coefficients over how many of them the counts decide. Lives are part of each Newton step by
    their slopes (Gauss-Newton).

    Args:
        counts: of the reference depth and precision.
        design: of the effects.
        dispersion: of the table. Answers of one scene have much in common, so that many of them
            tell no more than one would; all counts are taken to be so many times smaller (a
            quasi-likelihood, Wedderburn 1974). Predicts scenes left out better than taking them
            for independent.
    """
    questions, right = counts.questions / dispersion, counts.right / dispersion
    scales = design.scales()
    lengths = [place.stop - place.start for _, place, _ in scales]
    total, groups = sum(lengths), counts.group.shape[1]
    owner = np.repeat(np.arange(len(scales)), lengths)
    first = design.contexts.places["all"]
    names = [name for _, _, name in scales]
    widths = {name: 0.3 for name in names if name is not None}
    shared = [effect if part == first else -1 for effect, part, _ in scales]
    effect_of = np.array(shared)[owner]
    sees = (effect_of > 0) & (effect_of <= groups)
    centre = np.select([effect_of == 0, sees], [_ASKED, _SEEN], 0.0)
    beta, life = centre.copy(), np.full(groups, np.log(_START_MS))
    aged = ((counts.age_ms * (counts.cover > 0)) @ counts.group).any(axis=0)
    score, rounds, hessian = -np.inf, 0, np.eye(total)
    while rounds < _ROUNDS:
        rounds += 1
        seen = counts.seen(np.exp(life))
        values = design.values(seen)
        matrix = np.concatenate(
            [values[:, effect, None] * counts.context[:, place] for effect, place, _ in scales], 1
        )
        strength = counts.context @ _spread_out(beta, scales, design).T
        slope = counts.seen_slope(np.exp(life)) * aged
        tilt = [(design.slopes(seen, g) * strength).sum(1) * slope[:, g] for g in range(groups)]
        both = np.concatenate([matrix, np.stack(tilt, 1)], axis=1)
        eta = np.clip(matrix @ beta, -_LARGEST_LOGIT, _LARGEST_LOGIT)
        mean = 1 / (1 + np.exp(-eta))
        # In single precision: this product is nearly all of the time.
        root = np.sqrt(questions * mean * (1 - mean))
        scaled = (both * root[:, None]).astype(np.float32)
        hessian = (scaled.T @ scaled).astype(np.float64)
        own = np.array([_WIDE if name is None else widths[name] for name in names])[owner]
        own = np.select([effect_of == 0, sees], [_ASKED_WIDTH, _SEEN_WIDTH], own)
        prior = np.concatenate([own**-2, np.full(groups, _LIFE_PRIOR)])
        hessian[np.diag_indices_from(hessian)] += prior
        drift = np.concatenate([beta - centre, life - np.log(_START_MS)])
        residual = right - questions * mean
        step = np.linalg.solve(hessian, both.T @ residual - prior * drift)
        # Newton's method runs away from a bad start: no logit moves by more than this at once.
        step *= min(1.0, _LARGEST_MOVE / max(float(np.abs(both @ step).max()), _EDGE))
        beta = beta + step[:total]
        life = life + np.clip(step[total:], -_LARGEST_STEP, _LARGEST_STEP)
        life = np.clip(life, np.log(_LEAST_MS), np.log(_MOST_MS))
        spread = np.diag(np.linalg.inv(hessian))[:total]
        for name in widths:
            mine = np.array([one == name for one in names])[owner]
            # How many of the coefficients the counts decide, rather than the prior.
            decided = mine.sum() - spread[mine].sum() / widths[name] ** 2
            width = np.sqrt((beta[mine] ** 2).sum() / max(decided, _EDGE))
            widths[name] = float(np.clip(width, _NARROWEST, _WIDEST))
        reached = _log_likelihood(counts, mean)
        if abs(reached - score) < _TOLERANCE * counts.questions.sum():
            break
        score = reached
    covariance: Float64 = np.linalg.inv(hessian)[:total, :total].astype(np.float64)
    return Fit(
        coefficients=_spread_out(beta, scales, design),
        columns=tuple((effect, place) for effect, place, _ in scales),
        covariance=covariance,
        life_ms=np.exp(life),
        widths=widths,
        rounds=rounds,
    )


def blind_and_gain(
    cells: Sequence[CalibrationCell], design: Design, fitted: Fit
) -> tuple[Float64, Float64]:
    """Of each cell at the reference: accuracy without sensors, and what the plan adds to it."""
    counts = counts_of(cells, design.traits, design.contexts)
    strength = counts.context @ fitted.coefficients.T
    blind = 1 / (1 + np.exp(-strength[:, 0]))
    values = design.values(counts.seen(fitted.life_ms))
    return blind, 1 / (1 + np.exp(-(values * strength).sum(axis=1))) - blind


def _spread_out(
    beta: Float64, scales: Sequence[tuple[int, slice, str | None]], design: Design
) -> Float64:
    """`[effects, contexts]` of the coefficients, 0 where an effect has none."""
    out = np.zeros((design.effects, design.contexts.size))
    at = 0
    for effect, place, _ in scales:
        count = place.stop - place.start
        out[effect, place] = beta[at : at + count]
        at += count
    return out


def _log_likelihood(counts: Counts, mean: Float64) -> float:
    wrong = counts.questions - counts.right
    return float(np.sum(counts.right * np.log(mean) + wrong * np.log1p(-mean)))
