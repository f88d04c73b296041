"""Every kind of broken data set: refused by name of table, record and field, with a remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailwire.runtime.errors import DataError, SensorError
from tailwire.simulation.nuscenes import NuScenes

from .conftest import Dataset, picture

Rows = list[dict[str, Any]]
REPLAY = ("scene", "sample", "sample_data", "sensor", "calibrated_sensor", "ego_pose")
LABELS = ("sample_annotation", "instance", "category", "attribute", "visibility", "map", "log")


def set_field(field: str, value: object, row: int = 1) -> Callable[[Rows], None]:
    return lambda rows: rows[row].update({field: value})


def refused(dataset: Dataset) -> DataError:
    with pytest.raises(DataError) as caught:
        NuScenes.open(dataset.root).check()
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize("table", REPLAY)
def test_a_table_that_a_replay_needs_is_missing_or_empty(dataset: Dataset, table: str) -> None:
    path = dataset.tables / f"{table}.json"
    path.write_text("[]")
    assert f"{table}.json" in refused(dataset).field
    path.unlink()
    error = refused(dataset)
    assert f"{table}.json" in error.field
    assert "missing" in error.problem


@pytest.mark.parametrize("table", REPLAY + LABELS)
@pytest.mark.parametrize(
    "content", [b"", b'[{"token": ', b"[{}] {}", b"[,]", b"\xff\xfe", b"[" * 100_000]
)
def test_invalid_json_is_named(dataset: Dataset, table: str, content: bytes) -> None:
    (dataset.tables / f"{table}.json").write_bytes(content)
    assert f"{table}.json" in str(refused(dataset))


@pytest.mark.parametrize("content", ["{}", "3", '[{"token": "a"}, 5]', "[null]"])
def test_a_table_is_a_list_of_records(dataset: Dataset, content: str) -> None:
    (dataset.tables / "category.json").write_text(content)
    assert "category.json" in refused(dataset).field


def test_broken_json_far_into_a_long_table_is_told_with_its_line(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = dataset.tables / "ego_pose.json"
    lines = json.dumps(dataset.rows("ego_pose"), indent=0).splitlines()
    broken = next(n for n in reversed(range(len(lines))) if '"token"' in lines[n])
    lines[broken] = '"token": oops,'
    path.write_text("\n".join(lines))
    for size in (1 << 24, 100):
        monkeypatch.setattr("tailwire.simulation.nuscenes.tables._BLOCK_CHARS", size)
        assert f"line {broken + 1}" in refused(dataset).problem


@pytest.mark.parametrize(
    ("table", "field", "value"),
    [
        ("sample", "timestamp", "1600"),
        ("sample", "timestamp", 1.5),
        ("sample", "timestamp", True),
        ("sample", "timestamp", -1),
        ("sample", "timestamp", 2**63),
        ("sample", "scene_token", None),
        ("sample_data", "is_key_frame", 1),
        ("sample_data", "filename", 7),
        ("sample_data", "width", "1600"),
        ("ego_pose", "translation", [0.0, 1.0]),
        ("ego_pose", "translation", [0.0, 1.0, "2"]),
        ("ego_pose", "translation", [0.0, 1.0, True]),
        ("ego_pose", "translation", [0.0, 1.0, float("nan")]),
        ("ego_pose", "translation", [0.0, 1.0, float("inf")]),
        ("ego_pose", "translation", [0.0, 1.0, 10**400]),
        ("ego_pose", "translation", [[0.0], [1.0], [2.0]]),
        ("ego_pose", "translation", {"x": 0}),
        ("ego_pose", "rotation", [1.0, 0.0, 0.0]),
        ("ego_pose", "rotation", [0.0, 0.0, 0.0, 0.0]),
        ("ego_pose", "rotation", [0.9, 0.0, 0.0, 0.0]),
        ("calibrated_sensor", "rotation", [1.0, 0.0, float("nan"), 0.0]),
        ("calibrated_sensor", "translation", [float("nan"), 0.0, 0.0]),
        ("calibrated_sensor", "camera_intrinsic", [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]),
        ("calibrated_sensor", "camera_intrinsic", [[1, 0], [0, 1], [0, 0]]),
        ("calibrated_sensor", "camera_intrinsic", [[1, 0, 0], [0, 1, 0], [0, 0, float("nan")]]),
        ("calibrated_sensor", "camera_intrinsic", [[1, 0, 0], [0, 0, 0], [0, 0, 1]]),
        ("calibrated_sensor", "camera_intrinsic", [[1, 0, 0], [0, 1, 0], [0, 0, 2]]),
        ("calibrated_sensor", "camera_intrinsic", [[1, 1e12, 0], [1, 1e12, 0], [0, 0, 1]]),
        ("calibrated_sensor", "camera_intrinsic", None),
        ("sample_annotation", "num_lidar_pts", None),
        ("sample_annotation", "attribute_tokens", ["", 3]),
        ("sample_annotation", "attribute_tokens", "abc"),
        ("sample_annotation", "size", [1.0, 2.0]),
    ],
)
def test_a_wrong_value_is_named_with_its_record(
    dataset: Dataset, table: str, field: str, value: object
) -> None:
    token = dataset.rows(table)[1]["token"]
    dataset.edit(table, set_field(field, value))
    error = refused(dataset)
    assert f"{table}.json, record {token}, field {field}" in error.field


@pytest.mark.parametrize("table", REPLAY + LABELS)
def test_a_missing_field_is_named_with_its_record(dataset: Dataset, table: str) -> None:
    record = dataset.rows(table)[0]
    for field in record.keys() - {"token", "description", "fileformat"}:
        dataset.edit(table, lambda rows, field=field: rows[0].pop(field))
        error = refused(dataset)
        assert f"{table}.json, record {record['token']}, field {field}" in error.field
        dataset.edit(table, set_field(field, record[field], row=0))


@pytest.mark.parametrize("table", REPLAY + LABELS)
def test_a_doubled_token_is_named(dataset: Dataset, table: str) -> None:
    token = dataset.rows(table)[0]["token"]
    dataset.edit(table, lambda rows: rows.append(rows[0]))
    error = refused(dataset)
    assert f"{table}.json, record {token}, field token" in error.field


@pytest.mark.parametrize("token", ["", None, 4])
def test_a_token_is_a_text_that_is_not_empty(dataset: Dataset, token: object) -> None:
    dataset.edit("ego_pose", set_field("token", token))
    assert "ego_pose.json" in refused(dataset).field


@pytest.mark.parametrize(
    ("table", "field"),
    [
        ("scene", "first_sample_token"),
        ("scene", "last_sample_token"),
        ("scene", "log_token"),
        ("sample", "scene_token"),
        ("sample", "next"),
        ("sample_data", "sample_token"),
        ("sample_data", "ego_pose_token"),
        ("sample_data", "calibrated_sensor_token"),
        ("sample_data", "prev"),
        ("calibrated_sensor", "sensor_token"),
        ("sample_annotation", "sample_token"),
        ("sample_annotation", "instance_token"),
        ("sample_annotation", "visibility_token"),
        ("sample_annotation", "next"),
        ("instance", "category_token"),
        ("instance", "last_annotation_token"),
    ],
)
def test_a_link_that_leads_nowhere_is_named(dataset: Dataset, table: str, field: str) -> None:
    token = dataset.rows(table)[0]["token"]
    dataset.edit(table, set_field(field, "nowhere", row=0))
    error = refused(dataset)
    assert f"{table}.json, record {token}, field {field}" in error.field
    assert "'nowhere'" in error.problem


@pytest.mark.parametrize(
    ("table", "field"), [("sample_annotation", "attribute_tokens"), ("map", "log_tokens")]
)
def test_a_list_with_a_link_that_leads_nowhere_is_named(
    dataset: Dataset, table: str, field: str
) -> None:
    dataset.edit(table, set_field(field, ["nowhere"], row=0))
    assert field in refused(dataset).field


def test_boxes_whose_categories_are_missing_are_refused(dataset: Dataset) -> None:
    (dataset.tables / "category.json").unlink()
    assert "instance.json" in refused(dataset).field


@pytest.mark.parametrize(
    "name", ["../other/a.jpg", "/etc/hosts", "samples/../../a.jpg", "", "samples/a\0.jpg", ".."]
)
def test_a_file_name_that_leaves_the_dataroot_is_refused(dataset: Dataset, name: str) -> None:
    dataset.edit("sample_data", set_field("filename", name))
    assert "field filename" in refused(dataset).field


def test_two_dots_within_a_name_are_no_way_out(dataset: Dataset) -> None:
    dataset.edit("sample_data", set_field("filename", "samples/a..b.jpg"))
    NuScenes.open(dataset.root)


def test_a_camera_without_intrinsic_is_refused(dataset: Dataset) -> None:
    dataset.edit("calibrated_sensor", set_field("camera_intrinsic", [], row=0))
    assert "field camera_intrinsic" in refused(dataset).field


def test_sensors_are_of_known_kinds_and_told_apart_by_name(dataset: Dataset) -> None:
    dataset.edit("sensor", set_field("modality", "lidra"))
    assert "field modality" in refused(dataset).field
    dataset.edit("sensor", set_field("modality", "lidar"))
    dataset.edit("sensor", set_field("channel", "cam_front"))
    assert "field channel" in refused(dataset).field


def test_two_keyframe_files_of_one_sensor_are_refused(dataset: Dataset) -> None:
    dataset.edit("sample_data", lambda rows: [row.update(is_key_frame=True) for row in rows])
    assert "second keyframe file" in refused(dataset).problem


def test_opening_needs_a_folder_and_a_version(tmp_path: Path, dataset: Dataset) -> None:
    with pytest.raises(DataError, match="is no folder"):
        NuScenes.open(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no v1\.0-\* folder"):
        NuScenes.open(tmp_path)
    with pytest.raises(DataError, match=r"v1\.0-test is not here; found: v1\.0-mini"):
        NuScenes.open(dataset.root, "v1.0-test")


def test_unknown_names_are_told_with_the_known_ones(dataset: Dataset) -> None:
    nuscenes = NuScenes.open(dataset.root)
    token = nuscenes.samples("scene-0001")[0].token
    for call in (
        lambda: nuscenes.frames(token, ["cam_up"]),
        lambda: nuscenes.snapshot(token, ["cam_up"]),
        lambda: nuscenes.drive("scene-0001", ["cam_up"]),
        lambda: nuscenes.calibration("cam_up", token),
    ):
        with pytest.raises(SensorError, match=r"cam_up: .*known are cam_front, lidar_top"):
            call()
    with pytest.raises(DataError, match="scene-0001"):
        nuscenes.drive("scene-9999")
    with pytest.raises(DataError, match="no record 'x'"):
        nuscenes.annotations("x")


def break_file(path: Path, how: str) -> None:
    nan = np.full((3, 5), np.nan, dtype=np.float32)
    content = path.read_bytes()
    path.unlink()
    if how == "folder":
        path.mkdir()
    elif how != "missing":
        path.write_bytes(
            {"empty": b"", "cut": content[:-7], "other": b"P6 1 1 255", "nan": nan.tobytes()}[how]
        )


@pytest.mark.parametrize(
    ("channel", "how"),
    [
        ("CAM_FRONT", "missing"), ("CAM_FRONT", "empty"), ("CAM_FRONT", "cut"),
        ("CAM_FRONT", "other"), ("CAM_FRONT", "folder"), ("LIDAR_TOP", "missing"),
        ("LIDAR_TOP", "empty"), ("LIDAR_TOP", "cut"), ("LIDAR_TOP", "nan"),
    ],
)  # fmt: skip
def test_a_bad_file_raises_or_is_dropped_with_its_reason(
    dataset: Dataset, channel: str, how: str
) -> None:
    path, sensor = dataset.file(channel), channel.lower()
    break_file(path, how)
    nuscenes = NuScenes.open(dataset.root)
    token = nuscenes.samples("scene-0001")[0].token
    with pytest.raises(SensorError, match=path.name.replace("+", r"\+")):
        nuscenes.frames(token)
    snapshot = nuscenes.snapshot(token)
    assert set(snapshot.frames) == {"cam_front", "lidar_top"} - {sensor}
    assert set(snapshot.dropped) == {sensor}
    assert str(path) in snapshot.dropped[sensor]


def test_a_sensor_without_a_file_at_the_keyframe_is_dropped(dataset: Dataset) -> None:
    dataset.edit("sample_data", set_field("is_key_frame", False, row=0))
    nuscenes = NuScenes.open(dataset.root)
    token = nuscenes.samples("scene-0001")[0].token
    assert "no file at keyframe" in nuscenes.snapshot(token).dropped["cam_front"]
    with pytest.raises(SensorError, match="no file at keyframe"):
        nuscenes.frames(token)


def test_a_drive_goes_on_over_a_bad_file_when_told_so(dataset: Dataset) -> None:
    break_file(dataset.file("LIDAR_TOP"), "cut")
    nuscenes = NuScenes.open(dataset.root)
    dropped: list[str] = []
    frames = list(nuscenes.drive("scene-0001", on_drop=lambda data, _: dropped.append(data.sensor)))
    assert dropped == ["lidar_top"]
    assert len(frames) == 7
    with pytest.raises(SensorError, match="cut off"):
        list(nuscenes.drive("scene-0001"))


def test_points_that_are_not_finite_are_removed(dataset: Dataset) -> None:
    cloud = np.ones((6, 5), dtype=np.float32)
    cloud[1, 0], cloud[4, 3] = np.nan, np.inf
    dataset.file("LIDAR_TOP").write_bytes(cloud.tobytes())
    nuscenes = NuScenes.open(dataset.root)
    frame = nuscenes.frames(nuscenes.samples("scene-0001")[0].token, ["lidar_top"])["lidar_top"]
    np.testing.assert_array_equal(frame.payload, np.ones((4, 5), dtype=np.float32))


def test_a_padded_jpeg_is_whole(dataset: Dataset) -> None:
    dataset.file("CAM_FRONT").write_bytes(picture() + b"\0" * 9)
    nuscenes = NuScenes.open(dataset.root)
    nuscenes.frames(nuscenes.samples("scene-0001")[0].token)
