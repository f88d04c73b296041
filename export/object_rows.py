"""From features of a detector to object tokens, as graphs: the twin of `training/decoding.py`.

Standard operators only, with no shape but the batch that depends on the input.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..kernels.object_tokens import (
    AZIMUTH_HARMONICS,
    HEIGHT_SCALE_M,
    OBJECT_CLASSES,
    OBJECT_STATUSES,
    POSITION_SCALE_M,
    SECTOR_MIDDLES_DEG,
    TOKEN_WIDTH,
    WAVELENGTHS_M,
    WITH_STATUS,
)
from ..runtime.detectors import (
    BEV_STRIDE,
    HALF_SECTOR_COSINE,
    IMAGE_STRIDE,
    LOG_DEPTH_RANGE,
    LOG_SIZE_RANGE,
    MAX_DEPTH_M,
    MIN_SCORE,
    REFERENCE_FOCAL_PX,
    TINY,
)
from ..runtime.errors import ConfigError
from .convolution import FeatureMap
from .detector_layers import MAPS, DetectorLayers
from .expressions import Expression, joined
from .graph import GraphBuilder

#: What TensorRT's TopK takes.
_MOST_TOKENS = 3840
_FLOAT = 1
#: Columns of a token that hold something: classes, score, statuses, position and range, azimuth,
#: waves, size, heading, velocity and speed, known and present, sectors.
_FILLED = (
    *(len(OBJECT_CLASSES), 1, len(OBJECT_STATUSES), 4, 2 * len(AZIMUTH_HARMONICS)),
    *(4 * len(WAVELENGTHS_M), 3, 2, 3, 2, len(SECTOR_MIDDLES_DEG)),
)


@dataclass(frozen=True)
class Peaks:
    """The strongest peaks of the heat, all `[batch, tokens, .]`.

    Attributes:
        score: the heat.
        row: of the map, a whole number.
        column: of the map, a whole number.
        of: what the detector says there, by name: see `BEV_MAPS` and `IMAGE_MAPS`, and
            `classes` and `statuses`, 1 at the likeliest.
    """

    score: Expression
    row: Expression
    column: Expression
    of: Mapping[str, Expression]


def find_peaks(
    graph: GraphBuilder, layers: DetectorLayers, hidden: FeatureMap, tokens: int
) -> Peaks:
    """Add the head of a detector: heat everywhere, all else where it peaks.

    The other maps are 1x1 convolutions, so they are computed for the few peaks alone, as a matrix
    product, and never written out as maps.

    Args:
        graph: the graph to add to.
        layers: of the detector.
        hidden: what `head.hidden` gives.
        tokens: peaks to take, the strongest first.

    Raises:
        ConfigError: there are fewer places than tokens, or none, or too many for TensorRT.
    """
    places = hidden.rows * hidden.columns
    most = min(places, _MOST_TOKENS)
    if not 1 <= tokens <= most:
        raise ConfigError(
            f"{tokens} tokens from maps of {hidden.rows} x {hidden.columns}",
            field="tokens",
            remedy=f"choose 1 to {most}",
        )
    score, place = _strongest(graph, layers, hidden, tokens)
    taken = _gathered(graph, hidden, place)
    matrices = [layers.array(f"head.{name}.weight")[:, :, 0, 0].T for name in ("heat", "rest")]
    offsets = [layers.array(f"head.{name}.bias") for name in ("heat", "rest")]
    product = graph.op("MatMul", taken, graph.constant(np.concatenate(matrices, axis=1)))
    said = Expression(graph, product) + Expression(graph, graph.constant(np.concatenate(offsets)))
    maps = MAPS[layers.kind]
    heat, statuses, *rest = said.split([len(OBJECT_CLASSES), len(OBJECT_STATUSES), *maps.values()])
    classes = heat.likeliest()
    has_status = classes.part(0, WITH_STATUS).total()
    of = dict(zip(maps, rest, strict=True))
    of |= {"classes": classes, "statuses": statuses.likeliest() * has_status}
    # Whole numbers until the row is known: half precision would round places above 2048.
    row = graph.op("Div", place, graph.ints(hidden.columns))
    column = graph.op("Sub", place, graph.op("Mul", row, graph.ints(hidden.columns)))
    row, column = (Expression(graph, graph.op("Cast", at, to=_FLOAT)) for at in (row, column))
    return Peaks(score, row, column, of)


def _strongest(
    graph: GraphBuilder, layers: DetectorLayers, hidden: FeatureMap, tokens: int
) -> tuple[Expression, str]:
    """Heat and place (int64) of the strongest 3x3 peaks, `[batch, tokens, 1]` both."""
    kernel, bias = (graph.constant(layers.array(f"head.heat.{n}")) for n in ("weight", "bias"))
    heat = graph.op("Sigmoid", graph.op("Conv", hidden.value, kernel, bias))
    strongest = graph.op("ReduceMax", heat, graph.ints(1), keepdims=1)
    around = graph.op("MaxPool", strongest, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    is_peak = graph.op("GreaterOrEqual", strongest, around)
    peaks = graph.op("Mul", strongest, graph.op("Cast", is_peak, to=_FLOAT))
    flat = graph.op("Reshape", peaks, graph.ints(0, hidden.rows * hidden.columns, 1))
    score, place = graph.multi("TopK", [flat, graph.ints(tokens)], 2, axis=1, largest=1, sorted=1)
    return Expression(graph, score), place


def _gathered(graph: GraphBuilder, x: FeatureMap, place: str) -> str:
    """The features at the places: `[batch, tokens, channels]`."""
    flat = graph.op("Reshape", x.value, graph.ints(0, x.channels, x.rows * x.columns))
    rows = graph.op("Transpose", flat, perm=[0, 2, 1])
    return graph.op("GatherND", rows, place, batch_dims=1)


def bev_rows(peaks: Peaks, range_m: float, cell_m: float) -> Expression:
    """Tokens `[batch, tokens, 64]` of the LiDAR detector's peaks.

    Args:
        peaks: of the detector.
        range_m: of the grid, see `kernels.bev_grid`.
        cell_m: side of a cell of the grid; those of the maps are `BEV_STRIDE` as wide.
    """
    offset = peaks.of["offset"]
    side = cell_m * BEV_STRIDE
    x = (peaks.row + offset.part(0)) * side - range_m
    y = (peaks.column + offset.part(1)) * side - range_m
    z = peaks.of["z"] * HEIGHT_SCALE_M
    center = joined([x, y, z])
    return _rows(peaks, center, _unit(peaks.of["heading"]), peaks.of["velocity"])


def image_rows(peaks: Peaks, geometry: Expression) -> Expression:
    """Tokens `[batch, tokens, 64]` of the camera detector's peaks.

    Args:
        peaks: of the detector.
        geometry: `[batch, 16]`, see `runtime.detectors.GEOMETRY_WIDTH`.
    """
    graph = geometry.graph
    lens = Expression(graph, graph.op("Unsqueeze", geometry.name, graph.ints(1)))
    fx, fy, cx, cy = (lens.part(i) for i in range(4))
    matrix = graph.op("Reshape", geometry.part(4, 16).name, graph.ints(0, 3, 4))
    # Transposed, as points are rows.
    ego_from_camera = Expression(graph, graph.op("Transpose", matrix, perm=[0, 2, 1]))
    rotation, translation = ego_from_camera.part(0, 3, axis=1), ego_from_camera.part(3, axis=1)
    offset = peaks.of["offset"]
    u = (peaks.column + offset.part(0)) * float(IMAGE_STRIDE)
    v = (peaks.row + offset.part(1)) * float(IMAGE_STRIDE)
    depth = peaks.of["depth"].clipped(*LOG_DEPTH_RANGE).exp() * fx / REFERENCE_FOCAL_PX
    depth = depth.clipped(None, MAX_DEPTH_M)
    right, down = (u - cx) / fx, (v - cy) / fy
    center = _product(joined([right * depth, down * depth, depth]), rotation) + translation
    # The heading is learned relative to the ray: a car looks the same wherever it is in view.
    ray = (right * right + 1.0).sqrt()
    ray_sine, ray_cosine = right / ray, ray.reciprocal()
    heading = _unit(peaks.of["heading"])
    sine, cosine = heading.part(0), heading.part(1)
    along = joined(
        [
            sine * ray_cosine + cosine * ray_sine,
            sine * 0.0,
            cosine * ray_cosine - sine * ray_sine,
        ]
    )
    turned = _product(along, rotation)
    return _rows(peaks, center, _unit(joined([turned.part(1), turned.part(0)])), None)


def _product(left: Expression, right: Expression) -> Expression:
    return Expression(left.graph, left.graph.op("MatMul", left.name, right.name))


def _unit(pair: Expression) -> Expression:
    return pair / ((pair * pair).total() + TINY).sqrt()


def _rows(
    peaks: Peaks, center: Expression, heading: Expression, velocity: Expression | None
) -> Expression:
    """The rows of `kernels.object_tokens.rows_of`; those that are too weak are exactly zero."""
    x, y, z = (center.part(axis) for axis in range(3))
    reach = (x * x + y * y + TINY).sqrt()
    cosine, sine = x / reach, y / reach
    present = peaks.score.above(MIN_SCORE)
    absent = present * 0.0
    known, speed = present, velocity
    if speed is None:
        known, speed = absent, joined([absent, absent])
    columns = [
        peaks.of["classes"],
        present,
        peaks.of["statuses"],
        x / POSITION_SCALE_M,
        y / POSITION_SCALE_M,
        z / HEIGHT_SCALE_M,
        reach / POSITION_SCALE_M,
        *_harmonics(sine, cosine),
        *_waves(x, y),
        peaks.of["size"].clipped(*LOG_SIZE_RANGE),
        heading,
        speed,
        (speed * speed).total().sqrt(),
        known,
        present,
        *_sectors(sine, cosine),
        *[absent] * (TOKEN_WIDTH - sum(_FILLED)),
    ]
    filled = joined(columns)
    graph = filled.graph
    is_there = graph.op("Greater", peaks.score.name, graph.scalar(MIN_SCORE))
    # Chosen, not multiplied: where nothing is, values need not even be finite.
    return Expression(graph, graph.op("Where", is_there, filled.name, graph.scalar(0.0)))


def _harmonics(sine: Expression, cosine: Expression) -> list[Expression]:
    """Sine and cosine of multiples of the azimuth, by the sums of angles."""
    columns: list[Expression] = []
    turned_sine, turned_cosine = sine, cosine
    for harmonic in AZIMUTH_HARMONICS:
        if harmonic > 1:
            turned_sine, turned_cosine = (
                turned_sine * cosine + turned_cosine * sine,
                turned_cosine * cosine - turned_sine * sine,
            )
        columns += [turned_sine, turned_cosine]
    return columns


def _waves(x: Expression, y: Expression) -> list[Expression]:
    columns: list[Expression] = []
    for wavelength in WAVELENGTHS_M:
        for axis in (x, y):
            phase = axis * (2 * math.pi / wavelength)
            columns += [phase.sin(), phase.cos()]
    return columns


def _sectors(sine: Expression, cosine: Expression) -> list[Expression]:
    middles = [math.radians(middle) for middle in SECTOR_MIDDLES_DEG]
    return [
        (cosine * math.cos(middle) + sine * math.sin(middle)).above(HALF_SECTOR_COSINE)
        for middle in middles
    ]
