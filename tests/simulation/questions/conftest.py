"""A crowd of ten scenes on the disk, and the questions that are made for it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tailwire.simulation.nuscenes import NuScenes, NuScenesWriter
from tailwire.simulation.questions.generate import make_questions
from tailwire.simulation.questions.items import QaItem

from .crowds import STAMP_NS, Box, crowd, write_crowd

Scenes = list[list[list[Box]]]


@pytest.fixture(scope="session")
def crowd_boxes() -> Scenes:
    """Ten scenes of ten keyframes."""
    return [crowd(seed, keyframes=10) for seed in range(10)]


@pytest.fixture(scope="session")
def crowd_data(crowd_boxes: Scenes, tmp_path_factory: pytest.TempPathFactory) -> NuScenes:
    """The crowd as a data set; tests must not change it."""
    return write_crowd(Path(tmp_path_factory.mktemp("crowd")) / "root", crowd_boxes)


@pytest.fixture(scope="session")
def crowd_items(crowd_data: NuScenes) -> tuple[QaItem, ...]:
    """The questions of seed 7."""
    return tuple(make_questions(crowd_data, seed=7))


@pytest.fixture(scope="session")
def boxes_of_sample(crowd_boxes: Scenes, crowd_data: NuScenes) -> dict[str, list[Box]]:
    """The boxes that were written for each keyframe."""
    return {
        sample.token: boxes
        for scene, keyframes in zip(crowd_data.scenes, crowd_boxes, strict=True)
        for sample, boxes in zip(crowd_data.samples(scene), keyframes, strict=True)
    }


@pytest.fixture
def dataset_without_lidar(tmp_path: Path) -> Path:
    """One keyframe of one camera."""
    root = tmp_path / "blind"
    with NuScenesWriter(root) as writer:
        intrinsic = np.array([[20.0, 0, 16], [0, 20.0, 9], [0, 0, 1]])
        writer.add_sensor("CAM_FRONT", "camera", (1.5, 0, 1.5), (0.5, -0.5, 0.5, -0.5), intrinsic)
        writer.begin_scene("scene-0001", "", logfile="log", location="here", date_captured="now")
        writer.begin_sample(STAMP_NS)
        jpeg = io.BytesIO()
        Image.new("RGB", (32, 18)).save(jpeg, format="JPEG")
        pose = (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0)
        writer.add_frame("CAM_FRONT", STAMP_NS, jpeg.getvalue(), *pose)
    return root
