"""Drives of other seeds are other data sets: none of their keyframes share a token."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from tailwire.simulation.drive_parameters import DriveParameters
from tailwire.simulation.nuscenes.scene_writer import Mounts, SceneWriter

PARAMETERS = DriveParameters(2, 2.0, 7, ("day",), layouts=Path("/here/streets.json"))


def tokens(root: Path, data_set: str) -> set[str]:
    """Of a keyframe, a sweep and a box."""
    mounts = Mounts()
    mounts.add("LIDAR_TOP", "lidar", (0, 0, 1.8), (1, 0, 0, 0))
    writer = SceneWriter(
        root,
        mounts,
        "scene-0001",
        "",
        logfile="log",
        location="here",
        date_captured="2025-03-01",
        data_set=data_set,
    )
    sample = writer.begin_sample(1_000_000_000)
    cloud = np.ones((3, 5), np.float32)
    frame = writer.add_frame("LIDAR_TOP", 1_000_000_000, cloud, (0, 0, 0), (1, 0, 0, 0))
    box = writer.add_annotation(
        "one",
        "vehicle.car",
        [],
        (1, 2, 3),
        (2, 4, 2),
        (1, 0, 0, 0),
        num_lidar_pts=3,
        visibility="v80-100",
    )
    return {sample, frame, box}


def test_other_data_sets_have_other_tokens(tmp_path: Path) -> None:
    one, again, other = (
        tokens(tmp_path / name, data_set) for name, data_set in (("a", "7"), ("b", "7"), ("c", "8"))
    )
    assert one == again
    assert not one & other


def test_all_but_the_number_of_scenes_and_folders_tells_drives_apart() -> None:
    more = replace(PARAMETERS, scenes=5)
    moved = replace(PARAMETERS, layouts=Path("/there/streets.json"))
    assert PARAMETERS.identity == more.identity == moved.identity
    for change in ({"seed": 8}, {"camera_hz": 2}, {"image_width": 400}, {"conditions": ("fog",)}):
        assert replace(PARAMETERS, **change).identity != PARAMETERS.identity
