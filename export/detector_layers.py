"""Layers of the detectors as graphs: which there are, their weights, and how they are added.

The tables mirror `training/detectors.py`; what the detectors do with the layers is
`export/detectors.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..kernels.bev_grid import CHANNELS
from ..kernels.object_tokens import OBJECT_CLASSES, OBJECT_STATUSES
from ..runtime.detectors import BEV_MAPS, IMAGE_MAPS, NORM_EPSILON
from .convolution import FeatureMap, Floats, Weights, folded, weight
from .graph import GraphBuilder

DetectorKind = Literal["camera_detector", "bev_detector"]


@dataclass(frozen=True)
class Layer:
    """A convolution without bias, a batch norm, and ReLU unless `linear`."""

    inputs: int
    outputs: int
    kernel: int = 3
    stride: int = 1
    linear: bool = False


BEV_LAYERS = {
    "stem": Layer(len(CHANNELS), 32, stride=2),
    "fine": Layer(32, 32),
    "down1": Layer(32, 64, stride=2),
    "middle": Layer(64, 64),
    "down2": Layer(64, 128, stride=2),
    "coarse1": Layer(128, 128),
    "coarse2": Layer(128, 128),
    "up2": Layer(128, 64, 1, linear=True),
    "merge2": Layer(64, 64),
    "up1": Layer(64, 48, 1, linear=True),
    "lateral1": Layer(32, 48, 1, linear=True),
    "merge1": Layer(48, 48),
    "head.hidden": Layer(48, 64, 1),
}
CAMERA_LAYERS = {
    "lateral32": Layer(320, 96, 1, linear=True),
    "lateral16": Layer(112, 96, 1, linear=True),
    "merge16": Layer(96, 96),
    "up16": Layer(96, 64, 1, linear=True),
    "lateral8": Layer(40, 64, 1, linear=True),
    "merge8": Layer(64, 64),
    "refine": Layer(64, 64),
    "head.hidden": Layer(64, 96, 1),
}
LAYERS = {"camera_detector": CAMERA_LAYERS, "bev_detector": BEV_LAYERS}
MAPS = {"camera_detector": IMAGE_MAPS, "bev_detector": BEV_MAPS}


def weight_shapes(
    kind: DetectorKind, rows: int = 0, columns: int = 0
) -> dict[str, tuple[int, ...]]:
    """Name and shape of every array of a detector, in the naming of torch modules.

    Args:
        kind: of the detector; the backbone of the camera's is no part of it.
        rows: of the map at stride 8; read for the camera only.
        columns: of the map at stride 8; read for the camera only.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for name, layer in LAYERS[kind].items():
        shapes[f"{name}.conv.weight"] = (layer.outputs, layer.inputs, layer.kernel, layer.kernel)
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.norm.{part}"] = (layer.outputs,)
    hidden = LAYERS[kind]["head.hidden"].outputs
    rest = len(OBJECT_STATUSES) + sum(MAPS[kind].values())
    for name, outputs in (("head.heat", len(OBJECT_CLASSES)), ("head.rest", rest)):
        shapes[f"{name}.weight"] = (outputs, hidden, 1, 1)
        shapes[f"{name}.bias"] = (outputs,)
    if kind == "camera_detector":
        channels = LAYERS[kind]["lateral8"].outputs
        shapes["row"] = (1, channels, rows, 1)
        shapes["column"] = (1, channels, 1, columns)
    return shapes


class DetectorLayers:
    """Adds the layers of one detector to a graph, by the names of their weights."""

    def __init__(
        self,
        graph: GraphBuilder,
        weights: Weights,
        kind: DetectorKind,
        size: tuple[int, int] = (0, 0),
    ) -> None:
        """Take the weights; `size` is the camera's map at stride 8, rows and columns.

        Raises:
            ModelError: an array is missing, of another shape, or not finite.
        """
        self.kind: DetectorKind = kind
        self._graph = graph
        self._weights = weights
        self._shapes = weight_shapes(kind, *size)
        for name in self._shapes:
            self.array(name)

    def array(self, name: str) -> Floats:
        """The weights `name`, float32."""
        return weight(self._weights, name, self._shapes[name])

    def __call__(self, name: str, x: FeatureMap) -> FeatureMap:
        """Add the convolution `name`, its batch norm folded."""
        layer = LAYERS[self.kind][name]
        shape = self._shapes[f"{name}.conv.weight"]
        kernel, bias = folded(
            self._weights, f"{name}.conv.weight", f"{name}.norm", shape, NORM_EPSILON
        )
        value = self._graph.op(
            "Conv",
            x.value,
            self._graph.constant(kernel),
            self._graph.constant(bias),
            strides=[layer.stride] * 2,
            pads=[layer.kernel // 2] * 4,
        )
        if not layer.linear:
            value = self._graph.op("Relu", value)
        rows, columns = (-(-length // layer.stride) for length in (x.rows, x.columns))
        return FeatureMap(value, layer.outputs, rows, columns)

    def plus_doubled(self, fine: FeatureMap, coarse: FeatureMap) -> FeatureMap:
        """Add a map of half the size: each value four times, cut to the size of `fine`."""
        graph = self._graph
        doubled = graph.op(
            "Resize",
            coarse.value,
            "",
            graph.constant(np.asarray([1, 1, 2, 2], np.float32), "scales"),
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
        if (2 * coarse.rows, 2 * coarse.columns) != (fine.rows, fine.columns):
            end = graph.ints(fine.rows, fine.columns)
            doubled = graph.op("Slice", doubled, graph.ints(0, 0), end, graph.ints(2, 3))
        value = graph.op("Add", fine.value, doubled)
        return FeatureMap(value, fine.channels, fine.rows, fine.columns)

    def plus(self, x: FeatureMap, name: str) -> FeatureMap:
        """Add the array `name` of the weights."""
        value = self._graph.op("Add", x.value, self._graph.constant(self.array(name)))
        return FeatureMap(value, x.channels, x.rows, x.columns)
