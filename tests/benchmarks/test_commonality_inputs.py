"""Inputs of commonality items from made drives, and the command that makes them."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tailwire.benchmarks.commonality import read_items
from tailwire.benchmarks.commonality_inputs import array, write_input
from tailwire.benchmarks.commonality_items import SENSES, moments_of
from tailwire.cli import main
from tailwire.simulation.nuscenes import NuScenes
from tailwire.simulation.questions.scene_graph import keyframe_pose

from ..quick_drives import quick_drive
from .busy_streets import make_streets_busy


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quick_drive(tmp_path_factory.mktemp("commonality") / "drive", scenes=4)


def test_moments_know_how_fast_the_vehicle_is(drive: Path) -> None:
    data = NuScenes.open(drive)
    moments = moments_of(data)
    for scene in data.scenes:
        samples = data.samples(scene)
        mine = [moment for moment in moments if moment.scene == scene.token]
        assert [m.token for m in mine] == [sample.token for sample in samples[1:]]
        for before, after, moment in zip(samples, samples[1:], mine, strict=False):
            way = keyframe_pose(data, after.token)[:2, 3] - keyframe_pose(data, before.token)[:2, 3]
            seconds = (after.stamp_ns - before.stamp_ns) / 1e9
            assert moment.own_speed_mps == pytest.approx(np.hypot(*way) / seconds)


def test_each_sense_gives_its_input_and_the_same_again(drive: Path, tmp_path: Path) -> None:
    moment = moments_of(NuScenes.open(drive))[0]
    for sense in SENSES:
        path = write_input(tmp_path, sense, moment)
        content = path.read_bytes()
        if sense == "image":
            with Image.open(BytesIO(content)) as picture:
                assert picture.size == (1200, 450)
        else:
            values = np.load(BytesIO(content), allow_pickle=False)
            np.testing.assert_array_equal(values, array(sense, moment))
            assert values.dtype == np.float32 and np.isfinite(values).all()
        path.unlink()
        assert write_input(tmp_path, sense, moment).read_bytes() == content


def test_points_are_in_the_vehicles_frame(drive: Path) -> None:
    cloud = array("point", moments_of(NuScenes.open(drive))[0])
    # Most of what a LiDAR on the roof hits is the road, at z = 0 there.
    assert (np.abs(cloud[:, 2]) < 0.3).mean() > 0.3


def test_the_command_makes_items_with_all_their_inputs(
    drive: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_streets_busy(monkeypatch)
    out = tmp_path / "items"
    arguments = ["commonality", "make", "--dataroot", str(drive), "--out", str(out)]
    assert main([*arguments, "--items", "3", "--split", "all", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    items = read_items(out / "items.json")
    assert said["items"] == len(items) == sum(said["by_modalities"].values())
    for item in items:
        for file in item.inputs.values():
            assert (out / file).is_file()
    assert main([*arguments, "--items", "3"]) == 2
    assert "there are items already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--senses", "smell,image"], "no sense 'smell'"),
        (["--senses", "image"], "of 1 senses"),
        (["--items", "0"], "0 items"),
        (["--split", "test"], "no split 'test'"),
    ],
)
def test_wrong_options_are_refused_and_nothing_is_written(
    drive: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    words: str,
) -> None:
    out = tmp_path / "items"
    arguments = ["commonality", "make", "--dataroot", str(drive), "--out", str(out)]
    assert main([*arguments, *options]) == 2
    assert words in capsys.readouterr().err
    assert not out.exists()
