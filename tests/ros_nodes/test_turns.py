"""Who works on and on leaves room for others: the lock of the core, and what it is for."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("tailwire_ros", reason="`make test-ros` runs this")

from tailwire.runtime.questions import Question
from tailwire_ros.core import Core
from tailwire_ros.turns import Turns


def waiting(turns: Turns) -> int:
    return len(turns._waiting)  # pyright: ignore[reportPrivateUsage]


def test_turns_come_in_the_order_of_asking() -> None:
    turns, order = Turns(), list[int]()

    def work(number: int) -> None:
        with turns:
            order.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
    with turns:
        for number, thread in enumerate(threads):
            thread.start()
            while waiting(turns) <= number:
                time.sleep(0.001)
        assert order == []
    for thread in threads:
        thread.join()
    assert order == list(range(20))
    with turns:
        pass


def test_one_at_a_time() -> None:
    turns, inside, most = Turns(), list[int](), list[int]()

    def work() -> None:
        for _ in range(50):
            with turns:
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.0001)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert len(most) == 300


def test_a_failure_gives_the_turn_on() -> None:
    turns = Turns()
    with pytest.raises(ValueError, match="broken"), turns:
        raise ValueError("broken")
    with turns:
        pass


class Runtime:
    """As much of a runtime as the core needs here; steps take long, pieces do not."""

    def __init__(self) -> None:
        self.steps = 0

    def step(self) -> list[Any]:
        self.steps += 1
        time.sleep(0.02)
        return []

    def stream(self, _: Any, question: Question) -> Iterator[str]:
        for number in range(question.max_new_tokens):
            time.sleep(0.001)
            yield f"{number}"


def test_text_goes_on_beside_standing_questions_without_a_pause() -> None:
    runtime, over = Runtime(), threading.Event()
    core = Core(runtime, time.monotonic_ns)  # pyright: ignore[reportArgumentType]

    def answer_on_and_on() -> None:
        while not over.is_set():
            core.step()

    thread = threading.Thread(target=answer_on_and_on)
    thread.start()
    try:
        while not runtime.steps:
            time.sleep(0.001)
        before = runtime.steps
        stream = core.stream(Question("What is it?", max_new_tokens=200))
        next(stream)
        # One that runs, and one that may have been before us.
        assert runtime.steps - before <= 2
        assert len(list(stream)) == 199
        # 200 pieces take at least 0.2 s, which are at most a few turns on a busy machine too: far
        # from a step for every piece, and not none.
        assert 1 <= runtime.steps - before < 100
    finally:
        over.set()
        thread.join()


def test_a_stream_that_is_left_gives_its_turn_back() -> None:
    runtime = Runtime()
    core = Core(runtime, time.monotonic_ns)  # pyright: ignore[reportArgumentType]
    stream = core.stream(Question("What is it?", max_new_tokens=200))
    next(stream)
    next(stream)
    stream.close()
    core.step()
    assert runtime.steps == 1
