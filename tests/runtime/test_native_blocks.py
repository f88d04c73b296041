"""Blocks in C against float32 engines of the same rounded weights, and against decoding."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tailwire.kernels import native
from tailwire.runtime.adaptation.text_states import packed_states
from tailwire.runtime.backends.onnxruntime_cpu import OnnxRuntimeEngine
from tailwire.runtime.errors import EngineError
from tailwire.runtime.kv_prefix import KvPrefix
from tailwire.runtime.language_model import LanguageModel, TailResult
from tailwire.runtime.late_engine import LateEngine
from tailwire.runtime.model_config import Precision
from tailwire.runtime.native_blocks import NativeBlocks, open_blocks, processor_is_tuned_for
from tailwire.runtime.native_weights import WEIGHTS_NAME
from tailwire.runtime.packed_cache import PackedCache
from tailwire.runtime.text_cache import TextCache

from ..loras import random_lora
from ..rounded_models import (
    FAMILIES,
    References,
    assert_close,
    needs_compiler,
    random_ids,
    random_prefix,
)

if TYPE_CHECKING:
    from ..built_models import SmolLm2, TinyModels

#: More tokens than a tile, than the lanes of attention, and one alone.
LENGTHS = (13, 1, 40, 5)


pytestmark = [
    needs_compiler,
    pytest.mark.skipif(not processor_is_tuned_for(), reason="this processor has no AVX-512 VNNI"),
]


def assert_same_rows(result: TailResult, expected: TailResult) -> None:
    assert_close(result.final, expected.final)
    assert list(result.cache) == list(expected.cache)
    for block, pair in expected.cache.items():
        for mine, other in zip(result.cache[block], pair, strict=True):
            assert mine.shape == other.shape
            assert_close(mine, other)


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("blocks", "depth"), [(None, 2), ((4, 5), 2), ((3, 5), 4), ((2,), 6), (tuple(range(6)), 6)]
)
@pytest.mark.parametrize("every_token", [False, True])
def test_states_equal_float32_engines(
    tiny: TinyModels,
    references: References,
    family: str,
    precision: Precision,
    blocks: tuple[int, ...] | None,
    depth: int,
    every_token: bool,
) -> None:
    model, reference = tiny.model(family, precision), references.model(family, precision)
    assert model.native_blocks[0] is not None, model.native_blocks[1]
    assert reference.native_blocks[0] is None
    prefix = None if blocks is None else random_prefix(model, blocks, rows=9)
    heads = [reference.encode(random_ids(length), [depth]) for length in LENGTHS]
    result, expected = (
        one.tail(heads, prefix, depth, every_token=every_token) for one in (model, reference)
    )
    assert_same_rows(result, expected)
    assert_close(model.logits(result.final), reference.logits(expected.final))


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("depths", [(4,), (6,), (2, 4, 6)])
def test_heads_equal_float32_engines(
    tiny: TinyModels,
    references: References,
    family: str,
    precision: Precision,
    depths: tuple[int, ...],
) -> None:
    model, reference = tiny.model(family, precision), references.model(family, precision)
    for length in LENGTHS:
        head, expected = (one.encode(random_ids(length), depths) for one in (model, reference))
        assert sorted(head.states) == sorted(expected.states)
        assert list(head.cache) == list(expected.cache)
        pairs = [(head.states[at], expected.states[at]) for at in expected.states]
        pairs += [(head.cache[at], expected.cache[at]) for at in expected.cache]
        for mine, others in pairs:
            for one, other in zip(mine, others, strict=True):
                assert one.shape == other.shape
                assert_close(one, other)


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_a_cached_head_and_the_tail_are_one_full_pass(
    tiny: TinyModels, precision: Precision
) -> None:
    model = tiny.model("llama3", precision)
    prefix = random_prefix(model, (4, 5), rows=9)
    head = model.encode(random_ids(30), [2, 6])
    whole, cut = (model.tail([head], prefix, depth, every_token=True) for depth in (6, 2))
    np.testing.assert_array_equal(cut.final, whole.final)
    again = model.encode(random_ids(30), [2])
    np.testing.assert_array_equal(again.states[4][1], head.states[4][1])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rows", [(4, 0, 9, 1), (7, 7, 7, 7)])
def test_questions_see_their_own_rows(
    tiny: TinyModels, references: References, family: str, rows: tuple[int, ...]
) -> None:
    model, reference = tiny.model(family, "int8"), references.model(family, "int8")
    heads = [reference.encode(random_ids(length), [4]) for length in LENGTHS]
    prefixes = [random_prefix(model, (2, 5), count) for count in rows]
    result, expected = (one.tail(heads, prefixes, 4) for one in (model, reference))
    assert_same_rows(result, expected)
    for at, head in enumerate(heads):
        alone = model.tail([head], prefixes[at], 4)
        np.testing.assert_array_equal(alone.final[0], result.final[at])


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize(("blocks", "rank"), [((4, 5), 8), ((2, 3, 5), 3), ((5,), 70)])
def test_a_lora_is_added_as_engines_add_it(
    tiny: TinyModels,
    references: References,
    precision: Precision,
    blocks: tuple[int, ...],
    rank: int,
) -> None:
    model, reference = tiny.model("llama", precision), references.model("llama", precision)
    lora = random_lora(reference.config, blocks, rank)
    heads = [reference.encode(random_ids(length), [4]) for length in LENGTHS]
    prefix = random_prefix(model, (3, 5), rows=9)
    result, expected = (one.tail(heads, prefix, 4, lora) for one in (model, reference))
    assert_same_rows(result, expected)
    plain = model.tail(heads, prefix, 4).final
    assert np.abs(result.final - plain).max() > 0.01 * np.abs(plain).max()


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("family", FAMILIES)
def test_it_gives_what_decoding_gives(
    tiny: TinyModels, references: References, family: str, precision: Precision
) -> None:
    """The last token of a text, with all others at once and as one that is appended to them."""
    model, reference = tiny.model(family, precision), references.model(family, precision)
    ids = random_ids(17)
    heads = [reference.encode(text, [6]) for text in (ids[:-1], ids)]
    together = model.tail(heads, None, 6)
    appended = TextCache(model, together, 0, room=1).extend(ids[-1])
    assert_close(together.final[1], appended[0], within=1e-4)
    continued = PackedCache(model, together).extend([0], [ids[-1]])
    assert_close(continued[0], together.final[1], within=1e-4)


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("rank", [0, 4])
def test_questions_are_continued_as_engines_do(
    tiny: TinyModels,
    references: References,
    family: str,
    precision: Precision,
    own: bool,
    rank: int,
) -> None:
    model, reference = tiny.model(family, precision), references.model(family, precision)
    lora = random_lora(reference.config, (3, 5), rank) if rank else None
    heads = [reference.encode(random_ids(length), [4]) for length in LENGTHS]
    prefix = random_prefix(model, (2, 5), 9)
    each = [random_prefix(model, (2, 5), rows) for rows in (4, 0, 9, 1)]
    result = reference.tail(heads, each if own else prefix, 4, lora)
    caches = [PackedCache(one, result) for one in (model, reference)]
    # More tokens than there is room for at first, and not the same number for all.
    for token in random_ids(12):
        asked = [2, 0] if token % 2 else [0, 1, 3]
        states, expected = (cache.extend(asked, [token] * len(asked)) for cache in caches)
        assert_close(states, expected)


def test_engines_are_loaded_if_they_are_needed_after_all(tiny: TinyModels) -> None:
    model = LanguageModel(tiny.engines("llama", "int8"), OnnxRuntimeEngine, threads=1)
    engines = [model.embed, *(engine for _, engine in model.groups)]
    heads = [model.encode(random_ids(9), [4])]
    result = model.tail(heads, random_prefix(model, (3, 5), rows=8), 4)
    PackedCache(model, result).extend([0], [5])
    assert not any(isinstance(one, LateEngine) and one.is_loaded for one in engines)
    assert all(isinstance(one, LateEngine) for one in engines)
    other = model.engines_only()
    assert_close(other.encode(random_ids(9), [4]).states[2][0], heads[0].states[2][0], within=0.05)
    assert isinstance(engines[0], LateEngine) and engines[0].is_loaded
    model.close()
    with pytest.raises(EngineError):
        other.encode(random_ids(9), [4])


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_any_number_of_threads_gives_the_same_bits(tiny: TinyModels, precision: Precision) -> None:
    shared = tiny.model("llama", precision)
    prefix = random_prefix(shared, (3, 5), rows=6)
    heads = [shared.encode(random_ids(length), [4]) for length in LENGTHS]
    expected = shared.tail(heads, prefix, 4)
    for threads in (1, 3, 7, 19):
        model = LanguageModel(tiny.engines("llama", precision), OnnxRuntimeEngine, threads=threads)
        for _ in range(3):
            result = model.tail(heads, prefix, 4)
            np.testing.assert_array_equal(result.final, expected.final)
            np.testing.assert_array_equal(result.cache[4][0], expected.cache[4][0])
            logits = model.logits(result.final)
            np.testing.assert_array_equal(logits, shared.logits(expected.final))
        model.close()


def test_batches_of_other_sizes_may_follow_each_other(tiny: TinyModels) -> None:
    model = LanguageModel(tiny.engines("llama", "int8"), OnnxRuntimeEngine, threads=2)
    prefix = random_prefix(model, (3, 5), rows=6)
    for length in (5, 60, 2, 33, 60, 1):
        heads = [model.encode(random_ids(length), [4])]
        result = model.tail(heads, prefix, 4)
        fresh = LanguageModel(tiny.engines("llama", "int8"), OnnxRuntimeEngine, threads=1)
        np.testing.assert_array_equal(result.final, fresh.tail(heads, prefix, 4).final)
        fresh.close()
    model.close()


def test_threads_of_python_take_turns(tiny: TinyModels) -> None:
    model = tiny.model("llama", "int4")
    heads = [model.encode(random_ids(length), [4]) for length in LENGTHS]
    expected, made = model.tail(heads, None, 4).final, []

    def run() -> None:
        made.extend(model.tail(heads, None, 4).final for _ in range(20))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 80
    for final in made:
        np.testing.assert_array_equal(final, expected)


def test_a_forked_process_runs_it_too(tiny: TinyModels) -> None:
    model = tiny.model("llama", "int8")
    heads = [model.encode(random_ids(length), [4]) for length in LENGTHS]
    expected = model.tail(heads, None, 4).final
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(model.tail(heads, None, 4).final, expected) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_smollm2_is_nearer_to_float32_than_with_engines(
    smollm2: SmolLm2, precision: Precision
) -> None:
    """Activations keep 16 bits there, in the engines 8 or, at int4, all."""
    model, exact = smollm2.model(precision), smollm2.model()
    ids = model.tokenizer.encode("How many pedestrians are waiting in front of the bus?").ids
    prefix = random_prefix(model, (*range(20, 25), 29), rows=28)
    heads = [exact.encode(ids, [10])]
    expected = exact.tail(heads, prefix, 10, every_token=True).final
    tuned = model.engines_only()
    mine, engines = (one.tail(heads, prefix, 10, every_token=True).final for one in (model, tuned))
    error = np.abs(mine - expected).mean() / np.abs(expected).mean()
    assert error < 0.01
    if precision == "int8":
        assert error < 0.5 * np.abs(engines - expected).mean() / np.abs(expected).mean()


def test_logits_of_several_states_are_those_of_the_table(smollm2: SmolLm2) -> None:
    model = smollm2.model("int8")
    tail = model.native_blocks[0]
    assert isinstance(tail, NativeBlocks)
    states = np.random.default_rng(0).normal(0, 2, (11, 576)).astype(np.float32)
    expected = states @ model.head_rows.rows(np.arange(model.config.vocab_size)).T
    assert_close(tail.logits(states), expected)
    np.testing.assert_array_equal(tail.logits(states[3:4])[0], tail.logits(states)[3])


def test_work_beside_frames_keeps_nobody_waiting(tiny: TinyModels) -> None:
    model = LanguageModel(tiny.engines("llama", "int8"), OnnxRuntimeEngine, threads=2)
    texts = [random_ids(length) for length in LENGTHS]
    together, aside = (
        packed_states(model, texts, (2, 4), background=background) for background in (False, True)
    )
    for one, other in zip(together, aside, strict=True):
        np.testing.assert_array_equal(one, other)
    assert model.background_blocks[0] is not model.native_blocks[0]
    ends = np.cumsum(LENGTHS)
    for at, text in enumerate(texts):
        alone = model.encode(text, [2]).states[4][0][0]
        np.testing.assert_array_equal(together[1][ends[at] - len(text) : ends[at]], alone)
    model.close()
    with pytest.raises(EngineError):
        packed_states(model, texts, (2, 4), background=True)


def test_branches_of_several_ranks_are_left_to_the_engines(tiny: TinyModels) -> None:
    model = tiny.model("llama", "int8")
    first, second = (random_lora(model.config, (block,), rank) for block, rank in ((4, 2), (5, 3)))
    mixed = type(first)(model.config, {**first.blocks, **second.blocks})
    assert NativeBlocks.fits(first) and NativeBlocks.fits(None)
    assert not NativeBlocks.fits(mixed)
    heads = [model.encode(random_ids(9), [4])]
    engines = model.engines_only()
    expected = engines.tail(heads, None, 4, mixed).final
    np.testing.assert_allclose(model.tail(heads, None, 4, mixed).final, expected, atol=1e-5)
    assert "switched off" in engines.native_blocks[1]


def test_a_model_without_weights_for_it_keeps_its_engines(tiny: TinyModels) -> None:
    tail, reason = tiny.model("opt", "int8").native_blocks
    assert tail is None and "no weights" in reason


def test_another_processor_keeps_its_engines(
    tiny: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, sources = tiny.model("llama", "int8"), native.sources("block_step.c")
    path = tmp_path / "other.so"
    command = ["cc", "-std=gnu11", "-O1", "-fPIC", "-shared", "-pthread", "-march=x86-64"]
    subprocess.run([*command, str(sources[0]), "-o", str(path), "-lm"], check=True)
    monkeypatch.setattr(
        "tailwire.runtime.native_weights.native.load_native",
        lambda *_: (ctypes.CDLL(str(path)), "compiled elsewhere"),
    )
    tail, reason = open_blocks(tiny.engines("llama", "int8"), model.manifest, threads=2)
    assert tail is None and "VNNI" in reason


def test_damaged_weights_are_a_reason(tiny: TinyModels, tmp_path: Path) -> None:
    manifest = tiny.model("llama", "int4").manifest
    folder = tmp_path / "engines"
    shutil.copytree(tiny.engines("llama", "int4"), folder)
    weights = folder / WEIGHTS_NAME
    weights.write_bytes(weights.read_bytes()[:-1])
    tail, reason = open_blocks(folder, manifest, threads=1)
    assert tail is None and "cannot be used" in reason


def test_a_closed_one_refuses(tiny: TinyModels) -> None:
    model = LanguageModel(tiny.engines("llama", "int4"), OnnxRuntimeEngine, threads=2)
    heads = [model.encode(random_ids(9), [4])]
    final = model.tail(heads, None, 4).final
    model.close()
    with pytest.raises(EngineError):
        model.tail(heads, None, 4)
    with pytest.raises(EngineError):
        model.logits(np.repeat(final, 2, 0))


def test_a_prefix_that_lies_apart_in_memory_is_read_right(tiny: TinyModels) -> None:
    model = tiny.model("llama", "int8")
    prefix = random_prefix(model, (3, 5), rows=8)
    wide = np.stack([prefix.keys, prefix.values], -1)
    strided = KvPrefix((3, 5), wide[..., 0], wide[..., 1])
    assert not strided.keys.flags.c_contiguous
    heads = [model.encode(random_ids(9), [4])]
    results = [model.tail(heads, one, 4).final for one in (prefix, strided)]
    np.testing.assert_array_equal(results[0], results[1])
