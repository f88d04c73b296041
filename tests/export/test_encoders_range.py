"""The LiDAR encoder's graph against a torch module with the same state dict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tailwire.export.range_encoder import (
    COLUMN_STRIDE,
    ROW_STRIDE,
    TOKEN_WIDTH,
    TOKENS,
    build_lidar_encoder,
    random_weights,
    weight_shapes,
)
from tailwire.kernels.range_image import RANGE_MEAN, RANGE_STD, range_image
from tailwire.runtime.backends.onnxruntime_cpu import OnnxRuntimeEngine
from tailwire.runtime.errors import ConfigError, ModelError

HEIGHT, WIDTH = 16, 256


class Norm(nn.BatchNorm2d):
    """A batch norm with statistics of its own, as after training."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        statistics = dict(self.named_buffers())
        for tensor in (self.weight, statistics["running_var"]):
            nn.init.uniform_(tensor, 0.5, 1.5)
        for tensor in (self.bias, statistics["running_mean"]):
            nn.init.normal_(tensor, std=0.3)


def around(x: Tensor, columns: int, rows: int) -> Tensor:
    return F.pad(F.pad(x, (columns, columns, 0, 0), mode="circular"), (0, 0, rows, rows))


class Step(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel, stride) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, bias=False)
        self.norm = Norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class Block(nn.Module):
    def __init__(self, channels: int, expansion: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 5, groups=channels, bias=False)
        self.norm = Norm(channels)
        self.expand = nn.Conv2d(channels, channels * expansion, 1)
        self.project = nn.Conv2d(channels * expansion, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(around(x, 2, 2)))
        return x + self.project(F.relu(self.expand(y)))


class Stage(nn.Module):
    def __init__(self, inputs: int, channels: int, expansion: int) -> None:
        super().__init__()
        self.down = Step(inputs, channels, 2, 2) if inputs else nn.Identity()
        self.blocks = nn.ModuleList(Block(channels, expansion) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        for block in self.blocks:
            x = block(x)
        return x


class RangeEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = Step(5, 32, (4, 8), (2, 4))
        self.stages = nn.ModuleList([Stage(0, 32, 2), Stage(32, 64, 4), Stage(64, 128, 4)])
        self.head = Step(128, TOKEN_WIDTH, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(around(x, 2, 1)))
        for stage in self.stages:
            x = stage(x)
        x = F.relu(self.head(x))
        quarter = x.shape[3] // TOKENS
        turned = x.roll(quarter // 2, dims=3).mean(dim=2)
        tokens = turned.unflatten(2, (TOKENS, quarter)).mean(dim=3).transpose(1, 2)
        return F.layer_norm(tokens, (TOKEN_WIDTH,))


@pytest.fixture(scope="module")
def reference() -> RangeEncoder:
    torch.manual_seed(0)
    return RangeEncoder().eval()


def images(count: int, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.float32]:
    return np.random.default_rng(1).normal(size=(count, 5, height, width)).astype(np.float32)


def run(path: Path, range_images: NDArray[np.float32]) -> NDArray[np.float32]:
    engine = OnnxRuntimeEngine(path, threads=1)
    try:
        return np.asarray(engine.run({"range_image": range_images})["tokens"], np.float32)
    finally:
        engine.close()


def test_names_and_shapes_are_those_of_the_torch_module(reference: RangeEncoder) -> None:
    state = reference.state_dict()
    shapes = {n: tuple(t.shape) for n, t in state.items() if "num_batches" not in n}
    assert shapes == weight_shapes()


@pytest.mark.parametrize(("height", "width"), [(HEIGHT, WIDTH), (32, 128)])
def test_tokens_equal_torch(
    tmp_path: Path, reference: RangeEncoder, height: int, width: int
) -> None:
    state = {name: tensor.numpy() for name, tensor in reference.state_dict().items()}
    inputs = images(3, height, width)
    with torch.no_grad():
        wanted = reference(torch.from_numpy(inputs)).numpy()
    macs = build_lidar_encoder(state, tmp_path / "l.onnx", height, width)
    np.testing.assert_allclose(run(tmp_path / "l.onnx", inputs), wanted, atol=1e-4)

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        reference(torch.from_numpy(inputs[:1]))
    pooling = TOKEN_WIDTH * (width // COLUMN_STRIDE) * TOKENS
    assert (macs - pooling) * 2 == counter.get_total_flops()


def test_rolling_by_a_quarter_moves_the_tokens_by_one(tmp_path: Path) -> None:
    build_lidar_encoder(random_weights(0), tmp_path / "l.onnx", HEIGHT, WIDTH)
    still = images(1)
    turned = np.roll(still, WIDTH // 4, axis=3)
    tokens = run(tmp_path / "l.onnx", np.concatenate([still, turned]))
    np.testing.assert_allclose(tokens[1], np.roll(tokens[0], 1, axis=0), atol=1e-4)


@pytest.mark.parametrize(
    ("direction", "token"), [((-1, 0), 0), ((0, 1), 1), ((1, 0), 2), ((0, -1), 3)]
)
def test_each_token_looks_along_its_axis(
    tmp_path: Path, direction: tuple[int, int], token: int
) -> None:
    build_lidar_encoder(random_weights(0), tmp_path / "l.onnx", 32, 512)
    generator = np.random.default_rng(0)
    wall = generator.normal(0, 0.4, (400, 4)).astype(np.float32)
    wall[:, :2] += 5 * np.asarray(direction, np.float32)
    far = np.asarray([[0, 0, 90, 0]], np.float32)
    clouds = [far, np.concatenate([far, wall])]
    inputs = [range_image(c, 32, 512, mean=RANGE_MEAN, std=RANGE_STD) for c in clouds]
    empty, seen = run(tmp_path / "l.onnx", np.stack(inputs))
    changes = np.abs(seen - empty).mean(axis=1)
    assert changes.argmax() == token
    assert changes[(token + 2) % TOKENS] < changes[token] / 10


def test_the_full_size_keeps_its_budget(tmp_path: Path) -> None:
    weights = random_weights(0)
    assert build_lidar_encoder(weights, tmp_path / "l.onnx") * 2 < 1e9
    assert 0.3e6 < sum(array.size for array in weights.values()) < 1e6


def test_random_weights_are_repeatable_and_keep_the_scale(tmp_path: Path) -> None:
    first, second, other = random_weights(3), random_weights(3), random_weights(4)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert not np.array_equal(first["head.conv.weight"], other["head.conv.weight"])

    model = RangeEncoder().eval()
    state = {name: torch.from_numpy(array) for name, array in first.items()}
    model.load_state_dict(state, strict=False)
    with torch.no_grad():
        x = F.relu(model.stem(around(torch.from_numpy(images(1)), 2, 1)))
        for stage in model.stages:
            x = stage(x)
            assert 0.3 < x.std() < 3


class TestErrors:
    def test_a_missing_array_is_named(self, tmp_path: Path) -> None:
        weights = random_weights(0)
        del weights["stages.1.blocks.0.expand.bias"]
        with pytest.raises(ModelError, match=r"stages\.1\.blocks\.0\.expand\.bias"):
            build_lidar_encoder(weights, tmp_path / "l.onnx")

    @pytest.mark.parametrize(
        ("height", "width"), [(ROW_STRIDE + 1, 64), (8, COLUMN_STRIDE - 1), (0, 64), (8, 16)]
    )
    def test_a_size_that_the_strides_do_not_divide(
        self, tmp_path: Path, height: int, width: int
    ) -> None:
        with pytest.raises(ConfigError):
            build_lidar_encoder(random_weights(0), tmp_path / "l.onnx", height, width)
