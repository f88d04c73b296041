"""Calibrations that come with every picture: kept, replaced when they change, refused when bad."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("tailwire_ros", reason="`make test-ros` runs this")

from tailwire_ros.frame_tree import FrameTree


def info(focal: float, width: int = 80) -> SimpleNamespace:
    k = np.array([focal, 0.0, 40.0, 0.0, focal, 24.0, 0.0, 0.0, 1.0 if focal else 0.0])
    return SimpleNamespace(k=k, width=width, height=48)


def mounted() -> FrameTree:
    tree = FrameTree("base_link")
    zero = SimpleNamespace(x=0.0, y=0.0, z=0.0)
    edge = SimpleNamespace(
        header=SimpleNamespace(frame_id="base_link", stamp=SimpleNamespace(sec=1, nanosec=0)),
        child_frame_id="cam",
        transform=SimpleNamespace(
            translation=zero, rotation=SimpleNamespace(x=0.0, y=0.0, z=0.0, w=1.0)
        ),
    )
    tree.add_transforms(SimpleNamespace(transforms=[edge]), static=True)
    return tree


def test_a_calibration_is_replaced_when_it_changes() -> None:
    tree = mounted()
    for focal, width in ((50.0, 80), (50.0, 80), (60.0, 80), (60.0, 160)):
        tree.add_camera("cam", info(focal, width))
        found = tree.geometry("cam", "cam", 10**9)
        assert found is not None
        assert found.intrinsic is not None
        assert found.intrinsic[0, 0] == focal
        assert found.image_size == (width, 48)
    assert tree.unusable == 0


def test_a_camera_that_is_not_calibrated_changes_nothing() -> None:
    tree = mounted()
    tree.add_camera("cam", info(50.0))
    tree.add_camera("cam", info(0.0))
    found = tree.geometry("cam", "cam", 10**9)
    assert found is not None
    assert found.intrinsic is not None
    assert found.intrinsic[0, 0] == 50
    assert tree.unusable == 1
