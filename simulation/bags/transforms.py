"""The tree of frames of a bag, collected from `/tf` and `/tf_static`."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..nuscenes.geometry import rigid_transform
from .contract import BASE_FRAME

_MAX_DEPTH = 64
_FARTHEST_M = 1e12


class _Edge:
    """The transforms from one frame to its parent, over time."""

    def __init__(self, parent: str, static: bool) -> None:
        self.parent, self.static = parent, static
        self._numbers = array("d")
        self._row_of: dict[int, int] = {}
        self._stamps: list[int] | None = None

    def add(self, stamp_ns: int, numbers: list[float]) -> None:
        # A static transform that is sent again replaces the one before.
        self._row_of[0 if self.static else stamp_ns] = len(self._numbers) // 7
        self._numbers.extend(numbers)
        self._stamps = None

    @property
    def stamps(self) -> list[int]:
        if self._stamps is None:
            self._stamps = sorted(self._row_of)
        return self._stamps

    def at(self, stamp_ns: int) -> NDArray[np.float64]:
        """parent_from_child at this stamp or before; the first one where there is none before."""
        stamps = self.stamps
        stamp = stamps[max(0, bisect_right(stamps, stamp_ns) - 1)]
        first = 7 * self._row_of[stamp]
        numbers = self._numbers[first : first + 7]
        return rigid_transform(numbers[:3], numbers[3:])


class Transforms:
    """Transforms between the frames of a bag."""

    def __init__(self) -> None:
        """None yet."""
        self._edges: dict[str, _Edge] = {}

    def add(self, message: Any, static: bool) -> int:
        """Take in a `tf2_msgs/TFMessage`; returns how many of its transforms are unusable."""
        unusable = 0
        for one in message.transforms:
            translation, rotation = one.transform.translation, one.transform.rotation
            place = [translation.x, translation.y, translation.z]
            turn = [rotation.w, rotation.x, rotation.y, rotation.z]
            child, parent = one.child_frame_id.lstrip("/"), one.header.frame_id.lstrip("/")
            length = math.hypot(*turn)
            # Not so far that products overflow; NaN fails every comparison.
            far = math.hypot(*place)
            usable = far < _FARTHEST_M and 0.5 < length < 2 and child != parent
            if not usable:
                unusable += 1
                continue
            edge = self._edges.get(child)
            if edge is None or edge.parent != parent or edge.static != static:
                edge = self._edges[child] = _Edge(parent, static)
            stamp = one.header.stamp
            edge.add(stamp.sec * 1_000_000_000 + stamp.nanosec, [*place, *turn])
        return unusable

    def to_ancestor(
        self, frame: str, stamp_ns: int, ancestor: str | None
    ) -> NDArray[np.float64] | None:
        """ancestor_from_frame, float64 `[4, 4]`.

        Args:
            frame: where to begin.
            stamp_ns: each transform is the newest of its kind up to here.
            ancestor: where to end; None goes up to the root.

        Returns:
            None where the ancestor is not above the frame.
        """
        result: NDArray[np.float64] | None = None
        for _ in range(_MAX_DEPTH):
            if frame == ancestor:
                return np.eye(4) if result is None else result
            edge = self._edges.get(frame)
            if edge is None:
                return result if ancestor is None else None
            step = edge.at(stamp_ns)
            # An identity is left out, so that what is exact in the bag stays exact.
            if result is None:
                result = step
            elif not np.array_equal(step, np.eye(4)):
                result = step @ result
            frame = edge.parent
        return None

    def ego_stamps(self) -> list[int]:
        """Stamps of the transforms that move the vehicle, in order."""
        edge = self._edges.get(BASE_FRAME)
        return [] if edge is None or edge.static else edge.stamps
