"""Questions that a caller prepares and keeps: the same answers as those of standing questions."""

from __future__ import annotations

import pytest

from tailwire.runtime.errors import ConfigError
from tailwire.runtime.questions import Question

from ..fakes import QUESTIONS, MakeRuntime, close, frames


def test_prepared_questions_are_answered_as_standing_ones(make: MakeRuntime) -> None:
    rt = make().runtime
    asked = [rt.prepare(Question(text, answers)) for text, answers in QUESTIONS]
    assert close(rt.answer(asked, frames(5)), rt.step())
    assert rt.answer([]) == []


def test_other_sensors_need_no_new_heads_and_encode_nothing_again(make: MakeRuntime) -> None:
    fake = make(watch=False)
    rt = fake.runtime
    asked = [rt.prepare(text, answers) for text, answers in QUESTIONS]
    rt.answer(asked, frames(5))
    encoded = {name: engine.frames for name, engine in fake.engines.items()}
    rt.switch_sensors(["lidar_top"])
    (first, *_) = rt.answer(asked)
    assert list(first.sensors) == ["lidar_top"]
    assert first.sensors["lidar_top"].reused
    assert {name: engine.frames for name, engine in fake.engines.items()} == encoded


def test_questions_of_another_depth_are_refused(make: MakeRuntime) -> None:
    rt = make(watch=False, tail_blocks=4).runtime
    asked = rt.prepare("Is there a car?", ["yes", "no"])
    rt.set_tail(2)
    with pytest.raises(ConfigError, match="tail depth"):
        rt.answer([asked], frames(5))
