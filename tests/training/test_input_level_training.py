"""Packs in the form as published: where they start, that they learn, and that they go on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from tailwire.export.checkpoint import open_checkpoint
from tailwire.export.input_level import TEXT, InputLevelModelParts
from tailwire.export.tail_weights import tail_weights

if TYPE_CHECKING:
    from ..built_models import TinyModels

pytest.importorskip("torch", reason="training is in torch")

import torch

from tailwire.kernels.direction_tokens import DIRECTIONS, radar_directions
from tailwire.runtime.adaptation.tail_model import TailModel
from tailwire.runtime.adaptation.tail_weights import TailWeights
from tailwire.runtime.adaptation.training_config import TrainingError
from tailwire.runtime.errors import ConfigError
from tailwire.training.decoupled_model import DecoupledModel
from tailwire.training.direction_start import Evidence
from tailwire.training.input_level_start import Questions, first_parts, free_axes
from tailwire.training.input_level_training import (
    InputLevelConfig,
    InputLevelTrainer,
    margins_of,
    pieces_of,
)
from tailwire.training.sense_examples import Examples, Views, balanced, one_input, sets_of

KINDS, OWN, RANK, BLOCKS = 2, 8, 9, 4
BASE = "a" * 64
ASKED = [divmod(number, DIRECTIONS) for number in range(KINDS * DIRECTIONS)]
ANSWERS = (7, 9)
_RNG = np.random.default_rng(8)
TEXTS = [torch.from_numpy(_RNG.normal(size=(5, 64)).astype(np.float32)) for _ in ASKED]


def marked(seed: int, views: int = 40) -> Views:
    """Tokens that say in their first columns what holds in their direction."""
    rng = np.random.default_rng(seed)
    facts = rng.integers(0, 2, (views, KINDS, DIRECTIONS)).astype(np.int8)
    return Views({"radar": marked_rows(facts).astype(np.float16)}, facts)


def marked_rows(facts: NDArray[np.int8]) -> NDArray[np.float32]:
    rows = np.stack([radar_directions(np.zeros((0, 4), np.float32))] * len(facts))
    rows[..., :KINDS] = facts.transpose(0, 2, 1)
    return rows


def examples(seed: int = 0, views: int = 40) -> Examples:
    single = one_input(marked(seed, views), "radar")
    return single, balanced(single.facts, np.random.default_rng(seed))


def evidence() -> Evidence:
    """Of a network that gives back the first columns, less a half."""
    out = torch.zeros(OWN, KINDS)
    out[:KINDS] = torch.eye(KINDS) / 8
    return Evidence(torch.eye(64)[:, :OWN] * 8, torch.zeros(OWN), out, torch.full((KINDS,), -0.5))


def weights_of(tiny: TinyModels) -> TailWeights:
    return tail_weights(open_checkpoint(tiny.folder("llama")), BLOCKS)


def questions_of(tiny: TinyModels) -> Questions:
    weights = weights_of(tiny)
    tail = TailModel(weights, torch.float32)
    lengths = torch.full((len(TEXTS),), 5)
    return Questions(tail, weights, torch.stack(TEXTS), lengths, ASKED, ANSWERS)


def asking(weights: TailWeights, parts: InputLevelModelParts) -> torch.Tensor:
    """Margins of all questions of one empty row a direction."""
    facts = np.zeros((1, KINDS, DIRECTIONS), np.int8)
    rows = torch.from_numpy(marked_rows(facts)[0])
    model = DecoupledModel(weights, None, parts)
    with torch.no_grad():
        return margins_of(model, [[("radar", rows)]], [range(len(TEXTS))], TEXTS, ANSWERS)


def parts_of(tiny: TinyModels, strategy: str = "decoupled", seed: int = 1) -> InputLevelModelParts:
    questions = questions_of(tiny)
    return first_parts(
        *(questions, BASE, "single" if strategy == "single" else "decoupled"),
        *({"radar": evidence()}, RANK, seed),
        lambda parts: asking(questions.weights, parts),
    )


def model_of(tiny: TinyModels, strategy: str = "decoupled", seed: int = 1) -> DecoupledModel:
    return DecoupledModel(weights_of(tiny), None, parts_of(tiny, strategy, seed))


def test_questions_find_their_direction_from_the_start(tiny: TinyModels) -> None:
    model = model_of(tiny)

    def margins(facts: NDArray[np.int8]) -> NDArray[np.float32]:
        pieces = [[("radar", torch.from_numpy(marked_rows(facts[None])[0]))]]
        with torch.no_grad():
            return margins_of(model, pieces, [range(len(TEXTS))], TEXTS, ANSWERS).numpy()

    nothing = np.zeros((KINDS, DIRECTIONS), np.int8)
    base, found = margins(nothing), []
    for place in ASKED:
        facts = nothing.copy()
        facts[place] = 1
        found.append(margins(facts) - base)
    gain = np.array(found)
    # Each question rises most by its own fact, and its own fact raises it more than any other.
    assert (gain.argmax(axis=0) == np.arange(len(ASKED))).mean() > 0.8
    assert (np.diag(gain) > 0).all()


def test_axes_are_drawn_where_text_has_least(tiny: TinyModels) -> None:
    questions = questions_of(tiny)
    one, other = (free_axes(questions, 9, np.random.default_rng(seed)) for seed in (0, 1))
    np.testing.assert_allclose(one @ one.T, np.eye(9), atol=1e-5)
    # Packs of different people share no axis.
    assert np.abs(one @ other.T).max() < 0.95
    rows = questions.states.flatten(0, 1).numpy()
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    drawn = np.linalg.qr(np.random.default_rng(2).normal(size=(rows.shape[1], 9)))[0].T
    assert np.square(rows @ one.T).mean() < np.square(rows @ drawn.T).mean()


def test_a_start_that_cannot_be_is_refused(tiny: TinyModels) -> None:
    questions = questions_of(tiny)
    both = {"radar": evidence(), "audio": evidence()}

    def never(parts: InputLevelModelParts) -> torch.Tensor:
        raise AssertionError(parts)

    with pytest.raises(ConfigError, match="no room"):
        first_parts(questions, BASE, "decoupled", {"radar": evidence()}, 8, 1, never)
    with pytest.raises(ConfigError, match="several modalities"):
        first_parts(questions, BASE, "single", both, RANK, 1, never)


@pytest.mark.parametrize("strategy", ["decoupled", "single"])
def test_it_learns_and_leaves_the_language_model_alone(tiny: TinyModels, strategy: str) -> None:
    model = model_of(tiny, strategy)
    frozen = {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}
    config = InputLevelConfig(steps=80, views=6, questions=12, learning_rate=2e-3, warmup=2)
    few = examples(views=6)
    # The start knows the answers already, so yes and no change places.
    trainer = InputLevelTrainer(model, few, TEXTS, (ANSWERS[1], ANSWERS[0]), config)
    before = trainer.evaluate(few, 6).mean()
    losses: list[float] = []
    trainer.run(lambda done: losses.append(done.loss))
    assert losses[-1] < 0.9 * losses[0]
    for name, parameter in model.named_parameters():
        if name in frozen:
            np.testing.assert_array_equal(parameter.detach().numpy(), frozen[name].numpy())
    assert trainer.evaluate(few, 6).mean() > before + 0.2
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
    views.tokens["radar.0"][0, 4] = 0
    views.tokens["radar.1"][1] = 0
    views.tokens["radar.1"][2] = views.tokens["radar.1"][2][::-1].copy()
    first = pieces_of(views, 0)
    assert [name for name, _ in first] == ["radar", "radar"] and len(pieces_of(views, 1)) == 1
    # Rows lie in the order of their directions, one that is missing leaves its place.
    assert not first[0][1][4].any() and first[0][1][5].any()
    order = pieces_of(views, 2)[1][1][:, -DIRECTIONS:].argmax(dim=1)
    assert order.tolist() == list(range(DIRECTIONS))
    model = model_of(tiny)
    with torch.no_grad():
        both = margins_of(
            *(model, [pieces_of(views, 0), pieces_of(views, 1)], [[0, 3], [2]], TEXTS, ANSWERS)
        )
        alone = margins_of(model, [pieces_of(views, 1)], [[2]], TEXTS, ANSWERS)
    assert both.shape == (3,)
    np.testing.assert_allclose(both[2:].numpy(), alone.numpy(), atol=1e-5)
