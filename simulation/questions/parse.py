"""Questions in words of our templates, read back as the programs that they ask.

Everything that a template can say has one reading; a text of somebody else has none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from itertools import product

from .phrases import Phrase
from .programs import Program, Selection
from .scene_graph import CLASS_STATUSES, DIRECTIONS, STATUSES
from .templates import TEMPLATES, Template

_PLACE = re.compile(r"\{([ab]):(many|bare|one|the)\}")


def program_of(text: str) -> Program | None:
    """The program that a question asks; None if it is none of our templates', or ambiguous."""
    wanted = " ".join(text.split())
    found = {program for template in TEMPLATES if (program := _read(template, wanted)) is not None}
    return found.pop() if len(found) == 1 else None


def _read(template: Template, text: str) -> Program | None:
    pattern, forms = _pattern(template)
    match = pattern.fullmatch(text)
    if match is None:
        return None
    parts = [
        _phrases(form, shape).get(words)
        for form, shape, words in zip(forms, template.shapes, match.groups(), strict=True)
    ]
    if None in parts:
        return None
    program = Program(template.operation, *parts)  # pyright: ignore[reportArgumentType] - none is None
    return program if template.question(program) == text else None


@cache
def _pattern(template: Template) -> tuple[re.Pattern[str], tuple[str, ...]]:
    """What a question of the template looks like, and the forms of its phrases, `a` before `b`."""
    pieces = _PLACE.split(template.text)
    # Text, letter, form, text, letter, form, text: no template has its letters out of order.
    pattern = re.escape(pieces[0])
    for text in pieces[3::3]:
        pattern += "(.+)" + re.escape(text)
    return re.compile(pattern), tuple(pieces[2::3])


@cache
def _phrases(form: str, shape: str) -> dict[str, Selection]:
    """All that a template can say in the place of a selection, in one form."""
    return {format(Phrase(selection), form): selection for selection in _selections(shape)}


def _selections(shape: str) -> Iterator[Selection]:
    content, _, place = shape.partition("@")
    names = tuple(CLASS_STATUSES) if "C" in content else (None,)
    statuses = STATUSES if "S" in content else (None,)
    directions = DIRECTIONS if place in ("ego", "object") else (None,)
    anchors = tuple(_anchors()) if place in ("object", "like") else (None,)
    for name, status, direction, anchor in product(names, statuses, directions, anchors):
        if name is None or status is None or status in CLASS_STATUSES[name]:
            yield Selection(name, status, direction, anchor, place == "like")


def _anchors() -> Iterator[Selection]:
    for name, statuses in CLASS_STATUSES.items():
        for status in (None, *statuses):
            yield Selection(name, status)
