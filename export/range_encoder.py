"""The LiDAR encoder: a small convolutional network over the range image, as an ONNX graph.

The network is ours and comes without trained weights: `random_weights` gives a start, training
fills the same names. The projection of the cloud is `kernels/range_image.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..runtime.errors import ConfigError
from .convolution import Floats, Weights, folded, pool_tokens, sector_weights, weight
from .count import count_macs
from .graph import GraphBuilder

#: Width of a token, the same as the camera encoder's.
TOKEN_WIDTH = 320
TOKENS = 4

_INPUT_CHANNELS = 5
_STAGE_CHANNELS = (32, 64, 128)
_STAGE_EXPANSION = (2, 4, 4)
_BLOCKS = 2
_DEPTHWISE = 5
_STEM_KERNEL = (4, 8)
_STEM_STRIDE = (2, 4)
_DOWN = 2
_EPSILON = 1e-5
_BEFORE_RELU = ("stem.conv.weight", "expand.weight", "head.conv.weight")

#: Rows and columns must be multiples of these: the strides of stem and stages together.
ROW_STRIDE = _STEM_STRIDE[0] * _DOWN ** (len(_STAGE_CHANNELS) - 1)
COLUMN_STRIDE = _STEM_STRIDE[1] * _DOWN ** (len(_STAGE_CHANNELS) - 1)


def weight_shapes() -> dict[str, tuple[int, ...]]:
    """Name and shape of every array of the network, in the naming of torch modules.

    - `stem.conv`: 4x8 kernel, stride 2x4, then the batch norm `stem.norm`, then ReLU.
    - `stages.<s>.down.conv` (s > 0): 2x2 kernel, stride 2, then the batch norm `down.norm`.
    - `stages.<s>.blocks.<b>`: `depthwise` 5x5, batch norm `norm`, `expand` 1x1, ReLU, `project`
      1x1, added to the block's input (a ConvNeXt block, Liu et al., CVPR 2022, with ReLU and a
      batch norm that folds away).
    - `head.conv`: 1x1, then the batch norm `head.norm`, then ReLU.

    Convolutions have `.weight`, and `.bias` where no batch norm follows; batch norms have
    `.weight`, `.bias`, `.running_mean`, `.running_var` and an epsilon of 1e-5. All but the stem,
    which pads its columns by 2, keep the size of the map; columns are padded from the other side
    of the image, rows with zeros.
    """
    shapes: dict[str, tuple[int, ...]] = {}

    def norm(name: str, channels: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{part}"] = (channels,)

    shapes["stem.conv.weight"] = (_STAGE_CHANNELS[0], _INPUT_CHANNELS, *_STEM_KERNEL)
    norm("stem.norm", _STAGE_CHANNELS[0])
    for stage, channels in enumerate(_STAGE_CHANNELS):
        if stage:
            down = f"stages.{stage}.down"
            shapes[f"{down}.conv.weight"] = (channels, _STAGE_CHANNELS[stage - 1], _DOWN, _DOWN)
            norm(f"{down}.norm", channels)
        inner = channels * _STAGE_EXPANSION[stage]
        for block in (f"stages.{stage}.blocks.{b}" for b in range(_BLOCKS)):
            shapes[f"{block}.depthwise.weight"] = (channels, 1, _DEPTHWISE, _DEPTHWISE)
            norm(f"{block}.norm", channels)
            shapes[f"{block}.expand.weight"] = (inner, channels, 1, 1)
            shapes[f"{block}.expand.bias"] = (inner,)
            shapes[f"{block}.project.weight"] = (channels, inner, 1, 1)
            shapes[f"{block}.project.bias"] = (channels,)
    shapes["head.conv.weight"] = (TOKEN_WIDTH, _STAGE_CHANNELS[-1], 1, 1)
    norm("head.norm", TOKEN_WIDTH)
    return shapes


def random_weights(seed: int) -> dict[str, Floats]:
    """An untrained set of weights whose activations keep their scale.

    Kernels are drawn after He et al. (ICCV 2015); those that no ReLU follows have gain 1, and the
    last of each residual block is scaled by the number of blocks, so that the sum does not grow.

    Args:
        seed: of the random generator; the same seed gives the same weights.

    Returns:
        float32 arrays by name, see `weight_shapes`.
    """
    generator = np.random.default_rng(seed)
    blocks = _BLOCKS * len(_STAGE_CHANNELS)
    weights: dict[str, Floats] = {}
    for name, shape in weight_shapes().items():
        if len(shape) == 1:
            one = name.endswith(("norm.weight", "running_var"))
            weights[name] = np.full(shape, 1.0 if one else 0.0, np.float32)
            continue
        if name.endswith("project.weight"):
            gain = 1 / blocks
        else:
            gain = 2.0 if name.endswith(_BEFORE_RELU) else 1.0
        deviation = np.sqrt(gain / np.prod(shape[1:]))
        weights[name] = generator.normal(0.0, deviation, shape).astype(np.float32)
    return weights


def build_lidar_encoder(weights: Weights, path: Path, height: int = 32, width: int = 2048) -> int:
    """Write the LiDAR encoder: one range image becomes four tokens, one per azimuth sector.

    The graph maps `range_image` float32 `[batch, 5, height, width]`, normalised as in
    `kernels.range_image`, to `tokens` float32 `[batch, 4, 320]`, layer-normalised without learned
    weights. Token t averages a quarter of the columns centred on column `t * width / 4`: the
    directions -x, +y, +x, -y of the sensor frame. That is back, left, front, right with REP-103
    axes, and left, front, right, back for the nuScenes LIDAR_TOP. As the image wraps around,
    rolling it by a quarter moves the tokens by one and changes nothing else (a real turn of the
    sensor also changes the x and y channels).

    Args:
        weights: arrays by name, see `weight_shapes`; others are not read.
        path: the `.onnx` file to write; large constants go beside it.
        height: rows of the range image, a multiple of `ROW_STRIDE`.
        width: columns of the range image, a multiple of `COLUMN_STRIDE`.

    Returns:
        Multiply-adds of one range image.

    Raises:
        ModelError: an array is missing, of another shape, or not finite.
        ConfigError: the size is no multiple of the strides, or too narrow.
    """
    if height < 1 or height % ROW_STRIDE or width < 1 or width % COLUMN_STRIDE:
        raise ConfigError(
            f"a range image of {height} x {width}",
            field="height, width",
            remedy=f"choose multiples of {ROW_STRIDE} rows and {COLUMN_STRIDE} columns",
        )
    columns = width // COLUMN_STRIDE
    sectors = sector_weights(columns, TOKENS, start=-columns / TOKENS / 2)
    graph = GraphBuilder("range_encoder")
    value = graph.input("range_image", "float32", ["batch", _INPUT_CHANNELS, height, width])
    value = _stem(graph, weights, value)
    shapes = weight_shapes()
    for stage in range(len(_STAGE_CHANNELS)):
        if stage:
            down = f"stages.{stage}.down"
            value = _normed(graph, weights, f"{down}.conv", f"{down}.norm", value, strides=[2, 2])
        for block in range(_BLOCKS):
            value = _block(graph, weights, f"stages.{stage}.blocks.{block}", shapes, value)
    value = graph.op("Relu", _normed(graph, weights, "head.conv", "head.norm", value))
    tokens = pool_tokens(graph, value, sectors, TOKEN_WIDTH)
    graph.output(tokens, "tokens", "float32", ["batch", TOKENS, TOKEN_WIDTH])
    graph.save(path)
    return count_macs(graph.build(), {"range_image": (1, _INPUT_CHANNELS, height, width)})


def _stem(graph: GraphBuilder, weights: Weights, value: str) -> str:
    overlap = [kernel - stride for kernel, stride in zip(_STEM_KERNEL, _STEM_STRIDE, strict=True)]
    value = _wrap(graph, value, overlap[1] // 2)
    rows = overlap[0] // 2
    value = _normed(
        graph,
        weights,
        "stem.conv",
        "stem.norm",
        value,
        strides=list(_STEM_STRIDE),
        pads=[rows, 0, rows, 0],
    )
    return graph.op("Relu", value)


def _block(
    graph: GraphBuilder,
    weights: Weights,
    name: str,
    shapes: dict[str, tuple[int, ...]],
    value: str,
) -> str:
    margin = _DEPTHWISE // 2
    depthwise = _normed(
        graph,
        weights,
        f"{name}.depthwise",
        f"{name}.norm",
        _wrap(graph, value, margin),
        pads=[margin, 0, margin, 0],
        group=shapes[f"{name}.depthwise.weight"][0],
    )
    inner = graph.op("Relu", _biased(graph, weights, f"{name}.expand", shapes, depthwise))
    return graph.op("Add", value, _biased(graph, weights, f"{name}.project", shapes, inner))


def _wrap(graph: GraphBuilder, value: str, margin: int) -> str:
    """Continue the columns around the image: Pad has no such mode in every back end."""
    axis = graph.ints(3)
    end = graph.ints(np.iinfo(np.int64).max)
    right = graph.op("Slice", value, graph.ints(0), graph.ints(margin), axis)
    left = graph.op("Slice", value, graph.ints(-margin), end, axis)
    return graph.op("Concat", left, value, right, axis=3)


def _normed(
    graph: GraphBuilder,
    weights: Weights,
    convolution: str,
    norm: str,
    value: str,
    **attributes: Any,
) -> str:
    name = f"{convolution}.weight"
    kernel, bias = folded(weights, name, norm, weight_shapes()[name], _EPSILON)
    return graph.op("Conv", value, graph.constant(kernel), graph.constant(bias), **attributes)


def _biased(
    graph: GraphBuilder,
    weights: Weights,
    name: str,
    shapes: dict[str, tuple[int, ...]],
    value: str,
) -> str:
    kernel = graph.constant(weight(weights, f"{name}.weight", shapes[f"{name}.weight"]))
    bias = graph.constant(weight(weights, f"{name}.bias", shapes[f"{name}.bias"]))
    return graph.op("Conv", value, kernel, bias)
