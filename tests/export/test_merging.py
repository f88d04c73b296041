"""Merging against peft, against torch's decompositions, and against what each method promises."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tailwire.export.merging import (
    LINEAR,
    METHODS,
    MergeOptions,
    drop,
    factor,
    merge,
    singular_merge,
    ties,
)
from tailwire.runtime.composition_specs import Method
from tailwire.runtime.errors import ConfigError
from tailwire.runtime.low_rank import LowRankChange, join

from ..composed import random_change
from ..runtime.test_pack import CONFIG

Float = NDArray[np.float32]
BLOCKS = (4, 5)


def peft_merging() -> Any:
    """The one module of peft that merges; the package itself would load half of transformers."""
    found = importlib.util.find_spec("peft")
    if found is None or not found.submodule_search_locations:
        pytest.skip("peft is the reference")
    path = Path(found.submodule_search_locations[0], "utils", "merge_utils.py")
    spec = importlib.util.spec_from_file_location("peft_merge_utils", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def changes(count: int = 3) -> dict[str, tuple[float, LowRankChange]]:
    names = ("lidar", "camera", "radar", "imu")[:count]
    return {n: (0.2 + 0.3 * i, random_change(CONFIG, BLOCKS, seed=i)) for i, n in enumerate(names)}


def dense_sum(parts: dict[str, tuple[float, LowRankChange]], place: Any) -> NDArray[np.float64]:
    total = np.zeros((), np.float64)
    for weight, change in parts.values():
        a, b = change.factors[place]
        total = total + weight * (a.astype(np.float64) @ b.astype(np.float64))
    return total


@pytest.mark.parametrize("method", sorted(LINEAR))
def test_linear_methods_are_the_weighted_sum_of_the_matrices(method: Method) -> None:
    parts = changes()
    merged = merge(method, parts, MergeOptions())
    assert merged.left_out == 0
    for place in merged.change.places:
        np.testing.assert_allclose(merged.change.dense(place), dense_sum(parts, place), atol=1e-6)


def test_a_part_of_weight_0_leaves_the_others_bits() -> None:
    parts = changes()
    alone = join([parts["lidar"]])
    both = join([parts["lidar"], (0.0, parts["camera"][1])])
    for place in alone.places:
        for mine, theirs in zip(alone.factors[place], both.factors[place], strict=True):
            np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("method", METHODS)
def test_order_does_not_matter_for_a_bit(method: Method) -> None:
    parts = changes()
    turned = dict(reversed(parts.items()))
    one, two = (merge(method, some, MergeOptions()).change for some in (parts, turned))
    assert one.places == two.places
    for place in one.places:
        np.testing.assert_array_equal(one.dense(place), two.dense(place))


@pytest.mark.parametrize("density", [0.2, 0.5, 0.9])
def test_ties_is_that_of_peft(density: float) -> None:
    torch = pytest.importorskip("torch", reason="peft is the reference")
    utils = peft_merging()
    rng = np.random.default_rng(5)
    matrices = [rng.normal(size=(24, 17)).astype(np.float32) for _ in range(3)]
    weights = [0.5, 1.0, -0.25]
    wanted = utils.ties([torch.from_numpy(m) for m in matrices], torch.tensor(weights), density)
    np.testing.assert_allclose(ties(matrices, weights, density), wanted.numpy(), atol=1e-6)


def test_dare_keeps_the_mean_and_drops_the_share() -> None:
    rng = np.random.default_rng(1)
    matrix = rng.normal(1, 0.1, (400, 300)).astype(np.float32)
    dropped = drop(matrix, 0.25, np.random.default_rng(2))
    assert abs((dropped != 0).mean() - 0.25) < 0.01
    assert abs(dropped.mean() - matrix.mean()) < 0.02
    np.testing.assert_array_equal(dropped[dropped != 0], matrix[dropped != 0] / np.float32(0.25))


def test_dare_is_drawn_by_the_seed() -> None:
    parts = changes(2)
    first, again, other = (
        merge("dare", parts, MergeOptions(seed=seed)).change.dense((4, "down"))
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


def test_tsv_of_one_part_is_that_part() -> None:
    a, b = random_change(CONFIG, (4,)).factors[4, "up"]
    np.testing.assert_allclose(singular_merge([(a, b)], [1.0]), a @ b, atol=1e-6)


def test_tsv_is_made_of_orthogonal_directions() -> None:
    torch = pytest.importorskip("torch", reason="torch decomposes")
    factors = [random_change(CONFIG, (4,), seed=i).factors[4, "up"] for i in range(2)]
    merged = singular_merge(factors, [1.0, 0.5])
    # One of two singular vectors of each part, with its value, in directions made orthogonal.
    largest = [np.linalg.svd(a @ b)[1][0] for a, b in factors]
    values = torch.linalg.svdvals(torch.from_numpy(merged)).numpy()
    np.testing.assert_allclose(values[:2], sorted([largest[0], 0.5 * largest[1]])[::-1], rtol=1e-5)
    assert values[2] < 1e-5


def test_a_rank_keeps_what_eckart_and_young_say() -> None:
    matrix = np.random.default_rng(0).normal(size=(30, 20)).astype(np.float32)
    a, b = factor(matrix, 5)
    values = np.linalg.svd(matrix, compute_uv=False)
    left = np.square(matrix - a @ b, dtype=np.float64).sum()
    assert left == pytest.approx(np.square(values[5:], dtype=np.float64).sum(), rel=1e-4)
    a, b = factor(matrix, 99)
    np.testing.assert_allclose(a @ b, matrix, atol=1e-5)


def test_what_a_rank_leaves_out_is_told() -> None:
    parts = changes(2)
    small = merge("ties", parts, MergeOptions(density=0.5, rank=1))
    whole = merge("ties", parts, MergeOptions(density=0.5, rank=64))
    assert 0.01 < small.left_out < 1
    assert whole.left_out < 1e-6
    for place in whole.change.places:
        dense = [change.dense(place) for _, change in (parts["camera"], parts["lidar"])]
        wanted = ties(dense, [parts["camera"][0], parts["lidar"][0]], 0.5)
        np.testing.assert_allclose(whole.change.dense(place), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (MergeOptions(density=0), "--density"),
        (MergeOptions(density=1.5), "--density"),
        (MergeOptions(density=float("nan")), "--density"),
        (MergeOptions(rank=0), "--rank"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: MergeOptions, field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        merge("ties", changes(2), options)
    assert caught.value.field == field
