"""Examples of senses to learn from: is there one of this kind in this direction, yes or no.

Yes and no are asked equally often of each kind and direction, so that who sees nothing is right
every other time. The surroundings are shown turned by sixths and in a mirror too: what a row says
does not depend on where it is. Several inputs at once, of one sense or of several, are of moments
that have nothing to do with each other; yes is what holds in all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ..kernels.direction_tokens import (
    DIRECTIONS,
    MIRRORED,
    mirrored_directions,
    turned_directions,
)
from ..runtime.errors import ConfigError
from .sense_packs import Sense

Tokens = NDArray[np.floating]
Facts = NDArray[np.int8]
#: Most inputs of a set.
MOST_INPUTS = 4
#: How often a set that something does not hold in has just one input in which it does not.
_ONE_MISSING = 0.7


def input_name(sense: Sense, number: int = 0) -> str:
    """Name of the tokens of an input; a set may have several of one sense."""
    return f"{sense}.{number}"


def sense_of(name: str) -> str:
    """The sense of an input."""
    return name.split(".")[0]


@dataclass(frozen=True, eq=False)
class Views:
    """Moments as a model sees them, and what holds there.

    Attributes:
        tokens: by sensor, or by input (`input_name`), `[views, 6, 64]`; zeros where a view has
            nothing of it.
        facts: int8 `[views, kinds, 6]`: 1 holds, 0 does not, -1 is open.
    """

    tokens: Mapping[str, Tokens]
    facts: Facts


Examples = tuple[Views, NDArray[np.int32]]


def views_of(
    sense: Sense,
    tokens: Mapping[str, Tokens],
    facts: Facts,
    rows: NDArray[np.int64],
    copies: int,
    rng: np.random.Generator,
) -> Views:
    """Moments of one sense, each in a few drawn turns; one copy is as it is.

    Args:
        sense: that tokens are of.
        tokens: by sensor `[moments, 6, 64]`.
        facts: `[moments, kinds, 6]`.
        rows: numbers of the moments.
        copies: of each moment.
        rng: draws turns and mirrors.
    """
    seen: dict[str, list[Tokens]] = {sensor: [] for sensor in tokens}
    held: list[Facts] = []
    for copy in range(copies):
        turns = rng.integers(DIRECTIONS, size=len(rows)) if copy else np.zeros(len(rows), int)
        mirrors = rng.random(len(rows)) < 0.5 if copy else np.zeros(len(rows), bool)
        part = facts[rows]
        part[mirrors] = part[mirrors][..., list(MIRRORED)]
        for turn in range(DIRECTIONS):
            part[turns == turn] = np.roll(part[turns == turn], turn, axis=-1)
        held.append(part)
        for sensor, whole in tokens.items():
            shown = np.array(whole[rows])
            # A row of zeros stays one: a sensor that does not look there.
            there = shown.any(axis=-1, keepdims=True)
            shown[mirrors] = mirrored_directions(shown[mirrors], sound=sense == "audio")
            for turn in range(DIRECTIONS):
                shown[turns == turn] = turned_directions(shown[turns == turn], turn)
            seen[sensor].append(shown * there)
    return Views({s: np.concatenate(parts) for s, parts in seen.items()}, np.concatenate(held))


def joined(parts: Sequence[Views]) -> Views:
    """Views of different senses one after the other."""
    sensors = list(dict.fromkeys(sensor for part in parts for sensor in part.tokens))
    shape = next(iter(parts[0].tokens.values())).shape[1:]
    tokens = {
        sensor: np.concatenate(
            [
                part.tokens.get(sensor, np.zeros((len(part.facts), *shape), np.float16))
                for part in parts
            ]
        )
        for sensor in sensors
    }
    return Views(tokens, np.concatenate([part.facts for part in parts]))


def one_input(views: Views, sense: Sense, number: int = 0) -> Views:
    """Views whose sensors are one input: rows that are there come first, six at most.

    Args:
        views: by sensors of that sense.
        sense: see `input_name`.
        number: see `input_name`.
    """
    rows = np.concatenate(list(views.tokens.values()), axis=1)
    missing = ~rows.any(axis=-1)
    if (~missing).sum(axis=1).max(initial=0) > DIRECTIONS:
        raise ConfigError(
            "a direction has two rows", field=sense, remedy="use sensors that do not overlap"
        )
    order = np.argsort(missing, axis=1, kind="stable")[:, :DIRECTIONS]
    return Views(
        {input_name(sense, number): np.take_along_axis(rows, order[..., None], 1)}, views.facts
    )


def sets_of(parts: Sequence[Views], count: int, rng: np.random.Generator) -> Examples:
    """Drawn views of several inputs at once, and questions about them.

    Something holds of them if it holds of each, and does not if it does not hold of one. Every
    other view is drawn so that something holds of all, the others so that it holds of all but one,
    or of fewer.

    Args:
        parts: one an input.
        count: views to make.
        rng: draws which views come together.

    Returns:
        Views, and questions: of each view the one that it was drawn for, and `balanced` ones.
    """
    flat = [part.facts.reshape(len(part.facts), -1) for part in parts]
    usable = [
        c
        for c in range(flat[0].shape[1])
        if all((one[:, c] == 1).any() and (one[:, c] == 0).any() for one in flat)
    ]
    count = count if usable else 0
    asked = rng.choice(usable, count) if usable else np.zeros(0, np.int64)
    holds = np.arange(count) % 2
    missing = rng.random((count, len(parts))).argsort(axis=1)
    fewer = np.where(
        rng.random(count) < _ONE_MISSING, 1, rng.integers(1, len(parts) + 1, count)
    ) * (1 - holds)
    chosen = [np.zeros(count, np.int64) for _ in parts]
    for number, (at, facts) in enumerate(zip(chosen, flat, strict=True)):
        wanted = (missing[:, number] >= fewer).astype(int)
        for concept in usable:
            for answer in (0, 1):
                here = (asked == concept) & (wanted == answer)
                at[here] = rng.choice(np.flatnonzero(facts[:, concept] == answer), int(here.sum()))
    facts = np.stack([part.facts[at] for part, at in zip(parts, chosen, strict=True)])
    whole = np.where((facts == 0).any(axis=0), 0, np.where((facts == 1).all(axis=0), 1, -1))
    tokens = {
        name: one[at]
        for part, at in zip(parts, chosen, strict=True)
        for name, one in part.tokens.items()
    }
    views = Views(tokens, whole.astype(np.int8))
    drawn = np.stack([np.arange(count), asked, holds], axis=1).astype(np.int32)
    return views, np.concatenate([drawn, balanced(views.facts, rng)])


def balanced(facts: Facts, rng: np.random.Generator) -> NDArray[np.int32]:
    """Questions with as many yes as no of each kind and direction.

    Args:
        facts: `[views, kinds, 6]`.
        rng: draws them.

    Returns:
        int32 `[questions, 3]`: view, number of the concept (kind * 6 + direction), whether it
        holds.
    """
    flat = facts.reshape(len(facts), int(np.prod(facts.shape[1:])))
    found: list[NDArray[np.int32]] = []
    for concept in range(flat.shape[1]):
        sides = [np.flatnonzero(flat[:, concept] == answer) for answer in (0, 1)]
        count = min(len(side) for side in sides)
        for answer, side in enumerate(sides):
            views = rng.permutation(side)[:count]
            row = np.stack([views, np.full(count, concept), np.full(count, answer)], axis=1)
            found.append(row.astype(np.int32))
    return np.concatenate(found)


def single_examples(
    tokens: Mapping[Sense, Mapping[str, Tokens]],
    facts: Mapping[Sense, Facts],
    rows: NDArray[np.int64],
    copies: int,
    rng: np.random.Generator,
    most: int = MOST_INPUTS,
) -> Examples:
    """Views of one sense, alone and several at once, and questions about them.

    Args:
        tokens: of that sense alone, by sensor.
        facts: by sense.
        rows: numbers of the moments.
        copies: see `views_of`.
        rng: draws.
        most: inputs of a set; of each size from two on there are a third as many as of one.
    """
    ((sense, own),) = tokens.items()
    views = views_of(sense, own, facts[sense], rows, copies, rng)
    each = [one_input(views, sense, number) for number in range(most)]
    sets = [each[:size] for size in range(2, most + 1)]
    return _with_sets(each[:1], sets, len(views.facts) // 3, rng)


def joint_examples(
    tokens: Mapping[Sense, Mapping[str, Tokens]],
    facts: Mapping[Sense, Facts],
    rows: NDArray[np.int64],
    copies: int,
    rng: np.random.Generator,
) -> Examples:
    """Views of each sense alone, and of several at once, and questions about them.

    Args:
        tokens: by sense and sensor.
        facts: by sense.
        rows: numbers of the moments.
        copies: see `views_of`; half as many of each sense, and of each set of senses about a
            third of what one sense has.
        rng: draws.
    """
    alone = [
        one_input(views_of(sense, own, facts[sense], rows, -(-copies // 2), rng), sense)
        for sense, own in tokens.items()
    ]
    sets = [c for size in range(2, len(alone) + 1) for c in combinations(alone, size)]
    return _with_sets(alone, sets, len(alone[0].facts) // 3, rng)


def _with_sets(
    alone: Sequence[Views],
    sets: Sequence[Sequence[Views]],
    count: int,
    rng: np.random.Generator,
) -> Examples:
    found = [(part, balanced(part.facts, rng)) for part in alone]
    found += [sets_of(chosen, count, rng) for chosen in sets]
    first = 0
    for views, asked in found:
        asked[:, 0] += first
        first += len(views.facts)
    return joined([views for views, _ in found]), np.concatenate([asked for _, asked in found])
