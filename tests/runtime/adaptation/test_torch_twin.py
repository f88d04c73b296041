"""What is trained must be what runs: connections and tail in torch against the engines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from tailwire.export.checkpoint import open_checkpoint
from tailwire.export.tail_weights import tail_weights
from tailwire.runtime.connections import ConnectionSpec
from tailwire.runtime.errors import ConfigError
from tailwire.runtime.language_model import LanguageModel

from ...fakes import (
    MODALITIES,
    SENSORS,
    SPECS,
    WIDTH,
    connection_spec,
    connection_weights,
    make_connection,
)

if TYPE_CHECKING:
    from ...built_models import TinyModels

pytest.importorskip("torch", reason="what is trained is in torch")

import torch

from tailwire.runtime.adaptation.connection_model import ConnectionModel
from tailwire.runtime.adaptation.tail_model import TailModel

Float = NDArray[np.float32]
QUESTIONS = ([11, 12, 13, 14], [201, 45, 7, 80, 9, 31, 5, 6, 77], [100])
ENCODERS = {name: (spec.tokens, spec.width) for name, spec in SPECS.items()}
KINDS = [
    connection_spec("plain"),
    connection_spec("plain", per_block=True),
    connection_spec("conditioned"),
]


def tokens_of(sensor: str) -> Float:
    rng = np.random.default_rng(SENSORS.index(sensor))
    return rng.normal(size=(SPECS[MODALITIES[sensor]].tokens, WIDTH)).astype(np.float32)


def twin(tiny: TinyModels, family: str, blocks: int) -> TailModel:
    checkpoint = open_checkpoint(tiny.folder(family))
    return TailModel(tail_weights(checkpoint, blocks), torch.float32)


def padded(model: LanguageModel, blocks: int) -> tuple[torch.Tensor, torch.Tensor]:
    boundary = model.config.num_blocks - blocks
    states = [model.encode(q, [blocks]).states[boundary][0][0] for q in QUESTIONS]
    longest = max(map(len, states))
    batch = np.zeros((len(states), longest, model.config.hidden_size), np.float32)
    for row, state in zip(batch, states, strict=True):
        row[: len(state)] = state
    return torch.from_numpy(batch), torch.tensor([len(state) for state in states])


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_without_a_prefix_the_tail_is_that_of_the_engines(tiny: TinyModels, family: str) -> None:
    model = tiny.model(family)
    residual, lengths = padded(model, 4)
    heads = [model.encode(question, [4]) for question in QUESTIONS]
    expected = model.tail(heads, None, 4).final
    with torch.no_grad():
        final = twin(tiny, family, 4)(residual, lengths, None)
    np.testing.assert_allclose(final.numpy(), expected, atol=2e-5)


@pytest.mark.parametrize("spec", KINDS, ids=lambda spec: f"{spec.kind}-{spec.per_block}")
def test_behind_sensors_it_is_that_of_the_runtime(
    tiny: TinyModels, spec: ConnectionSpec, tmp_path: Path
) -> None:
    model = tiny.model("llama")
    weights = connection_weights(spec, model.config)
    connection = make_connection(tmp_path, spec, model.config, weights)
    rows = [connection.prepare(s, MODALITIES[s], tokens_of(s)) for s in SENSORS]
    depth = spec.tail_blocks
    heads = [model.encode(question, [depth]) for question in QUESTIONS]
    expected = model.tail(heads, connection.connect(rows, heads, depth), depth).final

    trained = ConnectionModel(spec, model.config, ENCODERS, MODALITIES, weights)
    residual, lengths = padded(model, depth)
    tokens = {s: torch.from_numpy(tokens_of(s)).expand(len(QUESTIONS), -1, -1) for s in SENSORS}
    with torch.no_grad():
        prefix, _ = trained(tokens, residual, lengths)
        final = twin(tiny, "llama", depth)(residual, lengths, prefix)
    np.testing.assert_allclose(final.numpy(), expected, atol=5e-5)


def test_weights_come_back_as_they_went_in(tiny: TinyModels) -> None:
    spec = connection_spec("conditioned")
    weights = connection_weights(spec, tiny.model("llama").config)
    trained = ConnectionModel(spec, tiny.model("llama").config, ENCODERS, MODALITIES, weights)
    back = trained.weights()
    assert back.keys() == weights.keys()
    for name, array in weights.items():
        np.testing.assert_array_equal(back[name], array)


def test_no_gradient_reaches_the_language_model(tiny: TinyModels) -> None:
    spec = connection_spec("conditioned")
    model = tiny.model("llama")
    trained = ConnectionModel(
        spec, model.config, ENCODERS, MODALITIES, connection_weights(spec, model.config)
    )
    tail = twin(tiny, "llama", spec.tail_blocks)
    residual, lengths = padded(model, spec.tail_blocks)
    tokens = {s: torch.from_numpy(tokens_of(s)).expand(len(QUESTIONS), -1, -1) for s in SENSORS}
    prefix, _ = trained(tokens, residual, lengths)
    tail(residual, lengths, prefix).sum().backward()
    assert all(parameter.grad is None for parameter in tail.parameters())
    missing = [name for name in trained.weights() if trained[name].grad is None]
    assert missing == []


def test_an_empty_row_is_no_token(tiny: TinyModels) -> None:
    spec = connection_spec("conditioned")
    model = tiny.model("llama")
    trained = ConnectionModel(
        spec,
        model.config,
        ENCODERS,
        MODALITIES,
        connection_weights(spec, model.config),
        MODALITIES.values(),
    )
    tail = twin(tiny, "llama", spec.tail_blocks)
    residual, lengths = padded(model, spec.tail_blocks)
    sensor = SENSORS[0]
    rows = torch.from_numpy(tokens_of(sensor)).expand(len(QUESTIONS), -1, -1)
    longer = torch.cat([rows, torch.zeros_like(rows)], dim=1)
    with torch.no_grad():
        finals = [
            tail(residual, lengths, trained({sensor: tokens}, residual, lengths)[0])
            for tokens in (rows, longer)
        ]
    np.testing.assert_allclose(finals[0].numpy(), finals[1].numpy(), atol=1e-5)


@pytest.mark.parametrize("family", ["opt", "bloom"])
def test_other_models_are_refused(tiny: TinyModels, family: str) -> None:
    with pytest.raises(ConfigError, match="Llama and Qwen2"):
        twin(tiny, family, 2)


@pytest.mark.parametrize("kind", ["plain", "conditioned"])
def test_an_empty_row_is_no_token_for_the_runtime_either(
    tiny: TinyModels, kind: str, tmp_path: Path
) -> None:
    spec = connection_spec(kind)
    model = tiny.model("llama")
    connection = make_connection(tmp_path, spec, model.config)
    depth, sensor = spec.tail_blocks, SENSORS[0]
    heads = [model.encode(question, [depth]) for question in QUESTIONS]
    tokens = tokens_of(sensor)
    partly = tokens * np.array([1, 0, 1], np.float32)[:, None]
    rows = connection.prepare(sensor, MODALITIES[sensor], partly)
    assert rows.tokens == 2
    nothing = connection.prepare(sensor, MODALITIES[sensor], np.zeros_like(tokens))
    finals = [
        model.tail(heads, connection.connect(made, heads, depth), depth).final
        for made in ([rows, nothing], [rows])
    ]
    np.testing.assert_allclose(finals[0], finals[1], atol=1e-6)
    alone = model.tail(heads, connection.connect([nothing], heads, depth), depth).final
    assert np.isfinite(alone).all()
