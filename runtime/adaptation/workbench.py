"""Puts connection, tail and data of an adaptation together, ready to be trained and counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from ..connections import Connection
from ..pack import PackManifest
from .adapting import Task
from .choosing import LOOKS, Choice
from .connection_model import ConnectionModel
from .initial_weights import fresh_weights, orderless, with_rank
from .meters import FlopMeter
from .question_choice import QuestionChoice
from .samples import HeadTexts, Samples, TrainingData
from .tail_model import TailModel
from .tail_weights import TailWeights
from .trainer import Trainer
from .training_config import TrainingConfig

_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


class Workbench:
    """Makes the trainers of one task."""

    def __init__(self, task: Task, questions: QuestionChoice) -> None:
        """Nothing is made yet.

        Args:
            task: to do.
            questions: those that are left of its data.
        """
        self._task, self._request, self._host = task, task.request, task.host
        self._questions = questions
        sizes = np.array([len(choice) for choice in task.spelled.choices])
        self._allowed = float(sizes[task.spelled.train.allowed].mean())

    def start(self, choice: Choice) -> Connection:
        """What training starts from: the serving weights, with a LoRA that changes nothing yet."""
        request, change = self._request, self._task.change
        serving = self._host.serving
        connection = with_rank(serving.connection, choice.lora_rank, request.seed)
        if not request.fresh:
            return connection
        weights = fresh_weights(
            connection.weights, serving.pack, change.coming, change.old, request.seed
        )
        return connection.with_weights(weights)

    def trainer(
        self,
        connection: Connection,
        choice: Choice,
        weights: TailWeights,
        depth: int,
        heads: Mapping[int, HeadTexts] | HeadTexts,
        steps: int,
        meter: FlopMeter,
        *,
        train: Samples | None = None,
        look: bool = True,
    ) -> Trainer:
        """Connection, tail and data put together.

        Args:
            connection: to start from.
            choice: what is trained.
            weights: of the language model's last blocks, at least `depth`.
            depth: of the tail.
            heads: states of the texts; by boundary block, or those that fit.
            steps: to train.
            meter: counts from now on.
            train: what to learn from; None for the task's questions.
            look: whether to look at the held-out ones while training.
        """
        request, options, pack = self._request, self._task.options, self._host.serving.pack
        sizes = {name: (one.tokens, one.width) for name, one in pack.encoders.items()}
        config = self._host.model.config
        even = _shared_offsets(pack, connection)
        model = ConnectionModel(
            connection.spec, config, sizes, pack.sensor_encoders, connection.weights, even
        )
        tail = TailModel(
            replace(weights, blocks=weights.blocks[-depth:]), _DTYPES[request.precision]
        )
        held_out = self._questions.held_out if look else self._questions.held_out.take(slice(0, 0))
        data = TrainingData(
            {sensor: self._task.data.tokens[sensor] for sensor in self._task.change.all},
            heads if isinstance(heads, HeadTexts) else self._entering(heads, depth),
            self._task.spelled.choices,
            self._questions.train if train is None else train,
            held_out,
            self._task.spelled.groups,
        )
        trainer = Trainer(
            model,
            tail,
            data,
            TrainingConfig(
                steps=steps,
                batch=min(request.batch, len(data.train)),
                learning_rate=request.learning_rate,
                warmup=min(20, steps // 10),
                summary_weight=0.0,
                row_weight=0.0,
                subsets=choice.subsets,
                trained=tuple(sorted(choice.trained)),
                seed=request.seed,
                evaluate_every=max(1, steps // LOOKS) if look else steps,
                evaluate_on=max(1, len(held_out)),
            ),
            look_with=self._task.change.new,
        )
        # Rows of the vocabulary have been taken; the rest is a hundred megabytes.
        tail.vocabulary = tail.vocabulary[:0]
        cost, _ = options.cost(depth, connection.spec.lora_rank)
        meter.watch(model, tail, cost, self._allowed)
        return trainer

    def _entering(self, heads: Mapping[int, HeadTexts], depth: int) -> HeadTexts:
        spec, last = self._host.serving.connection.spec, self._host.model.config.num_blocks
        enters = heads[last - depth]
        if spec.kind != "conditioned" or spec.tail_blocks == depth:
            return enters
        read = heads[last - spec.tail_blocks]
        return HeadTexts(read.states, read.offsets, enters.states)


def _shared_offsets(pack: PackManifest, connection: Connection) -> set[str]:
    """Modalities whose sensors have one offset for all rows, by kind and as the weights are."""
    uneven = {
        name
        for sensor, name in pack.sensor_encoders.items()
        if np.ptp(connection.weights[f"sensor.{sensor}"], axis=0).any()
    }
    return orderless(pack) - uneven


def put_weights(model: ConnectionModel, weights: Mapping[str, NDArray[np.float32]]) -> None:
    """Have a model go on from these weights."""
    with torch.no_grad():
        for name, array in weights.items():
            parameter = model[name]
            value = torch.from_numpy(array)
            parameter.copy_(value[: len(parameter)] if parameter.ndim else value)
