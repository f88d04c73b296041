"""Keyframes with more on the road than the tiny world has, each with something else."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from numpy.typing import NDArray

from tailwire.benchmarks import commonality_items
from tailwire.simulation.nuscenes import NuScenes

from .test_commonality import street, thing


def busy_objects(data: NuScenes, token: str) -> NDArray[np.float32]:
    """Four drawn vehicles that move, the same ones whenever a keyframe is asked."""
    del data
    rng = np.random.default_rng(zlib.crc32(token.encode()))
    rows = []
    for name in rng.choice(["car", "car", "bus", "motorcycle"], 4).tolist():
        angle, distance = rng.uniform(-np.pi, np.pi), rng.uniform(6, 25)
        status = "with rider" if name == "motorcycle" else "moving"
        rows.append(
            thing(name, float(distance * np.cos(angle)), float(distance * np.sin(angle)), status)
        )
    return street(*rows)


def make_streets_busy(patch: pytest.MonkeyPatch) -> None:
    """Give all keyframes such objects from now on."""
    patch.setattr(commonality_items, "annotated_objects", busy_objects)
