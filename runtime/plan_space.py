"""All plans of some sensors: what each sensor does, times depth and precision of the tail.

Made once and kept; a decision only looks things up in it. It knows no costs and no budgets. Per
sensor there are three actions, so S sensors have 3^S states; a plan is a state and a variant. What
adds up or multiplies over sensors is worked out for two halves of the sensors and then once for all
pairs of halves, which takes a few microseconds for 6,561 states.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .model_config import Precision
from .plans import SensorAction

Float = NDArray[np.float32]

#: Actions of a sensor as they are numbered in `PlanSpace.states`.
OFF, REUSE, RUN = 0, 1, 2
ACTIONS = 3
_ACTION_NAMES: tuple[SensorAction | None, ...] = (None, "reuse", "run")
_NUMBERS: Mapping[SensorAction, int] = {"reuse": REUSE, "run": RUN}


@dataclass(frozen=True)
class PlanSpace:
    """The plans of `sensors` at `variants`.

    Attributes:
        sensors: in the pack's order.
        variants: depths and precisions of the tail, in the order in which equals are preferred.
    """

    sensors: tuple[str, ...]
    variants: tuple[tuple[int, Precision], ...]

    @cached_property
    def states(self) -> NDArray[np.uint8]:
        """`[states, sensors]`: action of each sensor; the last sensor changes fastest."""
        return _combinations(len(self.sensors))

    @property
    def num_states(self) -> int:
        return ACTIONS ** len(self.sensors)

    @cached_property
    def strides(self) -> NDArray[np.intp]:
        """By how much a state's number grows with the number of each sensor's action."""
        return ACTIONS ** np.arange(len(self.sensors), dtype=np.intp)[::-1]

    def state_of(self, actions: Mapping[str, SensorAction]) -> int:
        """Number of the state in which sensors do this; those not named are off."""
        numbers = [_NUMBERS[actions[s]] if s in actions else OFF for s in self.sensors]
        return int(np.dot(self.strides, numbers)) if numbers else 0

    def actions(self, state: int) -> dict[str, SensorAction]:
        """What the sensors do that are not off in a state, in order."""
        named = zip(self.sensors, self.states[state].tolist(), strict=True)
        return {s: name for s, number in named if (name := _ACTION_NAMES[number]) is not None}

    def totals(self, per_action: Float) -> Float:
        """Sums over sensors for all states.

        Args:
            per_action: float32 `[..., sensors, 3]`, what each action of each sensor adds.

        Returns:
            float32 `[..., states]`.
        """
        first, second = self._halves
        flat = per_action.reshape(*per_action.shape[:-2], -1)
        cut = first.shape[0]
        left, right = flat[..., :cut] @ first, flat[..., cut:] @ second
        joined = np.add(left[..., :, None], right[..., None, :], dtype=np.float32)
        return joined.reshape(*left.shape[:-1], -1)

    def products(self, per_action: Float) -> Float:
        """Products over sensors for all states, with arguments and result as `totals`."""
        half = (len(self.sensors) + 1) // 2
        left, right = _products(per_action[..., :half, :]), _products(per_action[..., half:, :])
        joined = np.multiply(left[..., :, None], right[..., None, :], dtype=np.float32)
        return joined.reshape(*left.shape[:-1], -1)

    @cached_property
    def _halves(self) -> tuple[Float, Float]:
        """Which actions are in which state of either half, as 0 and 1, `[3 sensors, states]`."""
        half = (len(self.sensors) + 1) // 2
        return _one_hot(half), _one_hot(len(self.sensors) - half)


def _combinations(sensors: int) -> NDArray[np.uint8]:
    every = list(itertools.product(range(ACTIONS), repeat=sensors))
    return np.array(every, dtype=np.uint8).reshape(len(every), sensors)


def _one_hot(sensors: int) -> Float:
    states = _combinations(sensors)
    hot = states[:, :, None] == np.arange(ACTIONS, dtype=np.uint8)
    return np.ascontiguousarray(hot.reshape(len(states), -1).T, dtype=np.float32)


def _products(per_action: Float) -> Float:
    out = np.ones((*per_action.shape[:-2], 1), dtype=np.float32)
    for sensor in range(per_action.shape[-2]):
        grown = out[..., :, None] * per_action[..., None, sensor, :]
        out = grown.reshape(*out.shape[:-1], -1)
    return out
