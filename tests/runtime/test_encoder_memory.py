"""Which encoders make room, by figures that tests make up; what the process does is in
`test_memory_budget.py`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tailwire.runtime import encoder_memory, reloadable_engine
from tailwire.runtime.encoder_memory import EncoderMemory
from tailwire.runtime.encoders import Encoder
from tailwire.runtime.perception import Perception
from tailwire.runtime.process_memory import Measured
from tailwire.runtime.reloadable_engine import ReloadableEngine

from ..fakes import MODALITIES, SPECS, FakeEncoderEngine

BASE = 1000
HELD = {"camera": 300, "lidar": 200}


class Process:
    """What is resident, as far as the encoders decide it."""

    def __init__(self, perception: Perception) -> None:
        self.base = BASE
        self._perception = perception

    def __call__(self) -> int:
        engines = self._perception.reloadable
        return self.base + sum(HELD[n] for n, engine in engines.items() if engine.is_loaded)


@pytest.fixture
def perception(monkeypatch: pytest.MonkeyPatch) -> Iterator[Perception]:
    # What loading takes is made up here too: other threads of the tests may take memory meanwhile.
    monkeypatch.setattr(
        reloadable_engine, "measured", lambda loader: Measured(loader(), None, None)
    )
    encoders = {}
    for name, spec in SPECS.items():
        engine = ReloadableEngine(lambda s=spec: FakeEncoderEngine(s), name)
        engine._held_bytes = HELD[name]
        encoders[name] = Encoder(spec, engine)
    made = Perception(encoders, MODALITIES, threads=1)
    yield made
    made.close()


@pytest.fixture
def process(perception: Perception, monkeypatch: pytest.MonkeyPatch) -> Process:
    made = Process(perception)
    monkeypatch.setattr(encoder_memory, "resident_memory_bytes", made)
    return made


@pytest.fixture
def memory(perception: Perception, process: Process) -> EncoderMemory:
    return EncoderMemory(perception)


def load(perception: Perception, *names: str) -> None:
    for name in names:
        perception.reloadable[name].load()
        perception.reloadable[name]._held_bytes = HELD[name]


def test_the_process_without_encoders_is_told_whatever_is_loaded(
    memory: EncoderMemory, perception: Perception, process: Process
) -> None:
    for unloaded in ((), ("camera",), ("camera", "lidar")):
        load(perception, "camera", "lidar")
        for name in unloaded:
            perception.reloadable[name].unload()
        use = memory.use()
        assert use is not None
        assert (use.base_bytes, use.encoder_bytes) == (BASE, HELD)
        assert memory.loaded == {"camera", "lidar"} - set(unloaded)
    process.base += 77
    use = memory.use()
    assert use is not None
    assert use.base_bytes == BASE + 77


def test_the_first_limit_unloads_all_and_the_next_ones_nothing(
    memory: EncoderMemory, perception: Perception
) -> None:
    memory.keep_within(5000)
    assert memory.loaded == frozenset()
    load(perception, "camera")
    memory.keep_within(4000)
    assert memory.loaded == {"camera"}
    memory.keep_within(None)
    load(perception, "lidar")
    memory.keep_within(4000)
    assert memory.loaded == frozenset()


@pytest.mark.parametrize(
    ("limit", "needed", "unloaded"),
    [
        (1600, {"camera"}, []),
        (1499, {"camera"}, ["lidar"]),
        (1499, {"lidar"}, ["camera"]),
        (1250, set[str](), ["camera"]),
        (1100, set[str](), ["camera", "lidar"]),
        (900, {"camera", "lidar"}, []),
    ],
)
def test_only_as_much_is_unloaded_as_is_in_the_way(
    memory: EncoderMemory,
    perception: Perception,
    limit: int,
    needed: set[str],
    unloaded: list[str],
) -> None:
    memory.keep_within(limit)
    load(perception, "camera", "lidar")
    assert memory.make_room(needed) == unloaded
    assert memory.loaded == {"camera", "lidar"} - set(unloaded)


def test_room_is_made_for_what_is_about_to_be_loaded(
    memory: EncoderMemory, perception: Perception
) -> None:
    memory.keep_within(1400)
    load(perception, "camera")
    assert memory.make_room({"lidar"}) == ["camera"]


def test_without_a_limit_nothing_is_unloaded_or_watched(
    memory: EncoderMemory, perception: Perception
) -> None:
    assert memory.make_room(set()) == []
    with memory.frame():
        pass
    assert not perception.watches_memory
    assert memory.loaded == {"camera", "lidar"}


def test_where_the_system_does_not_tell_nothing_is_claimed(
    memory: EncoderMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder_memory, "resident_memory_bytes", lambda: None)
    memory.keep_within(10)
    assert memory.use() is None
    assert memory.make_room(set()) == []
    with memory.frame():
        pass


def test_what_frames_need_is_the_highest_of_the_last_ones(
    memory: EncoderMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.keep_within(10_000)
    monkeypatch.setattr(encoder_memory, "begin_peak", lambda: True)
    working = []
    for peak in (1500, 1200, *[1100] * 32):
        monkeypatch.setattr(encoder_memory, "peak_since_begin", lambda p=peak: p)
        with memory.frame():
            pass
        use = memory.use()
        assert use is not None
        working.append(use.working_bytes)
    assert working[:3] == [500, 500, 500]
    assert working[-2:] == [200, 100]
