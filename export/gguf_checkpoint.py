"""Reads a GGUF file of the Llama family and keeps its 4-bit and 8-bit codes.

Parsing is done by the `gguf` package; this module maps names, undoes llama.cpp's row permutation
of rotary projections, and rebuilds the tokenizer. It runs nothing.
"""

from __future__ import annotations

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
    stack_rows,
    take_rows,
)

_ARCHITECTURES = ("llama", "qwen2")


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
        self.config = self._read_config()

    def _value(self, key: str) -> Any:
        field = self._reader.get_field(key)
        return None if field is None else field.contents()

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

    def _read_config(self) -> LanguageModelConfig:
        if self._value(f"{self._prefix}.rope.scaling.type") not in (None, "none"):
            raise ModelError(
                "rotary scaling stored in a GGUF file is not supported",
                field=f"{self._path}: rope.scaling.type",
                remedy="use the model's Hugging Face folder",
            )
        if "rope_freqs.weight" in self._tensors:
            raise ModelError(
                "rotary frequency factors stored in a GGUF file are not supported",
                field=f"{self._path}: rope_freqs.weight",
                remedy="use the model's Hugging Face folder",
            )
        hidden = int(self._number("embedding_length"))
        heads = int(self._number("attention.head_count"))
        eos = self._value("tokenizer.ggml.eos_token_id")
        bos = self._value("tokenizer.ggml.bos_token_id")
        return LanguageModelConfig(
            architecture="llama" if self._prefix == "llama" else "qwen2",
            num_blocks=int(self._number("block_count")),
            hidden_size=hidden,
            embedding_size=hidden,
            num_heads=heads,
            num_kv_heads=int(self._number("attention.head_count_kv", heads)),
            head_dim=int(self._number("attention.key_length", hidden // heads)),
            ffn_size=int(self._number("feed_forward_length")),
            vocab_size=int(self._raw("token_embd.weight").shape[1]),
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

    def _matrix(self, name: str) -> Matrix:
        tensor = self._raw(name)
        columns, rows = int(tensor.shape[0]), int(tensor.shape[1])
        kind = tensor.tensor_type
        if kind == gguf.GGMLQuantizationType.Q4_1:
            return BlockMatrix(_read_q4(tensor.data, rows, columns, has_minimum=True))
        if kind == gguf.GGMLQuantizationType.Q4_0:
            return BlockMatrix(_read_q4(tensor.data, rows, columns, has_minimum=False))
        if kind == gguf.GGMLQuantizationType.Q8_0:
            return BlockMatrix(_read_q8_0(tensor.data, rows, columns))
        try:
            values = gguf.dequantize(tensor.data, kind)
        except NotImplementedError as error:
            raise ModelError(
                f"tensor type {kind.name} cannot be decoded",
                field=f"{self._path}: {name}",
                remedy="use a file quantised as F16, Q8_0, Q4_1 or Q4_0",
            ) from error
        return DenseMatrix(np.asarray(values, dtype=np.float32).reshape(rows, columns))

    def _vector(self, name: str) -> NDArray[np.float32]:
        tensor = self._raw(name)
        return np.asarray(gguf.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)

    def _bias(self, name: str) -> NDArray[np.float32] | None:
        return self._vector(name) if name in self._tensors else None

    def embedding(self) -> Matrix:
        return self._matrix("token_embd.weight")

    def positions(self) -> None:
        return None

    def embedding_norm(self) -> None:
        return None

    def project_in(self) -> None:
        return None

    def project_out(self) -> None:
        return None

    def final_norm(self) -> Norm:
        return Norm(self._vector("output_norm.weight"))

    def head(self) -> Matrix:
        return self._matrix(
            "output.weight" if "output.weight" in self._tensors else "token_embd.weight"
        )

    def block(self, index: int) -> Block:
        config = self.config
        stem = f"blk.{index}"
        query, key = self._matrix(f"{stem}.attn_q.weight"), self._matrix(f"{stem}.attn_k.weight")
        if config.architecture == "llama":
            query = take_rows(query, _half_split_rows(config.num_heads, config.head_dim))
            key = take_rows(key, _half_split_rows(config.num_kv_heads, config.head_dim))
        biases = [self._bias(f"{stem}.attn_{part}.bias") for part in "qkv"]
        held = [b for b in biases if b is not None]
        return Block(
            attention_norm=Norm(self._vector(f"{stem}.attn_norm.weight")),
            qkv=Linear(
                stack_rows([query, key, self._matrix(f"{stem}.attn_v.weight")]),
                np.concatenate(held) if len(held) == 3 else None,
            ),
            output=Linear(self._matrix(f"{stem}.attn_output.weight")),
            ffn_norm=Norm(self._vector(f"{stem}.ffn_norm.weight")),
            ffn_in=Linear(
                stack_rows(
                    [self._matrix(f"{stem}.ffn_gate.weight"), self._matrix(f"{stem}.ffn_up.weight")]
                )
            ),
            ffn_out=Linear(self._matrix(f"{stem}.ffn_down.weight")),
        )

    @cached_property
    def _tokenizer(self) -> str:
        return tokenizer_json(self._value, self._path)

    def tokenizer_json(self) -> str:
        return self._tokenizer

    def chat_template(self) -> str | None:
        template = self._value("tokenizer.chat_template")
        return template if isinstance(template, str) else None


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
    codes = np.concatenate([packed & 0x0F, packed >> 4], axis=-1).reshape(rows, columns)
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
