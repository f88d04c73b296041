"""What training of a connection costs: floating-point operations and bytes, from formulas.

Two operations per multiply-add. Forward and backward through the last N blocks and the
connection. The language model is frozen, so a linear layer of it costs once more going back, not
twice; nothing goes back into cached text. Attention costs twice more (four products for two);
kernels that compute scores again going back are not counted for that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from ..connections import ConnectionSpec
from ..cost import ConnectionCost, LanguageModelCost, linear_flops
from ..model_config import LanguageModelConfig

#: Bytes of trained weights: themselves, their gradient, two moments of Adam, and the best so far.
_BYTES_PER_TRAINED = 5 * 4


@dataclass(frozen=True)
class BatchShape:
    """Sizes of a padded batch.

    Attributes:
        batch: questions.
        text: tokens of the longest.
        sensors: by active sensor, rows of tokens.
        choices: allowed tokens of a decision.
    """

    batch: int
    text: int
    sensors: Mapping[str, int]
    choices: float = 0


@dataclass(frozen=True)
class TrainingCost:
    """Formulas of one connection in front of one tail.

    Attributes:
        spec: of the connection.
        config: of the language model.
        modalities: encoder name by sensor.
        widths: of a token, by encoder name.
        tail_blocks: depth N of the tail that gradients flow through.
        trained: names of the weights that are trained.
        text_learns: whether what enters the tail has a gradient, as where blocks below it are
            trained too.
    """

    spec: ConnectionSpec
    config: LanguageModelConfig
    modalities: Mapping[str, str]
    widths: Mapping[str, int]
    tail_blocks: int
    trained: frozenset[str]
    text_learns: bool = False

    @cached_property
    def _model(self) -> LanguageModelCost:
        return LanguageModelCost(self.config)

    @cached_property
    def _connection(self) -> ConnectionCost:
        return ConnectionCost(self.spec, self.config)

    def forward(self, shape: BatchShape) -> int:
        """Connection, tail and scores of a batch."""
        rows = self._connection.rows(sum(shape.sensors.values()))
        keys, texts = rows + shape.text, shape.batch * shape.text
        model, blocks = self._model, self.tail_blocks
        tail = (
            blocks * model.qkv(texts)
            + (blocks - 1) * shape.batch * model.attention(shape.text, keys)
            + shape.batch * model.attention(1, keys)
            + (blocks - 1) * model.after_attention(texts)
            + model.after_attention(shape.batch)
        )
        first, second = self._lora(texts)
        return self._connect(shape) + tail + blocks * (first + second) + self._scores(shape)

    def backward(self, shape: BatchShape) -> int:
        """Gradients of the trained weights."""
        if not self.trained and not self.text_learns:
            return 0
        model, blocks = self._model, self.tail_blocks
        rows = self._connection.rows(sum(shape.sensors.values()))
        keys, texts = rows + shape.text, shape.batch * shape.text
        learns_lora = any(name.startswith("lora.") for name in self.trained)
        total = self._scores(shape) + self._connection_back(shape)
        for block in range(blocks):
            last = block == blocks - 1
            queries = 1 if last else shape.text
            # Cached text enters the first block: neither it nor the queries have a gradient.
            flows = block > 0 or self.text_learns
            products = 4 if flows else 3
            total += products * shape.batch * model.attention(queries, keys) // 2
            total += model.after_attention(shape.batch * queries)
            total += model.qkv(texts) if flows else 0
            first, second = self._lora(texts)
            if self.spec.lora_rank and flows:
                total += first + second
            if learns_lora:
                total += first + second + (0 if flows else second)
        return total

    def step(self, shape: BatchShape) -> int:
        """One step of training."""
        return self.forward(shape) + self.backward(shape)

    def connection_step(self, shape: BatchShape) -> int:
        """A step that trains the connection's summary alone, in front of no tail.

        Keys and values are counted though such a step leaves them out.
        """
        return self._connect(shape) + (self._connection_back(shape) if self.trained else 0)

    def _scores(self, shape: BatchShape) -> int:
        return round(2 * shape.batch * self.config.hidden_size * shape.choices)

    def _lora(self, tokens: int) -> tuple[int, int]:
        """Both factors of the branches of one block, for keys and values."""
        rank, out = self.spec.lora_rank, self.config.num_kv_heads * self.config.head_dim
        first = linear_flops(tokens, self.config.hidden_size, rank)
        return 2 * first, 2 * linear_flops(tokens, rank, out)

    def _connect(self, shape: BatchShape) -> int:
        total = sum(
            self._connection.prepare(shape.batch * rows, self.widths[self.modalities[sensor]])
            for sensor, rows in shape.sensors.items()
        )
        tokens = sum(shape.sensors.values())
        return total + self._connection.connect(tokens, [shape.text] * shape.batch)

    def _connection_back(self, shape: BatchShape) -> int:
        if self.spec.kind == "plain":
            return sum(self._aligners_back(s, shape.batch * n) for s, n in shape.sensors.items())
        return self._conditioned_back(shape)

    def _aligners_back(self, sensor: str, rows: int) -> int:
        modality, spec = self.modalities[sensor], self.spec
        out = spec.blocks_out * self.config.num_kv_heads * self.config.head_dim
        first = linear_flops(rows, self.widths[modality], spec.hidden)
        second = linear_flops(rows, spec.hidden, out)
        total, offset = 0, f"sensor.{sensor}" in self.trained
        for side in ("key", "value"):
            learns = f"{modality}.{side}.w1" in self.trained
            total += first * (learns + offset) + second * (learns or offset)
            total += second * (f"{modality}.{side}.w2" in self.trained)
        return total

    def _conditioned_back(self, shape: BatchShape) -> int:
        trained, spec, batch = self.trained, self.spec, shape.batch
        total, upstream = 0, "summary" in trained or self.text_learns
        for sensor, count in shape.sensors.items():
            modality = self.modalities[sensor]
            once = linear_flops(batch * count, self.widths[modality], spec.width)
            ways = (f"{modality}.in.w" in trained) + (f"sensor.{sensor}" in trained)
            total += ways * once
            upstream = upstream or bool(ways) or f"{modality}.in.b" in trained
        question = linear_flops(batch * shape.text, self.config.hidden_size, spec.width)
        into_text = self.text_learns or "question.norm" in trained
        total += question * (("question.w" in trained) + into_text)
        upstream = upstream or any(name.startswith("question.") for name in trained)
        rows = self._connection.rows(sum(shape.sensors.values()))
        length = rows + shape.text
        for layer in range(spec.layers):
            own = [name for name in trained if name.startswith(f"layer{layer}.")]
            for name, inputs, outputs in (
                ("qkv", spec.width, 3 * spec.width),
                ("out", spec.width, spec.width),
                ("ffn1", spec.width, 4 * spec.width),
                ("ffn2", 4 * spec.width, spec.width),
            ):
                once = linear_flops(batch * length, inputs, outputs)
                total += once * (bool(upstream or own) + (f"layer{layer}.{name}.w" in own))
            attention = 4 * batch * length * length * spec.width
            total += 2 * attention if upstream or own else 0
            upstream = upstream or bool(own)
        upstream = upstream or any(name.startswith("final.") for name in trained)
        out = spec.blocks_out * self.config.num_kv_heads * self.config.head_dim
        for side in ("key", "value"):
            total += linear_flops(batch * rows, spec.width, out) * (
                upstream + (f"{side}.w" in trained)
            )
        return total

    def memory(
        self,
        shape: BatchShape,
        weight_count: int,
        trained_count: int,
        bytes_per: int,
        loaded_blocks: int | None = None,
    ) -> int:
        """Estimate of the peak of resident memory beyond what serving has.

        The larger of two moments: the tail's weights being converted, and a step of training with
        all that is kept for going back.

        Args:
            shape: of a batch, the largest.
            weight_count: elements of the connection's weights.
            trained_count: of those that are trained.
            bytes_per: of an element of products, 2 for bfloat16.
            loaded_blocks: read before, to examine a deeper tail; None for the trained ones.
        """
        c, block = self.config, self._model.block_weights()
        vocabulary = c.vocab_size * c.embedding_size * 4
        loading = (loaded_blocks or self.tail_blocks) * block * (4 + bytes_per) + vocabulary
        training = self.tail_blocks * block * bytes_per + self._activations(shape, bytes_per)
        return max(loading, training) + weight_count * 4 + trained_count * _BYTES_PER_TRAINED

    def _activations(self, shape: BatchShape, bytes_per: int) -> int:
        """What a step keeps for going back."""
        c, spec = self.config, self.spec
        rows = self._connection.rows(sum(shape.sensors.values()))
        heads = c.num_heads * c.head_dim
        # Two streams in float32 with their norms; projections, turned keys and queries, attention
        # with keys and values repeated for each query head; gate, up, their product.
        per_token = 4 * 4 * c.hidden_size + bytes_per * (
            2 * c.hidden_size + 3 * c.qkv_size + 4 * heads + 4 * c.ffn_size
        )
        block = shape.batch * (shape.text * per_token + rows * 3 * heads * bytes_per)
        block += shape.batch * c.num_heads * shape.text * (rows + shape.text) * bytes_per
        length = rows + shape.text
        layer = shape.batch * length * spec.width * (8 * 4 + 14 * bytes_per)
        layers = spec.layers * layer if spec.kind == "conditioned" else 0
        return self.tail_blocks * block + layers + shape.batch * rows * spec.blocks_out * 8 * heads
