"""The counter of multiply-adds against counts by hand and ONNX Runtime's own nodes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from tailwire.export.count import count_macs
from tailwire.export.graph import CONTRIB, GraphBuilder
from tailwire.runtime.errors import ConfigError, ModelError


def array(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def test_convolutions_matrix_products_and_gemm() -> None:
    graph = GraphBuilder("g")
    x = graph.input("x", "float32", ["batch", 6, "rows", "columns"])
    y = graph.op("Conv", x, graph.constant(array(8, 3, 5, 3)), strides=[2, 1], group=2)
    y = graph.op("ReduceMean", y, graph.ints(2), keepdims=0)
    y = graph.op("MatMul", graph.op("Transpose", y, perm=[0, 2, 1]), graph.constant(array(8, 7)))
    y = graph.op("Reshape", y, graph.ints(0, -1))
    y = graph.op("Gemm", y, graph.constant(array(11, 7 * 18)), transB=1)
    graph.output(y, "y", "float32", ["batch", 11])
    convolution = 4 * 8 * 9 * 18 * 3 * 5 * 3
    products = 4 * 18 * 8 * 7 + 4 * 11 * 7 * 18
    assert count_macs(graph.build(), {"x": (4, 6, 21, 20)}) == convolution + products


def test_shapes_computed_in_the_graph_are_followed() -> None:
    graph = GraphBuilder("g")
    x = graph.input("x", "float32", ["batch", "tokens", 12])
    dims = graph.op("Shape", x)
    batch = graph.op("Slice", dims, graph.ints(0), graph.ints(1))
    shape = graph.op("Concat", batch, graph.ints(-1, 4), axis=0)
    y = graph.op("MatMul", graph.op("Reshape", x, shape), graph.constant(array(4, 5)))
    graph.output(y, "y", "float32", ["batch", "triple", 5])
    assert count_macs(graph.build(), {"x": (2, 7, 12)}) == 2 * 21 * 4 * 5


def block(packed: bool, past: bool) -> onnx.ModelProto:
    """One decoder block's worth of ONNX Runtime's nodes: 6 query heads, 2 key heads of 8."""
    graph = GraphBuilder("block")
    x = graph.input("x", "float32", ["batch", "tokens", 32])
    normed = graph.op("SimplifiedLayerNormalization", x, graph.constant(array(32)), axis=-1)

    def linear(value: str, columns: int, rows: int) -> str:
        codes = np.zeros((rows, columns // 16, 8), np.uint8)
        inputs = [value, graph.constant(codes), graph.constant(array(rows * columns // 16))]
        return graph.op(
            "MatMulNBits", *inputs, domain=CONTRIB, K=columns, N=rows, bits=4, block_size=16
        )

    if packed:
        query, key, value = linear(normed, 32, 80), "", ""
    else:
        query, key, value = linear(normed, 32, 48), linear(normed, 32, 16), linear(normed, 32, 16)
    cache = ["", ""]
    if past:
        shape = ["batch", 2, "past", 8]
        cache = [graph.input(name, "float32", shape) for name in ("past_key", "past_value")]
    lengths = [graph.input("seqlens", "int32", ["batch"]), graph.input("length", "int32", [])]
    attended, key, value = graph.multi(
        "GroupQueryAttention",
        [query, key, value, *cache, *lengths],
        ["attended", "key", "value"],
        domain=CONTRIB,
        num_heads=6,
        kv_num_heads=2,
    )
    projected = linear(attended, 48, 32)
    normed, _, _, total = graph.multi(
        "SkipSimplifiedLayerNormalization",
        [projected, x, graph.constant(array(32))],
        ["normed", "", "", "total"],
        domain=CONTRIB,
    )
    gate = graph.op("QuickGelu", linear(normed, 32, 64), domain=CONTRIB)
    out = graph.op("Add", total, linear(gate, 64, 32))
    graph.output(out, "out", "float32", ["batch", "tokens", 32])
    for name in (key, value):
        graph.declare_output(name, "float32", ["batch", 2, "past_and_new", 8])
    return graph.build()


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("past", [0, 13])
def test_the_nodes_of_decoder_blocks(packed: bool, past: int) -> None:
    batch, tokens = 3, 5
    shapes: dict[str, tuple[int, ...]] = {
        "x": (batch, tokens, 32),
        "seqlens": (batch,),
        "length": (),
    }
    if past:
        shapes |= dict.fromkeys(("past_key", "past_value"), (batch, 2, past, 8))
    linear = batch * tokens * (32 * 80 + 48 * 32 + 2 * 32 * 64)
    attention = 2 * batch * 6 * tokens * (past + tokens) * 8
    assert count_macs(block(packed, bool(past)), shapes) == linear + attention


def test_a_graph_with_constants_outside_is_counted_the_same(tmp_path) -> None:
    graph = GraphBuilder("g")
    x = graph.input("x", "float32", ["batch", 64])
    y = graph.op("MatMul", x, graph.constant(array(64, 64)))
    graph.output(y, "y", "float32", ["batch", 64])
    graph.save(tmp_path / "g.onnx")
    (tmp_path / "g.bin").unlink()
    outside = onnx.load(tmp_path / "g.onnx", load_external_data=False)
    assert count_macs(outside, {"x": (2, 64)}) == count_macs(graph.build(), {"x": (2, 64)}) == 8192


class TestErrors:
    def graph(self, op_type: str, domain: str = "", **attributes: object) -> onnx.ModelProto:
        graph = GraphBuilder("g")
        x = graph.input("x", "float32", [2, 3])
        y = graph.op(op_type, x, domain=domain, **attributes)  # pyright: ignore[reportArgumentType]
        graph.output(y, "y", "float32", [2, 3])
        return graph.build()

    @pytest.mark.parametrize(
        ("op_type", "domain"), [("FusedConv", CONTRIB), ("Einsum", ""), ("Relu", "my.own")]
    )
    def test_a_node_without_a_rule_is_named(self, op_type: str, domain: str) -> None:
        with pytest.raises(ModelError, match=op_type):
            count_macs(self.graph(op_type, domain), {"x": (2, 3)})

    @pytest.mark.parametrize("shapes", [{}, {"x": (2,)}, {"x": (2, 4)}])
    def test_shapes_that_the_graph_does_not_take(self, shapes: dict[str, tuple[int, ...]]) -> None:
        with pytest.raises(ConfigError, match="x: "):
            count_macs(self.graph("Relu"), shapes)

    def test_a_shape_that_depends_on_values(self) -> None:
        graph = GraphBuilder("g")
        x = graph.input("x", "float32", [1, 3, 8])
        length = graph.input("length", "int64", [1])
        part = graph.op("Slice", x, graph.ints(0), length, graph.ints(1))
        y = graph.op("MatMul", part, graph.constant(array(8, 2)))
        graph.output(y, "y", "float32", [1, "length", 2])
        with pytest.raises(ModelError, match="depends on values"):
            count_macs(graph.build(), {"x": (1, 3, 8), "length": (1,)})

    def test_shapes_that_do_not_fit_each_other(self) -> None:
        graph = GraphBuilder("g")
        x = graph.input("x", "float32", ["rows", "columns"])
        y = graph.op("MatMul", x, graph.constant(array(8, 2)))
        graph.output(y, "y", "float32", ["rows", 2])
        with pytest.raises(ModelError, match="do not go through"):
            count_macs(graph.build(), {"x": (4, 7)})
