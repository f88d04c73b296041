"""Layout and attention bias of packed texts, against the rules written out token by token."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwire.runtime.model_config import LanguageModelConfig
from tailwire.runtime.packing import (
    MASKED,
    alibi_slopes,
    attention_bias,
    pack_lengths,
    packed_bias,
    step_bias,
)

from ..llama_sizes import llama_sizes

ROPE = llama_sizes(num_blocks=1, ffn_size=64, vocab_size=10, max_positions=100)
ALIBI = ROPE.model_copy(update={"position": "alibi", "num_heads": 6, "num_kv_heads": 6})

lengths_and_owners = st.lists(st.integers(1, 9), min_size=1, max_size=5).flatmap(
    lambda lengths: st.tuples(
        st.just(lengths), st.lists(st.integers(-1, len(lengths) - 1), max_size=12)
    )
)


def expected_bias(
    config: LanguageModelConfig, lengths: list[int], owners: list[int], *, prefix_visible: bool
) -> np.ndarray:
    """The rules, one pair of rows at a time."""
    heads = config.num_heads if config.position == "alibi" else 1
    slopes = alibi_slopes(config.num_heads) if config.position == "alibi" else np.zeros(1)
    tokens = [(text, place) for text, length in enumerate(lengths) for place in range(length)]
    bias = np.zeros((1, heads, len(tokens), len(owners) + len(tokens)), np.float32)
    for query, (text, place) in enumerate(tokens):
        for row, owner in enumerate(owners):
            if not prefix_visible or owner not in (-1, text):
                bias[:, :, query, row] = MASKED
        for key, (other, other_place) in enumerate(tokens):
            column = len(owners) + key
            if other != text:
                bias[:, :, query, column] = MASKED
            else:
                bias[0, :, query, column] = slopes * (other_place - place)
    return bias


@settings(max_examples=60, deadline=None)
@given(lengths_and_owners)
def test_layout_keeps_texts_in_order(lengths_owners: tuple[list[int], list[int]]) -> None:
    lengths, _ = lengths_owners
    layout = pack_lengths(lengths)
    assert layout.lengths == tuple(lengths)
    assert layout.tokens == sum(lengths)
    assert layout.position_ids.dtype == layout.last_index.dtype == np.int64
    assert layout.position_ids.tolist() == [[p for length in lengths for p in range(length)]]
    assert layout.owner.tolist() == [t for t, length in enumerate(lengths) for _ in range(length)]
    for text, (offset, last) in enumerate(zip(layout.offsets, layout.last_index, strict=True)):
        assert offset == sum(lengths[:text])
        assert last == offset + lengths[text] - 1


@settings(max_examples=60, deadline=None)
@given(lengths_and_owners, st.booleans(), st.sampled_from([ROPE, ALIBI]))
def test_tokens_see_their_text_and_their_prefix_rows(
    lengths_owners: tuple[list[int], list[int]], prefix_visible: bool, config: LanguageModelConfig
) -> None:
    lengths, owners = lengths_owners
    bias = packed_bias(
        config,
        pack_lengths(lengths),
        np.asarray(owners, dtype=np.int64),
        prefix_visible=prefix_visible,
    )
    expected = expected_bias(config, lengths, owners, prefix_visible=prefix_visible)
    assert bias.dtype == np.float32
    assert bias.shape == expected.shape
    # Causality is left to the operator, so what lies ahead of a token may be anything.
    rows = np.arange(bias.shape[2])[:, None]
    behind = np.arange(bias.shape[3])[None, :] <= len(owners) + rows
    # Beside MASKED the distances of ALiBi vanish in float32.
    np.testing.assert_allclose(bias[0, :, behind], expected[0, :, behind], rtol=1e-6)
    assert (np.exp(bias[expected == MASKED]) == 0).all()


@pytest.mark.parametrize("config", [ROPE, ALIBI])
@pytest.mark.parametrize("prefix_visible", [True, False])
@pytest.mark.parametrize("rows", [0, 5])
def test_a_step_is_the_last_row_of_the_whole_text(
    config: LanguageModelConfig, prefix_visible: bool, rows: int
) -> None:
    owners = np.full(rows, -1)
    for position in (0, 1, 12):
        whole = packed_bias(
            config, pack_lengths([position + 1]), owners, prefix_visible=prefix_visible
        )
        step = step_bias(config, position, rows, prefix_visible=prefix_visible)
        assert step.dtype == np.float32
        np.testing.assert_allclose(step, whole[:, :, -1:], rtol=1e-6)


def test_new_tokens_of_several_texts_see_what_is_theirs() -> None:
    owners, positions = np.asarray([-1, 1, 0, 0, 1]), np.asarray([-1, -1, 0, 1, 0])
    bias = attention_bias(ROPE, (np.asarray([1, 0]), np.asarray([1, 2])), (owners, positions))
    assert (bias[0, 0] == 0).tolist() == [
        [True, True, False, False, True],
        [True, False, True, True, False],
    ]


@pytest.mark.parametrize("heads", [1, 2, 3, 6, 8, 9, 12, 16, 20, 32, 112])
def test_slopes_are_blooms(heads: int) -> None:
    torch = pytest.importorskip("torch", reason="the reference needs torch")
    pytest.importorskip("transformers", reason="transformers is the reference")
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor

    # The second column of the bias is that of the key at position 1: the slope.
    expected = build_alibi_tensor(torch.ones(1, 2), heads, torch.float32)[:, 0, 1].numpy()
    np.testing.assert_allclose(alibi_slopes(heads), expected, rtol=1e-6)


def test_slopes_of_a_power_of_two_are_the_papers() -> None:
    np.testing.assert_allclose(alibi_slopes(8), [2.0**-i for i in range(1, 9)])
    np.testing.assert_allclose(alibi_slopes(16)[:2], [1 / math.sqrt(2), 0.5])
