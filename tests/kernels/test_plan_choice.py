"""The best of all plans against a look at one after the other, and all twins against each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwire.kernels.plan_choice import PlanShares, Tangents, best_plan, plan_shares

from .plans import Plans, any_plans, plans
from .twins import both, compiled_plans

TIE = 1e-6


def exact_share(shares: PlanShares, variant: int, state: int) -> float:
    if state == 0 and shares.bare is not None:
        return shares.bare
    terms = shares.worth[variant].astype(np.float64) * shares.tangents.values[:, state]
    return float(shares.least[variant] + terms.sum())


def one_by_one(given: Plans) -> tuple[list[tuple[float, float, int, int]], float]:
    """Share, cost, variant and state of what is possible; and the largest share of all."""
    possible, found, most = given.possible, [], -np.inf
    for variant in range(len(given.shares.least)):
        for state, kind in enumerate(possible.index.tolist()):
            share = exact_share(given.shares, variant, state)
            most = max(most, share)
            if possible.fits[variant, kind] and possible.allowed[state]:
                found.append((share, float(given.costs[variant, kind]), variant, state))
    return found, most


@given(any_plans())
@settings(max_examples=60, deadline=None)
def test_the_best_plan_is_that_of_a_look_at_each(given: Plans) -> None:
    every, most = one_by_one(given)
    for library in (None, compiled_plans("c")):
        best = best_plan(given.shares, given.possible, given.costs, TIE, library=library)
        if best is None:
            assert not every
            continue
        top = max(share for share, *_ in every)
        mine = exact_share(given.shares, best.variant, best.state)
        assert best.share == pytest.approx(mine, abs=1e-6)
        assert best.most == pytest.approx(most, abs=1e-6)
        assert mine >= top - 2 * TIE
        # Of those that are surely equals, the first of the cheapest.
        cost = given.costs[best.variant, given.possible.index[best.state]]
        equals = [one for one in every if one[0] >= top - TIE / 10]
        assert cost <= min(one[1] for one in equals)
        if mine >= top - TIE / 10:
            cheapest = [one[2:] for one in equals if one[1] == cost]
            assert (best.variant, best.state) <= min(cheapest)


@both
@given(given=any_plans())
@settings(max_examples=60, deadline=None)
def test_all_twins_find_the_same(language: str, given: Plans) -> None:
    library = compiled_plans(language)
    shares, possible, costs = given.shares, given.possible, given.costs
    found = best_plan(shares, possible, costs, TIE, library=library)
    assert found == best_plan(shares, possible, costs, TIE)
    np.testing.assert_array_equal(plan_shares(shares, library=library), plan_shares(shares))


@given(any_plans())
@settings(max_examples=30, deadline=None)
def test_shares_are_sums_over_topics_and_none_is_above_the_ceiling(given: Plans) -> None:
    shares = given.shares
    found = plan_shares(shares, library=compiled_plans("c"))
    wanted = shares.worth.astype(np.float64) @ shares.tangents.values + shares.least[:, None]
    if shares.bare is not None:
        wanted[:, 0] = shares.bare
    np.testing.assert_allclose(found, wanted, atol=2e-6)
    assert found.max() <= shares.ceiling + 1e-5


@both
def test_a_space_of_eight_sensors(language: str) -> None:
    for seed, steps in ((0, None), (1, 3)):
        one = plans(seed, sensors=8, variants=8, topics=5, steps=steps, bare=0.2)
        given = (one.shares, one.possible, one.costs, TIE)
        found = best_plan(*given, library=compiled_plans(language))
        assert found is not None and found == best_plan(*given)


@given(st.integers(0, 1000), st.integers(0, 2), st.integers(0, 80))
@settings(max_examples=30, deadline=None)
def test_ties_go_by_cost_and_then_by_order(seed: int, variant: int, state: int) -> None:
    one = plans(seed, share_possible=1.0)
    flat = replace(one.shares, worth=np.zeros_like(one.shares.worth), least=np.full(3, 0.5, "f4"))
    costs = np.full_like(one.costs, 7.0)
    for library in (None, compiled_plans("c")):
        best = best_plan(flat, one.possible, costs, TIE, library=library)
        assert best is not None and (best.variant, best.state) == (0, 0)
        cheaper = costs.copy()
        kind = one.possible.index[state]
        cheaper[variant, kind] = 6.0
        best = best_plan(flat, one.possible, cheaper, TIE, library=library)
        first = int(np.flatnonzero(one.possible.index == kind)[0])
        assert best is not None and (best.variant, best.state) == (variant, first)


def test_what_is_not_possible_counts_for_the_most_only() -> None:
    one = plans(3, share_possible=1.0)
    nothing = replace(one.possible, allowed=np.zeros_like(one.possible.allowed))
    for library in (None, compiled_plans("c")):
        assert best_plan(one.shares, nothing, one.costs, TIE, library=library) is None
        free = best_plan(one.shares, one.possible, one.costs, TIE, library=library)
        assert free is not None and free.most == free.share
        without = one.possible.allowed.copy()
        without[free.state] = False
        less = replace(one.possible, allowed=without)
        second = best_plan(one.shares, less, one.costs, TIE, library=library)
        assert second is not None and second.share <= second.most == free.most


def test_what_does_not_fit_is_an_error() -> None:
    one = plans(0)
    shares, possible, costs = one.shares, one.possible, one.costs
    with pytest.raises(ValueError, match="worth is"):
        plan_shares(replace(shares, worth=shares.worth[:, :1].copy()))
    with pytest.raises(ValueError, match="float32"):
        plan_shares(replace(shares, least=shares.least.astype(np.float64)))
    with pytest.raises(ValueError, match="of 3 variants, 81 states"):
        best_plan(shares, replace(possible, allowed=possible.allowed[:-1]), costs, TIE)
    with pytest.raises(ValueError, match="int64"):
        wrong = replace(possible, index=possible.index.astype(np.int32))
        best_plan(shares, wrong, costs, TIE)
    with pytest.raises(ValueError, match="costs are float64"):
        best_plan(shares, possible, costs[:, :-1], TIE)
    # What lies apart in memory, which the compiled twin would read wrongly.
    apart = replace(shares, tangents=Tangents(shares.tangents.values[:, ::-1]))
    with pytest.raises((TypeError, BufferError)):
        best_plan(apart, possible, costs, TIE, library=compiled_plans("c"))
