"""The clip: an ordinary dataroot once unpacked, and archives that are refused."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tailwire.runtime.errors import ConfigError, DataError
from tailwire.runtime.files import sha256_of
from tailwire.simulation.clip import clip_archive, read_record, unpack_clip
from tailwire.simulation.clip.beams import decode_sweep, encode_sweep
from tailwire.simulation.clip.pack import ClipOptions, pack_clip
from tailwire.simulation.clip.record import record_of
from tailwire.simulation.nuscenes import NuScenes
from tailwire.simulation.questions.conditions import condition_of
from tailwire.simulation.questions.files import read_questions
from tailwire.simulation.questions.standing import STANDING_QUESTIONS
from tailwire.simulation.questions.truth import GroundTruth


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped clip, unpacked; tests must not change it."""
    out = tmp_path_factory.mktemp("clips") / "clip"
    unpack_clip(out)
    return out


def archive_of(
    path: Path, content_of: dict[str, bytes], changes: dict[str, object] | None = None
) -> Path:
    """An archive with a record that fits it, but for some changes."""
    with zipfile.ZipFile(path, "w") as content:
        for name, data in content_of.items():
            content.writestr(name, data)
    record = {
        "sha256": sha256_of(path),
        "size_bytes": path.stat().st_size,
        "files": len(content_of),
        "unpacked_bytes": sum(map(len, content_of.values())),
        "made_with": [],
    }
    record_of(path).write_text(json.dumps(record | (changes or {})))
    return path


def sweep(columns: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A made-up sweep of four rings with jitter, and the elevations of its beams."""
    rng = np.random.default_rng(seed)
    elevations = np.array([-20.0, -8.0, -1.0, 6.0])
    ring, column = np.divmod(np.flatnonzero(rng.random(4 * columns) < 0.7), columns)
    azimuth = np.pi - 2 * np.pi * column / columns + rng.normal(0, np.radians(0.02), len(ring))
    elevation = np.radians(elevations[ring] + rng.normal(0, 0.02, len(ring)))
    ranges = rng.uniform(1, 80, len(ring))
    points = [
        ranges * np.cos(elevation) * np.cos(azimuth),
        ranges * np.cos(elevation) * np.sin(azimuth),
        ranges * np.sin(elevation),
        rng.integers(0, 256, len(ring)),
        ring,
    ]
    return np.column_stack(points).astype(np.float32), elevations


def test_it_is_a_whole_data_set_by_day_and_by_night(clip: Path) -> None:
    data = NuScenes.open(clip)
    data.check()
    assert [condition_of(scene.description) for scene in data.scenes] == ["day", "night"]
    cameras = [name for name in data.sensors if name.startswith("cam_")]
    assert len(cameras) == 6
    for scene in data.scenes:
        for sample in data.samples(scene):
            frames = data.frames(sample.token)
            assert set(frames) == {*cameras, "lidar_top"}
            assert len(frames["lidar_top"].payload) > 10_000
            assert data.annotations(sample.token)
            data.velocities(sample.token)


def test_it_is_as_large_as_its_record_says(clip: Path) -> None:
    record = read_record(clip_archive())
    files = [path for path in clip.rglob("*") if path.is_file()]
    assert len(files) == record.files
    assert sum(path.stat().st_size for path in files) == record.unpacked_bytes
    assert record.size_bytes <= 6_000_000


def test_boxes_hold_the_points_that_the_tables_count(clip: Path) -> None:
    """Sweeps went through centimetres and beams, and boxes still fit them."""
    from tailwire.simulation.nuscenes.geometry import points_in_box, transform_points

    data = NuScenes.open(clip)
    counted = found = 0
    for sample in data.samples(data.scenes[0])[:3]:
        file = data.sample_data("lidar_top", sample.token)
        pose = data.ego_pose(file) @ data.calibration_of(file).ego_from_sensor
        cloud = np.asarray(data.read(file).payload)
        points = transform_points(pose, cloud[:, :3])
        for box in data.annotations(sample.token):
            inside = points_in_box(points, box.translation, box.size_wlh, box.rotation)
            found += int(np.count_nonzero(inside))
            counted += box.num_lidar_pts
    assert found == pytest.approx(counted, rel=0.02)


def test_cameras_project_into_the_smaller_pictures(clip: Path) -> None:
    data = NuScenes.open(clip)
    file = data.sample_data("cam_front", data.samples(data.scenes[0])[0].token)
    intrinsic = data.calibration_of(file).intrinsic
    assert intrinsic is not None
    # The optical axis of nuScenes' front camera goes through the middle of the picture.
    assert intrinsic[0, 2] == pytest.approx(file.width / 2, rel=0.05)
    assert intrinsic[1, 2] == pytest.approx(file.height / 2, rel=0.15)


def test_its_questions_are_right_and_its_standing_ones_change(clip: Path) -> None:
    data = NuScenes.open(clip)
    tokens = [sample.token for scene in data.scenes for sample in data.samples(scene)]
    items = [one for path in (clip / "questions").iterdir() for one in read_questions(path)]
    assert {item.sample_token for item in items} == set(tokens)
    truth = GroundTruth(data, [item.question for item in items])
    for place in range(0, len(items), 25):
        assert truth.at(items[place].sample_token)[place] == items[place].answer
    standing = GroundTruth(data, [text for text, _ in STANDING_QUESTIONS])
    columns = list(zip(*map(standing.at, tokens), strict=True))
    for (text, allowed), column in zip(STANDING_QUESTIONS, columns, strict=True):
        known = {answer for answer in column if answer is not None}
        assert len(known) > 1, text
        assert known <= set(allowed), text


def test_the_core_is_enough() -> None:
    heavy = ("torch", "moderngl", "trimesh", "scipy", "rosbags", "onnxruntime")
    code = (
        "import sys, tailwire.simulation.clip.pack, tailwire.simulation.questions.truth; "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_sweep_comes_back_beam_by_beam() -> None:
    cloud, elevations = sweep(360)
    data = encode_sweep(cloud, elevations, 360)
    back = decode_sweep(data, "sweep")
    assert back.dtype == np.float32
    assert len(back) == len(cloud)
    # Both as cells of ring and firing, worked out from the points alone.
    for points in (cloud, back):
        turns = (np.pi - np.arctan2(points[:, 1], points[:, 0])) / (2 * np.pi)
        cell = points[:, 4] * 360 + np.rint(turns * 360) % 360
        points[:] = points[np.argsort(cell)]
    distance = np.linalg.norm(cloud[:, :3], axis=1)
    apart = np.linalg.norm(cloud[:, :3] - back[:, :3], axis=1)
    assert (apart < 0.006 + np.radians(0.15) * distance).all()
    assert np.allclose(np.linalg.norm(back[:, :3], axis=1), distance, atol=0.0051)
    assert (back[:, 3:] == cloud[:, 3:]).all()


def test_sweeps_of_other_sensors_are_refused() -> None:
    cloud, elevations = sweep(360)
    with pytest.raises(DataError, match="share"):
        encode_sweep(np.concatenate([cloud, cloud[:1]]), elevations, 360)
    with pytest.raises(DataError, match="share"):
        encode_sweep(cloud, elevations[:2], 360)


@pytest.mark.parametrize("change", ["cut", "longer", "magic", "count", "empty"])
def test_bytes_that_are_no_sweep(change: str) -> None:
    data = encode_sweep(*sweep(360), 360)
    broken = {
        "cut": data[:-1],
        "longer": data + b"\0",
        "magic": b"XXXX" + data[4:],
        "count": data[:8] + b"\xff\xff\xff\x7f" + data[12:],
        "empty": b"",
    }[change]
    with pytest.raises(DataError, match="sweep"):
        decode_sweep(broken, "sweep")


def test_a_changed_or_cut_off_archive_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "clip.zip"
    whole = clip_archive().read_bytes()
    record_of(archive).write_bytes(record_of(clip_archive()).read_bytes())
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 1
    for content, said in ((bytes(changed), "sha256"), (whole[:-100], "bytes"), (None, "read")):
        archive.unlink(missing_ok=True)
        if content is not None:
            archive.write_bytes(content)
        with pytest.raises(DataError, match=said) as caught:
            unpack_clip(tmp_path / "out", archive)
        assert str(archive) in str(caught.value)
        assert caught.value.remedy
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name", ["../up.json", "/abs.json", "a/../../up.json", "run.sh", "a\\b.json"]
)
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    archive = archive_of(tmp_path / "clip.zip", {name: b"{}"})
    with pytest.raises(DataError):
        unpack_clip(tmp_path / "in" / "out", archive)
    assert not any(path.name in ("up.json", "abs.json", "run.sh") for path in tmp_path.rglob("*"))


def test_sizes_are_bounded(tmp_path: Path) -> None:
    files = {"a.json": bytes(1000), "b.json": bytes(1000)}
    wrong: tuple[dict[str, object], ...] = (
        {"unpacked_bytes": 1500},
        {"unpacked_bytes": 5000},
        {"unpacked_bytes": 10**12},
        {"files": 1},
    )
    for changes in wrong:
        archive = archive_of(tmp_path / "clip.zip", files, changes)
        with pytest.raises(DataError):
            unpack_clip(tmp_path / f"out-{len(list(tmp_path.iterdir()))}", archive)


def test_an_archive_that_is_none(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "clip.zip", {"a.json": b"{}"})
    archive.write_bytes(b"no archive at all")
    record = json.loads(record_of(archive).read_text())
    record |= {"sha256": sha256_of(archive), "size_bytes": archive.stat().st_size}
    record_of(archive).write_text(json.dumps(record))
    with pytest.raises(DataError, match="broken"):
        unpack_clip(tmp_path / "out", archive)
    record_of(archive).write_text('{"sha256": 3}')
    with pytest.raises(DataError, match="record"):
        unpack_clip(tmp_path / "out", archive)
    record_of(archive).unlink()
    with pytest.raises(DataError, match="record"):
        unpack_clip(tmp_path / "out", archive)


def test_wrong_options(tmp_path: Path) -> None:
    for wrong in ({"seconds": ()}, {"seconds": (0.0,)}, {"seconds": (1.0,), "image_quality": 0}):
        with pytest.raises(ConfigError):
            ClipOptions(**wrong)  # pyright: ignore[reportArgumentType] - that is the point
    with pytest.raises(DataError):
        pack_clip(tmp_path, tmp_path / "clip.zip", ClipOptions((1.0,)), ())


def test_a_clip_of_a_clip(clip: Path, tmp_path: Path) -> None:
    """Chains, counts and ends stay whole, and matrices follow the pictures."""
    archive = tmp_path / "small.zip"
    pack_clip(clip, archive, ClipOptions((1.0,), image_width=320), ("made here",))
    record = unpack_clip(tmp_path / "small", archive)
    assert record.made_with == ("made here",)
    before, after = NuScenes.open(clip), NuScenes.open(tmp_path / "small")
    after.check()
    (scene,) = after.scenes
    assert scene.num_samples == 2
    token = after.samples(scene)[0].token
    big, small = (data.calibration("cam_back", token).intrinsic for data in (before, after))
    assert big is not None
    assert small is not None
    assert np.allclose(small[:2] * 2, big[:2])
    assert len(after.annotations(token)) == len(before.annotations(token))
