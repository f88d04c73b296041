"""Engines of every family against transformers on the same weights, and what quantising costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from tailwire.export.checkpoint import open_checkpoint
from tailwire.export.llm_graphs import build_language_model, plan_groups
from tailwire.runtime.errors import ConfigError, ModelError
from tailwire.runtime.language_model import LanguageModel
from tailwire.runtime.model_config import Precision
from tailwire.runtime.packed_cache import PackedCache
from tailwire.runtime.text_cache import TextCache

from ..built_models import build, load_reference
from ..tiny_models import BLOCKS, DEPTHS, FAMILIES, VOCABULARY, save_tiny_model

if TYPE_CHECKING:
    from ..built_models import SmolLm2, TinyModels

Float = NDArray[np.float32]

WINDOW = 256

PROMPTS = (
    "The capital of France is",
    "Once upon a time, there was a little robot who",
    "def fibonacci(n):\n",
    "<|im_start|>user\nHow many wheels does a car have?<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>user\nName three fruits.<|im_end|>\n<|im_start|>assistant\n",
    "Water boils at a temperature of",
    "1, 2, 3, 4, 5,",
    "Dear Sir or Madam,\n\n",
    "Question: is the light red or green? Answer:",
    "In 1969, the first",
)


def all_logits(model: LanguageModel, token_ids: list[int], depth: int) -> Float:
    """Logits at every position, the head cached below a tail of `depth` blocks."""
    head = model.encode(token_ids, [depth])
    return model.logits(model.tail([head], None, depth, every_token=True).final)


def random_ids(tokens: int) -> list[int]:
    return np.random.default_rng(tokens).integers(0, VOCABULARY, tokens).tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_tiny_logits_equal_transformers_at_every_depth(tiny: TinyModels, family: str) -> None:
    # 200 tokens reach the stretched rotary positions of `llama3`, which begin at 64.
    for tokens in (1, 2, 200):
        ids = random_ids(tokens)
        expected = tiny.reference(family).logits(ids)
        for depth in range(1, BLOCKS + 1):
            logits = all_logits(tiny.model(family), ids, depth)
            np.testing.assert_allclose(logits, expected, atol=1e-4, err_msg=f"depth {depth}")


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("opt", {"activation_function": "gelu"}),
        ("opt", {"_remove_final_layer_norm": True}),
        ("bloom", {"hidden_size": 72, "n_head": 9}),  # heads of 8, odd number of them
        ("llama", {"num_hidden_layers": 1}),  # embed and logits around a single group
        ("llama", {"head_dim": 80}),
    ],
)
def test_variants_equal_transformers(
    tmp_path: Path, family: str, changes: dict[str, object]
) -> None:
    folder = save_tiny_model(family, tmp_path / "model", **changes)
    model = build(folder, tmp_path / "engines", "fp32")
    ids = random_ids(50)
    logits = all_logits(model, ids, model.config.num_blocks)
    np.testing.assert_allclose(logits, load_reference(folder).logits(ids), atol=1e-4)


@pytest.mark.parametrize("depth", [30, 13, 11, 1])
def test_smollm2_logits_equal_transformers(
    smollm2: SmolLm2, ordinary_text: str, depth: int
) -> None:
    ids = smollm2.model().tokenizer.encode(ordinary_text).ids[:WINDOW]
    logits = all_logits(smollm2.model(), ids, depth)
    assert np.abs(logits - smollm2.reference_logits(ids)).max() <= 1e-3


def test_smollm2_greedy_text_equals_transformers(smollm2: SmolLm2) -> None:
    model = smollm2.model()
    prompts = [model.tokenizer.encode(prompt).ids for prompt in PROMPTS]
    expected = smollm2.reference.greedy(prompts, 32)
    assert [greedy(model, ids, 32) for ids in prompts] == expected
    assert greedy_batch(model, prompts, 32) == expected


def greedy(model: LanguageModel, ids: list[int], new_tokens: int) -> list[int]:
    result = model.tail([model.encode(ids, [10])], None, 10)
    cache = TextCache(model, result, 0, room=new_tokens)
    tokens = [int(model.logits(result.final).argmax())]
    while len(tokens) < new_tokens:
        tokens.append(int(model.logits(cache.extend(tokens[-1])).argmax()))
    return tokens


def greedy_batch(
    model: LanguageModel, prompts: list[list[int]], new_tokens: int
) -> list[list[int]]:
    result = model.tail([model.encode(ids, [10]) for ids in prompts], None, 10)
    cache = PackedCache(model, result)
    steps = [model.logits(result.final).argmax(axis=1)]
    while len(steps) < new_tokens:
        final = cache.extend(range(len(prompts)), steps[-1].tolist())
        steps.append(model.logits(final).argmax(axis=1))
    return np.stack(steps, axis=1).tolist()


@pytest.fixture(scope="module")
def ordinary_ids(smollm2: SmolLm2, ordinary_text: str) -> list[int]:
    return smollm2.model().tokenizer.encode(ordinary_text).ids


@pytest.fixture(scope="module")
def fp32_choices(smollm2: SmolLm2, ordinary_ids: list[int]) -> NDArray[np.int64]:
    return choices(smollm2.model(), ordinary_ids)


def choices(model: LanguageModel, ids: list[int]) -> NDArray[np.int64]:
    """The likeliest token at each of 1,000 positions, read in windows."""
    windows = [ids[start : start + WINDOW] for start in range(0, 1000, WINDOW)]
    tops = [all_logits(model, window, 30).argmax(axis=1) for window in windows]
    return np.concatenate(tops)[:1000]


@pytest.mark.parametrize(("precision", "least"), [("int8", 0.97), ("int4", 0.93)])
def test_smollm2_agrees_with_fp32_on_ordinary_text(
    smollm2: SmolLm2,
    ordinary_ids: list[int],
    fp32_choices: NDArray[np.int64],
    precision: Precision,
    least: float,
) -> None:
    agreement = choices(smollm2.model(precision), ordinary_ids) == fp32_choices
    assert len(agreement) == 1000
    assert agreement.mean() >= least


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "odd_columns"])
def test_quantised_tiny_models_stay_close(
    tiny: TinyModels, family: str, precision: Precision
) -> None:
    ids = random_ids(200)
    exact = all_logits(tiny.model(family), ids, BLOCKS)
    error = np.abs(all_logits(tiny.model(family, precision), ids, BLOCKS) - exact)
    # Random weights are the worst case of rounding; a wrong layout of codes gives errors above 1.
    bound = 0.05 if precision == "int8" else 0.5
    assert error.mean() <= bound * exact.std()


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_matrices_that_do_not_split_into_blocks_stay_float(
    tiny: TinyModels, precision: Precision
) -> None:
    ids = random_ids(50)
    logits = all_logits(tiny.model("odd_columns", precision), ids, BLOCKS)
    np.testing.assert_array_equal(logits, all_logits(tiny.model("odd_columns"), ids, BLOCKS))


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "opt_post_norm", "bloom"])
def test_scores_of_chosen_tokens_are_their_logits(
    tiny: TinyModels, family: str, precision: Precision
) -> None:
    model = tiny.model(family, precision)
    final = model.tail([model.encode(random_ids(20), [2])], None, 2).final
    chosen = np.asarray([5, 0, 319, 5])
    logits = model.logits(final)[:, chosen]
    # Quantised logits also round the state that they are made of; scores do not.
    tolerance = 1e-5 if precision == "fp32" else 0.03 * float(np.abs(logits).max())
    np.testing.assert_allclose(model.score(final, chosen), logits, atol=tolerance)


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_equal_weights_give_equal_files(
    tiny: TinyModels, tmp_path: Path, precision: Precision
) -> None:
    tiny.model("qwen2", precision)
    build(tiny.folder("qwen2"), tmp_path / "again", precision)
    first, again = tiny.engines("qwen2", precision), tmp_path / "again"
    names = sorted(path.name for path in first.iterdir())
    assert names == sorted(path.name for path in again.iterdir())
    for name in names:
        assert (first / name).read_bytes() == (again / name).read_bytes(), name


def test_progress_ends_at_its_total(tiny: TinyModels, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    build_language_model(
        open_checkpoint(tiny.folder("llama")),
        tmp_path,
        name="llama",
        content_hash="0" * 64,
        precision="int8",
        depths=DEPTHS,
        progress=lambda _what, done, total: told.append((done, total)),
    )
    assert told == [(step, 5) for step in range(1, 6)]


def test_groups_start_where_the_tails_do() -> None:
    groups = plan_groups(30, (4, 10, 30, 40))
    assert [(group.start, group.stop) for group in groups] == [(0, 20), (20, 26), (26, 30)]
    assert [(group.start, group.stop) for group in plan_groups(1, (4, 10))] == [(0, 1)]
    assert [(group.start, group.stop) for group in plan_groups(5, ())] == [(0, 5)]


@pytest.mark.parametrize("depth", [0, -3])
def test_depths_must_be_positive(depth: int) -> None:
    with pytest.raises(ConfigError, match="positive") as caught:
        plan_groups(30, (4, depth))
    assert caught.value.field == "depths"


@pytest.mark.parametrize(
    ("family", "changes", "multiple"),
    [("llama", {"head_dim": 24}, 16), ("bloom", {"hidden_size": 48, "n_head": 4}, 8)],
)
def test_heads_that_the_attention_operator_refuses_are_named(
    tmp_path: Path, family: str, changes: dict[str, object], multiple: int
) -> None:
    folder = save_tiny_model(family, tmp_path, **changes)
    with pytest.raises(ModelError, match=f"no multiple of {multiple}") as caught:
        build_language_model(
            open_checkpoint(folder), tmp_path, name="x", content_hash="0" * 64, precision="int8"
        )
    assert caught.value.field == "head_dim"
    assert caught.value.remedy
