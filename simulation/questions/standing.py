"""Standing questions: asked at every keyframe, their right answers worked out from annotations.

A question is told by its words: if one of our templates says them about some program, that program
gives the answer at any keyframe. Questions in the words of others have none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import product

from ..nuscenes import NuScenes
from .phrases import Phrase
from .programs import MAX_COUNT, GraphIndex, Program, Selection
from .scene_graph import CLASS_STATUSES, DIRECTIONS, STATUSES, scene_graph
from .templates import TEMPLATES

_YES_NO = ("yes", "no")
_COUNTS = tuple(str(count) for count in range(MAX_COUNT + 1))

#: Of each type one, about things that come and go in the demo clip, with their allowed answers.
STANDING_QUESTIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Do you see any pedestrians to our front left?", _YES_NO),
    ("How many moving cars do the sensors show?", _COUNTS),
    ("What sort of object is the parked thing to our back left?", tuple(CLASS_STATUSES)),
    ("What is the bus doing?", CLASS_STATUSES["bus"]),
    ("Do you see more cars to our front left than trucks to our front left?", _YES_NO),
)

_SLOT = re.compile(r"\{([ab]):(\w+)\}")


def program_of(question: str) -> Program | None:
    """The program that a question of our templates asks; None for other words.

    Questions that name another object for a place ("to the back of the bus") are not known.
    """
    for template in TEMPLATES:
        if any(place in shape for shape in template.shapes for place in ("@object", "@like")):
            continue
        found = _pattern(template.text).fullmatch(question)
        if found is None:
            continue
        parts: dict[str, Selection | None] = {}
        for slot, form in _SLOT.findall(template.text):
            shape = template.shapes["ab".index(slot)]
            parts[slot] = _selections(shape, form).get(found[slot])
        if None not in parts.values():
            return Program(template.operation, parts["a"] or Selection(), parts.get("b"))
    return None


def right_answers(
    data: NuScenes, sample_tokens: Sequence[str], questions: Sequence[str]
) -> dict[str, dict[str, str]]:
    """What is right at each keyframe.

    Args:
        data: an opened data set.
        sample_tokens: of the keyframes.
        questions: their texts.

    Returns:
        By keyframe the right answers by question. Left out is what nobody knows: questions in
        words that are not ours, doubtful answers, keyframes without any object, data sets without
        annotations.

    Raises:
        DataError: a table of annotations is wrong, or the data set has no LiDAR.
        SensorError: a keyframe has no file of the LiDAR.
    """
    programs = {text: program for text in questions if (program := program_of(text)) is not None}
    found: dict[str, dict[str, str]] = {token: {} for token in sample_tokens}
    if not programs or not data.has_annotations:
        return found
    for token in sample_tokens:
        graph = scene_graph(data, token)
        if not graph.objects:
            continue
        index = GraphIndex(graph)
        answers = {text: index.answer(program) for text, program in programs.items()}
        found[token] = {text: answer for text, answer in answers.items() if answer is not None}
    return found


@cache
def _pattern(text: str) -> re.Pattern[str]:
    pieces = _SLOT.split(text)
    # Text, slot, form, text, slot, form, ..., text.
    groups = [f"(?P<{slot}>.+?)" for slot in pieces[1::3]]
    texts = [re.escape(piece) for piece in pieces[::3]]
    return re.compile("".join(map("".join, zip(texts, [*groups, ""], strict=True))))


@cache
def _selections(shape: str, form: str) -> Mapping[str, Selection]:
    """All selections of a shape, by their words."""
    return {format(Phrase(selection), form): selection for selection in _all(shape)}


def _all(shape: str) -> Iterator[Selection]:
    content, _, place = shape.partition("@")
    names = tuple(CLASS_STATUSES) if "C" in content else (None,)
    statuses = STATUSES if "S" in content else (None,)
    directions = DIRECTIONS if place == "ego" else (None,)
    for name, status, direction in product(names, statuses, directions):
        if name is None or status is None or status in CLASS_STATUSES[name]:
            yield Selection(name, status, direction)
