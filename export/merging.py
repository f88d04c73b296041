"""Ways to make one change of a language model out of several, without training.

Averages and sums are exact in low rank. TIES (2306.01708), DARE (2311.03099) and TSV-Merge
(2412.00081) work on whole matrices or their singular vectors, one matrix at a time; what they make
is brought to a rank again, and how much that leaves out is told.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from ..runtime.composition_specs import Method
from ..runtime.errors import ConfigError
from ..runtime.low_rank import Factors, LowRankChange, Place, join

Float = NDArray[np.float32]
METHODS: tuple[Method, ...] = get_args(Method)

#: Methods whose result is a weighted sum of the parts, so that weights can change later.
LINEAR: frozenset[Method] = frozenset({"naive", "damc", "task-arithmetic"})

#: Weight of each part where none is given; None is one by the number of parts.
DEFAULT_WEIGHT: Mapping[Method, float | None] = {
    "naive": None,
    "damc": None,
    "task-arithmetic": 1.0,
    "ties": 1.0,
    "dare": None,
    "tsv": 1.0,
}

#: Share of values that TIES and DARE keep, as in the paper on TIES.
DENSITY = 0.2


@dataclass(frozen=True)
class MergeOptions:
    """What methods need beside weights.

    Attributes:
        density: share of values that `ties` (the largest) and `dare` (drawn) keep.
        rank: of what methods make that are no sums; None takes the sum of the parts' ranks.
        seed: of what `dare` draws.
    """

    density: float = DENSITY
    rank: int | None = None
    seed: int = 0

    def check(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            ConfigError: naming the option.
        """
        if not 0 < self.density <= 1:
            raise ConfigError(
                f"{self.density} is no share", field="--density", remedy="give 0 < density <= 1"
            )
        if self.rank is not None and self.rank < 1:
            raise ConfigError(f"{self.rank} is no rank", field="--rank", remedy="give 1 or more")


@dataclass(frozen=True)
class Merged:
    """What a method made.

    Attributes:
        change: of the language model.
        left_out: share of the energy of all changed matrices that the rank has no room for.
    """

    change: LowRankChange
    left_out: float


def merge(
    method: Method, parts: Mapping[str, tuple[float, LowRankChange]], options: MergeOptions
) -> Merged:
    """Make one change out of several; the order of the parts does not matter, not for a bit.

    Args:
        method: how.
        parts: by name, weight and change.
        options: of the method.

    Raises:
        ConfigError: an option is wrong.
    """
    options.check()
    ordered = [parts[name] for name in sorted(parts)]
    if method in LINEAR:
        return Merged(join(ordered), 0.0)
    places = dict.fromkeys(place for _, change in ordered for place in change.places)
    factors: dict[Place, Factors] = {}
    kept = energy = 0.0
    for place in sorted(places):
        there = {
            name: (weight, change)
            for name, (weight, change) in sorted(parts.items())
            if place in change.factors
        }
        matrix = _merged_matrix(method, there, place, options)
        ranks = sum(change.factors[place][0].shape[1] for _, change in there.values())
        factors[place] = factor(matrix, options.rank or ranks)
        energy += float(np.square(matrix, dtype=np.float64).sum())
        left = matrix - factors[place][0] @ factors[place][1]
        kept += float(np.square(left, dtype=np.float64).sum())
    return Merged(LowRankChange(factors), kept / energy if energy else 0.0)


def factor(matrix: Float, rank: int) -> Factors:
    """The nearest product of this rank (Eckart-Young), at most the full one."""
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    rank = min(rank, len(s))
    root = np.sqrt(s[:rank])
    return (
        np.ascontiguousarray(u[:, :rank] * root, np.float32),
        np.ascontiguousarray(root[:, None] * vt[:rank], np.float32),
    )


def ties(matrices: Sequence[Float], weights: Sequence[float], density: float) -> Float:
    """Keep the largest values, elect a sign for each place, average what agrees with it.

    As `peft.utils.merge_utils.ties` with the sign by the total: weights do not count in the
    election, and the weighted sum of agreeing values is divided by how many agree.
    """
    task = np.stack([trim(matrix, density) for matrix in matrices])
    sign = np.where(task.sum(axis=0) >= 0, 1, -1)
    agrees = np.sign(task) == sign
    total = np.einsum("i,i...->...", np.asarray(weights, np.float32), task * agrees)
    return total / np.maximum(agrees.sum(axis=0), 1).astype(np.float32)


def trim(matrix: Float, density: float) -> Float:
    """Only the share of values with the largest magnitude; the others are 0."""
    count = int(density * matrix.size)
    flat = matrix.reshape(-1)
    kept = np.zeros_like(flat)
    chosen = np.argpartition(np.abs(flat), -count)[-count:] if count else np.zeros(0, np.intp)
    kept[chosen] = flat[chosen]
    return kept.reshape(matrix.shape)


def drop(matrix: Float, density: float, rng: np.random.Generator) -> Float:
    """A drawn share of the values, the larger for it, so that sums stay the same on average."""
    kept = rng.random(matrix.shape) < density
    return np.where(kept, matrix / np.float32(density), np.float32(0))


def singular_merge(factors: Sequence[Factors], weights: Sequence[float]) -> Float:
    """TSV-Merge: a share of each part's singular vectors, made orthogonal to the others'.

    Each of n parts keeps one by n of its rank; the stacked left and right vectors are replaced by
    the nearest orthogonal ones (Procrustes), so that parts do not act on each other's directions.
    """
    lefts: list[NDArray[np.float64]] = []
    values: list[NDArray[np.float64]] = []
    rights: list[NDArray[np.float64]] = []
    for weight, (a, b) in zip(weights, factors, strict=True):
        u, s, vt = _product_svd(a.astype(np.float64), b.astype(np.float64))
        count = -(-len(s) // len(factors))
        lefts.append(u[:, :count])
        values.append(weight * s[:count])
        rights.append(vt[:count])
    left, right = _nearest_orthogonal(np.hstack(lefts)), _nearest_orthogonal(np.vstack(rights))
    return ((left * np.concatenate(values)) @ right).astype(np.float32)


def _merged_matrix(
    method: Method,
    parts: Mapping[str, tuple[float, LowRankChange]],
    place: Place,
    options: MergeOptions,
) -> Float:
    weights = [weight for weight, _ in parts.values()]
    if method == "tsv":
        return singular_merge([change.factors[place] for _, change in parts.values()], weights)
    if method == "ties":
        dense = [change.dense(place) for _, change in parts.values()]
        return ties(dense, weights, options.density)
    total = np.zeros((), np.float32)
    for name, (weight, change) in parts.items():
        rng = np.random.default_rng([options.seed, _number(f"{name} {place[0]} {place[1]}")])
        total = total + np.float32(weight) * drop(change.dense(place), options.density, rng)
    return total


def _number(text: str) -> int:
    """A seed that depends on a part's name and not on its place among the others."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def _product_svd(
    a: NDArray[np.float64], b: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Singular values of `a b` without making it: two QRs and one small decomposition."""
    (qa, ra), (qb, rb) = np.linalg.qr(a), np.linalg.qr(b.T)
    u, s, vt = np.linalg.svd(ra @ rb.T)
    count = min(len(s), a.shape[1])
    return qa @ u[:, :count], s[:count], vt[:count] @ qb.T


def _nearest_orthogonal(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    u, _, vt = np.linalg.svd(matrix, full_matrices=False)
    return u @ vt
