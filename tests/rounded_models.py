"""Float32 engines of weights that are rounded as the C code reads them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tailwire.export.checkpoint import Checkpoint, open_checkpoint
from tailwire.export.llm_graphs import build_language_model
from tailwire.export.quantize import to_int4, to_int8
from tailwire.export.weights import Block, DenseMatrix, Linear, Matrix, SymmetricBlocks
from tailwire.runtime.backends.onnxruntime_cpu import OnnxRuntimeEngine
from tailwire.runtime.kv_prefix import KvPrefix
from tailwire.runtime.language_model import LanguageModel
from tailwire.runtime.model_config import Precision

from .tiny_models import DEPTHS, VOCABULARY

if TYPE_CHECKING:
    from .built_models import TinyModels

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


def random_prefix(model: LanguageModel, blocks: tuple[int, ...], rows: int) -> KvPrefix:
    config = model.config
    shape = (2, len(blocks), config.num_kv_heads, rows, config.head_dim)
    keys, values = np.random.default_rng(rows).standard_normal(shape).astype(np.float32)
    return KvPrefix(blocks, keys, values)


def random_ids(tokens: int) -> list[int]:
    return np.random.default_rng(tokens).integers(0, VOCABULARY, tokens).tolist()


def assert_close(actual: Float, expected: Float, within: float = CLOSE) -> None:
    if expected.size:
        assert np.abs(actual - expected).max() <= within * np.abs(expected).max()
