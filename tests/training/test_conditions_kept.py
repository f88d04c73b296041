"""Prepared data of some conditions: the same decisions, with the texts that these have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="what is trained is in torch")

from tailwire.training.prepared_data import PreparedData, of_conditions

from ..benchmarks.adaptation_task import bench_data


@pytest.fixture(scope="module")
def data() -> PreparedData:
    """By night another text is asked than by day, and one is asked always."""
    made = bench_data().prepared
    night = np.array([one == "night" for one in made.conditions])

    def with_own_texts(samples):
        changed = samples.text + 2 * ((samples.text == 1) & night[samples.moment])
        return replace(samples, text=changed.astype(np.int32))

    texts = (*made.texts, (5, 6, 7), (8, 9, 10, 11))
    return replace(
        made,
        texts=texts,
        mirrored=np.arange(len(texts), dtype=np.int32),
        train=with_own_texts(made.train),
        held_out=with_own_texts(made.held_out),
    )


@pytest.mark.parametrize("condition", ["day", "night"])
def test_decisions_and_questions_of_one_condition(data: PreparedData, condition: str) -> None:
    made = of_conditions(data, (condition,))
    own = np.array([one == condition for one in data.conditions])
    for before, after in ((data.train, made.train), (data.held_out, made.held_out)):
        kept = before.take(np.flatnonzero(own[before.moment]))
        np.testing.assert_array_equal(after.moment, kept.moment)
        np.testing.assert_array_equal(after.target, kept.target)
        assert [made.texts[t] for t in after.text] == [data.texts[t] for t in kept.text]
    assert set(made.texts) == {data.texts[0], data.texts[1 if condition == "day" else 3]}
    assert set(made.known.conditions) == {condition}
    held = np.flatnonzero(own[data.held_out.moment])
    before = [data.known.questions[row] for row in data.known.question[held]]
    assert [made.known.questions[row] for row in made.known.question] == before
    expected = [
        guess
        for guess, one in zip(data.known.guesses["majority"], data.known.conditions, strict=True)
        if one == condition
    ]
    assert list(made.known.guesses["majority"]) == expected


def test_all_conditions_are_the_same_data(data: PreparedData) -> None:
    made = of_conditions(data, ("day", "night", "rain"))
    assert [made.texts[t] for t in made.train.text] == [data.texts[t] for t in data.train.text]
    assert made.known.questions == data.known.questions
    assert len(made.texts) == 3
