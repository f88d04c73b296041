"""Swaps of all that answers: no frame sees half of one, and roll-back gives back the same bits."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tailwire.runtime.errors import ConfigError, SensorError
from tailwire.runtime.plans import Answer
from tailwire.runtime.runtime import Runtime
from tailwire.runtime.serving import Serving

from ..fakes import QUESTIONS, connection_spec, connection_weights, fake_runtime, frames, said

if TYPE_CHECKING:
    from ..built_models import TinyModels

ASKED = QUESTIONS[0]
#: Answers of each serving that must have been seen.
ENOUGH = 25


@pytest.fixture(params=["conditioned", "plain"])
def runtime(request: pytest.FixtureRequest, tiny: TinyModels, tmp_path: Path) -> Runtime:
    spec = connection_spec(request.param)
    rt = fake_runtime(tiny.model("llama"), tmp_path, spec, tail_blocks=4).runtime
    for text, answers in QUESTIONS:
        rt.watch(text, answers)
    return rt


@pytest.fixture
def servings(runtime: Runtime) -> dict[str, Serving]:
    """By the pack that answers name: two that differ in all arrays, sensors and depth."""
    first = runtime.serving
    weights = connection_weights(first.connection.spec, runtime.model.config, seed=1)
    assert all((weights[name] != array).all() for name, array in first.connection.weights.items())
    second = Serving(
        first.connection.with_weights(weights),
        ("cam_front", "lidar_top"),
        2,
        first.pack.model_copy(update={"version": "2"}),
    )
    return {"fake 1": first, "fake 2": second}


def all_of(answers: list[Answer]) -> list[tuple[str, float, tuple[str, ...], int]]:
    """What a serving decides of answers, bit for bit."""
    return [(one.text, one.confidence, tuple(one.sensors), one.plan.tail_blocks) for one in answers]


def test_no_frame_is_answered_from_half_swapped_weights(
    runtime: Runtime, servings: dict[str, Serving]
) -> None:
    alone: dict[str, list[list[tuple[str, float, tuple[str, ...], int]]]] = {}
    for name, serving in servings.items():
        runtime.serve(serving)
        alone[name] = [all_of(runtime.step(frames())), all_of([runtime.ask((), *ASKED)])]
    # By its confidence alone, each answer tells who gave it.
    confidences = [[one[1] for part in parts for one in part] for parts in alone.values()]
    assert all(first != second for first, second in zip(*confidences, strict=True))

    over, swaps, failed = threading.Event(), 0, []

    def swap() -> None:
        nonlocal swaps
        try:
            while not over.is_set():
                for serving in servings.values():
                    runtime.serve(serving)
                    swaps += 1
        except Exception as error:  # noqa: BLE001 - shown by the test
            failed.append(error)

    swapper = threading.Thread(target=swap)
    swapper.start()
    seen: Counter[str] = Counter()
    try:
        for number in range(1, 5000):
            # The same content under new stamps: everything is encoded and connected anew.
            given = frames(number) if number % 2 else ()
            asks = number % 5 == 0
            answers = [runtime.ask(given, *ASKED)] if asks else runtime.step(given)
            (name,) = {one.pack for one in answers}
            assert all_of(answers) == alone[name][asks]
            seen[name] += 1
            if min(seen[name] for name in servings) >= ENOUGH:
                break
            # A lock is not fair: whoever waits needs a moment to get it.
            time.sleep(0)
    finally:
        over.set()
        swapper.join()
    assert not failed
    assert min(seen[name] for name in servings) >= ENOUGH
    assert swaps > ENOUGH


def test_roll_back_is_one_call_and_gives_the_same_bits(
    runtime: Runtime, servings: dict[str, Serving]
) -> None:
    first, second = servings.values()
    before = runtime.step(frames())
    runtime.serve(second)
    swapped = runtime.step()
    assert said(swapped) != said(before)
    assert runtime.roll_back() == second
    assert runtime.serving == first
    rolled = runtime.step()
    assert all_of(rolled) == all_of(before)
    assert [one.pack for one in rolled] == ["fake 1"] * len(QUESTIONS)
    # The second call takes the first one back.
    runtime.roll_back()
    assert all_of(runtime.step()) == all_of(swapped)


def test_a_serving_that_does_not_fit_changes_nothing(
    runtime: Runtime, servings: dict[str, Serving]
) -> None:
    first = servings["fake 1"]
    wrong: list[tuple[dict[str, object], type[Exception]]] = [
        ({"tail_blocks": 5}, ConfigError),
        ({"sensors": ("radar",)}, SensorError),
    ]
    for changes, kind in wrong:
        with pytest.raises(kind):
            runtime.serve(replace(first, **changes))  # pyright: ignore[reportArgumentType]
        assert runtime.serving == first
    with pytest.raises(ConfigError, match="nothing was swapped"):
        runtime.roll_back()
