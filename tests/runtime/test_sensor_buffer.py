"""The newest frame of each sensor, whatever the order and the threads they come in."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwire.runtime.errors import SensorError
from tailwire.runtime.frames import SensorFrame
from tailwire.runtime.sensor_buffer import SensorBuffer

SENSORS: tuple[str, ...] = ("cam_front", "cam_back", "lidar_top")


def frame(sensor: str, stamp_ns: int) -> SensorFrame:
    return SensorFrame(sensor, "camera", stamp_ns, sensor, b"")


@given(st.lists(st.tuples(st.sampled_from(SENSORS), st.integers(0, 8)), max_size=40))
def test_the_newest_wins_and_the_late_are_counted(arrivals: list[tuple[str, int]]) -> None:
    buffer = SensorBuffer(SENSORS)
    newest: dict[str, SensorFrame] = {}
    late = dict.fromkeys(SENSORS, 0)
    for sensor, stamp_ns in arrivals:
        one = frame(sensor, stamp_ns)
        is_late = sensor in newest and stamp_ns < newest[sensor].stamp_ns
        assert buffer.push(one) is not is_late
        if is_late:
            late[sensor] += 1
        else:
            newest[sensor] = one  # of two with one stamp, what came last
    held = buffer.snapshot()
    assert held.keys() == newest.keys()
    assert all(held[sensor] is newest[sensor] for sensor in held)
    assert buffer.dropped == late


def test_nothing_is_lost_between_threads() -> None:
    buffer, threads, count = SensorBuffer(SENSORS), 6, 300
    barrier = Barrier(threads)

    def push(number: int) -> tuple[int, dict[str, int]]:
        barrier.wait()
        kept, seen = 0, dict.fromkeys(SENSORS, -1)
        for index in range(count):
            kept += sum(buffer.push(frame(s, index * threads + number)) for s in SENSORS)
            for sensor, held in buffer.snapshot().items():
                assert held.stamp_ns >= seen[sensor]  # never goes back
                seen[sensor] = held.stamp_ns
        return kept, seen

    with ThreadPoolExecutor(threads) as pool:
        kept = sum(kept for kept, _ in pool.map(push, range(threads)))
    assert kept + sum(buffer.dropped.values()) == threads * count * len(SENSORS)
    last = count * threads - 1
    assert {s: held.stamp_ns for s, held in buffer.snapshot().items()} == dict.fromkeys(
        SENSORS, last
    )


def test_unknown_sensors_are_refused_and_known_ones_named() -> None:
    buffer = SensorBuffer(SENSORS)
    with pytest.raises(SensorError, match=r"radar.*cam_back, cam_front, lidar_top"):
        buffer.push(frame("radar", 1))
    assert buffer.snapshot() == {}


def test_forgetting_one_or_all_lets_time_jump_back() -> None:
    buffer = SensorBuffer(SENSORS)
    for sensor in SENSORS:
        buffer.push(frame(sensor, 100))
    assert not buffer.push(frame("cam_front", 1))
    buffer.forget("cam_front")
    assert buffer.push(frame("cam_front", 1))
    assert not buffer.push(frame("cam_back", 1))
    buffer.forget()
    assert buffer.snapshot() == {}
    assert buffer.push(frame("cam_back", 1))
    # Counts are since the start.
    assert buffer.dropped == {"cam_front": 1, "cam_back": 1, "lidar_top": 0}


def test_a_snapshot_is_a_copy() -> None:
    buffer = SensorBuffer(SENSORS)
    buffer.push(frame("cam_front", 1))
    held = buffer.snapshot()
    buffer.push(frame("cam_front", 2))
    assert held["cam_front"].stamp_ns == 1
    held.clear()
    buffer.dropped["cam_front"] = 9
    assert buffer.snapshot()["cam_front"].stamp_ns == 2
    assert buffer.dropped["cam_front"] == 0
