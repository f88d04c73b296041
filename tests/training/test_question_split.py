"""Scenes that are held out anew, and fewer questions a keyframe."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

import pytest

from tailwire.runtime.errors import ConfigError
from tailwire.simulation.questions.items import QaItem
from tailwire.training.moments import TrainingMoment
from tailwire.training.question_split import QuestionSplit, split_anew

CONDITIONS = ("day", "night")
DRIVES = cast("Any", object())


def moments_of(scenes: int = 10, keyframes: int = 3) -> list[TrainingMoment]:
    """Scenes by day and at night in turn."""
    return [
        TrainingMoment(DRIVES, f"{scene}-{at}", f"scene-{scene:04}", "train", CONDITIONS[scene % 2])
        for scene in range(scenes)
        for at in range(keyframes)
    ]


def items_of(moments: list[TrainingMoment], each: int = 6) -> list[QaItem]:
    """Every fifth scene is held out by the files."""
    found = [
        QaItem(
            moment.token,
            f"question {number}?",
            "yes",
            "exist",
            0,
            "val" if int(moment.scene[-4:]) % 5 == 4 else "train",
        )
        for moment in moments
        for number in range(each)
    ]
    return sorted(found, key=lambda item: item.split)


def scenes_of(items: list[QaItem], part: str) -> set[int]:
    return {int(item.sample_token.split("-")[0]) for item in items if item.split == part}


def test_the_split_of_the_files_is_left_alone() -> None:
    moments = moments_of()
    items = items_of(moments)
    assert split_anew(moments, items, QuestionSplit(), 0) == items
    few = split_anew(moments[:15], items, QuestionSplit(), 0)
    assert few == [item for item in items if int(item.sample_token.split("-")[0]) < 5]


@pytest.mark.parametrize(("some", "of"), [(1, 5), (2, 5), (1, 2), (3, 4)])
def test_so_many_scenes_of_each_condition_are_held_out(some: int, of: int) -> None:
    moments = moments_of(scenes=40)
    made = split_anew(moments, items_of(moments), QuestionSplit((some, of)), 0)
    held, learned = scenes_of(made, "val"), scenes_of(made, "train")
    assert not held & learned and len(held | learned) == 40
    assert Counter(scene % 2 for scene in held) == {0: 20 * some // of, 1: 20 * some // of}
    assert [item.split for item in made] == sorted(item.split for item in made)
    assert len(made) == 40 * 3 * 6


def test_fewer_questions_a_keyframe() -> None:
    moments = moments_of()
    split = QuestionSplit((2, 5), learned=4, asked=2)
    items = items_of(moments)
    made = split_anew(moments, items, split, 0)
    by_keyframe = Counter((item.split, item.sample_token) for item in made)
    assert {count for (part, _), count in by_keyframe.items() if part == "train"} == {4}
    assert {count for (part, _), count in by_keyframe.items() if part == "val"} == {2}
    assert made == split_anew(moments, items, split, 0)
    assert made != split_anew(moments, items, split, 1)
    # Not always the first ones of a keyframe.
    assert {item.question for item in made} == {f"question {number}?" for number in range(6)}
    assert split.as_json() == {
        "held_out_scenes": "2 of 5",
        "questions_learned": 4,
        "questions_asked": 2,
    }


def test_too_few_scenes_are_refused() -> None:
    moments = moments_of(scenes=4)
    with pytest.raises(ConfigError, match="of 2 scenes by day, 1 of 5 cannot be held out"):
        split_anew(moments, items_of(moments), QuestionSplit((1, 5)), 0)
