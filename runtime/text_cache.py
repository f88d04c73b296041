"""Continues one question token by token, on buffers that are written in place.

After a packed tail, the question's keys and values are copied once into buffers with room for the
answer. From then on a token allocates and copies nothing: keys and values are read and appended in
place, by the native decoder where there is one, else by the engines.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .engine import Array, BoundRun
from .errors import ConfigError
from .head_state import Float
from .language_model import LanguageModel, TailResult
from .lora import lora_inputs
from .native_decode import TextRows
from .packing import step_bias


class TextCache:
    """Keys and values of one question in all blocks, growing token by token.

    Below `boundary` the rows are text; from there on the prefix rows come first.
    """

    def __init__(
        self,
        model: LanguageModel,
        result: TailResult,
        question: int,
        room: int,
        *,
        native: bool = True,
    ) -> None:
        """Copy what the head and the tail know of a question.

        Args:
            model: that made `result`.
            result: of a tail call.
            question: its index in that call.
            room: tokens that can be appended.
            native: False decodes with the engines in any case.

        Raises:
            ConfigError: question and answer would be longer than the model allows.
        """
        length = result.layout.lengths[question]
        limit = model.manifest.max_text_tokens
        if length + room > limit:
            raise ConfigError(
                f"a question of {length} tokens leaves no room for an answer of {room}",
                field="max_new_tokens",
                remedy=f"question and answer together may have {limit} tokens",
            )
        self._model = model
        self._capacity = length + room
        self.text_tokens = length
        self._prefix_rows, self._buffers = _copy_rows(model, result, question, self._capacity)
        self._prefix_blocks = frozenset(() if result.prefix is None else result.prefix.blocks)
        self._boundary = result.boundary
        self._lora = result.lora
        decoder = model.native[0] if native else None
        self._native = None if decoder is None else decoder.text(self._text_rows())
        if self._native is None:
            self._bind()

    def _text_rows(self) -> dict[int, TextRows]:
        packed = {} if self._lora is None else self._lora.packed
        return {
            block: TextRows(
                buffers,
                self._prefix_rows if block >= self._boundary else 0,
                block in self._prefix_blocks,
                packed.get(block),
            )
            for block, buffers in self._buffers.items()
        }

    def _bind(self) -> None:
        config = self._model.config
        self._position = np.zeros((1, 1), dtype=np.int64)
        self._embedding = np.zeros((1, 1, config.embedding_size), dtype=np.float32)
        self._final = np.zeros((1, 1, config.embedding_size), dtype=np.float32)
        self._lengths = {
            rows: (np.zeros(1, dtype=np.int32), np.zeros((), dtype=np.int32))
            for rows in {0, self._prefix_rows}
        }
        self._steps: list[tuple[BoundRun, int, int, int]] = []
        residual, qkv = self._stage_buffers()
        embed: dict[str, Array] = {
            "embedding": self._embedding,
            "residual": residual,
            "qkv": qkv,
            **lora_inputs(config, self._lora, [0]),
        }
        if config.position == "learned":
            embed["position_ids"] = self._position
        self._embed = self._model.embed.bind(embed)
        for group, engine in self._model.groups:
            rows = self._prefix_rows if group.start >= self._boundary else 0
            last, total = self._lengths[rows]
            buffers: dict[str, Array] = {
                "residual_in": residual,
                "qkv_in": qkv,
                "past_and_new_minus_1": last,
                "past_and_new": total,
                **lora_inputs(config, self._lora, self._model.projected_blocks(group)),
                **self._model.places(None),
            }
            if config.position == "rope":
                buffers["position_ids"] = self._position
            if group.stop == config.num_blocks:
                buffers |= {"last_index": np.zeros(1, dtype=np.int64), "final": self._final}
            else:
                residual, qkv = self._stage_buffers()
                buffers |= {"residual": residual, "qkv": qkv}
            for block in range(group.start, group.stop):
                keys, values = self._buffers[block]
                buffers |= {f"past_key_{block}": keys, f"key_{block}": keys}
                buffers |= {f"past_value_{block}": values, f"value_{block}": values}
            self._steps.append((engine.bind(buffers), group.start, group.stop, rows))

    def _stage_buffers(self) -> tuple[Float, Float]:
        config = self._model.config
        return (
            np.zeros((1, 1, config.hidden_size), dtype=np.float32),
            np.zeros((1, 1, config.qkv_size), dtype=np.float32),
        )

    def extend(self, token_id: int) -> Float:
        """Append a token and return its final state, float32 `[1, embedding_size]`.

        Raises:
            ConfigError: the room is used up.
        """
        position = self.text_tokens
        if position >= self._capacity:
            raise ConfigError(
                f"the text has reached {position} tokens",
                field="max_new_tokens",
                remedy="give the answer more room",
            )
        embedding = self._model.embedding.rows(np.asarray([token_id]))
        if self._native is not None:
            final = self._native.extend(embedding, position)
        else:
            final = self._run_engines(embedding, position)
        self.text_tokens += 1
        return final

    def _run_engines(self, embedding: Float, position: int) -> Float:
        config = self._model.config
        self._embedding[0] = embedding
        self._position[0, 0] = position
        for rows, (last, total) in self._lengths.items():
            last[0] = rows + position
            total[...] = rows + position + 1
        plain = step_bias(config, position, 0)
        visible = step_bias(config, position, self._prefix_rows)
        hidden = step_bias(config, position, self._prefix_rows, prefix_visible=False)
        self._embed.run()
        for run, start, stop, _ in self._steps:
            for block in range(start, stop):
                if block < self._boundary:
                    run.rebind(f"bias_{block}", plain)
                else:
                    seen = block in self._prefix_blocks or not self._prefix_rows
                    run.rebind(f"bias_{block}", visible if seen else hidden)
            run.run()
        return self._final[0].copy()


def _copy_rows(
    model: LanguageModel, result: TailResult, question: int, capacity: int
) -> tuple[int, dict[int, tuple[Float, Float]]]:
    """Prefix rows of the question, and per block its keys and values with room behind them."""
    head, layout = result.heads[question], result.layout
    config = model.config
    start, length = layout.offsets[question], layout.lengths[question]
    prefix = np.flatnonzero((result.prefix_owner < 0) | (result.prefix_owner == question))
    text = len(result.prefix_owner) + np.arange(start, start + length)
    kept = np.concatenate([prefix, text])

    def grown(array: Float, rows: NDArray[np.int64], total: int) -> Float:
        shape = (1, config.num_kv_heads, total, config.head_dim)
        buffer = np.zeros(shape, dtype=np.float32)
        buffer[:, :, : len(rows)] = array[:, :, rows]
        return buffer

    buffers: dict[int, tuple[Float, Float]] = {}
    for block in range(result.boundary):
        keys, values = head.cache[block]
        everything = np.arange(length)
        buffers[block] = (
            grown(keys, everything, capacity),
            grown(values, everything, capacity),
        )
    for block, (keys, values) in result.cache.items():
        total = len(prefix) + capacity
        buffers[block] = (grown(keys, kept, total), grown(values, kept, total))
    return len(prefix), buffers
