"""Trains the connection of a pack of senses: aligners, gates and a LoRA, the rest is frozen.

While it is trained, its sensors are inputs (`sense_examples.input_name`): a view may have several
of one sense. Rows do not depend on which input they are of, so the pack has the sensors of its
senses instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..kernels.direction_tokens import DIRECTION_WIDTH, DIRECTIONS
from ..runtime.adaptation.connection_model import ConnectionModel
from ..runtime.adaptation.initial_weights import initial_weight
from ..runtime.adaptation.samples import Choice, HeadTexts, Samples, TrainingData
from ..runtime.adaptation.tail_model import TailModel
from ..runtime.adaptation.tail_weights import TailWeights
from ..runtime.adaptation.trainer import Trainer
from ..runtime.adaptation.training_config import TrainingConfig
from ..runtime.connections import ConnectionSpec, weight_shapes
from ..runtime.language_model import LanguageModel
from .direction_start import KeyPlace, learn_evidence, write_direction_start
from .head_states import head_texts
from .sense_examples import MOST_INPUTS, Views, input_name
from .sense_packs import PROMPT, SENSE_SENSORS, Sense, answer_choice

#: Everything but the sensors' offsets: with them a row would depend on where it stands.
_TRAINED = ("gate.", "lora.", *(f"{sense}." for sense in SENSE_SENSORS))


@dataclass(frozen=True, eq=False)
class SenseTexts:
    """The questions of all packs of senses, through the head.

    Attributes:
        questions: by number of the concept, without prompt.
        heads: their states.
        choice: the decision between yes and no; its target is yes.
    """

    questions: Sequence[str]
    heads: HeadTexts
    choice: Choice

    @property
    def answers(self) -> tuple[int, int]:
        """Tokens of yes and no."""
        return self.choice.allowed[self.choice.target], self.choice.allowed[1 - self.choice.target]

    def states(self) -> list[torch.Tensor]:
        """Of each question, float32 `[tokens, hidden_size]`."""
        parts = np.split(np.asarray(self.heads.states, np.float32), self.heads.offsets[1:-1])
        return [torch.from_numpy(np.ascontiguousarray(part)) for part in parts]


def sense_texts(
    model: LanguageModel, questions: Sequence[str], tail_blocks: int, cache: Path
) -> SenseTexts:
    """Put questions through the head, once for all."""
    encode = model.tokenizer.encode
    texts = [tuple(encode(PROMPT.render(question)).ids) for question in questions]
    heads = head_texts(model, texts, tail_blocks, cache)
    return SenseTexts(questions, heads, answer_choice(model))


def start_model(
    spec: ConnectionSpec,
    tail: TailModel,
    texts: SenseTexts,
    views: Mapping[Sense, Views],
    seed: int,
) -> tuple[ConnectionModel, list[KeyPlace]]:
    """A connection whose questions look to their directions, see `direction_start.py`.

    Args:
        spec: of the connection, plain with keys and values per block.
        tail: as deep as the connection.
        texts: of the questions.
        views: by sense, what its evidence is learned from.
        seed: of evidence and LoRA.

    Returns:
        The model, and where its keys are.
    """
    encoders: dict[str, tuple[int, int]] = {sense: (DIRECTIONS, DIRECTION_WIDTH) for sense in views}
    most = MOST_INPUTS if len(views) == 1 else 1
    sensors: dict[str, str] = {
        input_name(sense, number): sense for sense in views for number in range(most)
    }
    shapes = weight_shapes(spec, tail.config, encoders, sensors)
    rng = np.random.default_rng(seed)
    weights: dict[str, NDArray[np.float32]] = {}
    for name, shape in shapes.items():
        weights[name] = initial_weight(name, shape, rng)
        if name.startswith("sensor."):
            weights[name][:] = 0
    model = ConnectionModel(spec, tail.config, encoders, sensors, weights)
    starts = torch.from_numpy(texts.heads.offsets)
    lengths = starts[1:] - starts[:-1]
    residual = torch.nn.utils.rnn.pad_sequence(texts.states(), batch_first=True)
    asked = [divmod(number, DIRECTIONS) for number in range(len(texts.questions))]
    places: list[KeyPlace] = []
    for sense, seen in views.items():
        own = [seen.tokens[sensor] for sensor in SENSE_SENSORS[sense]]
        evidence = learn_evidence(own, seen.facts, spec.hidden - DIRECTIONS, seed)
        places = write_direction_start(
            *(model, tail, sense, (residual, lengths), asked, texts.answers, evidence)
        )
    return model, places


def pack_weights(model: ConnectionModel) -> dict[str, NDArray[np.float32]]:
    """Weights of a trained model as its pack has them, with sensors in the place of inputs."""
    kept = {n: one for n, one in model.weights().items() if not n.startswith("sensor.")}
    for sense in dict.fromkeys(model.sensors.values()):
        for sensor in SENSE_SENSORS[_known(sense)]:
            kept[f"sensor.{sensor}"] = np.zeros((DIRECTIONS, DIRECTION_WIDTH), np.float32)
    return kept


def _known(name: str) -> Sense:
    return next(sense for sense in SENSE_SENSORS if sense == name)


def samples_of(questions: NDArray[np.int32], texts: SenseTexts) -> Samples:
    """Decisions of `sense_examples.balanced`."""
    view, concept, holds = questions.T.copy()
    yes = texts.choice.target
    target = np.where(holds == 1, yes, 1 - yes).astype(np.int32)
    return Samples(view, concept, np.zeros_like(view), target, concept // DIRECTIONS)


def sense_trainer(
    model: ConnectionModel,
    tail: TailModel,
    texts: SenseTexts,
    train: tuple[Views, NDArray[np.int32]],
    held_out: tuple[Views, NDArray[np.int32]],
    config: TrainingConfig,
    kinds: Sequence[str],
    checkpoint: Path | None,
) -> Trainer:
    """A trainer of these examples.

    Args:
        model: to train.
        tail: of the language model.
        texts: of the questions.
        train: views and questions about them.
        held_out: likewise, of other scenes.
        config: of the run.
        kinds: names, for the curve.
        checkpoint: file of the state.
    """
    views, questions = train
    others, asked = held_out
    later = asked.copy()
    later[:, 0] += len(views.facts)
    tokens: Mapping[str, NDArray[np.floating]] = {
        sensor: np.concatenate([one, others.tokens[sensor]]) for sensor, one in views.tokens.items()
    }
    data = TrainingData(
        tokens,
        texts.heads,
        [texts.choice.allowed],
        samples_of(questions, texts),
        samples_of(later, texts),
        list(kinds),
    )
    return Trainer(
        model,
        tail,
        data,
        config.model_copy(update={"trained": trained_names(model)}),
        checkpoint=checkpoint,
    )


def trained_names(model: ConnectionModel) -> tuple[str, ...]:
    """Beginnings of the names of what is trained."""
    names = model.weights().keys()
    return tuple(one for one in _TRAINED if any(name.startswith(one) for name in names))


def tail_of(weights: TailWeights, blocks: int, dtype: torch.dtype) -> TailModel:
    """The last blocks, to train through."""
    return TailModel(replace(weights, blocks=weights.blocks[-blocks:]), dtype)
