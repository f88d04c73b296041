"""Made drives: what is annotated, the same bytes after an interruption, and workers that die."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tailwire.runtime.errors import ConfigError, DataError
from tailwire.simulation import made_drive, made_scene, scene_pool
from tailwire.simulation.drive_parameters import DriveParameters
from tailwire.simulation.lidar import LidarScanner, RayWorld
from tailwire.simulation.made_annotations import Annotator, Box
from tailwire.simulation.made_drive import DriveProgress, MadeDrive, make_drive
from tailwire.simulation.made_scene import write_scene
from tailwire.simulation.meshes import MeshKey
from tailwire.simulation.nuscenes import NuScenes
from tailwire.simulation.nuscenes.geometry import points_in_box, transform_points
from tailwire.simulation.nuscenes.writer import write_dataset
from tailwire.simulation.world import Placed, State, Track, World

from .made_parts import BoxLibrary, FlatRenderer
from .tiny_world import tiny_world

pytest.importorskip("embreex", reason="embreex is not installed (pip install 'tailwire[sim]')")

PARAMETERS = DriveParameters(
    3, 1.0, 7, ("day", "fog"), image_width=32, camera_hz=4, lidar_hz=4, version="v1.0-mini"
)


def quick_scene(
    root: Path, parameters: DriveParameters, index: int, on_keyframe: Callable[[int], None]
) -> None:
    write_scene(root, parameters, index, BoxLibrary(), FlatRenderer(), on_keyframe)


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    """Scenes of the tiny world, with boxes for meshes and one colour for pictures."""

    def world(parameters: DriveParameters, index: int) -> World:
        return tiny_world(duration_s=parameters.seconds + 0.2)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made_scene, "made_world", world)
        patch.setattr(made_drive, "make_scene", quick_scene)
        yield


@pytest.fixture(scope="module")
def whole(quick: None, tmp_path_factory: pytest.TempPathFactory) -> MadeDrive:
    """A drive made in one go; tests must not change it."""
    return make(tmp_path_factory.mktemp("drives") / "whole")


def make(out: Path, parameters: DriveParameters = PARAMETERS, workers: int = 0) -> MadeDrive:
    return make_drive(
        out,
        parameters.scenes,
        parameters.seconds,
        parameters.seed,
        parameters.conditions,
        image_width=parameters.image_width,
        camera_hz=parameters.camera_hz,
        lidar_hz=parameters.lidar_hz,
        version=parameters.version,
        workers=workers,
        questions=False,
    )


def digest(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_a_drive_has_rates_and_order_of_nuscenes(whole: MadeDrive) -> None:
    data = NuScenes.open(whole.out)
    data.check()
    assert [scene.name for scene in data.scenes] == ["scene-0001", "scene-0002", "scene-0003"]
    for scene in data.scenes:
        samples = data.samples(scene)
        assert np.diff([sample.stamp_ns for sample in samples]).tolist() == [500_000_000]
        files = data.drive_data(scene)
        assert len(files) == 6 * 4 + 4
        for sample in samples:
            assert data.sample_data("lidar_top", sample.token).stamp_ns == sample.stamp_ns
            for sensor in data.sensors:
                behind_us = (
                    sample.stamp_ns - data.sample_data(sensor, sample.token).stamp_ns
                ) // 1000
                assert 0 <= behind_us < 50_000
        for sensor in data.sensors:
            stamps = [file.stamp_ns for file in files if file.sensor == sensor]
            assert np.diff(stamps).tolist() == [250_000_000] * 3
        # Says the schema: a sweep belongs to the keyframe that follows, the last ones to the last.
        for file in files:
            if file.sensor == "lidar_top" and not file.is_key_frame:
                later = [s for s in samples if s.stamp_ns > file.stamp_ns] or [samples[-1]]
                assert file.sample_token == later[0].token
    assert (whole.scenes, whole.keyframes, whole.frames) == (3, 6, 3 * 28)
    assert whole.annotations == sum(
        len(data.annotations(s.token)) for scene in data.scenes for s in data.samples(scene)
    )
    on_disk = [path for path in whole.out.rglob("*") if path.suffix in (".jpg", ".bin")]
    assert whole.num_bytes == sum(path.stat().st_size for path in on_disk)
    assert len(on_disk) == whole.frames


def test_scenes_never_overlap_in_time() -> None:
    parameters = DriveParameters(200, 120.0, 7, ("day", "night", "rain", "fog"))
    starts = sorted(parameters.start(index) for index in range(200))
    assert all((after - before).total_seconds() > 121 for before, after in pairwise(starts))


def test_poses_move_with_the_stamps(whole: MadeDrive) -> None:
    data = NuScenes.open(whole.out)
    files = data.drive_data("scene-0001")
    for file in files:
        moved = data.ego_pose(file)[0, 3] - data.ego_pose(files[0])[0, 3]
        # The tiny world's vehicle drives at 5 m/s along x.
        assert moved == pytest.approx((file.stamp_ns - files[0].stamp_ns) * 5e-9, abs=1e-6)


def test_num_lidar_pts_is_the_number_of_points_in_the_box(whole: MadeDrive) -> None:
    data = NuScenes.open(whole.out)
    boxes = 0
    for scene in data.scenes:
        for sample in data.samples(scene):
            file = data.sample_data("lidar_top", sample.token)
            cloud = np.asarray(data.read(file).payload)
            points = transform_points(
                data.ego_pose(file) @ data.calibration_of(file).ego_from_sensor, cloud[:, :3]
            )
            for box in data.annotations(sample.token):
                inside = points_in_box(points, box.translation, box.size_wlh, box.rotation)
                assert inside.sum() == box.num_lidar_pts > 0
                boxes += 1
    assert boxes > 10


def boxes_of(world: World, time_s: float = 0.1) -> dict[str, Box]:
    rays = RayWorld(world, BoxLibrary())
    moment = rays.at(time_s)
    cloud = LidarScanner(world, rays, (1,)).sweep(time_s, moment).cloud
    return {box.instance: box for box in Annotator(world, rays).boxes(time_s, moment, cloud)}


def parked(world: World, x: float, y: float, yaw_rad: float = 0.0) -> World:
    """The world with nothing in it but its car, parked there."""
    car = replace(
        world.agents_by_name["car-1"],
        track=Track((0.0,), (State(x, y, 0.0, yaw_rad, 0.0, "vehicle.parked"),)),
    )
    return replace(world, agents=(car,), scenery=())


def wall(x: float, y: float, width: float, height: float = 4.0) -> Placed:
    return Placed(MeshKey("wall", (width, 0.2, height)), x, y, 0.0, 0.0)


def test_visibility_is_what_the_images_show() -> None:
    free = parked(tiny_world(), 15.0, 1.0)
    assert boxes_of(free)["car-1"].visibility == "v80-100"
    # Half a car's width behind a wall, then all but what shows above a low wall.
    half = replace(free, scenery=(wall(10.0, 3.5, 5.0),))
    assert boxes_of(half)["car-1"].visibility in ("v40-60", "v60-80")
    low = replace(free, scenery=(wall(10.0, 1.0, 8.0, 1.25),))
    assert boxes_of(low)["car-1"].visibility == "v0-40"
    hidden = replace(free, scenery=(wall(10.0, 1.0, 12.0),))
    assert not boxes_of(hidden)
    fog = replace(free.condition, name="fog", visibility_m=10.0)
    assert boxes_of(replace(free, condition=fog))["car-1"].visibility == "v0-40"


def test_a_box_holds_its_thing_and_tells_its_attribute() -> None:
    world = tiny_world()
    boxes = boxes_of(world, 0.5)
    bus = boxes["bus-1"]
    assert (bus.category, bus.attributes) == ("vehicle.bus.rigid", ("vehicle.moving",))
    assert boxes["cone-1"].attributes == ()
    np.testing.assert_allclose(bus.size_wlh, world.agents_by_name["bus-1"].size_wlh, atol=0.05)
    np.testing.assert_allclose(bus.translation, (38.0, 3.5, 1.65), atol=0.02)


def test_what_is_far_or_gone_is_not_annotated() -> None:
    assert not boxes_of(parked(tiny_world(), 85.0, 0.0))
    assert "car-1" in boxes_of(parked(tiny_world(), 30.0, 0.0))


class Interrupted(BaseException):
    pass


@pytest.mark.parametrize("after", [1, 3, 6])
def test_a_drive_that_was_cut_off_goes_on_to_the_same_bytes(
    tmp_path: Path, whole: MadeDrive, after: int
) -> None:
    keyframes = 0

    def cut(progress: DriveProgress) -> None:
        nonlocal keyframes
        keyframes += 1
        if keyframes > after:
            raise Interrupted

    out = tmp_path / "cut"
    with pytest.raises(Interrupted):
        make_drive(
            out, 3, 1.0, 7, ("day", "fog"), image_width=32, camera_hz=4, lidar_hz=4,
            version="v1.0-mini", workers=0, questions=False, on_progress=cut,
        )  # fmt: skip
    assert not out.exists()
    # Nothing stays where no scene was finished.
    assert (tmp_path / "cut.partial").is_dir() == (after > 1)
    made = make(out)
    assert digest(out) == digest(whole.out)
    assert made.keyframes == 6
    # A scene that was not finished is made again, one that was is not.
    assert made.keyframes_made == {1: 6, 3: 4, 6: 2}[after]
    assert not list(tmp_path.glob("*.partial"))


def test_a_cut_while_the_tables_are_joined_is_mended(
    tmp_path: Path, whole: MadeDrive, monkeypatch: pytest.MonkeyPatch
) -> None:

    def cut(*args: object) -> None:
        write_dataset(*args)  # pyright: ignore[reportArgumentType]
        raise Interrupted

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(made_drive, "write_dataset", cut)
        make(tmp_path / "cut")
    assert make(tmp_path / "cut").keyframes_made == 0
    assert digest(tmp_path / "cut") == digest(whole.out)


def test_other_parameters_do_not_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "drive"
    shutil.copytree(begun(out, monkeypatch), tmp_path / "before")
    for name, value in (("seed", 8), ("conditions", ("day",)), ("image_width", 64), ("scenes", 2)):
        with pytest.raises(DataError, match="was begun with") as caught:
            make(out, replace(PARAMETERS, **{name: value}))
        assert caught.value.field == name
    assert digest(tmp_path / "drive.partial") == digest(tmp_path / "before")


def begun(out: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The partial folder of a drive whose second scene failed."""

    def one_scene(*args: object) -> None:
        if args[2] == 1:
            raise Interrupted
        quick_scene(*args)  # pyright: ignore[reportArgumentType]

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(made_drive, "make_scene", one_scene)
        make(out)
    return out.with_name(f"{out.name}.partial")


def test_what_is_there_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(DataError, match="there already"):
        make(tmp_path / "there")
    (tmp_path / "new.partial").mkdir()
    (tmp_path / "new.partial" / "thesis.tex").write_text("x")
    with pytest.raises(DataError, match="something else"):
        make(tmp_path / "new")
    assert (tmp_path / "new.partial" / "thesis.tex").is_file()


def test_two_processes_do_not_write_one_drive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partial = begun(tmp_path / "drive", monkeypatch)
    import fcntl

    with (partial / "simulate.json").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another process"):
            make(tmp_path / "drive")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scenes", 0),
        ("seconds", 0.2),
        ("seconds", 1000.0),
        ("seed", -1),
        ("seed", 2**63),
        ("conditions", ()),
        ("conditions", ("day", "hail")),
        ("image_width", 801),
        ("camera_hz", 7),
        ("lidar_hz", 12),
    ],
)
def test_parameters_that_make_no_drive_are_named(tmp_path: Path, name: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        make(tmp_path / "drive", replace(PARAMETERS, **{name: value}))  # pyright: ignore[reportArgumentType]
    assert caught.value.field == name
    assert not list(tmp_path.iterdir())


WORKER = """
import json, os, signal, sys
from tailwire.simulation import made_scene, scene_worker
sys.path.insert(0, {tests!r})
from worker_scene import quick_scene

def make_scene(root, parameters, index, on_keyframe):
    {before}
    quick_scene(root, parameters, index, on_keyframe)

scene_worker.make_scene = make_scene
scene_worker.main()
"""
QUICK = """
import sys
from pathlib import Path
from dataclasses import replace
from tailwire.simulation import made_scene
from tailwire.simulation.made_scene import write_scene
from parts.made_parts import BoxLibrary, FlatRenderer
from parts.tiny_world import tiny_world

made_scene.made_world = lambda parameters, index: tiny_world(duration_s=parameters.seconds + 0.2)

def quick_scene(root, parameters, index, on_keyframe):
    write_scene(root, parameters, index, BoxLibrary(), FlatRenderer(), on_keyframe)
"""


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Makes workers run this line before each scene."""
    folder = tmp_path / "modules"
    (folder / "parts").mkdir(parents=True)
    for name in ("made_parts.py", "tiny_world.py"):
        shutil.copy(Path(__file__).with_name(name), folder / "parts")
    (folder / "worker_scene.py").write_text(QUICK)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(scene_pool, "_MODULE", "odd_worker")

    def install(before: str) -> None:
        (folder / "odd_worker.py").write_text(WORKER.format(tests=str(folder), before=before))

    yield install
    assert sys.path[0] == str(folder)


def test_workers_make_the_same_bytes(
    tmp_path: Path, whole: MadeDrive, worker: Callable[[str], None]
) -> None:
    worker("pass")
    crew = make(tmp_path / "crew", workers=2)
    assert digest(whole.out) == digest(crew.out)
    assert whole.keyframes_made == crew.keyframes_made == 6
    assert crew.worker_peak_rss_bytes > 20e6
    assert whole.worker_peak_rss_bytes == 0


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ("index == 1 and os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL.*memory"),
        ("index == 1 and os._exit(3)", "code 3"),
        ("index == 1 and 1 / 0", "code 1.*ZeroDivisionError: division"),
    ],
)
def test_a_worker_that_dies_is_told_and_the_drive_can_go_on(
    tmp_path: Path, whole: MadeDrive, worker: Callable[[str], None], before: str, said: str
) -> None:
    worker(before)
    with pytest.raises(DataError, match=said) as caught:
        make(tmp_path / "drive", workers=1)
    assert caught.value.field == "scene-0002"
    assert make(tmp_path / "drive").keyframes_made == 4
    assert digest(tmp_path / "drive") == digest(whole.out)


def test_an_error_of_a_worker_is_raised_as_it_is(
    tmp_path: Path, worker: Callable[[str], None]
) -> None:
    worker(
        "from tailwire.runtime.errors import EngineError; "
        "raise EngineError('no GL', field='renderer', remedy='take rays')"
    )
    from tailwire.runtime.errors import EngineError

    with pytest.raises(EngineError) as caught:
        make(tmp_path / "drive", workers=2)
    error = caught.value
    assert (error.problem, error.field, error.remedy) == ("no GL", "renderer", "take rays")


def test_no_worker_outlives_an_interrupt(tmp_path: Path, worker: Callable[[str], None]) -> None:
    pids = tmp_path / "pids"
    pids.mkdir()
    worker(f"open({str(pids)!r} + '/' + str(os.getpid()), 'w').close()")

    def interrupt(_: DriveProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_drive(
            tmp_path / "drive", 3, 1.0, 7, ("day",), workers=2, questions=False,
            image_width=32, on_progress=interrupt,
        )  # fmt: skip
    for path in pids.iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.name), 0)


def test_the_parameters_stay_beside_the_drive(whole: MadeDrive) -> None:
    record = json.loads((whole.out / "simulate.json").read_text())
    assert (record["seed"], record["conditions"]) == (7, ["day", "fog"])
    assert DriveParameters.from_json(PARAMETERS.to_json()) == PARAMETERS
