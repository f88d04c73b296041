"""Rectangles on the ground and whether they overlap: the one rule of what may stand where."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float64 = NDArray[np.float64]


def overlaps(first: ArrayLike, second: ArrayLike, gap: float = 0.0) -> NDArray[np.bool_]:
    """Which of two sets of oriented rectangles overlap (separating axes).

    Args:
        first: `[n, 5]`: x, y, yaw (radians), length, width; metres, length along the yaw.
        second: `[m, 5]`, the same.
        gap: rectangles closer than this count as overlapping, metres; negative tolerates touch.

    Returns:
        bool `[n, m]`.
    """
    a = np.asarray(first, np.float64).reshape(-1, 5)[:, None]
    b = np.asarray(second, np.float64).reshape(-1, 5)[None, :]
    return pairs_overlap(a, b, gap)


def pairs_overlap(a: Float64, b: Float64, gap: float = 0.0) -> NDArray[np.bool_]:
    """The same for rectangles `[..., 5]` that belong to each other: bool `[...]`."""
    delta = b[..., :2] - a[..., :2]
    cos, sin = np.cos(b[..., 2] - a[..., 2]), np.sin(b[..., 2] - a[..., 2])
    apart = np.zeros(delta.shape[:-1], bool)
    for one, other in ((a, b), (b, a)):
        c, s = np.cos(one[..., 2]), np.sin(one[..., 2])
        along = np.abs(delta[..., 0] * c + delta[..., 1] * s)
        across = np.abs(delta[..., 1] * c - delta[..., 0] * s)
        half, wide = other[..., 3] / 2, other[..., 4] / 2
        apart |= along > one[..., 3] / 2 + half * np.abs(cos) + wide * np.abs(sin) + gap
        apart |= across > one[..., 4] / 2 + half * np.abs(sin) + wide * np.abs(cos) + gap
    return ~apart


def corners(rectangles: ArrayLike) -> Float64:
    """The corners of rectangles `[n, 5]`, counter-clockwise: float64 `[n, 4, 2]`."""
    boxes = np.asarray(rectangles, np.float64).reshape(-1, 5)
    c, s = np.cos(boxes[:, 2:3]), np.sin(boxes[:, 2:3])
    x = boxes[:, 3:4] / 2 * np.array([1.0, -1.0, -1.0, 1.0])
    y = boxes[:, 4:5] / 2 * np.array([1.0, 1.0, -1.0, -1.0])
    return np.stack([boxes[:, :1] + x * c - y * s, boxes[:, 1:2] + x * s + y * c], axis=-1)


class Occupied:
    """Rectangles that are taken; grows while a world is furnished."""

    def __init__(self) -> None:
        self._boxes = np.zeros((64, 5))
        self._reach = np.zeros(64)  # from the middle to a corner
        self._count = 0

    @property
    def boxes(self) -> Float64:
        """float64 `[n, 5]`."""
        return self._boxes[: self._count]

    def add(self, box: ArrayLike) -> None:
        """Take a rectangle, or several `[n, 5]`."""
        rows = np.asarray(box, np.float64).reshape(-1, 5)
        while self._count + len(rows) > len(self._boxes):
            self._boxes = np.concatenate([self._boxes, np.zeros_like(self._boxes)])
            self._reach = np.concatenate([self._reach, np.zeros_like(self._reach)])
        self._boxes[self._count : self._count + len(rows)] = rows
        self._reach[self._count : self._count + len(rows)] = np.hypot(rows[:, 3], rows[:, 4]) / 2
        self._count += len(rows)

    def is_free(self, box: ArrayLike, gap: float = 0.0) -> bool:
        """No taken rectangle is closer than `gap`."""
        x, y, _, length, width = np.asarray(box, np.float64).reshape(5).tolist()
        # only those that a circle round the box reaches need the exact look
        reach = self._reach[: self._count] + (math.hypot(length, width) / 2 + 1.5 * max(gap, 0.0))
        boxes = self.boxes
        dx, dy = boxes[:, 0] - x, boxes[:, 1] - y
        near = dx * dx + dy * dy < reach * reach
        return not (near.any() and overlaps(box, boxes[near], gap).any())

    def take(self, box: ArrayLike, gap: float = 0.0) -> bool:
        """Take a rectangle if it is free; whether it was."""
        if not self.is_free(box, gap):
            return False
        self.add(box)
        return True
