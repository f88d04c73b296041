"""Kinds and directions of questions, against the truth of the templates and wording of others."""

from __future__ import annotations

import random

import pytest

from tailwire.runtime.question_kinds import (
    DIRECTIONS,
    KINDS,
    Topic,
    question_directions,
    question_kind,
    read_key,
)
from tailwire.simulation.questions import scene_graph
from tailwire.simulation.questions.programs import Program, Selection
from tailwire.simulation.questions.scene_graph import CLASS_STATUSES
from tailwire.simulation.questions.templates import TEMPLATE_TYPES, TEMPLATES, Template

#: Kind, question, directions. Wording of NuScenes-QA, and of people.
OTHERS = [
    ("exist", "Are there any moving pedestrians to the front left of me?", "front left"),
    ("exist", "Is there another car that has the same status as the truck?", ""),
    ("exist", "Are any parked cars visible?", ""),
    ("exist", "There is a bus; are there any traffic cones to the back right of it?", ""),
    (
        "exist",
        "Are there any other things of the same status as the bus to the back of me?",
        "back",
    ),
    ("exist", "Are there any trailers to the front of the stopped truck?", ""),
    (
        "exist",
        "There is a thing that is to the front of me; are there stopped things to the back of it?",
        "front",
    ),
    ("exist", "Is there anything behind us?", "back"),
    ("exist", "Do you see a pedestrian ahead of us?", "front"),
    ("count", "How many moving pedestrians are to the front right of me?", "front right"),
    ("count", "What number of other things are there of the same status as the bus?", ""),
    ("count", "How many things are in the same status as the car to the back of me?", "back"),
    ("count", "There is a truck; how many parked cars are to the front of it?", ""),
    ("object", "What is the thing that is to the back right of me?", "back right"),
    ("object", "There is a stopped thing to the front left of the bus; what is it?", ""),
    ("object", "The moving thing to the back of me is what?", "back"),
    ("object", "The thing that has the same status as the bus is what?", ""),
    ("status", "What is the status of the truck to the front left of me?", "front left"),
    ("status", "There is a car to the front right of me; what status is it?", "front right"),
    ("status", "The pedestrian to the back of me is in what status?", "back"),
    ("status", "What is the status of the thing to the back of the bus?", ""),
    ("comparison", "Is the status of the truck the same as the bus?", ""),
    ("comparison", "Are the car and the truck to the front of me in the same status?", "front"),
    ("comparison", "Do the truck and the bus have the same status?", ""),
    ("comparison", "Is the number of cars the same as the number of trucks?", ""),
    ("comparison", "Are there more moving cars than parked trucks?", ""),
    (
        "comparison",
        "Are there fewer buses to the back of me than bicycles to the front of me?",
        "front+back",
    ),
    (
        "comparison",
        "There is a truck to the back of me; is its status the same as the bus?",
        "back",
    ),
    ("other", "What colour is the sky?", ""),
    ("other", "Describe the scene.", ""),
    ("other", "Why did we stop?", ""),
    ("other", "Is it raining?", ""),
    ("other", "", ""),
]


def _drawn(template: Template, rng: random.Random) -> Program:
    """A program that a template can ask, drawn at random."""

    def selection(shape: str) -> Selection:
        content, _, place = shape.partition("@")
        name = rng.choice(tuple(CLASS_STATUSES)) if "C" in content else None
        allowed = scene_graph.STATUSES if name is None else CLASS_STATUSES[name]
        if "S" in content and not allowed:
            name, allowed = "car", CLASS_STATUSES["car"]
        status = rng.choice(allowed) if "S" in content else None
        direction = rng.choice(scene_graph.DIRECTIONS) if place in ("ego", "object") else None
        other = rng.choice(tuple(CLASS_STATUSES))
        statuses = (None, *CLASS_STATUSES[other])
        anchor = Selection(other, rng.choice(statuses)) if place in ("object", "like") else None
        return Selection(name, status, direction, anchor, place == "like")

    parts = [selection(shape) for shape in template.shapes]
    return Program(template.operation, *parts)


def test_all_that_our_templates_can_say_is_understood() -> None:
    rng = random.Random(3)
    wrong: list[str] = []
    for template in TEMPLATES:
        for _ in range(20):
            program = _drawn(template, rng)
            text = template.question(program)
            parts = [part for part in (program.first, program.second) if part is not None]
            named = {part.direction for part in parts if part.anchor is None and part.direction}
            if question_kind(text) != template.template_type:
                wrong.append(f"{template.id}: {question_kind(text)}: {text}")
            assert set(question_directions(text)) == named, text
    assert wrong == []


@pytest.mark.parametrize(("kind", "text", "directions"), OTHERS)
def test_wording_of_others_is_understood(kind: str, text: str, directions: str) -> None:
    assert question_kind(text) == kind
    assert "+".join(question_directions(text)) == directions


@pytest.mark.parametrize(
    ("text", "answers", "kind"),
    [
        ("Wie viele Autos?", ("0", "1", "2"), "count"),
        ("And the truck?", ("moving", "parked"), "status"),
        ("And over there?", ("car", "bus", "pedestrian"), "object"),
        ("More cars than trucks?", ("yes", "no"), "comparison"),
        ("Any cars?", ("yes", "no"), "exist"),
        ("Which way?", ("left", "right"), "other"),
        ("Is there a car?", (), "exist"),
    ],
)
def test_allowed_answers_tell_what_words_do_not(
    text: str, answers: tuple[str, ...], kind: str
) -> None:
    assert question_kind(text, answers) == kind


def test_kinds_and_directions_are_those_of_the_questions() -> None:
    assert set(TEMPLATE_TYPES) == set(KINDS) - {"other"}
    assert tuple(DIRECTIONS) == scene_graph.DIRECTIONS


def test_a_key_is_read_as_it_was_written() -> None:
    for topic in (Topic("count"), Topic("comparison", ("front", "back left"))):
        assert read_key(topic.key) == topic
    assert read_key("riddle@under+front") == Topic("other", ("front",))
