"""Native decoding against float32 engines whose weights are rounded in the same way."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tailwire.export.checkpoint import Checkpoint, open_checkpoint
from tailwire.export.llm_graphs import build_language_model
from tailwire.export.quantize import to_int4, to_int8
from tailwire.export.weights import Block, DenseMatrix, Linear, Matrix, SymmetricBlocks
from tailwire.kernels import native
from tailwire.runtime.backends.onnxruntime_cpu import OnnxRuntimeEngine
from tailwire.runtime.errors import EngineError
from tailwire.runtime.kv_prefix import KvPrefix
from tailwire.runtime.language_model import LanguageModel
from tailwire.runtime.model_config import Precision
from tailwire.runtime.native_decode import INDEX_NAME, WEIGHTS_NAME, NativeDecoder, open_decoder
from tailwire.runtime.text_cache import TextCache

from ..loras import random_lora
from ..tiny_models import DEPTHS, VOCABULARY

if TYPE_CHECKING:
    from ..built_models import SmolLm2, TinyModels

Float = NDArray[np.float32]

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="there is no C compiler"
)

#: Grouped heads; one key head, wide heads, stretched positions and biases everywhere; query biases.
FAMILIES = ("llama", "llama3", "qwen2")

#: Activations keep 15 bits of the largest of a block.
CLOSE = 1e-3


def halves(array: Float) -> Float:
    return array.astype(np.float16).astype(np.float32)


def rounded_int8(matrix: Matrix) -> Float:
    blocks = to_int8(matrix)
    return SymmetricBlocks(blocks.codes, halves(blocks.scales)).dense()


def rounded_int4(matrix: Matrix) -> Float:
    blocks = to_int4(matrix)
    offsets = np.zeros_like(blocks.scales) if blocks.offsets is None else blocks.offsets
    minima = halves(offsets - 8 * blocks.scales)
    codes = blocks.codes.reshape(*minima.shape, -1).astype(np.float32)
    values = codes * halves(blocks.scales)[..., None] + minima[..., None]
    return values.reshape(blocks.codes.shape)


class Rounded:
    """A checkpoint whose matrices are what the native decoder reads, in float32."""

    def __init__(self, checkpoint: Checkpoint, precision: Precision) -> None:
        self._checkpoint = checkpoint
        self._round = rounded_int8 if precision == "int8" else rounded_int4

    def __getattr__(self, name: str) -> Any:
        return getattr(self._checkpoint, name)

    def embedding(self) -> Matrix:
        return DenseMatrix(to_int8(self._checkpoint.embedding()).dense())

    def head(self) -> Matrix:
        return DenseMatrix(to_int8(self._checkpoint.head()).dense())

    def block(self, index: int) -> Block:
        block = self._checkpoint.block(index)
        rounded = {
            name: Linear(DenseMatrix(self._round(layer.weight)), layer.bias)
            for name, layer in vars(block).items()
            if isinstance(layer, Linear)
        }
        return Block(**{**vars(block), **rounded})


class References:
    """Float32 models of rounded weights, each made once."""

    def __init__(self, tiny: TinyModels, root: Path) -> None:
        self._tiny, self._root = tiny, root
        self._models: dict[tuple[str, Precision], LanguageModel] = {}

    def model(self, family: str, precision: Precision) -> LanguageModel:
        key = (family, precision)
        if key not in self._models:
            folder = self._root / f"{family}-{precision}"
            folder.mkdir()
            checkpoint: Any = Rounded(open_checkpoint(self._tiny.folder(family)), precision)
            build_language_model(
                checkpoint,
                folder,
                name=family,
                content_hash="0" * 64,
                precision="fp32",
                depths=DEPTHS,
            )
            self._models[key] = LanguageModel(folder, OnnxRuntimeEngine, threads=1)
        return self._models[key]

    def close(self) -> None:
        for model in self._models.values():
            model.close()


@pytest.fixture(scope="module")
def references(tiny: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> Iterator[References]:
    made = References(tiny, tmp_path_factory.mktemp("rounded"))
    yield made
    made.close()


def random_prefix(model: LanguageModel, blocks: tuple[int, ...], rows: int) -> KvPrefix:
    config = model.config
    shape = (2, len(blocks), config.num_kv_heads, rows, config.head_dim)
    keys, values = np.random.default_rng(rows).standard_normal(shape).astype(np.float32)
    return KvPrefix(blocks, keys, values)


def random_ids(tokens: int) -> list[int]:
    return np.random.default_rng(tokens).integers(0, VOCABULARY, tokens).tolist()


def assert_close(actual: Float, expected: Float) -> None:
    assert np.abs(actual - expected).max() <= CLOSE * np.abs(expected).max()


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
                # Two rows go through the engine, one through the native code.
                rows = state if is_native else np.repeat(state, 2, axis=0)
                tokens.append(int(model.logits(rows)[0].argmax()))
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
