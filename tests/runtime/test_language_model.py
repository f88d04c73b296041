"""Head, prefix, tail and packed batches of the language model, against attention in plain torch.

The reference is transformers with the prefix put into its attention modules (`tests/reference.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from tailwire.runtime.kv_prefix import KvPrefix, join_rows
from tailwire.runtime.language_model import HeadState, LanguageModel, TailResult
from tailwire.runtime.model_config import LanguageModelConfig
from tailwire.runtime.packed_cache import PackedCache
from tailwire.runtime.text_cache import TextCache

from ..tiny_models import BLOCKS, VOCABULARY

if TYPE_CHECKING:
    from ..built_models import SmolLm2, TinyModels
    from ..reference import Prefix

Float = NDArray[np.float32]

#: One of each kind of attention: grouped heads, one key head, biases, learned positions, ALiBi.
KINDS = ("llama", "llama3", "qwen2", "opt", "opt_post_norm", "bloom", "bloom_6_heads")

LENGTHS = (7, 1, 23, 12)


def random_prefix(
    config: LanguageModelConfig, blocks: tuple[int, ...], rows: int, seed: int = 0
) -> KvPrefix:
    generator = np.random.default_rng(seed)
    shape = (len(blocks), config.num_kv_heads, rows, config.head_dim)
    keys, values = generator.standard_normal((2, *shape)).astype(np.float32)
    return KvPrefix(blocks, keys, values)


def as_reference(*prefixes: KvPrefix) -> Prefix:
    return {
        block: (
            np.concatenate([prefix.keys[at] for prefix in prefixes], axis=1),
            np.concatenate([prefix.values[at] for prefix in prefixes], axis=1),
        )
        for at, block in enumerate(prefixes[0].blocks)
    }


def random_texts(lengths: tuple[int, ...] = LENGTHS, seed: int = 0) -> list[list[int]]:
    generator = np.random.default_rng(seed)
    return [generator.integers(0, VOCABULARY, length).tolist() for length in lengths]


def all_logits(model: LanguageModel, ids: list[int], prefix: KvPrefix | None, depth: int) -> Float:
    head = model.encode(ids, [depth])
    return model.logits(model.tail([head], prefix, depth, every_token=True).final)


def final_of_each(result: TailResult, text: int) -> Float:
    start = result.layout.offsets[text]
    return result.final[start : start + result.layout.lengths[text]]


@pytest.mark.parametrize("family", KINDS)
@pytest.mark.parametrize(
    ("blocks", "depth"),
    [
        ((2, 5), 4),  # a gap between the blocks of the prefix
        ((3, 5), 3),  # a depth that starts no group: computed from block 2 on
        ((5,), 1),
        ((4, 5), 6),  # a tail that is deeper than the prefix
        ((0, 1, 2, 3, 4, 5), 6),
    ],
)
def test_a_prefix_is_attended_to_in_its_blocks_only(
    tiny: TinyModels, family: str, blocks: tuple[int, ...], depth: int
) -> None:
    model = tiny.model(family)
    ids = random_texts((19,))[0]
    prefix = random_prefix(model.config, blocks, rows=9)
    logits = all_logits(model, ids, prefix, depth)
    expected = tiny.reference(family).logits(ids, as_reference(prefix))
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    assert np.abs(logits - all_logits(model, ids, None, depth)).max() > 0.01


@pytest.mark.parametrize("family", KINDS)
def test_prefixes_of_several_sensors_are_seen_together_in_any_order(
    tiny: TinyModels, family: str
) -> None:
    model = tiny.model(family)
    ids = random_texts((19,))[0]
    camera, lidar = (random_prefix(model.config, (4, 5), rows, seed=rows) for rows in (5, 3))
    logits = all_logits(model, ids, join_rows([camera, lidar]), 2)
    expected = tiny.reference(family).logits(ids, as_reference(camera, lidar))
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    swapped = all_logits(model, ids, join_rows([lidar, camera]), 2)
    np.testing.assert_allclose(swapped, logits, atol=1e-4)


def test_smollm2_with_a_prefix_equals_the_reference(smollm2: SmolLm2) -> None:
    model = smollm2.model()
    ids = model.tokenizer.encode("How many pedestrians are waiting in front of the bus?").ids
    prefix = random_prefix(model.config, (*range(20, 25), 29), rows=28)
    logits = all_logits(model, ids, prefix, 10)
    expected = smollm2.reference.logits(ids, as_reference(prefix))
    # Logits reach 28 here, so two float32 libraries differ by about 1e-4.
    assert np.abs(logits - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("family", ["llama", "qwen2", "opt"])
def test_the_reference_agrees_with_transformers_own_cache(tiny: TinyModels, family: str) -> None:
    """A check of the reference: rows in front of all blocks are a filled cache of transformers."""
    ids = random_texts((19,))[0]
    prefix = random_prefix(tiny.model(family).config, tuple(range(BLOCKS)), rows=9)
    reference = tiny.reference(family)
    expected = reference.logits_behind_cache(ids, as_reference(prefix))
    np.testing.assert_allclose(reference.logits(ids, as_reference(prefix)), expected, atol=2e-5)


@pytest.mark.parametrize("family", ["llama", "opt", "bloom", "bloom_6_heads"])
def test_the_reference_without_rows_is_transformers_itself(tiny: TinyModels, family: str) -> None:
    """A check of the reference, which covers ALiBi as well."""
    reference = tiny.reference(family)
    ids = random_texts((19,))[0]
    empty = as_reference(random_prefix(tiny.model(family).config, (2, 5), rows=0))
    np.testing.assert_allclose(reference.logits(ids, empty), reference.logits(ids), atol=2e-5)


@pytest.mark.parametrize("family", KINDS)
def test_a_prefix_without_rows_changes_nothing(tiny: TinyModels, family: str) -> None:
    model = tiny.model(family)
    ids = random_texts((11,))[0]
    none = random_prefix(model.config, (4, 5), rows=0)
    np.testing.assert_array_equal(all_logits(model, ids, none, 2), all_logits(model, ids, None, 2))


@pytest.mark.parametrize("family", KINDS)
def test_cached_head_and_tail_equal_one_full_pass(tiny: TinyModels, family: str) -> None:
    model = tiny.model(family)
    ids = random_texts((31,))[0]
    prefix = random_prefix(model.config, (4, 5), rows=12)
    whole = all_logits(model, ids, prefix, BLOCKS)
    for depth in range(2, BLOCKS):
        np.testing.assert_allclose(
            all_logits(model, ids, prefix, depth), whole, atol=1e-4, err_msg=f"depth {depth}"
        )


def test_smollm2_cached_head_and_tail_equal_one_full_pass(smollm2: SmolLm2) -> None:
    model = smollm2.model()
    ids = model.tokenizer.encode("Is there a truck behind the parked car?").ids
    prefix = random_prefix(model.config, tuple(range(20, 30)), rows=28)
    whole = all_logits(model, ids, prefix, 30)
    assert np.abs(all_logits(model, ids, prefix, 10) - whole).max() <= 1e-4


def bytes_of(head: HeadState) -> dict[str, bytes]:
    parts = {f"state {block}": pair for block, pair in head.states.items()}
    parts |= {f"cache {block}": pair for block, pair in head.cache.items()}
    return {name: a.tobytes() + b.tobytes() for name, (a, b) in parts.items()}


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
@pytest.mark.parametrize("family", ["llama", "opt", "bloom"])
def test_the_head_does_not_depend_on_sensors(tiny: TinyModels, family: str, precision: str) -> None:
    model = tiny.model(family, precision)  # pyright: ignore[reportArgumentType]
    ids = random_texts((17,))[0]
    untouched = bytes_of(model.encode(ids, [2, 4]))
    head = model.encode(ids, [2, 4])
    for rows, depth in ((0, 2), (3, 2), (40, 4), (5, 4)):
        prefix = random_prefix(model.config, (4, 5), rows, seed=rows)
        result = model.tail([head, head], prefix, depth)
        PackedCache(model, result).extend([0, 1], [5, 6])
        TextCache(model, result, 1, room=4).extend(7)
        assert bytes_of(head) == untouched
    assert bytes_of(model.encode(ids, [2, 4])) == untouched


@pytest.mark.parametrize("family", KINDS)
@pytest.mark.parametrize("depth", [6, 3, 2])
def test_a_packed_batch_equals_the_questions_one_by_one(
    tiny: TinyModels, family: str, depth: int
) -> None:
    model = tiny.model(family)
    heads = [model.encode(ids, [depth]) for ids in random_texts()]
    shared = random_prefix(model.config, (4, 5), rows=9)
    own = [random_prefix(model.config, (4, 5), rows, seed=rows) for rows in (4, 9, 1, 0)]
    for prefix in (None, shared, own):
        packed = model.tail(heads, prefix, depth, every_token=True)
        last = model.tail(heads, prefix, depth)
        for text, head in enumerate(heads):
            mine = prefix[text] if isinstance(prefix, list) else prefix
            single = model.tail([head], mine, depth, every_token=True).final
            np.testing.assert_allclose(final_of_each(packed, text), single, atol=1e-4)
            np.testing.assert_allclose(last.final[text], single[-1], atol=1e-4)


@pytest.mark.parametrize("family", ["llama", "bloom_6_heads"])
def test_a_packed_batch_equals_the_reference(tiny: TinyModels, family: str) -> None:
    model = tiny.model(family)
    texts = random_texts()
    heads = [model.encode(ids, [2]) for ids in texts]
    own = [random_prefix(model.config, (4, 5), rows, seed=rows) for rows in (4, 9, 1, 0)]
    logits = model.logits(model.tail(heads, own, 2).final)
    for text, ids in enumerate(texts):
        expected = tiny.reference(family).logits(ids, as_reference(own[text]))[-1]
        np.testing.assert_allclose(logits[text], expected, atol=1e-4)


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("family", ["llama", "opt", "bloom"])
def test_a_quantised_packed_batch_stays_close(
    tiny: TinyModels, family: str, precision: str
) -> None:
    model = tiny.model(family, precision)  # pyright: ignore[reportArgumentType]
    heads = [model.encode(ids, [4]) for ids in random_texts()]
    prefix = random_prefix(model.config, (3, 5), rows=9)
    packed = model.tail(heads, prefix, 4).final
    for text, head in enumerate(heads):
        single = model.tail([head], prefix, 4).final[0]
        # Sums in another order move a few activations to the next of their 8-bit codes.
        assert np.abs(packed[text] - single).mean() <= 0.02 * np.abs(single).mean()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_smollm2_answers_alike_in_a_batch_and_alone(smollm2: SmolLm2, precision: str) -> None:
    model = smollm2.model(precision)  # pyright: ignore[reportArgumentType]
    questions = ["Is it raining?", "How many cars are parked on the left side of the road?", "Why?"]
    heads = [model.encode(model.tokenizer.encode(text).ids, [10]) for text in questions]
    prefix = random_prefix(model.config, tuple(range(20, 30)), rows=28)
    packed = model.logits(model.tail(heads, prefix, 10).final)
    for text, head in enumerate(heads):
        single = model.logits(model.tail([head], prefix, 10).final)[0]
        error = np.abs(packed[text] - single).max()
        assert error <= (1e-5 if precision == "fp32" else 0.05) * np.abs(single).max()


def decoded_alone(
    model: LanguageModel, head: HeadState, prefix: KvPrefix | None, depth: int, tokens: list[int]
) -> Float:
    cache = TextCache(model, model.tail([head], prefix, depth), 0, room=len(tokens))
    return np.concatenate([cache.extend(token) for token in tokens])


@pytest.mark.parametrize("family", KINDS)
@pytest.mark.parametrize(("blocks", "depth"), [((2, 5), 4), ((3, 5), 3), (None, 2)])
def test_decoding_equals_the_reference(
    tiny: TinyModels, family: str, blocks: tuple[int, ...] | None, depth: int
) -> None:
    model = tiny.model(family)
    ids, tokens = random_texts((13, 8))
    prefix = None if blocks is None else random_prefix(model.config, blocks, rows=9)
    states = decoded_alone(model, model.encode(ids, [depth]), prefix, depth, tokens)
    reference = tiny.reference(family)
    expected = reference.logits(ids + tokens, None if prefix is None else as_reference(prefix))
    np.testing.assert_allclose(model.logits(states), expected[len(ids) :], atol=1e-4)


@pytest.mark.parametrize("family", KINDS)
@pytest.mark.parametrize("with_own_prefix", [True, False])
def test_decoding_after_a_batch_equals_decoding_alone(
    tiny: TinyModels, family: str, with_own_prefix: bool
) -> None:
    model, depth = tiny.model(family), 4
    heads = [model.encode(ids, [depth]) for ids in random_texts()]
    shared = random_prefix(model.config, (3, 5), rows=6)
    own = [random_prefix(model.config, (3, 5), rows, seed=rows) for rows in (4, 9, 1, 0)]
    tokens = random_texts((6, 6, 6, 6), seed=1)
    result = model.tail(heads, own if with_own_prefix else shared, depth)
    packed = PackedCache(model, result)
    together = np.stack([packed.extend([0, 1, 2, 3], [t[i] for t in tokens]) for i in range(6)])
    for text, head in enumerate(heads):
        alone = decoded_alone(
            model, head, own[text] if with_own_prefix else shared, depth, tokens[text]
        )
        one_of_many = TextCache(model, result, text, room=6)
        after_batch = np.concatenate([one_of_many.extend(token) for token in tokens[text]])
        np.testing.assert_allclose(after_batch, alone, atol=1e-4)
        np.testing.assert_allclose(together[:, text], alone, atol=1e-4)


def test_questions_of_a_batch_may_be_continued_in_turns(tiny: TinyModels) -> None:
    model = tiny.model("bloom")
    heads = [model.encode(ids, [2]) for ids in random_texts()]
    prefix = random_prefix(model.config, (4, 5), rows=6)
    packed = PackedCache(model, model.tail(heads, prefix, 2))
    first = packed.extend([2], [5])
    second = packed.extend([3, 2], [6, 7])
    third = packed.extend([0, 3], [8, 9])
    for states, text, tokens in (
        ((first[0], second[1]), 2, [5, 7]),
        ((second[0], third[1]), 3, [6, 9]),
        ((third[0],), 0, [8]),
    ):
        alone = decoded_alone(model, heads[text], prefix, 2, tokens)
        np.testing.assert_allclose(np.stack(states), alone, atol=1e-4)


def test_one_head_serves_all_depths_that_it_was_encoded_for(tiny: TinyModels) -> None:
    model = tiny.model("llama")
    ids = random_texts((20,))[0]
    head = model.encode(ids, [1, 3, 6])
    assert sorted(head.states) == [0, 2, 4]
    assert sorted(head.cache) == [0, 1, 2, 3]
    expected = all_logits(model, ids, None, 6)[-1]
    for depth in (1, 2, 3, 4, 6):
        logits = model.logits(model.tail([head], None, depth).final)
        np.testing.assert_allclose(logits[0], expected, atol=1e-5)
    assert head.nbytes == sum(map(len, bytes_of(head).values()))
