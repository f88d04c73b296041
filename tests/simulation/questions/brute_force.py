"""Answers questions from their words and the raw boxes, with plain loops; knows no program.

Only the wording of templates is taken from the code under test; what the words mean is worked out
anew here, for one set of boxes that are all certain.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tailwire.simulation.questions.templates import TEMPLATES

from .crowds import Box

CLASSES = {
    "vehicle.car": "car",
    "vehicle.truck": "truck",
    "vehicle.bus.rigid": "bus",
    "vehicle.bus.bendy": "bus",
    "vehicle.trailer": "trailer",
    "vehicle.construction": "construction vehicle",
    "vehicle.bicycle": "bicycle",
    "vehicle.motorcycle": "motorcycle",
    "human.pedestrian.adult": "pedestrian",
    "human.pedestrian.child": "pedestrian",
    "movable_object.trafficcone": "traffic cone",
    "movable_object.barrier": "barrier",
}
SECTORS = ("front", "front left", "back left", "back", "back right", "front right")
STATUS_WORDS = {
    "vehicle.moving": "moving",
    "vehicle.stopped": "stopped",
    "vehicle.parked": "parked",
    "pedestrian.moving": "moving",
    "pedestrian.standing": "standing",
    "pedestrian.sitting_lying_down": "not standing",
    "cycle.with_rider": "with rider",
    "cycle.without_rider": "without rider",
}


class NotUnique(Exception):
    """What "the ..." means is nothing, or several things."""


@dataclass
class Thing:
    name: str
    status: str
    x: float
    y: float


def things_of(boxes: Sequence[Box]) -> list[Thing]:
    """The boxes that have a class here."""
    found: list[Thing] = []
    for box in boxes:
        if box.category in CLASSES:
            status = STATUS_WORDS[box.attributes[0]] if box.attributes else ""
            found.append(Thing(CLASSES[box.category], status, box.x, box.y))
    return found


def is_seen(box: Box) -> bool:
    return math.hypot(box.x, box.y) <= 50 and box.points >= (2 if box.visibility > "v60" else 5)


def is_ignored(box: Box) -> bool:
    return math.hypot(box.x, box.y) > 60 or (box.points == 0 and box.visibility == "v0-40")


def sector(x: float, y: float) -> str:
    """Sixty degrees each, counted counter-clockwise from the one around the heading."""
    degrees = math.degrees(math.atan2(y, x)) % 360
    return SECTORS[math.ceil((degrees - 30) / 60) % 6]


def answer_from_words(question: str, template_id: str, things: Sequence[Thing]) -> str:
    """Answer one question.

    Raises:
        NotUnique: something that must be unique is not.
    """
    (template,) = (template for template in TEMPLATES if template.id == template_id)
    groups: list[str] = []
    pattern = "^"
    for literal in re.split(r"(\{[ab]:\w+\})", template.text):
        if literal.startswith("{"):
            groups.append(literal[1])
            pattern += "(.+)"
        else:
            pattern += re.escape(literal)
    match = re.match(pattern + "$", question)
    assert match, question
    meant = [members(words, things) for words in match.groups()]
    first = meant[groups.index("a")]
    if template.template_type == "exist":
        return "yes" if len(first) > 0 else "no"
    if template.template_type == "count":
        assert len(first) <= 10, "more than the largest answer must not be asked about"
        return str(len(first))
    if template.template_type == "object":
        return only(first).name
    if template.template_type == "status":
        return only(first).status
    second = meant[groups.index("b")]
    if template.operation == "same status":
        return "yes" if only(first).status == only(second).status else "no"
    if template.operation == "same class":
        return "yes" if only(first).name == only(second).name else "no"
    difference = len(first) - len(second)
    truth = {"more": difference > 0, "fewer": difference < 0, "equal": difference == 0}
    return "yes" if truth[template.operation] else "no"


def only(things: Sequence[Thing]) -> Thing:
    if len(things) != 1:
        raise NotUnique
    return things[0]


def members(words: str, things: Sequence[Thing]) -> list[Thing]:
    """The things that a noun phrase means."""
    words = re.sub(r"^(a|an|the|another) ", "", words)
    words = re.sub(r"^other ", "", words)
    found = list(things)
    if relation := re.search(r" to our ([a-z ]+)$", words):
        found = [thing for thing in found if sector(thing.x, thing.y) == relation[1]]
        words = words[: relation.start()]
    elif relation := re.search(r" to the ([a-z ]+?) of the ([a-z ]+)$", words):
        anchor = only(members(relation[2], things))
        found = [
            thing
            for thing in found
            if thing is not anchor and sector(thing.x - anchor.x, thing.y - anchor.y) == relation[1]
        ]
        words = words[: relation.start()]
    elif likeness := re.search(r" in the same state as the ([a-z ]+)$", words):
        anchor = only(members(likeness[1], things))
        found = [t for t in found if t is not anchor and t.status == anchor.status]
        words = words[: likeness.start()]
    for behind, status in (
        (" with a rider", "with rider"),
        (" without a rider", "without rider"),
        (" not standing upright", "not standing"),
    ):
        if words.endswith(behind):
            found = [thing for thing in found if thing.status == status]
            words = words.removesuffix(behind)
    for status in ("moving", "stopped", "parked", "standing"):
        if words.startswith(f"{status} "):
            found = [thing for thing in found if thing.status == status]
            words = words.removeprefix(f"{status} ")
    if words in ("thing", "things"):
        return found
    singular = {"buses": "bus"}.get(words, words if words == "bus" else words.rstrip("s"))
    assert singular in CLASSES.values(), words
    return [thing for thing in found if thing.name == singular]
