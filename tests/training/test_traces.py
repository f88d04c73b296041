"""Which objects a question is about, against the answers that questions have anyway."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tailwire.kernels.object_tokens import object_tokens
from tailwire.simulation.annotated_objects import annotated_objects
from tailwire.simulation.nuscenes import NuScenes
from tailwire.simulation.questions.generate import make_programs, make_questions
from tailwire.simulation.sketch_drive import make_sketch_drive
from tailwire.training.moments import moments_of
from tailwire.training.traces import Traces, matches_of


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> NuScenes:
    root = make_sketch_drive(tmp_path_factory.mktemp("traces") / "drive", seconds=1.0)
    return NuScenes.open(root)


def test_programs_come_with_the_same_questions(drive: NuScenes) -> None:
    assert [item for item, _ in make_programs(drive)] == list(make_questions(drive))


def test_the_bits_explain_the_answers(drive: NuScenes) -> None:
    traces = Traces(moments_of([Path(drive.dataroot)]))
    kinds = set()
    for item, program in make_programs(drive):
        found = traces(item)
        assert found is not None
        certain, possible = (np.unpackbits(bits, axis=-1) for bits in found)
        assert not (certain & possible).any()
        kinds.add(program.operation)
        if program.operation == "count":
            assert certain[0].sum() == int(item.answer)
        elif program.operation == "exist":
            assert certain[0].any() == (item.answer == "yes")
        elif program.operation in ("class", "status"):
            assert certain[0].sum() == 1
        elif program.operation in ("more", "fewer"):
            one, other = certain[0].sum(), certain[1].sum()
            more = one > other if program.operation == "more" else one < other
            assert more == (item.answer == "yes")
    assert {"count", "exist", "class", "status"} <= kinds


def test_a_question_of_others_has_no_trace(drive: NuScenes) -> None:
    traces = Traces(moments_of([Path(drive.dataroot)]))
    item, _ = next(make_programs(drive))
    foreign = type(item)(item.sample_token, "Is it raining?", "no", "exist", 0, "train")
    assert traces(foreign) is None


def test_tokens_find_their_objects(drive: NuScenes) -> None:
    sample = drive.samples(drive.scenes[0])[0]
    objects = annotated_objects(drive, sample.token)
    given = object_tokens(objects, len(objects) + 2)
    rng = np.random.default_rng(0)
    moved = objects[rng.permutation(len(objects))].copy()
    moved[:, 2:4] += rng.uniform(-0.05, 0.05, (len(objects), 2)).astype(np.float32)
    seen = object_tokens(moved, len(objects))
    seen = np.concatenate([seen, np.zeros_like(seen[:1])])
    found = matches_of({"objects": given, "lidar_top": seen}, objects)
    assert sorted(found["objects"][:-2]) == list(range(len(objects)))
    assert found["objects"][-2:].tolist() == [-1, -1]
    assert found["lidar_top"][-1] == -1
    for row, match in zip(seen[:-1], found["lidar_top"], strict=False):
        assert row[:10].argmax() == objects[match, 0]
        assert np.abs(row[18:20] * 50 - objects[match, 2:4]).max() < 0.1
