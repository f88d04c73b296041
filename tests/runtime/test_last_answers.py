"""Answers that are given again, and how long they may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tailwire.runtime.last_answers import FrameFacts, LastAnswers
from tailwire.runtime.plans import Answer, Plan, SensorUse
from tailwire.runtime.questions import Question

QUESTION = Question("Is there a bus?", ("yes", "no"))
PLAN = Plan(sensors={"cam": "run"}, tail_blocks=4, precision="int8", flops=1)
MS = 1_000_000


def facts(newest_ms: int, **changes: Any) -> FrameFacts:
    given: dict[str, Any] = {
        "newest_ns": newest_ms * MS,
        "plan": PLAN,
        "dropped": {},
        "timings_ms": {"tail": 1.0},
        "flops": 5,
        "cut": None,
        "late_ms": None,
        "pack": "p 1",
        "pack_trained": True,
    }
    return FrameFacts(**{**given, **changes})


def answer(newest_ms: int, *stamps_ms: int) -> Answer:
    uses = {
        f"cam_{n}": SensorUse(stamp_ns=stamp * MS, age_ms=newest_ms - stamp, reused=False)
        for n, stamp in enumerate(stamps_ms)
    }
    return facts(newest_ms).answer(QUESTION, "yes", 0.8, uses)


def test_an_answer_is_given_again_as_one_of_the_new_frame_with_its_true_ages() -> None:
    last = LastAnswers()
    last.note(QUESTION, answer(1000, 1000, 950), 1000 * MS)
    again = last.again(QUESTION, facts(1100, cut="no time", late_ms=3.0, dropped={"x": "y"}), 1000)
    assert (again.text, again.confidence, again.held) == ("yes", 0.8, True)
    assert {name: use.age_ms for name, use in again.sensors.items()} == {"cam_0": 100, "cam_1": 150}
    assert all(use.reused for use in again.sensors.values())
    assert again.stamp_ns == 950 * MS
    assert (again.cut, again.late_ms, again.dropped) == ("no time", 3.0, {"x": "y"})


def test_its_oldest_frame_decides_how_long_it_may_be_given() -> None:
    last = LastAnswers()
    last.note(QUESTION, answer(1000, 1000, 600), 1000 * MS)
    assert last.age_ms(QUESTION, 1600 * MS, 1000) == pytest.approx(1000)
    assert last.age_ms(QUESTION, 1601 * MS, 1000) is None
    # Time that was set back makes it an answer of the future.
    assert last.age_ms(QUESTION, 500 * MS, 1000) is None


def test_frames_that_were_carried_tell_of_the_time_they_were_carried_to() -> None:
    last, given = LastAnswers(), answer(1000, 1000, 100)
    aged = given.sensors["cam_1"].model_copy(update={"carried": True})
    moved = given.model_copy(update={"sensors": {**given.sensors, "cam_1": aged}})
    last.note(QUESTION, given, 1000 * MS)
    assert last.age_ms(QUESTION, 1200 * MS, 1000) is None
    last.note(QUESTION, moved, 1000 * MS)
    assert last.age_ms(QUESTION, 1200 * MS, 1000) == pytest.approx(200)
    again = last.again(QUESTION, facts(1200), 1000)
    assert (again.sensors["cam_1"].age_ms, again.sensors["cam_1"].carried) == (1100, True)
    assert again.stamp_ns == 100 * MS


def test_an_answer_from_no_sensor_ages_since_it_was_given() -> None:
    last = LastAnswers()
    last.note(QUESTION, answer(1000), 1000 * MS)
    assert last.age_ms(QUESTION, 1200 * MS, 1000) == pytest.approx(200)


def test_where_there_is_nothing_to_give_the_answer_is_empty_and_says_so() -> None:
    last = LastAnswers()
    for newest_ms in (1000, 9000):
        empty = last.again(QUESTION, facts(newest_ms, cut="no time"), 1000)
        assert (empty.text, empty.confidence, empty.held, empty.stamp_ns) == ("", 0.0, False, None)
        assert empty.cut is not None
        assert empty.cut.startswith("no time; not answered")
        last.note(QUESTION, answer(1000, 1000), 1000 * MS)
    last.forget()
    assert last.age_ms(QUESTION, 1000 * MS, 1000) is None


def test_memory_of_answers_is_bounded_and_loses_the_oldest() -> None:
    last = LastAnswers()
    questions = [Question(f"Is there a thing {n}?") for n in range(1100)]
    for question in questions:
        last.note(question, answer(1000, 1000), 1000 * MS)
    kept = [q for q in questions if last.age_ms(q, 1000 * MS, 1000) is not None]
    assert kept == questions[-1024:]


@dataclass(frozen=True)
class Share:
    mean: float


class Fading:
    """Right less often the older the tokens were, and the longer ago the answer was given."""

    def held(
        self,
        key: str,
        condition: str | None,
        ages_ms: dict[str, float],
        held_ms: float,
        depth: int,
        precision: str,
    ) -> Share:
        assert (key, condition, depth, precision) == ("exist", "night", 4, "int8")
        return Share(1 - max(ages_ms.values()) / 1000 - held_ms / 500)


def test_what_it_is_worth_depends_on_its_frames_and_on_the_time_since() -> None:
    last = LastAnswers()
    last.note(QUESTION, answer(1000, 1000, 900), 1000 * MS)
    share = last.share(QUESTION, "exist", "night", 1200 * MS, Fading())
    assert share == pytest.approx(1 - 0.1 - 0.4)
    assert last.share(QUESTION, "exist", "night", 1200 * MS, object()) is None
    assert last.share(Question("Else?"), "exist", "night", 1200 * MS, Fading()) is None
