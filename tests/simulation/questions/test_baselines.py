"""Baselines find what the words give away, and nothing where they give nothing away."""

from __future__ import annotations

import random

import pytest

from tailwire.runtime.errors import DataError
from tailwire.simulation.questions.baselines import (
    MAJORITY,
    MAJORITY_PER_TEMPLATE,
    SAME_TEXT,
    WORDS,
    Baselines,
    blind_score,
)
from tailwire.simulation.questions.items import QaItem
from tailwire.simulation.questions.scores import score

COLOURS = ("red", "green", "blue", "grey", "white", "black")
THINGS = ("car", "truck", "bus", "trailer")


def item(question: str, answer: str, kind: str = "exist", hop: int = 0) -> QaItem:
    return QaItem("token", question, answer, kind, hop, "train")


def talkative(count: int, seed: int) -> list[QaItem]:
    """The colour decides the answer, amid words that do not."""
    rng = random.Random(seed)
    found: list[QaItem] = []
    for _ in range(count):
        colour, noise = rng.choice(COLOURS), rng.randrange(1000)
        text = f"Is the {colour} {rng.choice(THINGS)} number {noise} there?"
        found.append(item(text, "yes" if colour in COLOURS[:3] else "no"))
    return found


def silent(count: int, seed: int) -> list[QaItem]:
    """Nothing decides the answer."""
    rng = random.Random(seed)
    return [
        item(f"Is the {rng.choice(COLOURS)} {rng.choice(THINGS)} there?", rng.choice(("yes", "no")))
        for _ in range(count)
    ]


def accuracy(name: str, train: list[QaItem], test: list[QaItem]) -> float:
    found = Baselines.fit(train).scores(test)[name].overall.accuracy
    assert found is not None
    return found


def test_words_that_tell_are_found() -> None:
    train, test = talkative(1500, 1), talkative(500, 2)
    assert accuracy(WORDS, train, test) > 0.95
    assert accuracy(MAJORITY, train, test) < 0.6


def test_words_that_do_not_tell_give_chance() -> None:
    train, test = silent(1500, 1), silent(1000, 2)
    for name in (MAJORITY, MAJORITY_PER_TEMPLATE, SAME_TEXT, WORDS):
        assert 0.42 < accuracy(name, train, test) < 0.58


def test_majorities_by_template_type_hop_and_text() -> None:
    train = [
        *[item("a", "no")] * 5,
        *[item("b", "yes")] * 3,
        *[item("c", "3", "count", 1)] * 2,
        item("d", "yes"),
    ]
    guesses = Baselines.fit(train).predict(
        [item("b", ""), item("c", "", "count", 1), item("d", ""), item("new", "", "status", 1)]
    )
    assert guesses[MAJORITY] == ["no", "no", "no", "no"]
    assert guesses[MAJORITY_PER_TEMPLATE] == ["no", "3", "no", "no"]
    assert guesses[SAME_TEXT] == ["yes", "3", "no", "no"]


def test_fitting_twice_gives_the_same() -> None:
    train, test = silent(400, 1), silent(100, 2)
    assert Baselines.fit(train).predict(test) == Baselines.fit(train).predict(test)


def test_fitting_on_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="no question"):
        Baselines.fit([])


def test_predicting_nothing_gives_nothing() -> None:
    baselines = Baselines.fit(silent(10, 1))
    assert all(found == [] for found in baselines.predict([]).values())
    assert baselines.scores([])[MAJORITY].overall.accuracy is None


def test_a_question_without_a_word_is_no_error() -> None:
    guesses = Baselines.fit(silent(10, 1)).predict([item("?!", "yes")])
    assert len(guesses[WORDS]) == 1


def test_scores_are_by_type_and_hop() -> None:
    items = [
        item("a", "yes"),
        item("b", "no", hop=1),
        item("c", "2", "count"),
        item("d", "3", "count"),
    ]
    found = score(items, ["yes", "yes", "2", None])
    assert found.overall.accuracy == 0.5
    assert {kind: share.accuracy for kind, share in found.by_type.items()} == {
        "exist": 0.5,
        "count": 0.5,
    }
    assert found.by_hop[0].accuracy == pytest.approx(2 / 3)
    assert found.by_type_and_hop["exist", 1].accuracy == 0
    assert found.confused == {("no", "yes"): 1, ("3", ""): 1}


def test_every_question_needs_its_answer() -> None:
    with pytest.raises(DataError, match="1 answers to 2 questions"):
        score([item("a", "yes"), item("b", "no")], ["yes"])


def test_blind_is_the_best_of_them() -> None:
    scores = Baselines.fit(talkative(800, 1)).scores(talkative(200, 2))
    name, best = blind_score(scores)
    assert name == WORDS
    assert best.overall.accuracy == max(found.overall.accuracy or 0 for found in scores.values())


def test_made_questions_do_not_give_their_answers_away(crowd_items: tuple[QaItem, ...]) -> None:
    train = [one for one in crowd_items if one.split == "train"]
    val = [one for one in crowd_items if one.split == "val"]
    _, blind = blind_score(Baselines.fit(train).scores(val))
    assert blind.overall.accuracy is not None
    assert blind.overall.accuracy < 0.55
    for kind in ("exist", "comparison"):
        assert (blind.by_type[kind].accuracy or 0) < 0.62
