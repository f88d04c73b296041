"""Heads, tails and continued questions of a language model whose blocks run in C."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from .head_state import Float, HeadState, KeyValue, PackedHeads
from .kv_prefix import KvPrefix
from .lora import Lora
from .native_blocks import BlockPass, NativeBlocks

#: Tokens that a continued question has room for, before its rows move.
_ROOM = 8

Int32 = NDArray[np.int32]


class BlockCaches(Mapping[int, KeyValue]):
    """Keys and values of some blocks, joined with those in front when one is asked for."""

    def __init__(
        self, first_block: int, keys: Float, values: Float, front: KvPrefix | None
    ) -> None:
        """Nothing is copied yet.

        Args:
            first_block: the lowest of them.
            keys: of the texts, `[blocks, kv_heads, tokens, head_dim]`.
            values: likewise.
            front: rows of all texts, or None.
        """
        self._first, self._texts, self._front = first_block, (keys, values), front

    def __getitem__(self, block: int) -> KeyValue:
        at, front = block - self._first, self._front
        if not 0 <= at < len(self):
            raise KeyError(block)
        keys, values = (side[at : at + 1] for side in self._texts)
        if front is None:
            return keys, values
        if block in front.blocks:
            place = front.blocks.index(block)
            before = (front.keys[place : place + 1], front.values[place : place + 1])
        else:
            unused = np.zeros((1, *front.keys.shape[1:]), np.float32)
            before = (unused, unused)
        joined = (np.concatenate(pair, 2) for pair in zip(before, (keys, values), strict=True))
        return next(joined), next(joined)

    def __iter__(self) -> Iterator[int]:
        return iter(range(self._first, self._first + len(self)))

    def __len__(self) -> int:
        return len(self._texts[0])


def native_tail(
    blocks: NativeBlocks,
    packed: PackedHeads,
    qkv: Float,
    front: tuple[KvPrefix | None, NDArray[np.int64]],
    lora: Lora | None,
    wanted: NDArray[np.int64],
) -> tuple[Float, BlockCaches]:
    """Run questions through the blocks from `packed.boundary` on.

    Args:
        blocks: of the model.
        packed: the questions.
        qkv: projections of the first block, `[1, tokens, qkv_size]`.
        front: rows in front of all questions, one after the other, or None; and the question that
            each row belongs to, int64 ascending, -1 for all.
        lora: of these blocks, of one rank, or None.
        wanted: int64, ascending: tokens whose final state is returned.

    Returns:
        Float32 `[wanted, hidden_size]`, and keys and values by block.

    Raises:
        EngineError: the model is closed, or there is no memory.
    """
    layout, first, (prefix, owner) = packed.layout, packed.boundary, front
    fronts: dict[int, KeyValue] = {}
    if prefix is not None:
        sides = [np.ascontiguousarray(side, np.float32) for side in (prefix.keys, prefix.values)]
        fronts = {block: (sides[0][at], sides[1][at]) for at, block in enumerate(prefix.blocks)}
    stop = blocks.config.num_blocks
    texts = len(layout.lengths)
    made = blocks.run(
        BlockPass(
            (first, stop),
            np.asarray([*layout.offsets, layout.tokens], np.int32),
            packed.residual,
            qkv,
            np.zeros(texts, np.int32),
            fronts,
            _seen_rows(owner, texts),
            lora,
            wanted,
        )
    )
    return made.final, BlockCaches(first, made.keys, made.values, prefix)


def native_head(
    blocks: NativeBlocks, rows: Float, lengths: Sequence[int], boundaries: Sequence[int]
) -> tuple[dict[int, KeyValue], BlockCaches]:
    """Run texts through the first blocks.

    Args:
        blocks: of the model.
        rows: embeddings of their tokens, text after text, float32 `[tokens, hidden_size]`.
        lengths: tokens of each.
        boundaries: blocks whose inputs are kept, ascending.

    Returns:
        By boundary the residual stream `[1, tokens, hidden_size]` and the packed projections
        `[1, tokens, qkv_size]` that enter it, and keys and values of all blocks before the last
        one.

    Raises:
        EngineError: the model is closed, or there is no memory.
    """
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    nothing = np.zeros(len(lengths), np.int32)
    residual, qkv, first = rows, None, 0
    states: dict[int, KeyValue] = {}
    sides: list[tuple[Float, Float]] = []
    for boundary in boundaries:
        made = blocks.run(
            BlockPass((first, boundary), offsets, residual, qkv, nothing, {}, (nothing, nothing))
        )
        residual, qkv, first = made.residual, made.qkv, boundary
        states[boundary] = (residual[None], qkv[None])
        sides.append((made.keys, made.values))
    keys, values = (np.concatenate(side) for side in zip(*sides, strict=True))
    return states, BlockCaches(0, keys, values, None)


class NativeTexts:
    """Questions that grow by one token each, in all blocks.

    The rows of a question lie one after the other, with room behind them: those of its prefix,
    where a block sees it, then its text.
    """

    def __init__(
        self,
        blocks: NativeBlocks,
        heads: Sequence[HeadState],
        tail: Mapping[int, KeyValue],
        prefix: tuple[KvPrefix | None, NDArray[np.int64]],
        lora: Lora | None,
    ) -> None:
        """Gather what head and tail have made.

        Args:
            blocks: of the model.
            heads: the questions.
            tail: keys and values of the blocks behind the heads, as in `TailResult.cache`.
            prefix: rows in front and their owners, as in `native_tail`.
            lora: of blocks of the tail, of one rank, or None.
        """
        self._blocks, self._lora = blocks, lora
        config, front = blocks.config, prefix[0]
        self._lengths = np.asarray([len(head.token_ids) for head in heads], np.int32)
        starts, stops = _seen_rows(prefix[1], len(heads))
        shown = frozenset(() if front is None else front.blocks)
        self._sees = [block in shown for block in range(config.num_blocks)]
        #: Rows in front of each text, and places from one question to the next: of blocks that do
        #: not see the prefix, and of those that do.
        self._before = (np.zeros_like(starts), stops - starts)
        self._room = [int((self._lengths + before).max()) + _ROOM for before in self._before]
        self._rows: list[KeyValue] = []
        ends, rows = np.cumsum(self._lengths), 0 if front is None else front.rows
        for block, sees in enumerate(self._sees):
            room = self._room[sees]
            shape = (config.num_kv_heads, len(heads) * room, config.head_dim)
            # Rows are written before they are read.
            pair = (np.empty(shape, np.float32), np.empty(shape, np.float32))
            self._rows.append(pair)
            for at, head in enumerate(heads):
                length, place = int(self._lengths[at]), at * room
                given = tail[block] if block in tail else head.cache[block]
                text = slice(0, length)
                if block in tail:
                    text = slice(rows + int(ends[at]) - length, rows + int(ends[at]))
                    if sees:
                        _copy(given, slice(int(starts[at]), int(stops[at])), pair, place)
                        place += int(self._before[sees][at])
                _copy(given, text, pair, place)

    def extend(self, questions: Sequence[int], rows: Float) -> Float:
        """Append one token to each of some questions.

        Args:
            questions: their indices, each at most once.
            rows: embeddings of the tokens, float32 `[questions, hidden_size]`.

        Returns:
            Final states, float32 `[questions, hidden_size]`.

        Raises:
            EngineError: the model is closed, or there is no memory.
        """
        asked = np.asarray(questions, np.int64)
        positions, count = self._lengths[asked], len(asked)
        for sees, before in enumerate(self._before):
            if int((positions + before[asked]).max()) >= self._room[sees]:
                self._make_room(bool(sees))
        residual, qkv, start, final = rows, None, 0, rows
        for sees, run in groupby(self._sees):
            stop = start + len(list(run))
            first = (asked * self._room[sees]).astype(np.int32)
            stops = first + positions + self._before[sees][asked]
            made = self._blocks.run(
                BlockPass(
                    (start, stop),
                    np.arange(count + 1, dtype=np.int32),
                    residual,
                    qkv,
                    positions,
                    {block: self._rows[block] for block in range(start, stop)},
                    (first, stops),
                    self._lora,
                    np.arange(count),
                )
            )
            for at, block in enumerate(range(start, stop)):
                keys, values = self._rows[block]
                keys[:, stops], values[:, stops] = made.keys[at], made.values[at]
            residual, qkv, final, start = made.residual, made.qkv, made.final, stop
        self._lengths[asked] += 1
        return final

    def _make_room(self, sees: bool) -> None:
        """Move the rows of all questions further apart, in blocks of one kind."""
        room, questions = self._room[sees], len(self._lengths)
        for block, pair in enumerate(self._rows):
            if self._sees[block] != sees:
                continue
            moved: list[Float] = []
            for side in pair:
                heads, _, size = side.shape
                larger = np.empty((heads, questions, 2 * room, size), np.float32)
                larger[:, :, :room] = side.reshape(heads, questions, room, size)
                moved.append(larger.reshape(heads, -1, size))
            self._rows[block] = (moved[0], moved[1])
        self._room[sees] = 2 * room


def _copy(given: KeyValue, rows: slice, pair: KeyValue, place: int) -> None:
    """Rows of one pair of keys and values to a place in another."""
    for source, target in zip(given, pair, strict=True):
        target[:, place : place + rows.stop - rows.start] = source[0, :, rows]


def _seen_rows(owner: NDArray[np.int64], texts: int) -> tuple[Int32, Int32]:
    """First and last row in front of each text, int32 `[texts]` each."""
    if len(owner) == 0 or owner[0] < 0:
        return np.zeros(texts, np.int32), np.full(texts, len(owner), np.int32)
    numbers = np.arange(texts)
    starts, stops = (np.searchsorted(owner, numbers, side) for side in ("left", "right"))
    return starts.astype(np.int32), stops.astype(np.int32)
