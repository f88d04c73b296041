"""A recording for Rerun: what is logged, with the SDK itself where it is installed."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tailwire.runtime.errors import ConfigError
from tailwire.runtime.frames import SensorFrame
from tailwire.simulation.nuscenes import NuScenes
from tailwire.simulation.nuscenes.geometry import inverse_rigid, transform_points
from tailwire.simulation.nuscenes.source import NuScenesDrive
from tailwire.simulation.replay.asking import QuestionPlan
from tailwire.simulation.replay.player import Player
from tailwire.simulation.replay.rerun_recording import RerunRecording

from .fake_drive import FakeRuntime, item, planned


def record(root: Path, file: Path) -> None:
    """Replay a sketch drive into a recording."""
    drive = NuScenesDrive(NuScenes.open(root), "scene-0001")
    plan = QuestionPlan(
        by_sample={
            keyframe.sample_token: [
                planned(item("Is there a car?")),
                planned(item("Is there a bus?", "no")),
            ]
            for keyframe in drive.keyframes
        }
    )
    with RerunRecording(file) as recording:
        recording.begin(drive)
        player = Player(drive, FakeRuntime(), plan, drive.sensors, on_frame=recording.frame)
        for step in player.play():
            recording.step(step)


class Recorder(ModuleType):
    """In the place of the SDK: keeps what is logged, every archetype as its name and arguments."""

    def __init__(self) -> None:
        super().__init__("rerun")
        self.logged: list[tuple[str, str, Any, int]] = []
        self.now = 0
        self.ViewCoordinates = SimpleNamespace(RDF="RDF")
        self.TextLogLevel = SimpleNamespace(INFO="INFO", WARN="WARN")

    def RecordingStream(self, _: str) -> Recorder:
        return self

    def save(self, path: Path) -> None:
        path.write_bytes(b"RRF")

    def set_time(self, _: str, timestamp: np.datetime64) -> None:
        self.now = int(timestamp.astype("datetime64[ns]").astype(np.int64))

    def log(self, entity: str, archetype: tuple[str, Any]) -> None:
        self.logged.append((entity, archetype[0], archetype[1], self.now))

    def flush(self) -> None: ...

    def disconnect(self) -> None: ...

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **kwargs: (name, {**kwargs, "args": args})


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setitem(__import__("sys").modules, "rerun", recorder)
    return recorder


def test_frames_boxes_and_answers_are_logged_at_their_stamps(
    sketch_root: Path, tmp_path: Path, recorder: Recorder
) -> None:
    record(sketch_root, tmp_path / "a.rrd")
    assert [path.name for path in tmp_path.iterdir()] == ["a.rrd"]
    data = NuScenes.open(sketch_root)
    sample = data.samples("scene-0001")[0]
    lidar = data.sample_data("lidar_top", sample.token)
    first = {
        (entity, kind): values
        for entity, kind, values, now in recorder.logged
        if now <= lidar.stamp_ns
    }
    assert first["ego/cam_front", "Pinhole"]["image_from_camera"].shape == (3, 3)
    assert first["ego/cam_front", "EncodedImage"]["media_type"] == "image/jpeg"
    cloud = data.read(lidar).payload
    assert np.array_equal(first["ego/lidar_top", "Points3D"]["args"][0], np.asarray(cloud)[:, :3])
    boxes = data.annotations(sample.token)
    centres = transform_points(
        inverse_rigid(data.ego_pose(lidar)), [box.translation for box in boxes]
    )
    np.testing.assert_allclose(first["ego/boxes", "Boxes3D"]["centers"], centres)
    texts = [values["args"][0] for _, kind, values, _ in recorder.logged if kind == "TextLog"]
    assert texts[:2] == ["Is there a car? yes (right)", "Is there a bus? yes (expected no)"]
    assert len(texts) == 2 * len(data.samples("scene-0001"))


def test_raw_images_are_logged_as_such(tmp_path: Path, recorder: Recorder) -> None:
    pixels = np.zeros((4, 6, 3), np.uint8)
    with RerunRecording(tmp_path / "a.rrd") as recording:
        recording.frame(SensorFrame("cam_front", "camera", 5, "cam", pixels))
    assert [(entity, kind, now) for entity, kind, _, now in recorder.logged] == [
        ("ego/cam_front", "Image", 5)
    ]


def test_objects_are_boxes_with_their_classes(tmp_path: Path, recorder: Recorder) -> None:
    bus = np.array([[2, 1, 10, -3, 1.5, 11, 2.9, 3.3, 0.5, 0, 0, 0]], np.float32)
    with RerunRecording(tmp_path / "a.rrd") as recording:
        recording.frame(SensorFrame("objects", "objects", 5, "ego", bus))
        recording.frame(SensorFrame("objects", "objects", 6, "ego", bus[:0]))
    (entity, kind, boxes, _), (_, cleared, _, _) = recorder.logged
    assert (entity, kind, cleared) == ("ego/objects", "Boxes3D", "Clear")
    assert boxes["labels"] == ["bus"]
    np.testing.assert_array_equal(boxes["centers"], bus[:, 2:5])
    np.testing.assert_array_equal(boxes["half_sizes"], bus[:, 5:8] / 2)


@pytest.mark.usefixtures("recorder")
def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        RerunRecording(tmp_path / "file" / "a.rrd")


def test_the_sdk_takes_all_of_it(sketch_root: Path, tmp_path: Path) -> None:
    rerun: Any = pytest.importorskip("rerun", reason="rerun-sdk is not installed")
    rerun.set_strict_mode(True)
    record(sketch_root, tmp_path / "a.rrd")
    assert (tmp_path / "a.rrd").stat().st_size > 100_000
