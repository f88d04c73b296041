"""Layers of decoder blocks from standard ONNX operators, in four precisions.

The twins of `llm_layers.py`, which is tuned for ONNX Runtime on the CPU. Graphs are strongly typed:
norms, attention scores and the residual stream are float32, products run in the type that their
precision names, with the casts written out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...runtime.model_config import LanguageModelConfig
from ...runtime.packing import MASKED
from ..graph import GraphBuilder
from ..llm_layers import AttentionInputs, Layers
from ..quantize import to_int4
from ..weights import BLOCK, AffineBlocks, Linear, Matrix, Norm

Float = NDArray[np.float32]

#: Of weights: `fp16` also runs the products in float16.
PortablePrecision = Literal["fp32", "fp16", "int8", "int4"]

_FLOAT, _FLOAT16 = 1, 10


@dataclass(frozen=True)
class PortableTypes:
    """How the matrices of one stage are stored and multiplied.

    Attributes:
        weights: what they are stored as.
        half: whether products run in float16.
        block: weights that share a scale in 4 bits: 32, or 64 for TensorRT, which takes no less.
        lora_rank: largest rank of a LoRA on the tail's projections that the graphs leave room for;
            0 leaves its inputs out.
        lora_from: first block whose projections may have one.
    """

    weights: PortablePrecision
    half: bool
    block: int = BLOCK
    lora_rank: int = 0
    lora_from: int = 0


class PortableLayers(Layers):
    """Adds layers of one model to one graph; see `Layers`."""

    def __init__(
        self, graph: GraphBuilder, config: LanguageModelConfig, types: PortableTypes
    ) -> None:
        super().__init__(graph, config, "fp32")
        self._types = types
        self._causal = ""

    def lengths(self) -> None:
        """None: shapes say how many rows there are."""
        return None

    def linear(self, x: str, layer: Linear) -> str:
        """`y = x @ weight.T + bias`, float32 on both sides."""
        graph, kind = self._graph, self._types.weights
        given = self._narrow(x)
        if kind == "int4" and layer.weight.shape[1] % self._types.block == 0:
            y = self._widened(self._product_int4(given, layer.weight))
        else:
            y = self._widened(graph.op("MatMul", given, self._weights(layer.weight)))
        return y if layer.bias is None else graph.op("Add", y, graph.constant(layer.bias, "bias"))

    def linear_full_activations(self, x: str, layer: Linear) -> str:
        """The output matrix: like any other, but of no less than 16 bits.

        Likely tokens are often close: with a scale per row, 8 bits changed 3 of 100 answers.
        """
        if self._types.weights in ("fp32", "fp16"):
            return self.linear(x, layer)
        types = PortableTypes("fp16", self._types.half)
        return PortableLayers(self._graph, self._config, types).linear(x, layer)

    def projections(self, x: str, layer: Linear, index: int) -> str:
        """See `Layers.projections`; without room for a LoRA there are no inputs for one."""
        if not self._types.lora_rank or index < self._types.lora_from:
            return self.linear(x, layer)
        return super().projections(x, layer, index)

    def _narrow(self, x: str) -> str:
        return self._graph.op("Cast", x, to=_FLOAT16) if self._types.half else x

    def _widened(self, x: str) -> str:
        return self._graph.op("Cast", x, to=_FLOAT) if self._types.half else x

    def _constant(self, array: Float, stem: str) -> str:
        return self._graph.constant(array.astype(np.float16) if self._types.half else array, stem)

    def _weights(self, matrix: Matrix) -> str:
        """`[columns, rows]` in the type of the products."""
        dense = np.ascontiguousarray(matrix.dense().T)
        if self._types.weights == "fp16" and not self._types.half:
            stored = self._graph.constant(dense.astype(np.float16), "weight")
            return self._graph.op("Cast", stored, to=_FLOAT)
        if self._types.weights not in ("int8", "int4"):
            return self._constant(dense, "weight")
        # A scale per output, as TensorRT has it for 8 bits.
        scales = np.abs(dense).max(axis=0) / 127
        scales = np.where(scales > 0, scales, 1).astype(np.float32)
        if self._types.half:
            # Rounded before they are used, so that codes fit the scales that are stored.
            scales = np.maximum(scales.astype(np.float16).astype(np.float32), 2.0**-24)
        codes = np.clip(np.rint(dense / scales), -127, 127).astype(np.int8)
        graph = self._graph
        stored = graph.constant(codes, "codes")
        return graph.op("DequantizeLinear", stored, self._constant(scales, "scales"), axis=1)

    def _product_int4(self, x: str, matrix: Matrix) -> str:
        """Codes of 4 bits without a zero point, and what their minima add, as in `Layers`."""
        graph, block = self._graph, self._types.block
        blocks = to_int4(matrix) if block == BLOCK else rounded_int4(matrix, block)
        codes = np.ascontiguousarray((blocks.codes.astype(np.int16) - 8).T.astype(np.int8))
        scales = self._constant(np.ascontiguousarray(blocks.scales.T), "scales")
        stored = graph.constant_int4(codes)
        weights = graph.op("DequantizeLinear", stored, scales, axis=0, block_size=block)
        y = graph.op("MatMul", x, weights)
        if blocks.offsets is None:
            return y
        columns = matrix.shape[1]
        split = graph.op("Reshape", x, graph.ints(1, -1, columns // block, block))
        sums = graph.op("ReduceSum", split, graph.ints(-1), keepdims=0)
        offsets = self._constant(np.ascontiguousarray(blocks.offsets.T), "offsets")
        return graph.op("Add", y, graph.op("MatMul", sums, offsets))

    def norm(self, x: str, norm: Norm) -> str:
        """RMS or layer normalisation over the last dimension, in float32."""
        if self._config.norm != "rms":
            return super().norm(x, norm)
        graph = self._graph
        energy = graph.op("ReduceMean", graph.op("Mul", x, x), graph.ints(-1), keepdims=1)
        energy = graph.op("Add", energy, graph.scalar(self._config.norm_eps))
        scaled = graph.op("Div", x, graph.op("Sqrt", energy))
        return graph.op("Mul", scaled, graph.constant(norm.weight, "norm"))

    def add_norm(self, x: str, skip: str, norm: Norm) -> tuple[str, str]:
        """`(norm(x + skip), x + skip)`."""
        total = self._graph.op("Add", x, skip)
        return self.norm(total, norm), total

    def activation(self, x: str) -> str:
        """See `Layers.activation`."""
        if self._config.activation != "silu_gate":
            return super().activation(x)
        graph = self._graph
        gate, up = graph.multi("Split", [x], 2, axis=-1, num_outputs=2)
        return graph.op("Mul", graph.op("Mul", gate, graph.op("Sigmoid", gate)), up)

    def attention(self, inputs: AttentionInputs, present: tuple[str, str]) -> str:
        """See `Layers.attention`; causality is a mask, as no operator knows of it."""
        (qkv, past, rotary, bias, _), graph, config = inputs, self._graph, self._config
        heads, kv_heads, size = config.num_heads, config.num_kv_heads, config.head_dim
        sizes = graph.ints(heads * size, kv_heads * size, kv_heads * size)
        parts = graph.multi("Split", [qkv, sizes], 3, axis=-1)
        query, key, value = (
            self._heads(part, count)
            for part, count in zip(parts, (heads, kv_heads, kv_heads), strict=True)
        )
        if rotary is not None:
            turn = self._turns(rotary)
            query, key = self._rotated(query, turn), self._rotated(key, turn)
        keys = graph.op("Concat", past[0], key, axis=2, output=present[0])
        values = graph.op("Concat", past[1], value, axis=2, output=present[1])
        turned = graph.op("Transpose", self._shared(keys), perm=[0, 1, 3, 2])
        scores = self._widened(graph.op("MatMul", self._narrow(query), self._narrow(turned)))
        scores = graph.op("Mul", scores, graph.scalar(size**-0.5))
        masked = graph.op("Add", bias, self._causal_mask(qkv, bias))
        weights = graph.op("Softmax", graph.op("Add", scores, masked), axis=-1)
        mixed = graph.op("MatMul", self._narrow(weights), self._narrow(self._shared(values)))
        mixed = graph.op("Transpose", self._widened(mixed), perm=[0, 2, 1, 3])
        return graph.op("Reshape", mixed, graph.ints(1, -1, heads * size))

    def _heads(self, x: str, count: int) -> str:
        """`[1, tokens, count * head_dim]` to `[1, count, tokens, head_dim]`."""
        graph = self._graph
        split = graph.op("Reshape", x, graph.ints(1, -1, count, self._config.head_dim))
        return graph.op("Transpose", split, perm=[0, 2, 1, 3])

    def _shared(self, x: str) -> str:
        """Keys or values of each query head, from those that several heads share."""
        config = self._config
        group = config.num_heads // config.num_kv_heads
        if group == 1:
            return x
        places = np.repeat(np.arange(config.num_kv_heads), group)
        return self._graph.op("Gather", x, self._graph.constant(places, "heads"), axis=1)

    def _turns(self, rotary: tuple[str, str, str]) -> tuple[str, str]:
        """Cosines and sines `[1, 1, tokens, head_dim / 2]` of the tokens' positions."""
        graph = self._graph
        cos, sin, positions = rotary
        gathered = (graph.op("Gather", table, positions, axis=0) for table in (cos, sin))
        first, second = (graph.op("Unsqueeze", turn, graph.ints(1)) for turn in gathered)
        return first, second

    def _rotated(self, x: str, turn: tuple[str, str]) -> str:
        """Rotary embedding of both halves of a head, as Llama pairs them."""
        graph, (cos, sin) = self._graph, turn
        low, high = graph.multi("Split", [x], 2, axis=-1, num_outputs=2)
        first = graph.op("Sub", graph.op("Mul", low, cos), graph.op("Mul", high, sin))
        second = graph.op("Add", graph.op("Mul", high, cos), graph.op("Mul", low, sin))
        return graph.op("Concat", first, second, axis=-1)

    def _causal_mask(self, qkv: str, bias: str) -> str:
        """`[tokens, rows]`: forbids what comes after a token; made once for all blocks."""
        if self._causal:
            return self._causal
        graph = self._graph
        zero, one = (graph.constant(np.asarray(v, np.int64), "scalar") for v in (0, 1))
        tokens, rows = (
            graph.op("Gather", graph.op("Shape", value), at, axis=0)
            for value, at in (
                (qkv, one),
                (bias, graph.constant(np.asarray(3, np.int64), "scalar")),
            )
        )
        columns = graph.op("Range", zero, rows, one)
        own = graph.op("Range", graph.op("Sub", rows, tokens), rows, one)
        later = graph.op("Greater", columns, graph.op("Unsqueeze", own, graph.ints(1)))
        forbidden = graph.constant(np.asarray(MASKED, np.float32), "masked")
        self._causal = graph.op("Where", later, forbidden, graph.scalar(0.0))
        return self._causal


def rounded_int4(matrix: Matrix, block: int) -> AffineBlocks:
    """4-bit codes with a scale and an offset per `block` weights, minimum to maximum.

    Codes that a file holds in smaller blocks are rounded again, which costs accuracy: carry them
    exactly where the engine takes their blocks (`quantize.to_int4`).
    """
    rows, columns = matrix.shape
    values = matrix.dense().reshape(rows, columns // block, block)
    low, high = values.min(axis=2), values.max(axis=2)
    scales = (high - low) / 15
    safe = np.where(scales > 0, scales, 1)
    codes = np.clip(np.rint((values - low[..., None]) / safe[..., None]), 0, 15).astype(np.uint8)
    offsets = (low + 8 * scales).astype(np.float32)
    return AffineBlocks(codes.reshape(rows, columns), scales.astype(np.float32), offsets)
