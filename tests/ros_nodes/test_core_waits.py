"""How long threads wait for a core: read as Linux writes it, and none where it writes nothing."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("tailwire_ros", reason="`make test-ros` runs this")

from tailwire.runtime.plans import Answer, Plan
from tailwire_ros.answering import AnsweringLoop, Round
from tailwire_ros.core import StandingAnswer
from tailwire_ros.core_waits import core_waits_ns, open_core_waits


def write(tasks: Path, task: int, text: str) -> None:
    (tasks / f"{task}").mkdir(parents=True, exist_ok=True)
    (tasks / f"{task}" / "schedstat").write_text(text)


def test_waits_of_all_threads_are_added(tmp_path: Path) -> None:
    # Time on a core, time of waiting for one, how often; nanoseconds.
    write(tmp_path, 7, "1000 250 3\n")
    write(tmp_path, 8, "5 40 1\n")
    (tmp_path / "9").mkdir()
    assert core_waits_ns(tmp_path) == 290
    waits = open_core_waits(tmp_path)
    assert waits is not None
    write(tmp_path, 8, "5 50 1\n")
    assert waits() == 300


def test_a_machine_that_counts_none(tmp_path: Path) -> None:
    assert open_core_waits(tmp_path / "nowhere") is None
    assert open_core_waits(tmp_path) is None


class Core:
    """Answers one question at once."""

    num_standing = 1

    def step(self) -> list[StandingAnswer]:
        plan = Plan(sensors={}, tail_blocks=1, precision="int8", flops=1)
        answer = Answer(
            question="?",
            text="yes",
            confidence=1,
            stamp_ns=None,
            sensors={},
            dropped={"cam_front": "it has sent no frame yet"},
            plan=plan,
            timings_ms={},
            flops=1,
            pack="tiny 1",
            pack_trained=False,
        )
        return [StandingAnswer(1, answer)]


def test_only_rounds_without_waits_count_as_free() -> None:
    waited = [0]
    published: list[Round] = []
    done = threading.Semaphore(0)

    def publish(one: Round) -> None:
        published.append(one)
        # Every second round, some thread waits for a millisecond while answers are published.
        waited[0] += 1_000_000 * (len(published) % 2)
        done.release()

    loop = AnsweringLoop(
        Core(),  # pyright: ignore[reportArgumentType]
        publish,
        on_problem=lambda _: None,
        on_broken=lambda _: None,
        waits=lambda: waited[0],
    )
    for _ in range(10):
        loop.wake("cam_front", time.monotonic())
        assert done.acquire(timeout=30)
        while loop.rounds < len(published):
            time.sleep(0.001)
        time.sleep(0.02)
    loop.stop()
    assert len(published) == len(loop.overhead_ms) == 10
    assert len(loop.free_overhead_ms) == 5
    assert set(loop.free_overhead_ms) == set(list(loop.overhead_ms)[1::2])
    # Each of them lacked the camera, which is told once.
    assert loop.newly_missed() == {"cam_front": 10}
    assert loop.newly_missed() == {}
