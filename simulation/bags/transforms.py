"""The tree of frames of a bag, collected from `/tf` and `/tf_static`, and its odometry."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..nuscenes.geometry import inverse_rigid, rigid_transform
from .contract import BASE_FRAME

_MAX_DEPTH = 64
_FARTHEST_M = 1e12
#: A vehicle's pose is told at 10 Hz and more; nobody knows what it did in a longer gap.
_MAX_GAP_NS = 300_000_000


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

    def forget_before(self, stamp_ns: int) -> None:
        """Drop transforms before a stamp, when half of them are; the newest stays."""
        stamps = self.stamps
        place = min(bisect_right(stamps, stamp_ns), len(stamps) - 1)
        if self.static or 2 * place <= len(stamps):
            return
        kept = {stamp: self._at(stamp) for stamp in stamps[place:]}
        self._numbers, self._row_of, self._stamps = array("d"), {}, None
        for stamp, numbers in kept.items():
            self.add(stamp, list(numbers))

    @property
    def stamps(self) -> list[int]:
        if self._stamps is None:
            self._stamps = sorted(self._row_of)
        return self._stamps

    def at(self, stamp_ns: int) -> NDArray[np.float64]:
        """parent_from_child at this stamp or before; the first one where there is none before."""
        stamps = self.stamps
        stamp = stamps[max(0, bisect_right(stamps, stamp_ns) - 1)]
        numbers = self._at(stamp)
        return rigid_transform(numbers[:3], numbers[3:])

    def between(self, stamp_ns: int, max_gap_ns: int) -> NDArray[np.float64] | None:
        """parent_from_child at this stamp, between the transforms around it.

        Args:
            stamp_ns: one that is there is given back in every bit.
            max_gap_ns: transforms that are farther apart tell nothing of what is between them,
                and one that is farther away nothing of the stamp.

        Returns:
            None where the stamp lies outside of them by more than the gap, or in a larger gap.
        """
        stamps = self.stamps
        place = bisect_right(stamps, stamp_ns)
        before = stamps[place - 1] if place else None
        after = stamps[place] if place < len(stamps) else None
        if before is None or after is None or before == stamp_ns:
            nearest = after if before is None else before
            if nearest is None or abs(nearest - stamp_ns) > max_gap_ns:
                return None
            return self.at(nearest)
        if after - before > max_gap_ns:
            return None
        part = (stamp_ns - before) / (after - before)
        first, second = np.array(self._at(before)), np.array(self._at(after))
        # Two quaternions stand for one rotation; the shorter way is between those of one sign.
        second[3:] *= np.copysign(1.0, first[3:] @ second[3:])
        mixed = first + part * (second - first)
        return rigid_transform(mixed[:3], mixed[3:])

    def _at(self, stamp_ns: int) -> array[float]:
        first = 7 * self._row_of[stamp_ns]
        return self._numbers[first : first + 7]


class Transforms:
    """Transforms between the frames of a bag, or of a robot that runs."""

    def __init__(self, base_frame: str = BASE_FRAME) -> None:
        """None yet.

        Args:
            base_frame: of the vehicle.
        """
        self._base_frame = base_frame
        self._edges: dict[str, _Edge] = {}
        self._odometry: _Edge | None = None

    def add(self, message: Any, static: bool) -> int:
        """Take in a `tf2_msgs/TFMessage`; returns how many of its transforms are unusable."""
        unusable = 0
        for one in message.transforms:
            numbers = _usable(one.transform.translation, one.transform.rotation)
            child, parent = one.child_frame_id.lstrip("/"), one.header.frame_id.lstrip("/")
            if numbers is None or child == parent:
                unusable += 1
                continue
            edge = self._edges.get(child)
            if edge is None or edge.parent != parent or edge.static != static:
                edge = self._edges[child] = _Edge(parent, static)
            edge.add(_stamp_ns(one.header), numbers)
        return unusable

    def add_odometry(self, message: Any) -> bool:
        """Take in a `nav_msgs/Odometry` of the vehicle; False if it is of no use.

        The first frame that one is given in is kept to; another estimate has its own drift.
        """
        parent = message.header.frame_id.lstrip("/")
        numbers = _usable(message.pose.pose.position, message.pose.pose.orientation)
        if numbers is None or message.child_frame_id.lstrip("/") != self._base_frame:
            return False
        if self._odometry is None:
            self._odometry = _Edge(parent, static=False)
        if self._odometry.parent != parent:
            return False
        self._odometry.add(_stamp_ns(message.header), numbers)
        return True

    def forget_before_newest(self, age_ns: int) -> None:
        """Drop what is older than the newest transform of its kind by more than an age.

        A robot that runs for days would remember every place where it was.
        """
        for edge in self._edges.values():
            edge.forget_before(edge.stamps[-1] - age_ns)

    def forget_motion(self) -> None:
        """Drop all but static transforms, e.g. when time jumps back."""
        self._edges = {child: edge for child, edge in self._edges.items() if edge.static}
        self._odometry = None

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

    def to_base(self, frame: str, stamp_ns: int) -> NDArray[np.float64] | None:
        """base_from_frame, float64 `[4, 4]`, of a frame below `base_link` or above it.

        Args:
            frame: of a sensor, or one that stands still, such as `map`.
            stamp_ns: each transform is the newest of its kind up to here; the vehicle's own lies
                between those around it.

        Returns:
            None where the bag does not tell.
        """
        below = self.to_ancestor(frame, stamp_ns, self._base_frame)
        edge = self._edges.get(self._base_frame)
        if below is not None or edge is None:
            return below
        moved = edge.at(stamp_ns) if edge.static else edge.between(stamp_ns, _MAX_GAP_NS)
        above = self.to_ancestor(edge.parent, stamp_ns, frame)
        return None if moved is None or above is None else inverse_rigid(above @ moved)

    def odometry(self, stamp_ns: int) -> NDArray[np.float64] | None:
        """Where the vehicle was, odom_from_base, float64 `[4, 4]`: from TF, else from odometry.

        Its parent frame moves smoothly, so differences of poses are motion, where a pose in the
        map jumps with each correction (REP-105).

        Returns:
            None where the bag does not tell of the moment.
        """
        edge = self._edges.get(self._base_frame)
        if edge is None or edge.static:
            edge = self._odometry
        return None if edge is None else edge.between(stamp_ns, _MAX_GAP_NS)

    def ego_stamps(self) -> list[int]:
        """Stamps of the transforms that move the vehicle, in order."""
        edge = self._edges.get(self._base_frame)
        return [] if edge is None or edge.static else edge.stamps


def _usable(place: Any, turn: Any) -> list[float] | None:
    """x y z and w x y z, None if they are no transform."""
    translation, rotation = [place.x, place.y, place.z], [turn.w, turn.x, turn.y, turn.z]
    # Not so far that products overflow; NaN fails every comparison.
    fits = math.hypot(*translation) < _FARTHEST_M and 0.5 < math.hypot(*rotation) < 2
    return [*translation, *rotation] if fits else None


def _stamp_ns(header: Any) -> int:
    return header.stamp.sec * 1_000_000_000 + header.stamp.nanosec
