"""Native decoding against float32 engines whose weights are rounded in the same way."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import shutil
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tailwire.kernels import native
from tailwire.runtime.backends.onnxruntime_cpu import OnnxRuntimeEngine
from tailwire.runtime.errors import EngineError
from tailwire.runtime.language_model import LanguageModel
from tailwire.runtime.model_config import Precision
from tailwire.runtime.native_decode import NativeDecoder, open_decoder
from tailwire.runtime.native_weights import INDEX_NAME, WEIGHTS_NAME
from tailwire.runtime.text_cache import TextCache

from ..loras import random_lora
from ..rounded_models import (
    FAMILIES,
    Float,
    References,
    assert_close,
    needs_compiler,
    random_ids,
    random_prefix,
)

if TYPE_CHECKING:
    from ..built_models import SmolLm2, TinyModels


@needs_compiler
@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("blocks", "depth"), [(None, 2), ((4, 5), 2), ((3, 5), 4), ((2,), 6), (tuple(range(6)), 6)]
)
def test_states_and_logits_equal_float32_engines(
    tiny: TinyModels,
    references: References,
    family: str,
    precision: Precision,
    blocks: tuple[int, ...] | None,
    depth: int,
) -> None:
    model, reference = tiny.model(family, precision), references.model(family, precision)
    assert model.native[0] is not None, model.native[1]
    assert reference.native[0] is None
    prefix = None if blocks is None else random_prefix(model, blocks, rows=9)
    result = reference.tail([reference.encode(random_ids(13), [depth])], prefix, depth)
    cache, expected = (TextCache(m, result, 0, room=90) for m in (model, reference))
    for token in random_ids(90):  # the stretched positions of `llama3` begin at 64
        state, expected_state = cache.extend(token), expected.extend(token)
        assert_close(state, expected_state)
        assert_close(model.logits(state), reference.logits(expected_state))


@needs_compiler
@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("blocks", "rank"), [((4, 5), 8), ((0, 2, 5), 3), ((5,), 600)])
def test_a_lora_is_added_as_engines_add_it(
    tiny: TinyModels,
    references: References,
    family: str,
    precision: Precision,
    blocks: tuple[int, ...],
    rank: int,
) -> None:
    model, reference = tiny.model(family, precision), references.model(family, precision)
    lora = random_lora(reference.config, blocks, rank)
    prefix = random_prefix(model, (3, 5), rows=9)
    result = reference.tail([reference.encode(random_ids(13), [6])], prefix, 6, lora)
    cache, expected = (TextCache(m, result, 0, room=9) for m in (model, reference))
    assert cache._native is not None
    for token in random_ids(9):
        assert_close(cache.extend(token), expected.extend(token))


@needs_compiler
@pytest.mark.parametrize("family", FAMILIES)
def test_questions_of_a_batch_keep_their_own_prefix_rows(
    tiny: TinyModels, references: References, family: str
) -> None:
    model, reference = tiny.model(family, "int4"), references.model(family, "int4")
    heads = [reference.encode(random_ids(length), [4]) for length in (7, 1, 12)]
    prefixes = [random_prefix(model, (2, 5), rows) for rows in (4, 0, 9)]
    result = reference.tail(heads, prefixes, 4)
    for question in range(3):
        cache, expected = (TextCache(m, result, question, room=5) for m in (model, reference))
        for token in random_ids(5):
            assert_close(cache.extend(token), expected.extend(token))


@needs_compiler
@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_any_number_of_threads_gives_the_same_bits(tiny: TinyModels, precision: Precision) -> None:
    made: list[tuple[Float, Float]] = []
    shared = tiny.model("llama", precision)
    prefix = random_prefix(shared, (3, 5), rows=6)
    result = shared.tail([shared.encode(random_ids(9), [4])], prefix, 4)
    for threads in (1, 2, 3, 7, 19):
        model = LanguageModel(tiny.engines("llama", precision), OnnxRuntimeEngine, threads=threads)
        cache = TextCache(model, result, 0, room=10)
        states = [cache.extend(token) for token in random_ids(10)]
        made.append((np.concatenate(states), model.logits(states[-1])))
        model.close()
    for states, logits in made[1:]:
        np.testing.assert_array_equal(states, made[0][0])
        np.testing.assert_array_equal(logits, made[0][1])


@needs_compiler
@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("processor", ["", "-march=haswell"])
def test_other_processors_give_the_same(
    tiny: TinyModels, tmp_path: Path, precision: Precision, processor: str
) -> None:
    if processor and (platform.machine() != "x86_64" or "avx2" not in machine_flags()):
        pytest.skip("this processor has no AVX2")
    model = tiny.model("qwen2", precision)
    path = tmp_path / "other.so"
    source = Path(native.__file__).with_name("decode_step.c")
    command = [
        "cc",
        "-std=gnu11",
        "-O2",
        "-fPIC",
        "-shared",
        "-pthread",
        str(source),
        *processor.split(),
    ]
    subprocess.run([*command, "-o", str(path), "-lm"], check=True)
    other = NativeDecoder(
        ctypes.CDLL(str(path)), tiny.engines("qwen2", precision), model.manifest, threads=2
    )
    result = model.tail([model.encode(random_ids(9), [4])], None, 4)
    first, second = (TextCache(model, result, 0, room=10) for _ in range(2))
    second._native = other.text(second._text_rows())
    for token in random_ids(10):
        state, alike = first.extend(token), second.extend(token)
        assert np.abs(state - alike).max() <= 1e-4 * np.abs(alike).max()
        logits = model.logits(state)
        assert np.abs(other.logits(state) - logits).max() <= 1e-5 * np.abs(logits).max()


def machine_flags() -> str:
    return Path("/proc/cpuinfo").read_text(errors="replace")


@needs_compiler
def test_threads_of_python_take_turns(tiny: TinyModels) -> None:
    model = tiny.model("llama", "int4")
    result = model.tail([model.encode(random_ids(9), [4])], None, 4)

    def decode() -> Float:
        cache = TextCache(model, result, 0, room=60)
        return np.concatenate([cache.extend(token) for token in random_ids(60)])

    expected, made = decode(), []
    threads = [threading.Thread(target=lambda: made.append(decode())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 4
    for states in made:
        np.testing.assert_array_equal(states, expected)


@needs_compiler
def test_a_forked_process_decodes_too(tiny: TinyModels) -> None:
    model = tiny.model("llama", "int4")
    result = model.tail([model.encode(random_ids(9), [4])], None, 4)
    first, second = (TextCache(model, result, 0, room=2) for _ in range(2))
    expected = first.extend(5)
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(second.extend(5), expected) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@needs_compiler
def test_smollm2_says_the_same_as_its_engines(smollm2: SmolLm2) -> None:
    model = smollm2.model("int4")
    assert model.native[0] is not None, model.native[1]
    every = np.arange(model.config.vocab_size)
    for prompt in ("The capital of France is", "Once upon a time,", "def fibonacci(n):\n"):
        ids = model.tokenizer.encode(prompt).ids
        result = model.tail([model.encode(ids, [10])], None, 10)
        texts, states = [], {True: [], False: []}
        for is_native in (True, False):
            cache = TextCache(model, result, 0, room=32, native=is_native)
            tokens = [int(model.logits(result.final).argmax())]
            while len(tokens) < 32:
                state = cache.extend(tokens[-1])
                states[is_native].append(state)
                logits = model.logits(state) if is_native else model.score(state, every)
                tokens.append(int(logits[0].argmax()))
            texts.append(tokens)
        assert texts[0] == texts[1]
        for state, expected in zip(states[True], states[False], strict=True):
            assert_close(state, expected)


@pytest.mark.parametrize(("family", "precision"), [("opt", "int8"), ("llama", "fp32")])
def test_other_models_decode_with_engines(
    tiny: TinyModels, family: str, precision: Precision
) -> None:
    model = tiny.model(family, precision)
    decoder, reason = model.native
    assert decoder is None
    assert "no weights for native decoding" in reason
    assert not (tiny.engines(family, precision) / WEIGHTS_NAME).exists()


def test_without_a_compiler_the_engines_decode(
    tiny: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = tiny.model("llama", "int4")
    monkeypatch.setenv("PATH", str(tmp_path))
    model = LanguageModel(tiny.engines("llama", "int4"), OnnxRuntimeEngine, threads=2)
    assert model.native[0] is None
    assert "no C compiler" in model.native[1]
    result = model.tail([model.encode(random_ids(9), [4])], None, 4)
    cache = TextCache(model, result, 0, room=2)
    reference = TextCache(expected, result, 0, room=2, native=False)
    np.testing.assert_array_equal(cache.extend(5), reference.extend(5))
    model.close()


@needs_compiler
@pytest.mark.parametrize(
    "damage", ["index is no JSON", "index lacks a matrix", "weights are cut off", "weights missing"]
)
def test_damaged_weights_are_a_reason(tiny: TinyModels, tmp_path: Path, damage: str) -> None:
    manifest = tiny.model("llama", "int4").manifest
    folder = tmp_path / "engines"
    shutil.copytree(tiny.engines("llama", "int4"), folder)
    index, weights = folder / INDEX_NAME, folder / WEIGHTS_NAME
    if damage == "index is no JSON":
        index.write_text("{")
    elif damage == "index lacks a matrix":
        entries = json.loads(index.read_text())
        del entries["3.ffn_in"]
        index.write_text(json.dumps(entries))
    elif damage == "weights are cut off":
        weights.write_bytes(weights.read_bytes()[:-1])
    else:
        weights.unlink()
    decoder, reason = open_decoder(folder, manifest, threads=1)
    assert decoder is None
    assert "cannot be used" in reason


@needs_compiler
def test_a_closed_decoder_refuses(tiny: TinyModels) -> None:
    tiny.model("llama", "int4")
    model = LanguageModel(tiny.engines("llama", "int4"), OnnxRuntimeEngine, threads=2)
    result = model.tail([model.encode(random_ids(9), [4])], None, 4)
    cache = TextCache(model, result, 0, room=2)
    cache.extend(5)
    model.close()
    with pytest.raises(EngineError):
        cache.extend(5)
