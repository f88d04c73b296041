"""Connections against torch: the paper's aligner, torch's encoder layers, a whole model behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from tailwire.runtime.connections import Connection, ConnectionSpec, SensorRows, weight_shapes
from tailwire.runtime.errors import ConfigError, PackError
from tailwire.runtime.kv_prefix import KvPrefix
from tailwire.runtime.language_model import HeadState, LanguageModel

from ..fakes import (
    MODALITIES,
    SENSORS,
    SPECS,
    WIDTH,
    connection_spec,
    connection_weights,
    make_connection,
)

if TYPE_CHECKING:
    from ..built_models import TinyModels

pytest.importorskip("torch", reason="torch is the reference")

from ..torch_connections import torch_conditioned, torch_plain

Float = NDArray[np.float32]
#: Grouped-query and plain multi-head attention, rotary positions and ALiBi.
FAMILIES = ("llama", "odd_columns", "bloom")
QUESTIONS = ([11, 12, 13, 14], [201, 45, 7, 80, 9, 31, 5, 6, 77], [100])
PLAIN = connection_spec("plain")
PER_BLOCK = connection_spec("plain", per_block=True)
CONDITIONED = connection_spec("conditioned")
DEPTHS = range(1, PLAIN.tail_blocks + 1)


def tokens_of(sensor: str, seed: int = 0) -> Float:
    shape = (SPECS[MODALITIES[sensor]].tokens, WIDTH)
    rng = np.random.default_rng([seed, SENSORS.index(sensor)])
    return rng.normal(size=shape).astype(np.float32)


TOKENS = {sensor: tokens_of(sensor) for sensor in SENSORS}


def rows_of(connection: Connection, sensors: Sequence[str], seed: int = 0) -> list[SensorRows]:
    return [connection.prepare(s, MODALITIES[s], tokens_of(s, seed)) for s in sensors]


def heads_of(model: LanguageModel, depths: Sequence[int] = (2, 4)) -> list[HeadState]:
    return [model.encode(question, depths) for question in QUESTIONS]


def assert_prefix(
    prefix: KvPrefix, expected: Mapping[int, tuple[Float, Float]], depth: int
) -> None:
    assert prefix.blocks == tuple(sorted(expected))[-depth:]
    for index, block in enumerate(prefix.blocks):
        np.testing.assert_allclose(prefix.keys[index], expected[block][0], rtol=2e-4, atol=2e-5)
        np.testing.assert_allclose(prefix.values[index], expected[block][1], rtol=2e-4, atol=2e-5)


def one(prefix: KvPrefix | list[KvPrefix] | None) -> KvPrefix:
    assert isinstance(prefix, KvPrefix)
    return prefix


def several(prefix: KvPrefix | list[KvPrefix] | None) -> list[KvPrefix]:
    assert isinstance(prefix, list)
    return prefix


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("spec", [PLAIN, PER_BLOCK], ids=["shared", "per_block"])
def test_plain_is_the_papers_aligner(
    tiny: TinyModels, tmp_path: Path, family: str, spec: ConnectionSpec
) -> None:
    model = tiny.model(family)
    weights = connection_weights(spec, model.config)
    connection = make_connection(tmp_path, spec, model.config, weights)
    rows, heads = rows_of(connection, SENSORS), heads_of(model)
    expected = torch_plain(spec, weights, model, TOKENS)
    for depth in DEPTHS:
        assert_prefix(one(connection.connect(rows, heads, depth)), expected, depth)


@pytest.mark.parametrize("family", FAMILIES)
def test_conditioned_is_a_torch_transformer(tiny: TinyModels, tmp_path: Path, family: str) -> None:
    model = tiny.model(family)
    weights = connection_weights(CONDITIONED, model.config)
    connection = make_connection(tmp_path, CONDITIONED, model.config, weights)
    rows, heads = rows_of(connection, SENSORS), heads_of(model)
    expected = [torch_conditioned(CONDITIONED, weights, model, TOKENS, head) for head in heads]
    for depth in DEPTHS:
        prefixes = several(connection.connect(rows, heads, depth))
        for prefix, wanted in zip(prefixes, expected, strict=True):
            assert_prefix(prefix, wanted, depth)


@pytest.mark.parametrize("family", ["llama", "bloom"])
@pytest.mark.parametrize("spec", [PLAIN, PER_BLOCK, CONDITIONED], ids=["shared", "blocks", "cond"])
def test_the_model_answers_as_transformers_does_behind_torchs_prefix(
    tiny: TinyModels, tmp_path: Path, family: str, spec: ConnectionSpec
) -> None:
    model, reference = tiny.model(family), tiny.reference(family)
    weights = connection_weights(spec, model.config)
    connection = make_connection(tmp_path, spec, model.config, weights)
    heads = heads_of(model)
    for depth in (2, 3):  # 3 is computed from a deeper boundary, block 2 sees no prefix
        prefix = connection.connect(rows_of(connection, SENSORS), heads, depth)
        logits = model.logits(model.tail(heads, prefix, depth).final)
        for index, head in enumerate(heads):
            if spec.kind == "plain":
                expected = torch_plain(spec, weights, model, TOKENS)
            else:
                expected = torch_conditioned(spec, weights, model, TOKENS, head)
            kept = {b: kv for b, kv in expected.items() if b >= model.config.num_blocks - depth}
            wanted = reference.logits(QUESTIONS[index], kept)[-1]
            np.testing.assert_allclose(logits[index], wanted, atol=1e-3)


@pytest.mark.parametrize("spec", [PLAIN, CONDITIONED], ids=["plain", "cond"])
def test_without_sensors_there_is_no_prefix(
    tiny: TinyModels, tmp_path: Path, spec: ConnectionSpec
) -> None:
    model = tiny.model("llama")
    connection = make_connection(tmp_path, spec, model.config)
    heads = heads_of(model)
    assert connection.connect([], heads, 4) is None
    logits = model.logits(model.tail(heads, None, 4).final)
    for row, question in zip(logits, QUESTIONS, strict=True):
        np.testing.assert_allclose(row, tiny.reference("llama").logits(question)[-1], atol=1e-3)


def test_a_modality_that_is_off_adds_no_rows_and_leaves_the_others_bits(
    tiny: TinyModels, tmp_path: Path
) -> None:
    model = tiny.model("llama")
    connection = make_connection(tmp_path, PLAIN, model.config)
    everything = one(connection.connect(rows_of(connection, SENSORS), heads_of(model), 4))
    tokens = [SPECS[MODALITIES[s]].tokens for s in SENSORS]
    ends = np.cumsum(tokens)
    assert everything.rows == ends[-1]
    for sensor, end, count in zip(SENSORS, ends, tokens, strict=True):
        alone = one(connection.connect(rows_of(connection, [sensor]), heads_of(model), 4))
        assert alone.rows == count
        np.testing.assert_array_equal(alone.keys, everything.keys[:, :, end - count : end])
        np.testing.assert_array_equal(alone.values, everything.values[:, :, end - count : end])


def test_keys_carry_no_position(tiny: TinyModels, tmp_path: Path) -> None:
    """Rows may be joined in any order: attention is a sum, so the logits are the same."""
    model = tiny.model("llama")
    connection = make_connection(tmp_path, PLAIN, model.config)
    heads = heads_of(model)
    rows = rows_of(connection, SENSORS)
    there = model.tail(heads, connection.connect(rows, heads, 4), 4).final
    back = model.tail(heads, connection.connect(rows[::-1], heads, 4), 4).final
    np.testing.assert_allclose(there, back, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_conditioned_batch_equals_one_by_one(tiny: TinyModels, tmp_path: Path, family: str) -> None:
    model = tiny.model(family)
    connection = make_connection(tmp_path, CONDITIONED, model.config)
    heads, rows = heads_of(model), rows_of(connection, SENSORS)
    batch = several(connection.connect(rows, heads, 4))
    batch_final = model.tail(heads, batch, 4).final
    for index, head in enumerate(heads):
        alone = several(connection.connect(rows, [head], 4))
        np.testing.assert_allclose(batch[index].keys, alone[0].keys, atol=1e-5)
        np.testing.assert_allclose(batch[index].values, alone[0].values, atol=1e-5)
        np.testing.assert_allclose(
            batch_final[index], model.tail([head], alone, 4).final[0], atol=1e-4
        )


def test_conditioned_depends_on_the_question(tiny: TinyModels, tmp_path: Path) -> None:
    model = tiny.model("llama")
    connection = make_connection(tmp_path, CONDITIONED, model.config)
    prefixes = several(connection.connect(rows_of(connection, SENSORS), heads_of(model), 2))
    assert np.abs(prefixes[0].values - prefixes[1].values).max() > 1e-3


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        (PLAIN, "camera"),
        (PLAIN, "lidar"),
        (CONDITIONED, "camera"),
        (CONDITIONED, "lidar"),
        (CONDITIONED, "summary"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.kind,
)
def test_a_closed_gate_silences_its_own_rows_only(
    tiny: TinyModels, tmp_path: Path, spec: ConnectionSpec, name: str
) -> None:
    model = tiny.model("llama")
    weights = connection_weights(spec, model.config)
    closed = {**weights, f"gate.{name}": np.full(spec.tail_blocks, -200, np.float32)}
    connection = make_connection(tmp_path, spec, model.config, weights)
    heads, rows = heads_of(model)[:1], rows_of(connection, SENSORS)
    with np.errstate(all="raise"):
        shut = connection.with_weights(closed)
    before, after = (c.connect(rows, heads, 4) for c in (connection, shut))
    before, after = (p[0] if isinstance(p, list) else one(p) for p in (before, after))
    owners = ["summary"] if spec.kind == "conditioned" else []
    for sensor in SENSORS:
        owners += [MODALITIES[sensor]] * SPECS[MODALITIES[sensor]].tokens
    for row, owner in enumerate(owners):
        same = np.array_equal(before.keys[:, :, row], after.keys[:, :, row])
        assert same is (owner != name)
        if owner == name:
            assert not after.keys[:, :, row].any()
            assert not after.values[:, :, row].any()


def test_gates_differ_by_block(tiny: TinyModels, tmp_path: Path) -> None:
    model = tiny.model("llama")
    weights = connection_weights(PLAIN, model.config)
    weights["gate.camera"] = np.asarray([-2, -1, 0, 3], np.float32)
    connection = make_connection(tmp_path, PLAIN, model.config, weights)
    prefix = one(connection.connect(rows_of(connection, ["cam_front"]), [], 4))
    expected = 1 / (1 + np.exp(-weights["gate.camera"]))
    for block in range(4):
        np.testing.assert_allclose(
            prefix.keys[block] / expected[block], prefix.keys[3] / expected[3], rtol=1e-5
        )


@pytest.mark.parametrize("spec", [PLAIN, PER_BLOCK, CONDITIONED], ids=["shared", "blocks", "cond"])
def test_a_swap_leaves_heads_alone_and_swapping_back_restores_every_bit(
    tiny: TinyModels, tmp_path: Path, spec: ConnectionSpec
) -> None:
    model = tiny.model("llama")
    connection = make_connection(tmp_path, spec, model.config)
    heads = heads_of(model)
    kept = [snapshot(head) for head in heads]

    def logits(used: Connection) -> Float:
        prefix = used.connect(rows_of(used, SENSORS), heads, 4)
        return model.logits(model.tail(heads, prefix, 4).final)

    first = logits(connection)
    other_weights = connection_weights(spec, model.config, seed=1)
    other = connection.with_weights(other_weights)
    swapped = logits(other)
    assert np.abs(first - swapped).max() > 1e-2
    fresh = make_connection(tmp_path, spec, model.config, other_weights)
    np.testing.assert_array_equal(swapped, logits(fresh))
    np.testing.assert_array_equal(first, logits(connection))
    for head, before in zip(heads, kept, strict=True):
        for array, copy in zip(snapshot(head), before, strict=True):
            np.testing.assert_array_equal(array, copy)


def snapshot(head: HeadState) -> list[Float]:
    pairs = (*head.states.values(), *head.cache.values())
    return [array.copy() for pair in pairs for array in pair]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda w: w.pop("gate.lidar"), "gate.lidar"),
        (lambda w: w.update(extra=np.zeros(3, np.float32)), "extra"),
        (lambda w: w.update({"camera.key.b1": np.zeros(3, np.float32)}), "camera.key.b1"),
        (lambda w: w["lidar.value.w2"].__setitem__((0, 0), np.nan), "lidar.value.w2"),
        (lambda w: w["sensor.lidar_top"].__setitem__((0, 0), np.inf), "sensor.lidar_top"),
        (lambda w: w.update({"gate.camera": np.zeros(4)}), "gate.camera"),
    ],
    ids=["missing", "unknown", "shape", "nan", "inf", "float64"],
)
def test_weights_that_do_not_fit_are_refused(
    tiny: TinyModels, tmp_path: Path, change: Any, named: str
) -> None:
    model = tiny.model("llama")
    connection = make_connection(tmp_path, PLAIN, model.config)
    weights = {name: array.copy() for name, array in connection.weights.items()}
    change(weights)
    with pytest.raises(PackError, match=named):
        connection.with_weights(weights)


def test_depths_beyond_the_weights_are_refused(tiny: TinyModels, tmp_path: Path) -> None:
    model = tiny.model("llama")
    connection = make_connection(tmp_path, PLAIN, model.config)
    for depth in (0, 5):
        with pytest.raises(ConfigError, match="tail"):
            connection.connect(rows_of(connection, SENSORS), heads_of(model), depth)


def test_a_question_without_the_states_that_are_read_is_refused(
    tiny: TinyModels, tmp_path: Path
) -> None:
    model = tiny.model("llama")
    connection = make_connection(tmp_path, CONDITIONED, model.config)
    with pytest.raises(ConfigError, match=r"connection\.tail_blocks"):
        connection.connect(rows_of(connection, SENSORS), heads_of(model, [2]), 2)


def test_a_width_that_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ValidationError, match="heads"):
        ConnectionSpec(kind="conditioned", tail_blocks=2, width=10, heads=4)


def test_the_sizes_of_the_paper(tiny: TinyModels) -> None:
    """mPnP-LLM: two linear layers per modality and side, one gate per block."""
    config = tiny.model("llama").config
    shapes = weight_shapes(PLAIN, config, {"lidar": (4, 384)}, {"lidar_top": "lidar"})
    out = config.num_kv_heads * config.head_dim
    sizes = sum(int(np.prod(shape)) for name, shape in shapes.items() if "sensor" not in name)
    hidden = PLAIN.hidden
    assert sizes == 2 * (384 * hidden + hidden + hidden * out + out) + PLAIN.tail_blocks
