"""What may change while a runtime runs: depth, sensors, connection, and who calls it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest

from tailwire.runtime.decoding import TextPiece
from tailwire.runtime.errors import ConfigError
from tailwire.runtime.plans import Answer
from tailwire.runtime.questions import Question

from ..fakes import (
    QUESTIONS,
    SENSORS,
    YES_NO,
    MakeRuntime,
    close,
    connection_spec,
    connection_weights,
    frames,
    said,
)

if TYPE_CHECKING:
    pass

KINDS = ("plain", "conditioned")


@pytest.mark.parametrize("kind", KINDS)
def test_another_depth_equals_a_fresh_runtime(make: MakeRuntime, kind: str) -> None:
    # At the deepest tail, heads end so early that shallower ones must go on from there.
    rt = make(kind, tail_blocks=4).runtime
    seen = set()
    for depth in (3, 1, 4, 2, 4):
        rt.set_tail(depth)
        answers = rt.step(frames())
        assert rt.tail_blocks == answers[0].plan.tail_blocks == depth
        assert said(answers) == said(make(kind, tail_blocks=depth).runtime.step(frames()))
        seen.add(tuple(said(answers)))
    assert len(seen) == 4


@pytest.mark.parametrize("depth", [0, -1, 5])
def test_depths_that_do_not_fit_are_refused_and_change_nothing(
    make: MakeRuntime, depth: int
) -> None:
    rt = make().runtime
    with pytest.raises(ConfigError, match="tail"):
        rt.set_tail(depth)
    assert rt.tail_blocks == 2
    assert len(rt.step(frames())) == len(QUESTIONS)
    with pytest.raises(ConfigError, match="tail"):
        make(tail_blocks=depth)


@pytest.mark.parametrize("kind", KINDS)
def test_switching_sensors_off_and_on_returns_to_the_same_answers(
    make: MakeRuntime, kind: str
) -> None:
    fake = make(kind)
    rt = fake.runtime
    first = rt.step(frames())
    ran = fake.engines["camera"].frames, fake.engines["lidar"].frames
    rt.switch_sensors(["lidar_top"])
    only_lidar = rt.step()
    assert list(only_lidar[0].sensors) == ["lidar_top"]
    assert said(only_lidar) == said(make(kind, sensors=["lidar_top"]).runtime.step(frames()))
    assert said(only_lidar) != said(first)
    rt.switch_sensors([])
    blind = rt.step()
    assert blind[0].sensors == {}
    assert blind[0].stamp_ns is None
    # The order in which sensors are named is no matter.
    rt.switch_sensors(SENSORS[::-1])
    assert rt.sensors == SENSORS == rt.known_sensors
    assert said(rt.step()) == said(first)
    rt.switch_sensors(None)
    assert said(rt.step()) == said(first)
    assert (fake.engines["camera"].frames, fake.engines["lidar"].frames) == ran


@pytest.mark.parametrize("kind", KINDS)
def test_a_swap_equals_a_runtime_loaded_with_the_new_weights(make: MakeRuntime, kind: str) -> None:
    spec = connection_spec(kind)
    fake = make(spec)
    rt = fake.runtime
    first = rt.step(frames())
    weights = connection_weights(spec, rt.model.config, seed=1)
    old = rt.swap_connection(rt.connection.with_weights(weights))
    assert old is fake.connection
    swapped = rt.step()
    assert said(swapped) == said(make(spec, weights=weights).runtime.step(frames()))
    assert said(swapped) != said(first)
    rt.swap_connection(old)
    assert said(rt.step()) == said(first)


def test_a_connection_of_another_shape_cannot_be_swapped_in(make: MakeRuntime) -> None:
    rt = make().runtime
    with pytest.raises(ConfigError, match="connection"):
        rt.swap_connection(make("conditioned").runtime.connection)
    assert len(rt.step(frames())) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_threads_get_the_answers_of_one_thread(make: MakeRuntime, kind: str) -> None:
    rt = make(kind).runtime
    stream: list[list[Any]] = [frames(100.0 * step, step) for step in range(6)]
    expected = {f[0].stamp_ns: make(kind).runtime.step(f) for f in stream}

    def drive(step: int) -> None:
        answers = rt.step(stream[step])
        # Another thread may have pushed newer frames of some sensors, or of all.
        stamps = {use.stamp_ns for use in answers[0].sensors.values()}
        if len(stamps) == 1:
            # More questions may be watched by then.
            assert close(answers[: len(QUESTIONS)], expected[stamps.pop()])
        rt.unwatch(rt.watch("Is it?", YES_NO))
        rt.set_tail(rt.tail_blocks)
        rt.ask((), *QUESTIONS[0])

    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(drive, [*range(6), *range(6)]):
            pass
    assert said(rt.step()) == said(expected[500_000_000])


def test_changing_depth_meanwhile_breaks_no_call(make: MakeRuntime) -> None:
    rt = make(watch=False).runtime
    expected = {
        depth: said([make(watch=False, tail_blocks=depth).runtime.ask(frames(), *QUESTIONS[0])])
        for depth in (1, 2, 4)
    }
    rt.ask(frames(), *QUESTIONS[0])
    stop = Event()

    def turn() -> None:
        while not stop.is_set():
            for depth in (4, 1, 2):
                rt.set_tail(depth)

    with ThreadPoolExecutor(1) as pool:
        turning = pool.submit(turn)
        try:
            for _ in range(40):
                answer = rt.ask((), *QUESTIONS[0])
                assert said([answer]) == expected[answer.plan.tail_blocks]
                key = rt.watch(*QUESTIONS[0])
                (answer,) = rt.step()
                assert said([answer]) == expected[answer.plan.tail_blocks]
                rt.unwatch(key)
        finally:
            stop.set()
        turning.result()


def test_a_stream_left_unfinished_blocks_nobody(make: MakeRuntime) -> None:
    rt = make().runtime
    whole = list(rt.stream(frames(), Question("What is it?", max_new_tokens=6)))
    pieces = rt.stream(frames(), Question("What is it?", max_new_tokens=6))
    first = [next(pieces), next(pieces)]
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(rt.step, frames(9, 9)).result(timeout=30)
    assert len(other) == len(QUESTIONS)
    rt.switch_sensors([])
    rt.set_tail(4)
    rest = [*first, *pieces]
    assert [p for p in rest if isinstance(p, TextPiece)] == [
        p for p in whole if isinstance(p, TextPiece)
    ]
    last, wanted = rest[-1], whole[-1]
    assert isinstance(last, Answer)
    assert isinstance(wanted, Answer)
    assert said([last]) == said([wanted])
    assert last.sensors.keys() == wanted.sensors.keys()
