"""Reads a GGUF file of the Llama family and keeps its 4-bit and 8-bit codes.

Parsing is done by the `gguf` package; this module maps names, undoes llama.cpp's row permutation
of rotary projections, and rebuilds the tokenizer. It runs nothing.
"""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import ModelError
from ..runtime.model_config import LanguageModelConfig
from .gguf_tokenizer import tokenizer_json
from .weights import (
    BLOCK,
    AffineBlocks,
    Block,
    BlockMatrix,
    DenseMatrix,
    Linear,
    Matrix,
    Norm,
    SymmetricBlocks,
    stack_biases,
    stack_rows,
    take_rows,
)

_ARCHITECTURES = ("llama", "qwen2")

#: Others (rotary factors, experts, norms of queries and keys) would have to be computed with.
_KNOWN_TENSOR = re.compile(
    r"(token_embd|output_norm|output)\.weight"
    r"|blk\.(?P<block>\d+)\.((attn_norm|ffn_norm)\.weight"
    r"|(attn_q|attn_k|attn_v|attn_output|ffn_gate|ffn_up|ffn_down)\.(weight|bias))"
)


class GgufCheckpoint:
    """A GGUF file, opened by memory mapping."""

    def __init__(self, path: Path) -> None:
        """Open the file and read its header.

        Raises:
            ModelError: the file is corrupt, or of an architecture that is not supported.
        """
        self._path = path
        try:
            self._reader = gguf.GGUFReader(path)
            self._tensors = {t.name: t for t in self._reader.tensors}
        except (ValueError, OSError, IndexError, KeyError, UnicodeDecodeError) as error:
            raise ModelError(
                f"the GGUF file cannot be read: {error}",
                field=str(path),
                remedy="fetch it again; it is cut off or corrupt",
            ) from error
        architecture = self._text("general.architecture")
        if architecture not in _ARCHITECTURES:
            raise ModelError(
                f"architecture '{architecture}' is not supported from GGUF",
                field=str(path),
                remedy=f"use one of {', '.join(_ARCHITECTURES)}, or a Hugging Face folder",
            )
        self._prefix = architecture
        self._refuse_unknown()
        try:
            self.config = self._read_config()
        except (ValueError, ZeroDivisionError, OverflowError) as error:
            raise ModelError(
                f"the sizes of the model make no sense: {error}",
                field=str(path),
                remedy="fetch it again; it is corrupt",
            ) from error

    def _value(self, key: str) -> Any:
        field = self._reader.get_field(key)
        try:
            return None if field is None else field.contents()
        except UnicodeDecodeError as error:
            raise self._missing(key) from error

    def _text(self, key: str) -> str:
        value = self._value(key)
        if not isinstance(value, str):
            raise self._missing(key)
        return value

    def _number(self, key: str, default: float | None = None) -> float:
        value = self._value(f"{self._prefix}.{key}")
        if value is None:
            value = default
        if not isinstance(value, (int, float)):
            raise self._missing(f"{self._prefix}.{key}")
        return value

    def _missing(self, name: str) -> ModelError:
        return ModelError(
            f"'{name}' is missing or of the wrong type",
            field=str(self._path),
            remedy="convert the model again with a current llama.cpp",
        )

    def _refuse_unknown(self) -> None:
        """Refuse what would change the arithmetic and is not implemented."""
        scaling = self._value(f"{self._prefix}.rope.scaling.type")
        if scaling not in (None, "none"):
            raise self._unsupported(f"rotary scaling '{scaling}'", "rope.scaling.type")
        blocks = self._number("block_count")
        for name in self._tensors:
            known = _KNOWN_TENSOR.fullmatch(name)
            if known is None or int(known["block"] or 0) >= blocks:
                raise self._unsupported("this tensor", name)

    def _unsupported(self, what: str, where: str) -> ModelError:
        return ModelError(
            f"{what} is not supported in a GGUF file",
            field=f"{self._path}: {where}",
            remedy="use the model's Hugging Face folder",
        )

    def _read_config(self) -> LanguageModelConfig:
        hidden = int(self._number("embedding_length"))
        heads = int(self._number("attention.head_count"))
        head_dim = int(self._number("attention.key_length", hidden // heads))
        for key in ("attention.value_length", "rope.dimension_count"):
            if self._number(key, head_dim) != head_dim:
                raise self._unsupported(f"a width that differs from the heads' {head_dim}", key)
        eos = self._value("tokenizer.ggml.eos_token_id")
        bos = self._value("tokenizer.ggml.bos_token_id")
        return LanguageModelConfig(
            architecture="llama" if self._prefix == "llama" else "qwen2",
            num_blocks=int(self._number("block_count")),
            hidden_size=hidden,
            embedding_size=hidden,
            num_heads=heads,
            num_kv_heads=int(self._number("attention.head_count_kv", heads)),
            head_dim=head_dim,
            ffn_size=int(self._number("feed_forward_length")),
            vocab_size=int(self._raw("token_embd.weight").shape[-1]),
            max_positions=int(self._number("context_length")),
            norm_eps=float(self._number("attention.layer_norm_rms_epsilon")),
            position="rope",
            norm="rms",
            activation="silu_gate",
            rope_theta=float(self._number("rope.freq_base", 10000.0)),
            eos_token_ids=() if eos is None else (int(eos),),
            bos_token_id=None if bos is None else int(bos),
        )

    def _raw(self, name: str) -> gguf.ReaderTensor:
        if name not in self._tensors:
            raise self._missing(name)
        return self._tensors[name]

    def _raw_shaped(self, name: str, *shape: int) -> gguf.ReaderTensor:
        tensor = self._raw(name)
        found = tuple(int(size) for size in reversed(tensor.shape))
        if found != shape:
            raise ModelError(
                f"shape {found} where the header asks for {shape}",
                field=f"{self._path}: {name}",
                remedy="fetch the file again; it is corrupt",
            )
        return tensor

    def _matrix(self, name: str, rows: int, columns: int) -> Matrix:
        tensor = self._raw_shaped(name, rows, columns)
        kind = tensor.tensor_type
        if kind == gguf.GGMLQuantizationType.Q4_1:
            return BlockMatrix(_read_q4(tensor.data, rows, columns, has_minimum=True))
        if kind == gguf.GGMLQuantizationType.Q4_0:
            return BlockMatrix(_read_q4(tensor.data, rows, columns, has_minimum=False))
        if kind == gguf.GGMLQuantizationType.Q8_0:
            return BlockMatrix(_read_q8_0(tensor.data, rows, columns))
        return DenseMatrix(self._dense(tensor).reshape(rows, columns))

    def _dense(self, tensor: gguf.ReaderTensor) -> NDArray[np.float32]:
        try:
            return np.asarray(gguf.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        except NotImplementedError as error:
            raise ModelError(
                f"tensor type {tensor.tensor_type.name} cannot be decoded",
                field=f"{self._path}: {tensor.name}",
                remedy="use a file quantised as F16, Q8_0, Q4_1 or Q4_0",
            ) from error

    def _vector(self, name: str, size: int) -> NDArray[np.float32]:
        return self._dense(self._raw_shaped(name, size)).reshape(size)

    def _linear(self, name: str, rows: int, columns: int) -> Linear:
        bias = self._vector(f"{name}.bias", rows) if f"{name}.bias" in self._tensors else None
        return Linear(self._matrix(f"{name}.weight", rows, columns), bias)

    def _norm(self, name: str) -> Norm:
        return Norm(self._vector(f"{name}.weight", self.config.hidden_size))

    def embedding(self) -> Matrix:
        return self._matrix("token_embd.weight", self.config.vocab_size, self.config.hidden_size)

    def positions(self) -> None:
        return None

    def embedding_norm(self) -> None:
        return None

    def project_in(self) -> None:
        return None

    def project_out(self) -> None:
        return None

    def final_norm(self) -> Norm:
        return self._norm("output_norm")

    def head(self) -> Matrix:
        if "output.weight" not in self._tensors:
            return self.embedding()
        return self._matrix("output.weight", self.config.vocab_size, self.config.hidden_size)

    def block(self, index: int) -> Block:
        config, stem = self.config, f"blk.{index}"
        hidden, queries = config.hidden_size, config.num_heads * config.head_dim
        keys = config.num_kv_heads * config.head_dim
        query = self._linear(f"{stem}.attn_q", queries, hidden)
        key = self._linear(f"{stem}.attn_k", keys, hidden)
        if config.architecture == "llama":
            query = _take_rows(query, _half_split_rows(config.num_heads, config.head_dim))
            key = _take_rows(key, _half_split_rows(config.num_kv_heads, config.head_dim))
        return Block(
            attention_norm=self._norm(f"{stem}.attn_norm"),
            qkv=_stack([query, key, self._linear(f"{stem}.attn_v", keys, hidden)]),
            output=self._linear(f"{stem}.attn_output", hidden, queries),
            ffn_norm=self._norm(f"{stem}.ffn_norm"),
            ffn_in=_stack(
                [
                    self._linear(f"{stem}.ffn_gate", config.ffn_size, hidden),
                    self._linear(f"{stem}.ffn_up", config.ffn_size, hidden),
                ]
            ),
            ffn_out=self._linear(f"{stem}.ffn_down", hidden, config.ffn_size),
        )

    @cached_property
    def _tokenizer(self) -> str:
        return tokenizer_json(self._value, self._path)

    def tokenizer_json(self) -> str:
        return self._tokenizer

    def chat_template(self) -> str | None:
        template = self._value("tokenizer.chat_template")
        return template if isinstance(template, str) else None


def _stack(parts: list[Linear]) -> Linear:
    return Linear(stack_rows([part.weight for part in parts]), stack_biases(parts))


def _take_rows(layer: Linear, rows: NDArray[np.int64]) -> Linear:
    return Linear(take_rows(layer.weight, rows), None if layer.bias is None else layer.bias[rows])


def _half_split_rows(num_heads: int, head_dim: int) -> NDArray[np.int64]:
    """Row order that undoes llama.cpp's interleaving of rotary pairs.

    llama.cpp stores row pairs (i, i + head_dim/2) next to each other; Hugging Face keeps halves.
    """
    pairs = np.arange(num_heads * head_dim).reshape(num_heads, head_dim // 2, 2)
    return pairs.transpose(0, 2, 1).reshape(-1)


def _read_q4(
    data: NDArray[np.uint8], rows: int, columns: int, *, has_minimum: bool
) -> AffineBlocks:
    """Decode Q4_1 (scale, minimum, 16 bytes) or Q4_0 (scale, 16 bytes) blocks of 32."""
    header = 4 if has_minimum else 2
    blocks = np.ascontiguousarray(data).reshape(rows, columns // BLOCK, header + BLOCK // 2)
    scales = blocks[..., :2].copy().view(np.float16)[..., 0].astype(np.float32)
    packed = blocks[..., header:]
    halves = np.concatenate([packed & 0x0F, packed >> 4], axis=-1)
    codes = halves.reshape(rows, columns).astype(np.uint8, copy=False)
    if not has_minimum:
        return AffineBlocks(codes, scales, None)
    minimum = blocks[..., 2:4].copy().view(np.float16)[..., 0].astype(np.float32)
    return AffineBlocks(codes, scales, minimum + 8 * scales)


def _read_q8_0(data: NDArray[np.uint8], rows: int, columns: int) -> SymmetricBlocks:
    """Decode Q8_0 blocks: one float16 scale and 32 signed codes."""
    blocks = np.ascontiguousarray(data).reshape(rows, columns // BLOCK, 2 + BLOCK)
    scales = blocks[..., :2].copy().view(np.float16)[..., 0].astype(np.float32)
    codes = blocks[..., 2:].copy().view(np.int8).reshape(rows, columns)
    return SymmetricBlocks(codes, scales)
