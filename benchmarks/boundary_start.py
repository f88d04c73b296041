"""A trained connection moved to another boundary of the language model, without any training.

A conditioned connection reads the question at the boundary before its tail. In front of a tail of
another depth it meets other states; a linear map from these to what it read before (least squares
over texts) lets it go on where it stood. Blocks that the earlier tail lacked find keys that nobody
looks at. So tails of all depths begin with one and the same trained connection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..runtime.adaptation.readout import OPEN_GATE, ignored_key
from ..runtime.adaptation.samples import HeadTexts

Weights = dict[str, NDArray[np.float32]]

#: Of the mean square of a state's entries, added to each of its own.
_RIDGE = 1e-4
_EPSILON = 1e-5


@dataclass(frozen=True, eq=False)
class MovedReading:
    """How a question is read at another boundary.

    Attributes:
        weights: `question.norm`, `question.w` and `question.b`.
        explained: share of the variance of what was read at the earlier boundary that is read here,
            of texts that were not fitted; of the fitted ones where there are no others.
    """

    weights: Weights
    explained: float


def moved_reading(
    weights: Mapping[str, NDArray[np.float32]],
    earlier: HeadTexts,
    here: HeadTexts,
    fitted: Sequence[int] | NDArray[np.integer],
    others: Sequence[int] | NDArray[np.integer] = (),
) -> MovedReading:
    """Solve for the reading of questions at another boundary.

    Args:
        weights: of the conditioned connection, trained at the earlier boundary.
        earlier: head states there.
        here: head states of the same texts at the other boundary.
        fitted: texts to solve with.
        others: texts to tell how well it fits.
    """
    norm, matrix = (weights[f"question.{name}"].astype(np.float64) for name in ("norm", "w"))
    bias = weights["question.b"].astype(np.float64)

    def read_before(texts: Sequence[int] | NDArray[np.integer]) -> NDArray[np.float64]:
        return _normed(earlier, texts) * norm @ matrix + bias

    states, wanted = _normed(here, fitted), read_before(fitted)
    centre, middle = states.mean(0), wanted.mean(0)
    spread = states - centre
    squares = spread.T @ spread
    ridge = _RIDGE * len(states) * np.square(states).mean() * np.eye(len(squares))
    found = np.linalg.solve(squares + ridge, spread.T @ (wanted - middle))
    told = others if len(others) else fitted
    truth = read_before(told)
    missed = truth - ((_normed(here, told) - centre) @ found + middle)
    return MovedReading(
        {
            "question.norm": np.ones(len(found), np.float32),
            "question.w": found.astype(np.float32),
            "question.b": (middle - centre @ found).astype(np.float32),
        },
        float(1 - np.square(missed).sum() / np.square(truth - truth.mean(0)).sum()),
    )


def leave_alone(weights: Weights, blocks: int, queries: Sequence[Tensor], kv_heads: int) -> Weights:
    """Give the first blocks of a tail rows that nobody looks at, whatever the sensors say.

    Args:
        weights: of the conditioned connection, for the whole tail.
        blocks: how many first ones.
        queries: of these blocks at least, the mean query of last tokens `[heads, head_dim]`.
        kv_heads: of the language model.

    Returns:
        The weights, with keys, values and gates of these blocks written anew.
    """
    made = {name: array.copy() for name, array in weights.items()}
    depth = len(made["gate.summary"])
    for side in ("key", "value"):
        for part in ("w", "b"):
            array = made[f"{side}.{part}"]
            array.reshape(*array.shape[:-1], depth, -1)[..., :blocks, :] = 0
    keys = made["key.b"].reshape(depth, -1)
    for block in range(blocks):
        key = ignored_key(queries[block], kv_heads)
        keys[block] = key.reshape(-1).cpu().numpy()
    for name, array in made.items():
        if name.startswith("gate."):
            array[:blocks] = OPEN_GATE
    return made


def _states(heads: HeadTexts, texts: Sequence[int] | NDArray[np.integer]) -> NDArray[np.float16]:
    at = heads.offsets
    return np.concatenate([heads.states[at[text] : at[text + 1]] for text in texts])


def _normed(heads: HeadTexts, texts: Sequence[int] | NDArray[np.integer]) -> NDArray[np.float64]:
    states = _states(heads, texts).astype(np.float64)
    return states / np.sqrt(np.square(states).mean(-1, keepdims=True) + _EPSILON)
