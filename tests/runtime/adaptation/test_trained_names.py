"""Which weights a change of sensors trains."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from tailwire.runtime.adaptation.choosing import trained_names
from tailwire.runtime.adaptation.request import Mode, SensorChange

ENCODERS = {"cam_front": "camera", "cam_back": "camera", "lidar_top": "lidar", "lidar_two": "lidar"}
PACK = cast("Any", SimpleNamespace(sensor_encoders=ENCODERS))
CAMERAS = ("cam_front", "cam_back")
COMMON = {"gate.camera", "gate.lidar", *(f"sensor.{name}" for name in ENCODERS)}
CONDITIONED = COMMON | {"gate.summary", "summary", "key.w", "value.w", "layer0.qkv.w"}
CONDITIONED |= {f"{modality}.in.{part}" for modality in ("camera", "lidar") for part in "wb"}
PLAIN = COMMON | {f"{m}.{side}.w1" for m in ("camera", "lidar") for side in ("key", "value")}
LORA = {
    f"lora.{block}.{side}.{part}" for block in (0, 1) for side in ("key", "value") for part in "ab"
}
OF_LIDAR = {"sensor.lidar_top", "gate.lidar", "lidar.in.w", "lidar.in.b"}
OF_CAMERAS = {"sensor.cam_front", "sensor.cam_back", "gate.camera", "camera.in.w", "camera.in.b"}


def names_of(
    names: set[str], new: tuple[str, ...], mode: Mode, old: tuple[str, ...] = CAMERAS, **more: Any
) -> set[str]:
    return set(trained_names(names, PACK, SensorChange(old, new), mode, 0, **more))


def test_an_added_sensor_without_a_lora_leaves_what_serves_alone() -> None:
    assert names_of(CONDITIONED, (*CAMERAS, "lidar_top"), "add") == OF_LIDAR


def test_with_a_lora_what_serves_learns_beside_it() -> None:
    found = names_of(CONDITIONED | LORA, (*CAMERAS, "lidar_top"), "add")
    assert found == OF_LIDAR | OF_CAMERAS | LORA
    found = names_of(PLAIN | LORA, (*CAMERAS, "lidar_top"), "add")
    serving = {"sensor.cam_front", "sensor.cam_back", "gate.camera"}
    lidar = {"sensor.lidar_top", "gate.lidar", "lidar.key.w1", "lidar.value.w1"}
    assert found == lidar | serving | LORA


@pytest.mark.parametrize("relearns", [False, True])
def test_it_may_be_said(relearns: bool) -> None:
    both = (*CAMERAS, "lidar_top")
    found = names_of(CONDITIONED, both, "add", relearns=relearns)
    assert found == OF_LIDAR | (OF_CAMERAS if relearns else set())
    assert OF_CAMERAS & names_of(CONDITIONED | LORA, both, "add", relearns=False) == set()


def test_another_sensor_of_a_modality_that_serves() -> None:
    found = names_of(CONDITIONED | LORA, ("lidar_top", "lidar_two"), "add", old=("lidar_top",))
    assert found == OF_LIDAR | {"sensor.lidar_two"} | LORA
    found = names_of(CONDITIONED, ("lidar_top", "lidar_two"), "add", old=("lidar_top",))
    assert found == {"sensor.lidar_two"}


def test_replaced_dropped_and_polished_sensors() -> None:
    assert names_of(CONDITIONED | LORA, ("lidar_top",), "replace") == OF_LIDAR | LORA
    one = {"sensor.cam_front", "gate.camera", "camera.in.w", "camera.in.b", "gate.summary"}
    assert names_of(CONDITIONED | LORA, ("cam_front",), "drop") == one | LORA
    assert names_of(CONDITIONED, CAMERAS, "polish") == OF_CAMERAS | {"gate.summary"}


def test_a_shallower_tail_trains_the_lora_of_its_blocks() -> None:
    change = SensorChange(CAMERAS, (*CAMERAS, "lidar_top"))
    found = trained_names(CONDITIONED | LORA, PACK, change, "add", 1)
    assert {name for name in found if name.startswith("lora.")} == {
        name for name in LORA if name.startswith("lora.1")
    }
