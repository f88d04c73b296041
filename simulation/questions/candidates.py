"""Programs of a template's shape, drawn at random for what is there and for what is not."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import product

from .programs import GraphIndex, Program, Selection
from .scene_graph import CLASS_STATUSES, DIRECTIONS, STATUSES, SceneObject
from .templates import Template

_CLASSES = tuple(CLASS_STATUSES)
#: Of counting and existence questions, those that are led by an object that is there.
_PRESENT_SHARE = 0.6
_OF_UNIQUE = frozenset({"class", "status", "same status", "same class"})
#: "The standing thing" can only be a pedestrian, which gives the class away.
_TELLING_STATUSES = frozenset({"standing", "not standing"})


class Candidates:
    """Draws programs about one keyframe."""

    def __init__(self, index: GraphIndex, rng: random.Random) -> None:
        """Draw from `index` with `rng`."""
        self._index = index
        self._rng = rng
        self._unique: dict[str, tuple[Selection, ...]] = {}

    def draw(self, template: Template) -> Program | None:
        """One program of the template's shape, or None if this draw came to nothing."""
        draw_part = self._unique_part if template.operation in _OF_UNIQUE else self._any_part
        parts = [draw_part(shape) for shape in template.shapes]
        first, second = parts[0], parts[1] if len(parts) > 1 else None
        if first is None or (second is None and len(parts) > 1):
            return None
        program = Program(template.operation, first, second)
        return program if _is_sensible(program) else None

    def _unique_part(self, shape: str) -> Selection | None:
        """A selection of exactly one object."""
        if shape not in self._unique:
            self._unique[shape] = tuple(self._all_unique(shape))
        found = self._unique[shape]
        return self._rng.choice(found) if found else None

    def _all_unique(self, shape: str) -> Iterator[Selection]:
        content, _, place = shape.partition("@")
        seen = [self._index.graph.objects[row] for row in self._index.seen]
        names = sorted({thing.name for thing in seen}) if "C" in content else (None,)
        statuses = sorted({t.status for t in seen if t.status}) if "S" in content else (None,)
        directions = DIRECTIONS if place in ("ego", "object") else (None,)
        anchors = self._index.anchors if place in ("object", "like") else (None,)
        for name, status, direction, anchor in product(names, statuses, directions, anchors):
            selection = Selection(name, status, direction, anchor, place == "like")
            if self._index.unique(selection) is not None:
                yield selection

    def _any_part(self, shape: str) -> Selection | None:
        """A selection of none, one or many objects, led by one that is there or by chance."""
        content, _, place = shape.partition("@")
        index, rng = self._index, self._rng
        is_led = bool(index.seen) and rng.random() < _PRESENT_SHARE
        target = rng.choice(index.seen) if is_led else None
        anchor = None
        if place in ("object", "like"):
            if not index.anchors:
                return None
            anchor = rng.choice(index.anchors)
        thing = None if target is None else index.graph.objects[target]
        narrowed = _draw_content(content, thing, rng)
        if narrowed is None:
            return None
        if place in ("", "like"):
            return Selection(*narrowed, None, anchor, place == "like")
        direction = rng.choice(DIRECTIONS)
        if target is not None:
            anchor_row = None if anchor is None else index.unique(anchor)
            # Nothing has a direction from itself.
            direction = index.direction(target, anchor_row) or direction
        return Selection(*narrowed, direction, anchor)


def _draw_content(
    content: str, thing: SceneObject | None, rng: random.Random
) -> tuple[str | None, str | None] | None:
    """Class and status as the letters want them, of a thing or of any."""
    if content == "T":
        return None, None
    if thing is not None:
        if "S" in content and thing.status is None:
            return None
        name, status = thing.name, thing.status
    else:
        name = rng.choice(_CLASSES)
        statuses = CLASS_STATUSES[name] if content == "SC" else STATUSES
        status = rng.choice(statuses) if statuses else None
        if content == "SC" and status is None:
            return None
    return (name if "C" in content else None), (status if "S" in content else None)


def _is_sensible(program: Program) -> bool:
    """Whether the words alone leave the answer open."""
    first, second = program.first, program.second
    if first == second:
        return False
    for part in (first, second):
        if part is None or part.anchor is None:
            continue
        names = CLASS_STATUSES if part.name is None else {part.name: ()}
        if part.like_anchor and not any(_share_status(name, part.anchor.name) for name in names):
            return False
    if program.operation in ("class", "same class"):
        return not any(part and part.status in _TELLING_STATUSES for part in (first, second))
    if program.operation == "status" and first.name is not None:
        return bool(CLASS_STATUSES[first.name])
    if program.operation == "same status" and second is not None:
        return _share_status(first.name, second.name)
    return True


def _share_status(one: str | None, other: str | None) -> bool:
    if one is None or other is None:
        return True
    return not set(CLASS_STATUSES[one]).isdisjoint(CLASS_STATUSES[other])
