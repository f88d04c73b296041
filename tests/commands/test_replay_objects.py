"""`tailwire replay --sensors objects`: annotations take part where they are named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tailwire.runtime.frames import SensorFrame
from tailwire.runtime.runtime import Runtime
from tailwire.simulation.annotated_objects import annotated_objects
from tailwire.simulation.nuscenes import NuScenes

from .conftest import Run


@pytest.fixture
def replay(run: Run, drive: Path, model: Path, objects_pack: Path) -> Run:
    words = [
        "--model",
        model,
        "--precision",
        "fp32",
        "--pack",
        objects_pack,
        "--out",
        "out",
        "--no-bag",
    ]
    question = ["--question", "Is there a bus?", "--answers", "yes,no"]
    return lambda *more: run("replay", drive, *words, *question, "--json", *more)


def test_annotations_are_played_where_they_are_named(
    replay: Run, drive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed: list[SensorFrame] = []
    push = Runtime.push
    monkeypatch.setattr(Runtime, "push", lambda rt, frame: pushed.append(frame) or push(rt, frame))
    found = replay("--sensors", "objects").json
    assert list(found["sensors"]) == ["objects"]
    assert found["complete"] and found["moments_answered"] == 2
    data = NuScenes.open(drive)
    samples = data.samples(data.scenes[0])
    assert [frame.stamp_ns for frame in pushed] == [sample.stamp_ns for sample in samples]
    for frame, sample in zip(pushed, samples, strict=True):
        expected = annotated_objects(data, sample.token)
        assert len(expected)
        np.testing.assert_array_equal(np.asarray(frame.payload), expected)
    for line in Path("out/answers.jsonl").read_text().splitlines():
        answer = json.loads(line)
        assert list(answer["sensors"]) == ["objects"]
        assert answer["dropped"] == {}


def test_sensors_are_those_of_the_pack(replay: Run) -> None:
    error = replay("--sensors", "objects,radar").error()
    assert "radar" in error and "objects" in error


def test_ground_truth_is_left_out_where_nobody_asked_for_it(replay: Run) -> None:
    error = replay().error()
    assert "none of the sensors that are switched on" in error


def test_boxes_of_a_bag_are_played_where_they_are_named(
    run: Run, drive: Path, model: Path, objects_pack: Path
) -> None:
    pytest.importorskip("rosbags", reason="bags need the package rosbags")
    assert run("bag", drive, "--objects", "--out", "bag").code == 0
    words = ["--model", model, "--precision", "fp32", "--pack", objects_pack, "--no-bag", "--json"]
    words += ["--question", "Is there a bus?", "--answers", "yes,no"]
    found = run("replay", "bag", *words, "--out", "named", "--sensors", "objects").json
    assert found["complete"] and found["moments_answered"] == 2
    from_bag = Path("named/answers.jsonl").read_text().splitlines()
    run("replay", drive, *words, "--out", "scene", "--sensors", "objects")
    from_scene = Path("scene/answers.jsonl").read_text().splitlines()
    for one, other in zip(from_bag, from_scene, strict=True):
        first, second = json.loads(one), json.loads(other)
        assert list(first["sensors"]) == ["objects"]
        assert (first["text"], first["confidence"]) == (second["text"], second["confidence"])
