"""What sensors see of what is asked, in every state of a space of plans, and the logits of that.

A state says of each sensor whether it is off, gives tokens again or makes new ones; there are 3^S
of them for S sensors, the last of which changes fastest. The compiled twin is in `plan_choice.c`
and gives the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .plan_library import PlanLibrary, address_of

Float = NDArray[np.float32]

_ACTIONS = 3
#: Sensors whose states are looked at side by side; what the others add is a number to them.
_SIDE_BY_SIDE = 5


@dataclass(frozen=True)
class Polynomials:
    """By topic, the logit as a polynomial of how much each group of sensors sees.

    Attributes:
        cover: float32 `[topics, sensors]`, what each sensor sees of what is asked.
        base: float32 `[topics]`, the logit where nothing is seen.
        linear: float32 `[topics, groups]`.
        square: float32 `[topics, groups, groups]`, of products of two groups and, on the diagonal,
            of squares; nothing below it.

    Raises:
        ValueError: shapes or dtypes do not fit together.
    """

    cover: Float
    base: Float
    linear: Float
    square: Float

    def __post_init__(self) -> None:
        topics, groups = self.linear.shape
        shapes = (self.cover.shape[:1], self.base.shape, self.square.shape)
        if shapes != ((topics,), (topics,), (topics, groups, groups)) or self.cover.ndim != 2:
            raise ValueError(f"no polynomials of {topics} topics and {groups} groups: {shapes}")
        for array in (self.cover, self.base, self.linear, self.square):
            if array.dtype != np.float32 or not array.flags.c_contiguous:
                raise ValueError(f"polynomials are contiguous float32, not {array.dtype}")


def polynomial_logits(
    of: Polynomials,
    groups: NDArray[np.int32],
    fresh: Float,
    *,
    library: PlanLibrary | None = None,
) -> Float:
    """The logit of every topic in every state.

    A group sees the sum, over its sensors that are not off, of what each covers times how fresh its
    tokens are.

    Args:
        of: the polynomials.
        groups: int32 `[sensors]`, the group of each.
        fresh: float32 `[sensors, 2]`, of tokens that are given again and of new ones: which share
            of their worth they still have.
        library: None computes in numpy.

    Returns:
        float32 `[topics, states]`.

    Raises:
        ValueError: shapes or dtypes do not fit together.
    """
    topics, sensors = of.cover.shape
    if groups.shape != (sensors,) or groups.dtype != np.int32:
        raise ValueError(f"groups are int32 [{sensors}], got {groups.dtype} {list(groups.shape)}")
    if fresh.shape != (sensors, 2) or fresh.dtype != np.float32:
        raise ValueError(f"fresh is float32 [{sensors}, 2], got {fresh.dtype} {list(fresh.shape)}")
    out = np.empty((topics, _ACTIONS**sensors), np.float32)
    split = max(sensors - _SIDE_BY_SIDE, 0)
    number = of.linear.shape[1]
    if library is None or not topics or not sensors or not number:
        return _in_numpy(of, groups, fresh, split, out)
    states = _ACTIONS**split + _ACTIONS ** (sensors - split)
    scratch = np.empty((2 + number) * states + number, np.float32)
    library.logits(
        sensors,
        split,
        topics,
        number,
        address_of(groups),
        address_of(of.cover),
        address_of(fresh),
        address_of(of.base),
        address_of(of.linear),
        address_of(of.square),
        address_of(scratch),
        address_of(out),
    )
    return out


def _in_numpy(
    of: Polynomials, groups: NDArray[np.int32], fresh: Float, split: int, out: Float
) -> Float:
    adds = of.cover[:, :, None] * fresh
    number = of.linear.shape[1]
    left = [_seen(adds[:, :split], groups[:split] == group) for group in range(number)]
    right = [_seen(adds[:, split:], groups[split:] == group) for group in range(number)]
    few, many = _ACTIONS**split, _ACTIONS ** (len(groups) - split)
    first = np.zeros((len(out), few), np.float32)
    last = np.repeat(of.base[:, None], many, axis=1)
    _add_polynomial(of, left, first)
    _add_polynomial(of, right, last)
    pairs = out.reshape(-1, few, many)
    np.add(last[:, None, :], first[:, :, None], out=pairs)
    for group in range(number):
        across = np.zeros_like(first)
        for other in range(number):
            low, high = min(group, other), max(group, other)
            factor = of.square[:, low, high, None]
            across += (2 * factor if other == group else factor) * left[other]
        pairs += across[:, :, None] * right[group][:, None, :]
    return out


def _seen(adds: Float, mine: NDArray[np.bool_]) -> Float:
    """What a group sees in all states of some sensors, `[topics, states]`."""
    seen = np.zeros((len(adds), 1), np.float32)
    adds = adds * mine[:, None]
    for sensor in reversed(range(adds.shape[1])):
        held, made = adds[:, sensor, :1], adds[:, sensor, 1:]
        seen = np.concatenate([seen, seen + held, seen + made], axis=1)
    return seen


def _add_polynomial(of: Polynomials, seen: list[Float], out: Float) -> None:
    """Add the polynomials of what the groups see to `out`, `[topics, states]`."""
    for one, its in enumerate(seen):
        inner = np.repeat(of.linear[:, one, None], its.shape[1], axis=1)
        for other in range(one, len(seen)):
            inner += of.square[:, one, other, None] * seen[other]
        out += inner * its
