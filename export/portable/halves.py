"""Runs the products of a float32 graph in float16, with every cast written out.

For encoders: convolutions and products with constants, and what lies between them. Everything else
(geometry, exponentials, norms, scores) stays float32, where metres and pixels need their digits.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

#: Constants that a product with is worth running in float16, in elements.
_WORTHWHILE = 256

#: What passes float16 on where all it takes is float16 already, with the inputs that count.
_FOLLOWERS = frozenset(
    {
        *("Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool", "Add", "Concat"),
        *("Reshape", "Transpose", "Slice", "Split", "Squeeze", "Unsqueeze", "Identity"),
        *("Resize", "DepthToSpace"),
    }
)
#: Inputs that are float32 whatever the others are.
_ALWAYS_FLOAT = {"Resize": {1, 2}}


def with_halves(model: onnx.ModelProto, *, every_product: bool = False) -> onnx.ModelProto:
    """A copy of a float32 graph whose products run in float16; inputs and outputs keep their types.

    Args:
        model: with all constants inside.
        every_product: also those of two computed values, or of small constants.
    """
    return _Halves(model, every_product).convert()


class _Halves:
    def __init__(self, model: onnx.ModelProto, every_product: bool) -> None:
        self._every_product = every_product
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        graph = self._model.graph
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._floats = _float_values(model)
        self._half: set[str] = set()
        self._made: dict[tuple[str, int], str] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._new_constants: list[onnx.TensorProto] = []

    def convert(self) -> onnx.ModelProto:
        graph = self._model.graph
        for node in graph.node:
            self._convert(node)
        for output in graph.output:
            if output.name in self._half:
                # The name belongs to the graph's output, so what computes it gets another.
                inner = f"{output.name}/half"
                for node in self._nodes:
                    for names in (node.input, node.output):
                        for place, name in enumerate(names):
                            if name == output.name:
                                names[place] = inner
                self._nodes.append(
                    helper.make_node("Cast", [inner], [output.name], to=TensorProto.FLOAT)
                )
        del graph.node[:]
        graph.node.extend(self._nodes)
        used = {name for node in self._nodes for name in node.input}
        kept = [t for t in (*graph.initializer, *self._new_constants) if t.name in used]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        del graph.value_info[:]
        return self._model

    def _convert(self, node: onnx.NodeProto) -> None:
        floats = self._float_inputs(node)
        given = [name for _, name in floats if name not in self._constants]
        if self._is_product(node) or (
            node.op_type in _FOLLOWERS and given and all(name in self._half for name in given)
        ):
            for place, name in floats:
                node.input[place] = self._as(name, TensorProto.FLOAT16)
            self._half.update(node.output)
        else:
            for place, name in floats:
                if name in self._half:
                    node.input[place] = self._as(name, TensorProto.FLOAT)
        self._nodes.append(node)

    def _float_inputs(self, node: onnx.NodeProto) -> list[tuple[int, str]]:
        always = _ALWAYS_FLOAT.get(node.op_type, set())
        return [
            (place, name)
            for place, name in enumerate(node.input)
            if name in self._floats and place not in always
        ]

    def _is_product(self, node: onnx.NodeProto) -> bool:
        if node.op_type == "Conv":
            return True
        if self._every_product and node.op_type in ("MatMul", "Gemm"):
            return True
        sizes = [
            math.prod(self._constants[name].dims) for name in node.input if name in self._constants
        ]
        return node.op_type in ("MatMul", "Gemm") and max(sizes, default=0) >= _WORTHWHILE

    def _as(self, name: str, kind: int) -> str:
        """The value in another type, made once."""
        if (name in self._half) == (kind == TensorProto.FLOAT16) and name not in self._constants:
            return name
        key = (name, kind)
        if key in self._made:
            return self._made[key]
        made = f"{name}/{'half' if kind == TensorProto.FLOAT16 else 'float'}"
        self._made[key] = made
        if name in self._constants:
            if kind != TensorProto.FLOAT16:
                return name
            array = numpy_helper.to_array(self._constants[name]).astype(np.float16)
            self._new_constants.append(numpy_helper.from_array(array, made))
        else:
            self._nodes.append(helper.make_node("Cast", [name], [made], to=kind))
        if kind == TensorProto.FLOAT16:
            self._half.add(made)
        return made


def _float_values(model: onnx.ModelProto) -> set[str]:
    """Names of all float32 values, constants included."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    described = (*inferred.input, *inferred.value_info, *inferred.output)
    names = {v.name for v in described if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    return names | {t.name for t in inferred.initializer if t.data_type == TensorProto.FLOAT}
