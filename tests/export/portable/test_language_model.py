"""Portable stages of the language model against transformers and against the tuned engines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from tailwire.export.checkpoint import open_checkpoint
from tailwire.export.llm_graphs import build_language_model
from tailwire.export.portable.layers import PortableLayers, PortableTypes, rounded_int4
from tailwire.export.weights import DenseMatrix
from tailwire.runtime.backends.onnxruntime_cpu import OnnxRuntimeEngine
from tailwire.runtime.backends.portable import PortableEngine, load_portable
from tailwire.runtime.errors import EngineError
from tailwire.runtime.kv_prefix import KvPrefix
from tailwire.runtime.language_model import LanguageModel
from tailwire.runtime.lora import Lora
from tailwire.runtime.packed_cache import PackedCache
from tailwire.runtime.text_cache import TextCache

from ...tiny_models import DEPTHS, VOCABULARY

if TYPE_CHECKING:
    from ...built_models import TinyModels

Float = NDArray[np.float32]

FAMILIES = ("llama", "llama3", "qwen2", "opt", "opt_post_norm", "bloom_6_heads", "odd_columns")
LENGTHS = (7, 1, 12)


def portable(
    tiny: TinyModels, folder: Path, family: str, types: PortableTypes, *, empty_rows: bool = True
) -> LanguageModel:
    source = tiny.folder(family)
    checkpoint = open_checkpoint(source)
    folder.mkdir()
    build_language_model(
        checkpoint,
        folder,
        name=family,
        content_hash="0" * 64,
        precision="fp32",
        depths=DEPTHS,
        layers=lambda graph, _: PortableLayers(graph, checkpoint.config, types),
    )
    if empty_rows:
        return LanguageModel(folder, load_portable, threads=1)

    def load(path: Path, *, threads: int) -> PortableEngine:
        return PortableEngine(OnnxRuntimeEngine(path, threads=threads), empty_rows=False)

    return LanguageModel(folder, load, threads=1)


def texts(lengths: tuple[int, ...] = LENGTHS) -> list[list[int]]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, VOCABULARY, length).tolist() for length in lengths]


def prefix_of(model: LanguageModel, blocks: tuple[int, ...] = (3, 5), rows: int = 4) -> KvPrefix:
    config = model.config
    shape = (len(blocks), config.num_kv_heads, rows, config.head_dim)
    keys, values = np.random.default_rng(1).standard_normal((2, *shape)).astype(np.float32)
    return KvPrefix(blocks, keys, values)


def logits_of(model: LanguageModel, prefix: KvPrefix | None) -> Float:
    heads = [model.encode(ids, [4]) for ids in texts()]
    return model.logits(model.tail(heads, prefix, 4).final)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_transformers(tiny: TinyModels, tmp_path: Path, family: str) -> None:
    model = portable(tiny, tmp_path / "model", family, PortableTypes("fp32", half=False))
    reference, prefix = tiny.reference(family), prefix_of(model)
    by_block = {b: (prefix.keys[i], prefix.values[i]) for i, b in enumerate(prefix.blocks)}
    for given, known in ((None, None), (prefix, by_block)):
        wanted = np.stack([reference.logits(ids, known)[-1] for ids in texts()])
        np.testing.assert_allclose(logits_of(model, given), wanted, atol=2e-4)
    tuned = tiny.model(family)
    np.testing.assert_allclose(logits_of(model, prefix), logits_of(tuned, prefix), atol=2e-4)


@pytest.mark.parametrize("family", ["llama", "bloom_6_heads"])
def test_a_row_or_rank_that_stands_in_for_none_changes_nothing(
    tiny: TinyModels, tmp_path: Path, family: str
) -> None:
    types = PortableTypes("fp32", half=False, lora_rank=2)
    model = portable(tiny, tmp_path / "model", family, types, empty_rows=False)
    for prefix in (None, prefix_of(model)):
        wanted = logits_of(tiny.model(family), prefix)
        np.testing.assert_allclose(logits_of(model, prefix), wanted, atol=2e-4)


def test_answers_go_on_token_by_token(tiny: TinyModels, tmp_path: Path) -> None:
    model = portable(tiny, tmp_path / "model", "llama", PortableTypes("fp32", half=False))
    tuned, ids = tiny.model("llama"), [5, 9, 11]
    finals = []
    for one in (model, tuned):
        result = one.tail([one.encode(t, [4]) for t in texts()], prefix_of(one), 4)
        packed = PackedCache(one, result)
        alone = TextCache(one, result, 2, room=4, native=False)
        steps = [packed.extend([0, 2], [token, token]) for token in ids]
        finals.append([*steps, *(alone.extend(token) for token in ids)])
    for got, wanted in zip(*finals, strict=True):
        np.testing.assert_allclose(got, wanted, atol=2e-4)


#: Largest change of a logit, of a spread of about 1, that a storage may bring.
TOLERANCES = {"fp16": 0.03, "int8": 0.2, "int4": 1.5}


@pytest.mark.parametrize(
    ("weights", "half"),
    [("fp16", True), ("int8", False), ("int8", True), ("int4", False), ("int4", True)],
)
def test_smaller_weights_change_logits_a_little(
    tiny: TinyModels, tmp_path: Path, weights: str, half: bool
) -> None:
    types = PortableTypes(weights, half=half)  # pyright: ignore[reportArgumentType]
    model = portable(tiny, tmp_path / "model", "llama3", types)
    prefix = prefix_of(model)
    got, wanted = logits_of(model, prefix), logits_of(tiny.model("llama3"), prefix)
    assert wanted.std() > 0.5
    assert 0 < np.abs(got - wanted).max() < TOLERANCES[weights]


def test_four_bits_carry_the_codes_of_the_tuned_engines(tiny: TinyModels, tmp_path: Path) -> None:
    model = portable(tiny, tmp_path / "model", "llama", PortableTypes("int4", half=False))
    tuned = tiny.model("llama", "int4").engines_only()
    model.embedding = tuned.embedding  # Which the tuned engines round to 8 bits.
    states = [one.encode(texts()[2], [2]).states[4][0] for one in (model, tuned)]
    np.testing.assert_allclose(states[0], states[1], atol=1e-3)


def test_blocks_of_64_for_tensorrt() -> None:
    dense = np.random.default_rng(0).normal(size=(16, 128)).astype(np.float32)
    blocks = rounded_int4(DenseMatrix(dense), 64)
    codes = blocks.codes.reshape(16, 2, 64).astype(np.float32) - 8
    assert blocks.offsets is not None
    values = codes * blocks.scales[..., None] + blocks.offsets[..., None]
    error = np.abs(values.reshape(dense.shape) - dense)
    assert (error <= np.repeat(blocks.scales, 64, axis=1) / 2 + 1e-6).all()


def test_a_lora_needs_room(tiny: TinyModels, tmp_path: Path) -> None:
    tuned = tiny.model("llama")
    config, rng = tuned.config, np.random.default_rng(0)
    out = config.num_kv_heads * config.head_dim
    shapes = ((config.hidden_size, 2), (2, out)) * 2
    matrices = [rng.normal(0, 0.3, shape).astype(np.float32) for shape in shapes]
    lora = Lora(config, {5: tuple(matrices)})  # pyright: ignore[reportArgumentType]
    types = PortableTypes("fp32", half=False, lora_rank=2)
    roomy = portable(tiny, tmp_path / "roomy", "llama", types)
    results = []
    for model in (roomy, tuned):
        heads = [model.encode(ids, [4]) for ids in texts()]
        results.append(model.tail(heads, prefix_of(model), 4, lora).final)
    np.testing.assert_allclose(results[0], results[1], atol=2e-4)
    plain = tuned.tail([tuned.encode(ids, [4]) for ids in texts()], prefix_of(tuned), 4).final
    assert np.abs(results[1] - plain).max() > 0.01
    tight = portable(tiny, tmp_path / "tight", "llama", PortableTypes("fp32", half=False))
    with pytest.raises(EngineError, match="without room for a LoRA"):
        tight.tail([tight.encode(ids, [4]) for ids in texts()], None, 4, lora)


@pytest.mark.parametrize("weights", ["fp32", "fp16", "int8", "int4"])
def test_every_graph_is_of_standard_operators_and_passes_the_checker(
    tiny: TinyModels, tmp_path: Path, weights: str
) -> None:
    types = PortableTypes(weights, half=weights != "fp32", lora_rank=2)  # pyright: ignore[reportArgumentType]
    portable(tiny, tmp_path / "model", "llama", types)
    graphs = sorted((tmp_path / "model").glob("*.onnx"))
    assert len(graphs) == 5
    for path in graphs:
        onnx.checker.check_model(str(path), full_check=True)
        model = onnx.load(str(path), load_external_data=False)
        assert [o.domain for o in model.opset_import] == [""]
        needs_21 = weights == "int4" and path.name != "logits.onnx"
        assert model.opset_import[0].version == (21 if needs_21 else 20)
