"""Weights of an earlier training as a start for connections of another depth."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="what is trained is in torch")

from tailwire.benchmarks.adaptation_start import depth_of_start, fitted_start
from tailwire.runtime.connections import ConnectionSpec, weight_shapes

from ..llama_sizes import llama_sizes

MODEL = llama_sizes(num_blocks=8, hidden_size=16, embedding_size=16, num_kv_heads=1, head_dim=8)
SIZES = {"camera": (3, 5), "lidar": (3, 5)}
SENSORS = {"cam_front": "camera", "lidar_top": "lidar"}


def spec(depth: int) -> ConnectionSpec:
    return ConnectionSpec.model_validate(
        {"kind": "conditioned", "tail_blocks": depth, "width": 8, "layers": 1, "heads": 2}
    )


def earlier(depth: int) -> dict[str, np.ndarray]:
    """Of a pack that knows given objects, too."""
    sizes = {**SIZES, "objects": (4, 5)}
    shapes = weight_shapes(spec(depth), MODEL, sizes, {**SENSORS, "objects": "objects"})
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_the_last_blocks_are_those_of_the_earlier_tail(depth: int) -> None:
    old = earlier(3)
    made = fitted_start(old, spec(depth), MODEL, SIZES, SENSORS, {"lidar"}, 0)
    shapes = weight_shapes(spec(depth), MODEL, SIZES, SENSORS)
    assert {name: array.shape for name, array in made.items()} == shapes
    shared = min(depth, 3)
    np.testing.assert_array_equal(made["gate.camera"][-shared:], old["gate.camera"][-shared:])
    keys = made["key.w"].reshape(8, depth, 8), old["key.w"].reshape(8, 3, 8)
    np.testing.assert_array_equal(keys[0][:, -shared:], keys[1][:, -shared:])
    np.testing.assert_array_equal(made["camera.in.w"], old["camera.in.w"])


def test_what_comes_later_is_not_known_yet() -> None:
    old = earlier(3)
    made = fitted_start(old, spec(5), MODEL, SIZES, SENSORS, {"lidar"}, 0)
    assert (made["lidar.in.w"] != old["lidar.in.w"]).any()
    assert (made["gate.lidar"][-3:] != old["gate.lidar"]).any()


def test_at_the_same_depth_nothing_but_the_coming_modality_is_new() -> None:
    old = earlier(3)
    assert depth_of_start(old) == 3 and depth_of_start({}) is None
    made = fitted_start(old, spec(3), MODEL, SIZES, SENSORS, {"lidar"}, 0)
    for name, array in made.items():
        is_new = name.startswith("lidar.") or name in ("gate.lidar", "sensor.lidar_top")
        assert np.array_equal(array, old[name]) != is_new, name
