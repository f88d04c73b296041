"""The language model in stages: embed, head, tail, logits.

`encode` runs a question through the head once; `tail` runs any number of encoded questions
through the last blocks behind a prefix. Which blocks see the prefix is an argument of each call.
Continuation token by token is in `packed_cache.py` (many questions) and `text_cache.py` (one).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from .apart import ApartCaches
from .block_engines import BlockEngines, group_caches
from .engine import Engine, EngineLoader
from .errors import ConfigError, EngineError
from .files import sha256_of
from .head_state import Float, HeadState, KeyValue, PackedHeadsCache
from .kv_prefix import KvPrefix
from .lora import CutNorms, Lora
from .model_manifest import read_manifest
from .native_blocks import NativeBlocks, open_blocks
from .native_decode import NativeDecoder, open_decoder
from .native_passes import native_head, native_tail
from .on_device import ReadWhenAsked, is_on_device
from .packing import PackedLayout, pack_lengths, packed_bias
from .tail_rows import join_prefixes, no_rows, rows_in_front, side_by_side
from .vocabulary import VocabularyTable


@dataclass(frozen=True)
class TailResult:
    """What the tail made of several questions.

    Attributes:
        final: float32 `[questions, embedding_size]`, the states that logits are made of
            (`[tokens, embedding_size]` if every token was asked for).
        heads: the questions.
        layout: where each question's tokens lie.
        prefix: the joined prefix, or None.
        prefix_owner: int64 `[rows]`, the question that a prefix row belongs to, -1 for all.
        boundary: first block that was computed.
        cache: by block from `boundary` on, keys and values
            `[1, kv_heads, rows + tokens, head_dim]`.
        lora: of blocks from `boundary` on, or None.
    """

    final: Float
    heads: tuple[HeadState, ...]
    layout: PackedLayout
    prefix: KvPrefix | None
    prefix_owner: NDArray[np.int64]
    boundary: int
    cache: Mapping[int, KeyValue]
    lora: Lora | None = None


class LanguageModel(BlockEngines):
    """A decoder-only language model whose blocks are engines."""

    def __init__(self, folder: Path, load_engine: EngineLoader, *, threads: int) -> None:
        """Load the engines of a folder that `export.llm_graphs.build_language_model` wrote.

        Args:
            folder: with `model.json`.
            load_engine: the back end.
            threads: threads of one engine run.

        Raises:
            EngineError: a file is missing, corrupt, or the back end cannot run it.
        """
        self._folder, self._threads = folder, threads
        self.manifest = read_manifest(folder)
        self._load: Callable[[str], Engine] = lambda file: load_engine(
            folder / file, threads=threads
        )
        try:
            self.tokenizer = Tokenizer.from_file(str(folder / self.manifest.tokenizer_file))
        except Exception as error:
            raise EngineError(
                f"the tokenizer cannot be read: {error}",
                field=str(folder / self.manifest.tokenizer_file),
                remedy="remove the folder, the engines are then built again",
            ) from error
        self.head_rows = VocabularyTable(folder / self.manifest.head_table)
        self._open_blocks(self._load, folder, self.manifest, late=self.native_blocks[0] is not None)
        self._cut_norms = CutNorms(
            self.config,
            folder / self.manifest.group_norms_file,
            (group.start for group in self.manifest.groups),
        )
        self._logits: Engine | None = None
        self._packed = PackedHeadsCache()

    @property
    def tokenizer_sha256(self) -> str:
        """Of the tokenizer's file."""
        return sha256_of(self._folder / self.manifest.tokenizer_file)

    def close(self) -> None:
        """Free all engines."""
        self._close_blocks()
        if self._logits is not None:
            self._logits.close()
        for name in ("native", "native_blocks", "background_blocks"):
            # Only what was made; from now on, nothing is.
            made = self.__dict__.setdefault(name, (None, "the model is closed"))[0]
            if made is not None:
                made.close()

    @cached_property
    def native(self) -> tuple[NativeDecoder | None, str]:
        """What decodes token by token in C, or None and why there is nothing.

        Made when first asked for, which may run the machine's compiler for seconds.
        """
        return open_decoder(self._folder, self.manifest, threads=self._threads)

    @cached_property
    def native_blocks(self) -> tuple[NativeBlocks | None, str]:
        """What runs blocks in C, or None and why the engines do."""
        return open_blocks(self._folder, self.manifest, threads=self._threads)

    @cached_property
    def background_blocks(self) -> tuple[NativeBlocks | None, str]:
        """The same for work beside frames, in the thread that asks: no frame waits for it."""
        if self.native_blocks[0] is None:
            return self.native_blocks
        return open_blocks(self._folder, self.manifest, threads=1)

    def engines_only(self) -> LanguageModel:
        """This model with its blocks left to the engines; it shares all else, closing too."""
        other = copy.copy(self)
        for name in ("native_blocks", "background_blocks"):
            other.__dict__[name] = (None, "switched off")
        return other

    def encode(self, token_ids: Sequence[int], depths: Sequence[int]) -> HeadState:
        """Run a question through the head, as deep as the shallowest of `depths` allows.

        Args:
            token_ids: the question.
            depths: tail depths that will be asked for; each keeps its boundary state.

        Raises:
            ConfigError: the question is empty, too long, or has tokens that the model does not
                know; or a depth does not fit the model.
        """
        ids = np.asarray(token_ids, dtype=np.int64)
        if not 0 < len(ids) <= self.manifest.max_text_tokens:
            raise ConfigError(
                f"the question has {len(ids)} tokens, allowed are 1 to "
                f"{self.manifest.max_text_tokens}",
                field="question",
                remedy="shorten it",
            )
        if ids.min() < 0 or ids.max() >= self.config.vocab_size:
            raise ConfigError(
                f"token {ids.min() if ids.min() < 0 else ids.max()} is not in the vocabulary of "
                f"{self.config.vocab_size}",
                field="question",
                remedy="use the tokenizer of this model",
            )
        boundaries = {self.boundary(depth) for depth in depths}
        if not boundaries:
            raise ConfigError(
                "no tail depth is asked for", field="depths", remedy="give at least one"
            )
        ours = self.native_blocks[0]
        if ours is not None:
            rows = self.embedding.rows(ids)
            return HeadState(ids, *native_head(ours, rows, [len(ids)], sorted(boundaries)))
        layout = pack_lengths([len(ids)])
        residual, qkv = self.embed_tokens(ids, layout.position_ids)
        states: dict[int, KeyValue] = {0: (residual, qkv)} if 0 in boundaries else {}
        cache: dict[int, KeyValue] = {}
        nobody = np.zeros(0, dtype=np.int64)
        bias = packed_bias(self.config, layout, nobody)
        for group, engine in self.groups:
            if group.start >= max(boundaries):
                break
            past = dict.fromkeys(range(group.start, group.stop), no_rows(self.config))
            outputs = self.run_group(
                group, engine, residual, qkv, layout, past, dict.fromkeys(past, bias)
            )
            residual, qkv = outputs["residual"], outputs["qkv"]
            cache.update(group_caches(group, outputs))
            if group.stop in boundaries:
                states[group.stop] = (residual, qkv)
        return HeadState(ids, states, cache)

    def boundary(self, tail_blocks: int) -> int:
        """First block that a tail of this depth computes.

        Raises:
            ConfigError: the depth does not fit the model.
        """
        if not 0 < tail_blocks <= self.config.num_blocks:
            raise ConfigError(
                f"tail depth {tail_blocks} does not fit {self.config.num_blocks} blocks",
                field="tail",
                remedy=f"give 1 to {self.config.num_blocks}",
            )
        return self.manifest.boundary(tail_blocks)

    def tail(
        self,
        heads: Sequence[HeadState],
        prefix: KvPrefix | Sequence[KvPrefix] | None,
        tail_blocks: int,
        lora: Lora | None = None,
        *,
        every_token: bool = False,
    ) -> TailResult:
        """Run questions through the last blocks behind the prefix, as one packed batch.

        Args:
            heads: encoded questions.
            prefix: one for all questions, or one per question, or None (then the result equals
                the language model's own).
            tail_blocks: depth of the tail; must be one that the questions were encoded for and
                reach down to the prefix.
            lora: of blocks of the tail, or None for the model's own projections.
            every_token: return the final state of each token, not of each question's last.

        Raises:
            ConfigError: there is no question or one lacks this depth; or the prefix or the LoRA
                reaches below the tail, or was made for another model.
        """
        boundary = self.boundary(tail_blocks)
        if any(boundary not in head.states for head in heads):
            raise ConfigError(
                f"a question was not encoded for tail depth {tail_blocks}",
                field="tail",
                remedy="encode it with this depth",
            )
        if not heads:
            raise ConfigError("there is no question", field="question", remedy="encode one")
        joined, owner = join_prefixes(prefix, len(heads))
        if joined is not None:
            joined.check_fits(self.config)
        if joined is not None and joined.first_block < boundary:
            raise ConfigError(
                f"the prefix starts at block {joined.first_block}, the tail at {boundary}",
                field="prefix.blocks",
                remedy="deepen the tail",
            )
        if lora is not None:
            lora.check_fits(self.config, boundary)
        packed = self._packed.get(heads, boundary)
        layout, residual = packed.layout, packed.residual
        if every_token:
            layout = replace(layout, last_index=np.arange(layout.tokens, dtype=np.int64))
        qkv = packed.projections(lora, self._cut_norms)
        ours = self.native_for(joined, lora)
        if ours is not None:
            front, wanted = (joined, owner), layout.last_index
            final, caches = native_tail(ours, packed, qkv, front, lora, wanted)
            return TailResult(final, tuple(heads), layout, joined, owner, boundary, caches, lora)
        can = self.attends_apart
        side = side_by_side(self.config, packed, prefix, joined) if can else None
        cache: dict[int, KeyValue] = {}
        outputs: dict[str, Float] = {}
        for group, engine in self.groups:
            if group.start < boundary:
                continue
            blocks = range(group.start, group.stop)
            if side is None:
                biases = packed.biases(self.config, owner)
                past, bias = rows_in_front(self.config, blocks, joined, *biases)
            else:
                past, bias = side.inputs(blocks)
            apart = None if side is None else side.layout
            outputs = self.run_group(
                group, engine, residual, qkv, layout, past, bias, lora, apart, keep=True
            )
            cache.update(group_caches(group, outputs))
            if group.stop < self.config.num_blocks:
                residual, qkv = outputs["residual"], outputs["qkv"]
        final = outputs["final"][0]
        held: Mapping[int, KeyValue] = ReadWhenAsked(cache)
        if side is not None:
            held = ApartCaches(cache, side, shared=isinstance(prefix, KvPrefix))
        return TailResult(final, tuple(heads), layout, joined, owner, boundary, held, lora)

    def native_for(self, front: KvPrefix | None, lora: Lora | None) -> NativeBlocks | None:
        """What runs blocks in C, where it takes such rows in front and such a LoRA."""
        if front is not None and is_on_device(front.keys):
            return None
        native = self.native_blocks[0]
        return native if native is not None and native.fits(lora) else None

    def logits(self, final: Float) -> Float:
        """Float32 `[rows, vocab_size]` of final states `[rows, embedding_size]`."""
        native = self.native[0] if len(final) == 1 else self.native_blocks[0]
        if native is not None:
            return native.logits(final)
        if self._logits is None:
            self._logits = self._load(self.manifest.logits_file)
        return self._logits.run({"final": final[None]})["logits"][0]

    def score(self, final: Float, token_ids: NDArray[np.int64]) -> Float:
        """Logits of a few tokens only: float32 `[rows, len(token_ids)]`."""
        return final @ self.head_rows.rows(token_ids).T
