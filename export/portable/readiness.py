"""Whether TensorRT will take a graph, as far as that can be told without a GPU.

Operators, types and restrictions are those of the parser's own documentation (onnx-tensorrt,
docs/operators.md, TensorRT 10.1; later versions take more, none takes less), 4-bit blocks those of
NVIDIA's developer guide. Shapes are inferred at the least, usual and largest sizes of the profile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import onnx
from onnx import TensorProto, helper, numpy_helper

from .manifest import ExportedGraph

#: The newest opset that TensorRT 10.3's parser documents, and the one with 4-bit constants, which
#: its table lists as well.
MOST_OPSET = 20
INT4_OPSET = 21

_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16})
_NUMBERS = _FLOATS | {TensorProto.INT32, TensorProto.INT64}
_ANY = _NUMBERS | {TensorProto.BOOL}

#: Types of an operator's inputs; those of constants that say sizes and axes are not among them.
OPERATORS: Mapping[str, frozenset[int]] = {
    **dict.fromkeys(
        (
            *("Add", "Sub", "Mul", "Div", "Min", "Max", "Abs", "Neg", "Pow", "Relu"),
            *("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "Range"),
            *("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "TopK"),
        ),
        _NUMBERS,
    ),
    **dict.fromkeys(
        (
            *("MatMul", "Gemm", "Conv", "Softmax", "Sigmoid", "Sqrt", "Reciprocal", "Exp", "Log"),
            *("Sin", "Cos", "Tanh", "Erf", "Gelu", "Clip", "MaxPool", "AveragePool"),
            *("GlobalAveragePool", "LayerNormalization", "Round", "Floor", "Resize"),
            *("QuantizeLinear", "HardSigmoid"),
        ),
        _FLOATS,
    ),
    **dict.fromkeys(
        (
            *("Concat", "Expand", "Gather", "GatherND", "Identity", "Reshape", "Shape", "Slice"),
            *("Split", "Squeeze", "Unsqueeze", "Tile", "Transpose", "Where", "Flatten"),
        ),
        _ANY,
    ),
    "Cast": _ANY | {TensorProto.UINT8},
    "DequantizeLinear": frozenset({TensorProto.INT8, TensorProto.INT4}),
    **dict.fromkeys(("And", "Or", "Not"), frozenset({TensorProto.BOOL})),
}

#: Inputs whose type is checked where it is not the first alone.
_TYPED_INPUTS = {"Where": (1, 2), "Concat": None, "Add": None, "Mul": None, "MatMul": None}

#: Inputs that must be constants.
_CONSTANT_INPUTS: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"), (1,)),
    "Slice": (3,),
    "Squeeze": (1,),
    "Unsqueeze": (1,),
    "TopK": (1,),
}
_MOST_TOPK = 3840
_INT4_BLOCKS = (64, 128)
_MOST_RANK = 8


def problems_of(path: Path, graph: ExportedGraph) -> list[str]:
    """Why TensorRT would refuse a graph, or take another one than ONNX Runtime runs.

    Args:
        path: of the graph; its constants lie beside it.
        graph: its entry in the manifest, with the sizes of the profile.

    Returns:
        A sentence for each problem; none where the graph is ready.
    """
    model = onnx.load(str(path))
    problems = list(_opset_problems(model))
    problems += _operator_problems(model)
    for which in ("least", "usual", "most"):
        problems += _shape_problems(model, graph, which)
    return problems


def _opset_problems(model: onnx.ModelProto) -> Iterable[str]:
    for opset in model.opset_import:
        if opset.domain:
            yield f"operators of the domain '{opset.domain}' are not standard ONNX"
        elif opset.version > MOST_OPSET and not (opset.version == INT4_OPSET and _int4(model)):
            yield f"opset {opset.version} is newer than {MOST_OPSET}"


def _int4(model: onnx.ModelProto) -> bool:
    return any(tensor.data_type == TensorProto.INT4 for tensor in model.graph.initializer)


def _operator_problems(model: onnx.ModelProto) -> Iterable[str]:
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    described = (*inferred.input, *inferred.value_info, *inferred.output)
    types = {value.name: value.type.tensor_type.elem_type for value in described}
    ranks = {v.name: len(v.type.tensor_type.shape.dim) for v in described}
    constants = {tensor.name: tensor for tensor in inferred.initializer}
    types |= {name: tensor.data_type for name, tensor in constants.items()}
    for node in inferred.node:
        allowed = OPERATORS.get(node.op_type)
        if allowed is None:
            yield f"{node.op_type} is not among the operators that are known to be taken"
            continue
        places = _TYPED_INPUTS.get(node.op_type, (0,))
        checked = node.input if places is None else [node.input[place] for place in places]
        for name in checked:
            if types.get(name) not in allowed:
                kind = TensorProto.DataType.Name(types.get(name, 0))
                yield f"{node.op_type} of {kind} ({name})"
        for name in (*node.input, *node.output):
            if ranks.get(name, 0) > _MOST_RANK:
                yield f"{name} has {ranks[name]} dimensions, more than {_MOST_RANK}"
        for place in _CONSTANT_INPUTS.get(node.op_type, ()):
            if place < len(node.input) and node.input[place] not in constants:
                yield f"{node.op_type}: input {place} ({node.input[place]}) must be a constant"
        yield from _restrictions(node, constants)


def _restrictions(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> Iterable[str]:
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if node.op_type == "TopK":
        count = constants.get(node.input[1])
        if given.get("sorted", 1) != 1 or (
            count is not None and int(numpy_helper.to_array(count)[0]) >= _MOST_TOPK
        ):
            yield f"TopK must be sorted, and of fewer than {_MOST_TOPK}"
    if node.op_type in ("MaxPool", "LayerNormalization") and len(node.output) > 1:
        yield f"{node.op_type} has more than one output"
    if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        zero = constants.get(node.input[2]) if len(node.input) > 2 else None
        if len(node.input) > 2 and (zero is None or numpy_helper.to_array(zero).any()):
            yield f"{node.op_type} ({node.output[0]}) has a zero point"
    if node.op_type == "DequantizeLinear" and node.input[0] in constants:
        codes, block = constants[node.input[0]], given.get("block_size", 0)
        if codes.data_type == TensorProto.INT4 and block not in _INT4_BLOCKS:
            yield f"4-bit numbers in blocks of {block}, not of 64 or 128"
        if codes.data_type == TensorProto.INT8 and block:
            yield "8-bit numbers in blocks, not with a scale per tensor or channel"


def _shape_problems(model: onnx.ModelProto, graph: ExportedGraph, which: str) -> Iterable[str]:
    """Infer all shapes at one size of the profile and compare those of the outputs."""
    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    del sized.graph.value_info[:]
    wanted = {tensor.name: getattr(tensor, which) for tensor in (*graph.inputs, *graph.outputs)}
    for value in sized.graph.input:
        shape = wanted.get(value.name)
        if shape is None:
            yield f"the profile has no shape of the input {value.name}"
            return
        for dim, size in zip(value.type.tensor_type.shape.dim, shape, strict=True):
            dim.dim_value = size
    for value in sized.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(sized, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        yield f"shapes at the {which} sizes: {error}"
        return
    for value in inferred.graph.output:
        found = [dim.dim_value or None for dim in value.type.tensor_type.shape.dim]
        fits = len(found) == len(wanted[value.name]) and all(
            size is None or size == goal
            for size, goal in zip(found, wanted[value.name], strict=True)
        )
        if not fits:
            yield f"{value.name} is {found} at the {which} sizes, not {list(wanted[value.name])}"
