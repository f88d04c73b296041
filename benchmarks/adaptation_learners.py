"""What the adaptation benchmark trains: connections in front of a tail, and whole models.

All answer the same decisions from the same tokens, and say by formula what a step costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..runtime.adaptation.choosing import trained_names
from ..runtime.adaptation.connection_model import ConnectionModel
from ..runtime.adaptation.initial_weights import initial_weight, modality_weights
from ..runtime.adaptation.request import Mode, SensorChange
from ..runtime.adaptation.samples import HeadTexts, Samples
from ..runtime.adaptation.tail_model import TailModel
from ..runtime.adaptation.training_cost import BatchShape, TrainingCost
from ..runtime.connections import ConnectionSpec, weight_shapes
from ..runtime.cost import LanguageModelCost
from ..runtime.model_config import LanguageModelConfig
from .adaptation_cost import InputLevelCost, PrefixCost
from .adaptation_data import BenchData, DeviceData
from .input_level_methods import SensorLayout
from .input_level_model import InputLevelModel
from .prefix_model import PrefixModel

Weights = dict[str, NDArray[np.float32]]


class Learner(Protocol):
    """One method, ready to be trained."""

    @property
    def rates(self) -> Sequence[tuple[list[nn.Parameter], float]]:
        """What is trained, with the peak of its learning rate."""
        ...

    def scores(self, samples: Samples, sensors: Sequence[str]) -> Tensor:
        """Of all answer tokens, float32 `[n, answers]`."""
        ...

    def step_flops(self, samples: Samples, sensors: Sequence[str]) -> int:
        """Forward and backward of a batch, by formula."""
        ...

    def preparing_flops(self, samples: Samples) -> int:
        """Of heads that this batch needs and no batch before needed."""
        ...


class HeadBlocks:
    """The blocks before a tail, for learning without cached head states."""

    def __init__(self, whole: TailModel, embedding: Tensor, tail_blocks: int) -> None:
        """Nothing is computed yet.

        Args:
            whole: all blocks.
            embedding: of tokens, float32 `[vocab_size, hidden_size]`.
            tail_blocks: depth of the tail.
        """
        self._whole, self._embedding = whole, embedding
        self._boundary = whole.num_blocks - tail_blocks

    def __call__(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The residual stream that enters the tail, and lengths again."""
        rows = self._embedding[ids]
        return self._whole.streams(rows, lengths, (self._boundary,))[0], lengths


class TailLearner:
    """A connection in front of the last blocks, with cached head states or without."""

    def __init__(
        self,
        model: ConnectionModel,
        tail: TailModel,
        data: DeviceData,
        heads: HeadTexts,
        *,
        trained: frozenset[str] | None,
        rate: float,
        head: HeadBlocks | None = None,
    ) -> None:
        """Bring the head states to the device.

        Args:
            model: the connection.
            tail: as deep as the connection.
            data: what is learned.
            heads: states of all texts at the tail.
            trained: names of weights, None for all.
            rate: of learning.
            head: computes the states in every step instead of taking the cached ones.
        """
        self.model, self.tail, self._data, self._head = model.to(tail.device), tail, data, head
        self._states = data.here(heads.states)
        self._answers = tail.rows_of(data.answers)
        parameters = model.trained(trained)
        self.rates = [(parameters, rate)]
        config, sizes = tail.config, data.data.sizes
        names = weight_shapes(model.spec, config, sizes, data.data.modalities)
        kept = frozenset(names if trained is None else trained)
        widths = {modality: width for modality, (_, width) in sizes.items()}
        depth = tail.num_blocks
        self._cost = TrainingCost(model.spec, config, data.data.modalities, widths, depth, kept)
        cost, boundary = LanguageModelCost(config), config.num_blocks - depth
        self._head_flops = np.array([cost.head(int(n), boundary) for n in data.text_lengths])
        self._is_cached = np.zeros(len(self._head_flops), np.bool_)

    def scores(self, samples: Samples, sensors: Sequence[str]) -> Tensor:
        data, tail = self._data, self.tail
        if self._head is None:
            rows, there, lengths = data.places(samples.text)
            residual = self._states[rows].float() * there[..., None]
        else:
            residual, lengths = self._head(*data.ids(samples.text))
        tokens = data.tokens(samples.moment, sensors)
        reduced = tail.dtype == torch.bfloat16
        with torch.autocast(data.device.type, torch.bfloat16, enabled=reduced):
            prefix, _ = self.model(tokens, residual, lengths)
        return tail(residual, lengths, prefix, self.model.low_rank()) @ self._answers.T

    def step_flops(
        self, samples: Samples, sensors: Sequence[str], *, through_tail: bool = True
    ) -> int:
        data = self._data
        text = int(data.text_lengths[samples.text].max())
        rows = data.rows(samples.moment, sensors)
        shape = BatchShape(len(samples), text, rows, len(data.answers))
        return self._cost.step(shape) if through_tail else self._cost.connection_step(shape)

    def preparing_flops(self, samples: Samples) -> int:
        if self._head is not None:
            return int(self._head_flops[samples.text].sum())
        texts = np.unique(samples.text)
        fresh = texts[~self._is_cached[texts]]
        self._is_cached[fresh] = True
        return int(self._head_flops[fresh].sum())


class InputLearner:
    """An input-level model."""

    def __init__(
        self,
        model: InputLevelModel,
        data: DeviceData,
        sensors: Sequence[str],
        rates: tuple[float, float],
    ) -> None:
        """Choose what is trained.

        Args:
            model: with its method.
            data: what is learned.
            sensors: whose projectors are trained.
            rates: peaks of the learning rate, beside the language model and of itself.
        """
        self.model, self._data = model, data
        beside, own = model.trained(sensors)
        self.rates = [(beside, rates[0]), (own, rates[1])]
        self._cost = InputLevelCost(model.config, model.sensors, model.method, tuple(sensors))

    def scores(self, samples: Samples, sensors: Sequence[str]) -> Tensor:
        data = self._data
        ids, lengths = data.ids(samples.text)
        tokens = data.tokens(samples.moment, sensors)
        final = self.model.answer(tokens, ids, lengths, self._longest(samples, sensors))
        return final @ self.model.rows_of(data.answers).T

    def step_flops(self, samples: Samples, sensors: Sequence[str]) -> int:
        data = self._data
        text = int(data.text_lengths[samples.text].max())
        rows = data.rows(samples.moment, sensors)
        shape = BatchShape(len(samples), text, rows, len(data.answers))
        return self._cost.step(shape, self._longest(samples, sensors))

    def preparing_flops(self, samples: Samples) -> int:
        return 0

    def _longest(self, samples: Samples, sensors: Sequence[str]) -> int:
        data = self._data
        rows = data.present(samples.moment, sensors) + data.text_lengths[samples.text]
        return int(rows.max()) + self.model.prompt_rows


class PrefixLearner:
    """A whole model and a connection whose prefix its last blocks take."""

    def __init__(
        self,
        model: PrefixModel,
        connection: ConnectionModel,
        data: DeviceData,
        *,
        trained: frozenset[str] | None,
        rates: tuple[float, float],
    ) -> None:
        """Choose what is trained.

        Args:
            model: with its method.
            connection: as deep as the tail, without a LoRA of its own.
            data: what is learned.
            trained: names of the connection's weights, None for all.
            rates: peaks of the learning rate, of the connection and of the language model, or of
                its LoRA.
        """
        self.model, self.connection, self._data = model, connection.to(model.device), data
        self.rates = [(connection.trained(trained), rates[0]), (model.trained(), rates[1])]
        sizes, of = data.data.sizes, data.data.modalities
        names = weight_shapes(connection.spec, model.config, sizes, of)
        kept = frozenset(names if trained is None else trained)
        widths = {modality: width for modality, (_, width) in sizes.items()}
        self._cost = PrefixCost(connection.spec, model.config, of, widths, model.method, kept)

    def scores(self, samples: Samples, sensors: Sequence[str]) -> Tensor:
        data, model = self._data, self.model
        residual, lengths = self._head(samples)
        tokens = data.tokens(samples.moment, sensors)
        reduced = model.dtype == torch.bfloat16
        with torch.autocast(data.device.type, torch.bfloat16, enabled=reduced):
            prefix, _ = self.connection(tokens, residual, lengths)
        return model.answer(residual, lengths, prefix) @ model.rows_of(data.answers).T

    def step_flops(self, samples: Samples, sensors: Sequence[str]) -> int:
        data = self._data
        text = int(data.text_lengths[samples.text].max())
        rows = data.rows(samples.moment, sensors)
        return self._cost.step(BatchShape(len(samples), text, rows, len(data.answers)))

    def preparing_flops(self, samples: Samples) -> int:
        return 0

    def _head(self, samples: Samples) -> tuple[Tensor, Tensor]:
        """The residual stream that enters the tail, and lengths of texts."""
        if torch.is_grad_enabled():
            ids, lengths = self._data.ids(samples.text)
            return self.model.head(ids, lengths), lengths
        # Looks are no training: texts that are there twice are computed once.
        texts, place = np.unique(samples.text, return_inverse=True)
        ids, lengths = self._data.ids(texts)
        at = self._data.here(place.astype(np.int64))
        return self.model.head(ids, lengths)[at], lengths[at]


def layout_of(data: BenchData) -> SensorLayout:
    """The sensors as input-level models take them."""
    return SensorLayout(data.modalities, {m: width for m, (_, width) in data.sizes.items()})


def switched_weights(
    day: Mapping[str, NDArray[np.float32]],
    data: BenchData,
    spec: ConnectionSpec,
    config: LanguageModelConfig,
    change: SensorChange,
    seed: int,
    *,
    random: bool = False,
) -> Weights:
    """Weights that a change of sensors starts from.

    A coming modality begins as the one that serves, since the tokens of both are objects, or at
    random; a LoRA begins as one that changes nothing.

    Args:
        day: the connection's weights that serve.
        data: names the modalities.
        spec: of the connection that is trained, with its LoRA.
        config: of the language model.
        change: of sensors.
        seed: of the LoRA, and of what begins at random.
        random: whether a coming modality does.
    """
    weights = {name: np.array(array, np.float32) for name, array in day.items()}
    serving = [data.modalities[sensor] for sensor in change.old]
    coming = dict.fromkeys(data.modalities[sensor] for sensor in change.coming)
    chance = np.random.default_rng([seed, 2])
    for modality in coming:
        if modality in serving:
            continue
        for name in modality_weights(weights, modality):
            source = weights[name.replace(modality, serving[0], 1)]
            weights[name] = initial_weight(name, source.shape, chance) if random else source.copy()
    rng = np.random.default_rng([seed, 1])
    for name, shape in weight_shapes(spec, config, data.sizes, data.modalities).items():
        if name not in weights:
            weights[name] = initial_weight(name, shape, rng)
    return weights


def switched_names(
    weights: Mapping[str, NDArray[np.float32]], data: BenchData, change: SensorChange, mode: Mode
) -> frozenset[str]:
    """Weights of a connection that a change of sensors trains, as adaptation on the device does."""
    pack = cast("Any", SimpleNamespace(sensor_encoders=dict(data.modalities)))
    # Whatever is trained of the language model, the tail's LoRA or all of it, is no part of them.
    return trained_names(weights, pack, change, mode, 0, relearns=True)
