"""The graphs of both detectors against the torch modules and decoding that are trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tailwire.export.detector_layers import weight_shapes
from tailwire.export.detectors import build_bev_detector, build_camera_detector
from tailwire.kernels.object_tokens import TOKEN_WIDTH
from tailwire.runtime.backends.onnxruntime_cpu import OnnxRuntimeEngine
from tailwire.runtime.errors import ConfigError, ModelError
from tailwire.training.decoding import bev_tokens, image_tokens
from tailwire.training.detectors import BevDetector, CameraDetector

from ..torch_efficientnet import EfficientNetLite0, random_efficientnet

Floats = NDArray[np.float32]
State = dict[str, NDArray[np.generic]]
Net = TypeVar("Net", bound=nn.Module)

#: 70 x 106 halves to odd sizes, 9 x 14, 5 x 7 and 3 x 4, where doubled maps are cut.
SIZES = {(64, 96): (8, 12), (70, 106): (9, 14)}
CELLS, RANGE_M, CELL_M = 42, 21.0, 1.0
TOKENS = 24

CAMERA_TO_EGO = np.asarray([[0, 0, 1, 1.5], [-1, 0, 0, 0.1], [0, -1, 0, 1.6]], np.float32)


def randomised(net: Net, seed: int, *inputs: torch.Tensor) -> Net:
    """Random weights, norms that have seen `inputs`, and some peaks of the heat."""
    torch.manual_seed(seed)
    for name, module in net.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            nn.init.uniform_(module.weight, 0.7, 1.3)
            nn.init.normal_(module.bias, std=0.2)
        elif name.endswith(("heat", "rest")) and isinstance(module, nn.Conv2d):
            scale = 2.0 if name.endswith("heat") else 0.5
            nn.init.normal_(module.weight, std=scale / module.in_channels**0.5)
    if isinstance(net, CameraDetector):
        nn.init.normal_(net.row)
        nn.init.normal_(net.column)
    with torch.no_grad():
        net.train()(*inputs)
    return net.eval()


def bev_detector() -> BevDetector:
    net = randomised(BevDetector(), 3, torch.from_numpy(grids(4)))
    # So that fewer places than tokens are sure enough.
    nn.init.constant_(net.head.heat.bias, -5.0)  # pyright: ignore[reportArgumentType]
    return net


def grids(count: int) -> Floats:
    return np.random.default_rng(4).normal(size=(count, 12, CELLS, CELLS)).astype(np.float32)


def state_of(net: nn.Module) -> State:
    return {name: tensor.numpy() for name, tensor in net.state_dict().items()}


def run(path: Path, inputs: Mapping[str, Floats]) -> Floats:
    engine = OnnxRuntimeEngine(path, threads=1)
    try:
        return np.asarray(engine.run(dict(inputs))["tokens"], np.float32)
    finally:
        engine.close()


def geometries() -> Floats:
    """Six cameras with lenses of their own, turned by 60 degrees each, and a little tilted."""
    rows = []
    for index in range(6):
        turn, tilt = np.deg2rad(60 * index), 0.05 * index
        around = np.asarray(
            [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
        )
        down = np.asarray(
            [[np.cos(tilt), 0, np.sin(tilt)], [0, 1, 0], [-np.sin(tilt), 0, np.cos(tilt)]]
        )
        pose = around @ down @ CAMERA_TO_EGO
        lens = [70.0 + 5 * index, 68.0 + 5 * index, 50.0 - index, 30.0 + index]
        rows.append(np.concatenate([lens, pose.ravel()]))
    return np.stack(rows).astype(np.float32)


@pytest.fixture(scope="module")
def backbone() -> EfficientNetLite0:
    return random_efficientnet(0)


def check(got: Floats, wanted: Floats, batch: int) -> None:
    assert got.shape == (batch, TOKENS, TOKEN_WIDTH)
    np.testing.assert_allclose(got, wanted, atol=1e-4)
    present = got[..., 10] > 0
    # Enough of both, or the comparison would say little.
    assert 3 * batch < present.sum() < batch * TOKENS
    assert not got[~present].any()
    assert (np.diff(got[..., 10], axis=1) <= 0).all()


def features(backbone: EfficientNetLite0, images: Floats) -> list[torch.Tensor]:
    with torch.no_grad():
        outputs = backbone.each_block(torch.from_numpy(images))
    widths = CameraDetector.FEATURES
    return [[x for x in outputs if x.shape[1] == width][-1] for width in widths]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_camera_tokens_equal_torch(
    tmp_path: Path,
    backbone: EfficientNetLite0,
    height: int,
    width: int,
) -> None:
    images = np.random.default_rng(2).normal(size=(6, 3, height, width)).astype(np.float32)
    net = randomised(CameraDetector(*SIZES[height, width]), 1, *features(backbone, images))
    geometry = geometries()
    with torch.no_grad():
        maps = net(*features(backbone, images))
        wanted = image_tokens(maps, torch.from_numpy(geometry), TOKENS, 8).numpy()
    path = tmp_path / "c.onnx"
    macs = build_camera_detector(state_of(backbone), state_of(net), path, height, width, TOKENS)
    check(run(path, {"image": images, "geometry": geometry}), wanted, 6)
    one = run(path, {"image": images[4:5], "geometry": geometry[4:5]})
    check(one, wanted[4:5], 1)

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(*features(backbone, images[:1]))
    rows, columns = SIZES[height, width]
    everywhere = 96 * (7 + 8) * rows * columns
    at_peaks = TOKENS * 96 * (10 + 7 + 8)
    turning = 2 * TOKENS * 3 * 3
    assert macs == counter.get_total_flops() // 2 - everywhere + at_peaks + turning


@pytest.mark.parametrize("batch", [1, 6])
def test_bev_tokens_equal_torch(tmp_path: Path, batch: int) -> None:
    net = bev_detector()
    grid = grids(batch)
    with torch.no_grad():
        wanted = bev_tokens(net(torch.from_numpy(grid)), TOKENS, RANGE_M, 2 * CELL_M).numpy()
    path = tmp_path / "b.onnx"
    macs = build_bev_detector(state_of(net), path, CELLS, RANGE_M, CELL_M, TOKENS)
    got = run(path, {"grid": grid})
    check(got, wanted, batch)

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.from_numpy(grid[:1]))
    everywhere = 64 * (7 + 10) * 21 * 21
    at_peaks = TOKENS * 64 * (10 + 7 + 10)
    assert macs == counter.get_total_flops() // 2 - everywhere + at_peaks


def test_rows_without_an_object_are_zero_whatever_is_computed_there(tmp_path: Path) -> None:
    state = state_of(bev_detector())
    # So low that all heats are 0 and their shares 0 / 0.
    state["head.heat.bias"] = np.full(10, -1e4, np.float32)
    build_bev_detector(state, tmp_path / "b.onnx", CELLS, RANGE_M, CELL_M, TOKENS)
    grid = grids(2)
    np.testing.assert_array_equal(run(tmp_path / "b.onnx", {"grid": grid}), 0)


def test_half_precision_weights_are_taken(tmp_path: Path) -> None:
    state = state_of(bev_detector())
    halves = {name: array.astype(np.float16) for name, array in state.items()}
    rounded = {name: array.astype(np.float32) for name, array in halves.items()}
    grid = grids(1)
    results = []
    for name, weights in (("h", halves), ("r", rounded)):
        build_bev_detector(weights, tmp_path / f"{name}.onnx", CELLS, RANGE_M, CELL_M, TOKENS)
        results.append(run(tmp_path / f"{name}.onnx", {"grid": grid}))
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize(
    ("net", "shapes"),
    [
        (CameraDetector(9, 14), weight_shapes("camera_detector", 9, 14)),
        (BevDetector(), weight_shapes("bev_detector")),
    ],
    ids=["camera", "bev"],
)
def test_names_and_shapes_are_those_of_the_torch_modules(
    net: nn.Module, shapes: dict[str, tuple[int, ...]]
) -> None:
    state = net.state_dict()
    assert shapes == {n: tuple(t.shape) for n, t in state.items() if "num_batches" not in n}


class TestErrors:
    def test_a_missing_array_is_named(self, tmp_path: Path) -> None:
        state = state_of(BevDetector())
        del state["merge2.norm.running_var"]
        with pytest.raises(ModelError, match=r"merge2\.norm\.running_var"):
            build_bev_detector(state, tmp_path / "b.onnx", CELLS, RANGE_M, CELL_M, TOKENS)

    def test_weights_of_the_other_detector_are_refused(self, tmp_path: Path) -> None:
        state = state_of(CameraDetector(8, 12))
        with pytest.raises(ModelError, match=r"stem\.conv\.weight"):
            build_bev_detector(state, tmp_path / "b.onnx", CELLS, RANGE_M, CELL_M, TOKENS)

    def test_a_camera_of_another_size_is_refused(
        self, tmp_path: Path, backbone: EfficientNetLite0
    ) -> None:
        state = state_of(CameraDetector(8, 13))
        with pytest.raises(ModelError, match="column"):
            build_camera_detector(state_of(backbone), state, tmp_path / "c.onnx", 64, 96, TOKENS)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_values_that_are_not_finite_are_named(self, tmp_path: Path, value: float) -> None:
        state = state_of(BevDetector())
        state["head.rest.bias"] = np.full(17, value, np.float32)
        with pytest.raises(ModelError, match=r"head\.rest\.bias"):
            build_bev_detector(state, tmp_path / "b.onnx", CELLS, RANGE_M, CELL_M, TOKENS)

    @pytest.mark.parametrize("tokens", [0, 21 * 21 + 1])
    def test_more_tokens_than_places(self, tmp_path: Path, tokens: int) -> None:
        state = state_of(BevDetector())
        with pytest.raises(ConfigError, match="tokens"):
            build_bev_detector(state, tmp_path / "b.onnx", CELLS, RANGE_M, CELL_M, tokens)

    def test_cells_that_are_not_those_of_the_grid(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="cells"):
            build_bev_detector({}, tmp_path / "b.onnx", CELLS + 1, RANGE_M, CELL_M, TOKENS)
