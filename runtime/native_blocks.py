"""Runs blocks in C: many tokens share each pass over weights that lie in the order of reading.

The weights and their rounding are those of the native decoder (`native_decode.py`), so activations
keep 16 bits, where the engines' 8-bit products keep 8. Processors without VNNI use the engines.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..kernels import native
from ..kernels.native import ADDRESS, COUNT, FLAG
from .errors import EngineError
from .head_state import Float, KeyValue, PackedHeads
from .kv_prefix import KvPrefix
from .lora import Lora
from .model_config import LanguageModelConfig
from .model_manifest import ModelManifest
from .native_weights import WEIGHTS_NAME, NativeWeights, load_for
from .worker_cpus import CallingThread, allowed_cpus, cpu_parts

_SOURCES = native.sources(
    "block_step.c",
    "block_attention.h",
    "block_products.h",
    "decode_products.h",
    "stage_threads.h",
    "block_weights.h",
)

_FUNCTIONS: native.Signatures = {
    "blocks_are_tuned": ([], ctypes.c_int),
    "blocks_open": ([ADDRESS] * 6, ADDRESS),
    "blocks_close": ([ADDRESS], None),
    "blocks_run": ([ADDRESS, ADDRESS], ctypes.c_int),
    "blocks_logits": ([ADDRESS, ADDRESS, FLAG, ADDRESS, ADDRESS, COUNT, ADDRESS], ctypes.c_int),
}

#: States that enter blocks, by block, as in `HeadState`.
States = Mapping[int, KeyValue]

#: Of heads, in elements: what a vector takes.
_VECTOR = 16

#: Bytes of a set of CPUs, as the system takes it.
_CPU_SET = 128


class _Front(ctypes.Structure):
    _fields_ = (("keys", ctypes.c_void_p), ("values", ctypes.c_void_p))


class _Pass(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("texts", "tokens", "first_block", "stop_block")),
        *((name, ctypes.c_int32) for name in ("finals", "ranks")),
        *((name, ctypes.c_void_p) for name in ("offsets", "front_first", "front_stop")),
        *((name, ctypes.c_void_p) for name in ("wanted", "wanted_offsets")),
        ("front_rows", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("fronts", "qkv", "lora_a", "lora_b")),
        *((name, ctypes.c_void_p) for name in ("residual", "next", "keys", "values", "final")),
    )


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


class NativeBlocks:
    """One model's weights in the hands of the C code; calls from several threads take turns."""

    def __init__(
        self, library: ctypes.CDLL, folder: Path, manifest: ModelManifest, *, threads: int
    ) -> None:
        """Map the weights in `folder`.

        Raises:
            OSError, ValueError, KeyError: a file is missing or corrupt.
            MemoryError: there is no memory for the buffers.
        """
        weights, threads = NativeWeights(folder, manifest), max(1, threads)
        shape, cpus = weights.shape(threads), _cpu_sets(threads)
        self._library, self._weights, self._config = library, weights, manifest.config
        self._calling = CallingThread(threads)
        self._handle = library.blocks_open(
            ctypes.byref(shape),
            weights.blocks,
            weights.addresses["final_norm"],
            weights.addresses["cosines"],
            weights.addresses["sines"],
            cpus,
        )
        if not self._handle:
            raise MemoryError("no memory for the buffers")
        self.close = weakref.finalize(self, library.blocks_close, self._handle)

    def tail(
        self,
        packed: PackedHeads,
        qkv: Float,
        front: KvPrefix | None,
        owner: NDArray[np.int64],
        lora: Lora | None,
        wanted: NDArray[np.int64],
    ) -> tuple[Float, BlockCaches]:
        """Run questions through the blocks from `packed.boundary` on.

        Args:
            packed: the questions.
            qkv: projections of the first block, `[1, tokens, qkv_size]`.
            front: rows in front of all questions, one after the other; None for none.
            owner: int64 `[rows]`, the question that each belongs to, ascending; -1 for all.
            lora: of these blocks, of one rank (`fits`), or None.
            wanted: int64, ascending: tokens whose final state is returned.

        Returns:
            Float32 `[wanted, hidden_size]`, and keys and values by block.

        Raises:
            EngineError: it is closed, or there is no memory.
        """
        config, layout, first = self._config, packed.layout, packed.boundary
        count = config.num_blocks - first
        chosen = np.asarray(wanted, np.int32)
        offsets = np.asarray([*layout.offsets, layout.tokens], np.int32)
        chosen_offsets = np.searchsorted(chosen, offsets).astype(np.int32)
        starts, stops = _seen_rows(owner, len(layout.lengths))
        # What a structure points at must live until the call is over.
        sides = () if front is None else tuple(map(_floats, (front.keys, front.values)))
        fronts = (_Front * count)()
        for at, block in enumerate(() if front is None else front.blocks):
            fronts[block - first] = _Front(*(side[at].ctypes.data for side in sides))
        lora_a, lora_b = ((ctypes.c_void_p * (count + 1))() for _ in range(2))
        matrices = {} if lora is None else lora.packed
        for block, (a, b) in matrices.items():
            lora_a[block - first], lora_b[block - first] = a.ctypes.data, b.ctypes.data
        final, qkv = np.empty((len(chosen), config.hidden_size), np.float32), _floats(qkv)
        given = _Pass(
            finals=len(chosen),
            ranks=max((len(b) for _, b in matrices.values()), default=0),
            front_first=starts.ctypes.data,
            front_stop=stops.ctypes.data,
            wanted=chosen.ctypes.data,
            wanted_offsets=chosen_offsets.ctypes.data,
            front_rows=0 if front is None else front.rows,
            fronts=ctypes.addressof(fronts),
            qkv=qkv.ctypes.data,
            lora_a=ctypes.addressof(lora_a),
            lora_b=ctypes.addressof(lora_b),
            final=final.ctypes.data,
        )
        _, keys, values = self._run(given, (first, config.num_blocks), offsets, packed.residual)
        return final, BlockCaches(first, keys, values, front)

    def head(self, rows: Float, boundaries: Sequence[int]) -> tuple[States, BlockCaches]:
        """Run a text through the first blocks.

        Args:
            rows: embeddings of its tokens, float32 `[tokens, hidden_size]`.
            boundaries: blocks whose inputs are kept, ascending, below the last block.

        Returns:
            By boundary the residual stream `[1, tokens, hidden_size]` and the packed projections
            `[1, tokens, qkv_size]` that enter it, and keys and values of all blocks before the
            last one.

        Raises:
            EngineError: it is closed, or there is no memory.
        """
        config, tokens = self._config, len(rows)
        offsets, nothing = np.asarray([0, tokens], np.int32), np.zeros(1, np.int32)
        unused = ((_Front * config.num_blocks)(), (ctypes.c_void_p * (config.num_blocks + 1))())
        residual, qkv = _floats(rows), None
        states: dict[int, KeyValue] = {}
        sides: list[tuple[Float, Float]] = []
        first = 0
        for boundary in boundaries:
            made = np.empty((1, tokens, config.qkv_size), np.float32)
            given = _Pass(
                front_first=nothing.ctypes.data,
                front_stop=nothing.ctypes.data,
                fronts=ctypes.addressof(unused[0]),
                qkv=None if qkv is None else qkv.ctypes.data,
                lora_a=ctypes.addressof(unused[1]),
                lora_b=ctypes.addressof(unused[1]),
                next=made.ctypes.data,
            )
            residual, *pair = self._run(given, (first, boundary), offsets, residual)
            qkv, first = made, boundary
            states[boundary] = (residual.reshape(1, tokens, -1), qkv)
            sides.append((pair[0], pair[1]))
        keys, values = (np.concatenate(side) for side in zip(*sides, strict=True))
        return states, BlockCaches(0, keys, values, None)

    def _run(
        self, given: _Pass, blocks: tuple[int, int], offsets: NDArray[np.int32], residual: Float
    ) -> tuple[Float, Float, Float]:
        """The residual stream behind some blocks, and their keys and values.

        Those are `[blocks, kv_heads, tokens, head_dim]`.
        """
        self._check_open()
        config, tokens = self._config, int(offsets[-1])
        shape = (blocks[1] - blocks[0], config.num_kv_heads, tokens, config.head_dim)
        keys, values = np.empty(shape, np.float32), np.empty(shape, np.float32)
        # Written in place.
        stream = np.array(residual, np.float32, order="C")
        given.texts, given.tokens = len(offsets) - 1, tokens
        given.first_block, given.stop_block = blocks
        given.offsets, given.residual = offsets.ctypes.data, stream.ctypes.data
        given.keys, given.values = keys.ctypes.data, values.ctypes.data
        with self._calling.kept():
            failed = self._library.blocks_run(self._handle, ctypes.byref(given))
        if failed:
            raise EngineError(
                f"no memory for {tokens} tokens", field="question", remedy="ask less at once"
            )
        return stream, keys, values

    @staticmethod
    def fits(lora: Lora | None) -> bool:
        """Whether the branches of a LoRA are of one rank, as `run` takes them."""
        return lora is None or len({len(b) for _, b in lora.packed.values()}) <= 1

    def logits(self, final: Float) -> Float:
        """Float32 `[rows, vocab_size]` of final states `[rows, hidden_size]`.

        Raises:
            EngineError: it is closed, or there is no memory.
        """
        self._check_open()
        final, weights = np.ascontiguousarray(final, np.float32), self._weights
        logits = np.empty((len(final), len(weights.codes)), np.float32)
        with self._calling.kept():
            failed = self._library.blocks_logits(
                self._handle,
                final.ctypes.data,
                len(final),
                weights.codes.ctypes.data,
                weights.scales.ctypes.data,
                len(weights.codes),
                logits.ctypes.data,
            )
        if failed:
            raise EngineError(
                f"no memory for {len(final)} states",
                field="question",
                remedy="ask less at once",
            )
        return logits

    def _check_open(self) -> None:
        if not self.close.alive:
            raise EngineError("the engine is closed", field=WEIGHTS_NAME, remedy="load it again")


def open_blocks(
    folder: Path, manifest: ModelManifest, *, threads: int
) -> tuple[NativeBlocks | None, str]:
    """What runs the blocks of a folder of engines in C, or None and why nothing does."""
    if not _is_known(manifest.config):
        return None, f"heads of {manifest.config.head_dim} do not fill vectors of {_VECTOR}"
    library, reason = load_for(folder, manifest, _SOURCES)
    if library is None:
        return None, reason
    try:
        native.declare(library, _FUNCTIONS)
        if not library.blocks_are_tuned():
            return None, "the processor has no 8-bit dot products of 512 bits (AVX-512 VNNI)"
        return NativeBlocks(library, folder, manifest, threads=threads), reason
    except (OSError, ValueError, KeyError, TypeError, MemoryError) as error:
        return None, f"the weights for native blocks cannot be used: {error}"


def _floats(array: Float) -> Float:
    return np.ascontiguousarray(array, np.float32)


def _is_known(config: LanguageModelConfig) -> bool:
    return config.head_dim % _VECTOR == 0


def _cpu_sets(threads: int) -> bytes | None:
    """Bits of the CPUs of each thread, or None where threads run anywhere."""
    parts = cpu_parts(allowed_cpus(), threads)
    if not parts or max(max(part) for part in parts) >= 8 * _CPU_SET:
        return None
    return b"".join(_cpu_set(part) for part in parts)


def _cpu_set(cpus: Sequence[int]) -> bytes:
    return sum(1 << cpu for cpu in cpus).to_bytes(_CPU_SET, "little")


def _seen_rows(owner: NDArray[np.int64], texts: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """First and last row in front of each text, int32 `[texts]` each."""
    if len(owner) == 0 or owner[0] < 0:
        return np.zeros(texts, np.int32), np.full(texts, len(owner), np.int32)
    numbers = np.arange(texts)
    starts, stops = (np.searchsorted(owner, numbers, side) for side in ("left", "right"))
    return starts.astype(np.int32), stops.astype(np.int32)
