"""The closed-form readout: the tail must say what the summary's own layer says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tailwire.export.checkpoint import open_checkpoint
from tailwire.export.tail_weights import tail_weights

from ...fakes import MODALITIES, SENSORS, SPECS, WIDTH, connection_spec, connection_weights

if TYPE_CHECKING:
    from ...built_models import TinyModels

pytest.importorskip("torch", reason="what is trained is in torch")

import torch

from tailwire.runtime.adaptation.connection_model import ConnectionModel
from tailwire.runtime.adaptation.readout import READOUT, token_scores, write_readout
from tailwire.runtime.adaptation.tail_model import TailModel

ENCODERS = {name: (spec.tokens, spec.width) for name, spec in SPECS.items()}
CHOICES = ((5, 9, 17, 40, 77), (9, 300))


def test_differences_within_each_set_are_kept() -> None:
    heads = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0))
    tokens, scores = token_scores(heads, CHOICES)
    assert tokens == [5, 9, 17, 40, 77, 300]
    for number, allowed in enumerate(CHOICES):
        found = scores[:, [tokens.index(token) for token in allowed]]
        own = heads[number, :, : len(allowed)]
        np.testing.assert_allclose(
            (found - found[:, :1]).numpy(), (own - own[:, :1]).numpy(), atol=1e-6
        )


def test_the_tail_says_what_the_summary_says(tiny: TinyModels) -> None:
    spec = connection_spec("conditioned")
    model = tiny.model("llama")
    weights = connection_weights(spec, model.config)
    trained = ConnectionModel(spec, model.config, ENCODERS, MODALITIES, weights)
    tail = TailModel(
        tail_weights(open_checkpoint(tiny.folder("llama")), spec.tail_blocks), torch.float32
    )
    count = 60
    rng = np.random.default_rng(0)
    tokens = {
        sensor: torch.from_numpy(
            rng.normal(size=(count, SPECS[MODALITIES[sensor]].tokens, WIDTH)).astype(np.float32)
        )
        for sensor in SENSORS
    }
    residual = torch.from_numpy(
        rng.normal(size=(count, 7, model.config.hidden_size)).astype(np.float32)
    )
    lengths = torch.from_numpy(rng.integers(3, 8, count))
    heads = torch.from_numpy(rng.normal(size=(1, spec.width, 5)).astype(np.float32))
    allowed, scores = token_scores(heads, CHOICES[:1])

    def agreement() -> float:
        with torch.no_grad():
            prefix, rows = trained(tokens, residual, lengths)
            assert rows is not None
            wanted = (rows[:, 0] @ heads[0]).argmax(-1)
            said = (tail(residual, lengths, prefix) @ tail.rows_of(allowed).T).argmax(-1)
        return float((wanted == said).float().mean())

    before, untouched = agreement(), trained.weights()
    write_readout(trained, tail, allowed, scores, tail.mean_queries(residual, lengths))
    assert before < 0.5
    assert agreement() > 0.8
    for name, array in trained.weights().items():
        if not name.startswith(READOUT):
            np.testing.assert_array_equal(array, untouched[name])
