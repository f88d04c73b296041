"""A LiDAR sweep from above: counts, heights and intensities per cell, an earlier sweep beside it.

Three twins give the same bits: numpy here, C (`arrays.c`) and CUDA (`bev_grid.cu`), the latter two
with the bodies of `bev_grid.h`; no order of points matters. Points come in the ego frame (x
forward, y left, z up from the ground); moving them there is the caller's affair.
"""

from __future__ import annotations

import ctypes
import itertools
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .array_library import ArrayLibrary

Float = NDArray[np.float32]

RANGE_M = 51.2
CELL_M = 0.512
#: Heights above the ground that points are told apart by, metres.
SLICES_M = (0.2, 0.6, 1.1, 1.8, 4.0)
#: The same for the earlier sweep, where only what stands up matters.
PREVIOUS_SLICES_M = (0.3, 1.1, 4.0)
CHANNELS = (
    *(f"count {low}-{high} m" for low, high in itertools.pairwise(SLICES_M)),
    "highest",
    "lowest",
    "mean intensity",
    "highest intensity",
    *(f"earlier count {low}-{high} m" for low, high in itertools.pairwise(PREVIOUS_SLICES_M)),
    "earlier highest",
    "seconds since the earlier sweep",
)

_POINT_COLUMNS = 4
_INTENSITY_MAX = 255.0
_HEIGHT_SCALE_M = 2.0
#: Intensities of 0 to 1 are summed in steps of this size, as integers: sums of floats would depend
#: on the order of the points.
_INTENSITY_STEP = 2.0**-30
_MAX_LEVELS = 8


class BevParameters(ctypes.Structure):
    """`BevGrid` of `bev_grid.h`."""

    _fields_ = (
        ("stride", ctypes.c_int64),
        ("cells", ctypes.c_int32),
        ("levels", ctypes.c_int32),
        ("range", ctypes.c_float),
        ("cell", ctypes.c_float),
        ("edges", ctypes.c_float * (_MAX_LEVELS + 1)),
        ("intensity_max", ctypes.c_float),
        ("height_scale", ctypes.c_float),
    )


def bev_grid(
    points: NDArray[np.float32],
    previous: NDArray[np.float32] | None = None,
    previous_s: float = 0.0,
    *,
    range_m: float = RANGE_M,
    cell_m: float = CELL_M,
    library: ArrayLibrary | None = None,
) -> Float:
    """Sort the points of a sweep into cells.

    Args:
        points: float32 `[n, 4+]` of x y z (metres, ego frame) and intensity (0 to 255).
        previous: an earlier sweep in the *present* ego frame, or None.
        previous_s: how many seconds earlier; not read without `previous`.
        range_m: the grid reaches from `-range_m` to `range_m` in x and y.
        cell_m: side of a cell.
        library: None computes in numpy, with the same result.

    Returns:
        float32 `[12, cells, cells]` in the order of `CHANNELS`; row 0 is at `x = -range_m`, column
        0 at `y = -range_m`. Counts are `log(1 + n)`, heights in units of 2 m. Without an earlier
        sweep its channels are 0, the seconds too.

    Raises:
        ValueError: another dtype or shape, no finite point, or sizes that make no grid.
    """
    cells = cells_of(range_m, cell_m)
    _check(points, "the sweep")
    if previous is not None:
        _check(previous, "the earlier sweep")
    grid = np.zeros((len(CHANNELS), cells * cells), np.float32)
    # Levels, then highest, lowest, mean and highest intensity of the present sweep.
    first = len(SLICES_M) - 1 + 4
    if library is not None:
        compiled = _Compiled(library, range_m, cell_m, cells)
        finite = compiled.add(points, SLICES_M, grid[:first], None)
        if previous is not None:
            compiled.add(previous, PREVIOUS_SLICES_M, grid[first:], previous_s)
    else:
        finite = _add_present(points, grid[:first], range_m, cell_m, cells)
        if previous is not None:
            _add_earlier(previous, grid[first:], range_m, cell_m, cells)
            grid[-1] = previous_s
    if not finite:
        raise ValueError(
            f"none of the {len(points)} points is finite" if len(points) else "the cloud is empty"
        )
    return grid.reshape(len(CHANNELS), cells, cells)


class _Compiled:
    """One grid through the library."""

    def __init__(self, library: ArrayLibrary, range_m: float, cell_m: float, cells: int) -> None:
        self._library = library
        self._sizes = (range_m, cell_m)
        size = cells * cells
        self._floats = np.empty((3, size), np.float32)
        self._steps = np.empty(size, np.uint64)

    def add(
        self, points: Float, slices: tuple[float, ...], channels: Float, seconds: float | None
    ) -> int:
        """Fill the channels of one sweep, an earlier one if `seconds` says how much; returns how
        many points are finite."""
        points = np.ascontiguousarray(points)
        parameters = bev_parameters(points.shape[1], slices, *self._sizes)
        counts = np.empty((len(slices) - 1, channels.shape[1]), np.uint32)
        arrays = [counts, *self._floats, self._steps]
        addresses = [array.ctypes.data for array in arrays]
        at = ctypes.addressof(parameters)
        finite = self._library.bev_grid_add(at, points.ctypes.data, len(points), *addresses)
        logarithms = count_logarithms(len(points))
        self._library.bev_grid_fill(
            at,
            seconds is not None,
            seconds or 0.0,
            logarithms.ctypes.data,
            *addresses,
            channels.ctypes.data,
        )
        return finite


def bev_parameters(
    stride: int, slices: tuple[float, ...], range_m: float, cell_m: float
) -> BevParameters:
    """What the compiled twins are given for one sweep.

    Args:
        stride: numbers from one point to the next.
        slices: heights that points are told apart by.
        range_m: see `bev_grid`.
        cell_m: see `bev_grid`.
    """
    return BevParameters(
        stride=stride,
        cells=cells_of(range_m, cell_m),
        levels=len(slices) - 1,
        range=range_m,
        cell=cell_m,
        edges=tuple(slices),
        intensity_max=_INTENSITY_MAX,
        height_scale=_HEIGHT_SCALE_M,
    )


def count_logarithms(points: int) -> Float:
    """`log(1 + n)` of 0 to `points` and more, as counts are given."""
    return _logarithms(1 << points.bit_length())


@lru_cache(maxsize=4)
def _logarithms(count: int) -> Float:
    return np.log1p(np.arange(count + 1, dtype=np.float32))


def _add_present(points: Float, channels: Float, range_m: float, cell_m: float, cells: int) -> int:
    columns = _finite(points)
    first = len(SLICES_M) - 1
    cell, (_, _, z, intensity) = _inside(columns, SLICES_M, range_m, cell_m, cells)
    _counts(channels[:first], cell, z, SLICES_M)
    _heights(channels[first], channels[first + 1], cell, z)
    intensity = np.clip(intensity, 0, _INTENSITY_MAX) / np.float32(_INTENSITY_MAX)
    number = np.bincount(cell, minlength=cells * cells)
    steps = np.floor(intensity * np.float32(1 / _INTENSITY_STEP))
    total = np.bincount(cell, weights=steps, minlength=cells * cells)
    channels[first + 2] = total / (np.maximum(number, 1) / _INTENSITY_STEP)
    np.maximum.at(channels[first + 3], cell, intensity)
    return columns.shape[1]


def _add_earlier(points: Float, channels: Float, range_m: float, cell_m: float, cells: int) -> None:
    levels = len(PREVIOUS_SLICES_M) - 1
    cell, (_, _, z, _) = _inside(_finite(points), PREVIOUS_SLICES_M, range_m, cell_m, cells)
    _counts(channels[:levels], cell, z, PREVIOUS_SLICES_M)
    _heights(channels[levels], None, cell, z)


def cells_of(range_m: float, cell_m: float) -> int:
    """Cells along a side of the grid.

    Raises:
        ValueError: the sizes make no grid of whole cells.
    """
    if not (0 < cell_m <= range_m < np.inf):
        raise ValueError(f"a grid of {range_m} m with cells of {cell_m} m")
    cells = round(2 * range_m / cell_m)
    if abs(cells * cell_m - 2 * range_m) > 1e-6 * range_m:
        raise ValueError(f"cells of {cell_m} m do not divide a grid of {2 * range_m} m")
    return cells


def _check(points: NDArray[np.float32], what: str) -> None:
    if points.dtype != np.float32 or points.ndim != 2 or points.shape[1] < _POINT_COLUMNS:
        raise ValueError(
            f"{what} is float32 [n, {_POINT_COLUMNS}+], got {points.dtype} {list(points.shape)}"
        )


def _finite(points: NDArray[np.float32]) -> Float:
    """The finite points as columns `[4, n]`."""
    columns = np.ascontiguousarray(points[:, :_POINT_COLUMNS].T)
    finite = np.isfinite(columns).all(axis=0)
    return columns if finite.all() else columns[:, finite]


def _inside(
    columns: Float, slices: tuple[float, ...], range_m: float, cell_m: float, cells: int
) -> tuple[NDArray[np.intp], Float]:
    """Cell of each point that lies in the grid and between the heights, and those points."""
    x, y, z, _ = columns
    reach = np.float32(range_m)
    kept = (z >= np.float32(slices[0])) & (z < np.float32(slices[-1]))
    kept &= (np.abs(x) < reach) & (np.abs(y) < reach)
    chosen = columns[:, kept]
    size = np.float32(cell_m)
    row, column = (
        np.clip(((axis + reach) / size).astype(np.intp), 0, cells - 1) for axis in chosen[:2]
    )
    return row * cells + column, chosen


def _counts(grid: Float, cell: NDArray[np.intp], z: Float, slices: tuple[float, ...]) -> None:
    edges = np.asarray(slices[1:-1], np.float32)
    level = np.searchsorted(edges, z, side="right")
    size = grid.shape[1]
    number = np.bincount(level * size + cell, minlength=grid.size)
    grid[:] = np.log1p(number.astype(np.float32)).reshape(grid.shape)


def _heights(highest: Float, lowest: Float | None, cell: NDArray[np.intp], z: Float) -> None:
    scaled = z / np.float32(_HEIGHT_SCALE_M)
    np.maximum.at(highest, cell, scaled)
    if lowest is not None:
        floor = np.full(len(lowest), np.inf, np.float32)
        np.minimum.at(floor, cell, scaled)
        lowest[:] = np.where(np.isfinite(floor), floor, 0)
