"""8-bit convolutions of encoders: calibrated scales, written into the graph as Q and DQ nodes.

Explicit quantisation as TensorRT reads it: activations with one scale per tensor, weights with one
per output channel, both symmetric. ONNX Runtime runs the same graph, so what the rounding costs is
measured without a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ...runtime.backends.onnxruntime_cpu import session_options
from ...runtime.errors import ConfigError

Arrays = Mapping[str, NDArray[np.float32]]

#: Values that are kept of each tensor and frame, and ways to cut their range that are tried.
_SAMPLES = 8192
_CUTS = 48
_LARGEST = 127

#: Convolutions with fewer weights keep floats: together they have a few percent of an encoder's
#: bytes, and what they lose in 8 bits, the first ones above all, is most of what is lost.
_FEW_WEIGHTS = 10_000


def activation_scales(path: Path, frames: Iterable[Arrays], *, threads: int) -> dict[str, float]:
    """What each convolution's input is best divided by, from frames that are run through.

    The range is cut where the squared error of rounding and cutting together is least, over values
    sampled evenly from all frames.

    Args:
        path: of the float32 graph.
        frames: inputs of the graph.
        threads: of a run.

    Returns:
        Scale by name of the value.

    Raises:
        ConfigError: there is no frame.
    """
    model = onnx.load(str(path))
    names = list(dict.fromkeys(n.input[0] for n in model.graph.node if n.op_type == "Conv"))
    inputs = {value.name for value in model.graph.input}
    inside = [name for name in names if name not in inputs]
    present = {output.name for output in model.graph.output}
    model.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for name in inside
        if name not in present
    )
    session = ort.InferenceSession(
        model.SerializeToString(), session_options(threads), providers=["CPUExecutionProvider"]
    )
    samples: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    for frame in frames:
        values = dict(zip(inside, session.run(inside, dict(frame)), strict=True))
        for name in names:
            flat = np.abs(np.asarray(values[name] if name in values else frame[name])).reshape(-1)
            step = max(1, len(flat) // _SAMPLES)
            samples[name].append(np.append(flat[::step], flat.max()))
    if not samples or not all(samples.values()):
        raise ConfigError(
            "8-bit encoders need frames to be calibrated with, and there is none",
            field="calibrate",
            remedy="name a drive that has this sensor",
        )
    return {name: _best_scale(np.concatenate(parts)) for name, parts in samples.items()}


def _best_scale(values: NDArray[np.float32]) -> float:
    largest = float(values.max())
    if largest == 0:
        return 1.0
    best, least = largest / _LARGEST, np.inf
    for cut in np.linspace(1.0, 0.3, _CUTS):
        scale = cut * largest / _LARGEST
        codes = np.minimum(np.rint(values / scale), _LARGEST)
        error = float(np.square(values - codes * scale).sum())
        if error < least:
            best, least = scale, error
    return best


def with_eight_bits(model: onnx.ModelProto, scales: Mapping[str, float]) -> onnx.ModelProto:
    """A copy of a graph whose large convolutions take and hold 8-bit numbers.

    Depthwise ones and those of few weights stay as they are, see `is_rounded`.

    Args:
        model: with all constants inside; float32, or with halves (`halves.with_halves`).
        scales: of `activation_scales`, by the value's name in the float32 graph.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    casts = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Cast"}
    nodes: list[onnx.NodeProto] = []
    made: dict[str, str] = {}
    for node in graph.node:
        if is_rounded(node, constants):
            given, kernel = node.input[0], constants[node.input[1]]
            scale = scales.get(given, scales.get(casts.get(given, "")))
            if scale is not None:
                if given not in made:
                    made[given] = _rounded(graph, nodes, given, scale, kernel.data_type)
                node.input[0] = made[given]
                node.input[1] = _codes(graph, nodes, kernel)
        nodes.append(node)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
    return result


def is_rounded(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> bool:
    """Whether a node is a convolution that takes 8-bit numbers: with many weights, each of which
    meets all channels."""
    if node.op_type != "Conv" or node.input[1] not in constants:
        return False
    groups = next((a.i for a in node.attribute if a.name == "group"), 1)
    return groups == 1 and math.prod(constants[node.input[1]].dims) >= _FEW_WEIGHTS


def _rounded(
    graph: onnx.GraphProto, nodes: list[onnx.NodeProto], value: str, scale: float, kind: int
) -> str:
    """The value through 8 bits and back."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    at, zero = f"{value}/scale", f"{value}/zero"
    # Where even the scale has no place in float16, nothing that the product gives will have.
    held = np.asarray(min(scale, float(np.finfo(dtype).max)), dtype)
    graph.initializer.append(numpy_helper.from_array(held, at))
    graph.initializer.append(numpy_helper.from_array(np.asarray(0, np.int8), zero))
    codes, back = f"{value}/codes", f"{value}/rounded"
    nodes.append(helper.make_node("QuantizeLinear", [value, at, zero], [codes]))
    nodes.append(helper.make_node("DequantizeLinear", [codes, at, zero], [back]))
    return back


def _codes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto], kernel: onnx.TensorProto) -> str:
    """A kernel as codes with a scale per output channel."""
    values = numpy_helper.to_array(kernel)
    flat = values.astype(np.float32).reshape(len(values), -1)
    scales = np.abs(flat).max(axis=1) / _LARGEST
    scales = np.where(scales > 0, scales, 1).astype(values.dtype)
    # Rounded to what is stored, and never to zero.
    scales = np.maximum(scales, np.finfo(values.dtype).smallest_subnormal)
    codes = np.clip(np.rint(flat / scales.astype(np.float32)[:, None]), -_LARGEST, _LARGEST)
    stored, at, back = (f"{kernel.name}/{part}" for part in ("codes", "scales", "rounded"))
    codes = codes.astype(np.int8).reshape(values.shape)
    graph.initializer.append(numpy_helper.from_array(codes, stored))
    graph.initializer.append(numpy_helper.from_array(scales, at))
    nodes.append(helper.make_node("DequantizeLinear", [stored, at], [back], axis=0))
    return back
