"""Connections: from a sensor's tokens to keys and values of the tail blocks.

Two kinds behind one contract. *Plain* (mPnP-LLM, 2312.07886): key and value aligners per modality,
the same for every question. *Conditioned*: a small transformer over sensor tokens and the
question's cached head states. Weights are inputs of a tiny engine, so a swap rebuilds nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..kernels.prefix_pack import prefix_pack
from ..kernels.token_rows import NO_TOKEN, token_rows, token_states
from .compiled_kernels import compiled_arrays
from .connection_specs import (
    ConnectionSpec,
    check_weights,
    lora_shapes,
    transformer_shapes,
)
from .connection_specs import ModelSizes as ModelSizes
from .connection_specs import weight_shapes as weight_shapes
from .engine import Engine
from .errors import ConfigError
from .head_state import HeadState
from .kv_prefix import KvPrefix
from .lora import Lora
from .model_config import LanguageModelConfig
from .on_device import is_on_device, run_keeping
from .packing import MASKED

Float = NDArray[np.float32]


@dataclass(frozen=True)
class SensorRows:
    """What a connection can make of one sensor's tokens before it knows the question.

    Attributes:
        modality: of the sensor.
        keys: plain: `[blocks_out, kv_heads, tokens, head_dim]`; conditioned: `[tokens, width]`. On
            a device (`on_device.py`) those of plain ones are as the engine gives them,
            `[1, tokens, blocks_out * kv_heads * head_dim]`.
        values: plain: like keys; conditioned: the same array as keys.
    """

    modality: str
    keys: Float
    values: Float

    @property
    def tokens(self) -> int:
        return self.keys.shape[-2]


class Connection:
    """A connection with its weights; immutable, so that a swap is one assignment."""

    def __init__(
        self,
        spec: ConnectionSpec,
        config: LanguageModelConfig,
        engine: Engine,
        weights: Mapping[str, Float],
    ) -> None:
        """Put weights behind an engine that `export.connection_graphs` built for `spec`.

        Args:
            spec: of the connection.
            config: of the language model.
            engine: takes the weights as inputs.
            weights: as named by `weight_shapes`, float32.
        """
        self.spec = spec
        self._config = config
        self._engine = engine
        self.weights = dict(weights)
        # Gates are a scalar per modality and block (mPnP-LLM: sigmoid with temperature 1).
        self._gates = {
            name.removeprefix("gate."): _sigmoid(w)
            for name, w in weights.items()
            if name.startswith("gate.")
        }
        out = spec.blocks_out * config.num_kv_heads * config.head_dim
        self._transformer = {
            name: weights[name]
            for name in transformer_shapes(spec, config.hidden_size, out)
            if spec.kind == "conditioned" and not name.startswith("gate.")
        }
        self._loras: dict[int, Lora] = {}

    def with_weights(
        self, weights: Mapping[str, Float], *, lora_rank: int | None = None
    ) -> Connection:
        """The same connection with other weights, e.g. after adaptation.

        Args:
            weights: all of them.
            lora_rank: of the LoRA in them, None for that of this connection. No engine depends
                on it.

        Raises:
            PackError: a weight is missing, unknown, of another shape, not float32, or not finite.
        """
        rank = self.spec.lora_rank if lora_rank is None else lora_rank
        shapes = {n: w.shape for n, w in self.weights.items() if not n.startswith("lora.")}
        check_weights(weights, shapes | self.lora_shapes(rank), "connection")
        return Connection(self.spec.with_lora_rank(rank), self._config, self._engine, weights)

    def with_lora_weights(self, weights: Mapping[str, float]) -> Connection:
        """The same connection where the changes of its parts count differently, from the next frame
        that it serves on; no array is copied.

        Args:
            weights: by name of the part; parts that are left out count as before.

        Raises:
            ConfigError: a part is unknown or has no LoRA, or a weight is not finite.
        """
        names = [part.name for part in self.spec.lora_parts]
        for name, weight in weights.items():
            if name not in names:
                raise ConfigError(
                    f"there is no part '{name}' with a LoRA",
                    field="lora_weights",
                    remedy=f"name some of {', '.join(names)}" if names else "compose packs first",
                )
            if not np.isfinite(weight):
                raise ConfigError(
                    f"the weight of '{name}' is {weight}",
                    field="lora_weights",
                    remedy="give a number",
                )
        parts = tuple(
            part.model_copy(update={"weight": float(weights.get(part.name, part.weight))})
            for part in self.spec.lora_parts
        )
        spec = self.spec.model_copy(update={"lora_parts": parts})
        return Connection(spec, self._config, self._engine, self.weights)

    def lora_shapes(self, rank: int) -> dict[str, tuple[int, ...]]:
        """Name and shape of the weights that a LoRA of this rank has."""
        return lora_shapes(self.spec.model_copy(update={"lora_rank": rank}), self._config)

    def close(self) -> None:
        """Free the engine."""
        self._engine.close()

    def prepare(self, sensor: str, modality: str, tokens: Float) -> SensorRows:
        """Do all that does not depend on the question; keep the result while the tokens live.

        Args:
            sensor: name of the sensor; has a learned offset per token.
            modality: name of its modality.
            tokens: `[tokens, width]` of the encoder; a row of zeros is no token (detectors fill up
                with them) and makes no row. On the device of the engine, rows stay there.
        """
        weights = self.weights
        offsets = weights[f"sensor.{sensor}"]
        if self.spec.kind == "conditioned":
            rows = self._rows(
                tokens, offsets, weights[f"{modality}.in.w"], weights[f"{modality}.in.b"]
            )
            return SensorRows(modality, rows, rows)
        x = self._rows(tokens, offsets, None, None)
        if not x.shape[0]:
            config = self._config
            shape = (self.spec.blocks_out, config.num_kv_heads, 0, config.head_dim)
            nothing = np.zeros(shape, np.float32)
            return SensorRows(modality, nothing, nothing)
        inputs: dict[str, NDArray[np.generic]] = {"tokens": x}
        for side in ("key", "value"):
            for part in ("w1", "b1", "w2", "b2"):
                inputs[f"{side}.{part}"] = weights[f"{modality}.{side}.{part}"]
        constant = inputs.keys() - {"tokens"}
        outputs = run_keeping(self._engine, inputs, ("key", "value"), constant)
        keys, values = outputs["key"], outputs["value"]
        if is_on_device(keys):
            return SensorRows(modality, keys[None], values[None])
        return SensorRows(modality, self._blocks(keys), self._blocks(values))

    @staticmethod
    def _rows(tokens: Float, offsets: Float, weights: Float | None, bias: Float | None) -> Float:
        """Tokens that are there, as rows that the engine takes; on a device where they lie."""
        if is_on_device(tokens):
            return tokens.device.token_rows(tokens, offsets, weights, bias)
        chosen = np.flatnonzero(token_states(tokens) != NO_TOKEN)
        return token_rows(tokens, offsets, chosen, weights, bias)

    def _blocks(self, rows: NDArray[np.generic]) -> Float:
        """`[tokens, blocks * kv_heads * head_dim]` to `[blocks, kv_heads, tokens, head_dim]`."""
        split = rows.reshape(
            len(rows), self.spec.blocks_out, self._config.num_kv_heads, self._config.head_dim
        )
        return np.ascontiguousarray(split.transpose(1, 2, 0, 3), dtype=np.float32)

    def connect(
        self, sensors: Sequence[SensorRows], heads: Sequence[HeadState], tail_blocks: int
    ) -> KvPrefix | list[KvPrefix] | None:
        """Make the prefix of a frame.

        Args:
            sensors: the active ones, in a fixed order.
            heads: the questions.
            tail_blocks: depth that gets the prefix, at most the connection's own.

        Returns:
            One prefix for all questions, or one per question, or None without sensors.

        Raises:
            ConfigError: the depth does not fit, or a question lacks the states of the deepest.
        """
        self._check_depth(tail_blocks)
        if not sensors:
            return None
        last = self._config.num_blocks
        blocks = tuple(range(last - tail_blocks, last))
        if self.spec.kind == "plain":
            return self._plain(sensors, blocks)
        return self._conditioned(sensors, heads, blocks)

    def lora(self, tail_blocks: int) -> Lora | None:
        """The LoRA of the last `tail_blocks` blocks, one object per depth; None at rank 0.

        Raises:
            ConfigError: the depth does not fit.
        """
        self._check_depth(tail_blocks)
        if not self.spec.lora_rank:
            return None
        if tail_blocks not in self._loras:
            deepest, last = self.spec.tail_blocks, self._config.num_blocks
            self._loras[tail_blocks] = Lora(
                self._config,
                {
                    last - deepest + at: (*self._factors(at, "key"), *self._factors(at, "value"))
                    for at in range(deepest - tail_blocks, deepest)
                },
            )
        return self._loras[tail_blocks]

    def _factors(self, at: int, side: str) -> tuple[Float, Float]:
        """Of the LoRA in one block of the deepest tail, as the parts count."""
        a, b = (self.weights[f"lora.{at}.{side}.{factor}"] for factor in ("a", "b"))
        counted = self.spec.lora_weights
        if counted is None or bool((counted == 1).all()):
            return a, b
        if not counted.all():
            # Left out, so that the sum is that of the other parts, bit for bit.
            a, b, counted = a[:, counted != 0], b[counted != 0], counted[counted != 0]
        return a, b * counted[:, None]

    def _check_depth(self, tail_blocks: int) -> None:
        if not 0 < tail_blocks <= self.spec.tail_blocks:
            raise ConfigError(
                f"tail depth {tail_blocks} does not fit the connection",
                field="tail",
                remedy=f"give 1 to {self.spec.tail_blocks}",
            )

    def _plain(self, sensors: Sequence[SensorRows], blocks: tuple[int, ...]) -> KvPrefix:
        depth = len(blocks)
        some = [rows for rows in sensors if rows.tokens]
        if some and all(is_on_device(rows.keys) for rows in some):
            return self._packed_there(some, blocks)
        sensors = [self._on_host(rows) for rows in sensors]
        total = sum(rows.tokens for rows in sensors)
        keys, values = self._buffer(depth, total), self._buffer(depth, total)
        first = 0
        for rows in sensors:
            if not rows.tokens:
                continue
            gates = self._gates_of(rows, depth)
            for source, target in ((rows.keys, keys), (rows.values, values)):
                _, heads, tokens, head_dim = source.shape
                given = np.broadcast_to(source[-depth:], (depth, heads, tokens, head_dim))
                prefix_pack(given[:, :, None], gates, target, first, library=compiled_arrays()[0])
            first += rows.tokens
        return KvPrefix(blocks, keys, values)

    def _packed_there(self, sensors: Sequence[SensorRows], blocks: tuple[int, ...]) -> KvPrefix:
        """The prefix of rows that lie on a device, made there."""
        sides: list[Float] = []
        for side in ("keys", "values"):
            parts = [(getattr(rows, side), self._gates_of(rows, len(blocks))) for rows in sensors]
            device, config = parts[0][0].device, self._config
            sides.append(device.pack(parts, config.num_kv_heads, config.head_dim, len(blocks)))
        return KvPrefix(blocks, *sides)

    def _gates_of(self, rows: SensorRows, depth: int) -> Float:
        """`[depth, tokens]` of a sensor."""
        return np.repeat(self._gates[rows.modality][-depth:, None], rows.tokens, axis=1)

    def _on_host(self, rows: SensorRows) -> SensorRows:
        if not is_on_device(rows.keys):
            return rows
        keys, values = (self._blocks(np.asarray(side)[0]) for side in (rows.keys, rows.values))
        return SensorRows(rows.modality, keys, values)

    def _buffer(self, depth: int, rows: int) -> Float:
        config = self._config
        return np.empty((depth, config.num_kv_heads, rows, config.head_dim), np.float32)

    def _conditioned(
        self, sensors: Sequence[SensorRows], heads: Sequence[HeadState], blocks: tuple[int, ...]
    ) -> list[KvPrefix]:
        boundary = self._config.num_blocks - self.spec.tail_blocks
        if any(boundary not in head.states for head in heads):
            raise ConfigError(
                f"a question has no states of block {boundary}, which the connection reads",
                field="connection.tail_blocks",
                remedy=f"encode it for depth {self.spec.tail_blocks}, with engines that have a "
                "stage beginning there",
            )
        there = [sensor.keys for sensor in sensors if is_on_device(sensor.keys)]
        parts = [sensor.keys for sensor in sensors]
        rows = there[0].device.joined(parts) if there else np.concatenate(parts)
        count = rows.shape[0]
        states = [head.states[boundary][0][0] for head in heads]
        longest = max(len(state) for state in states)
        question = np.zeros((len(heads), longest, self._config.hidden_size), dtype=np.float32)
        bias = np.zeros((len(heads), 1, 1, 1 + count + longest), dtype=np.float32)
        for i, state in enumerate(states):
            question[i, : len(state)] = state
            bias[i, ..., 1 + count + len(state) :] = MASKED
        outputs = run_keeping(
            self._engine,
            {"rows": rows, "states": question, "bias": bias, **self._transformer},
            ("key", "value"),
            self._transformer,
        )
        depth = len(blocks)
        gates = np.concatenate(
            [
                self._gates["summary"][-depth:, None],
                *(self._gates_of(s, depth) for s in sensors),
            ],
            axis=1,
        )
        kept = gates.shape[1]
        packed: list[Float] = []
        config = self._config
        for side in (outputs["key"], outputs["value"]):
            if is_on_device(side):
                made = side.device.pack(
                    [(side, gates)], config.num_kv_heads, config.head_dim, depth
                )
                packed.append(made)
                continue
            target = self._buffer(depth, len(heads) * kept)
            prefix_pack(self._by_block(side)[-depth:], gates, target, library=compiled_arrays()[0])
            packed.append(target)
        starts = range(0, len(heads) * kept, kept)
        return [
            KvPrefix(blocks, *(side[:, :, start : start + kept] for side in packed))
            for start in starts
        ]

    def _by_block(self, rows: NDArray[np.generic]) -> Float:
        """`[questions, rows, blocks * kv_heads * head_dim]` as a view
        `[blocks, kv_heads, questions, rows, head_dim]`."""
        sizes = (self.spec.blocks_out, self._config.num_kv_heads, self._config.head_dim)
        split = np.asarray(rows, np.float32).reshape(*rows.shape[:2], *sizes)
        return split.transpose(2, 3, 0, 1, 4)


def _sigmoid(x: Float) -> Float:
    # By tanh, which does not overflow.
    return (0.5 * (1.0 + np.tanh(0.5 * x))).astype(np.float32)
