"""LoRA beside the engines' projections, against transformers with the change in its weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from tailwire.export.starter_pack import initial_connection
from tailwire.runtime.backends.onnxruntime_cpu import OnnxRuntimeEngine
from tailwire.runtime.connections import Connection, ConnectionSpec, weight_shapes
from tailwire.runtime.errors import ConfigError, EngineError, PackError
from tailwire.runtime.kv_prefix import KvPrefix
from tailwire.runtime.language_model import HeadState, LanguageModel
from tailwire.runtime.lora import Lora
from tailwire.runtime.model_config import LanguageModelConfig
from tailwire.runtime.packed_cache import PackedCache
from tailwire.runtime.text_cache import TextCache

from ..fakes import (
    MODALITIES,
    SENSORS,
    SPECS,
    WIDTH,
    MakeRuntime,
    connection_spec,
    frames,
    make_connection,
    said,
)
from ..loras import merged, random_lora
from ..tiny_models import BLOCKS, VOCABULARY

if TYPE_CHECKING:
    from ..built_models import SmolLm2, TinyModels

pytest.importorskip("torch", reason="transformers is the reference")

from ..torch_connections import torch_conditioned, torch_plain

Float = NDArray[np.float32]

KINDS = ("llama", "llama3", "qwen2", "opt", "opt_post_norm", "bloom", "bloom_6_heads")
#: Blocks with a LoRA, and depth of the tail. Stages are cut at 0, 2 and 4.
TAILS = (
    ((5,), 1),  # behind the cut: a block between them has none
    ((4, 5), 2),  # the first block's projections come from the cached head
    ((2, 3, 5), 4),  # a gap
    (tuple(range(BLOCKS)), 6),  # the first block's come from the embeddings
)
LENGTHS = (7, 1, 23, 12)


def random_ids(tokens: int, seed: int = 0) -> list[int]:
    return np.random.default_rng([seed, tokens]).integers(0, VOCABULARY, tokens).tolist()


def random_prefix(config: LanguageModelConfig, blocks: tuple[int, ...], rows: int = 6) -> KvPrefix:
    shape = (2, len(blocks), config.num_kv_heads, rows, config.head_dim)
    keys, values = np.random.default_rng(rows).standard_normal(shape).astype(np.float32)
    return KvPrefix(blocks, keys, values)


def as_reference(prefix: KvPrefix | None) -> dict[int, tuple[Float, Float]] | None:
    if prefix is None:
        return None
    return {b: (prefix.keys[at], prefix.values[at]) for at, b in enumerate(prefix.blocks)}


def bytes_of(head: HeadState) -> list[bytes]:
    pairs = (*head.states.values(), *head.cache.values())
    return [array.tobytes() for pair in pairs for array in pair]


@pytest.mark.parametrize("family", KINDS)
@pytest.mark.parametrize(("blocks", "depth"), TAILS)
def test_a_lora_is_a_change_of_key_and_value_weights(
    tiny: TinyModels, family: str, blocks: tuple[int, ...], depth: int
) -> None:
    model, ids = tiny.model(family), random_ids(19)
    lora = random_lora(model.config, blocks)
    head = model.encode(ids, [depth])
    for prefix in (None, random_prefix(model.config, blocks)):
        with_lora = model.tail([head], prefix, depth, lora, every_token=True)
        without = model.tail([head], prefix, depth, every_token=True)
        with merged(tiny.reference(family), lora) as reference:
            expected = reference.logits(ids, as_reference(prefix))
        logits = model.logits(with_lora.final)
        np.testing.assert_allclose(logits, expected, atol=2e-4)
        assert np.abs(logits - model.logits(without.final)).max() > 0.01


def test_smollm2_with_a_lora_equals_the_reference(smollm2: SmolLm2) -> None:
    model = smollm2.model()
    ids = model.tokenizer.encode("How many pedestrians are waiting in front of the bus?").ids
    lora = random_lora(model.config, tuple(range(20, 30)), rank=8)
    result = model.tail([model.encode(ids, [10])], None, 10, lora, every_token=True)
    with merged(smollm2.reference, lora) as reference:
        expected = reference.logits(ids)
    assert np.abs(model.logits(result.final) - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("family", KINDS)
@pytest.mark.parametrize(("blocks", "depth"), TAILS)
def test_tokens_decoded_one_by_one_see_the_lora(
    tiny: TinyModels, family: str, blocks: tuple[int, ...], depth: int
) -> None:
    model = tiny.model(family)
    ids, others, tokens = random_ids(13), random_ids(9), random_ids(6, seed=1)
    lora = random_lora(model.config, blocks)
    prefix = random_prefix(model.config, blocks)
    heads = [model.encode(text, [depth]) for text in (others, ids)]
    result = model.tail(heads, prefix, depth, lora)
    alone, packed = TextCache(model, result, 1, room=6), PackedCache(model, result)
    states = [(alone.extend(t), packed.extend([0, 1], [5, t])[1:]) for t in tokens]
    with merged(tiny.reference(family), lora) as reference:
        expected = reference.logits(ids + tokens, as_reference(prefix))[len(ids) :]
    for made in zip(*states, strict=True):
        logits = model.logits(np.concatenate(made))
        np.testing.assert_allclose(logits, expected, atol=2e-4)


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
@pytest.mark.parametrize("family", ["llama", "opt", "opt_post_norm", "bloom"])
def test_rank_0_is_the_model_itself_bit_for_bit(
    tiny: TinyModels, family: str, precision: Any
) -> None:
    model = tiny.model(family, precision)
    heads = [model.encode(random_ids(length), [4]) for length in LENGTHS]
    nothing = random_lora(model.config, (2, 3, 4, 5), rank=0)
    results = [model.tail(heads, None, 4, lora) for lora in (None, nothing)]
    np.testing.assert_array_equal(results[0].final, results[1].final)
    states = [PackedCache(model, result).extend([0, 2], [5, 6]) for result in results]
    np.testing.assert_array_equal(states[0], states[1])
    tokens = [TextCache(model, result, 1, room=1, native=False).extend(7) for result in results]
    np.testing.assert_array_equal(tokens[0], tokens[1])


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("family", ["llama", "opt", "bloom"])
def test_a_lora_beside_quantised_weights_stays_close(
    tiny: TinyModels, family: str, precision: Any
) -> None:
    ids = random_ids(60)
    lora = random_lora(tiny.model(family).config, (2, 3, 4, 5))
    final = [
        model.tail([model.encode(ids, [4])], None, 4, lora, every_token=True).final
        for model in (tiny.model(family), tiny.model(family, precision))
    ]
    error = np.abs(final[0] - final[1]).mean()
    assert error <= (0.05 if precision == "int8" else 0.5) * final[0].std()


@pytest.mark.parametrize("family", ["llama", "opt", "bloom"])
def test_heads_know_nothing_of_loras(tiny: TinyModels, family: str) -> None:
    model, ids = tiny.model(family), random_ids(17)
    head = model.encode(ids, [2, 6])
    untouched = bytes_of(head)
    for blocks, depth in (((4, 5), 2), (tuple(range(6)), 6)):
        lora = random_lora(model.config, blocks, seed=depth)
        result = model.tail([head, head], None, depth, lora)
        PackedCache(model, result).extend([0, 1], [5, 6])
        TextCache(model, result, 1, room=4).extend(7)
        assert bytes_of(head) == untouched
    assert bytes_of(model.encode(ids, [2, 6])) == untouched


@pytest.mark.parametrize("depth", [2, 3])
def test_loras_may_change_from_call_to_call(tiny: TinyModels, depth: int) -> None:
    model = tiny.model("llama")
    heads = [model.encode(random_ids(length), [depth]) for length in LENGTHS]
    blocks = tuple(range(BLOCKS - depth, BLOCKS))
    first, second = (random_lora(model.config, blocks, seed=seed) for seed in (1, 2))

    def final(lora: Lora | None) -> Float:
        return model.tail(heads, None, depth, lora).final

    made = {name: final(lora) for name, lora in (("1", first), ("2", second), ("-", None))}
    assert not np.allclose(made["1"], made["2"], atol=0.01)
    for name, lora in (("2", second), ("1", first), ("-", None), ("1", first), ("1", first)):
        np.testing.assert_array_equal(final(lora), made[name])
    # A swap while an answer is on its way does not reach into it.
    result = model.tail(heads, None, depth, first)
    begun, packed = TextCache(model, result, 0, room=2), PackedCache(model, result)
    final(second)
    alone = TextCache(model, model.tail(heads[:1], None, depth, first), 0, room=2)
    for token in (5, 6):
        state = alone.extend(token)
        np.testing.assert_allclose(begun.extend(token), state, atol=1e-4)
        np.testing.assert_allclose(packed.extend([0], [token]), state, atol=1e-4)


@pytest.mark.parametrize("family", ["llama", "opt_post_norm", "bloom"])
def test_a_packed_batch_equals_the_questions_one_by_one(tiny: TinyModels, family: str) -> None:
    model = tiny.model(family)
    lora = random_lora(model.config, (2, 3, 4, 5))
    prefix = random_prefix(model.config, (4, 5))
    heads = [model.encode(random_ids(length), [4]) for length in LENGTHS]
    packed = model.tail(heads, prefix, 4, lora).final
    for text, head in enumerate(heads):
        single = model.tail([head], prefix, 4, lora).final[0]
        np.testing.assert_allclose(packed[text], single, atol=1e-4)


def test_loras_that_do_not_fit_are_refused(tiny: TinyModels) -> None:
    model = tiny.model("llama")
    head = model.encode([5, 6], [2, 4])
    with pytest.raises(ConfigError, match="starts at block 3") as caught:
        model.tail([head], None, 2, random_lora(model.config, (3, 4)))
    assert caught.value.field == "lora.blocks"
    with pytest.raises(ConfigError, match="another language model"):
        model.tail([head], None, 2, random_lora(tiny.model("bloom").config, (4, 5)))
    with pytest.raises(ConfigError, match="the model has 0 to 5"):
        random_lora(model.config, (6,))
    fitting = random_lora(model.config, (5,)).blocks[5]
    for changed, message in (
        ((fitting[0].T, *fitting[1:]), "are needed"),
        ((fitting[0], fitting[1][:2], *fitting[2:]), "are needed"),
        ((*fitting[:3], fitting[3][:, :4]), "are needed"),
        ((fitting[0].astype(np.float64), *fitting[1:]), "float32"),
    ):
        with pytest.raises(ConfigError, match=message):
            Lora(model.config, {5: changed})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "spoil",
    [
        Path.unlink,
        lambda path: path.write_bytes(path.read_bytes()[:-40]),
        lambda path: np.save(path, np.zeros((3, 1, 64))),
        lambda path: np.save(path, np.zeros((3, 2, 64), np.float32)),
    ],
    ids=["missing", "cut_off", "float64", "shape"],
)
def test_norms_that_cannot_be_used_are_named(
    tiny: TinyModels, tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    name = tiny.model("llama").manifest.group_norms_file
    shutil.copytree(tiny.engines("llama"), tmp_path / "engines")
    spoil(tmp_path / "engines" / name)
    with pytest.raises(EngineError, match="norms cannot be read") as caught:
        LanguageModel(tmp_path / "engines", OnnxRuntimeEngine, threads=1)
    assert name in str(caught.value.field)


# ---- as part of a connection ----

SPEC_KINDS = ("plain", "conditioned")
RANK = 2


def tokens_of(sensor: str) -> Float:
    shape = (SPECS[MODALITIES[sensor]].tokens, WIDTH)
    return np.random.default_rng(SENSORS.index(sensor)).normal(size=shape).astype(np.float32)


def connection_of(model: LanguageModel, folder: Path, kind: str, **changes: Any) -> Connection:
    spec = connection_spec(kind, lora_rank=RANK, **changes)
    return make_connection(folder, spec, model.config)


@pytest.mark.parametrize("family", ["llama", "opt", "bloom"])
@pytest.mark.parametrize("kind", SPEC_KINDS)
def test_connections_of_any_depth_answer_as_transformers_does(
    tiny: TinyModels, tmp_path: Path, family: str, kind: str
) -> None:
    model = tiny.model(family)
    connection = connection_of(model, tmp_path, kind)
    spec, weights = connection.spec, connection.weights
    ids = [11, 12, 13, 14, 201, 45]
    head = model.encode(ids, [2, 4])
    tokens = {sensor: tokens_of(sensor) for sensor in SENSORS}
    rows = [connection.prepare(s, MODALITIES[s], array) for s, array in tokens.items()]
    if kind == "plain":
        prefix = torch_plain(spec, weights, model, tokens)
    else:
        prefix = torch_conditioned(spec, weights, model, tokens, head)
    for depth in (4, 3, 2):
        lora = connection.lora(depth)
        assert lora is not None
        assert lora is connection.lora(depth)
        # Shallower tails have the last of the connection's matrices, as they have its last gates.
        expected_lora = by_hand(weights, model.config, depth)
        logits = model.logits(
            model.tail([head], connection.connect(rows, [head], depth), depth, lora).final
        )
        kept = {block: pair for block, pair in prefix.items() if block >= BLOCKS - depth}
        with merged(tiny.reference(family), expected_lora) as reference:
            expected = reference.logits(ids, kept)[-1]
        np.testing.assert_allclose(logits[0], expected, atol=1e-3)


def by_hand(weights: Mapping[str, Float], config: LanguageModelConfig, depth: int) -> Lora:
    """The connection has matrices for blocks 2 to 5, numbered from 0."""
    names = ("key.a", "key.b", "value.a", "value.b")
    blocks: dict[int, Any] = {
        block: tuple(weights[f"lora.{block - 2}.{name}"] for name in names)
        for block in range(BLOCKS - depth, BLOCKS)
    }
    return Lora(config, blocks)


def test_connections_without_a_rank_have_none(tiny: TinyModels, tmp_path: Path) -> None:
    model = tiny.model("llama")
    connection = make_connection(tmp_path, connection_spec("plain"), model.config)
    assert connection.lora(2) is None
    for depth in (0, 5):
        with pytest.raises(ConfigError, match="tail depth"):
            connection.lora(depth)
    with pytest.raises(ValidationError, match="lora_rank"):
        connection_spec("plain", lora_rank=-1)


def test_matrices_that_are_missing_or_broken_are_named(tiny: TinyModels, tmp_path: Path) -> None:
    connection = connection_of(tiny.model("llama"), tmp_path, "plain")
    name = "lora.3.value.b"
    for value in (None, np.zeros((3, 3), np.float32), np.full((RANK, 32), np.nan, np.float32)):
        weights = {**connection.weights, name: value}
        if value is None:
            del weights[name]
        with pytest.raises(PackError, match=name):
            connection.with_weights(weights)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("kind", SPEC_KINDS)
def test_training_starts_from_the_model_itself(tiny: TinyModels, kind: str) -> None:
    config = tiny.model("llama").config
    spec = connection_spec(kind, lora_rank=RANK)
    encoders = {name: (encoder.tokens, encoder.width) for name, encoder in SPECS.items()}
    weights = initial_connection(weight_shapes(spec, config, encoders, MODALITIES), seed=0)
    mine = {name: array for name, array in weights.items() if name.startswith("lora.")}
    assert len(mine) == 4 * spec.tail_blocks
    for name, array in mine.items():
        assert array.any() == name.endswith(".a")


@pytest.mark.parametrize("kind", SPEC_KINDS)
def test_a_swap_between_two_frames_brings_the_lora_along(make: MakeRuntime, kind: str) -> None:
    spec = connection_spec(kind, lora_rank=RANK)
    fake = make(spec)
    rt = fake.runtime
    first = rt.step(frames())
    weights = dict(fake.connection.weights)
    for name, array in weights.items():
        if name.startswith("lora.") and name.endswith(".b"):
            weights[name] = -array
    old = rt.swap_connection(rt.connection.with_weights(weights))
    swapped = rt.step()
    # Answers of one token and of several, and free text.
    assert said(swapped) == said(make(spec, weights=weights).runtime.step(frames()))
    assert said(swapped) != said(first)
    told = rt.ask((), "What is it?")
    fresh = make(spec, weights=weights, watch=False).runtime
    assert told.text == fresh.ask(frames(), "What is it?").text
    rt.swap_connection(old)
    assert said(rt.step()) == said(first)


@pytest.mark.parametrize("kind", SPEC_KINDS)
def test_matrices_of_zeros_answer_as_a_connection_without(make: MakeRuntime, kind: str) -> None:
    spec = connection_spec(kind, lora_rank=RANK)
    weights = {
        name: array * 0 if name.startswith("lora.") else array
        for name, array in make(spec, watch=False).connection.weights.items()
    }
    plain: ConnectionSpec = connection_spec(kind)
    without = {name: array for name, array in weights.items() if not name.startswith("lora.")}
    for depth in (1, 2, 4):
        rt = make(spec, weights=weights, tail_blocks=depth).runtime
        base = make(plain, weights=without, tail_blocks=depth).runtime
        assert said(rt.step(frames())) == said(base.step(frames()))
