"""The rewriting of graph models: a tiny network against TensorFlow's definitions in plain loops."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from tailwire.benchmarks.tfjs_graph import to_onnx
from tailwire.benchmarks.tfjs_weights import read_weights
from tailwire.runtime.errors import ModelError

Float32 = NDArray[np.float32]


def text(value: str) -> dict[str, str]:
    return {"s": base64.b64encode(value.encode()).decode()}


def numbers(*values: int) -> dict[str, Any]:
    return {"list": {"i": [str(value) for value in values]}}


class Network:
    """A graph model that is put together node by node."""

    def __init__(self, size: int, channels: int) -> None:
        dims = [{"size": str(value)} for value in (1, size, size, channels)]
        attr = {"shape": {"shape": {"dim": dims}}}
        self.nodes: list[dict[str, Any]] = [{"name": "image", "op": "Placeholder", "attr": attr}]
        self.constants: dict[str, NDArray[Any]] = {}

    def add(self, op: str, name: str, *inputs: str, **attr: Any) -> None:
        self.nodes.append({"name": name, "op": op, "input": list(inputs), "attr": attr})

    def constant(self, name: str, values: NDArray[Any]) -> str:
        self.constants[name] = values
        self.nodes.append({"name": name, "op": "Const", "attr": {}})
        return name

    def files(self) -> tuple[bytes, bytes]:
        """The JSON and the weights: float32 stored as float16, as the detector's are."""
        specs, content = [], b""
        for name, values in self.constants.items():
            spec: dict[str, Any] = {"name": name, "shape": list(values.shape)}
            if values.dtype == np.float32:
                spec |= {"dtype": "float32", "quantization": {"dtype": "float16"}}
                content += values.astype("<f2").tobytes()
            else:
                spec |= {"dtype": "int32"}
                content += values.astype("<i4").tobytes()
            specs.append(spec)
        document = {
            "modelTopology": {"node": self.nodes},
            "weightsManifest": [{"paths": ["w.bin"], "weights": specs}],
        }
        return json.dumps(document).encode(), content

    def run(self, image: Float32, *outputs: str) -> list[Float32]:
        model = to_onnx(*self.files(), outputs)
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        return [np.asarray(value) for value in session.run(None, {"images": image})]


def half(values: NDArray[Any]) -> Float32:
    """Rounded as the file rounds."""
    return values.astype(np.float16).astype(np.float32)


def convolve(image: Float32, kernel: Float32, stride: int, *, depthwise: bool = False) -> Float32:
    """TensorFlow's `SAME` convolution of `[h, w, c]`, written as its documentation defines it."""
    size, window = image.shape[0], kernel.shape[0]
    out = -(-size // stride)
    padding = max((out - 1) * stride + window - size, 0)
    before = padding // 2
    padded = np.pad(image, ((before, padding - before), (before, padding - before), (0, 0)))
    channels = kernel.shape[2] * kernel.shape[3] if depthwise else kernel.shape[3]
    result = np.zeros((out, out, channels), np.float32)
    for row in range(out):
        for column in range(out):
            y, x = row * stride, column * stride
            patch = padded[y : y + window, x : x + window]
            if depthwise:
                value = np.einsum("hwc,hwcm->cm", patch, kernel).ravel()
            else:
                value = np.einsum("hwc,hwco->o", patch, kernel)
            result[row, column] = value
    return result


@pytest.fixture
def image() -> Float32:
    return np.random.default_rng(1).normal(size=(1, 6, 6, 3)).astype(np.float32)


def weights(*shape: int, seed: int = 2) -> Float32:
    return half(np.random.default_rng(seed).normal(size=shape))


SAME: Mapping[str, Any] = {"padding": text("SAME"), "dilations": numbers(1, 1, 1, 1)}


class TestToOnnx:
    def test_fused_convolution(self, image: Float32) -> None:
        net = Network(6, 3)
        kernel = net.constant("k", weights(3, 3, 3, 5))
        bias = net.constant("b", weights(5, seed=3))
        fused = {"fused_ops": {"list": {"s": [text("BiasAdd")["s"], text("Relu")["s"]]}}}
        net.add(
            "_FusedConv2D",
            "out",
            "image",
            kernel,
            bias,
            strides=numbers(1, 2, 2, 1),
            **SAME,
            **fused,
        )
        (found,) = net.run(image, "out")
        plain = convolve(image[0], net.constants["k"], 2) + net.constants["b"]
        np.testing.assert_allclose(found[0], np.maximum(plain, 0), rtol=1e-4, atol=1e-5)

    def test_depthwise_convolution_with_a_multiplier(self, image: Float32) -> None:
        net = Network(6, 3)
        kernel = net.constant("k", weights(3, 3, 3, 2))
        net.add(
            "DepthwiseConv2dNative", "out", "image", kernel, strides=numbers(1, 1, 1, 1), **SAME
        )
        (found,) = net.run(image, "out")
        expected = convolve(image[0], net.constants["k"], 1, depthwise=True)
        np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-5)

    def test_constants_spread_over_the_last_axis(self, image: Float32) -> None:
        net = Network(6, 3)
        net.add("Mul", "scaled", "image", net.constant("m", weights(3)))
        net.add("Add", "moved", "scaled:0", net.constant("a", np.array(3, np.float32)))
        net.add("Relu6", "out", "moved")
        scaled, out = net.run(image, "scaled", "out")
        np.testing.assert_allclose(scaled, image * net.constants["m"], rtol=1e-5)
        np.testing.assert_allclose(out, np.clip(scaled + 3, 0, 6), rtol=1e-5)

    def test_pooling_resizing_joining_and_means(self, image: Float32) -> None:
        net = Network(6, 3)
        net.add(
            "MaxPool",
            "pool",
            "image",
            ksize=numbers(1, 2, 2, 1),
            strides=numbers(1, 2, 2, 1),
            **SAME,
        )
        size = net.constant("size", np.array([6, 6], np.int32))
        net.add("ResizeBilinear", "big", "pool", size, half_pixel_centers={"b": False})
        axis = net.constant("axis", np.array(3, np.int32))
        net.add("ConcatV2", "joined", "image", "big", axis)
        axes = net.constant("axes", np.array([1, 2], np.int32))
        net.add("Mean", "mean", "joined", axes, keep_dims={"b": True})
        net.add("Sigmoid", "out", "mean")
        pool, big, joined, out = net.run(image, "pool", "big", "joined", "out")

        expected = image[0].reshape(3, 2, 3, 2, 3).max(axis=(1, 3))
        np.testing.assert_allclose(pool[0], expected, rtol=1e-6)
        # Without half-pixel centres, output row 2 i + 1 lies midway between rows i and i + 1.
        np.testing.assert_allclose(big[0, ::2, ::2], expected, rtol=1e-5)
        middle = (expected[:-1] + expected[1:]) / 2
        np.testing.assert_allclose(big[0, 1:5:2, ::2], middle, rtol=1e-5)
        np.testing.assert_allclose(joined, np.concatenate([image, big], axis=3), rtol=1e-6)
        means = joined.mean(axis=(1, 2), keepdims=True)
        np.testing.assert_allclose(out, 1 / (1 + np.exp(-means)), rtol=1e-5)

    def test_unknown_kinds_and_names_are_refused(self) -> None:
        net = Network(6, 3)
        net.add("Einsum", "odd", "image")
        with pytest.raises(ModelError, match="Einsum"):
            to_onnx(*net.files(), ["odd"])
        with pytest.raises(ModelError, match="no such node"):
            to_onnx(*net.files(), ["elsewhere"])

    def test_a_node_without_its_attributes_is_refused(self) -> None:
        net = Network(6, 3)
        net.add("Conv2D", "out", "image", net.constant("k", weights(3, 3, 3, 5)))
        with pytest.raises(ModelError, match="graph model"):
            to_onnx(*net.files(), ["out"])

    def test_a_circle_is_refused(self) -> None:
        net = Network(6, 3)
        net.add("Relu", "a", "b")
        net.add("Relu", "b", "a")
        with pytest.raises(ModelError, match="circle"):
            to_onnx(*net.files(), ["a"])

    @pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"modelTopology": 3}', b"\xff"])
    def test_other_files_are_refused(self, content: bytes) -> None:
        with pytest.raises(ModelError, match="graph model"):
            to_onnx(content, b"", ["out"])


class TestReadWeights:
    def test_cut_off_or_too_long_weights_are_refused(self) -> None:
        net = Network(6, 3)
        net.constant("k", weights(2, 2))
        graph, content = net.files()
        manifest = json.loads(graph)["weightsManifest"]
        np.testing.assert_array_equal(read_weights(manifest, content)["k"], net.constants["k"])
        for wrong in (content[:-1], content + b"\0"):
            with pytest.raises(ModelError, match="weightsManifest"):
                read_weights(manifest, wrong)

    def test_scaled_integers_are_refused(self) -> None:
        spec = {"name": "k", "shape": [1], "dtype": "float32"}
        spec["quantization"] = {"dtype": "uint8", "scale": 0.1, "min": 0.0}
        with pytest.raises(ModelError, match="not read"):
            read_weights([{"weights": [spec]}], b"\0")
