"""Real layouts: boxes joined to tracks, headings converted, bad files refused by field."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailwire.runtime.errors import ConfigError, DataError
from tailwire.simulation.nuscenes.geometry import yaw_quaternion
from tailwire.simulation.world import Layout, read_layouts, world_of_layout


@pytest.fixture(scope="module")
def layouts() -> tuple[Layout, ...]:
    shared = Path(__file__).resolve().parents[4] / "shared" / "data"
    path = Path(os.environ.get("TAILWIRE_DATA", shared)) / "nuscenes_layouts" / "mini_val.json"
    if not path.is_file():
        pytest.skip(f"no layouts at {path}; set TAILWIRE_DATA to the folder that holds them")
    return read_layouts(path)


def _file(folder: Path, **changes: Any) -> Path:
    """Two keyframes: the ego heads along global y, a car 10 m ahead of it drives along."""
    infos: list[dict[str, Any]] = []
    for number in range(2):
        infos.append(
            {
                "token": f"token-{number}",
                "timestamp": 1_000_000_000 + 500_000 * number,
                "location": "boston-seaport",
                # as in nuScenes: the LiDAR's y axis points ahead
                "lidar2ego_translation": [1.0, 0.0, 1.8],
                "lidar2ego_rotation": list(yaw_quaternion(-math.pi / 2)),
                "ego2global_translation": [100.0, 200.0 + 2.0 * number, 0.0],
                "ego2global_rotation": list(yaw_quaternion(math.pi / 2)),
                # heading ahead is +90 degrees in the LiDAR frame: -(pi/2) - pi/2 as it is stored
                "gt_boxes": [[0.0, 9.0 + 1.0 * number, -1.0, 1.9, 4.6, 1.7, -math.pi]],
                "gt_names": ["car"],
                "gt_velocity": [[0.0, 6.0]],
            }
        )
    infos[1].update(changes)
    path = folder / "layouts.json"
    path.write_text(json.dumps({"infos": infos}))
    return path


def test_positions_and_headings_come_out_in_the_shifted_global_frame(tmp_path: Path) -> None:
    (layout,) = read_layouts(_file(tmp_path))
    assert layout.global_from_world[:2, 3].tolist() == [100.0, 200.0]
    np.testing.assert_allclose(layout.ego, [[0, 0, math.pi / 2], [0, 2, math.pi / 2]], atol=1e-9)
    (track,) = layout.tracks
    # ahead of the ego, which looks along y: 1 m to the LiDAR and 9 m to the car
    np.testing.assert_allclose(track.poses[:, :2], [[0, 10], [0, 13]], atol=1e-9)
    np.testing.assert_allclose(np.cos(track.poses[:, 2] - math.pi / 2), 1, atol=1e-9)
    np.testing.assert_allclose(track.times_s, [0, 0.5])


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"token": 3}, "infos[1].token"),
        ({"timestamp": "soon"}, "infos[1].timestamp"),
        ({"gt_boxes": [[1, 2, 3]]}, "infos[1].gt_boxes"),
        ({"gt_boxes": [[0, 9, 0, 0, 4, 1, 0]]}, "infos[1].gt_boxes"),
        ({"gt_names": []}, "infos[1].gt_names"),
        ({"gt_velocity": [[1, 2], [3, 4]]}, "infos[1].gt_velocity"),
        ({"ego2global_rotation": [0, 0, 0, 0]}, "infos[1].ego2global_rotation"),
        ({"lidar2ego_translation": None}, "infos[1].lidar2ego_translation"),
    ],
)
def test_a_wrong_record_is_named(tmp_path: Path, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(DataError) as caught:
        read_layouts(_file(tmp_path, **changes))
    assert caught.value.field.endswith(field)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"infos": []}', '{"infos": [1]}', "\x00"])
def test_a_wrong_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(DataError):
        read_layouts(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        read_layouts(tmp_path / "none.json")


def test_the_two_scenes_hold_every_box_and_few_broken_tracks(layouts: tuple[Layout, ...]) -> None:
    assert [len(layout.times_s) for layout in layouts] == [40, 41]
    boxes = [sum(len(track.times_s) for track in layout.tracks) for layout in layouts]
    assert sum(boxes) > 4400
    for layout in layouts:
        for track in layout.tracks:
            assert (np.diff(track.times_s) > 0).all()
            speeds = np.hypot(*np.diff(track.poses[:, :2], axis=0).T) / np.diff(track.times_s)
            assert speeds.max(initial=0) < 16
        short = sum(len(track.times_s) == 1 for track in layout.tracks)
        assert short < 0.1 * len(layout.tracks)


def test_moving_cars_face_their_way(layouts: tuple[Layout, ...]) -> None:
    errors: list[float] = []
    for layout in layouts:
        for track in layout.tracks:
            if track.kind not in ("car", "truck", "bus", "bicycle"):
                continue
            steps = np.diff(track.poses[:, :2], axis=0)
            for step, yaw in zip(steps, track.poses[:-1, 2], strict=True):
                if np.hypot(*step) > 1.0:
                    errors.append(abs(math.remainder(math.atan2(step[1], step[0]) - yaw, math.tau)))
    assert len(errors) > 80
    assert np.median(errors) < math.radians(5)
    assert np.percentile(errors, 95) < math.radians(20)


def test_a_world_of_a_layout_has_its_boxes_and_no_house_on_them(
    layouts: tuple[Layout, ...],
) -> None:
    pytest.importorskip("scipy", reason="the surroundings of a layout need SciPy")
    layout = layouts[0]
    world = world_of_layout(layout, 5, 100.0, "night")
    assert world.duration_s == pytest.approx(layout.times_s[-1])
    assert len(world.agents) == len(layout.tracks)
    assert world.description.startswith("Night")
    parked = [a for a in world.agents if a.track.states[0].attribute == "vehicle.parked"]
    moving = [a for a in world.agents
              if any(s.attribute == "vehicle.moving" for s in a.track.states)]  # fmt: skip
    assert len(parked) > 15
    assert len(moving) > 3
    for track, agent in zip(layout.tracks, world.agents, strict=True):
        time_s = float(track.times_s[len(track.times_s) // 2])
        state = agent.track.at(time_s)
        assert state is not None
        row = track.poses[len(track.times_s) // 2]
        assert math.hypot(state.x - row[0], state.y - row[1]) < 1.0
        np.testing.assert_allclose(agent.size_wlh, track.size_wlh, atol=1e-3)
    for placed in world.scenery:
        if not placed.mesh.model.startswith("building"):
            continue
        c, s = math.cos(placed.yaw_rad), math.sin(placed.yaw_rad)
        half_width, half_length = placed.mesh.size_wlh[0] / 2, placed.mesh.size_wlh[1] / 2
        for agent in world.agents:
            for state in agent.track.states[::10]:
                dx, dy = state.x - placed.x, state.y - placed.y
                along, across = abs(dx * c + dy * s), abs(dy * c - dx * s)
                assert along > half_length or across > half_width, agent.name


def test_a_duration_that_is_not_positive_is_refused(tmp_path: Path) -> None:
    (layout,) = read_layouts(_file(tmp_path))
    with pytest.raises(ConfigError):
        world_of_layout(layout, 1, 0.0, "day")


def test_a_layout_of_one_car_makes_a_world(tmp_path: Path) -> None:
    pytest.importorskip("scipy", reason="the surroundings of a layout need SciPy")
    (layout,) = read_layouts(_file(tmp_path))
    world = world_of_layout(layout, 1, 5.0, "day")
    assert world.duration_s == 0.5
    state = world.agents[0].track.at(0.5)
    assert state is not None
    assert (state.x, state.y) == pytest.approx((0.0, 13.0), abs=1e-3)
    assert state.attribute == "vehicle.moving"
