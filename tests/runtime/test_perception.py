"""Frames to tokens: each once, bad ones named, earlier tokens while they are young enough."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tailwire.runtime.encoders import Encoder
from tailwire.runtime.errors import SensorError
from tailwire.runtime.frames import SensorFrame
from tailwire.runtime.metrics import StageClock
from tailwire.runtime.perception import Perception

from ..fakes import (
    MODALITIES,
    SENSORS,
    SPECS,
    FakeEncoderEngine,
    MakeRuntime,
    cloud,
    connection_spec,
    connection_weights,
    frame,
    frames,
    jpeg,
    make_connection,
    picture,
    said,
)

if TYPE_CHECKING:
    from ..built_models import TinyModels


def perception_of(engines: dict[str, FakeEncoderEngine] | None = None) -> Perception:
    engines = engines or {name: FakeEncoderEngine(spec) for name, spec in SPECS.items()}
    encoders = {name: Encoder(SPECS[name], engine) for name, engine in engines.items()}
    return Perception(encoders, MODALITIES, threads=2)


def not_finite() -> np.ndarray:
    points = cloud(1)
    points[:] = np.nan
    return points


#: Sensor, payload, and a word of the reason.
BAD_FRAMES: dict[str, tuple[str, Callable[[], Any], str]] = {
    "truncated jpeg": ("cam_front", lambda: jpeg()[:-200], "cam_front"),
    "no picture at all": ("cam_front", lambda: b"not a picture", "cam_front"),
    "empty bytes": ("cam_front", lambda: b"", "cam_front"),
    "float picture": ("cam_front", lambda: picture().astype(np.float32), "uint8"),
    "grey picture": ("cam_front", lambda: picture()[..., 0], "cam_front"),
    "NaN cloud": ("lidar_top", not_finite, "finite"),
    "empty cloud": ("lidar_top", lambda: cloud()[:0], "lidar_top"),
    "double cloud": ("lidar_top", lambda: cloud().astype(np.float64), "float32"),
    "three columns": ("lidar_top", lambda: cloud()[:, :3].copy(), "lidar_top"),
    "bytes for a cloud": ("lidar_top", lambda: jpeg(), "bytes"),
}


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_one_bad_frame_never_stops_the_others(make: MakeRuntime, name: str) -> None:
    sensor, payload, reason = BAD_FRAMES[name]
    fake = make()
    others = [s for s in SENSORS if s != sensor]
    bad = frame(sensor, 5, payload())
    (answer, *rest) = fake.runtime.step([bad, *frames(5, sensors=others)])
    assert list(answer.sensors) == others
    assert list(answer.dropped) == [sensor]
    assert reason in answer.dropped[sensor]
    assert all(one.dropped == answer.dropped for one in rest)
    # From what is left, as if the sensor had been off.
    assert said([answer, *rest]) == said(make(sensors=others).runtime.step(frames(5)))
    assert fake.runtime.bad_frames == {s: int(s == sensor) for s in SENSORS}


def test_a_frame_of_another_modality_is_dropped(make: MakeRuntime) -> None:
    wrong = SensorFrame("cam_back", "lidar", 0, "cam_back_link", cloud())
    (answer, *_) = make().runtime.step([*frames(0, sensors=["cam_front"]), wrong])
    assert "lidar frame" in answer.dropped["cam_back"]
    assert list(answer.sensors) == ["cam_front"]


def test_earlier_tokens_stand_in_while_young_enough(make: MakeRuntime) -> None:
    fake = make(max_age_ms=100)
    rt = fake.runtime
    rt.step(frames(0))
    (answer, *rest) = rt.step([frame("cam_front", 60, jpeg()[:-200]), frame("cam_back", 90)])
    use = answer.sensors["cam_front"]
    assert (use.stamp_ns, use.age_ms, use.reused) == (0, 90.0, True)
    assert "cam_front" in answer.dropped
    assert answer.stamp_ns == 0
    # The same as if the bad frame had never come.
    other = make(max_age_ms=100).runtime
    other.step(frames(0))
    assert said([answer, *rest]) == said(other.step([frame("cam_back", 90)]))
    (answer, *_) = rt.step([frame("cam_back", 110)])
    assert "cam_front" not in answer.sensors
    assert "cam_front" in answer.dropped
    assert answer.stamp_ns == 110_000_000


def test_a_bad_frame_is_tried_once(make: MakeRuntime) -> None:
    fake = make()
    fake.engines["camera"].fails = True
    rt = fake.runtime
    dropped = [rt.step(frames(0) if step == 0 else ())[0].dropped for step in range(3)]
    assert dropped[0].keys() == {"cam_front", "cam_back"}
    assert dropped[0] == dropped[1] == dropped[2]
    fake.engines["camera"].fails = False
    # Only a newer frame brings the sensor back.
    assert "cam_front" in rt.step()[0].dropped
    (answer, *_) = rt.step([frame("cam_front", 1)])
    assert answer.dropped.keys() == {"cam_back"}
    assert rt.bad_frames == {"cam_front": 1, "cam_back": 1, "lidar_top": 0}
    rt.forget_frames()
    assert rt.step(frames(0))[0].dropped == {}


def test_a_broken_encoder_costs_its_own_sensors_only(make: MakeRuntime) -> None:
    fake = make()
    fake.engines["lidar"].fails = True
    (answer, *_) = fake.runtime.step(frames())
    assert list(answer.sensors) == ["cam_front", "cam_back"]
    assert "broken" in answer.dropped["lidar_top"]


def test_a_frame_is_encoded_once_however_many_steps_use_it(make: MakeRuntime) -> None:
    fake = make()
    rt, cameras = fake.runtime, fake.engines["camera"]
    for _ in range(3):
        rt.step(frames(0) if not cameras.batches else ())
        rt.ask((), "Is it?", ("yes", "no"))
        rt.set_tail(3)
    assert cameras.batches == [2]  # both cameras as one batch
    assert fake.engines["lidar"].batches == [1]
    rt.step([frame("cam_back", 1, seed=1)])
    assert cameras.batches == [2, 1]


def test_a_sensor_that_is_off_is_not_encoded(make: MakeRuntime) -> None:
    fake = make(sensors=["cam_back"])
    fake.runtime.step(frames())
    assert fake.engines["camera"].batches == [1]
    assert fake.engines["lidar"].batches == []


def test_tokens_that_are_not_finite_are_found_out_one_by_one() -> None:
    class Poisoned(FakeEncoderEngine):
        def run(self, inputs: Any) -> Any:
            tokens = super().run(inputs)["y"]
            bright = np.asarray(inputs["x"]).mean(axis=(1, 2, 3)) > 0.9
            tokens[bright] = np.nan
            return {"y": tokens}

    perception = perception_of(
        {"camera": Poisoned(SPECS["camera"]), "lidar": FakeEncoderEngine(SPECS["lidar"])}
    )
    white = np.full((24, 32, 3), 255, np.uint8)
    given = [frame("cam_front", payload=white), frame("cam_back"), frame("lidar_top")]
    dropped = perception.encode(given, StageClock())
    assert list(dropped) == ["cam_front"]
    assert "not finite" in dropped["cam_front"]
    assert perception.tokens("cam_front") is None
    for sensor in ("cam_back", "lidar_top"):
        tokens = perception.tokens(sensor)
        assert tokens is not None
        assert np.isfinite(tokens.tokens).all()


def test_newness_is_of_the_very_frame() -> None:
    perception = perception_of()
    first, second = frame("cam_front", 5), frame("cam_front", 5)
    assert perception.is_new(first)
    perception.encode([first], StageClock())
    assert not perception.is_new(first)
    assert perception.is_new(second)  # a driver may send two frames with one stamp
    perception.forget()
    assert perception.is_new(first)
    assert perception.tokens("cam_front") is None


def test_stages_are_timed_by_encoder() -> None:
    clock = StageClock()
    perception_of().encode(frames(), clock)
    assert clock.stages_ms.keys() == {"prepare", "encode camera", "encode lidar"}
    assert clock.total_ms == sum(clock.stages_ms.values()) > 0


def test_rows_are_made_once_per_tokens_and_connection(tiny: TinyModels, tmp_path: Path) -> None:
    config = tiny.model("llama").config
    spec = connection_spec()
    perception, connection = perception_of(), make_connection(tmp_path, spec, config)
    other = connection.with_weights(connection_weights(spec, config, 1))
    perception.encode(frames(), StageClock())
    assert not perception.has_rows("cam_front", connection)
    first = perception.rows(SENSORS, connection)
    assert [row.modality for row in first] == list(MODALITIES.values())
    assert all(a is b for a, b in zip(first, perception.rows(SENSORS, connection), strict=True))
    assert perception.has_rows("cam_front", connection)
    assert not perception.has_rows("cam_front", other)
    swapped = perception.rows(["cam_front"], other)[0]
    assert np.abs(swapped.keys - first[0].keys).max() > 0
    perception.encode([frame("cam_back", 1, seed=3)], StageClock())
    again = perception.rows(SENSORS, connection)
    np.testing.assert_array_equal(again[0].keys, first[0].keys)
    assert np.abs(again[1].keys - first[1].keys).max() > 0
    assert again[2] is first[2]


def test_unknown_sensors_are_named() -> None:
    with pytest.raises(SensorError, match=r"radar.*lidar_top"):
        perception_of().encoder_of("radar")


def test_closing_frees_the_encoders() -> None:
    engines = {name: FakeEncoderEngine(spec) for name, spec in SPECS.items()}
    perception = perception_of(engines)
    perception.encode(frames(), StageClock())
    perception.close()
    assert all(engine.closed for engine in engines.values())
