"""Which frames are looked at, and what is said against them."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from tailwire.runtime import context
from tailwire.runtime.frames import SensorFrame
from tailwire.runtime.surroundings import Surroundings

MS = 1_000_000


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (48, 64, 3), dtype=np.uint8)


def jpeg(seed: int, level: int | None = None) -> bytes:
    pixels = picture(seed) if level is None else np.full((48, 64, 3), level, np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, format="JPEG")
    return file.getvalue()


def frame(sensor: str, stamp_ms: int, payload: object) -> SensorFrame:
    return SensorFrame(sensor, "camera", stamp_ms * MS, sensor, payload)  # pyright: ignore[reportArgumentType]


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Sensors whose frames were looked at, in order."""
    seen: list[str] = []
    look = context.frame_statistics

    def noted(one: SensorFrame) -> object:
        seen.append(one.sensor)
        return look(one)

    monkeypatch.setattr(context, "frame_statistics", noted)
    return seen


def test_pictures_are_looked_at_in_turn_and_clouds_always(looked: list[str]) -> None:
    surroundings = Surroundings()
    cloud = np.random.default_rng(0).normal(0, 20, (500, 5)).astype(np.float32)
    for number in range(4):
        held = {
            f"jpeg_{n}": frame(f"jpeg_{n}", 100 * number, jpeg(10 * number + n)) for n in range(3)
        }
        for n in range(4):
            held[f"raw_{n}"] = frame(f"raw_{n}", 100 * number, picture(10 * number + n))
        held["lidar"] = SensorFrame("lidar", "lidar", 100 * number * MS, "lidar", cloud + number)
        surroundings.look(held)
    assert [one for one in looked if one.startswith("jpeg")] == [
        "jpeg_0",
        "jpeg_1",
        "jpeg_2",
        "jpeg_0",
    ]
    raw = [one for one in looked if one.startswith("raw")]
    assert len(raw) == 12
    assert {raw.count(f"raw_{n}") for n in range(4)} == {3}
    assert looked.count("lidar") == 4


def test_a_frame_is_looked_at_once(looked: list[str]) -> None:
    surroundings = Surroundings()
    held = {"a": frame("a", 0, jpeg(0)), "b": frame("b", 0, picture(0))}
    for _ in range(3):
        surroundings.look(held)
    assert sorted(looked) == ["a", "b"]


def test_what_is_found_against_a_sensor_stays_until_it_is_looked_at_again() -> None:
    surroundings = Surroundings()
    bad = surroundings.look({"a": frame("a", 0, jpeg(0, level=0)), "b": frame("b", 0, jpeg(1))})
    assert list(bad) == ["a"]
    assert "black" in bad["a"]
    bad = surroundings.look({"a": frame("a", 100, jpeg(2)), "b": frame("b", 100, jpeg(3))})
    assert list(bad) == ["a"]
    assert surroundings.look({"a": frame("a", 200, jpeg(4)), "b": frame("b", 200, jpeg(5))}) == {}


def test_forgetting_begins_anew() -> None:
    surroundings = Surroundings()
    surroundings.look({"a": frame("a", 5000, picture(0))})
    surroundings.forget()
    assert surroundings.context.health == {}
    assert surroundings.look({"a": frame("a", 100, picture(0))}) == {}
    assert surroundings.context.stamp_ns == 100 * MS
