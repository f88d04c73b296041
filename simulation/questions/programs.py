"""Questions as small programs over a scene graph: select, then exist, count, query or compare.

Sets of objects are pairs of bit masks, what belongs for certain and what might: doubtful objects
and unknown statuses might. A program has an answer only if every way of settling what might be
gives the same one; otherwise it has None, and the question is not asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from .scene_graph import CLASS_STATUSES, DIRECTIONS, STATUSES, SceneGraph, direction_of

#: Counts above it are answered with it, as the largest number among the answers.
MAX_COUNT = 10

Operation = Literal[
    "exist", "count", "class", "status", "same status", "same class", "more", "fewer", "equal"
]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects are meant; whatever is None does not narrow.

    Attributes:
        name: class.
        status: status.
        direction: relation to the anchor.
        anchor: one object that must be unique, without a direction of its own; None is the ego
            vehicle. It is never part of the selection.
        like_anchor: take those that have the status of the anchor.
    """

    name: str | None = None
    status: str | None = None
    direction: str | None = None
    anchor: Selection | None = None
    like_anchor: bool = False


@dataclass(frozen=True, slots=True)
class Program:
    """What a question asks.

    Attributes:
        operation: with one selection `exist`, `count`, `class`, `status`; with two `same status`,
            `same class`, `more`, `fewer`, `equal` (counts of the first against the second).
        first: selection.
        second: selection, None with one.
    """

    operation: Operation
    first: Selection
    second: Selection | None = None

    @property
    def num_hop(self) -> int:
        """1 if a relation between places is followed, else 0."""
        return int(any(part.direction for part in (self.first, self.second) if part is not None))


@dataclass(frozen=True, slots=True)
class _Set:
    certain: int
    possible: int
    """Those that might belong; never one that does."""

    def __and__(self, other: _Set) -> _Set:
        certain = self.certain & other.certain
        anyhow = (self.certain | self.possible) & (other.certain | other.possible)
        return _Set(certain, anyhow & ~certain)

    def without(self, mask: int) -> _Set:
        return _Set(self.certain & ~mask, self.possible & ~mask)

    @property
    def least(self) -> int:
        return self.certain.bit_count()

    @property
    def most(self) -> int:
        return self.certain.bit_count() + self.possible.bit_count()


class GraphIndex:
    """A scene graph prepared for thousands of programs: masks by class, status and relation."""

    def __init__(self, graph: SceneGraph) -> None:
        """Index `graph`."""
        self.graph = graph
        objects = graph.objects
        self._doubtful = _mask(objects[row].doubtful for row in range(len(objects)))
        self._all = self._settled((1 << len(objects)) - 1)
        self._by_name = {
            name: self._settled(_mask(thing.name == name for thing in objects))
            for name in CLASS_STATUSES
        }
        self._by_status: dict[str, _Set] = {}
        for status in STATUSES:
            known = self._settled(_mask(thing.status == status for thing in objects))
            unknown = _mask(
                thing.status is None and status in CLASS_STATUSES[thing.name] for thing in objects
            )
            self._by_status[status] = _Set(known.certain, known.possible | unknown)
        self._relations: dict[int, dict[str, int]] = {}

    @cached_property
    def seen(self) -> tuple[int, ...]:
        """Rows of the objects that are seen."""
        return tuple(row for row, thing in enumerate(self.graph.objects) if not thing.doubtful)

    @cached_property
    def anchors(self) -> tuple[Selection, ...]:
        """The shortest unique description without a place of each object that has one."""
        found: dict[int, Selection] = {}
        for row in self.seen:
            thing = self.graph.objects[row]
            for status in (None, thing.status):
                selection = Selection(thing.name, status)
                if self.unique(selection) == row:
                    found.setdefault(row, selection)
        return tuple(found.values())

    def unique(self, selection: Selection) -> int | None:
        """The row of the one object that is meant; None if there may be none or several."""
        members = self._select(selection)
        if members is None or members.possible or members.certain.bit_count() != 1:
            return None
        return members.certain.bit_length() - 1

    def selected(self, selection: Selection) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """Rows that are meant for certain, and rows that might be; None if nobody can tell."""
        members = self._select(selection)
        return None if members is None else (_rows(members.certain), _rows(members.possible))

    def direction(self, row: int, anchor_row: int | None = None) -> str | None:
        """The relation of an object to another one, or to the ego vehicle."""
        objects = self.graph.objects
        origin = (0.0, 0.0) if anchor_row is None else objects[anchor_row].position
        return direction_of(objects[row].position, origin)

    def answer(self, program: Program) -> str | None:
        """The answer, among those of NuScenes-QA; None if it would hinge on what is doubtful."""
        first, second = program.first, program.second
        if second is None:
            return self._answer_one(program.operation, first)
        if program.operation in ("same status", "same class"):
            return self._same(program.operation, first, second)
        return self._compare(program.operation, first, second)

    def _answer_one(self, operation: Operation, selection: Selection) -> str | None:
        if operation in ("class", "status"):
            row = self.unique(selection)
            if row is None:
                return None
            thing = self.graph.objects[row]
            return thing.name if operation == "class" else thing.status
        members = self._select(selection)
        if members is None:
            return None
        if operation == "exist":
            if members.certain:
                return "yes"
            return None if members.possible else "no"
        # More than the largest answer is not asked about: a capped count would be a wrong one.
        known = members.least == members.most <= MAX_COUNT
        return str(members.least) if known else None

    def _same(self, operation: Operation, first: Selection, second: Selection) -> str | None:
        rows = self.unique(first), self.unique(second)
        if rows[0] is None or rows[1] is None or rows[0] == rows[1]:
            return None
        one, other = (self.graph.objects[row] for row in rows if row is not None)
        if operation == "same class":
            return _yes_no(one.name == other.name)
        if one.status is None or other.status is None:
            return None
        return _yes_no(one.status == other.status)

    def _compare(self, order: Operation, first: Selection, second: Selection) -> str | None:
        one, other = self._select(first), self._select(second)
        if one is None or other is None:
            return None
        if order == "fewer":
            one, other = other, one
        if order == "equal":
            if one.least == one.most == other.least == other.most:
                return "yes"
            return "no" if one.least > other.most or other.least > one.most else None
        if one.least > other.most:
            return "yes"
        return "no" if one.most <= other.least else None

    def _select(self, selection: Selection) -> _Set | None:
        """None if the anchor is not unique, or its status unknown where that matters."""
        members = self._all if selection.name is None else self._by_name[selection.name]
        if selection.status is not None:
            members &= self._by_status[selection.status]
        anchor_row = None
        if selection.anchor is not None:
            anchor_row = self.unique(selection.anchor)
            if anchor_row is None:
                return None
            members = members.without(1 << anchor_row)
            if selection.like_anchor:
                status = self.graph.objects[anchor_row].status
                if status is None:
                    return None
                members &= self._by_status[status]
        if selection.direction is not None:
            mask = self._related(anchor_row)[selection.direction]
            members &= _Set(mask, 0)
        return members

    def _related(self, anchor_row: int | None) -> dict[str, int]:
        key = -1 if anchor_row is None else anchor_row
        if key not in self._relations:
            masks: dict[str, int] = dict.fromkeys(DIRECTIONS, 0)
            for row in range(len(self.graph.objects)):
                direction = self.direction(row, anchor_row)
                if direction is not None:
                    masks[direction] |= 1 << row
            self._relations[key] = masks
        return self._relations[key]

    def _settled(self, mask: int) -> _Set:
        return _Set(mask & ~self._doubtful, mask & self._doubtful)


def _mask(flags: Iterable[bool]) -> int:
    return sum(1 << row for row, flag in enumerate(flags) if flag)


def _rows(mask: int) -> tuple[int, ...]:
    return tuple(row for row in range(mask.bit_length()) if mask >> row & 1)


def _yes_no(value: bool) -> str:
    return "yes" if value else "no"
