"""Writes a model's weights once more, in the order in which the native decoder reads them.

The same codes as in the graphs; `kernels/decode_step.c` says how they lie. Scales and minima become
float16, which is exact for those of GGUF files and errs by 1/4096 at most for others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..runtime.model_config import LanguageModelConfig, Precision
from ..runtime.native_weights import INDEX_NAME, MATRICES, ROW_GROUP, WEIGHTS_NAME
from .checkpoint import Checkpoint
from .llm_layers import rotary_tables
from .quantize import to_int4, to_int8
from .weights import BLOCK, Block, Linear, Matrix

#: Arrays start at pages, so that touching one loads nothing else.
_PAGE = 4096

#: Groups start at cache lines.
_LINE = 64

#: Where scales are brought to, so that small ones are not subnormal.
_TARGET_EXPONENT = 14


def write_decode_weights(
    checkpoint: Checkpoint, folder: Path, precision: Precision, positions: int
) -> None:
    """Write `decode.bin` and its index into `folder` where the native decoder knows the model.

    Args:
        checkpoint: the weights.
        folder: of the engines.
        precision: of the engines; there is no native decoder for fp32.
        positions: length of the rotary tables.
    """
    norm = checkpoint.final_norm()
    if precision == "fp32" or norm is None or not _is_known(checkpoint.config):
        return
    index: dict[str, dict[str, Any]] = {}
    with (folder / WEIGHTS_NAME).open("wb") as file:
        cosines, sines = rotary_tables(checkpoint.config, positions)
        for name, array in (("final_norm", norm.weight), ("cosines", cosines), ("sines", sines)):
            index[name] = _append_floats(file, array)
        for number in range(checkpoint.config.num_blocks):
            for name, entry in _append_block(file, checkpoint.block(number), precision):
                index[f"{number}.{name}"] = entry
    (folder / INDEX_NAME).write_text(json.dumps(index), encoding="utf-8")


def _is_known(config: LanguageModelConfig) -> bool:
    kind = (config.norm, config.activation, config.position, config.post_norm)
    columns = (config.hidden_size, config.num_heads * config.head_dim, config.ffn_size)
    return (
        kind == ("rms", "silu_gate", "rope", False)
        and config.embedding_size == config.hidden_size
        and not any(size % BLOCK for size in columns)
        and config.qkv_size % ROW_GROUP == 0
    )


def _append_block(
    file: BinaryIO, block: Block, precision: Precision
) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "attention_norm", _append_floats(file, block.attention_norm.weight)
    yield "ffn_norm", _append_floats(file, block.ffn_norm.weight)
    for name in MATRICES:
        layer: Linear = getattr(block, name)
        data, factor = (pack_int8 if precision == "int8" else pack_int4)(layer.weight)
        yield name, {**_append(file, data), "factor": factor}
        if layer.bias is not None:
            yield f"{name}_bias", _append_floats(file, layer.bias)


def pack_int8(matrix: Matrix) -> tuple[NDArray[np.uint8], float]:
    """8-bit codes: groups as bytes `[rows / 16, bytes]`, and the factor of their scales."""
    blocks = to_int8(matrix)
    factor = _factor(blocks.scales)
    codes = (blocks.codes.astype(np.int16) + 128).astype(np.uint8)
    groups = [_halves(blocks.scales / factor), _interleave(codes, BLOCK)]
    return np.concatenate(groups, axis=1), float(factor)


def pack_int4(matrix: Matrix) -> tuple[NDArray[np.uint8], float]:
    """4-bit codes, as `pack_int8`. `weight = scale * code + minimum`."""
    blocks = to_int4(matrix)
    offsets = np.zeros_like(blocks.scales) if blocks.offsets is None else blocks.offsets
    minima = offsets - 8 * blocks.scales
    factor = _factor(np.stack([blocks.scales, minima]))
    rows, columns = blocks.codes.shape
    halves = blocks.codes.reshape(rows, -1, 2, BLOCK // 2)
    pairs = (halves[:, :, 0] | (halves[:, :, 1] << np.uint8(4))).reshape(rows, columns // 2)
    groups = [
        _halves(blocks.scales / factor),
        _halves(minima / factor),
        _interleave(pairs, BLOCK // 2),
    ]
    return np.concatenate(groups, axis=1), float(factor)


def _factor(scales: NDArray[np.float32]) -> np.float32:
    """A power of two, so that dividing by it is exact."""
    largest = float(np.abs(scales).max())
    exponent = np.frexp(largest)[1] if largest > 0 else 0
    return np.float32(2.0 ** float(exponent - _TARGET_EXPONENT))


def _halves(scales: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """`[rows, blocks]` to bytes of float16 `[rows / 16, blocks * 16]`, padded to cache lines."""
    grouped = scales.reshape(-1, ROW_GROUP, scales.shape[1]).transpose(0, 2, 1)
    values = np.ascontiguousarray(grouped, dtype=np.float16).reshape(len(grouped), -1)
    bytes_ = values.view(np.uint8)
    return np.pad(bytes_, ((0, 0), (0, -bytes_.shape[1] % _LINE)))


def _interleave(codes: NDArray[np.uint8], block: int) -> NDArray[np.uint8]:
    """`[rows, columns]` to `[rows / 16, bytes]`: by block, four columns of 16 rows at a time."""
    rows, columns = codes.shape
    split = codes.reshape(rows // ROW_GROUP, ROW_GROUP, columns // block, block // 4, 4)
    return split.transpose(0, 2, 3, 1, 4).reshape(rows // ROW_GROUP, -1)


def _append_floats(file: BinaryIO, array: NDArray[np.float32]) -> dict[str, Any]:
    return _append(file, np.ascontiguousarray(array, dtype=np.float32))


def _append(file: BinaryIO, array: NDArray[Any]) -> dict[str, Any]:
    file.write(b"\0" * (-file.tell() % _PAGE))
    entry = {"offset": file.tell(), "bytes": array.nbytes}
    file.write(np.ascontiguousarray(array).tobytes())
    return entry
