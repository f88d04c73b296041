"""Boxes in images: overlap, suppression of doubles, and 3-D boxes drawn through a camera.

A box is `x0, y0, x1, y1` in pixels, y downward, everywhere in this room.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..simulation.nuscenes.geometry import (
    Float64,
    project,
    rotation_matrix,
    transform_points,
)

_NEAR_M = 0.2
_SQUARE = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]]) / 2
_TURNS = np.linspace(0, 2 * np.pi, 16, endpoint=False)
_ROUND = np.stack([np.cos(_TURNS), np.sin(_TURNS)], axis=1) / 2


def areas(boxes: ArrayLike) -> Float64:
    """Areas of boxes `[n, 4]`, float64 `[n]`, pixels squared; 0 for an empty box."""
    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    return np.prod(np.maximum(corners[:, 2:] - corners[:, :2], 0), axis=1)


def overlaps(first: ArrayLike, second: ArrayLike) -> Float64:
    """Areas that two sets of boxes `[n, 4]` and `[m, 4]` share: float64 `[n, m]`."""
    a = np.asarray(first, dtype=np.float64).reshape(-1, 1, 4)
    b = np.asarray(second, dtype=np.float64).reshape(1, -1, 4)
    extent = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    return np.prod(np.maximum(extent, 0), axis=2)


def iou(first: ArrayLike, second: ArrayLike) -> Float64:
    """Intersection over union of two sets of boxes `[n, 4]` and `[m, 4]`: float64 `[n, m]`."""
    shared = overlaps(first, second)
    union = areas(first)[:, None] + areas(second)[None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def suppress(
    boxes: ArrayLike, scores: ArrayLike, max_iou: float, max_inside: float = 1.0
) -> NDArray[np.int64]:
    """Greedy non-maximum suppression.

    Args:
        boxes: `[n, 4]`.
        scores: `[n]`.
        max_iou: a box that overlaps a better one by more than this IoU is dropped.
        max_inside: so is one that shares more than this of the smaller one's area with a better
            one; 1 keeps boxes within boxes.

    Returns:
        int64 rows that stay, best first.
    """
    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    waiting = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    kept: list[int] = []
    while waiting.size:
        best, rest = int(waiting[0]), waiting[1:]
        kept.append(best)
        smaller = np.minimum(areas(corners[best]), areas(corners[rest]))
        double = iou(corners[best], corners[rest])[0] > max_iou
        double |= overlaps(corners[best], corners[rest])[0] > max_inside * smaller
        waiting = rest[~double]
    return np.array(kept, dtype=np.int64)


def projected_box(
    translation: ArrayLike,
    size_wlh: Sequence[float],
    rotation: ArrayLike,
    camera_from_global: Float64,
    intrinsic: Float64,
    *,
    upright_ellipse: bool = False,
) -> tuple[Float64, float] | None:
    """The image box around a 3-D box, not cut at the image's edges.

    Args:
        translation: `[3]`, the centre, metres, global frame.
        size_wlh: width, length, height, metres.
        rotation: `[4]`, w x y z.
        camera_from_global: `[4, 4]`.
        intrinsic: `[3, 3]`, pixels.
        upright_ellipse: take the elliptic cylinder in the 3-D box instead of the box itself.

    Returns:
        The image box and the depth of the centre in metres; None if all of it is behind the camera.
    """
    footprint = _ROUND if upright_ellipse else _SQUARE
    count = len(footprint)
    width, length, height = size_wlh
    floor = np.column_stack([footprint * [length, width], np.full(count, -height / 2)])
    roof = floor + np.array([0, 0, height])
    solid = np.concatenate([floor, roof]) @ rotation_matrix(rotation).T
    corners = transform_points(camera_from_global, solid + np.asarray(translation))
    points = [corner for corner in corners if corner[2] >= _NEAR_M]
    around = [
        (start + turn, start + (turn + 1) % count) for start in (0, count) for turn in range(count)
    ]
    for a, b in (*around, *((turn, turn + count) for turn in range(count))):
        near, far = corners[a], corners[b]
        if (near[2] < _NEAR_M) != (far[2] < _NEAR_M):
            share = (_NEAR_M - near[2]) / (far[2] - near[2])
            points.append(near + share * (far - near))
    if not points:
        return None
    pixels, _ = project(intrinsic, np.array(points))
    box = np.concatenate([pixels.min(axis=0), pixels.max(axis=0)])
    depth = transform_points(camera_from_global, np.asarray(translation)[None])[0, 2]
    return box, float(depth)


def clipped(box: ArrayLike, width: int, height: int) -> Float64:
    """The part of a box that lies in an image of this size."""
    limits = np.array([width, height, width, height], dtype=np.float64)
    return np.clip(np.asarray(box, dtype=np.float64), 0, limits)


def covered_share(box: ArrayLike, nearer: ArrayLike) -> float:
    """Which share of a box lies behind the union of others, 0 to 1; on a grid of 24 x 24 points.

    Args:
        box: `[4]`.
        nearer: `[n, 4]`, the boxes in front of it.
    """
    x0, y0, x1, y1 = np.asarray(box, dtype=np.float64)
    steps = (np.arange(24) + 0.5) / 24
    x, y = (
        grid.ravel()[:, None]
        for grid in np.meshgrid(x0 + steps * (x1 - x0), y0 + steps * (y1 - y0))
    )
    others = np.asarray(nearer, dtype=np.float64).reshape(-1, 4)
    inside = (x >= others[:, 0]) & (x <= others[:, 2]) & (y >= others[:, 1]) & (y <= others[:, 3])
    return float(inside.any(axis=1).mean())
