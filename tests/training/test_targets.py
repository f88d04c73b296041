"""Targets against the decoders: a perfect detector gives the annotated objects."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch", reason="detectors are trained in torch")

import torch

from tailwire.kernels.bev_grid import RANGE_M, cells_of
from tailwire.kernels.object_tokens import OBJECT_STATUSES, object_tokens
from tailwire.runtime.detectors import BEV_STRIDE, IMAGE_STRIDE
from tailwire.simulation.rig import CAMERAS
from tailwire.training.decoding import bev_tokens, image_tokens
from tailwire.training.detectors import BEV_MAPS, IMAGE_MAPS, DenseMaps
from tailwire.training.losses import batch_of, detection_loss
from tailwire.training.targets import Targets, bev_targets, image_targets

Float = NDArray[np.float32]
CELLS = cells_of(RANGE_M, 0.512)
#: Columns of a token that say where a thing is, how large, and which way it faces.
GEOMETRY = [*range(18, 46), *range(46, 51), 55]


def thing(x: float, y: float, name: int, yaw: float, status: int, **changes: float) -> list[float]:
    row = [name, 1.0, x, y, 0.9, 4.2, 1.8, 1.6, yaw, 3.0, -1.0, status]
    if changes:
        row[1] = changes["score"]
    return row


def scene() -> Float:
    return np.array(
        [
            thing(12.3, -4.1, 0, 0.4, 0),
            thing(-20.7, 15.2, 7, -2.9, 5),
            thing(30.2, 33.3, 2, 1.5, 2),
        ],
        np.float32,
    )


def maps_of(targets: Targets, sizes: dict[str, int]) -> DenseMaps:
    """What a perfect detector says."""
    heat = torch.from_numpy(targets.heat)[None]
    rows, columns = heat.shape[-2:]
    values = torch.zeros(rows * columns, targets.values.shape[1])
    values[torch.from_numpy(targets.cells)] = torch.from_numpy(targets.values)
    statuses = torch.zeros(rows * columns, len(OBJECT_STATUSES))
    known = targets.status >= 0
    statuses[torch.from_numpy(targets.cells[known]), torch.from_numpy(targets.status[known])] = 30
    dense = values.T.reshape(1, -1, rows, columns)
    parts = dict(zip(sizes, dense.split(list(sizes.values()), 1), strict=True))
    logits = torch.where(heat >= 1, 12.0, torch.where(heat > 0, -4.0, -12.0))
    return DenseMaps(logits, statuses.T.reshape(1, -1, rows, columns), parts)


def by_distance(tokens: Float) -> Float:
    there = tokens[tokens.any(axis=1)]
    return there[np.argsort(there[:, 21], kind="stable")]


def test_a_perfect_lidar_detector_gives_the_objects() -> None:
    objects = scene()
    maps = maps_of(bev_targets(objects, CELLS, RANGE_M), BEV_MAPS)
    cell_m = 2 * RANGE_M / (CELLS // BEV_STRIDE)
    found = by_distance(bev_tokens(maps, 8, RANGE_M, cell_m)[0].numpy())
    expected = object_tokens(objects, 3)
    np.testing.assert_allclose(found[:, GEOMETRY], expected[:, GEOMETRY], atol=2e-3)
    np.testing.assert_allclose(found[:, 51:54], expected[:, 51:54], atol=1e-3)
    assert (found[:, :10].argmax(1) == expected[:, :10].argmax(1)).all()
    np.testing.assert_allclose(found[:, 11:18], expected[:, 11:18], atol=1e-3)


@pytest.mark.parametrize("mount", CAMERAS, ids=lambda mount: mount.channel)
def test_a_perfect_camera_detector_gives_the_objects(mount: object) -> None:
    pose, lens = mount.ego_from_camera, mount.intrinsic(400)  # pyright: ignore[reportAttributeAccessIssue]
    centre = pose[:3, :3] @ [1.5, -0.2, 18.0] + pose[:3, 3]
    objects = np.array([thing(centre[0], centre[1], 1, 0.7, 1)], np.float32)
    objects[0, 4] = centre[2]
    geometry = np.concatenate(
        [[lens[0, 0], lens[1, 1], lens[0, 2], lens[1, 2]], pose[:3].reshape(-1)]
    ).astype(np.float32)
    targets = image_targets(objects, geometry, (224, 400))
    assert len(targets.cells) == 1
    maps = maps_of(targets, IMAGE_MAPS)
    tokens = image_tokens(maps, torch.from_numpy(geometry)[None], 4, IMAGE_STRIDE)[0].numpy()
    found, expected = by_distance(tokens), object_tokens(objects, 1)
    np.testing.assert_allclose(found[:, GEOMETRY], expected[:, GEOMETRY], atol=5e-3)
    assert found[0, 54] == 0  # one picture tells no speed
    assert found[0, :10].argmax() == 1


def test_things_behind_the_camera_or_outside_the_grid_are_no_targets() -> None:
    objects = np.array([thing(-30, 0, 0, 0, 0), thing(80, 0, 0, 0, 0)], np.float32)
    assert len(bev_targets(objects, CELLS, RANGE_M).cells) == 1
    mount = CAMERAS[0]
    lens = mount.intrinsic(400)
    geometry = np.concatenate(
        [[lens[0, 0], lens[1, 1], lens[0, 2], lens[1, 2]], mount.ego_from_camera[:3].reshape(-1)]
    ).astype(np.float32)
    assert len(image_targets(objects, geometry, (224, 400)).cells) == 0


def test_doubtful_things_are_neither_wanted_nor_punished() -> None:
    sure, doubtful = thing(10, 5, 0, 0, 0), thing(20, 5, 0, 0, 0, score=0.5)
    targets = bev_targets(np.array([sure, doubtful], np.float32), CELLS, RANGE_M)
    peaks = np.sort(targets.heat.reshape(-1)[targets.cells])
    np.testing.assert_allclose(peaks, [0.9, 1.0], atol=1e-6)
    assert set(targets.known[:, 0]) == {1.0, np.float32(0.3)}


def test_the_loss_of_a_perfect_detector_is_small_and_grows_with_mistakes() -> None:
    targets = bev_targets(scene(), CELLS, RANGE_M)
    maps = maps_of(targets, BEV_MAPS)
    right = sum(float(part) for part in detection_loss(maps, batch_of([targets])).values())
    maps.of["z"].add_(1.0)
    moved = sum(float(part) for part in detection_loss(maps, batch_of([targets])).values())
    assert right < 0.05
    assert moved == pytest.approx(right + 1.0, abs=1e-3)


def test_what_is_not_known_costs_nothing() -> None:
    objects = scene()
    objects[:, 9:11] = np.nan
    objects[:, 11] = -1
    targets = bev_targets(objects, CELLS, RANGE_M)
    maps = maps_of(targets, BEV_MAPS)
    before = detection_loss(maps, batch_of([targets]))
    maps.of["velocity"].add_(5.0)
    after = detection_loss(maps, batch_of([targets]))
    assert float(after["values"]) == pytest.approx(float(before["values"]), abs=1e-6)
    assert float(after["status"]) == 0
