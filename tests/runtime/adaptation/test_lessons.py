"""Right answers taught to a running runtime: what is kept, what is learned from them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tailwire.runtime.adaptation.lessons import Lessons
from tailwire.runtime.errors import ConfigError, SensorError
from tailwire.runtime.perception import SensorTokens
from tailwire.runtime.questions import Question

from ...fakes import (
    MODALITIES,
    QUESTIONS,
    SENSORS,
    SPECS,
    WIDTH,
    FakeRuntime,
    connection_spec,
    fake_runtime,
    frame,
    frames,
    manifest_for,
)
from .lidar_task import CAMERAS, add_lidar

if TYPE_CHECKING:
    from ...built_models import TinyModels

TEXT, YES_NO = QUESTIONS[0]


@pytest.fixture
def fake(tiny: TinyModels, tmp_path: Path) -> Iterator[FakeRuntime]:
    spec = connection_spec("conditioned")
    given = {"sensors": CAMERAS, "tail_blocks": 4, "checkpoint": tiny.folder("llama")}
    made = fake_runtime(tiny.model("llama"), tmp_path, spec, **given)
    yield made
    # The language model is shared, so the runtime is not closed.
    made.perception.close()


def test_a_sensor_is_learned_from_what_was_taught(fake: FakeRuntime) -> None:
    pytest.importorskip("torch", reason="adaptation is in torch")
    rt = fake.runtime
    rt.watch(TEXT, YES_NO)
    # Two clouds, one for each answer, behind cameras that see something new each time.
    for number in range(60):
        stamp_ms = 1000.0 * number
        rt.push(frame("lidar_top", stamp_ms, seed=number % 2))
        rt.step([frame(name, stamp_ms, seed=number) for name in CAMERAS])
        assert rt.teach(TEXT, YES_NO[number % 2]) == number + 1
    result = rt.adapt(add_lidar()).result(60)
    assert result.outcome == "swapped", result.reason
    assert result.accuracy is not None
    assert result.accuracy.new_after == 1
    # Blocks of twenty seconds.
    assert result.train_questions + result.held_out_questions == 60
    assert set(result.held_out_blocks) < {"0", "1", "2"}
    for number in (60, 61):
        rt.push(frame("lidar_top", 1000.0 * number, seed=number % 2))
        answers = rt.step([frame(name, 1000.0 * number, seed=number) for name in CAMERAS])
        assert [one.text for one in answers] == [YES_NO[number % 2]]
    rt.forget_lessons()
    with pytest.raises(ConfigError, match=r"no tokens|scenes or time blocks"):
        rt.adapt(add_lidar(add=(), drop=("lidar_top",)))


def test_all_sensors_are_kept_and_questions_share_a_moment(fake: FakeRuntime) -> None:
    rt = fake.runtime
    rt.step(frames(100))
    assert rt.teach(TEXT, "yes", YES_NO, block="a scene") == 1
    assert rt.teach("How many?", "3", block="a scene") == 2
    rt.step(frames(200, seed=1))
    assert rt.teach(TEXT, "no", YES_NO) == 3
    assert rt._lessons is not None
    data = rt._lessons.data(rt.pack)
    assert set(data.tokens) == set(SENSORS)
    assert list(data.blocks) == ["a scene", "0"]
    assert [one.moment for one in data.questions] == [0, 0, 1]
    assert "car" in data.questions[1].answers
    for sensor, tokens in data.tokens.items():
        spec = SPECS[MODALITIES[sensor]]
        assert tokens.shape == (2, spec.tokens, spec.width)
        held = rt._parts.perception.tokens(sensor)
        assert held is not None
        np.testing.assert_array_equal(tokens[1], held.tokens.astype(np.float16))
    data.check(rt.pack, SENSORS)


def test_wrong_lessons_are_refused(fake: FakeRuntime) -> None:
    rt = fake.runtime
    with pytest.raises(SensorError, match="no sensor has a frame"):
        rt.teach(TEXT, "yes", YES_NO)
    rt.step(frames())
    with pytest.raises(ConfigError, match="'maybe' is not among"):
        rt.teach(TEXT, "maybe", YES_NO)
    # A standing question's answers count where none are given.
    rt.watch(TEXT, YES_NO)
    with pytest.raises(ConfigError, match="'car' is not among the allowed ones: yes, no"):
        rt.teach(TEXT, "car")
    with pytest.raises(ConfigError, match="is not among"):
        rt.teach("Another question?", "a thing that nobody knows")
    assert rt.teach(TEXT, "no") == 1


def test_a_copy_stays_and_the_oldest_moments_are_forgotten(tiny: TinyModels) -> None:
    pack = manifest_for(tiny.model("llama").config, connection_spec())
    lessons = Lessons(most_moments=2)
    copies: list[Lessons] = []
    for number in range(3):
        tokens = np.full((SPECS["lidar"].tokens, WIDTH), number, np.float32)
        seen = {"lidar_top": SensorTokens(frame("lidar_top", number), tokens)}
        lessons.add(Question(TEXT, YES_NO), "yes", seen, f"{number}")
        copies.append(lessons.copy())
        lessons.add(Question(TEXT, YES_NO), "no", seen, f"{number}")
    assert [len(one) for one in copies] == [1, 3, 3]
    assert len(lessons) == 4
    assert list(lessons.data(pack).blocks) == ["1", "2"]
    assert list(copies[1].data(pack).blocks) == ["0", "1"]
