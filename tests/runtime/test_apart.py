"""Texts that attend apart give what they give packed, and leave the caches of a packed tail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tailwire.runtime.apart import ApartLayout, attend_apart
from tailwire.runtime.kv_prefix import KvPrefix
from tailwire.runtime.language_model import LanguageModel
from tailwire.runtime.packing import pack_lengths

from ..built_models import TinyModels

#: Rotary, learned positions, ALiBi, and grouped queries with biases.
FAMILIES = ("llama", "opt", "bloom", "qwen2")
TEXTS = ((11, 12, 13, 14, 15), (21, 22, 23, 24), (31, 32, 33, 34, 35, 36))


def prefix_of(model: LanguageModel, rows: int, seed: int, blocks: Sequence[int]) -> KvPrefix:
    config, rng = model.config, np.random.default_rng(seed)
    shape = (len(blocks), config.num_kv_heads, rows, config.head_dim)
    keys, values = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
    return KvPrefix(tuple(blocks), keys, values)


def both(
    model: LanguageModel, prefix: Any, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> tuple[Any, Any]:
    """Tail results apart and packed; the runs of the first are seen to be apart."""
    heads = [model.encode(ids, [4]) for ids in TEXTS]
    given: list[bool] = []
    run_group = model.run_group

    def noted(*args: Any, **options: Any) -> Any:
        given.append(args[-1] is not None)
        return run_group(*args, **options)

    results = []
    for apart in (True, False):
        with monkeypatch.context() as patch:
            patch.setattr(model, "run_group", noted)
            if not apart:
                patch.setattr("tailwire.runtime.tail_rows.attend_apart", lambda lengths: False)
            results.append(model.tail(heads, prefix, 4, **options))
        assert set(given) == {apart}
        given.clear()
    return results[0], results[1]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["none", "shared", "own", "upper blocks"])
def test_it_makes_no_difference(
    tiny: TinyModels, family: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny.model(family)
    prefix: Any = {
        "none": None,
        "shared": prefix_of(model, 3, 0, range(2, 6)),
        "own": [prefix_of(model, 3, seed, range(2, 6)) for seed in range(3)],
        "upper blocks": prefix_of(model, 3, 0, (4, 5)),
    }[kind]
    apart, packed = both(model, prefix, monkeypatch, every_token=True)
    np.testing.assert_allclose(apart.final, packed.final, atol=2e-4)
    assert list(apart.cache) == list(packed.cache) and len(apart.cache) == 4
    for block, pair in packed.cache.items():
        for mine, other in zip(apart.cache[block], pair, strict=True):
            np.testing.assert_allclose(mine, other, atol=2e-4)


def test_prefixes_of_different_sizes_stay_packed(
    tiny: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny.model("llama")
    heads = [model.encode(ids, [4]) for ids in TEXTS]
    prefixes = [prefix_of(model, rows, rows, range(2, 6)) for rows in (2, 3, 4)]
    together = model.tail(heads, prefixes, 4).final
    for place, head in enumerate(heads):
        alone = model.tail([head], prefixes[place], 4).final
        np.testing.assert_allclose(together[place], alone[0], atol=2e-4)


def test_places_of_a_padded_batch_lead_back_to_the_tokens() -> None:
    layout = ApartLayout(pack_lengths([2, 4, 3]))
    np.testing.assert_array_equal(layout.unpack, [[0, 1, 1, 1], [2, 3, 4, 5], [6, 7, 8, 8]])
    np.testing.assert_array_equal(layout.unpack.reshape(-1)[layout.pack], np.arange(9))
    np.testing.assert_array_equal(layout.position_ids, [[0, 1, 2, 3]] * 3)


def test_one_text_and_much_padding_stay_packed() -> None:
    assert not attend_apart([20])
    assert attend_apart([20, 20])
    assert attend_apart([18, 19, 25])
    assert not attend_apart([5, 5, 60])
