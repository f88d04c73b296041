"""An examiner between a player and a runtime: sets of sensors, heads that are kept, warming up."""

from __future__ import annotations

from collections import Counter

import numpy as np

from tailwire.runtime.questions import NUSCENES_QA_ANSWERS, Question
from tailwire.simulation.replay.asking import PlannedQuestion, QuestionPlan
from tailwire.simulation.replay.examiner import WARM_UP, Examiner, HeadShelf
from tailwire.simulation.replay.player import Player

from .fake_drive import SENSORS, FakeDrive
from .fake_examinee import FakeExaminee

SETS = {"both": SENSORS, "lidar": ("lidar_top",)}


def ask(text: str) -> Question:
    return Question(text, NUSCENES_QA_ANSWERS)


def test_every_set_is_asked_every_question_of_a_moment() -> None:
    runtime = FakeExaminee(reply=lambda text, sensors: f"{text} {len(sensors)}")
    examiner = Examiner(runtime, SETS, HeadShelf(0, {}))
    questions = [ask("a longer one"), ask("b")]
    for question in questions:
        examiner.watch(question)
    assert [one.text for one in examiner.step()] == ["a longer one 2", "b 2"]
    assert {
        name: [found[question].text for question in questions]
        for name, found in examiner.answers.items()
    } == {"both": ["a longer one 2", "b 2"], "lidar": ["a longer one 1", "b 1"]}
    assert runtime.asked == [(sensors, ("b", "a longer one")) for sensors in SETS.values()]


def test_a_head_runs_once_as_long_as_its_question_comes_again() -> None:
    runtime = FakeExaminee()
    shelf = HeadShelf(1 << 20, {ask("twice"): 2, ask("once"): 1})
    examiner = Examiner(runtime, SETS, shelf)
    for texts in (["twice", "once"], [], ["twice"]):
        keys = [examiner.watch(ask(text)) for text in texts]
        if keys:
            examiner.step()
        for key in keys:
            examiner.unwatch(key)
    assert runtime.heads == ["twice", "once"]
    assert examiner.heads == 2
    assert shelf.nbytes == 0


def test_heads_beyond_the_memory_run_again_and_the_newest_stay() -> None:
    runtime = FakeExaminee()
    size = runtime.prepare(ask("q0")).head.nbytes
    runtime.heads.clear()
    texts = ["q0", "q1", "q2"]
    shelf = HeadShelf(2 * size, Counter({ask(text): 9 for text in texts}))
    examiner = Examiner(runtime, SETS, shelf)
    for text in texts:
        examiner.unwatch(examiner.watch(ask(text)))
    assert shelf.nbytes == 2 * size
    runtime.heads.clear()
    for text in ("q2", "q1", "q0"):
        examiner.watch(ask(text))
    assert runtime.heads == ["q0"]


def test_a_warm_up_has_the_sensors_that_want_earlier_frames() -> None:
    runtime = FakeExaminee()
    examiner = Examiner(runtime, SETS, HeadShelf(0, {}), warmed=["lidar_top"])
    drive = FakeDrive()
    plan = QuestionPlan(
        by_sample={
            "sample-1": [PlannedQuestion(WARM_UP)],
            "sample-2": [PlannedQuestion(ask("now"))],
        }
    )
    steps = list(Player(drive, examiner, plan, SENSORS).play())
    assert [step.moment.sample_token for step in steps] == ["sample-1", "sample-2"]
    assert runtime.asked == [
        (("lidar_top",), (WARM_UP.text,)),
        (SENSORS, ("now",)),
        (("lidar_top",), ("now",)),
    ]
    # The answers of the warm-up are nobody's.
    assert examiner.answers["both"].keys() == {ask("now")}
    assert np.isclose(steps[1].time_s, 1.0)
