"""Continues several questions by one token each, in one packed pass.

For answers of a few tokens in a batch of questions: a pass over five tokens costs little more than
one over a single token, as reading the weights dominates both. Long texts use `text_cache.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .block_engines import group_caches
from .errors import ConfigError
from .head_state import Float, KeyValue
from .language_model import LanguageModel, TailResult
from .native_passes import NativeTexts
from .on_device import where_they_lie
from .packing import PREFIX, PackedLayout, Rows, attention_bias


class PackedCache:
    """Keys and values of all questions of a tail result, growing pass by pass."""

    def __init__(self, model: LanguageModel, result: TailResult) -> None:
        """Gather the head caches behind one another; the tail's are packed already."""
        self._model = model
        native, front = model.native_for(result.prefix, result.lora), result.prefix
        self._lengths = list(result.layout.lengths)
        self._native = native and NativeTexts(
            native, result.heads, result.cache, (front, result.prefix_owner), result.lora
        )
        if self._native is not None:
            return
        self._boundary = result.boundary
        self._lora = result.lora
        self._prefix_blocks = frozenset(() if result.prefix is None else result.prefix.blocks)
        text: Rows = (result.layout.owner, result.layout.position_ids[0])
        prefix: Rows = (result.prefix_owner, np.full(len(result.prefix_owner), PREFIX))
        self._head_rows = text
        self._tail_rows = _joined(prefix, text)
        self._blocks: dict[int, KeyValue] = where_they_lie(result.cache)
        for block in range(result.boundary):
            pairs = [head.cache[block] for head in result.heads]
            self._blocks[block] = (
                np.concatenate([keys for keys, _ in pairs], axis=2),
                np.concatenate([values for _, values in pairs], axis=2),
            )

    def extend(self, questions: Sequence[int], token_ids: Sequence[int]) -> Float:
        """Append one token to each of some questions.

        Args:
            questions: indices in the tail result, each at most once.
            token_ids: one per question.

        Returns:
            Final states, float32 `[questions, embedding_size]`.

        Raises:
            ConfigError: a question and its answer are longer than the model allows.
        """
        model = self._model
        limit = model.manifest.max_text_tokens
        if any(self._lengths[question] >= limit for question in questions):
            raise ConfigError(
                f"a question and its answer have reached {limit} tokens",
                field="question",
                remedy="shorten the question or its answers",
            )
        ids = np.asarray(token_ids, dtype=np.int64)
        if self._native is not None:
            for question in questions:
                self._lengths[question] += 1
            return self._native.extend(questions, model.embedding.rows(ids))
        owner = np.asarray(questions, dtype=np.int64)
        positions = np.asarray([self._lengths[q] for q in questions], dtype=np.int64)
        new: Rows = (owner, positions)
        layout = PackedLayout(
            lengths=(1,) * len(owner),
            offsets=tuple(range(len(owner))),
            position_ids=positions[None],
            last_index=np.arange(len(owner), dtype=np.int64),
            owner=owner,
        )
        head_rows, tail_rows = _joined(self._head_rows, new), _joined(self._tail_rows, new)
        head = attention_bias(model.config, new, head_rows)
        visible = attention_bias(model.config, new, tail_rows)
        hidden = attention_bias(model.config, new, tail_rows, prefix_visible=False)
        residual, qkv = model.embed_tokens(ids, positions[None], self._lora)
        outputs: dict[str, Float] = {}
        for group, engine in model.groups:
            past = {block: self._blocks[block] for block in range(group.start, group.stop)}
            bias = {
                block: head
                if block < self._boundary
                else visible
                if block in self._prefix_blocks
                else hidden
                for block in past
            }
            outputs = model.run_group(
                group, engine, residual, qkv, layout, past, bias, self._lora, keep=True
            )
            self._blocks.update(group_caches(group, outputs))
            if group.stop < model.config.num_blocks:
                residual, qkv = outputs["residual"], outputs["qkv"]
        self._head_rows, self._tail_rows = head_rows, tail_rows
        for question in questions:
            self._lengths[question] += 1
        return outputs["final"][0]


def _joined(first: Rows, second: Rows) -> Rows:
    owners: NDArray[np.int64] = np.concatenate([first[0], second[0]])
    return owners, np.concatenate([first[1], second[1]])
