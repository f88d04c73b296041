"""Examples of single senses: balanced, turned with their facts, and several senses at once."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch", reason="training is in torch")

from tailwire.kernels.direction_tokens import (
    DIRECTIONS,
    PRESENCE,
    radar_directions,
    sound_directions,
)
from tailwire.runtime.errors import ConfigError
from tailwire.training.sense_examples import (
    Views,
    balanced,
    joined,
    joint_examples,
    one_input,
    sets_of,
    single_examples,
    views_of,
)
from tailwire.training.sense_packs import Sense

KINDS, MOMENTS = 3, 40


def some_facts(seed: int, moments: int = MOMENTS) -> NDArray[np.int8]:
    rng = np.random.default_rng(seed)
    return rng.choice([-1, 0, 1], (moments, KINDS, DIRECTIONS), p=[0.1, 0.6, 0.3]).astype(np.int8)


def marked_tokens(facts: NDArray[np.int8]) -> NDArray[np.float16]:
    """Radar-like tokens that say what holds in their direction in their first columns."""
    rows = np.stack([radar_directions(np.zeros((0, 4), np.float32))] * len(facts))
    rows[..., :KINDS] = facts.transpose(0, 2, 1)
    return rows.astype(np.float16)


def said(views: Views, sensor: str) -> NDArray[np.int8]:
    """The facts that marked tokens hold, by the direction that each row says it is of."""
    found = np.full(views.facts.shape, -9, np.int8)
    for view, rows in enumerate(views.tokens[sensor].astype(np.float32)):
        for row in rows:
            if row.any():
                direction = int(row[PRESENCE + 1 :].argmax())
                found[view, :, direction] = row[:KINDS]
    return found


def test_facts_turn_with_the_tokens() -> None:
    facts = some_facts(0)
    rng = np.random.default_rng(1)
    views = views_of("radar", {"radar": marked_tokens(facts)}, facts, np.arange(MOMENTS), 6, rng)
    assert len(views.facts) == 6 * MOMENTS
    np.testing.assert_array_equal(said(views, "radar"), views.facts)
    np.testing.assert_array_equal(views.facts[:MOMENTS], facts)
    changed = (views.facts[MOMENTS:] != np.tile(facts, (5, 1, 1))).any(axis=(1, 2))
    # One of twelve draws is the moment itself.
    assert changed.mean() > 0.8


def test_turned_sound_is_that_of_turned_surroundings() -> None:
    levels = np.random.default_rng(2).uniform(40, 80, (1, 6, 8)).astype(np.float32)
    # Known by the kind and direction of one fact alone: what sounds is 60 degrees to the left.
    facts = np.full((1, KINDS, DIRECTIONS), 0, np.int8)
    facts[0, 0, 4] = 1
    tokens = sound_directions(levels)[None].astype(np.float16)
    rng = np.random.default_rng(3)
    views = views_of("audio", {"microphones": tokens}, facts, np.zeros(30, np.int64), 2, rng)
    heard = {
        # Microphones counter-clockwise from the front, turned, and mirrored before.
        (mirror, turn): sound_directions(
            np.roll(levels[:, [0, 5, 4, 3, 2, 1]] if mirror else levels, turn, axis=1)
        )
        for mirror in (False, True)
        for turn in range(DIRECTIONS)
    }
    for rows, holds in zip(views.tokens["microphones"], views.facts, strict=True):
        order = np.argsort(rows[:, PRESENCE + 1 :].argmax(axis=1))
        place = [
            key
            for key, wanted in heard.items()
            if np.allclose(rows[order].astype(np.float32), wanted, atol=0.01)
        ]
        assert len(place) == 1
        mirror, turn = place[0]
        # 60 degrees to the left is row 4, to the right row 2.
        assert np.argmax(holds[0]) == ((2 if mirror else 4) + turn) % DIRECTIONS


def test_yes_and_no_are_asked_equally_often_and_are_true() -> None:
    facts = some_facts(4)
    questions = balanced(facts, np.random.default_rng(5))
    view, concept, holds = questions.T
    np.testing.assert_array_equal(facts.reshape(MOMENTS, -1)[view, concept], holds)
    for number in range(KINDS * DIRECTIONS):
        asked = holds[concept == number]
        assert len(asked) and 2 * asked.sum() == len(asked)
    assert len({tuple(one) for one in questions.tolist()}) == len(questions)


def three_parts() -> list[Views]:
    return [
        Views({f"radar.{number}": marked_tokens(some_facts(6 + number))}, some_facts(6 + number))
        for number in range(3)
    ]


def test_of_a_set_holds_what_holds_of_each() -> None:
    views, questions = sets_of(three_parts(), 50, np.random.default_rng(9))
    each = np.stack([said(views, f"radar.{number}") for number in range(3)])
    for view in range(50):
        for place in np.ndindex(KINDS, DIRECTIONS):
            known = each[(slice(None), view, *place)].tolist()
            wanted = 0 if 0 in known else 1 if set(known) == {1} else -1
            assert views.facts[(view, *place)] == wanted
    view, concept, holds = questions.T
    np.testing.assert_array_equal(views.facts.reshape(50, -1)[view, concept], holds)
    assert 2 * holds.sum() == len(holds)


def test_a_set_is_often_one_input_short() -> None:
    views, questions = sets_of(three_parts(), 400, np.random.default_rng(10))
    each = np.stack([said(views, f"radar.{number}").reshape(400, -1) for number in range(3)])
    # The first questions are those that views were drawn for.
    no = questions[:400][questions[:400, 2] == 0]
    held = (each[:, no[:, 0], no[:, 1]] == 1).sum(axis=0)
    assert len(no) == 200 and (held == 2).mean() > 0.6
    # No input is the missing one more often than another.
    short = each[:, no[held == 2][:, 0], no[held == 2][:, 1]] == 0
    assert short.mean(axis=1).min() > 0.2


def test_sets_of_what_never_holds_are_none() -> None:
    facts = np.zeros((5, KINDS, DIRECTIONS), np.int8)
    parts = [Views({f"radar.{number}": marked_tokens(facts)}, facts) for number in range(2)]
    views, questions = sets_of(parts, 10, np.random.default_rng(0))
    assert len(views.facts) == len(questions) == 0


def test_sensors_of_one_sense_are_one_input() -> None:
    facts = some_facts(4)
    whole = marked_tokens(facts)
    left, right = whole.copy(), whole.copy()
    left[:, 3:] = 0
    right[:, :3] = 0
    views = one_input(Views({"a": left, "b": right}, facts), "image", 2)
    assert list(views.tokens) == ["image.2"] and views.tokens["image.2"].shape == whole.shape
    np.testing.assert_array_equal(said(views, "image.2"), facts)
    with pytest.raises(ConfigError):
        one_input(Views({"a": whole, "b": whole}, facts), "image")


def test_a_view_of_one_sense_has_nothing_of_the_others() -> None:
    first, second = (
        Views({name: marked_tokens(some_facts(seed))}, some_facts(seed))
        for name, seed in (("a", 10), ("b", 11))
    )
    both = joined([first, second])
    assert not both.tokens["b"][:MOMENTS].any() and not both.tokens["a"][MOMENTS:].any()
    np.testing.assert_array_equal(both.tokens["b"][MOMENTS:], second.tokens["b"])


def test_questions_are_about_the_views_that_they_name() -> None:
    tokens = {
        sense: {name: marked_tokens(some_facts(seed))}
        for sense, name, seed in (("radar", "radar", 12), ("audio", "microphones", 13))
    }
    facts: dict[Sense, NDArray[np.int8]] = {"radar": some_facts(12), "audio": some_facts(13)}
    rows = np.arange(5, 25)
    one: dict[Sense, dict[str, NDArray[np.float16]]] = {"radar": tokens["radar"]}
    both: dict[Sense, dict[str, NDArray[np.float16]]] = {
        "radar": tokens["radar"],
        "audio": tokens["audio"],
    }
    inputs: list[list[str]] = []
    counts: list[int] = []
    for made in (
        single_examples(one, facts, rows, 3, np.random.default_rng(14)),
        joint_examples(both, facts, rows, 4, np.random.default_rng(15)),
    ):
        views, questions = made
        view, concept, holds = questions.T
        np.testing.assert_array_equal(
            views.facts.reshape(len(views.facts), -1)[view, concept], holds
        )
        assert view.max() < len(views.facts)
        inputs.append(list(views.tokens))
        counts.append(len(views.facts))
    # Of one sense, sets of two to four of its own; of two senses, of one each.
    assert inputs == [[f"radar.{number}" for number in range(4)], ["radar.0", "audio.0"]]
    assert counts == [60 + 3 * (60 // 3), 2 * 40 + 40 // 3]
