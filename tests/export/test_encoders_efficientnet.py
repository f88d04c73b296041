"""EfficientNet-Lite0 as a graph against a torch module with the same state dict.

The real checkpoint is used where it lies in the cache or `TAILWIRE_EFFICIENTNET` names it; real
pictures where `TAILWIRE_NUSCENES` names a nuScenes folder.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tailwire.export.efficientnet_lite import (
    IMAGE_MEAN,
    IMAGE_STD,
    TOKEN_WIDTH,
    build_camera_encoder,
    build_camera_features,
    build_classifier,
)
from tailwire.export.torch_checkpoint import read_state_dict
from tailwire.kernels.image import decode_image
from tailwire.runtime.backends.onnxruntime_cpu import OnnxRuntimeEngine
from tailwire.runtime.errors import ConfigError, ModelError, TailwireError
from tailwire.runtime.model_registry import ModelRegistry

from ..torch_efficientnet import EfficientNetLite0, random_efficientnet

State = dict[str, NDArray[np.generic]]


def sectors(features: Tensor, tokens: int) -> Tensor:
    """Means over equal-width sectors: columns are cut so finely that sectors are whole."""
    fine = features.mean(dim=2).repeat_interleave(tokens, dim=2)
    means = fine.unflatten(2, (tokens, -1)).mean(dim=3).transpose(1, 2)
    return F.layer_norm(means, means.shape[-1:])


@pytest.fixture(scope="module")
def reference() -> EfficientNetLite0:
    return random_efficientnet(0)


@pytest.fixture(scope="module")
def state(reference: EfficientNetLite0) -> State:
    return {name: tensor.numpy() for name, tensor in reference.state_dict().items()}


def pictures(count: int, height: int, width: int) -> NDArray[np.float32]:
    return np.random.default_rng(1).normal(size=(count, 3, height, width)).astype(np.float32)


def run(path: Path, images: NDArray[np.float32], output: str) -> NDArray[np.float32]:
    engine = OnnxRuntimeEngine(path, threads=1)
    try:
        return np.asarray(engine.run({"image": images})[output], np.float32)
    finally:
        engine.close()


@pytest.mark.parametrize(
    ("height", "width", "tokens"), [(64, 96, 3), (70, 106, 4), (32, 170, 4), (33, 33, 1)]
)
def test_tokens_equal_torch(
    tmp_path: Path,
    reference: EfficientNetLite0,
    state: State,
    height: int,
    width: int,
    tokens: int,
) -> None:
    images = pictures(2, height, width)
    with torch.no_grad():
        wanted = sectors(reference.features(torch.from_numpy(images)), tokens).numpy()
    build_camera_encoder(state, tmp_path / "c.onnx", height, width, tokens)
    got = run(tmp_path / "c.onnx", images, "tokens")
    assert got.shape == (2, tokens, TOKEN_WIDTH)
    np.testing.assert_allclose(got, wanted, atol=2e-4)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (224, 400), (70, 106)])
def test_features_are_the_last_of_their_stride_and_width(
    tmp_path: Path, reference: EfficientNetLite0, state: State, height: int, width: int
) -> None:
    images = pictures(2, height, width)
    with torch.no_grad():
        outputs = reference.each_block(torch.from_numpy(images))
    macs = build_camera_features(state, tmp_path / "c.onnx", height, width)
    engine = OnnxRuntimeEngine(tmp_path / "c.onnx", threads=1)
    try:
        got = engine.run({"image": images})
    finally:
        engine.close()
    assert sorted(got) == ["at16", "at32", "at8"]
    for stride, channels in ((8, 40), (16, 112), (32, 320)):
        rows, columns = math.ceil(height / stride), math.ceil(width / stride)
        assert got[f"at{stride}"].shape == (2, channels, rows, columns)
        wanted = [output for output in outputs if output.shape[1] == channels][-1].numpy()
        np.testing.assert_allclose(got[f"at{stride}"], wanted, atol=1e-3)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        reference.features(torch.from_numpy(images[:1]))
    assert macs * 2 == counter.get_total_flops()


def test_logits_equal_torch(tmp_path: Path, reference: EfficientNetLite0, state: State) -> None:
    images = pictures(1, 64, 64)
    with torch.no_grad():
        wanted = reference(torch.from_numpy(images)).numpy()
    build_classifier(state, tmp_path / "c.onnx", 64, 64)
    got = run(tmp_path / "c.onnx", images, "logits")
    np.testing.assert_allclose(got, wanted, atol=1e-3 * np.abs(wanted).max())


def test_multiply_adds_are_those_that_torch_counts(
    tmp_path: Path, reference: EfficientNetLite0, state: State
) -> None:
    image = torch.zeros(1, 3, 64, 96)
    with FlopCounterMode(display=False) as whole, torch.no_grad():
        reference(image)
    with FlopCounterMode(display=False) as backbone, torch.no_grad():
        reference.features(image)
    assert build_classifier(state, tmp_path / "a.onnx", 64, 96) * 2 == whole.get_total_flops()
    macs = build_camera_encoder(state, tmp_path / "b.onnx", 64, 96, 3)
    assert (macs - TOKEN_WIDTH * 3 * 3) * 2 == backbone.get_total_flops()


def test_a_token_sees_only_its_side_of_the_picture(tmp_path: Path, state: State) -> None:
    images = np.repeat(pictures(1, 64, 1024), 2, axis=0)
    images[1, :, :, 896:] = 0
    build_camera_encoder(state, tmp_path / "c.onnx", 64, 1024, 4)
    left, changed = run(tmp_path / "c.onnx", images, "tokens")
    np.testing.assert_allclose(left[0], changed[0], atol=1e-5)
    assert np.abs(left[3] - changed[3]).max() > 0.1


class TestErrors:
    def test_a_missing_array_is_named(self, tmp_path: Path, state: State) -> None:
        name = "_blocks.7._bn1.running_var"
        broken = {key: value for key, value in state.items() if key != name}
        with pytest.raises(ModelError, match=r"_blocks\.7\._bn1\.running_var"):
            build_camera_encoder(broken, tmp_path / "c.onnx", 32, 32, 1)

    @pytest.mark.parametrize(
        "array", [np.zeros((32, 3, 5, 5), np.float32), np.full((32, 3, 3, 3), np.nan, np.float32)]
    )
    def test_a_wrong_array_is_named(
        self, tmp_path: Path, state: State, array: NDArray[np.float32]
    ) -> None:
        with pytest.raises(ModelError, match="_conv_stem"):
            build_camera_encoder(
                {**state, "_conv_stem.weight": array}, tmp_path / "c.onnx", 32, 32, 1
            )

    def test_more_tokens_than_columns(self, tmp_path: Path, state: State) -> None:
        with pytest.raises(ConfigError, match="4 tokens from a feature map of 3 columns"):
            build_camera_encoder(state, tmp_path / "c.onnx", 64, 96, 4)

    def test_an_unknown_precision(self, tmp_path: Path, state: State) -> None:
        with pytest.raises(ConfigError, match="precision"):
            build_camera_encoder(state, tmp_path / "c.onnx", precision="int2")  # pyright: ignore[reportArgumentType]


def real_checkpoint() -> Path:
    named = os.environ.get("TAILWIRE_EFFICIENTNET")
    if named:
        return Path(named)
    try:
        return ModelRegistry().path("efficientnet-lite0")
    except TailwireError as error:
        pytest.skip(f"the checkpoint is not on this machine: {error}")


#: Vehicles, and what stands along a street.
STREET = {
    *(407, 436, 444, 468, 475, 511, 555, 569, 575, 581, 609, 627, 654, 656, 660, 661, 665, 670),
    *(671, 675, 705, 717, 734, 751, 779, 803, 817, 829, 864, 867, 874, 919, 920, 704, 716, 733),
}


class TestCheckpoint:
    def test_torch_agrees_on_the_checkpoint(self, tmp_path: Path) -> None:
        state = read_state_dict(real_checkpoint())
        model = EfficientNetLite0().eval()
        model.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
        images = pictures(2, 96, 160)
        with torch.no_grad():
            wanted = sectors(model.features(torch.from_numpy(images)), 4).numpy()
        build_camera_encoder(state, tmp_path / "c.onnx", 96, 160)
        np.testing.assert_allclose(run(tmp_path / "c.onnx", images, "tokens"), wanted, atol=1e-3)

    def test_street_pictures_show_street_things(self, tmp_path: Path) -> None:
        root = os.environ.get("TAILWIRE_NUSCENES")
        if not root:
            pytest.skip("TAILWIRE_NUSCENES names no nuScenes folder")
        cameras = ("CAM_FRONT", "CAM_BACK")
        files = [sorted((Path(root) / "samples" / camera).glob("*.jpg"))[0] for camera in cameras]
        build_classifier(read_state_dict(real_checkpoint()), tmp_path / "c.onnx")
        for file in files:
            image = decode_image(file.read_bytes(), 224, 224, IMAGE_MEAN, IMAGE_STD)
            logits = run(tmp_path / "c.onnx", image[None], "logits")[0]
            top = set(np.argsort(logits)[-5:].tolist())
            assert len(top & STREET) >= 3, (file.name, top)
