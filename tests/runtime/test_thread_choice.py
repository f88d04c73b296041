"""How many threads decode a token, on times that a test makes up."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from tailwire.runtime.thread_choice import ThreadChoice


def used(choice: ThreadChoice, tokens: int, seconds: Callable[[int], float]) -> list[int]:
    """The counts of so many tokens, each of which takes what `seconds` says of its count."""
    counts: list[int] = []
    for _ in range(tokens):
        counts.append(choice.next_count())
        choice.note(counts[-1], seconds(counts[-1]))
    return counts


def test_all_threads_are_used_while_they_are_faster_and_one_is_tried_ever_more_seldom() -> None:
    choice = ThreadChoice(4)
    counts = used(choice, 1000, lambda count: 1.0 / count)
    assert counts[:8] == [4] * 8
    assert choice.count == 4
    assert counts.count(1) < 20
    trials = [at for at, count in enumerate(counts) if count == 1 and counts[at - 1] == 4]
    waits = [second - first for first, second in pairwise(trials)]
    assert waits == sorted(waits)


def test_one_thread_is_used_where_many_wait_for_each_other() -> None:
    choice = ThreadChoice(2)
    counts = used(choice, 200, lambda count: 0.05 if count == 1 else 0.36)
    assert choice.count == 1
    assert counts.count(2) < 25
    # Back, once the others are gone.
    counts = used(choice, 600, lambda count: 0.01 / count)
    assert choice.count == 2
    assert counts[-200:].count(2) > 190


def test_a_difference_within_the_noise_changes_nothing() -> None:
    choice = ThreadChoice(2)
    used(choice, 300, lambda count: 1.0 if count == 2 else 0.95)
    assert choice.count == 2


def test_one_thread_leaves_nothing_to_choose() -> None:
    choice = ThreadChoice(1)
    assert set(used(choice, 50, lambda _: 1.0)) == {1}
