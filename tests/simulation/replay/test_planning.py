"""Which questions of a file a drive is asked."""

from __future__ import annotations

import pytest

from tailwire.runtime.errors import DataError
from tailwire.runtime.questions import NUSCENES_QA_ANSWERS
from tailwire.simulation.replay.planning import planned_by_sample, select

from .fake_drive import item

ITEMS = [
    *(item(f"val {n}", sample="a", split="val") for n in range(4)),
    *(item(f"train {n}", sample="a", split="train") for n in range(3)),
    item("other", sample="b", split="val"),
    item("unknown", sample="of another data set", split="val"),
]


def texts(split: str, limit: int | None = None, tokens: tuple[str, ...] = ("a", "b")) -> list[str]:
    return [one.question for one in select(ITEMS, tokens, split=split, limit=limit).items]


def test_questions_are_those_of_the_split_and_of_the_keyframes() -> None:
    assert texts("val") == ["val 0", "val 1", "val 2", "val 3", "other"]
    assert texts("train") == ["train 0", "train 1", "train 2"]
    assert len(texts("all")) == 8
    assert texts("val", tokens=("b",)) == ["other"]


def test_what_is_left_out_is_counted() -> None:
    chosen = select(ITEMS, ("a",), split="val", limit=3)
    assert (len(chosen.items), chosen.over_limit) == (3, 1)
    assert (chosen.elsewhere, chosen.other_split) == (2, 3)


def test_a_limit_takes_questions_from_the_whole_of_a_keyframe() -> None:
    assert texts("val", limit=2) == ["val 0", "val 2", "other"]
    assert texts("all", limit=100) == texts("all")


@pytest.mark.parametrize(
    ("split", "tokens", "said"),
    [("test", ("a",), "train, val"), ("val", ("c",), "none of its 6 questions")],
)
def test_nothing_to_ask_is_an_error(split: str, tokens: tuple[str, ...], said: str) -> None:
    with pytest.raises(DataError, match=said):
        select(ITEMS, tokens, split=split)
    with pytest.raises(DataError, match="no question"):
        select([], tokens, split="all")


def test_questions_get_the_answers_of_nuscenes_qa_and_their_guesses() -> None:
    planned = planned_by_sample(ITEMS[3:8], {"blind": ["1", "2", "3", "4", "5"]})
    assert [one.guesses["blind"] for one in planned["a"]] == ["1", "2", "3", "4"]
    assert planned["b"][0].guesses == {"blind": "5"}
    assert planned["b"][0].question.answers == NUSCENES_QA_ANSWERS
    assert planned["b"][0].expected == "yes"
