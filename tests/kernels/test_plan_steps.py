"""Steps from plan to plan against the rule in plain Python, and all twins against each other."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwire.kernels.plan_choice import plan_shares
from tailwire.kernels.plan_steps import best_steps

from .plans import Plans, any_plans, plans
from .twins import both, compiled_plans

TIE = 1e-6


def by_the_rule(given: Plans, start: tuple[int, int]) -> tuple[int, int]:
    """The step with the highest gain for its cost, until there is none."""
    shares = plan_shares(given.shares)
    fits, index, allowed = given.possible.fits, given.possible.index, given.possible.allowed
    sensors = round(np.log(len(index)) / np.log(3))
    states = list(itertools.product(range(3), repeat=sensors))
    at = start
    while True:
        variant, state = at
        steps: list[tuple[int, int]] = []
        for sensor, action in itertools.product(range(sensors), range(3)):
            moved = (*states[state][:sensor], action, *states[state][sensor + 1 :])
            steps.append((variant, states.index(moved)))
        steps += [(other, state) for other in range(len(shares))]
        best, highest = at, 0.0
        for to in steps:
            gain = shares[to] - shares[at]
            added = given.costs[to[0], index[to[1]]] - given.costs[variant, index[state]]
            if not (fits[to[0], index[to[1]]] and allowed[to[1]] and gain > np.float32(TIE)):
                continue
            if gain / max(added, 1e-9) > highest:
                best, highest = to, gain / max(added, 1e-9)
        if best == at:
            return at
        at = best


@given(any_plans(), st.data())
@settings(max_examples=40, deadline=None)
def test_steps_are_those_of_the_rule(given: Plans, data: st.DataObject) -> None:
    variants, states = len(given.shares.least), len(given.possible.index)
    start = data.draw(st.integers(0, variants - 1)), data.draw(st.integers(0, states - 1))
    wanted = by_the_rule(given, start)
    for library in (None, compiled_plans("c")):
        found = best_steps(given.shares, given.possible, given.costs, start, TIE, library=library)
        assert (found.variant, found.state) == wanted
        assert found.share == plan_shares(given.shares)[wanted]


@both
def test_all_twins_take_the_same_steps_among_eight_sensors(language: str) -> None:
    moved = 0
    for seed in range(5):
        one = plans(seed, sensors=8, variants=8, topics=5, share_possible=0.8)
        given = (one.shares, one.possible, one.costs, (seed, 0), TIE)
        found = best_steps(*given, library=compiled_plans(language))
        assert found == best_steps(*given)
        moved += (found.variant, found.state) != (seed, 0)
    assert moved >= 3


def test_what_does_not_fit_is_an_error() -> None:
    one = plans(0)
    with pytest.raises(ValueError, match="no plan"):
        best_steps(one.shares, one.possible, one.costs, (3, 0), TIE)
    with pytest.raises(ValueError, match="costs are float64"):
        narrow: Any = one.costs.astype(np.float32)
        best_steps(one.shares, one.possible, narrow, (0, 0), TIE)
