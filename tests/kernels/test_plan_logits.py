"""Logits of all states against each state alone, and all twins against each other."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tailwire.kernels.plan_logits import Polynomials, polynomial_logits

from .twins import both, compiled_plans

Case = tuple[Polynomials, NDArray[np.int32], NDArray[np.float32]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    sensors, topics = draw(st.integers(0, 8)), draw(st.integers(1, 4))
    groups = draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    square = np.triu(rng.normal(size=(topics, groups, groups)))
    square[rng.random(square.shape) < 0.3] = 0
    of = Polynomials(
        cover=rng.random((topics, sensors), dtype=np.float32),
        base=rng.normal(size=topics).astype(np.float32),
        linear=rng.normal(size=(topics, groups)).astype(np.float32),
        square=square.astype(np.float32),
    )
    fresh = rng.random((sensors, 2), dtype=np.float32)
    return of, rng.integers(0, groups, sensors).astype(np.int32), fresh


@given(cases(), st.data())
@settings(max_examples=60, deadline=None)
def test_each_state_has_the_logit_that_it_has_alone(case: Case, data: st.DataObject) -> None:
    of, groups, fresh = case
    topics, sensors = of.cover.shape
    found = polynomial_logits(of, groups, fresh, library=compiled_plans("c"))
    assert found.shape == (topics, 3**sensors) and found.dtype == np.float32
    states = list(itertools.product(range(3), repeat=sensors))
    for _ in range(10):
        state = data.draw(st.integers(0, len(states) - 1))
        topic = data.draw(st.integers(0, topics - 1))
        seen = [0.0] * of.linear.shape[1]
        for sensor, action in enumerate(states[state]):
            if action:
                worth = float(of.cover[topic, sensor]) * float(fresh[sensor, action - 1])
                seen[groups[sensor]] += worth
        logit = float(of.base[topic])
        for one, its in enumerate(seen):
            logit += float(of.linear[topic, one]) * its
            for other, more in enumerate(seen):
                logit += float(of.square[topic, one, other]) * its * more
        assert found[topic, state] == pytest.approx(logit, abs=1e-4, rel=1e-5)


@both
@given(case=cases())
@settings(max_examples=60, deadline=None)
def test_all_twins_give_the_same_bits(language: str, case: Case) -> None:
    found = polynomial_logits(*case, library=compiled_plans(language))
    np.testing.assert_array_equal(found, polynomial_logits(*case))


def test_what_does_not_fit_is_an_error() -> None:
    of = Polynomials(
        cover=np.zeros((2, 3), np.float32),
        base=np.zeros(2, np.float32),
        linear=np.zeros((2, 1), np.float32),
        square=np.zeros((2, 1, 1), np.float32),
    )
    groups, fresh = np.zeros(3, np.int32), np.zeros((3, 2), np.float32)
    with pytest.raises(ValueError, match=r"groups are int32 \[3\]"):
        polynomial_logits(of, groups[:2], fresh)
    with pytest.raises(ValueError, match=r"fresh is float32 \[3, 2\]"):
        wide: Any = fresh.astype(np.float64)
        polynomial_logits(of, groups, wide)
    with pytest.raises(ValueError, match="no polynomials of 2 topics"):
        replace(of, base=np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="contiguous float32"):
        replace(of, linear=np.zeros((4, 1), np.float32)[::2])
