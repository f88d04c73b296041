"""What the language model says to questions, depths, prefixes and files that do not fit."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tailwire.runtime.backends.onnxruntime_cpu import OnnxRuntimeEngine
from tailwire.runtime.errors import ConfigError, EngineError, TailwireError
from tailwire.runtime.kv_prefix import KvPrefix, join_rows
from tailwire.runtime.language_model import LanguageModel
from tailwire.runtime.text_cache import TextCache

from ..tiny_models import BLOCKS, MAX_POSITIONS, VOCABULARY
from .test_language_model import random_prefix

if TYPE_CHECKING:
    from ..built_models import TinyModels


def refused(action: Callable[[], object], kind: type[TailwireError], field: str) -> TailwireError:
    """Run what must be refused with one error of this kind that names this field and a remedy."""
    with pytest.raises(TailwireError) as caught:
        action()
    assert type(caught.value) is kind
    assert field in caught.value.field
    assert caught.value.problem
    assert caught.value.remedy
    return caught.value


@pytest.fixture
def model(tiny: TinyModels) -> LanguageModel:
    return tiny.model("llama")


@pytest.mark.parametrize("tokens", [0, MAX_POSITIONS + 1])
def test_questions_that_are_empty_or_too_long(model: LanguageModel, tokens: int) -> None:
    error = refused(lambda: model.encode([5] * tokens, [2]), ConfigError, "question")
    assert f"{tokens} tokens" in error.problem
    assert str(MAX_POSITIONS) in error.problem


def test_the_longest_question_works(tiny: TinyModels) -> None:
    for family in ("llama", "opt", "bloom"):
        model = tiny.model(family)
        ids = [5] * MAX_POSITIONS
        logits = model.logits(model.tail([model.encode(ids, [2])], None, 2).final)
        expected = tiny.reference(family).logits(ids)[-1]
        np.testing.assert_allclose(logits[0], expected, atol=1e-4)


@pytest.mark.parametrize("token", [-1, VOCABULARY, 10**9])
def test_tokens_that_the_model_does_not_have(model: LanguageModel, token: int) -> None:
    refused(lambda: model.encode([5, token], [2]), ConfigError, "question")


@pytest.mark.parametrize("depth", [0, -1, BLOCKS + 1])
def test_depths_that_the_model_does_not_have(model: LanguageModel, depth: int) -> None:
    refused(lambda: model.encode([5], [depth]), ConfigError, "tail")
    refused(lambda: model.tail([model.encode([5], [2])], None, depth), ConfigError, "tail")


def test_a_question_without_depths(model: LanguageModel) -> None:
    refused(lambda: model.encode([5], []), ConfigError, "depths")


def test_a_depth_that_the_question_was_not_encoded_for(model: LanguageModel) -> None:
    head = model.encode([5], [2])
    refused(lambda: model.tail([head], None, 4), ConfigError, "tail")


def test_a_tail_without_questions(model: LanguageModel) -> None:
    refused(lambda: model.tail([], None, 2), ConfigError, "question")


def test_a_prefix_below_the_tail(model: LanguageModel) -> None:
    head = model.encode([5, 6], [2, 4])
    prefix = random_prefix(model.config, (3, 5), rows=2)
    refused(lambda: model.tail([head], prefix, 2), ConfigError, "prefix.blocks")
    model.tail([head], prefix, 4)


@pytest.mark.parametrize("blocks", [(4, BLOCKS), (-1, 5)])
def test_a_prefix_for_blocks_that_the_model_does_not_have(
    model: LanguageModel, blocks: tuple[int, ...]
) -> None:
    head = model.encode([5, 6], [6])
    prefix = random_prefix(model.config, blocks, rows=2)
    refused(lambda: model.tail([head], prefix, 6), ConfigError, "prefix.blocks")


def test_a_prefix_of_another_model(model: LanguageModel) -> None:
    head = model.encode([5, 6], [2])
    for heads, head_dim in ((4, 16), (2, 32)):
        rows = np.zeros((1, heads, 3, head_dim), np.float32)
        prefix = KvPrefix((5,), rows, rows)
        refused(lambda prefix=prefix: model.tail([head], prefix, 2), ConfigError, "prefix")


def test_prefixes_that_do_not_match_the_questions(model: LanguageModel) -> None:
    heads = [model.encode([5, 6], [2]), model.encode([7], [2])]
    one, two = (random_prefix(model.config, blocks, rows=2) for blocks in ((5,), (4, 5)))
    refused(lambda: model.tail(heads, [one], 2), ConfigError, "prefix")
    refused(lambda: model.tail(heads, [one, two], 2), ConfigError, "prefix.blocks")


@pytest.mark.parametrize(
    ("blocks", "shape", "dtype"),
    [
        ((), (0, 2, 3, 16), np.float32),
        ((4, 5), (1, 2, 3, 16), np.float32),
        ((5, 4), (2, 2, 3, 16), np.float32),
        ((5, 5), (2, 2, 3, 16), np.float32),
        ((5,), (2, 3, 16), np.float32),
        ((5,), (1, 2, 3, 16), np.float64),
    ],
)
def test_prefixes_that_are_none(
    blocks: tuple[int, ...], shape: tuple[int, ...], dtype: type[np.floating]
) -> None:
    rows = np.zeros(shape, dtype)
    refused(lambda: KvPrefix(blocks, rows, rows), ConfigError, "prefix")  # pyright: ignore


def test_keys_and_values_of_different_shape() -> None:
    keys, values = (np.zeros((1, 2, rows, 16), np.float32) for rows in (3, 4))
    refused(lambda: KvPrefix((5,), keys, values), ConfigError, "prefix")
    refused(lambda: join_rows([]), ConfigError, "prefix")


def test_answers_that_leave_the_models_length(model: LanguageModel) -> None:
    result = model.tail([model.encode([5] * (MAX_POSITIONS - 2), [2])], None, 2)
    refused(lambda: TextCache(model, result, 0, room=3), ConfigError, "max_new_tokens")
    cache = TextCache(model, result, 0, room=2)
    cache.extend(5)
    cache.extend(6)
    refused(lambda: cache.extend(7), ConfigError, "max_new_tokens")


@pytest.fixture
def engines(tiny: TinyModels, tmp_path: Path) -> Path:
    """A copy of engines that a test may break."""
    tiny.model("llama", "int8")
    return shutil.copytree(tiny.engines("llama", "int8"), tmp_path / "engines")


@pytest.mark.parametrize(
    "name", ["model.json", "embed.onnx", "blocks_002_004.onnx", "tokenizer.json", "embedding.npy"]
)
@pytest.mark.parametrize("damage", ["missing", "empty", "cut off", "garbage"])
def test_files_of_an_engine_folder_that_are_broken(engines: Path, name: str, damage: str) -> None:
    path = engines / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        broken = {"empty": b"", "cut off": content[: len(content) // 2], "garbage": b"\xff" * 999}
        path.write_bytes(broken[damage])

    def use_all() -> None:
        # Where blocks run in C, engines are loaded when they are needed after all.
        model = LanguageModel(engines, OnnxRuntimeEngine, threads=1).engines_only()
        model.tail([model.encode([5], [2])], None, 2)

    refused(use_all, EngineError, name.removesuffix(".npy"))


def test_quantised_tables_without_their_scales(engines: Path) -> None:
    (engines / "embedding.scales.npy").unlink()
    refused(lambda: LanguageModel(engines, OnnxRuntimeEngine, threads=1), EngineError, "embedding")


def test_a_closed_model_says_so(engines: Path) -> None:
    model = LanguageModel(engines, OnnxRuntimeEngine, threads=1)
    model.close()
    refused(lambda: model.engines_only().encode([5], [2]), EngineError, "embed")
    with pytest.raises(EngineError, match="closed"):
        model.encode([5], [2])
