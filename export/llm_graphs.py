"""Builds the stages of a language model as CPU-tuned ONNX graphs, straight from a checkpoint.

Stages: `embed` (up to the first block's query/key/value projection), groups of blocks, `logits`.
Head and tail are made of the same groups, so the split is chosen per call, not here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..runtime.errors import ConfigError, ModelError
from ..runtime.model_config import LanguageModelConfig, Precision
from ..runtime.model_manifest import MANIFEST_NAME, BlockGroup, ModelManifest
from ..runtime.vocabulary import write_table
from .calibrate import CalibratedCheckpoint
from .checkpoint import Checkpoint
from .decode_weights import write_decode_weights
from .graph import Dim, GraphBuilder
from .llm_layers import AttentionInputs, Layers, Lengths, rotary_tables
from .quantize import can_quantize, to_int8
from .recipes import DEFAULT_DEPTHS, LANGUAGE_MODEL
from .weights import Block, Linear, Matrix, Norm

#: See `recipes.py`: to be changed there with this file.
RECIPE = LANGUAGE_MODEL

#: Longest question in tokens; bounds the rotary tables, not the memory of a call.
DEFAULT_MAX_TEXT_TOKENS = 2048

Progress = Callable[[str, int, int], None]

#: First and last block (exclusive) that a stage runs; the first and the last stage run none.
Stage = tuple[int, int]
EMBED: Stage = (0, 0)
LOGITS: Stage = (-1, -1)

#: Makes the layers of one stage.
LayersOf = Callable[[GraphBuilder, Stage], Layers]


def build_language_model(
    checkpoint: Checkpoint,
    folder: Path,
    *,
    name: str,
    content_hash: str,
    precision: Precision,
    depths: Sequence[int] = DEFAULT_DEPTHS,
    max_text_tokens: int = DEFAULT_MAX_TEXT_TOKENS,
    progress: Progress | None = None,
    layers: LayersOf | None = None,
) -> ModelManifest:
    """Write all stages of `checkpoint` into `folder`.

    Args:
        checkpoint: the weights.
        folder: an existing folder that nobody reads yet.
        name: for people.
        content_hash: sha256 of the checkpoint, kept in the manifest.
        precision: of the block matrices; norms and attention stay float32.
        depths: tail depths that start a group.
        max_text_tokens: longest text, in tokens.
        progress: called with (what, done, total).
        layers: makes the layers of a stage, None for those that are tuned for the CPU; others come
            without weights for the decoder in C.

    Returns:
        The manifest, which is also written to the folder.

    Raises:
        ConfigError: the depths do not fit the model.
        ModelError: the checkpoint is corrupt, or the precision does not fit it.
    """
    config = checkpoint.config
    _check_head_dim(config)
    groups = plan_groups(config.num_blocks, depths)
    # First of all, because it is quick and may fail.
    tokenizer = checkpoint.tokenizer_json()
    report = progress or (lambda _what, _done, _total: None)
    total = len(groups) + 2
    if precision == "int8" and layers is None:
        checkpoint = CalibratedCheckpoint(checkpoint)
    make = layers or (lambda graph, _: Layers(graph, config, precision))
    _build_embed(checkpoint, folder / "embed.onnx", make)
    report("embed", 1, total)
    norms: list[Norm] = []
    for number, group in enumerate(groups):
        path = folder / group.file
        norms.append(_build_group(checkpoint, path, group, make, max_text_tokens))
        report(f"blocks {group.start}-{group.stop - 1}", number + 2, total)
    _write_norms(norms, config, folder / "group_norms.npy")
    if layers is None:
        write_decode_weights(checkpoint, folder, precision, _positions(config, max_text_tokens))
    # The output embedding stays at 8 bits or above, and sees the final state almost unrounded:
    # both cost little here and would cost accuracy first, as the likeliest tokens are often close.
    wide = layers or (
        lambda graph, _: Layers(graph, config, "fp32" if precision == "fp32" else "int8")
    )
    _build_logits(checkpoint.head(), config, folder / "logits.onnx", wide)
    embedding, head = checkpoint.embedding(), checkpoint.head()
    _write_table(embedding, folder / "embedding", precision)
    tied = _same(embedding, head)
    if not tied:
        _write_table(head, folder / "head", precision)
    (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    manifest = ModelManifest(
        name=name,
        content_hash=content_hash,
        config=config,
        precision=precision,
        max_text_tokens=_positions(config, max_text_tokens),
        embed_file="embed.onnx",
        groups=groups,
        group_norms_file="group_norms.npy",
        logits_file="logits.onnx",
        embedding_table="embedding",
        head_table="embedding" if tied else "head",
        tokenizer_file="tokenizer.json",
        chat_template=checkpoint.chat_template(),
    )
    (folder / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
    report("logits", total, total)
    return manifest


def plan_groups(num_blocks: int, depths: Sequence[int]) -> tuple[BlockGroup, ...]:
    """Cut `num_blocks` into groups so that each depth's tail starts a group.

    Depths that the model does not have are left out, so that one default serves all sizes.

    Raises:
        ConfigError: a depth is not positive.
    """
    if any(depth <= 0 for depth in depths):
        raise ConfigError(
            f"tail depths are {list(depths)}", field="depths", remedy="give positive numbers"
        )
    starts = sorted({0} | {num_blocks - depth for depth in depths if depth < num_blocks})
    stops = [*starts[1:], num_blocks]
    return tuple(
        BlockGroup(start=a, stop=b, file=f"blocks_{a:03}_{b:03}.onnx")
        for a, b in zip(starts, stops, strict=True)
    )


def _check_head_dim(config: LanguageModelConfig) -> None:
    multiple = 16 if config.position == "rope" else 8
    if config.head_dim % multiple:
        raise ModelError(
            f"head_dim {config.head_dim} is no multiple of {multiple}, as ONNX Runtime's attention "
            "needs it",
            field="head_dim",
            remedy="use another model",
        )


def _positions(config: LanguageModelConfig, max_text_tokens: int) -> int:
    return min(config.max_positions, max_text_tokens)


def _build_embed(checkpoint: Checkpoint, path: Path, make: LayersOf) -> None:
    config = checkpoint.config
    graph = GraphBuilder("embed")
    layers = make(graph, EMBED)
    x = graph.input("embedding", "float32", [1, "tokens", config.embedding_size])
    projection, table = checkpoint.project_in(), checkpoint.positions()
    if projection is not None:
        x = layers.linear(x, projection)
    if table is not None:
        positions = graph.input("position_ids", "int64", [1, "tokens"])
        x = graph.op("Add", x, graph.op("Gather", graph.constant(table), positions, axis=0))
    norm = checkpoint.embedding_norm()
    if norm is not None:
        x = layers.norm(x, norm)
    first = checkpoint.block(0)
    normed = x if config.post_norm else layers.norm(x, first.attention_norm)
    _stage_outputs(graph, config, x, layers.projections(normed, first.qkv, 0))
    graph.save(path)


def _stage_outputs(graph: GraphBuilder, config: LanguageModelConfig, x: str, qkv: str) -> None:
    graph.output(x, "residual", "float32", [1, "tokens", config.hidden_size])
    graph.output(qkv, "qkv", "float32", [1, "tokens", config.qkv_size])


def _build_group(
    checkpoint: Checkpoint, path: Path, group: BlockGroup, make: LayersOf, max_tokens: int
) -> Norm:
    """Write the graph of a group; returns the attention norm of its first block."""
    config = checkpoint.config
    graph = GraphBuilder(f"blocks_{group.start}_{group.stop}")
    layers = make(graph, (group.start, group.stop))
    residual = graph.input("residual_in", "float32", [1, "tokens", config.hidden_size])
    qkv = graph.input("qkv_in", "float32", [1, "tokens", config.qkv_size])
    lengths = layers.lengths()
    rotary = None
    if config.position == "rope":
        cos, sin = rotary_tables(config, _positions(config, max_tokens))
        rotary = (
            graph.constant(cos, "cos"),
            graph.constant(sin, "sin"),
            graph.input("position_ids", "int64", _rows(lengths)),
        )
    is_last = group.stop == config.num_blocks
    last_index = graph.input("last_index", "int64", ["questions"]) if is_last else ""
    block = checkpoint.block(group.start)
    first_norm = block.attention_norm
    for index in range(group.start, group.stop):
        attended = _attend(graph, layers, config, index, qkv, lengths, rotary)
        if index == config.num_blocks - 1:
            # The last block's keys and values need every token, its output only the last ones.
            attended = graph.op("Gather", attended, last_index, axis=1)
            residual = graph.op("Gather", residual, last_index, axis=1)
            _finish(graph, layers, checkpoint, block, attended, residual)
            break
        following = checkpoint.block(index + 1)
        normed, residual = _pass_block(layers, config, block, following, attended, residual, graph)
        qkv = layers.projections(normed, following.qkv, index + 1)
        block = following
    if not is_last:
        _stage_outputs(graph, config, residual, qkv)
    graph.save(path)
    return first_norm


def _attend(
    graph: GraphBuilder,
    layers: Layers,
    config: LanguageModelConfig,
    index: int,
    qkv: str,
    lengths: Lengths | None,
    rotary: tuple[str, str, str] | None,
) -> str:
    texts, queries = _rows(lengths)
    cache = [texts, config.num_kv_heads, "past", config.head_dim]
    grown = [texts, config.num_kv_heads, "past_and_new", config.head_dim]
    heads = config.num_heads if config.position == "alibi" else 1
    past = (
        graph.input(f"past_key_{index}", "float32", cache),
        graph.input(f"past_value_{index}", "float32", cache),
    )
    bias = graph.input(f"bias_{index}", "float32", [1, heads, queries, "past_and_new"])
    present = (
        graph.declare_output(f"key_{index}", "float32", grown),
        graph.declare_output(f"value_{index}", "float32", grown),
    )
    return layers.attention(AttentionInputs(qkv, past, rotary, bias, lengths), present)


def _rows(lengths: Lengths | None) -> tuple[Dim, Dim]:
    """How many texts attention takes at once, and tokens of each."""
    return (1, "tokens") if lengths is None else ("texts", "queries")


def _feed_forward(graph: GraphBuilder, layers: Layers, block: Block, x: str) -> str:
    return layers.linear(layers.activation(layers.linear(x, block.ffn_in)), block.ffn_out)


def _pass_block(
    layers: Layers,
    config: LanguageModelConfig,
    block: Block,
    following: Block,
    attended: str,
    residual: str,
    graph: GraphBuilder,
) -> tuple[str, str]:
    """From a block's attention to the input of the next block's projections, and the residual."""
    projected = layers.linear(attended, block.output)
    if config.post_norm:
        residual, _ = layers.add_norm(projected, residual, block.attention_norm)
        hidden = _feed_forward(graph, layers, block, residual)
        residual, _ = layers.add_norm(hidden, residual, block.ffn_norm)
        return residual, residual
    normed, residual = layers.add_norm(projected, residual, block.ffn_norm)
    hidden = _feed_forward(graph, layers, block, normed)
    return layers.add_norm(hidden, residual, following.attention_norm)


def _finish(
    graph: GraphBuilder,
    layers: Layers,
    checkpoint: Checkpoint,
    block: Block,
    attended: str,
    residual: str,
) -> None:
    """From the last block's attention to the hidden state that the logits are made of."""
    config = checkpoint.config
    projected = layers.linear(attended, block.output)
    if config.post_norm:
        residual, _ = layers.add_norm(projected, residual, block.attention_norm)
        hidden = _feed_forward(graph, layers, block, residual)
        final, _ = layers.add_norm(hidden, residual, block.ffn_norm)
    else:
        normed, residual = layers.add_norm(projected, residual, block.ffn_norm)
        final = graph.op("Add", _feed_forward(graph, layers, block, normed), residual)
    norm, projection = checkpoint.final_norm(), checkpoint.project_out()
    if norm is not None:
        final = layers.norm(final, norm)
    if projection is not None:
        final = layers.linear(final, projection)
    graph.output(final, "final", "float32", [1, "questions", config.embedding_size])


def _build_logits(head: Matrix, config: LanguageModelConfig, path: Path, make: LayersOf) -> None:
    graph = GraphBuilder("logits")
    layers = make(graph, LOGITS)
    x = graph.input("final", "float32", [1, "questions", config.embedding_size])
    logits = layers.linear_full_activations(x, Linear(head))
    graph.output(logits, "logits", "float32", [1, "questions", config.vocab_size])
    graph.save(path)


def _write_norms(norms: Sequence[Norm], config: LanguageModelConfig, path: Path) -> None:
    """Scales and, for layer normalisation, shifts: float32 `[groups, 1 or 2, hidden_size]`."""
    rows = [
        [norm.weight]
        if config.norm == "rms"
        else [norm.weight, np.zeros_like(norm.weight) if norm.bias is None else norm.bias]
        for norm in norms
    ]
    np.save(path, np.asarray(rows, dtype=np.float32))


def _write_table(matrix: Matrix, stem: Path, precision: Precision) -> None:
    if precision == "fp32" or not can_quantize(matrix):
        write_table(stem, matrix.dense(), None)
    else:
        blocks = to_int8(matrix)
        write_table(stem, blocks.codes, blocks.scales)


def _same(a: Matrix, b: Matrix) -> bool:
    return a.shape == b.shape and bool(np.array_equal(a.dense(), b.dense()))
