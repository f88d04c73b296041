"""The start in closed form: questions attend to their direction, and evidence becomes yes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tailwire.export.checkpoint import open_checkpoint
from tailwire.export.tail_weights import tail_weights

if TYPE_CHECKING:
    from ..built_models import TinyModels

pytest.importorskip("torch", reason="training is in torch")

import torch

from tailwire.kernels.direction_tokens import DIRECTIONS, radar_directions
from tailwire.runtime.adaptation.connection_model import ConnectionModel
from tailwire.runtime.adaptation.initial_weights import initial_weight
from tailwire.runtime.adaptation.tail_model import TailModel
from tailwire.runtime.connections import ConnectionSpec, weight_shapes
from tailwire.training import direction_start
from tailwire.training.direction_start import (
    Evidence,
    key_places,
    learn_evidence,
    write_direction_start,
)

KINDS, HIDDEN = 2, 24
OWN = HIDDEN - DIRECTIONS
ASKED = [divmod(number, DIRECTIONS) for number in range(KINDS * DIRECTIONS)]
ENCODERS, SENSORS = {"radar": (DIRECTIONS, 64)}, {"radar": "radar"}


def marked(facts: np.ndarray) -> np.ndarray:
    """Tokens that say in their first columns what holds in their direction."""
    rows = np.stack([radar_directions(np.zeros((0, 4), np.float32))] * len(facts))
    rows[..., :KINDS] = facts.transpose(0, 2, 1)
    return rows


def some_facts(seed: int, views: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 2, (views, KINDS, DIRECTIONS)).astype(np.int8)


def test_evidence_is_learned_where_facts_are_known() -> None:
    facts = some_facts(0, 80)
    shown = facts.copy()
    # What is open teaches nothing, whatever the rows look like.
    shown[:40, 0] = -1
    evidence = learn_evidence([marked(facts)], shown, HIDDEN, seed=1)
    tried = some_facts(2, 50)
    odds = evidence(torch.from_numpy(marked(tried))).numpy()
    np.testing.assert_array_equal(odds.transpose(0, 2, 1) > 0, tried > 0)


def test_a_rare_yes_is_no_prior() -> None:
    """Rows that say nothing are as likely yes as no, though few are yes."""
    rng = np.random.default_rng(3)
    facts = (rng.random((400, KINDS, DIRECTIONS)) < 0.05).astype(np.int8)
    evidence = learn_evidence([marked(np.zeros_like(facts))], facts, HIDDEN, seed=4)
    odds = evidence(torch.from_numpy(marked(facts[:1] * 0)))
    assert odds.abs().max() < 1


def started(tiny: TinyModels, sensors: dict[str, str]) -> Any:
    """A started connection whose evidence is what marked tokens say, and what questions need."""
    config = tiny.model("llama").config
    spec = ConnectionSpec(kind="plain", tail_blocks=4, per_block=True, hidden=HIDDEN)
    tail = TailModel(tail_weights(open_checkpoint(tiny.folder("llama")), 4), torch.float32)
    rng = np.random.default_rng(5)
    weights = {
        name: initial_weight(name, shape, rng)
        for name, shape in weight_shapes(spec, config, ENCODERS, sensors).items()
    }
    for sensor in sensors:
        weights[f"sensor.{sensor}"][:] = 0
    model = ConnectionModel(spec, config, ENCODERS, sensors, weights)
    residual = torch.from_numpy(
        rng.normal(size=(len(ASKED), 5, config.hidden_size)).astype(np.float32)
    )
    lengths = torch.full((len(ASKED),), 5)
    exact = Evidence(torch.eye(64)[:, :OWN] * 8, torch.zeros(OWN), *_mirror_out())
    answers = (5, 9)
    places = write_direction_start(
        *(model, tail, "radar", (residual, lengths), ASKED, answers, exact)
    )

    def margins(*inputs: np.ndarray) -> np.ndarray:
        tokens = {
            sensor: torch.from_numpy(marked(facts[None])).expand(len(ASKED), -1, -1)
            for sensor, facts in zip(sensors, inputs, strict=False)
        }
        with torch.no_grad():
            prefix, _ = model(tokens, residual, lengths)
            scores = tail(residual, lengths, prefix) @ tail.rows_of(answers).T
        return (scores[:, 0] - scores[:, 1]).numpy()

    return places, margins


def test_of_two_inputs_the_one_that_says_no_is_heard(
    tiny: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing, all_hold = (np.full((KINDS, DIRECTIONS), value, np.int8) for value in (-4, 1))
    said: list[np.ndarray] = []
    for doubt in (0.0, 1.0):
        monkeypatch.setattr(direction_start, "_DOUBT", doubt)
        _, margins = started(tiny, {"radar.0": "radar", "radar.1": "radar"})
        # The order of inputs is none.
        np.testing.assert_allclose(
            margins(nothing, all_hold), margins(all_hold, nothing), atol=1e-3
        )
        said.append(margins(nothing, all_hold) - margins(all_hold, all_hold))
    assert (said[1] < said[0]).all()


def test_questions_find_their_direction_and_say_its_evidence(tiny: TinyModels) -> None:
    places, margins = started(tiny, SENSORS)
    assert {one.kind for one in places} == set(range(KINDS))
    assert len({(one.block, one.head) for one in places}) == len(places)
    nothing = np.zeros((KINDS, DIRECTIONS), np.int8)
    base, found = margins(nothing), []
    for kind, direction in ASKED:
        facts = nothing.copy()
        facts[kind, direction] = 1
        found.append(margins(facts) - base)
    # Each question rises most by its own fact, and its own fact raises it more than any other.
    gain = np.array(found)
    assert (gain.argmax(axis=0) == np.arange(len(ASKED))).mean() > 0.9
    assert (np.diag(gain) > 0).all()


def _mirror_out() -> tuple[torch.Tensor, torch.Tensor]:
    """Of a network that gives back the first columns, less a half."""
    out = torch.zeros(OWN, KINDS)
    out[:KINDS] = torch.eye(KINDS) / 8
    return out, torch.full((KINDS,), -0.5)


def test_each_kind_gets_heads_of_its_own() -> None:
    queries = torch.randn(3, len(ASKED), 2, 2, 16, generator=torch.Generator().manual_seed(6))
    places = key_places(queries, ASKED)
    counts = [sum(one.kind == kind for one in places) for kind in range(KINDS)]
    assert counts == [3, 3]
