"""A LiDAR sweep from above: counts, heights and intensities per cell, an earlier sweep beside it.

The CPU twin of a kernel to come: float32, no order of points matters. Points come in the ego frame
(x forward, y left, z up from the ground); moving them there is the caller's affair.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

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


def bev_grid(
    points: NDArray[np.float32],
    previous: NDArray[np.float32] | None = None,
    previous_s: float = 0.0,
    *,
    range_m: float = RANGE_M,
    cell_m: float = CELL_M,
) -> Float:
    """Sort the points of a sweep into cells.

    Args:
        points: float32 `[n, 4+]` of x y z (metres, ego frame) and intensity (0 to 255).
        previous: an earlier sweep in the *present* ego frame, or None.
        previous_s: how many seconds earlier; not read without `previous`.
        range_m: the grid reaches from `-range_m` to `range_m` in x and y.
        cell_m: side of a cell.

    Returns:
        float32 `[12, cells, cells]` in the order of `CHANNELS`; row 0 is at `x = -range_m`, column
        0 at `y = -range_m`. Counts are `log(1 + n)`, heights in units of 2 m. Without an earlier
        sweep its channels are 0, the seconds too.

    Raises:
        ValueError: another dtype or shape, no finite point, or sizes that make no grid.
    """
    cells = cells_of(range_m, cell_m)
    columns = _usable(points, "the sweep")
    if columns.shape[1] == 0:
        raise ValueError(
            f"none of the {len(points)} points is finite" if len(points) else "the cloud is empty"
        )
    grid = np.zeros((len(CHANNELS), cells * cells), np.float32)
    first = len(SLICES_M) - 1
    cell, (_, _, z, intensity) = _inside(columns, SLICES_M, range_m, cell_m, cells)
    _counts(grid[:first], cell, z, SLICES_M)
    _heights(grid[first], grid[first + 1], cell, z)
    intensity = np.clip(intensity, 0, _INTENSITY_MAX) / np.float32(_INTENSITY_MAX)
    number = np.bincount(cell, minlength=cells * cells)
    total = np.bincount(cell, weights=intensity, minlength=cells * cells)
    grid[first + 2] = total / np.maximum(number, 1)
    np.maximum.at(grid[first + 3], cell, intensity)
    if previous is not None:
        start = first + 4
        stop = start + len(PREVIOUS_SLICES_M) - 1
        earlier = _usable(previous, "the earlier sweep")
        cell, (_, _, z, _) = _inside(earlier, PREVIOUS_SLICES_M, range_m, cell_m, cells)
        _counts(grid[start:stop], cell, z, PREVIOUS_SLICES_M)
        _heights(grid[stop], None, cell, z)
        grid[stop + 1] = previous_s
    return grid.reshape(len(CHANNELS), cells, cells)


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


def _usable(points: NDArray[np.float32], what: str) -> Float:
    """The finite points as columns `[4, n]`."""
    if points.dtype != np.float32 or points.ndim != 2 or points.shape[1] < _POINT_COLUMNS:
        raise ValueError(
            f"{what} is float32 [n, {_POINT_COLUMNS}+], got {points.dtype} {list(points.shape)}"
        )
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
