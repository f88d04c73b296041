"""What perception adds to a frame: the earlier one that suits its encoder, the pack's mount."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from tailwire.kernels.bev_grid import CHANNELS
from tailwire.runtime.encoders import BevInput, CameraInput, Encoder, EncoderSpec
from tailwire.runtime.engine import Array, BoundRun, TensorSpec
from tailwire.runtime.frames import SensorFrame, SensorGeometry
from tailwire.runtime.metrics import StageClock
from tailwire.runtime.perception import Perception

from ..fakes import picture

SOURCE = {"tokens": 1, "width": 64, "file": "a.onnx", "licence": "MIT", "source": "tests"}
BEV = EncoderSpec(
    modality="lidar",
    kind="bev_detector",
    input=BevInput(range_m=4.0, cell_m=1.0, previous_ms=(200, 700)),
    **SOURCE,  # pyright: ignore[reportArgumentType]
)
CAMERA = EncoderSpec(
    modality="camera",
    kind="camera_detector",
    input=CameraInput(height=12, width=16),
    backbone="backbone",
    **SOURCE,  # pyright: ignore[reportArgumentType]
)
MOUNT = SensorGeometry(np.eye(4), np.diag([20.0, 20.0, 1.0]), (32, 24))


class Probe:
    """Its tokens are the geometry of a camera, or the seconds since the earlier sweep."""

    device = "cpu"

    def __init__(self, spec: EncoderSpec) -> None:
        self.input_specs = [TensorSpec("x", (-1, *spec.input.shape), "float32")]
        if spec.kind == "camera_detector":
            self.input_specs.append(TensorSpec("geometry", (-1, 16), "float32"))
        self.output_specs = [TensorSpec("y", (-1, 1, 64), "float32")]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        if "geometry" in inputs:
            return {"y": np.tile(inputs["geometry"][:, None], 4)}
        seconds = inputs["x"][:, len(CHANNELS) - 1].max(axis=(1, 2))
        return {"y": np.repeat(seconds[:, None, None], 64, axis=2)}

    def bind(self, buffers: Mapping[str, Array]) -> BoundRun:
        raise NotImplementedError

    def close(self) -> None:
        pass


def perception_of(mounts: Mapping[str, SensorGeometry] | None = None) -> Perception:
    encoders = {"bev": Encoder(BEV, Probe(BEV)), "eye": Encoder(CAMERA, Probe(CAMERA))}
    sensors = {"lidar_top": "bev", "lidar_left": "bev", "cam_front": "eye"}
    return Perception(encoders, sensors, 2, mounts)


def sweep(stamp_ms: float, sensor: str = "lidar_top", *, posed: bool = True) -> SensorFrame:
    geometry = SensorGeometry(np.eye(4), global_from_ego=np.eye(4) if posed else None)
    points = np.ones((5, 4), np.float32)
    return SensorFrame(sensor, "lidar", round(stamp_ms * 1e6), "top", points, geometry)


def seconds(perception: Perception, *frames: SensorFrame) -> list[float]:
    """Ages of the earlier sweeps that were used with these, 0 where there was none."""
    assert perception.encode(frames, StageClock()) == {}
    found = [perception.tokens(frame.sensor) for frame in frames]
    return [round(float(one.tokens[0, 0]), 3) for one in found if one is not None]


def test_the_earlier_sweep_is_the_one_nearest_to_the_middle_of_the_window() -> None:
    perception = perception_of()
    ages = [seconds(perception, sweep(stamp))[0] for stamp in (0, 150, 200, 350, 420, 700, 1120)]
    # 450 ms is the middle; 150 ms are too few, 1120 - 350 too many.
    assert ages == [0, 0, 0.2, 0.35, 0.42, 0.5, 0.42]


def test_the_longest_and_the_shortest_age_still_fit() -> None:
    for age, expected in ((199, 0), (200, 0.2), (700, 0.7), (701, 0)):
        perception = perception_of()
        assert seconds(perception, sweep(0), sweep(0, "lidar_left")) == [0, 0]
        assert seconds(perception, sweep(age)) == [expected]


def test_each_sensor_has_its_own_past_and_forgets_it() -> None:
    perception = perception_of()
    assert seconds(perception, sweep(0)) == [0]
    assert seconds(perception, sweep(400, "lidar_left")) == [0]
    assert seconds(perception, sweep(400), sweep(800, "lidar_left")) == [0.4, 0.4]
    perception.forget()
    assert seconds(perception, sweep(800)) == [0]


def test_a_sweep_without_a_pose_has_no_past() -> None:
    perception = perception_of()
    seconds(perception, sweep(0))
    assert seconds(perception, sweep(400, posed=False)) == [0]


def test_frames_that_failed_are_no_past() -> None:
    perception = perception_of()
    empty = SensorFrame(
        "lidar_top", "lidar", 0, "top", np.ones((0, 4), np.float32), SensorGeometry(np.eye(4))
    )
    assert "empty" in perception.encode([empty], StageClock())["lidar_top"]
    assert seconds(perception, sweep(400)) == [0]


def test_a_clock_that_jumps_back_leaves_no_future_in_the_past() -> None:
    perception = perception_of()
    assert seconds(perception, sweep(5000)) == [0]
    assert seconds(perception, sweep(100)) == [0]
    assert seconds(perception, sweep(5400)) == [0]


def camera(geometry: SensorGeometry | None) -> SensorFrame:
    return SensorFrame("cam_front", "camera", 0, "cam", picture(), geometry)


def lens(perception: Perception, frame: SensorFrame) -> np.ndarray:
    assert perception.encode([frame], StageClock()) == {}
    tokens = perception.tokens("cam_front")
    assert tokens is not None and tokens.frame is frame
    return tokens.tokens[0]


def test_the_mount_of_the_pack_stands_in_where_the_frame_says_nothing() -> None:
    perception = perception_of({"cam_front": MOUNT})
    moved = np.eye(4)
    moved[0, 3] = 2.0
    other = SensorGeometry(moved, np.diag([10.0, 10.0, 1.0]), (32, 24))
    # The picture is 32 x 24, the encoder's 16 x 12.
    assert lens(perception, camera(None))[[0, 7]].tolist() == [10.0, 0.0]
    assert lens(perception, camera(other))[[0, 7]].tolist() == [5.0, 2.0]
    # A bag that knows the mounting but has no CameraInfo.
    assert lens(perception, camera(SensorGeometry(moved)))[[0, 7]].tolist() == [10.0, 2.0]


@pytest.mark.parametrize("geometry", [None, SensorGeometry(np.eye(4))])
def test_without_a_mount_the_sensor_is_dropped_with_the_remedy(
    geometry: SensorGeometry | None,
) -> None:
    dropped = perception_of().encode([camera(geometry), sweep(0)], StageClock())
    assert list(dropped) == ["cam_front"]
    assert "mount in the pack.yaml" in dropped["cam_front"]
