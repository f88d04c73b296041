"""FLOPs formulas equal what is counted on the exported graphs, to the last multiply-add.

The one exception is measured below: outlier channels of int8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import pytest

from tailwire.export.connection_graphs import build_connection
from tailwire.runtime.apart import attend_apart
from tailwire.runtime.cost import ConnectionCost, LanguageModelCost, attention_flops, linear_flops
from tailwire.runtime.language_model import LanguageModel
from tailwire.runtime.model_config import LanguageModelConfig, Precision
from tailwire.runtime.model_manifest import read_manifest
from tailwire.runtime.plans import Answer
from tailwire.runtime.questions import Question

from ..fakes import (
    COUNTS,
    ENCODER_FLOPS,
    MODALITIES,
    QUESTIONS,
    SENSORS,
    SPECS,
    WIDTH,
    Counter,
    connection_spec,
    fake_runtime,
    frame,
    frames,
    graph_macs,
)
from ..tiny_models import VOCABULARY

if TYPE_CHECKING:
    from ..built_models import SmolLm2, TinyModels

#: Grouped queries, post-norm with narrow embeddings, ALiBi, and columns that do not quantise.
FAMILIES = ("llama", "opt_post_norm", "bloom", "odd_columns")
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8", "int4")
LENGTHS = ([24], [5, 17, 9], [30, 30, 30, 30, 30])


def cost_of(model: LanguageModel) -> LanguageModelCost:
    return LanguageModelCost(model.config, model.manifest.precision)


def shapes(
    config: LanguageModelConfig,
    tokens: int,
    questions: int,
    past: int,
    lora: tuple[int, int] = (0, 0),
) -> dict[str, Any]:
    """Shapes of all inputs that any stage may have; `lora`: its rank, in how many last blocks."""
    found: dict[str, Any] = {
        "embedding": (1, tokens, config.embedding_size),
        "position_ids": (1, tokens),
        "residual_in": (1, tokens, config.hidden_size),
        "qkv_in": (1, tokens, config.qkv_size),
        "past_and_new_minus_1": (1,),
        "past_and_new": (),
        "apart": (),
        "unpack": (1, 1),
        "pack": (1,),
        "last_index": (questions,),
        "final": (1, questions, config.embedding_size),
    }
    return _with_rows(found, config, (1, tokens, past), lora)


def apart_shapes(config: LanguageModelConfig, lengths: Sequence[int], past: int) -> dict[str, Any]:
    """The same where each text attends to itself alone."""
    tokens, texts, longest = sum(lengths), len(lengths), max(lengths)
    found = shapes(config, tokens, texts, past)
    found |= {"unpack": (texts, longest), "pack": (tokens,), "position_ids": (texts, longest)}
    return _with_rows(found, config, (texts, longest, past))


def _with_rows(
    found: dict[str, Any],
    config: LanguageModelConfig,
    rows: tuple[int, int, int],
    lora: tuple[int, int] = (0, 0),
) -> dict[str, Any]:
    """With what each block attends to; `rows`: texts, tokens of each, and rows in front."""
    texts, tokens, past = rows
    heads = config.num_heads if config.position == "alibi" else 1
    cache = (texts, config.num_kv_heads, past, config.head_dim)
    for block in range(config.num_blocks):
        found |= {f"past_key_{block}": cache, f"past_value_{block}": cache}
        found[f"bias_{block}"] = (1, heads, tokens, past + tokens)
        rank, blocks = lora
        ranks = 2 * rank if block >= config.num_blocks - blocks else 0
        found[f"lora_a_{block}"] = (config.hidden_size, ranks)
        found[f"lora_b_{block}"] = (ranks, config.qkv_size)
    return found


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_head_and_tail(tiny: TinyModels, family: str, precision: Precision) -> None:
    model, folder = tiny.model(family, precision), tiny.engines(family, precision)
    cost, config = cost_of(model), model.config
    packed = replace(cost, apart=False)
    for lengths in LENGTHS:
        tokens, questions = sum(lengths), len(lengths)
        for depth in (2, 4, 6):
            boundary = model.boundary(depth)
            head = [folder / model.manifest.embed_file]
            head += [folder / group.file for group, _ in model.groups if group.stop <= boundary]
            counted = sum(graph_macs(path, shapes(config, tokens, 1, 0)) for path in head)
            assert cost.head(tokens, boundary) == 2 * counted
            for rows in (0, 1, 28, 140):
                tail = [folder / g.file for g, _ in model.groups if g.start >= boundary]
                given = shapes(config, tokens, questions, rows)
                counted = sum(graph_macs(path, given) for path in tail)
                computed = packed.tail(lengths, boundary, rows)
                assert computed == 2 * counted
                apart = attend_apart(lengths)
                if apart:
                    given = apart_shapes(config, lengths, rows)
                    counted = sum(graph_macs(path, given, then=True) for path in tail)
                assert cost.tail(lengths, boundary, rows) == 2 * counted
                # Rows of each question, in vain for the others where they attend packed.
                own = packed.tail(lengths, boundary, rows * questions)
                assert packed.tail(lengths, boundary, rows, questions) == own


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_decoding_and_logits(tiny: TinyModels, family: str, precision: Precision) -> None:
    model, folder = tiny.model(family, precision), tiny.engines(family, precision)
    cost, config = cost_of(model), model.config
    boundary = model.boundary(2)
    for new, text, rows in ((1, 20, 0), (1, 33, 28), (5, 120, 28)):
        counted = graph_macs(folder / model.manifest.embed_file, shapes(config, new, new, 0))
        for group, _ in model.groups:
            past = text - new + (rows if group.start >= boundary else 0)
            counted += graph_macs(folder / group.file, shapes(config, new, new, past))
        computed = cost.decode_step(new, text, boundary, rows)
        assert computed == 2 * counted
    for rows in (1, 4):
        logits = graph_macs(folder / model.manifest.logits_file, shapes(config, 1, rows, 0))
        assert cost.logits(rows) == 2 * logits
    assert cost.logits(2, 7) == 2 * 2 * 7 * config.embedding_size


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("depth", [1, 2, 3, 4, 6])
def test_loras(tiny: TinyModels, family: str, precision: Precision, depth: int) -> None:
    model, folder = tiny.model(family, precision), tiny.engines(family, precision)
    cost, config, rank = cost_of(model), model.config, 5
    boundary, lengths = model.boundary(depth), [5, 17, 9]
    given = shapes(config, sum(lengths), len(lengths), 7, (rank, depth))
    tail = [folder / group.file for group, _ in model.groups if group.start >= boundary]
    counted = 2 * sum(graph_macs(path, given) for path in tail)
    # Projections of the first tail block come from the head where the tail begins at a cut.
    blocks = depth - (boundary == config.num_blocks - depth)
    assert cost.tail(lengths, boundary, 7) + cost.lora(sum(lengths), rank, blocks) == counted
    # A decoded token passes all blocks.
    every = [
        folder / file for file in (model.manifest.embed_file, *(g.file for g, _ in model.groups))
    ]
    step = 2 * sum(graph_macs(path, shapes(config, 1, 1, 7, (rank, depth))) for path in every)
    assert cost.decode_step(1, 8, config.num_blocks, 0) + cost.lora(1, rank, depth) == step


def test_outlier_channels_of_a_real_model_are_below_two_percent(smollm2: SmolLm2) -> None:
    """The one thing that formulas leave out, where it is there: int8 engines of SmolLM2."""
    folder = smollm2.engines("int8")
    manifest = read_manifest(folder)
    cost, lengths, rows = LanguageModelCost(manifest.config, "int8"), [24] * 5, 28
    for depth in (4, 10, 22):
        boundary = manifest.boundary(depth)
        given = apart_shapes(manifest.config, lengths, rows)
        tail = [folder / group.file for group in manifest.groups if group.start >= boundary]
        counted = 2 * sum(graph_macs(path, given, then=True) for path in tail)
        assert 0 <= counted - cost.tail(lengths, boundary, rows) < 0.02 * counted


def test_layers_by_hand() -> None:
    assert linear_flops(3, 5, 7) == 2 * 3 * 5 * 7
    # Scores and weighted sum, each 2 * queries * keys * head_dim per head.
    assert attention_flops(3, 11, 4, 16) == 2 * (2 * 3 * 11 * 16) * 4


@pytest.mark.parametrize("precision", PRECISIONS)
def test_bytes_of_matrices_are_those_of_the_files(tiny: TinyModels, precision: Precision) -> None:
    model, folder = tiny.model("llama", precision), tiny.engines("llama", precision)
    held, limit = 0, model.manifest.max_text_tokens
    for file in [model.manifest.embed_file, *(group.file for group, _ in model.groups)]:
        graph = onnx.load(str(folder / file), load_external_data=False).graph
        for tensor in graph.initializer:
            count = 1
            for size in tensor.dims:
                count *= size
            # Matrices, codes, scales and offsets; not norms and rotary tables.
            is_table = list(tensor.dims) == [limit, model.config.head_dim // 2]
            if count > model.config.hidden_size and not is_table:
                held += count * (1 if tensor.data_type == onnx.TensorProto.UINT8 else 4)
    assert cost_of(model).weight_bytes(precision) == held


@pytest.mark.parametrize("per_block", [False, True])
@pytest.mark.parametrize("tokens", [1, 4, 24])
def test_plain_connections(tiny: TinyModels, tmp_path: Path, per_block: bool, tokens: int) -> None:
    config = tiny.model("llama").config
    spec = connection_spec("plain", per_block=per_block)
    build_connection(spec, config, tmp_path / "plain.onnx")
    out = spec.blocks_out * config.num_kv_heads * config.head_dim
    given: dict[str, Any] = {"tokens": (tokens, WIDTH)}
    for side in ("key", "value"):
        given |= {f"{side}.w1": (WIDTH, spec.hidden), f"{side}.b1": (spec.hidden,)}
        given |= {f"{side}.w2": (spec.hidden, out), f"{side}.b2": (out,)}
    cost = ConnectionCost(spec, config)
    counted = graph_macs(tmp_path / "plain.onnx", given)
    assert cost.prepare(tokens, WIDTH) == 2 * counted
    assert cost.connect(tokens, [5, 6]) == 0
    assert cost.rows(tokens) == cost.packed_rows(tokens, 3) == tokens


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("tokens", [1, 8, 28])
def test_conditioned_connections(
    tiny: TinyModels, tmp_path: Path, lengths: list[int], tokens: int
) -> None:
    config = tiny.model("llama").config
    spec = connection_spec("conditioned")
    build_connection(spec, config, tmp_path / "conditioned.onnx")
    graph = onnx.load(str(tmp_path / "conditioned.onnx"), load_external_data=False).graph
    given = {
        value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
        for value in graph.input
    }
    given["rows"] = (tokens, spec.width)
    given["states"] = (len(lengths), max(lengths), config.hidden_size)
    given["bias"] = (len(lengths), 1, 1, 1 + tokens + max(lengths))
    cost = ConnectionCost(spec, config)
    counted = graph_macs(tmp_path / "conditioned.onnx", given)
    assert cost.connect(tokens, lengths) == 2 * counted
    assert cost.prepare(tokens, WIDTH) == 2 * tokens * WIDTH * spec.width
    assert cost.rows(tokens) == tokens + 1
    assert cost.packed_rows(tokens, 3) == 3 * (tokens + 1)
    assert cost.rows(0) == cost.packed_rows(0, 3) == cost.connect(0, lengths) == 0


class CountedRuntime:
    """A runtime all of whose engines are counted on their graphs."""

    def __init__(
        self, tiny: TinyModels, folder: Path, kind: str, precision: Precision, lora_rank: int = 0
    ) -> None:
        tiny.model("llama", precision)
        self.counter = Counter()
        engines = tiny.engines("llama", precision)
        model = LanguageModel(engines, self.counter.load, threads=1).engines_only()
        spec = connection_spec(kind, lora_rank=lora_rank)
        self.fake = fake_runtime(model, folder, spec, load_engine=self.counter.load)
        self.runtime = self.fake.runtime
        self._numpy = ConnectionCost(spec, model.config)

    def expected(self, ran: Sequence[str], rows: int) -> int:
        """Counted operations, with those that are numpy's and the fake encoders'.

        Args:
            ran: sensors whose encoders ran.
            rows: output rows that were scored one by one.
        """
        total = self.counter.flops() + 2 * rows * self.runtime.model.config.embedding_size
        for sensor in ran:
            modality = MODALITIES[sensor]
            total += ENCODER_FLOPS[modality]
            if self._numpy.spec.kind == "conditioned":
                total += self._numpy.prepare(SPECS[modality].tokens, WIDTH)
        return total


@pytest.mark.parametrize("kind", ["plain", "conditioned"])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("lora_rank", [0, 3])
def test_answers_carry_the_counted_operations(
    tiny: TinyModels, tmp_path: Path, kind: str, precision: Precision, lora_rank: int
) -> None:
    counted = CountedRuntime(tiny, tmp_path, kind, precision, lora_rank)
    rt, counter = counted.runtime, counted.counter
    for question in (*QUESTIONS, *((f"{text} " * 4, COUNTS) for text, _ in QUESTIONS)):
        rt.watch(*question)
    rows = _scored_rows(counted)
    for given, ran in ((frames(0), SENSORS), ((), ()), ([frame("cam_back", 1)], ["cam_back"])):
        counter.start()
        rows.clear()
        answers = rt.step(given)
        expected = counted.expected(ran, sum(rows))
        assert {answer.flops for answer in answers} == {answers[0].flops}
        assert answers[0].flops == expected
        # The plan knows all but what the answers turn out to need.
        assert 0 < answers[0].plan.flops <= answers[0].flops
    rt.swap_connection(rt.connection.with_weights(rt.connection.weights))
    counter.start()
    rows.clear()
    (answer, *_) = rt.step()
    prepared = SENSORS if kind == "conditioned" else ()
    expected = counted.expected(prepared, sum(rows))
    expected -= sum(ENCODER_FLOPS[MODALITIES[sensor]] for sensor in prepared)
    assert answer.flops == expected
    rt.close()


@pytest.mark.parametrize("kind", ["plain", "conditioned"])
@pytest.mark.parametrize("lora_rank", [0, 3])
def test_asking_counts_the_head_and_every_token(
    tiny: TinyModels, tmp_path: Path, kind: str, lora_rank: int
) -> None:
    counted = CountedRuntime(tiny, tmp_path, kind, "fp32", lora_rank)
    rt, counter = counted.runtime, counted.counter
    rows = _scored_rows(counted)
    asked = rt.ask(frames(), *QUESTIONS[2])
    expected = counted.expected(SENSORS, sum(rows))
    # Where the tail begins at a cut, numpy computes the LoRA of its first block.
    prompt = rt.model.tokenizer.encode(f"{QUESTIONS[2][0]} Answer:").ids
    expected += cost_of(rt.model).lora(len(prompt), lora_rank, 1)
    assert asked.flops == expected
    assert "embed.onnx" in counter.files
    for depth in (1, 4):
        rt.set_tail(depth)
        counter.start()
        *_, answer = rt.stream((), Question("What is it?", max_new_tokens=7))
        assert isinstance(answer, Answer)
        prompt = rt.model.tokenizer.encode("What is it? Answer:").ids
        kept = cost_of(rt.model).lora(len(prompt), lora_rank, int(depth == 4))
        assert answer.flops == counted.expected([], 0) + kept
        assert counter.files.count("logits.onnx") <= 7
    rt.close()


def _scored_rows(counted: CountedRuntime) -> list[int]:
    """Notes how many output rows each call of `score` looks at; that product is numpy's."""
    model, seen = counted.runtime.model, []
    score = model.score

    def noted(final: Any, token_ids: Any) -> Any:
        seen.append(len(final) * len(token_ids))
        return score(final, token_ids)

    model.score = noted
    assert model.config.vocab_size == VOCABULARY
    return seen
