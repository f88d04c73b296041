"""Formulas of training against operations that torch counts while it trains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tailwire.export.checkpoint import open_checkpoint
from tailwire.export.tail_weights import tail_weights
from tailwire.runtime.adaptation.training_cost import BatchShape, TrainingCost
from tailwire.runtime.connections import ConnectionSpec

from ...fakes import MODALITIES, SPECS, WIDTH, connection_spec, connection_weights

if TYPE_CHECKING:
    from ...built_models import TinyModels

pytest.importorskip("torch", reason="what is counted is torch")

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tailwire.runtime.adaptation.connection_model import ConnectionModel
from tailwire.runtime.adaptation.tail_model import TailModel, without_first

ENCODERS = {name: (spec.tokens, spec.width) for name, spec in SPECS.items()}
WIDTHS = {name: spec.width for name, spec in SPECS.items()}
BATCH, TEXT, CHOICES = 3, 7, 2
LIDAR = ("lidar.", "gate.lidar", "sensor.lidar_top")
CASES: list[tuple[ConnectionSpec, int, tuple[str, ...] | None]] = [
    (connection_spec("plain"), 4, LIDAR),
    (connection_spec("plain", per_block=True, lora_rank=3), 3, None),
    (connection_spec("plain"), 2, ("sensor.lidar_top",)),
    (connection_spec("conditioned", lora_rank=2), 4, (*LIDAR, "lora.")),
    (connection_spec("conditioned"), 2, None),
    (connection_spec("conditioned", lora_rank=2), 1, ("sensor.cam_front", "lora.")),
]


@pytest.mark.parametrize(
    ("spec", "depth", "names"), CASES, ids=[f"{s.kind}-{n}" for s, n, _ in CASES]
)
def test_a_step_costs_what_torch_counts(
    tiny: TinyModels, spec: ConnectionSpec, depth: int, names: tuple[str, ...] | None
) -> None:
    checkpoint = open_checkpoint(tiny.folder("llama"))
    config: Any = checkpoint.config
    tail = TailModel(tail_weights(checkpoint, depth), torch.float32)
    weights = connection_weights(spec, config)
    model = ConnectionModel(spec, config, ENCODERS, MODALITIES, weights)
    model.trained(names)
    trained = frozenset(name for name in weights if model[name].requires_grad)
    tokens = {
        sensor: torch.randn(BATCH, ENCODERS[modality][0], WIDTH)
        for sensor, modality in MODALITIES.items()
    }
    states, lengths = torch.randn(BATCH, TEXT, config.hidden_size), torch.tensor([7, 5, 6])
    embeddings = tail.rows_of(list(range(CHOICES)))

    def run(*, back: bool) -> int:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            prefix, _ = model(tokens, states, lengths)
            branches = model.low_rank()
            if branches is not None:
                branches = without_first(branches, spec.tail_blocks - depth)
            final = tail(states, lengths, prefix.last(depth), branches)
            scores = final @ embeddings.T
            if back:
                scores.sum().backward()
        return counter.get_total_flops()

    cost = TrainingCost(spec, config, MODALITIES, WIDTHS, depth, trained)
    rows = {sensor: ENCODERS[modality][0] for sensor, modality in MODALITIES.items()}
    shape = BatchShape(BATCH, TEXT, rows, CHOICES)
    with torch.no_grad():
        assert cost.forward(shape) == run(back=False)
    assert cost.step(shape) == run(back=True)


@pytest.mark.parametrize("kind", ["plain", "conditioned"])
def test_a_step_without_the_tail_costs_what_torch_counts(tiny: TinyModels, kind: str) -> None:
    config: Any = open_checkpoint(tiny.folder("llama")).config
    spec = connection_spec(kind)
    weights = connection_weights(spec, config)
    model = ConnectionModel(spec, config, ENCODERS, MODALITIES, weights)
    model.trained(None)
    tokens = {
        sensor: torch.randn(BATCH, ENCODERS[modality][0], WIDTH)
        for sensor, modality in MODALITIES.items()
    }
    states, lengths = torch.randn(BATCH, TEXT, config.hidden_size), torch.tensor([7, 5, 6])
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        prefix, _ = model(tokens, states, lengths)
        (prefix.keys.sum() + prefix.values.sum()).backward()
    cost = TrainingCost(spec, config, MODALITIES, WIDTHS, spec.tail_blocks, frozenset(weights))
    rows = {sensor: ENCODERS[modality][0] for sensor, modality in MODALITIES.items()}
    shape = BatchShape(BATCH, TEXT, rows, CHOICES)
    assert cost.connection_step(shape) == counter.get_total_flops()
    assert cost.connection_step(shape) < cost.step(shape)


def test_cost_grows_with_the_tail_and_nothing_is_trained_for_nothing(tiny: TinyModels) -> None:
    config: Any = open_checkpoint(tiny.folder("llama")).config
    spec = connection_spec("conditioned")
    shape = BatchShape(8, 20, {"lidar_top": 2}, 2)

    def cost(depth: int, trained: frozenset[str]) -> TrainingCost:
        return TrainingCost(spec, config, MODALITIES, WIDTHS, depth, trained)

    lidar = frozenset({"lidar.in.w"})
    steps = [cost(depth, lidar).step(shape) for depth in (1, 2, 3, 4)]
    assert (np.diff(steps) > 0).all()
    assert cost(2, frozenset()).backward(shape) == 0
    peaks = [cost(depth, lidar).memory(shape, 1000, 100, 2) for depth in (1, 2, 3, 4)]
    assert (np.diff(peaks) > 0).all()
