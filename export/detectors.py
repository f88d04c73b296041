"""The detectors behind object tokens as ONNX graphs, from sensor input to tokens.

The networks are those of `training/detectors.py`, batch norms folded; what follows the maps is
`object_rows.py`. Weights are the state dicts of the torch modules.
"""

from __future__ import annotations

from pathlib import Path

from ..kernels.bev_grid import CHANNELS, cells_of
from ..kernels.object_tokens import TOKEN_WIDTH
from ..runtime.detectors import GEOMETRY_WIDTH
from ..runtime.errors import ConfigError
from .convolution import FeatureMap, Weights
from .count import count_macs
from .detector_layers import DetectorLayers
from .efficientnet_lite import FEATURE_STAGES, add_backbone
from .expressions import Expression
from .graph import GraphBuilder
from .object_rows import bev_rows, find_peaks, image_rows


def build_camera_detector(
    backbone_state_dict: Weights,
    weights: Weights,
    path: Path,
    image_height: int,
    image_width: int,
    tokens: int,
) -> int:
    """Write the camera detector: one picture becomes the objects in it, in the ego frame.

    The graph maps `image` float32 `[batch, 3, image_height, image_width]`, normalised as for
    `efficientnet_lite.build_camera_encoder`, and `geometry` float32 `[batch, 16]` (see
    `runtime.detectors.GEOMETRY_WIDTH`) to `tokens` float32 `[batch, tokens, 64]`, the surest object
    first, in the columns of `kernels.object_tokens.rows_of`; rows without an object are 0.

    Args:
        backbone_state_dict: EfficientNet-Lite0 in the naming of EfficientNet-PyTorch.
        weights: of the detector, see `detector_layers.weight_shapes`; others are not read.
        path: the `.onnx` file to write; large constants go beside it.
        image_height: rows of the input.
        image_width: columns of the input.
        tokens: rows per picture.

    Returns:
        Multiply-adds of one picture.

    Raises:
        ModelError: an array is missing, of another shape, or not finite.
        ConfigError: the picture is too small for the tokens.
    """
    graph = GraphBuilder("camera_detector")
    stages = add_backbone(graph, backbone_state_dict, image_height, image_width)
    at8, at16, at32 = (stages[stage - 1] for stage in FEATURE_STAGES.values())
    geometry = graph.input("geometry", "float32", ["batch", GEOMETRY_WIDTH])
    layers = DetectorLayers(graph, weights, "camera_detector", (at8.rows, at8.columns))
    middle = layers.plus_doubled(layers("lateral16", at16), layers("lateral32", at32))
    middle = layers("up16", layers("merge16", middle))
    fine = layers.plus_doubled(layers("lateral8", at8), middle)
    fine = layers.plus(layers.plus(fine, "row"), "column")
    hidden = layers("head.hidden", layers("refine", layers("merge8", fine)))
    peaks = find_peaks(graph, layers, hidden, tokens)
    rows = image_rows(peaks, Expression(graph, geometry))
    graph.output(rows.name, "tokens", "float32", ["batch", tokens, TOKEN_WIDTH])
    graph.save(path)
    shapes = {"image": (1, 3, image_height, image_width), "geometry": (1, GEOMETRY_WIDTH)}
    return count_macs(graph.build(), shapes)


def build_bev_detector(
    weights: Weights, path: Path, cells: int, range_m: float, cell_m: float, tokens: int
) -> int:
    """Write the LiDAR detector: a sweep from above becomes the objects around, in the ego frame.

    The graph maps `grid` float32 `[batch, 12, cells, cells]` of `kernels.bev_grid` to `tokens`, as
    `build_camera_detector` does.

    Args:
        weights: of the detector, see `detector_layers.weight_shapes`; others are not read.
        path: the `.onnx` file to write; large constants go beside it.
        cells: along a side of the grid.
        range_m: of the grid.
        cell_m: side of a cell of the grid.
        tokens: rows per sweep.

    Returns:
        Multiply-adds of one sweep.

    Raises:
        ModelError: an array is missing, of another shape, or not finite.
        ConfigError: the sizes make no grid, or one that is too small for the tokens.
    """
    _check_grid(cells, range_m, cell_m)
    graph = GraphBuilder("bev_detector")
    grid = graph.input("grid", "float32", ["batch", len(CHANNELS), cells, cells])
    layers = DetectorLayers(graph, weights, "bev_detector")
    fine = layers("fine", layers("stem", FeatureMap(grid, len(CHANNELS), cells, cells)))
    middle = layers("middle", layers("down1", fine))
    coarse = layers("coarse2", layers("coarse1", layers("down2", middle)))
    middle = layers("merge2", layers.plus_doubled(middle, layers("up2", coarse)))
    fine = layers.plus_doubled(layers("lateral1", fine), layers("up1", middle))
    hidden = layers("head.hidden", layers("merge1", fine))
    peaks = find_peaks(graph, layers, hidden, tokens)
    rows = bev_rows(peaks, range_m, cell_m)
    graph.output(rows.name, "tokens", "float32", ["batch", tokens, TOKEN_WIDTH])
    graph.save(path)
    return count_macs(graph.build(), {"grid": (1, len(CHANNELS), cells, cells)})


def _check_grid(cells: int, range_m: float, cell_m: float) -> None:
    try:
        found = cells_of(range_m, cell_m)
    except ValueError as error:
        raise ConfigError(str(error), field="range_m, cell_m") from error
    if found != cells:
        raise ConfigError(
            f"{cells} cells of {cell_m} m are no grid of {2 * range_m} m",
            field="cells",
            remedy=f"give {found} cells, or other sizes",
        )
