"""Programs on small graphs: what they answer, and that nothing doubtful ever changes it."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwire.simulation.questions.candidates import Candidates
from tailwire.simulation.questions.programs import GraphIndex, Operation, Program, Selection
from tailwire.simulation.questions.scene_graph import (
    CLASS_STATUSES,
    SceneGraph,
    SceneObject,
)
from tailwire.simulation.questions.templates import TEMPLATES

BUS = SceneObject("bus", "bus", "stopped", (10.0, 0.0))
CAR = SceneObject("car", "car", "moving", (20.0, 1.0))
VAN = SceneObject("van", "car", "parked", (5.0, 4.0))
CONE = SceneObject("cone", "traffic cone", None, (-5.0, 0.0))
MAYBE = SceneObject("maybe", "car", "moving", (30.0, 1.0), doubtful=True)
UNKNOWN = SceneObject("unknown", "truck", None, (8.0, -1.0))


def ask(
    *objects: SceneObject, op: Operation, first: Selection, second: Selection | None = None
) -> str | None:
    index = GraphIndex(SceneGraph("token", objects))
    return index.answer(Program(op, first, second))


def test_a_doubtful_object_makes_open_what_depends_on_it() -> None:
    cars = Selection("car")
    assert ask(CAR, VAN, op="count", first=cars) == "2"
    assert ask(CAR, VAN, MAYBE, op="count", first=cars) is None
    assert ask(CAR, VAN, MAYBE, op="exist", first=cars) == "yes"
    assert ask(BUS, MAYBE, op="exist", first=cars) is None
    assert ask(BUS, MAYBE, op="exist", first=Selection("truck")) == "no"
    assert ask(CAR, MAYBE, op="status", first=cars) is None
    assert ask(VAN, MAYBE, op="status", first=Selection("car", direction="front left")) == "parked"
    assert ask(BUS, MAYBE, op="more", first=Selection("bus"), second=cars) is None
    assert ask(BUS, MAYBE, op="more", first=Selection("truck"), second=cars) == "no"


def test_an_unknown_status_is_neither_there_nor_absent() -> None:
    moving = Selection(None, "moving")
    assert ask(UNKNOWN, op="exist", first=moving) is None
    assert ask(UNKNOWN, CAR, op="exist", first=moving) == "yes"
    assert ask(UNKNOWN, CAR, op="count", first=moving) is None
    assert ask(CONE, op="exist", first=moving) == "no"
    assert ask(UNKNOWN, op="status", first=Selection("truck")) is None
    assert ask(UNKNOWN, op="exist", first=Selection(None, "with rider")) == "no"


def test_relations_to_an_object_leave_that_object_out() -> None:
    ahead = Selection(None, direction="front", anchor=Selection("bus"))
    assert ask(BUS, CAR, CONE, op="class", first=ahead) == "car"
    behind = Selection("traffic cone", direction="back", anchor=Selection("car", "moving"))
    assert ask(BUS, CAR, VAN, CONE, op="exist", first=behind) == "yes"
    assert (
        ask(CAR, VAN, op="count", first=Selection("car", direction="back", anchor=behind)) is None
    )
    alike = Selection(None, anchor=Selection("bus"), like_anchor=True)
    assert ask(BUS, CAR, op="count", first=alike) == "0"
    assert ask(BUS, replace(CAR, status="stopped"), op="count", first=alike) == "1"


def test_comparisons() -> None:
    cars, buses, cones = Selection("car"), Selection("bus"), Selection("traffic cone")
    scene = (BUS, CAR, VAN, CONE)
    assert ask(*scene, op="more", first=cars, second=buses) == "yes"
    assert ask(*scene, op="fewer", first=cars, second=buses) == "no"
    assert ask(*scene, op="more", first=cones, second=buses) == "no"
    assert ask(*scene, op="equal", first=cones, second=buses) == "yes"
    assert ask(*scene, op="equal", first=cars, second=buses) == "no"
    moving, parked = Selection(None, "moving"), Selection(None, "parked")
    assert ask(*scene, op="same class", first=moving, second=parked) == "yes"
    assert ask(*scene, op="same status", first=moving, second=buses) == "no"
    assert ask(*scene, op="same status", first=moving, second=cars) is None
    assert ask(*scene, op="same status", first=buses, second=buses) is None


def test_more_than_ten_are_not_counted() -> None:
    cones = [replace(CONE, token=str(n), position=(-5.0, float(n))) for n in range(14)]
    assert ask(*cones[:10], op="count", first=Selection("traffic cone")) == "10"
    assert ask(*cones, op="count", first=Selection("traffic cone")) is None
    doubtful = replace(CONE, token="d", doubtful=True)
    assert ask(*cones[:10], doubtful, op="count", first=Selection("traffic cone")) is None
    assert ask(*cones[:9], doubtful, op="count", first=Selection("traffic cone")) is None


@st.composite
def graphs(draw: st.DrawFn) -> SceneGraph:
    objects: list[SceneObject] = []
    for number in range(draw(st.integers(1, 9))):
        name = draw(st.sampled_from(["car", "bus", "pedestrian", "bicycle", "barrier"]))
        status = draw(st.sampled_from([*CLASS_STATUSES[name], None]))
        place = draw(st.integers(-40, 40)), draw(st.integers(-40, 40))
        position = float(place[0]), float(place[1])
        objects.append(SceneObject(str(number), name, status, position, draw(st.booleans())))
    return SceneGraph("token", tuple(objects))


@settings(max_examples=60, deadline=None)
@given(graph=graphs(), data=st.data())
def test_settling_what_is_doubtful_leaves_each_answer(
    graph: SceneGraph, data: st.DataObject
) -> None:
    """Doubtful objects turn out to be there, or not; statuses turn out to be any."""
    settled: list[SceneObject] = []
    for thing in graph.objects:
        if thing.doubtful and not data.draw(st.booleans()):
            continue
        statuses = CLASS_STATUSES[thing.name]
        status = thing.status or (data.draw(st.sampled_from(statuses)) if statuses else None)
        settled.append(replace(thing, status=status, doubtful=False))
    truth = GraphIndex(SceneGraph("token", tuple(settled)))
    index = GraphIndex(graph)
    candidates = Candidates(index, random.Random(data.draw(st.integers(0, 1000))))
    for template in TEMPLATES:
        for _ in range(4):
            program = candidates.draw(template)
            answer = None if program is None else index.answer(program)
            if program is not None and answer is not None:
                assert truth.answer(program) == answer, template.question(program)


@pytest.mark.parametrize("kind", ["exist", "count", "object", "status", "comparison"])
def test_an_empty_graph_is_no_error(kind: str) -> None:
    index = GraphIndex(SceneGraph("token", ()))
    candidates = Candidates(index, random.Random(1))
    for template in TEMPLATES:
        if template.template_type == kind:
            program = candidates.draw(template)
            answer = None if program is None else index.answer(program)
            assert answer in (None, "no", "yes", "0")
