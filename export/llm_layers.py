"""Layers of decoder blocks as ONNX nodes, in three precisions.

The nodes are the fused ones of ONNX Runtime (`MatMulNBits`, `GroupQueryAttention`, skip norms):
these graphs are tuned for the CPU. They know one block at a time, not the model.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..runtime.model_config import LanguageModelConfig, Precision
from .graph import CONTRIB, GraphBuilder
from .quantize import can_quantize, pack_int4, pack_int8, to_int4, to_int8
from .weights import BLOCK, Linear, Matrix, Norm

#: `MatMulNBits` with 8-bit codes: products of integers, activations quantised per block of 32.
#: Without that, ONNX Runtime has no fast kernel for them.
_INT8_PRODUCTS = 4

#: `MatMulNBits` with 4-bit codes: float32 products. For one token as fast as integers or faster,
#: for a hundred a third slower, and activations keep all their bits.
_FLOAT_PRODUCTS = 1


#: Channels that int8 takes apart, and by how much that must lower the rounding error's energy.
_OUTLIERS = 16
_WORTHWHILE = 3.0


def outlier_channels(weight: Matrix, peaks: NDArray[np.float32]) -> NDArray[np.int64] | None:
    """The input channels that stand out, or None where taking them apart gains too little.

    Rounding a block of 32 errs in proportion to its largest channel; what it does to the outputs
    goes with the energy of the block's weights.

    Args:
        weight: `[rows, columns]`.
        peaks: float32 `[columns]`, largest magnitude per channel.
    """
    if len(peaks) <= 4 * _OUTLIERS:
        return None
    outliers = np.sort(np.argsort(peaks, kind="stable")[-_OUTLIERS:])
    quiet = peaks.copy()
    quiet[outliers] = 0
    energy = (weight.dense() ** 2).sum(axis=0).reshape(-1, BLOCK).sum(axis=1)
    before, after = (
        float((p.reshape(-1, BLOCK).max(axis=1) ** 2 * energy).sum()) for p in (peaks, quiet)
    )
    return outliers if before > _WORTHWHILE * after else None


class Lengths(NamedTuple):
    """Inputs of a group that say how its rows lie.

    Attributes:
        past_and_new_minus_1: int32 `[1]`.
        past_and_new: int32 scalar.
        apart: bool scalar; False: packed texts attend to all rows by their bias.
        unpack: int64 `[texts, queries]`, where apart: the packed token of each place.
        pack: int64 `[tokens]`, where apart: the place of each packed token.
    """

    past_and_new_minus_1: str
    past_and_new: str
    apart: str
    unpack: str
    pack: str


class AttentionInputs(NamedTuple):
    """What the attention of a block goes by; names in its graph.

    Attributes:
        qkv: packed projections of the new tokens.
        past: keys and values of `[prefix ; text so far]`.
        rotary: cosines, sines and position ids; None where positions are not rotary.
        bias: added to the scores.
        lengths: as `Layers.lengths` gave them.
    """

    qkv: str
    past: tuple[str, str]
    rotary: tuple[str, str, str] | None
    bias: str
    lengths: Lengths | None


class Layers:
    """Adds layers of one model to one graph."""

    def __init__(
        self, graph: GraphBuilder, config: LanguageModelConfig, precision: Precision
    ) -> None:
        self._graph = graph
        self._config = config
        self._precision = precision

    def lengths(self) -> Lengths | None:
        """Inputs that say how rows lie, where `attention` asks for them."""
        graph = self._graph
        return Lengths(
            graph.input("past_and_new_minus_1", "int32", [1]),
            graph.input("past_and_new", "int32", []),
            graph.input("apart", "bool", []),
            graph.input("unpack", "int64", ["texts", "queries"]),
            graph.input("pack", "int64", ["tokens"]),
        )

    def linear(self, x: str, layer: Linear) -> str:
        """`y = x @ weight.T + bias`; x is `[1, tokens, columns]`."""
        if self._precision == "fp32" or not can_quantize(layer.weight):
            return self._linear_fp32(x, layer)
        if self._precision == "int4":
            return self._linear_int4(x, layer)
        outliers = None if layer.peaks is None else outlier_channels(layer.weight, layer.peaks)
        if outliers is None:
            return self._linear_int8(x, layer)
        # Channels that stand out go through in float32 (LLM.int8(), 2208.07339), the others are
        # rounded in blocks that they no longer stretch.
        graph = self._graph
        keep = np.ones(layer.weight.shape[1], dtype=np.float32)
        keep[outliers] = 0
        quiet = graph.op("Mul", x, graph.constant(keep, "keep"))
        loud = graph.op("Gather", x, graph.constant(outliers, "outliers"), axis=-1)
        columns = graph.constant(layer.weight.dense()[:, outliers].T, "columns")
        return graph.op("Add", self._linear_int8(quiet, layer), graph.op("MatMul", loud, columns))

    def projections(self, x: str, layer: Linear, index: int) -> str:
        """Packed query, key and value projections of block `index`, with a LoRA beside them.

        Its matrices are inputs. Without one they have rank 0, and zeros are added.
        """
        graph, config = self._graph, self._config
        a = graph.input(f"lora_a_{index}", "float32", [config.hidden_size, f"ranks_{index}"])
        b = graph.input(f"lora_b_{index}", "float32", [f"ranks_{index}", config.qkv_size])
        beside = graph.op("MatMul", graph.op("MatMul", x, a), b)
        return graph.op("Add", self.linear(x, layer), beside)

    def _linear_fp32(self, x: str, layer: Linear) -> str:
        graph = self._graph
        y = graph.op("MatMul", x, graph.constant(layer.weight.dense().T, "weight"))
        return y if layer.bias is None else graph.op("Add", y, graph.constant(layer.bias, "bias"))

    def _linear_int8(self, x: str, layer: Linear) -> str:
        blocks = to_int8(layer.weight)
        return self._nbits(x, layer, pack_int8(blocks), blocks.scales, 8)

    def _linear_int4(self, x: str, layer: Linear) -> str:
        blocks = to_int4(layer.weight)
        y = self._nbits(x, layer, pack_int4(blocks), blocks.scales, 4)
        if blocks.offsets is None:
            return y
        # weight = scale * (code - 8) + offset. MatMulNBits takes a fast path only without zero
        # points, so the offsets act on the sums of x over blocks: a product of columns / 32.
        graph = self._graph
        offsets = graph.constant(blocks.offsets.T, "offsets")
        return graph.op("Add", y, graph.op("MatMul", self._block_sums(x, layer), offsets))

    def _block_sums(self, x: str, layer: Linear) -> str:
        graph = self._graph
        columns = layer.weight.shape[1]
        split = graph.op("Reshape", x, graph.ints(1, -1, columns // BLOCK, BLOCK))
        return graph.op("ReduceSum", split, graph.ints(-1), keepdims=0)

    def _nbits(
        self,
        x: str,
        layer: Linear,
        codes: NDArray[np.uint8],
        scales: NDArray[np.float32],
        bits: int,
    ) -> str:
        graph = self._graph
        rows, columns = layer.weight.shape
        inputs = [x, graph.constant(codes, "codes"), graph.constant(scales.reshape(-1), "scales")]
        if layer.bias is not None:
            inputs += ["", "", graph.constant(layer.bias, "bias")]
        return graph.op(
            "MatMulNBits",
            *inputs,
            domain=CONTRIB,
            K=columns,
            N=rows,
            bits=bits,
            block_size=BLOCK,
            accuracy_level=_INT8_PRODUCTS if bits == 8 else _FLOAT_PRODUCTS,
        )

    def linear_full_activations(self, x: str, layer: Linear) -> str:
        """8-bit weights with activations that keep 15 bits: `x` as the sum of two 8-bit parts.

        `MatMulNBits` rounds activations to 8 bits per block. Here `x` is split into what that
        rounding keeps and the rest, and both go through as rows of one product: where reading
        the weights dominates (few rows, many outputs), the second half costs next to nothing.
        """
        if self._precision != "int8" or not can_quantize(layer.weight):
            return self.linear(x, layer)
        graph = self._graph
        columns = layer.weight.shape[1]
        split = graph.op("Reshape", x, graph.ints(1, -1, columns // BLOCK, BLOCK))
        largest = graph.op("ReduceMax", graph.op("Abs", split), graph.ints(-1), keepdims=1)
        step = graph.op("Max", graph.op("Mul", largest, graph.scalar(1 / 127)), graph.scalar(1e-30))
        kept = graph.op("Mul", graph.op("Round", graph.op("Div", split, step)), step)
        kept = graph.op("Reshape", kept, graph.ints(1, -1, columns))
        both = graph.op("Concat", kept, graph.op("Sub", x, kept), axis=1)
        parts = graph.multi("Split", [self.linear(both, layer)], 2, axis=1, num_outputs=2)
        return graph.op("Add", *parts)

    def norm(self, x: str, norm: Norm) -> str:
        """RMS or layer normalisation over the last dimension."""
        graph, epsilon = self._graph, self._config.norm_eps
        weight = graph.constant(norm.weight, "norm")
        if self._config.norm == "rms":
            return graph.op("SimplifiedLayerNormalization", x, weight, axis=-1, epsilon=epsilon)
        bias = np.zeros_like(norm.weight) if norm.bias is None else norm.bias
        return graph.op(
            "LayerNormalization", x, weight, graph.constant(bias, "norm"), axis=-1, epsilon=epsilon
        )

    def add_norm(self, x: str, skip: str, norm: Norm) -> tuple[str, str]:
        """`(norm(x + skip), x + skip)` in one node."""
        graph, epsilon = self._graph, self._config.norm_eps
        weight = graph.constant(norm.weight, "norm")
        if self._config.norm == "rms":
            outputs = graph.multi(
                "SkipSimplifiedLayerNormalization",
                [x, skip, weight],
                [graph.fresh("normed"), "", "", graph.fresh("sum")],
                domain=CONTRIB,
                epsilon=epsilon,
            )
        else:
            bias = np.zeros_like(norm.weight) if norm.bias is None else norm.bias
            outputs = graph.multi(
                "SkipLayerNormalization",
                [x, skip, weight, graph.constant(bias, "norm")],
                [graph.fresh("normed"), "", "", graph.fresh("sum")],
                domain=CONTRIB,
                epsilon=epsilon,
            )
        return outputs[0], outputs[3]

    def activation(self, x: str) -> str:
        """The non-linearity of the feed-forward network; gated ones halve the last dimension."""
        graph = self._graph
        kind = self._config.activation
        if kind == "relu":
            return graph.op("Relu", x)
        if kind != "silu_gate":
            approximate = "tanh" if kind == "gelu_tanh" else "none"
            return graph.op("Gelu", x, approximate=approximate)
        gate, up = graph.multi("Split", [x], 2, axis=-1, num_outputs=2)
        # QuickGelu with alpha 1 is x * sigmoid(x), which is SiLU, in one node.
        return graph.op("Mul", graph.op("QuickGelu", gate, domain=CONTRIB, alpha=1.0), up)

    def attention(self, inputs: AttentionInputs, present: tuple[str, str]) -> str:
        """Attention of packed text tokens over `[prefix ; text so far ; these tokens]`.

        Keys of the prefix are stored without rotary position, keys of text with theirs, so the
        operator only rotates what is new, by `position_ids`.

        Where texts are `apart`, each attends to itself alone, as a row of a padded batch, instead
        of to all packed ones with most of them masked.

        Args:
            inputs: of the block.
            present: names of the outputs that keys and values with the new ones go to.
        """
        lengths = inputs.lengths
        if lengths is None:
            raise ValueError("this attention needs lengths")
        out = self._graph.fresh("attention")
        self._graph.choose(
            lengths.apart,
            lambda: self._apart(inputs, lengths),
            lambda: self._together(inputs, lengths),
            [out, *present],
        )
        return out

    def _together(self, inputs: AttentionInputs, lengths: Lengths) -> list[str]:
        config = self._config
        cos, sin, positions = inputs.rotary or ("", "", "")
        counts = (lengths.past_and_new_minus_1, lengths.past_and_new)
        return self._graph.multi(
            "GroupQueryAttention",
            [inputs.qkv, "", "", *inputs.past, *counts, cos, sin, positions, inputs.bias],
            [self._graph.fresh(name) for name in ("attended", "keys", "values")],
            domain=CONTRIB,
            num_heads=config.num_heads,
            kv_num_heads=config.num_kv_heads,
            do_rotary=int(inputs.rotary is not None),
        )

    def _apart(self, inputs: AttentionInputs, lengths: Lengths) -> list[str]:
        graph, config = self._graph, self._config
        size = config.head_dim
        unpacked = graph.op("Gather", inputs.qkv, lengths.unpack, axis=1)
        rows = graph.op("Squeeze", unpacked, graph.ints(0))
        heads = (config.num_heads, config.num_kv_heads, config.num_kv_heads)
        widths = graph.ints(*(count * size for count in heads))
        query, key, value = graph.multi("Split", [rows, widths], 3, axis=-1)
        if inputs.rotary is not None:
            cos, sin, positions = inputs.rotary
            query, key = (
                graph.op(
                    "RotaryEmbedding",
                    part,
                    positions,
                    cos,
                    sin,
                    domain=CONTRIB,
                    num_heads=count,
                )
                for part, count in ((query, heads[0]), (key, heads[1]))
            )
        mixed, keys, values = graph.multi(
            "Attention",
            [query, key, value, inputs.bias, *inputs.past],
            [graph.fresh(name) for name in ("mixed", "keys", "values")],
            q_num_heads=config.num_heads,
            kv_num_heads=config.num_kv_heads,
            is_causal=1,
        )
        flat = graph.op("Reshape", mixed, graph.ints(1, -1, config.num_heads * size))
        return [graph.op("Gather", flat, lengths.pack, axis=1), keys, values]


def rotary_tables(
    config: LanguageModelConfig, positions: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cosines and sines `[positions, head_dim / 2]` of rotary embeddings (RoFormer, 2104.09864).

    With `rope_scaling`, low frequencies are stretched as in Llama 3.1.
    """
    exponents = np.arange(0, config.head_dim, 2, dtype=np.float64) / config.head_dim
    frequencies = 1.0 / config.rope_theta**exponents
    scaling = config.rope_scaling
    if scaling is not None:
        wavelengths = 2 * np.pi / frequencies
        smooth = (scaling.original_max_positions / wavelengths - scaling.low_freq_factor) / (
            scaling.high_freq_factor - scaling.low_freq_factor
        )
        smooth = np.clip(smooth, 0.0, 1.0)
        frequencies = frequencies * (smooth + (1 - smooth) / scaling.factor)
    angles = np.arange(positions, dtype=np.float64)[:, None] * frequencies
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
