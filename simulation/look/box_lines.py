"""A box as lines in a picture: projected, cut off where it passes behind the camera and outside."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..nuscenes import Annotation
from ..nuscenes.geometry import Float64, box_corners, project, transform_points

#: What is nearer than this to the plane of the camera is cut off, metres.
NEAR_M = 0.1

#: Pairs of `box_corners`: the front face, the back face, and the four edges between them.
EDGES = (
    *((0, 1), (1, 3), (3, 2), (2, 0)),
    *((4, 5), (5, 7), (7, 6), (6, 4)),
    *((0, 4), (1, 5), (2, 6), (3, 7)),
)
#: Corners of the front face, around it.
FRONT = (0, 1, 3, 2)

Segment = tuple[float, float, float, float]


def camera_corners(box: Annotation, camera_from_global: Float64) -> Float64:
    """The eight corners in the frame of a camera, float64 `[8, 3]`, see `box_corners`."""
    corners = box_corners(box.translation, box.size_wlh, box.rotation)
    return transform_points(camera_from_global, corners)


def edge_segments(
    corners: Float64, intrinsic: Float64, size: tuple[int, int], edges: Sequence[tuple[int, int]]
) -> list[Segment]:
    """Edges of a box as they are seen.

    Args:
        corners: `[8, 3]`, camera frame, metres.
        intrinsic: `[3, 3]`, pixels.
        size: width and height of the picture in pixels.
        edges: pairs of corners.

    Returns:
        `(u0, v0, u1, v1)` in pixels of each edge that crosses the picture, cut to it.
    """
    segments: list[Segment] = []
    for first, last in edges:
        ends = _in_front(corners[first], corners[last])
        if ends is None:
            continue
        pixels, _ = project(intrinsic, ends)
        cut = _inside(pixels, size)
        if cut is not None:
            segments.append(cut)
    return segments


def face_polygon(
    corners: Float64, intrinsic: Float64, face: Sequence[int]
) -> list[tuple[float, float]]:
    """A face of a box in pixels, cut where it passes behind the camera; empty behind it."""
    polygon: list[Float64] = []
    points = corners[list(face)]
    for here, following in zip(points, np.roll(points, -1, axis=0), strict=True):
        if here[2] >= NEAR_M:
            polygon.append(here)
        if (here[2] >= NEAR_M) != (following[2] >= NEAR_M):
            polygon.append(_at_near_plane(here, following))
    if len(polygon) < 3:
        return []
    pixels, _ = project(intrinsic, np.array(polygon))
    return [(float(u), float(v)) for u, v in pixels]


def _in_front(first: Float64, last: Float64) -> Float64 | None:
    """The part of an edge in front of the near plane, `[2, 3]`; None if there is none."""
    if first[2] < NEAR_M and last[2] < NEAR_M:
        return None
    if first[2] < NEAR_M:
        first = _at_near_plane(first, last)
    elif last[2] < NEAR_M:
        last = _at_near_plane(last, first)
    return np.array([first, last])


def _at_near_plane(behind: Float64, before: Float64) -> Float64:
    share = (NEAR_M - behind[2]) / (before[2] - behind[2])
    return behind + share * (before - behind)


def _inside(pixels: Float64, size: tuple[int, int]) -> Segment | None:
    """A line cut to the picture (Liang and Barsky, 1984)."""
    (u0, v0), (u1, v1) = pixels.tolist()
    du, dv = u1 - u0, v1 - v0
    begin, end = 0.0, 1.0
    width, height = size
    for step, room in ((-du, u0), (du, width - u0), (-dv, v0), (dv, height - v0)):
        if step == 0:
            if room < 0:
                return None
            continue
        share = room / step
        if step < 0:
            begin = max(begin, share)
        else:
            end = min(end, share)
    if begin > end:
        return None
    return (u0 + begin * du, v0 + begin * dv, u0 + end * du, v0 + end * dv)
