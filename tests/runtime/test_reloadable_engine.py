"""Engines that are dropped and loaded again, with what that costs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np
import pytest

from tailwire.runtime.engine import Engine
from tailwire.runtime.errors import EngineError
from tailwire.runtime.reloadable_engine import ReloadableEngine

from ..fakes import SPECS, FakeEncoderEngine


class Ticks:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def loads() -> list[FakeEncoderEngine]:
    return []


@pytest.fixture
def engine(loads: list[FakeEncoderEngine]) -> ReloadableEngine:
    def load() -> Engine:
        loads.append(FakeEncoderEngine(SPECS["camera"]))
        return loads[-1]

    return ReloadableEngine(load, "camera")


def frames() -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(0).normal(size=(2, 3, 12, 16)).astype(np.float32)}


def test_it_is_an_engine_like_the_one_behind_it(
    engine: ReloadableEngine, loads: list[FakeEncoderEngine]
) -> None:
    assert isinstance(engine, Engine)
    assert engine.input_specs == tuple(loads[0].input_specs)
    assert engine.output_specs == tuple(loads[0].output_specs)
    assert engine.device == "cpu"


def test_an_unloaded_engine_comes_back_when_it_runs(
    engine: ReloadableEngine, loads: list[FakeEncoderEngine]
) -> None:
    before = engine.run(frames())["y"]
    assert engine.unload()
    assert not engine.unload()
    assert not engine.is_loaded
    assert np.array_equal(engine.run(frames())["y"], before)
    assert engine.is_loaded
    assert len(loads) == 2
    engine.load()
    assert len(loads) == 2


def test_loading_is_timed_by_the_clock() -> None:
    ticks = Ticks()

    def load() -> Engine:
        ticks.seconds += 0.25
        return FakeEncoderEngine(SPECS["camera"])

    engine = ReloadableEngine(load, "camera", clock=ticks)
    assert engine.last_load.ms == pytest.approx(250)


def test_a_run_under_way_ends_with_what_it_began_with() -> None:
    running, go_on = Event(), Event()

    class Slow(FakeEncoderEngine):
        def run(self, inputs: object) -> dict[str, np.ndarray]:
            running.set()
            assert go_on.wait(30)
            return super().run(inputs)  # pyright: ignore[reportArgumentType]

    engine = ReloadableEngine(lambda: Slow(SPECS["camera"]), "camera")
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(engine.run, frames())
        assert running.wait(30)
        assert engine.unload()
        go_on.set()
        assert run.result(timeout=30)["y"].shape == (2, 3, 8)


def test_what_runs_leave_in_memory_is_added_while_it_is_loaded(engine: ReloadableEngine) -> None:
    held = engine.held_bytes
    if held is None:
        pytest.skip("this system does not tell resident memory")
    engine.grew(1000)
    engine.grew(-500)
    assert engine.held_bytes == held + 1000
    engine.unload()
    engine.grew(1000)
    assert engine.held_bytes == held + 1000


def test_a_file_that_is_gone_is_an_error_each_time(loads: list[FakeEncoderEngine]) -> None:
    def load() -> Engine:
        if loads:
            raise EngineError("the file is gone")
        loads.append(FakeEncoderEngine(SPECS["camera"]))
        return loads[-1]

    engine = ReloadableEngine(load, "camera")
    engine.unload()
    for _ in range(2):
        with pytest.raises(EngineError, match="gone"):
            engine.run(frames())
    assert not engine.is_loaded


def test_a_closed_engine_stays_closed(
    engine: ReloadableEngine, loads: list[FakeEncoderEngine]
) -> None:
    engine.close()
    engine.close()
    assert loads[0].closed
    for call in (engine.load, lambda: engine.run(frames())):
        with pytest.raises(EngineError, match="closed"):
            call()
