"""Examples of single senses to learn from: is there one of this kind in this direction, yes or no.

Yes and no are asked equally often of each kind and direction, so that who sees nothing is right
every other time. The surroundings are shown turned by sixths and in a mirror too: what a row says
does not depend on where it is.
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
from .sense_packs import Sense

Tokens = NDArray[np.floating]
Facts = NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Views:
    """Moments as a model sees them, and what holds there.

    Attributes:
        tokens: by sensor `[views, 6, 64]`; zeros where a view has nothing of the sensor.
        facts: int8 `[views, kinds, 6]`: 1 holds, 0 does not, -1 is open.
    """

    tokens: Mapping[str, Tokens]
    facts: Facts


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


def together(parts: Sequence[Views], count: int, rng: np.random.Generator) -> Views:
    """Drawn views of several senses at once, of moments that have nothing to do with each other.

    Something holds of them if it holds of each, and does not if it does not hold of one. In each
    drawn view one thing at least holds.

    Args:
        parts: one a sense.
        count: views to make.
        rng: draws which views come together.
    """
    flat = [part.facts.reshape(len(part.facts), -1) for part in parts]
    usable = [c for c in range(flat[0].shape[1]) if all((one[:, c] == 1).any() for one in flat)]
    shared = rng.choice(usable, count) if usable else np.zeros(0, np.int64)
    chosen = [np.zeros(len(shared), np.int64) for _ in parts]
    for concept in usable:
        for at, facts in zip(chosen, flat, strict=True):
            at[shared == concept] = rng.choice(
                np.flatnonzero(facts[:, concept] == 1), int((shared == concept).sum())
            )
    facts = np.stack([part.facts[at] for part, at in zip(parts, chosen, strict=True)])
    whole = np.where((facts == 0).any(axis=0), 0, np.where((facts == 1).all(axis=0), 1, -1))
    tokens = {
        sensor: one[at]
        for part, at in zip(parts, chosen, strict=True)
        for sensor, one in part.tokens.items()
    }
    return Views(tokens, whole.astype(np.int8))


def balanced(facts: Facts, rng: np.random.Generator) -> NDArray[np.int32]:
    """Questions with as many yes as no of each kind and direction.

    Args:
        facts: `[views, kinds, 6]`.
        rng: draws them.

    Returns:
        int32 `[questions, 3]`: view, number of the concept (kind * 6 + direction), whether it
        holds.
    """
    flat = facts.reshape(len(facts), -1)
    found: list[NDArray[np.int32]] = []
    for concept in range(flat.shape[1]):
        sides = [np.flatnonzero(flat[:, concept] == answer) for answer in (0, 1)]
        count = min(len(side) for side in sides)
        for answer, side in enumerate(sides):
            views = rng.permutation(side)[:count]
            row = np.stack([views, np.full(count, concept), np.full(count, answer)], axis=1)
            found.append(row.astype(np.int32))
    return np.concatenate(found)


Examples = tuple[Views, NDArray[np.int32]]


def single_examples(
    tokens: Mapping[Sense, Mapping[str, Tokens]],
    facts: Mapping[Sense, Facts],
    rows: NDArray[np.int64],
    copies: int,
    rng: np.random.Generator,
) -> Examples:
    """Views of one sense, and questions about them.

    Args:
        tokens: of that sense alone, by sensor.
        facts: by sense.
        rows: numbers of the moments.
        copies: see `views_of`.
        rng: draws.
    """
    ((sense, own),) = tokens.items()
    views = views_of(sense, own, facts[sense], rows, copies, rng)
    return views, balanced(views.facts, rng)


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
        views_of(sense, own, facts[sense], rows, -(-copies // 2), rng)
        for sense, own in tokens.items()
    ]
    shared = [
        together(chosen, len(alone[0].facts) // 3, rng)
        for size in range(2, len(alone) + 1)
        for chosen in combinations(alone, size)
    ]
    questions: list[NDArray[np.int32]] = []
    first = 0
    for part in (*alone, *shared):
        asked = balanced(part.facts, rng)
        asked[:, 0] += first
        questions.append(asked)
        first += len(part.facts)
    return joined([*alone, *shared]), np.concatenate(questions)
