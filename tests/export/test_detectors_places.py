"""Whether an object at a known pixel or cell ends where plain geometry says it is.

The weights are made by hand: one spot of heat, and what is said of it lies in the biases.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tailwire.export.detector_layers import DetectorKind, weight_shapes
from tailwire.export.detectors import build_bev_detector, build_camera_detector
from tailwire.kernels.object_tokens import ObjectParts, rows_of
from tailwire.runtime.backends.onnxruntime_cpu import OnnxRuntimeEngine

from ..torch_efficientnet import random_efficientnet

Floats = NDArray[np.float32]

CLASS, STATUS = 2, 1
SIZE_M = (11.0, 2.8, 3.2)
HEIGHT, WIDTH, ROWS, COLUMNS = 64, 96, 8, 12
ROW, COLUMN, OFFSET = 5, 8, (0.3, 0.6)


def run(path: Path, inputs: dict[str, Floats]) -> Floats:
    engine = OnnxRuntimeEngine(path, threads=1)
    try:
        return np.asarray(engine.run(inputs)["tokens"], np.float32)
    finally:
        engine.close()


def passing(kind: DetectorKind, names: tuple[str, ...]) -> dict[str, Floats]:
    """Weights of which only the layers `names` pass something on: each channel to its own."""
    weights: dict[str, Floats] = {}
    for name, shape in weight_shapes(kind, ROWS, COLUMNS).items():
        weights[name] = np.zeros(shape, np.float32)
        if name.endswith(("norm.weight", "running_var")):
            # The square root of variance and epsilon, so that the norm changes nothing.
            weights[name][:] = math.sqrt(1.001) if name.endswith("weight") else 1.0
        elif name.endswith("conv.weight") and name.removesuffix(".conv.weight") in names:
            middle = shape[-1] // 2
            for channel in range(min(shape[:2])):
                weights[name][channel, channel, middle, middle] = 1
    return weights


def said(weights: dict[str, Floats], *maps: tuple[float, ...]) -> None:
    """What the head says everywhere: a status, then the maps in their order."""
    statuses = [-20.0] * 7
    statuses[STATUS] = 20.0
    weights["head.rest.bias"][:] = [*statuses, *(value for part in maps for value in part)]
    weights["head.heat.bias"][:] = -20


def expected(
    center: tuple[float, float, float], yaw: float, velocity: tuple[float, ...] | None
) -> Floats:
    classes, statuses = np.zeros(10, np.float32), np.zeros(7, np.float32)
    classes[CLASS] = statuses[STATUS] = 1
    return rows_of(
        ObjectParts(
            classes=classes,
            score=np.float32(1),  # pyright: ignore[reportArgumentType]
            statuses=statuses,
            center=np.asarray(center, np.float32),
            size=np.asarray(SIZE_M, np.float32),
            heading=np.asarray([math.sin(yaw), math.cos(yaw)], np.float32),
            velocity=np.asarray(velocity or (0, 0), np.float32),
            velocity_known=np.float32(velocity is not None),  # pyright: ignore[reportArgumentType]
        )
    )


@pytest.mark.parametrize("mount_yaw_deg", [0.0, -55.0, 180.0])
def test_a_pixel_with_depth_and_heading(tmp_path: Path, mount_yaw_deg: float) -> None:
    fx, fy, cx, cy = 80.0, 78.0, 47.0, 33.0
    depth, alpha = 14.0, 0.4
    weights = passing("camera_detector", ("merge8", "refine", "head.hidden"))
    # A row and a column that cross: 2 in one cell only.
    weights["row"][0, 0, ROW] = weights["column"][0, 0, :, COLUMN] = 1
    log_depth = math.log(depth * 316.5 / fx)
    # Ten times as long as a unit: only its direction counts.
    heading = (10 * math.sin(alpha), 10 * math.cos(alpha))
    said(weights, OFFSET, (log_depth,), tuple(np.log(SIZE_M)), heading)
    weights["head.heat.weight"][CLASS, 0] = 10
    weights["head.heat.bias"][CLASS] = -18

    # The camera looks along the mount's yaw, a little down, from 1.6 m above the ground.
    yaw, pitch = math.radians(mount_yaw_deg), 0.1
    forward = np.asarray(
        [math.cos(yaw) * math.cos(pitch), math.sin(yaw) * math.cos(pitch), -math.sin(pitch)]
    )
    right = np.asarray([math.sin(yaw), -math.cos(yaw), 0])
    rotation = np.stack([right, np.cross(forward, right), forward], axis=1)
    place = np.asarray([1.2, -0.3, 1.6])
    u, v = (COLUMN + OFFSET[0]) * 8, (ROW + OFFSET[1]) * 8
    center = place + depth * (
        forward + (u - cx) / fx * right + (v - cy) / fy * np.cross(forward, right)
    )
    # alpha turns from the ray towards the right of the picture.
    ray = math.atan2(u - cx, fx)
    along = math.cos(ray + alpha) * forward + math.sin(ray + alpha) * right
    wanted = expected(tuple(center), math.atan2(along[1], along[0]), velocity=None)

    backbone = {n: t.numpy() for n, t in random_efficientnet(0).state_dict().items()}
    build_camera_detector(backbone, weights, tmp_path / "c.onnx", HEIGHT, WIDTH, 3)
    pose = np.concatenate([rotation, place[:, None]], axis=1)
    geometry = np.concatenate([[fx, fy, cx, cy], pose.ravel()]).astype(np.float32)
    image = np.zeros((1, 3, HEIGHT, WIDTH), np.float32)
    tokens = run(tmp_path / "c.onnx", {"image": image, "geometry": geometry[None]})[0]
    np.testing.assert_allclose(tokens[0], wanted, atol=2e-4)
    np.testing.assert_array_equal(tokens[1:], 0)


def test_a_cell_of_a_sweep(tmp_path: Path) -> None:
    weights = passing("bev_detector", ("stem", "fine", "lateral1", "merge1", "head.hidden"))
    yaw, speed = -2.0, (0.35, -0.8)
    heading = (math.sin(yaw), math.cos(yaw))
    said(weights, OFFSET, (0.16,), tuple(np.log(SIZE_M)), heading, speed)
    weights["head.heat.weight"][CLASS, 0] = 30
    weights["head.heat.bias"][CLASS] = -20
    build_bev_detector(weights, tmp_path / "b.onnx", 40, 10.24, 0.512, 4)
    grid = np.zeros((2, 12, 40, 40), np.float32)
    # The stem's stride of 2 puts the middles of its kernels on even cells.
    grid[0, 0, 2 * ROW, 2 * COLUMN] = 0.8
    grid[1, 0, 2 * ROW, 2 * COLUMN] = 0.8
    grid[1, 0, 2, 38] = 0.75
    tokens = run(tmp_path / "b.onnx", {"grid": grid})

    def at(row: int, column: int) -> Floats:
        x, y = ((i + o) * 1.024 - 10.24 for i, o in zip((row, column), OFFSET, strict=True))
        velocity = tuple(10 * axis for axis in speed)
        return expected((x, y, 0.8), yaw, velocity)

    np.testing.assert_allclose(tokens[0, 0], at(ROW, COLUMN), atol=2e-4)
    np.testing.assert_allclose(tokens[1, 0], at(ROW, COLUMN), atol=2e-4)
    np.testing.assert_allclose(tokens[1, 1], at(1, 19), atol=2e-4)
    np.testing.assert_array_equal(tokens[0, 1:], 0)
    np.testing.assert_array_equal(tokens[1, 2:], 0)
