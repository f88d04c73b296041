"""Convolutional networks saved as TensorFlow.js graph models, rewritten as ONNX.

Only what such networks consist of is known here: convolutions, pointwise functions, pooling,
resizing and concatenation of images. Post-processing is left to the caller, who names the tensors
to stop at. TensorFlow's images are `[n, h, w, c]`, ONNX's `[n, c, h, w]`: the network is turned
once, so that no tensor is transposed on the way.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..runtime.errors import ModelError
from .tfjs_weights import Array, read_weights

if TYPE_CHECKING:
    import onnx

_OPSET = 17
_CHANNELS_FIRST = {0: 0, 3: 1, -1: 1, 1: 2, 2: 3}
_POINTWISE = {
    "Add": "Add",
    "AddV2": "Add",
    "Mul": "Mul",
    "Sub": "Sub",
    "Relu": "Relu",
    "Sigmoid": "Sigmoid",
    "Identity": "Identity",
}


def to_onnx(graph_json: bytes, weights: bytes, outputs: Sequence[str]) -> onnx.ModelProto:
    """Rewrite a graph model.

    Args:
        graph_json: the model's JSON.
        weights: its weight files, one behind the other.
        outputs: names of the nodes to stop at, each a `[n, h, w, c]` tensor.

    Returns:
        A model with one input `images`, float32 `[n, h, w, c]` of the declared shape, and outputs
        `output_0`, `output_1`, ... of the same layout, in the order asked for.

    Raises:
        ModelError: the files are no graph model, a node is missing or of an unknown kind.
    """
    try:
        document = json.loads(graph_json)
        nodes = {node["name"]: node for node in document["modelTopology"]["node"]}
        constants = read_weights(document["weightsManifest"], weights)
        return _Rewriter(nodes, constants).model(outputs)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ModelError(
            f"this is no TensorFlow.js graph model: {error!r}",
            field="graph",
            remedy="give the model.json of a graph model and its weights",
        ) from error


class _Rewriter:
    """Walks from the outputs back to the image and writes each node once."""

    def __init__(self, nodes: Mapping[str, Mapping[str, Any]], constants: dict[str, Array]):
        from onnx import TensorProto, helper, numpy_helper

        self._nodes, self._constants = nodes, constants
        self._helper, self._numpy_helper, self._float = helper, numpy_helper, TensorProto.FLOAT
        self._written: list[Any] = []
        self._initializers: list[Any] = []
        self._input: Any = None
        self._names: dict[str, str] = {}
        self._kinds: dict[str, Callable[[Mapping[str, Any], str], str]] = {
            "Placeholder": self._placeholder,
            "Relu6": self._relu6,
            "Mean": self._mean,
            "MaxPool": self._max_pool,
            "ConcatV2": self._concat,
            "ResizeBilinear": self._resize,
            **dict.fromkeys(("Conv2D", "_FusedConv2D"), self._convolution),
            **dict.fromkeys(
                ("DepthwiseConv2dNative", "FusedDepthwiseConv2dNative"), self._convolution
            ),
            **dict.fromkeys(_POINTWISE, self._pointwise),
        }

    def model(self, outputs: Sequence[str]) -> onnx.ModelProto:
        results = []
        for number, name in enumerate(outputs):
            self._visit(name)
            result = f"output_{number}"
            self._add("Transpose", [self._names[name]], result, perm=[0, 2, 3, 1])
            results.append(self._helper.make_tensor_value_info(result, self._float, [None] * 4))
        if self._input is None:
            raise _unknown("the outputs do not depend on an image", "outputs")
        graph = self._helper.make_graph(
            self._written, "network", [self._input], results, self._initializers
        )
        opset = self._helper.make_opsetid("", _OPSET)
        return self._helper.make_model(graph, opset_imports=[opset], ir_version=8)

    def _visit(self, output: str) -> None:
        waiting = [output]
        while waiting:
            name = waiting[-1]
            node = self._nodes.get(name)
            if node is None:
                raise _unknown("the graph has no such node", name)
            missing = [
                source
                for source in map(_source, node.get("input", ()))
                if source not in self._names and source not in self._constants
            ]
            if name in self._names:
                waiting.pop()
            elif missing:
                if missing[0] in waiting:
                    raise _unknown("the graph runs in a circle", name)
                waiting.append(missing[0])
            elif node["op"] in self._kinds:
                self._names[name] = self._kinds[node["op"]](node, name)
                waiting.pop()
            else:
                raise _unknown(f"a node of kind {node['op']} is not known", name)

    def _add(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self._written.append(self._helper.make_node(kind, inputs, [output], **attributes))
        return output

    def _constant(self, name: str, values: Array) -> str:
        self._initializers.append(self._numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def _values(self, node: Mapping[str, Any], place: int) -> Array:
        """A constant input."""
        source = _source(node["input"][place])
        if source not in self._constants:
            raise _unknown(f"input {place} is not constant", node["name"])
        return self._constants[source]

    def _image(self, node: Mapping[str, Any], place: int) -> str:
        """An input that is an image, or a constant that is spread over one."""
        source = _source(node["input"][place])
        if source in self._names:
            return self._names[source]
        values = self._constants[source]
        # `[h, w, c]` or less lines up with the last axis there; here the channels go first.
        values = values.reshape((1,) * (4 - values.ndim) + values.shape).transpose(0, 3, 1, 2)
        return self._constant(f"{node['name']}/in{place}", values)

    def _placeholder(self, node: Mapping[str, Any], name: str) -> str:
        if self._input is not None:
            raise _unknown("the network has a second input", name)
        shape = [int(dim["size"]) for dim in node["attr"]["shape"]["shape"]["dim"]]
        if len(shape) != 4:
            raise _unknown(f"the input has the shape {shape}, which is no image", name)
        dims = [size if size > 0 else None for size in shape]
        self._input = self._helper.make_tensor_value_info("images", self._float, dims)
        return self._add("Transpose", ["images"], name, perm=[0, 3, 1, 2])

    def _pointwise(self, node: Mapping[str, Any], name: str) -> str:
        inputs = [self._image(node, place) for place in range(len(node["input"]))]
        return self._add(_POINTWISE[node["op"]], inputs, name)

    def _relu6(self, node: Mapping[str, Any], name: str) -> str:
        return self._clip(self._image(node, 0), name)

    def _clip(self, image: str, name: str) -> str:
        low = self._constant(f"{name}/low", np.array(0, np.float32))
        high = self._constant(f"{name}/high", np.array(6, np.float32))
        return self._add("Clip", [image, low, high], name)

    def _mean(self, node: Mapping[str, Any], name: str) -> str:
        axes = [_CHANNELS_FIRST[int(axis)] for axis in np.ravel(self._values(node, 1))]
        if not node["attr"]["keep_dims"]["b"]:
            raise _unknown("a mean that drops its axes is not known", name)
        return self._add("ReduceMean", [self._image(node, 0)], name, axes=axes, keepdims=1)

    def _concat(self, node: Mapping[str, Any], name: str) -> str:
        count = len(node["input"]) - 1
        axis = _CHANNELS_FIRST[int(self._values(node, count))]
        inputs = [self._image(node, place) for place in range(count)]
        return self._add("Concat", inputs, name, axis=axis)

    def _max_pool(self, node: Mapping[str, Any], name: str) -> str:
        attributes = node["attr"]
        return self._add(
            "MaxPool",
            [self._image(node, 0)],
            name,
            kernel_shape=_spatial(attributes["ksize"]),
            strides=_spatial(attributes["strides"]),
            auto_pad=_padding(attributes, name),
        )

    def _resize(self, node: Mapping[str, Any], name: str) -> str:
        attributes = node["attr"]
        corners = attributes.get("align_corners", {}).get("b", False)
        centred = attributes.get("half_pixel_centers", {}).get("b", False)
        mode = "align_corners" if corners else "half_pixel" if centred else "asymmetric"
        height, width = np.ravel(self._values(node, 1)).tolist()
        # The number of images and of channels stays, so these two sizes are taken from the input.
        shape = self._add("Shape", [self._image(node, 0)], f"{name}/shape", end=2)
        target = self._constant(f"{name}/target", np.array([height, width], np.int64))
        sizes = self._add("Concat", [shape, target], f"{name}/sizes", axis=0)
        return self._add(
            "Resize",
            [self._image(node, 0), "", "", sizes],
            name,
            mode="linear",
            coordinate_transformation_mode=mode,
        )

    def _convolution(self, node: Mapping[str, Any], name: str) -> str:
        attributes = node["attr"]
        if attributes.get("data_format", {"s": "TkhXQw=="})["s"] != "TkhXQw==":  # "NHWC"
            raise _unknown("only images [n, h, w, c] are known", name)
        kernel, groups = self._values(node, 1).transpose(3, 2, 0, 1), 1
        if "Depthwise" in node["op"]:
            # [h, w, channels, multiplier]: one group a channel, its outputs side by side.
            depthwise = self._values(node, 1)
            height, width, groups, _ = depthwise.shape
            kernel = depthwise.transpose(2, 3, 0, 1).reshape(-1, 1, height, width)
        inputs = [self._image(node, 0), self._constant(f"{name}/kernel", kernel)]
        fused = [
            _text(kind) for kind in attributes.get("fused_ops", {}).get("list", {}).get("s", ())
        ]
        if "BiasAdd" in fused:
            inputs.append(self._constant(f"{name}/bias", np.ravel(self._values(node, 2))))
        rest = [kind for kind in fused if kind != "BiasAdd"]
        if rest and rest not in (["Relu"], ["Relu6"]):
            raise _unknown(f"a convolution fused with {rest} is not known", name)
        result = f"{name}/conv" if rest else name
        self._add(
            "Conv",
            inputs,
            result,
            group=groups,
            kernel_shape=kernel.shape[2:],
            strides=_spatial(attributes["strides"]),
            dilations=_spatial(attributes.get("dilations", {"list": {"i": [1, 1, 1, 1]}})),
            auto_pad=_padding(attributes, name),
        )
        if rest == ["Relu"]:
            return self._add("Relu", [result], name)
        return self._clip(result, name) if rest else name


def _source(reference: str) -> str:
    """The node that an input comes from; only first outputs exist among the known kinds."""
    return reference.removesuffix(":0")


def _spatial(attribute: Mapping[str, Any]) -> list[int]:
    """Height and width of an attribute that has a number for each axis of `[n, h, w, c]`."""
    return [int(value) for value in attribute["list"]["i"][1:3]]


def _padding(attributes: Mapping[str, Any], name: str) -> str:
    padding = _text(attributes["padding"]["s"])
    if padding not in ("SAME", "VALID"):
        raise _unknown(f"padding {padding} is not known", name)
    return "SAME_UPPER" if padding == "SAME" else "VALID"


def _text(encoded: str) -> str:
    try:
        return base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise _unknown("an attribute is no base64 text", encoded) from error


def _unknown(problem: str, field: str) -> ModelError:
    return ModelError(problem, field=field, remedy="take a plain convolutional graph model")
