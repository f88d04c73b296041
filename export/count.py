"""Counts the multiply-adds of an ONNX graph for given input shapes.

Only products are counted (convolutions, matrix products, attention), as usual for such figures;
norms, activations and sums are not. One multiply-add is two FLOPs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ..runtime.errors import ConfigError, ModelError
from .graph import CONTRIB

Shape = tuple[int, ...]

#: Values that may decide a shape; larger constants are only looked at for their dimensions.
_SHAPE_ELEMENTS = 64

#: Nodes outside the ONNX standard whose outputs have the shape of their first input.
_SAME_SHAPE = {
    *("SimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization"),
    *("SkipLayerNormalization", "QuickGelu", "FastGelu", "BiasGelu", "Gelu", "RotaryEmbedding"),
}

#: Standard nodes with products (or bodies) that have no rule here: better none than a wrong count.
_NO_RULE = {
    *("ConvInteger", "ConvTranspose", "DeformConv", "Einsum", "GRU", "LSTM"),
    *("Loop", "MatMulInteger", "QLinearConv", "QLinearMatMul", "RNN", "Scan"),
}


def count_macs(
    model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]], *, then: bool = False
) -> int:
    """Count the multiply-adds of one run.

    Counted are `Conv`, `Gemm`, `MatMul` and `Attention`, and of ONNX Runtime's own nodes
    `MatMulNBits` and `GroupQueryAttention`. Attention counts both products over all `past + new`
    keys, also those that a mask or a bias hides, as they are computed.

    Args:
        model: the graph; constants may lie outside, their values are not needed.
        shapes: a concrete shape for every input of the graph.
        then: which branch every `If` takes.

    Returns:
        Multiply-adds; FLOPs are twice as many.

    Raises:
        ConfigError: an input has no shape, or one that the graph does not take.
        ModelError: the graph has a node without a rule, or a shape that depends on values.
    """
    skeleton = _skeleton(model, shapes, then)
    try:
        inferred = onnx.shape_inference.infer_shapes(skeleton, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        raise ModelError(
            f"the shapes {dict(shapes)} do not go through: {error}",
            field=model.graph.name,
        ) from error
    known = _known_shapes(inferred.graph)
    return sum(_node_macs(node, known) for node in inferred.graph.node)


def _skeleton(
    model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]], then: bool
) -> onnx.ModelProto:
    """The same graph with concrete inputs, without large constants, of standard nodes only."""
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [_concrete(value, shapes) for value in graph.input if value.name not in constants]
    # Declared shapes of outputs have free dimensions, which would win over the inferred numbers.
    outputs = [
        helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, None)
        for value in graph.output
    ]
    initializers = [_dimensions_only(tensor) for tensor in graph.initializer]
    nodes: list[onnx.NodeProto] = []
    for node in _taken(graph.node, "then_branch" if then else "else_branch"):
        replaced, tensors = _standard(node)
        nodes += replaced
        initializers += tensors
    skeleton = helper.make_graph(nodes, graph.name, inputs, outputs, initializer=initializers)
    opsets = [opset for opset in model.opset_import if opset.domain in ("", "ai.onnx")]
    return helper.make_model(skeleton, opset_imports=opsets, ir_version=model.ir_version)


def _taken(nodes: Iterable[onnx.NodeProto], branch: str) -> Iterator[onnx.NodeProto]:
    """The nodes of a run that takes this branch of every `If`."""
    for node in nodes:
        if node.op_type != "If":
            yield node
            continue
        body = next(one.g for one in node.attribute if one.name == branch)
        yield from _taken(body.node, branch)
        for made, name in zip(body.output, node.output, strict=True):
            yield helper.make_node("Identity", [made.name], [name])


def _concrete(
    value: onnx.ValueInfoProto, shapes: Mapping[str, Sequence[int]]
) -> onnx.ValueInfoProto:
    if value.name not in shapes:
        raise ConfigError(
            "no shape was given for this input", field=value.name, remedy="give one for each input"
        )
    shape = list(shapes[value.name])
    declared = value.type.tensor_type.shape.dim
    fixed = [d.dim_value if d.HasField("dim_value") else None for d in declared]
    if len(fixed) != len(shape) or any(
        size not in (None, given) for size, given in zip(fixed, shape, strict=True)
    ):
        raise ConfigError(f"takes {fixed}, not {shape}", field=value.name)
    return helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, shape)


def _dimensions_only(tensor: onnx.TensorProto) -> onnx.TensorProto:
    external = tensor.data_location == onnx.TensorProto.EXTERNAL
    if math.prod(tensor.dims) <= _SHAPE_ELEMENTS and not external:
        return tensor
    return onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)


def _standard(node: onnx.NodeProto) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Nodes of the standard, and constants, with the shapes and products of `node`.

    ONNX knows no shapes of ONNX Runtime's nodes, so inference would stop at the first of them.
    """
    if node.op_type in _SAME_SHAPE and (node.domain == CONTRIB or not _in_standard(node)):
        outputs = [name for name in node.output if name]
        return [helper.make_node("Identity", [node.input[0]], [name]) for name in outputs], []
    if node.domain == CONTRIB and node.op_type == "MatMulNBits":
        size = _attributes(node)
        weight = onnx.TensorProto(
            name=f"{node.output[0]}/weight",
            data_type=onnx.TensorProto.FLOAT,
            dims=[size["K"], size["N"]],
        )
        return [helper.make_node("MatMul", [node.input[0], weight.name], node.output)], [weight]
    if node.domain == CONTRIB and node.op_type == "GroupQueryAttention":
        sizes = _attributes(node)
        past = [*node.input, "", ""][3:5]
        return _attention(node, sizes["num_heads"], sizes["kv_num_heads"], past)
    if _in_standard(node) and node.op_type == "Attention":
        sizes = _attributes(node)
        past = [*node.input, "", "", ""][4:6]
        return _attention(node, sizes["q_num_heads"], sizes["kv_num_heads"], past)
    if not _in_standard(node) or node.op_type in _NO_RULE:
        raise ModelError(
            f"no rule counts the products of {node.domain}:{node.op_type}",
            field=node.name or node.output[0],
            remedy="add one to export/count.py",
        )
    return [node], []


def _in_standard(node: onnx.NodeProto) -> bool:
    return node.domain in ("", "ai.onnx") and onnx.defs.has(node.op_type)


def _attributes(node: onnx.NodeProto) -> dict[str, int]:
    integers = (a for a in node.attribute if a.type == onnx.AttributeProto.INT)
    return {attribute.name: attribute.i for attribute in integers}


def _attention(
    node: onnx.NodeProto, heads: int, kv_heads: int, past: Sequence[str]
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Grouped-query attention written out: every key head serves `group` query heads at once.

    Args:
        node: its first inputs are queries, keys and values, or all packed.
        heads: of queries.
        kv_heads: of keys and values.
        past: names of what comes in front of the new keys and values, empty for nothing.
    """
    query, key, value = node.input[:3]
    out = node.output[0]
    builder = _Nodes(out)
    if not key:
        split = builder.reshape(query, 0, 0, heads + 2 * kv_heads, -1)
        query = builder.reshape(builder.part(split, 0, heads), 0, 0, -1)
        key = builder.part(split, heads, heads + kv_heads)
        value = builder.part(split, heads + kv_heads, heads + 2 * kv_heads)
    else:
        key = builder.reshape(key, 0, 0, kv_heads, -1)
        value = builder.reshape(value, 0, 0, kv_heads, -1)
    builder.add("Identity", query, output=out)
    grown = [
        builder.grow(new, old, present)
        for new, old, present in zip(
            (key, value), past, [*node.output[1:3], "", ""][:2], strict=True
        )
    ]
    grouped = builder.reshape(query, 0, 0, kv_heads, heads // kv_heads, -1)
    grouped = builder.add("Transpose", grouped, perm=[0, 2, 3, 1, 4])
    keys = builder.add("Unsqueeze", grown[0], builder.ints(2))
    values = builder.add("Unsqueeze", grown[1], builder.ints(2))
    scores = builder.add("MatMul", grouped, builder.add("Transpose", keys, perm=[0, 1, 2, 4, 3]))
    builder.add("MatMul", scores, values)
    return builder.nodes, builder.tensors


class _Nodes:
    """A few nodes that stand for one, with value names of their own."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []

    def add(self, op_type: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        name = output or f"{self._prefix}/{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [name], **attributes))
        return name

    def ints(self, *values: int) -> str:
        name = f"{self._prefix}/ints_{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(values, np.int64), name))
        return name

    def reshape(self, value: str, *shape: int) -> str:
        return self.add("Reshape", value, self.ints(*shape))

    def part(self, value: str, start: int, stop: int) -> str:
        return self.add("Slice", value, self.ints(start), self.ints(stop), self.ints(2))

    def grow(self, new: str, past: str, present: str) -> str:
        """`[batch, new, heads, dim]` appended to the cache `[batch, heads, past, dim]`."""
        moved = self.add("Transpose", new, perm=[0, 2, 1, 3])
        parts = [past, moved] if past else [moved]
        return self.add("Concat", *parts, output=present, axis=2)


def _known_shapes(graph: onnx.GraphProto) -> dict[str, Shape]:
    known = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        if kind.HasField("shape") and all(d.HasField("dim_value") for d in kind.shape.dim):
            known[value.name] = tuple(d.dim_value for d in kind.shape.dim)
    return known


def _node_macs(node: onnx.NodeProto, known: Mapping[str, Shape]) -> int:
    if node.op_type not in ("Conv", "Gemm", "MatMul"):
        return 0
    left, right, out = _shapes_of(node, known)
    if node.op_type == "Conv":
        return math.prod(out) * math.prod(right[1:])
    transposed = node.op_type == "Gemm" and _attributes(node).get("transA", 0)
    return math.prod(out) * left[0 if transposed else -1]


def _shapes_of(node: onnx.NodeProto, known: Mapping[str, Shape]) -> Iterator[Shape]:
    for name in (*node.input[:2], node.output[0]):
        if name not in known:
            raise ModelError(
                f"the shape of {name} at a {node.op_type} depends on values",
                field=node.name or node.output[0],
                remedy="compute it from shapes or constants",
            )
        yield known[name]
