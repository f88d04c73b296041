"""What a step of the baselines costs, by the same formulas as a step of a connection.

Two operations per multiply-add; a frozen linear layer costs once more going back, a trained one
twice; attention costs twice more. See `runtime/adaptation/training_cost.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..runtime.adaptation.training_cost import BatchShape, TrainingCost
from ..runtime.connection_specs import ConnectionSpec
from ..runtime.cost import LanguageModelCost, linear_flops
from ..runtime.model_config import LanguageModelConfig
from .input_level_methods import LORA_RANK, Method, PrefixMethod, SensorLayout


@dataclass(frozen=True)
class InputLevelCost:
    """Formulas of `InputLevelModel`.

    Attributes:
        config: of the language model.
        sensors: that can be active.
        method: of training.
        learning: sensors whose offset and projector are trained.
    """

    config: LanguageModelConfig
    sensors: SensorLayout
    method: Method
    learning: Sequence[str]

    @cached_property
    def _model(self) -> LanguageModelCost:
        return LanguageModelCost(self.config)

    def forward(self, shape: BatchShape, length: int) -> int:
        """Projector, all blocks and scores of a batch.

        Args:
            shape: of the batch; sensor rows are those that the projector runs on.
            length: rows of the longest sequence, with prompt rows.
        """
        model, batch, blocks = self._model, shape.batch, self.config.num_blocks
        tokens = batch * length
        first, second = self._lora(tokens)
        return (
            sum(sum(self._projector(shape, sensor)) for sensor in shape.sensors)
            + blocks * (model.qkv(tokens) + first + second)
            + (blocks - 1)
            * (batch * model.attention(length, length) + model.after_attention(tokens))
            + batch * model.attention(1, length)
            + model.after_attention(batch)
            + self._scores(shape)
        )

    def backward(self, shape: BatchShape, length: int) -> int:
        """Gradients of what is trained."""
        model, batch, blocks = self._model, shape.batch, self.config.num_blocks
        tokens = batch * length
        ways = 2 if self.method == "full" else 1
        first, second = self._lora(tokens)
        linear = blocks * model.qkv(tokens) + model.after_attention(batch)
        linear += (blocks - 1) * model.after_attention(tokens)
        attention = (blocks - 1) * batch * model.attention(length, length)
        attention += batch * model.attention(1, length)
        total = ways * (linear + self._scores(shape)) + 2 * attention
        total += 2 * blocks * (first + second)
        for sensor in shape.sensors:
            if sensor in self.learning or self._modality_learns(sensor):
                first, second = self._projector(shape, sensor)
                offset = sensor in self.learning
                total += first * (self._modality_learns(sensor) + offset)
                total += second * (1 + self._modality_learns(sensor))
        return total

    def step(self, shape: BatchShape, length: int) -> int:
        """One step of training."""
        return self.forward(shape, length) + self.backward(shape, length)

    def _modality_learns(self, sensor: str) -> bool:
        of: Mapping[str, str] = self.sensors.modalities
        return of[sensor] in {of[one] for one in self.learning}

    def _projector(self, shape: BatchShape, sensor: str) -> tuple[int, int]:
        """Both layers, for one sensor."""
        rows, hidden = shape.batch * shape.sensors[sensor], self.config.hidden_size
        width = self.sensors.widths[self.sensors.modalities[sensor]]
        return linear_flops(rows, width, hidden), linear_flops(rows, hidden, hidden)

    def _lora(self, tokens: int) -> tuple[int, int]:
        """Both factors of the branches of one block, for keys and values."""
        if self.method != "lora":
            return 0, 0
        out = self.config.num_kv_heads * self.config.head_dim
        first = linear_flops(tokens, self.config.hidden_size, LORA_RANK)
        return 2 * first, 2 * linear_flops(tokens, LORA_RANK, out)

    def _scores(self, shape: BatchShape) -> int:
        return round(2 * shape.batch * self.config.hidden_size * shape.choices)


@dataclass(frozen=True)
class PrefixCost:
    """Formulas of `PrefixModel` behind a connection.

    Attributes:
        spec: of the connection, without a LoRA of its own.
        config: of the language model.
        modalities: encoder name by sensor.
        widths: of a token, by encoder name.
        method: of training.
        trained: names of the connection's weights that are trained.
    """

    spec: ConnectionSpec
    config: LanguageModelConfig
    modalities: Mapping[str, str]
    widths: Mapping[str, int]
    method: PrefixMethod
    trained: frozenset[str]

    @cached_property
    def _model(self) -> LanguageModelCost:
        return LanguageModelCost(self.config)

    @property
    def _boundary(self) -> int:
        return self.config.num_blocks - self.spec.tail_blocks

    @cached_property
    def _behind(self) -> TrainingCost:
        """Connection and tail, frozen but for the connection's weights."""
        # The embedding is frozen beside a LoRA: what enters the first block has no gradient then.
        learns = self.method == "prefix-full" or self._boundary > 0
        return TrainingCost(
            self.spec,
            self.config,
            self.modalities,
            self.widths,
            self.spec.tail_blocks,
            self.trained,
            text_learns=learns,
        )

    def step(self, shape: BatchShape) -> int:
        """One step of training: all text forward and backward through all blocks.

        Args:
            shape: of the padded batch.
        """
        tail = self._behind.step(shape)
        return tail + self._head(shape) + (self._lora(shape) if self._is_lora else 0)

    @property
    def _is_lora(self) -> bool:
        return self.method == "prefix-lora"

    def _head(self, shape: BatchShape) -> int:
        """Blocks before the boundary both ways, and gradients of the weights of all blocks."""
        model, blocks = self._model, self._boundary
        texts = shape.batch * shape.text
        qkv, after = model.qkv(texts), model.after_attention(texts)
        attention = shape.batch * model.attention(shape.text, shape.text)
        total = blocks * (2 * (qkv + after) + 3 * attention)
        if self._is_lora:
            # No gradient goes back into the embedding, nor into the first block's queries.
            return total - (qkv + attention // 2 if blocks else 0)
        last = model.after_attention(shape.batch) + round(
            2 * shape.batch * self.config.hidden_size * shape.choices
        )
        every = self.config.num_blocks
        return total + every * qkv + (every - 1) * after + last

    def _lora(self, shape: BatchShape) -> int:
        """Branches of all blocks, both ways."""
        texts, blocks = shape.batch * shape.text, self.config.num_blocks
        out = self.config.num_kv_heads * self.config.head_dim
        first = 2 * linear_flops(texts, self.config.hidden_size, LORA_RANK)
        second = 2 * linear_flops(texts, LORA_RANK, out)
        return 3 * blocks * (first + second) - first
