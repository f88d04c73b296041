"""Graphs of connections: plain ONNX without weights, right for any sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tailwire.export.connection_graphs import build_connection
from tailwire.runtime.backends.onnxruntime_cpu import OnnxRuntimeEngine
from tailwire.runtime.connections import ConnectionSpec
from tailwire.runtime.language_model import HeadState
from tailwire.runtime.model_config import LanguageModelConfig

from ..fakes import MODALITIES, SENSORS, connection_spec, connection_weights, make_connection
from ..llama_sizes import llama_sizes

torch: Any = pytest.importorskip("torch", reason="torch is the reference")

SPECS = (
    connection_spec("plain"),
    connection_spec("plain", per_block=True, hidden=5),
    connection_spec("conditioned"),
    connection_spec("conditioned", width=6, heads=1, layers=1, tail_blocks=1),
    connection_spec("conditioned", width=24, heads=6, layers=3),
)


def config(hidden: int = 64, kv_heads: int = 2, head_dim: int = 16) -> LanguageModelConfig:
    return llama_sizes(
        hidden_size=hidden, embedding_size=hidden, num_kv_heads=kv_heads, head_dim=head_dim
    )


def build(spec: ConnectionSpec, folder: Path, sizes: LanguageModelConfig) -> onnx.ModelProto:
    folder.mkdir(parents=True, exist_ok=True)
    build_connection(spec, sizes, folder / "connection.onnx")
    return onnx.load(str(folder / "connection.onnx"))


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_graphs_are_standard_and_hold_no_weights(tmp_path: Path, spec: ConnectionSpec) -> None:
    model = build(spec, tmp_path, config())
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}
    assert [opset.domain for opset in model.opset_import] == [""]
    assert sum(int(np.prod(t.dims)) for t in model.graph.initializer) < 100


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_inputs_are_the_weights_by_name_and_shape(tmp_path: Path, spec: ConnectionSpec) -> None:
    sizes = config()
    model = build(spec, tmp_path, sizes)
    inputs = {
        value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
        for value in model.graph.input
    }
    weights = connection_weights(spec, sizes)
    if spec.kind == "plain":
        parts = {f"{s}.{p}" for s in ("key", "value") for p in ("w1", "b1", "w2", "b2")}
        assert inputs.keys() == {"tokens", *parts}
        assert {f"camera.{part}" for part in parts} <= weights.keys()
        return
    of_sensors = ("gate.", "sensor.", "camera.", "lidar.")
    named = {n: w.shape for n, w in weights.items() if not n.startswith(of_sensors)}
    assert {n: inputs[n] for n in inputs.keys() - {"rows", "states", "bias"}} == named


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_the_same_spec_gives_the_same_bytes(tmp_path: Path, spec: ConnectionSpec) -> None:
    for folder in ("a", "b"):
        build(spec, tmp_path / folder, config())
    first, second = (sorted((tmp_path / folder).iterdir()) for folder in ("a", "b"))
    assert [path.name for path in first] == [path.name for path in second]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_one_graph_of_aligners_serves_all_sizes(tmp_path: Path) -> None:
    build(connection_spec("plain"), tmp_path, config())
    engine = OnnxRuntimeEngine(tmp_path / "connection.onnx", threads=1)
    rng = np.random.default_rng(0)
    for tokens, width, hidden, out in ((1, 3, 4, 5), (24, 384, 1536, 192), (4, 320, 7, 64)):
        given = {"tokens": rng.normal(size=(tokens, width))}
        for side in ("key", "value"):
            given[f"{side}.w1"] = rng.normal(0, width**-0.5, (width, hidden))
            given[f"{side}.b1"] = rng.normal(size=hidden)
            given[f"{side}.w2"] = rng.normal(0, hidden**-0.5, (hidden, out))
            given[f"{side}.b2"] = rng.normal(size=out)
        outputs = engine.run({name: a.astype(np.float32) for name, a in given.items()})
        w = {name: torch.from_numpy(array) for name, array in given.items()}
        for side in ("key", "value"):
            inner = torch.nn.functional.gelu(w["tokens"] @ w[f"{side}.w1"] + w[f"{side}.b1"])
            expected = inner @ w[f"{side}.w2"] + w[f"{side}.b2"]
            made = np.asarray(outputs[side], np.float32)
            np.testing.assert_allclose(made, expected.numpy(), atol=1e-4)


@pytest.mark.parametrize("spec", [s for s in SPECS if s.kind == "conditioned"], ids=str)
@pytest.mark.parametrize("sizes", [config(48, 4, 8), config(32, 1, 32)], ids=["heads", "one head"])
def test_conditioned_graphs_of_other_sizes_equal_torch(
    tmp_path: Path, spec: ConnectionSpec, sizes: LanguageModelConfig
) -> None:
    from ..torch_connections import torch_conditioned

    class Model:
        config = sizes

    rng = np.random.default_rng(0)
    # Head states have channels that are far larger than the others.
    channels = np.geomspace(0.1, 300, sizes.hidden_size)
    weights = connection_weights(spec, sizes)
    connection = make_connection(tmp_path, spec, sizes, weights)
    tokens = {
        sensor: rng.normal(size=weights[f"sensor.{sensor}"].shape).astype(np.float32)
        for sensor in SENSORS
    }
    heads = []
    for length in (1, 7, 4):
        state = rng.normal(size=(1, length, sizes.hidden_size)) * channels
        pair = (state.astype(np.float32), np.zeros(0, np.float32))
        boundary = sizes.num_blocks - spec.tail_blocks
        heads.append(HeadState(np.arange(length), {boundary: pair}, {}))
    rows = [connection.prepare(s, MODALITIES[s], tokens[s]) for s in SENSORS]
    prefixes = connection.connect(rows, heads, spec.tail_blocks)
    assert isinstance(prefixes, list)
    for head, prefix in zip(heads, prefixes, strict=True):
        model: Any = Model()
        expected = torch_conditioned(spec, weights, model, tokens, head)
        for index, block in enumerate(prefix.blocks):
            np.testing.assert_allclose(prefix.keys[index], expected[block][0], atol=2e-4)
            np.testing.assert_allclose(prefix.values[index], expected[block][1], atol=2e-4)
