"""A written data set: whole or not there at all, the same bytes twice, chains as nuScenes has."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from tailwire.runtime.errors import DataError
from tailwire.simulation.nuscenes import NuScenes, NuScenesWriter

from .conftest import STAMP_NS, Dataset, picture

NO_TURN = (1.0, 0.0, 0.0, 0.0)
CLOUD = np.ones((2, 5), dtype=np.float32)


def begin(writer: NuScenesWriter) -> None:
    writer.add_sensor("LIDAR_TOP", "lidar", (0, 0, 1.8), NO_TURN)
    writer.begin_scene(
        "scene-0001", "", logfile="log-a", location="here", date_captured="2020-09-13"
    )
    writer.begin_sample(STAMP_NS)


def write(out: Path) -> None:
    with NuScenesWriter(out) as writer:
        begin(writer)
        writer.add_frame("LIDAR_TOP", STAMP_NS, CLOUD, (0, 0, 0), NO_TURN)


def digest(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


def test_all_thirteen_tables_and_both_folders_are_written(dataset: Dataset) -> None:
    assert len(list(dataset.tables.glob("*.json"))) == 13
    for folder in ("samples", "sweeps"):
        for channel in ("CAM_FRONT", "LIDAR_TOP"):
            assert len(list((dataset.root / folder / channel).iterdir())) == 2
    assert (dataset.root / dataset.rows("map")[0]["filename"]).is_file()


def test_records_are_chained_both_ways(dataset: Dataset) -> None:
    for table, chains in (("sample", 1), ("sample_data", 2), ("sample_annotation", 1)):
        rows = {row["token"]: row for row in dataset.rows(table)}
        heads = [row for row in rows.values() if not row["prev"]]
        assert len(heads) == chains
        visited = 0
        for row in heads:
            while True:
                visited += 1
                if not row["next"]:
                    break
                assert rows[row["next"]]["prev"] == row["token"]
                row = rows[row["next"]]
        assert visited == len(rows)
    (instance,) = dataset.rows("instance")
    assert instance["nbr_annotations"] == 2


def test_the_same_drive_gives_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b")
    assert digest(tmp_path / "a") == digest(tmp_path / "b")


def test_while_it_is_written_nothing_can_be_opened(tmp_path: Path) -> None:
    out = tmp_path / "drive"
    with NuScenesWriter(out) as writer:
        begin(writer)
        writer.add_frame("LIDAR_TOP", STAMP_NS, CLOUD, (0, 0, 0), NO_TURN)
        assert not out.exists()
        with pytest.raises(DataError, match=r"no v1\.0-\* folder"):
            NuScenes.open(tmp_path / "drive.partial")
    assert NuScenes.open(out).sensors == ("lidar_top",)
    assert [path.name for path in tmp_path.iterdir()] == ["drive"]


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), NuScenesWriter(tmp_path / "drive") as writer:
        begin(writer)
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("pose", [((0, 0, 0), (0.5, 0, 0, 0)), ((0, float("nan"), 0), NO_TURN)])
def test_what_the_reader_would_refuse_is_not_published(
    tmp_path: Path, pose: tuple[tuple[float, ...], tuple[float, ...]]
) -> None:
    with pytest.raises(DataError), NuScenesWriter(tmp_path / "drive") as writer:
        begin(writer)
        writer.add_frame("LIDAR_TOP", STAMP_NS, CLOUD, *pose)
    assert not list(tmp_path.iterdir())


def test_what_is_there_already_is_not_touched(tmp_path: Path, dataset: Dataset) -> None:
    before = digest(dataset.root)
    with pytest.raises(DataError, match="there already"):
        NuScenesWriter(dataset.root)
    assert digest(dataset.root) == before
    (tmp_path / "new.partial").mkdir()
    with pytest.raises(DataError, match="an earlier write was cut off"):
        NuScenesWriter(tmp_path / "new")
    assert (tmp_path / "new.partial").is_dir()


def test_frames_that_make_no_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError), NuScenesWriter(tmp_path / "drive") as writer:
        begin(writer)
        intrinsic = np.eye(3)
        writer.add_sensor("CAM", "camera", (0, 0, 1), NO_TURN, intrinsic)
        pose = (0, 0, 0), NO_TURN
        for channel, stamp_ns, payload in (
            ("NO_SUCH", STAMP_NS, CLOUD),
            ("LIDAR_TOP", STAMP_NS + 1, CLOUD),
            ("LIDAR_TOP", STAMP_NS, CLOUD.astype(np.float64)),
            ("LIDAR_TOP", STAMP_NS, CLOUD[:, :4]),
            ("LIDAR_TOP", STAMP_NS, CLOUD[:0]),
            ("CAM", STAMP_NS, b"no picture"),
            ("CAM", STAMP_NS, CLOUD),
        ):
            with pytest.raises(DataError):
                writer.add_frame(channel, stamp_ns, payload, *pose)  # pyright: ignore[reportArgumentType]
        writer.add_frame("CAM", STAMP_NS, picture(), *pose)
        with pytest.raises(DataError):
            writer.add_frame("CAM", STAMP_NS, picture(), *pose)
        with pytest.raises(DataError, match="does not follow"):
            writer.add_frame("CAM", STAMP_NS - 1000, picture(), *pose)
        raise DataError("left on purpose")


def write_scene(writer: NuScenesWriter, name: str, stamp_ns: int) -> None:
    writer.begin_scene(name, "", logfile="log-a", location="here", date_captured="2020-09-13")
    for later_ns in (0, 500_000_000):
        writer.begin_sample(stamp_ns + later_ns)
        for sweep, step_ns in enumerate((0, 100_000_000)):
            writer.add_frame(
                "LIDAR_TOP",
                stamp_ns + later_ns + step_ns,
                CLOUD,
                (0, 0, 0),
                NO_TURN,
                is_key_frame=sweep == 0,
            )
        box = ("car", "vehicle.car", [], (1, 0, 0), (1, 1, 1), NO_TURN)
        writer.add_annotation(*box, num_lidar_pts=1, visibility="v0-40")


def test_scenes_share_what_is_common_and_nothing_else(tmp_path: Path) -> None:
    with NuScenesWriter(tmp_path / "drive") as writer:
        writer.add_sensor("LIDAR_TOP", "lidar", (0, 0, 1.8), NO_TURN)
        for number in range(3):
            write_scene(writer, f"scene-{number}", STAMP_NS + number * 10**10)
    written = Dataset(tmp_path / "drive")
    counts = {path.stem: len(written.rows(path.stem)) for path in written.tables.iterdir()}
    assert counts == {
        "attribute": 0,
        "calibrated_sensor": 1,
        "category": 1,
        "ego_pose": 12,
        "instance": 3,
        "log": 1,
        "map": 1,
        "sample": 6,
        "sample_annotation": 6,
        "sample_data": 12,
        "scene": 3,
        "sensor": 1,
        "visibility": 4,
    }
    assert [row["name"] for row in written.rows("scene")] == ["scene-0", "scene-1", "scene-2"]
    NuScenes.open(tmp_path / "drive").check()
    assert not list((tmp_path / "drive").glob(".*"))


def test_a_sweep_belongs_to_the_keyframe_that_follows_it(tmp_path: Path) -> None:
    with NuScenesWriter(tmp_path / "drive") as writer:
        writer.add_sensor("LIDAR_TOP", "lidar", (0, 0, 1.8), NO_TURN)
        write_scene(writer, "scene-0", STAMP_NS)
    written = Dataset(tmp_path / "drive")
    stamp_of = {row["token"]: row["timestamp"] for row in written.rows("sample")}
    first, second = sorted(stamp_of.values())
    belongs = {
        row["timestamp"]: stamp_of[row["sample_token"]] for row in written.rows("sample_data")
    }
    assert belongs == {
        first: first,
        first + 100_000: second,
        second: second,
        second + 100_000: second,
    }


@pytest.mark.parametrize("again", ["scene-0", "scene/0", ""])
def test_a_name_that_makes_no_new_scene_is_refused(tmp_path: Path, again: str) -> None:
    with pytest.raises(DataError), NuScenesWriter(tmp_path / "drive") as writer:
        writer.add_sensor("LIDAR_TOP", "lidar", (0, 0, 1.8), NO_TURN)
        write_scene(writer, "scene-0", STAMP_NS)
        write_scene(writer, again, STAMP_NS + 10**10)
    assert not list(tmp_path.iterdir())
