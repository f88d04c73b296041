"""A connection moved to another boundary: what it reads there, and blocks that look at nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tailwire.export.checkpoint import open_checkpoint
from tailwire.runtime.adaptation.samples import HeadTexts
from tailwire.runtime.connections import ConnectionSpec, weight_shapes

if TYPE_CHECKING:
    from ..built_models import TinyModels

pytest.importorskip("torch", reason="what is trained is in torch")

import torch

from tailwire.benchmarks.boundary_start import leave_alone, moved_reading
from tailwire.export.tail_weights import tail_weights
from tailwire.runtime.adaptation.batches import padded_texts
from tailwire.runtime.adaptation.connection_model import ConnectionModel
from tailwire.runtime.adaptation.tail_model import TailModel
from tailwire.training.device_heads import device_head_texts

WIDTH, HIDDEN = 6, 12


def states_of(rng: np.random.Generator, texts: int) -> HeadTexts:
    lengths = rng.integers(3, 9, texts)
    states = rng.normal(size=(lengths.sum(), HIDDEN)).astype(np.float32)
    return HeadTexts(states, np.concatenate([[0], np.cumsum(lengths)]))


def reading_of(rng: np.random.Generator) -> dict[str, np.ndarray]:
    shapes = {"norm": (HIDDEN,), "w": (HIDDEN, WIDTH), "b": (WIDTH,)}
    return {f"question.{n}": rng.normal(size=s).astype(np.float32) for n, s in shapes.items()}


def read(weights: dict[str, np.ndarray], states: np.ndarray) -> np.ndarray:
    scale = np.sqrt(np.mean(states**2, -1, keepdims=True) + 1e-5)
    return states / scale * weights["question.norm"] @ weights["question.w"] + weights["question.b"]


def test_what_was_read_there_is_read_here_where_states_allow_it() -> None:
    rng = np.random.default_rng(0)
    earlier, weights = states_of(rng, 80), reading_of(rng)
    # Turned as a whole: rows keep their length, so all that was there is there still.
    turn, _ = np.linalg.qr(rng.normal(size=(HIDDEN, HIDDEN)))
    here = HeadTexts((earlier.states @ turn).astype(np.float32), earlier.offsets)
    moved = moved_reading(weights, earlier, here, np.arange(60), np.arange(60, 80))
    assert moved.explained > 0.9999
    last = earlier.offsets[60]
    expected = read(weights, earlier.states[last:])
    np.testing.assert_allclose(read(moved.weights, here.states[last:]), expected, atol=0.02)


def test_it_tells_how_little_other_states_say() -> None:
    rng = np.random.default_rng(0)
    earlier, weights = states_of(rng, 80), reading_of(rng)
    here = HeadTexts(rng.normal(size=earlier.states.shape).astype(np.float32), earlier.offsets)
    moved = moved_reading(weights, earlier, here, np.arange(60), np.arange(60, 80))
    assert moved.explained < 0.1
    assert moved_reading(weights, earlier, here, np.arange(60)).explained > moved.explained


def test_blocks_that_are_left_alone_change_nothing(tiny: TinyModels) -> None:
    checkpoint = open_checkpoint(tiny.folder("llama"))
    config, depth, added = checkpoint.config, 4, 2
    spec = ConnectionSpec.model_validate(
        {"kind": "conditioned", "tail_blocks": depth, "width": 8, "layers": 1, "heads": 2}
    )
    sizes, sensors = {"camera": (3, 5)}, {"cam_front": "camera"}
    rng = np.random.default_rng(1)
    weights = {
        name: rng.normal(size=shape).astype(np.float32)
        for name, shape in weight_shapes(spec, config, sizes, sensors).items()
    }
    texts = [tuple(rng.integers(2, 90, size).tolist()) for size in (7, 9, 5)]
    heads = device_head_texts(checkpoint, texts, (depth, depth - added), "cpu")
    every, offsets = torch.from_numpy(heads[depth].states), heads[depth].offsets
    states, lengths = padded_texts(every, offsets, np.arange(3))
    assert states.shape == (3, 9, config.hidden_size) and lengths.tolist() == [7, 9, 5]
    tail = TailModel(tail_weights(checkpoint, depth), torch.float32)
    queries = tail.mean_queries(states, lengths)
    made = leave_alone(weights, added, queries, config.num_kv_heads)
    last = config.num_kv_heads * config.head_dim * added
    np.testing.assert_array_equal(made["key.w"][:, last:], weights["key.w"][:, last:])
    np.testing.assert_array_equal(made["gate.camera"][added:], weights["gate.camera"][added:])

    tokens = {"cam_front": torch.from_numpy(rng.normal(size=(3, 3, 5)).astype(np.float32))}
    prefixes = []
    for one in (weights, made):
        model = ConnectionModel(spec, config, sizes, sensors, one, sizes)
        prefix, _ = model(tokens, states, lengths)
        prefixes.append(prefix)
    assert prefixes[0].values[:, :added].abs().max() > 0.1
    assert not prefixes[1].values[:, :added].any()
    # What is asked meets keys with the logit that is wanted, far below that of its own tokens.
    query = queries[0].view(config.num_kv_heads, -1, config.head_dim).mean(1)
    met = (query * prefixes[1].keys[0, 0, :, 0]).sum(-1) / config.head_dim**0.5
    torch.testing.assert_close(met, torch.full_like(met, -8.0), rtol=1e-4, atol=0)
