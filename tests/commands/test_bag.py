"""`tailwire bag`, as a user meets it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tailwire.simulation.bags import open_bag
from tailwire.simulation.nuscenes import NuScenes, NuScenesWriter

from .conftest import Run, camera_file

pytest.importorskip("rosbags", reason="needs the package rosbags: pip install 'tailwire[sim]'")


@pytest.fixture(scope="session")
def two_scenes(tmp_path_factory: pytest.TempPathFactory, drive: Path) -> Path:
    """One camera, two scenes of one keyframe."""
    root = tmp_path_factory.mktemp("two") / "drive"
    data = NuScenes.open(drive)
    file = data.drive_data(data.scenes[0], ["cam_front"])[0]
    jpeg = (drive / file.filename).read_bytes()
    with NuScenesWriter(root) as writer:
        intrinsic = data.calibration_of(file).intrinsic
        writer.add_sensor("CAM_FRONT", "camera", (1, 0, 1), (0.5, -0.5, 0.5, -0.5), intrinsic)
        for name in ("scene-0001", "scene-0002"):
            writer.begin_scene(
                name, "small", logfile="log", location="here", date_captured="2020-01-01"
            )
            writer.begin_sample(1_600_000_000_000_000_000)
            writer.add_frame("CAM_FRONT", 1_600_000_000_000_000_000, jpeg, (0, 0, 0), (1, 0, 0, 0))
    return root


def test_the_only_scene_is_written(run: Run, drive: Path) -> None:
    done = run("bag", drive, "--out", "bag")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].split() == ["TOPIC", "TYPE", "MESSAGES"]
    assert any("/lidar_top/points" in line and "PointCloud2" in line for line in lines)
    assert "frames," in done.out and " s, " in done.out
    assert "  tailwire replay bag" in lines
    assert any(line.startswith("  ros2 bag play bag") for line in lines)
    data = NuScenes.open(drive)
    assert len(list(open_bag("bag").frames())) == len(data.drive_data(data.scenes[0]))


def test_one_scene_of_several_has_to_be_named(run: Run, two_scenes: Path) -> None:
    error = run("bag", two_scenes, "--out", "bag").error()
    assert "--scene" in error and "scene-0001, scene-0002" in error
    assert run("bag", two_scenes, "--scene", "scene-0002", "--out", "bag").code == 0
    assert open_bag("bag").scene == "scene-0002"
    assert (
        "no scene 'scene-7'"
        in run("bag", two_scenes, "--scene", "scene-7", "--out", "other").error()
    )


def test_all_scenes_become_a_bag_each(run: Run, two_scenes: Path) -> None:
    done = run("bag", two_scenes, "--all", "--out", "bags")
    assert done.code == 0
    assert sorted(path.name for path in Path("bags").iterdir()) == ["scene-0001", "scene-0002"]
    assert open_bag("bags", "scene-0002").scene == "scene-0002"
    assert "2 of the 2 bags" in run("bag", two_scenes, "--all", "--out", "bags").error()
    error = run("bag", two_scenes, "--all", "--scene", "scene-0001", "--out", "x").error()
    assert "--all" in error


def test_sensors_may_be_chosen(run: Run, drive: Path) -> None:
    assert run("bag", drive, "--sensors", "lidar_top, cam_back", "--out", "bag").code == 0
    assert open_bag("bag").sensors == ("cam_back", "lidar_top")
    assert "cam_roof" in run("bag", drive, "--sensors", "cam_roof", "--out", "b").error()
    assert "--sensors" in run("bag", drive, "--sensors", "cam_back,", "--out", "b").error()
    assert not Path("b").exists() and not Path("b.partial").exists()


def test_broken_files_are_told(run: Run, own_drive: Path) -> None:
    camera_file(own_drive, "CAM_FRONT").write_bytes(b"")
    done = run("bag", own_drive, "--out", "bag")
    assert done.code == 0
    assert "1 sensor file could not be read" in done.out
    assert "cam_front at " in done.out and "the file is empty" in done.out


def test_bad_input_is_one_line(run: Run, drive: Path, own_drive: Path) -> None:
    assert "no folder" in run("bag", "nowhere", "--out", "bag").error()
    Path("bag").mkdir()
    assert "there already" in run("bag", drive, "--out", "bag").error()
    assert "v9" in run("bag", drive, "--version", "v9", "--out", "new").error()
    shutil.rmtree(own_drive / "samples")
    shutil.rmtree(own_drive / "sweeps", ignore_errors=True)
    assert "none of the" in run("bag", own_drive, "--out", "new").error()
    assert not Path("new").exists()


def test_a_file_where_the_folder_should_be_is_no_earlier_write(
    run: Run, drive: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    error = run("bag", drive, "--out", tmp_path / "file" / "bag").error()
    assert "cannot be written" in error
    assert "cut off" not in error


def test_annotated_boxes_are_written_where_they_are_asked_for(run: Run, drive: Path) -> None:
    done = run("bag", drive, "--objects", "--out", "bag")
    assert done.code == 0
    assert any("/objects " in line and "Detection3DArray" in line for line in done.out.splitlines())
    data = NuScenes.open(drive)
    frames = list(open_bag("bag").frames(["objects"]))
    assert len(frames) == len(data.samples(data.scenes[0]))
