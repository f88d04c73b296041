"""EfficientNet-Lite0 as an ONNX graph: encoder of pictures, features of detectors, classifier.

Weights are a state dict in the naming of EfficientNet-PyTorch; batch norms are folded. Decoding and
normalising of pictures is `kernels/image.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ..runtime.errors import ConfigError
from .convolution import FeatureMap, Weights, folded, pool_tokens, sector_weights, weight
from .count import count_macs
from .graph import GraphBuilder

#: Normalisation of the input, the same for R, G, B: (value - 127) / 128.
IMAGE_MEAN = (127.0, 127.0, 127.0)
IMAGE_STD = (128.0, 128.0, 128.0)

#: Channels of the last MBConv stage, and so the width of a token.
TOKEN_WIDTH = 320

#: Strides of the feature maps that detectors read, and the MBConv stages that give them.
FEATURE_STAGES = {8: 3, 16: 5, 32: 7}

_STEM_CHANNELS = 32
_HEAD_CHANNELS = 1280
_CLASSES = 1000
_EPSILON = 1e-3


@dataclass(frozen=True)
class _Stage:
    """One row of table 1 of the EfficientNet paper, without squeeze-and-excitation."""

    repeats: int
    kernel: int
    stride: int
    expand: int
    channels: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, TOKEN_WIDTH),
)


def build_camera_encoder(
    state_dict: Weights,
    path: Path,
    image_height: int = 224,
    image_width: int = 400,
    tokens: int = 4,
    precision: Literal["fp32"] = "fp32",
) -> int:
    """Write the camera encoder: one picture becomes `tokens` tokens, left to right.

    The backbone runs up to the last MBConv stage (stride 32); its map is averaged over the height
    and over `tokens` equal-width ranges of columns, then each token is layer-normalised without
    learned weights. The graph maps `image` float32 `[batch, 3, image_height, image_width]`,
    normalised with `IMAGE_MEAN` and `IMAGE_STD`, to `tokens` float32 `[batch, tokens, 320]`; the
    batch is free, so several cameras can be one run.

    Source: Tan and Le, EfficientNet (ICML 2019), and the Lite variants (2020): ReLU6, no
    squeeze-and-excitation. Padding is TensorFlow's SAME, as the weights were trained.

    Args:
        state_dict: arrays in the naming of EfficientNet-PyTorch; the head is not read.
        path: the `.onnx` file to write; large constants go beside it.
        image_height: rows of the input.
        image_width: columns of the input.
        tokens: tokens per picture.
        precision: `fp32`.

    Returns:
        Multiply-adds of one picture.

    Raises:
        ModelError: an array is missing, of another shape, or not finite.
        ConfigError: the input is too small for the tokens, or the precision is unknown.
    """
    if precision != "fp32":
        raise ConfigError(f"unknown precision {precision}", field="precision", remedy="choose fp32")
    graph = GraphBuilder("efficientnet_lite0_tokens")
    last = add_backbone(graph, state_dict, image_height, image_width)[-1]
    pooled = pool_tokens(graph, last.value, sector_weights(last.columns, tokens), TOKEN_WIDTH)
    graph.output(pooled, "tokens", "float32", ["batch", tokens, TOKEN_WIDTH])
    graph.save(path)
    return count_macs(graph.build(), {"image": (1, 3, image_height, image_width)})


def build_camera_features(
    state_dict: Weights, path: Path, image_height: int = 224, image_width: int = 400
) -> int:
    """Write the backbone alone, for training what reads its features.

    The graph maps `image`, as in `build_camera_encoder`, to `at8` float32 `[batch, 40, rows,
    columns]`, `at16` (112 channels) and `at32` (320 channels), at strides of as many pixels, rows
    and columns rounded up: 28 x 50, 14 x 25 and 7 x 13 at the default size. The arguments, errors
    and the returned multiply-adds are those of `build_camera_encoder`.
    """
    graph = GraphBuilder("efficientnet_lite0_features")
    stages = add_backbone(graph, state_dict, image_height, image_width)
    for stride, stage in FEATURE_STAGES.items():
        taken = stages[stage - 1]
        shape = ["batch", taken.channels, taken.rows, taken.columns]
        graph.output(taken.value, f"at{stride}", "float32", shape)
    graph.save(path)
    return count_macs(graph.build(), {"image": (1, 3, image_height, image_width)})


def build_classifier(
    state_dict: Weights, path: Path, image_height: int = 224, image_width: int = 224
) -> int:
    """Write the whole ImageNet classifier: `image` to `logits` float32 `[batch, 1000]`.

    The arguments, errors and the returned multiply-adds are those of `build_camera_encoder`. It
    serves to see whether a checkpoint was read rightly.
    """
    graph = GraphBuilder("efficientnet_lite0")
    features = add_backbone(graph, state_dict, image_height, image_width)[-1].value
    shape = (_HEAD_CHANNELS, TOKEN_WIDTH, 1, 1)
    kernel, bias = folded(state_dict, "_conv_head.weight", "_bn1", shape, _EPSILON)
    head = graph.op("Conv", features, graph.constant(kernel), graph.constant(bias))
    pooled = graph.op("ReduceMean", _relu6(graph, head), graph.ints(2, 3), keepdims=0)
    matrix = graph.constant(weight(state_dict, "_fc.weight", (_CLASSES, _HEAD_CHANNELS)))
    offset = graph.constant(weight(state_dict, "_fc.bias", (_CLASSES,)))
    logits = graph.op("Gemm", pooled, matrix, offset, transB=1)
    graph.output(logits, "logits", "float32", ["batch", _CLASSES])
    graph.save(path)
    return count_macs(graph.build(), {"image": (1, 3, image_height, image_width)})


def add_backbone(
    graph: GraphBuilder, weights: Weights, height: int, width: int
) -> list[FeatureMap]:
    """Add the input `image`, the stem and all MBConv blocks; return the map of each stage.

    Raises:
        ModelError: an array is missing, of another shape, or not finite.
        ConfigError: the size is no picture.
    """
    if min(height, width) < 1:
        raise ConfigError(f"a picture of {height} x {width}", field="image_height, image_width")
    value = graph.input("image", "float32", ["batch", 3, height, width])
    shape = (_STEM_CHANNELS, 3, 3, 3)
    kernel, bias = folded(weights, "_conv_stem.weight", "_bn0", shape, _EPSILON)
    value, height, width = _same(graph, value, kernel, bias, 2, (height, width))
    value = _relu6(graph, value)
    channels, index = _STEM_CHANNELS, 0
    maps: list[FeatureMap] = []
    for stage in _STAGES:
        for repeat in range(stage.repeats):
            stride = stage.stride if repeat == 0 else 1
            value, height, width = _block(
                graph, weights, index, stage, stride, channels, value, (height, width)
            )
            channels, index = stage.channels, index + 1
        maps.append(FeatureMap(value, channels, height, width))
    return maps


def _block(
    graph: GraphBuilder,
    weights: Weights,
    index: int,
    stage: _Stage,
    stride: int,
    channels: int,
    value: str,
    size: tuple[int, int],
) -> tuple[str, int, int]:
    """Add one MBConv block: expand, depthwise, project, and a shortcut where the shape is kept."""
    prefix = f"_blocks.{index}."
    inner = channels * stage.expand
    shortcut = value
    if stage.expand != 1:
        names = (prefix + "_expand_conv.weight", prefix + "_bn0")
        kernel, bias = folded(weights, *names, (inner, channels, 1, 1), _EPSILON)
        value = graph.op("Conv", value, graph.constant(kernel), graph.constant(bias))
        value = _relu6(graph, value)
    names = (prefix + "_depthwise_conv.weight", prefix + "_bn1")
    kernel, bias = folded(weights, *names, (inner, 1, stage.kernel, stage.kernel), _EPSILON)
    value, height, width = _same(graph, value, kernel, bias, stride, size, groups=inner)
    value = _relu6(graph, value)
    names = (prefix + "_project_conv.weight", prefix + "_bn2")
    kernel, bias = folded(weights, *names, (stage.channels, inner, 1, 1), _EPSILON)
    value = graph.op("Conv", value, graph.constant(kernel), graph.constant(bias))
    if stride == 1 and channels == stage.channels:
        value = graph.op("Add", value, shortcut)
    return value, height, width


def _same(
    graph: GraphBuilder,
    value: str,
    kernel: np.ndarray,
    bias: np.ndarray,
    stride: int,
    size: tuple[int, int],
    groups: int = 1,
) -> tuple[str, int, int]:
    """Add a convolution with TensorFlow's SAME padding: an odd rest goes below and to the right.

    The pads are written out, as not every back end's parser knows `auto_pad`.
    """
    side = kernel.shape[-1]
    out = [-(-length // stride) for length in size]
    totals = [max((n - 1) * stride + side - length, 0) for n, length in zip(out, size, strict=True)]
    before = [total // 2 for total in totals]
    after = [total - total // 2 for total in totals]
    convolved = graph.op(
        "Conv",
        value,
        graph.constant(kernel),
        graph.constant(bias),
        strides=[stride, stride],
        pads=before + after,
        group=groups,
    )
    return convolved, out[0], out[1]


def _relu6(graph: GraphBuilder, value: str) -> str:
    return graph.op("Clip", value, graph.scalar(0.0), graph.scalar(6.0))
