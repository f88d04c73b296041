"""The usual way to give a language model a sensor: its tokens at the input, through all blocks.

Two forms, each as strong as caching makes it: text first (the question's keys and values cached,
sensor tokens recomputed per question) and sensor first (sensor tokens computed once, shared by all
questions). Same engines, weights and precision as Tailwire's tail; used as the baseline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..runtime.cost import LanguageModelCost
from ..runtime.head_state import Float, KeyValue
from ..runtime.language_model import LanguageModel, group_caches
from ..runtime.packing import PackedLayout, Rows, attention_bias

#: Owner of rows that all questions may see.
_SHARED = -1


@dataclass(frozen=True)
class _Tokens:
    """Tokens to be computed: embeddings, owners (-1: shared), positions."""

    embeddings: Float
    owner: NDArray[np.int64]
    positions: NDArray[np.int64]

    @property
    def rows(self) -> Rows:
        return self.owner, self.positions


def input_level_flops(
    cost: LanguageModelCost, lengths: Sequence[int], sensor_tokens: int
) -> dict[str, int]:
    """What a frame costs in both forms, from embeddings to the last tokens' final states.

    Args:
        cost: of the language model.
        lengths: tokens of each question.
        sensor_tokens: of all sensors together.
    """
    cost = replace(cost, apart=False)
    count, tokens = len(lengths), sum(lengths)
    both = count * (sensor_tokens + 1)
    first, *rest = lengths
    return {
        "text_first": cost.qkv(both) + cost.tail([sensor_tokens + 1] * count, 0, tokens - count),
        "sensor_first": cost.qkv(sensor_tokens + tokens)
        + cost.tail([sensor_tokens + first, *rest], 0, 0),
    }


class InputLevelModel:
    """A language model with sensor tokens in its sequence."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model

    def sensor_first(self, sensor: Float, questions: Sequence[Sequence[int]]) -> Float:
        """All of a frame: `[sensor ; question]` for each question, the sensor computed once.

        Args:
            sensor: embeddings `[tokens, embedding_size]`.
            questions: token ids.

        Returns:
            Final states `[questions, embedding_size]`.
        """
        rows = len(sensor)
        lengths = [len(question) for question in questions]
        ids = np.concatenate([np.asarray(question, dtype=np.int64) for question in questions])
        tokens = _Tokens(
            np.concatenate([sensor, self._model.embedding.rows(ids)]),
            np.concatenate([np.full(rows, _SHARED), np.repeat(np.arange(len(questions)), lengths)]),
            np.concatenate([np.arange(rows), *(rows + np.arange(n) for n in lengths)]),
        )
        last = rows + np.cumsum(lengths) - 1
        return self._run(tokens, last, TextFirst.empty(self._model))

    def cache_text(self, questions: Sequence[Sequence[int]]) -> TextFirst:
        """Text first, once per question: keys and values of its text in all blocks."""
        ids = np.concatenate([np.asarray(question, dtype=np.int64) for question in questions])
        lengths = [len(question) for question in questions]
        tokens = _Tokens(
            self._model.embedding.rows(ids),
            np.repeat(np.arange(len(questions)), lengths),
            np.concatenate([np.arange(n) for n in lengths]),
        )
        cache: dict[int, KeyValue] = {}
        self._run(tokens, np.cumsum(lengths) - 1, TextFirst.empty(self._model), cache)
        return TextFirst(cache, tokens.rows, tuple(lengths))

    def text_first(self, text: TextFirst, sensor: Float, last_tokens: Sequence[int]) -> Float:
        """A frame: behind each cached text, the sensor's tokens and the prompt's last token.

        Args:
            text: cached texts.
            sensor: embeddings `[tokens, embedding_size]`.
            last_tokens: the token that follows the sensor, per question; a real prompt has more.

        Returns:
            Final states `[questions, embedding_size]`.
        """
        count, rows = len(last_tokens), len(sensor)
        last = self._model.embedding.rows(np.asarray(last_tokens, dtype=np.int64))
        tokens = _Tokens(
            np.concatenate([part for row in last for part in (sensor, row[None])]),
            np.repeat(np.arange(count), rows + 1),
            np.concatenate([n + np.arange(rows + 1) for n in text.lengths]),
        )
        return self._run(tokens, np.arange(1, count + 1) * (rows + 1) - 1, text)

    def _run(
        self,
        tokens: _Tokens,
        last: NDArray[np.int64],
        text: TextFirst,
        cache: dict[int, KeyValue] | None = None,
    ) -> Float:
        model = self._model
        layout = PackedLayout(
            lengths=(len(tokens.owner),),
            offsets=(0,),
            position_ids=tokens.positions[None],
            last_index=last.astype(np.int64),
            owner=tokens.owner,
        )
        keys: Rows = (
            np.concatenate([text.rows[0], tokens.owner]),
            np.concatenate([text.rows[1], tokens.positions]),
        )
        bias = attention_bias(model.config, tokens.rows, keys)
        residual, qkv = model.embed_rows(tokens.embeddings, layout.position_ids)
        outputs: dict[str, Float] = {}
        for group, engine in model.groups:
            blocks = range(group.start, group.stop)
            past = {block: text.cache[block] for block in blocks}
            outputs = model.run_group(
                group, engine, residual, qkv, layout, past, dict.fromkeys(blocks, bias)
            )
            if cache is not None:
                cache.update(group_caches(group, outputs))
            if group.stop < model.config.num_blocks:
                residual, qkv = outputs["residual"], outputs["qkv"]
        return outputs["final"][0]


@dataclass(frozen=True)
class TextFirst:
    """Cached texts of standing questions, for the text-first form."""

    cache: dict[int, KeyValue]
    rows: Rows
    lengths: tuple[int, ...]

    @staticmethod
    def empty(model: LanguageModel) -> TextFirst:
        """No text at all."""
        config = model.config
        none = np.zeros((1, config.num_kv_heads, 0, config.head_dim), dtype=np.float32)
        nobody = np.zeros(0, dtype=np.int64)
        return TextFirst(
            dict.fromkeys(range(config.num_blocks), (none, none)), (nobody, nobody), ()
        )
