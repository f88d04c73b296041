"""A tiny written data set to break, the real keyframe where it is, and a short sketch drive."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tailwire.simulation.nuscenes import NuScenesWriter
from tailwire.simulation.nuscenes.geometry import yaw_quaternion
from tailwire.simulation.sketch_drive import make_sketch_drive

STAMP_NS = 1_600_000_000_000_000_000
HALF_SECOND_NS = 500_000_000


def picture(width: int = 32, height: int = 18) -> bytes:
    """A small JPEG."""
    jpeg = io.BytesIO()
    Image.new("RGB", (width, height), (90, 120, 60)).save(jpeg, format="JPEG")
    return jpeg.getvalue()


class Dataset:
    """A data set on the disk that a test may break, one table or file at a time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tables = root / "v1.0-mini"

    def rows(self, table: str) -> list[dict[str, Any]]:
        return json.loads((self.tables / f"{table}.json").read_text())

    def edit(self, table: str, change: Callable[[list[dict[str, Any]]], object]) -> None:
        rows = self.rows(table)
        change(rows)
        (self.tables / f"{table}.json").write_text(json.dumps(rows))

    def file(self, channel: str, number: int = 0) -> Path:
        return sorted((self.root / "samples" / channel).iterdir())[number]


@pytest.fixture(scope="session")
def written_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two keyframes of one camera and one LiDAR, a sweep of each, one box with a track."""
    root = tmp_path_factory.mktemp("written") / "tiny"
    with NuScenesWriter(root) as writer:
        intrinsic = np.array([[20.0, 0, 16], [0, 20.0, 9], [0, 0, 1]])
        writer.add_sensor("CAM_FRONT", "camera", (1.5, 0, 1.5), (0.5, -0.5, 0.5, -0.5), intrinsic)
        writer.add_sensor("LIDAR_TOP", "lidar", (0.9, 0, 1.8), yaw_quaternion(-np.pi / 2))
        writer.begin_scene(
            "scene-0001", "tiny", logfile="log-a", location="here", date_captured="2020-09-13"
        )
        for number in range(2):
            stamp_ns = STAMP_NS + number * HALF_SECOND_NS
            ego = (float(number), 2.0, 0.0), yaw_quaternion(0.1 * number)
            writer.begin_sample(stamp_ns)
            cloud = np.arange(20, dtype=np.float32).reshape(4, 5) + number
            for later_ns, is_key_frame in ((0, True), (100_000_000, False)):
                stamp = stamp_ns + later_ns
                writer.add_frame(
                    "CAM_FRONT", stamp - 35_000_000, picture(), *ego, is_key_frame=is_key_frame
                )
                writer.add_frame("LIDAR_TOP", stamp, cloud, *ego, is_key_frame=is_key_frame)
            writer.add_annotation(
                "car",
                "vehicle.car",
                ["vehicle.moving"],
                (10.0 + number, 2.0, 0.75),
                (1.9, 4.5, 1.5),
                yaw_quaternion(0.3),
                num_lidar_pts=7,
                visibility="v60-80",
            )
    return root


@pytest.fixture
def dataset(written_root: Path, tmp_path: Path) -> Dataset:
    """A copy of that data set, free to be broken."""
    return Dataset(Path(shutil.copytree(written_root, tmp_path / "tiny")))


@pytest.fixture(scope="session")
def keyframe_root() -> Path:
    """The real keyframe of scene-0061, opened in place."""
    shared = Path(__file__).resolve().parents[3] / "shared" / "data"
    root = Path(os.environ.get("TAILWIRE_DATA", shared)) / "nuscenes_keyframe"
    if not root.is_dir():
        pytest.skip(f"no real keyframe at {root}; set TAILWIRE_DATA to the folder that holds it")
    return root


@pytest.fixture(scope="session")
def sketch_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sketch drive of three keyframes."""
    return make_sketch_drive(tmp_path_factory.mktemp("drives") / "sketch", seed=7, seconds=1.5)
