"""Packs in the form as published: where they start, that they learn, and that they go on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from tailwire.export.checkpoint import open_checkpoint
from tailwire.export.input_level import TEXT
from tailwire.export.tail_weights import tail_weights

if TYPE_CHECKING:
    from ..built_models import TinyModels

pytest.importorskip("torch", reason="training is in torch")

import torch

from tailwire.kernels.direction_tokens import DIRECTIONS, radar_directions
from tailwire.runtime.adaptation.training_config import TrainingError
from tailwire.training.decoupled_model import DecoupledModel
from tailwire.training.direction_start import Evidence
from tailwire.training.input_level_start import first_connector, first_parts, state_words
from tailwire.training.input_level_training import (
    InputLevelConfig,
    InputLevelTrainer,
    margins_of,
    pieces_of,
)
from tailwire.training.sense_examples import Examples, Views, balanced, one_input, sets_of

KINDS, OWN = 2, 8
BASE = "a" * 64
TEXTS = [torch.tensor((5 + number, 40)) for number in range(KINDS * DIRECTIONS)]
ANSWERS = (7, 9)


def word(embedding: NDArray[np.float32], *ids: int) -> NDArray[np.float32]:
    return embedding[list(ids)].mean(axis=0)


def marked(seed: int, views: int = 40) -> Views:
    """Tokens that say in their first columns what holds in their direction."""
    rng = np.random.default_rng(seed)
    facts = rng.integers(0, 2, (views, KINDS, DIRECTIONS)).astype(np.int8)
    rows = np.stack([radar_directions(np.zeros((0, 4), np.float32))] * views)
    rows[..., :KINDS] = facts.transpose(0, 2, 1)
    return Views({"radar": rows.astype(np.float16)}, facts)


def examples(seed: int = 0, views: int = 40) -> Examples:
    single = one_input(marked(seed, views), "radar")
    return single, balanced(single.facts, np.random.default_rng(seed))


def evidence() -> Evidence:
    out = torch.zeros(OWN, KINDS)
    out[:KINDS] = torch.eye(KINDS)
    return Evidence(torch.eye(64)[:, :OWN], torch.zeros(OWN), out, torch.full((KINDS,), -0.5))


def model_of(tiny: TinyModels, strategy: str = "decoupled", seed: int = 1) -> DecoupledModel:
    checkpoint = open_checkpoint(tiny.folder("llama"))
    embedding = checkpoint.embedding().dense()
    connector = first_connector(
        evidence(),
        [word(embedding, 5 + kind) for kind in range(KINDS)],
        [word(embedding, 30 + direction, 50) for direction in range(DIRECTIONS)],
        word(embedding, 60),
        np.random.default_rng(seed),
    )
    config = checkpoint.config
    parts = first_parts(
        *(config, BASE, "single" if strategy == "single" else "decoupled"),
        *({"radar": connector}, config.num_blocks, 2, seed),
    )
    return DecoupledModel(tail_weights(checkpoint, config.num_blocks), embedding, parts)


def test_rows_of_a_first_connector_are_words(tiny: TinyModels) -> None:
    checkpoint = open_checkpoint(tiny.folder("llama"))
    embedding: NDArray[np.float32] = checkpoint.embedding().dense()
    model = model_of(tiny)
    views = marked(3)
    rows = torch.from_numpy(views.tokens["radar"][0].astype(np.float32))
    with torch.no_grad():
        made, kinds = model.sequence([("radar", rows)])
    said = made.numpy()[5:-5]
    wanted = np.stack([word(embedding, 30 + direction, 50) for direction in range(DIRECTIONS)])
    # Each row is nearest to the words of its own direction, with or without a kind's beside.
    likeness = said @ wanted.T / np.linalg.norm(wanted, axis=1)
    np.testing.assert_array_equal(likeness.argmax(axis=1), np.arange(DIRECTIONS))
    with torch.no_grad():
        yes, no = (
            model.sequence([("radar", rows.clone().index_fill_(1, torch.tensor([0]), value))])[0]
            for value in (1.0, 0.0)
        )
    toward = (yes - no).numpy()[5:-5] @ word(embedding, 5)
    assert (toward > 0).all() and len(kinds) == 16


def test_words_are_what_questions_have_in_common() -> None:
    rng = np.random.default_rng(0)
    kinds, places, base = rng.normal(size=(2, 8)), rng.normal(size=(6, 8)), rng.normal(size=8)
    asked = [divmod(number, DIRECTIONS) for number in range(KINDS * DIRECTIONS)]
    states = [base + kinds[kind] + places[direction] for kind, direction in asked]
    found, directions, plain = state_words(states, asked)
    middle = kinds.mean(axis=0)
    np.testing.assert_allclose(found, kinds - middle, atol=1e-12)
    np.testing.assert_allclose(directions, base + middle + places, atol=1e-12)
    np.testing.assert_allclose(plain, base + middle + places.mean(axis=0), atol=1e-12)


@pytest.mark.parametrize("strategy", ["decoupled", "single"])
def test_it_learns_and_leaves_the_language_model_alone(tiny: TinyModels, strategy: str) -> None:
    model = model_of(tiny, strategy)
    frozen = {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}
    config = InputLevelConfig(steps=80, views=6, questions=12, learning_rate=2e-3, warmup=2)
    few = examples(views=6)
    trainer = InputLevelTrainer(model, few, TEXTS, ANSWERS, config)
    losses: list[float] = []
    trainer.run(lambda done: losses.append(done.loss))
    assert losses[-1] < 0.9 * losses[0]
    for name, parameter in model.named_parameters():
        if name in frozen:
            np.testing.assert_array_equal(parameter.detach().numpy(), frozen[name].numpy())
    assert trainer.evaluate(few, 6).mean() > 0.65
    parts = model.trained_parts()
    assert parts.strategy == strategy
    assert (parts.branches["radar"] is parts.branches[TEXT]) == (strategy == "single")


def test_a_run_that_was_cut_off_goes_on_as_if_it_had_not_been(
    tiny: TinyModels, tmp_path: Path
) -> None:
    config = InputLevelConfig(steps=6, views=3, questions=4, keep_every=2)

    def trained(checkpoint: Path | None, steps: int) -> tuple[InputLevelTrainer, DecoupledModel]:
        model = model_of(tiny)
        trainer = InputLevelTrainer(model, examples(), TEXTS, ANSWERS, config, checkpoint)
        trainer.run(should_stop=lambda: trainer.step >= steps)
        return trainer, model

    _, whole = trained(None, 6)
    first, _ = trained(tmp_path / "state.pt", 3)
    assert first.step == 3
    second, resumed = trained(tmp_path / "state.pt", 6)
    assert second.step == 6
    for name, parameter in whole.named_parameters():
        other = dict(resumed.named_parameters())[name]
        np.testing.assert_array_equal(parameter.detach().numpy(), other.detach().numpy())
    with pytest.raises(TrainingError, match="other settings"):
        InputLevelTrainer(
            *(model_of(tiny), examples(), TEXTS, ANSWERS),
            *(config.model_copy(update={"seed": 5}), tmp_path / "state.pt"),
        )


def test_an_input_has_the_rows_that_are_there(tiny: TinyModels) -> None:
    parts = [one_input(marked(seed), "radar", number) for number, seed in enumerate((4, 5))]
    views, _ = sets_of(parts, 6, np.random.default_rng(6))
    views.tokens["radar.0"][0, 4:] = 0
    views.tokens["radar.1"][1] = 0
    assert [(name, len(rows)) for name, rows in pieces_of(views, 0)] == [("radar", 4), ("radar", 6)]
    assert [(name, len(rows)) for name, rows in pieces_of(views, 1)] == [("radar", 6)]
    model = model_of(tiny)
    with torch.no_grad():
        both = margins_of(
            *(model, [pieces_of(views, 0), pieces_of(views, 1)], [[0, 3], [2]], TEXTS, ANSWERS)
        )
        alone = margins_of(model, [pieces_of(views, 1)], [[2]], TEXTS, ANSWERS)
    assert both.shape == (3,)
    np.testing.assert_allclose(both[2:].numpy(), alone.numpy(), atol=1e-5)
