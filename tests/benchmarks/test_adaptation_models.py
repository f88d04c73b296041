"""Input-level models against transformers, formulas against counted operations, and gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tailwire.export.checkpoint import open_checkpoint
from tailwire.export.tail_weights import tail_weights

if TYPE_CHECKING:
    from ..built_models import TinyModels

pytest.importorskip("torch", reason="what is trained is in torch")

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tailwire.benchmarks.adaptation_cost import InputLevelCost
from tailwire.benchmarks.input_level_methods import METHODS, Method, SensorLayout
from tailwire.benchmarks.input_level_model import InputLevelModel
from tailwire.runtime.adaptation.training_cost import BatchShape
from tailwire.runtime.errors import ConfigError

from .adaptation_task import MODALITIES, WIDTH

LAYOUT = SensorLayout(MODALITIES, {"camera": WIDTH, "lidar": WIDTH})
TEXTS = ([11, 12, 13, 14], [201, 45, 7, 80, 9, 31, 5, 6, 77], [100])


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Products this small are no faster on more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def model_of(tiny: TinyModels, family: str, method: Method, **options: Any) -> InputLevelModel:
    checkpoint = open_checkpoint(tiny.folder(family))
    weights = tail_weights(checkpoint, checkpoint.config.num_blocks)
    options = {"dtype": torch.float32, **options}
    return InputLevelModel(weights, checkpoint.embedding().dense(), LAYOUT, method, **options)


def batch() -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """Three texts behind sensors of which each has another number of tokens."""
    generator = torch.Generator().manual_seed(5)
    tokens = {s: torch.randn(3, 4, WIDTH, generator=generator) for s in ("cam_front", "lidar_top")}
    tokens["cam_front"][0, 1:] = 0
    tokens["cam_front"][1, 2] = 0
    tokens["lidar_top"][2] = 0
    ids = torch.zeros(3, max(map(len, TEXTS)), dtype=torch.int64)
    for row, text in zip(ids, TEXTS, strict=True):
        row[: len(text)] = torch.tensor(text)
    return tokens, ids, torch.tensor([len(text) for text in TEXTS])


def test_sequences_are_those_of_transformers(tiny: TinyModels) -> None:
    cases: list[tuple[str, Method]] = [("llama", "full"), ("qwen2", "prompt"), ("llama", "lora")]
    for family, method in cases:
        ours = model_of(tiny, family, method)
        tokens, ids, lengths = batch()
        with torch.no_grad():
            for branch in ours.branches.values():
                branch.zero_()
            final = ours.answer(tokens, ids, lengths)
            logits = final @ ours.rows_of(range(300)).T
            reference = tiny.reference(family).model
            words = reference.get_input_embeddings()
            for number, text in enumerate(TEXTS):
                rows: list[torch.Tensor] = [] if ours.prompt is None else [ours.prompt]
                for sensor, its_tokens in tokens.items():
                    there = its_tokens[number][(its_tokens[number] != 0).any(-1)]
                    rows.append(ours._project_sensor(sensor, there))
                rows.append(words(torch.tensor(text)))
                expected = reference(inputs_embeds=torch.cat(rows)[None]).logits[0, -1, :300]
                np.testing.assert_allclose(logits[number].numpy(), expected.numpy(), atol=5e-4)


def test_branches_are_low_rank_additions_to_keys_and_values(tiny: TinyModels) -> None:
    lora, full = model_of(tiny, "llama", "lora"), model_of(tiny, "llama", "full")
    config = lora.config
    first, size = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    with torch.no_grad():
        for name, branch in lora.branches.items():
            if name.endswith("/b"):
                branch.copy_(torch.randn(branch.shape, generator=torch.Generator().manual_seed(1)))
        for block in range(lora.num_blocks):
            for side, at in (("key", first), ("value", first + size)):
                a, b = (lora.branches[f"{block}/{side}/{part}"] for part in "ab")
                getattr(full, f"qkv{block}")[at : at + size] += 4 * (a @ b).T
        finals = [one.answer(*batch()) for one in (lora, full)]
    np.testing.assert_allclose(finals[0].numpy(), finals[1].numpy(), atol=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_a_step_costs_what_torch_counts(tiny: TinyModels, method: Method) -> None:
    model = model_of(tiny, "llama", method)
    learning = ("cam_front", "lidar_top")
    model.trained(learning)
    tokens, ids, lengths = batch()
    answers = range(7)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        scores = model.answer(tokens, ids, lengths) @ model.rows_of(answers).T
        scores.sum().backward()
    rows, counts = model._sequence(tokens, ids, lengths, None)
    assert rows.shape[1] == int(counts.max())
    cost = InputLevelCost(model.config, LAYOUT, method, learning)
    shape = BatchShape(len(ids), ids.shape[1], dict.fromkeys(learning, 4), len(answers))
    counted = counter.get_total_flops()
    assert abs(cost.step(shape, rows.shape[1]) - counted) < 0.02 * counted


@pytest.mark.parametrize("method", METHODS)
def test_gradients_reach_what_the_method_trains(tiny: TinyModels, method: Method) -> None:
    model = model_of(tiny, "llama", method)
    beside, own = model.trained(("lidar_top",))
    tokens, ids, lengths = batch()
    model.answer(tokens, ids, lengths).sum().backward()
    reached = {name for name, one in model.named_parameters() if one.grad is not None}
    lidar = {f"projector.lidar/{part}" for part in ("w1", "b1", "w2", "b2")}
    lidar.add("projector.offset/lidar_top")
    assert len(beside) >= len(lidar)
    if method == "lora":
        assert reached == lidar | {
            name for name, _ in model.named_parameters() if "branches" in name
        }
        assert not own
    elif method == "prompt":
        assert reached == lidar | {"prompt"}
        assert not own
    else:
        frozen = {name for name, one in model.named_parameters() if not one.requires_grad}
        assert reached == {name for name, _ in model.named_parameters()} - frozen
        assert frozen and all(name.startswith("projector.") for name in frozen)
        assert any(one is model.embedding for one in own)


def test_what_was_trained_comes_back(tiny: TinyModels) -> None:
    for method in METHODS:
        model, other = (model_of(tiny, "llama", method, seed=seed) for seed in (0, 1))
        other.load_trained_state(model.trained_state())
        with torch.no_grad():
            finals = [one.answer(*batch()) for one in (model, other)]
        np.testing.assert_array_equal(finals[0].numpy(), finals[1].numpy())


def test_a_part_of_the_blocks_is_refused(tiny: TinyModels) -> None:
    checkpoint = open_checkpoint(tiny.folder("llama"))
    embedding = checkpoint.embedding().dense()
    with pytest.raises(ConfigError, match="2 of 6 blocks"):
        InputLevelModel(tail_weights(checkpoint, 2), embedding, LAYOUT, "full")
