"""Runs blocks in C: many tokens share each pass over weights that lie in the order of reading.

The weights and their rounding are those of the native decoder (`native_decode.py`), so activations
keep 16 bits, where the engines' 8-bit products keep 8. Processors without VNNI use the engines.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..kernels import native
from ..kernels.native import ADDRESS, COUNT, FLAG
from .errors import EngineError
from .head_state import Float, KeyValue
from .lora import Lora
from .model_config import LanguageModelConfig
from .model_manifest import ModelManifest
from .native_weights import WEIGHTS_NAME, NativeWeights, load_for
from .worker_cpus import CallingThread, allowed_cpus, cpu_parts

_SOURCES = native.sources(
    "block_step.c",
    "block_stages.h",
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
        *((name, ctypes.c_void_p) for name in ("offsets", "positions")),
        *((name, ctypes.c_void_p) for name in ("front_first", "front_stop")),
        *((name, ctypes.c_void_p) for name in ("wanted", "wanted_offsets")),
        ("front_rows", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("fronts", "qkv", "lora_a", "lora_b")),
        *((name, ctypes.c_void_p) for name in ("residual", "next", "keys", "values", "final")),
    )


@dataclass(frozen=True, eq=False)
class BlockPass:
    """Texts, one after the other, and the blocks that they run through.

    Attributes:
        blocks: first block, and the one behind the last.
        offsets: int32 `[texts + 1]`, first token of each text, and the number of all.
        residual: float32, `[tokens, hidden_size]` when flat: what enters the first block.
        qkv: projections of the first block, `[tokens, qkv_size]` when flat; None: they are made.
        positions: int32 `[texts]`, of the first token of each.
        fronts: by block, keys and values in front, with their positions in them, contiguous
            float32 `[kv_heads, rows, head_dim]`; blocks without have none.
        seen: first and last row in front of each text, int32 `[texts]` each.
        lora: of these blocks, of one rank (`NativeBlocks.fits`), or None.
        wanted: int64, ascending: tokens whose final state is wanted where the last block is the
            model's; None for none.
    """

    blocks: tuple[int, int]
    offsets: NDArray[np.int32]
    residual: Float
    qkv: Float | None
    positions: NDArray[np.int32]
    fronts: Mapping[int, KeyValue]
    seen: tuple[NDArray[np.int32], NDArray[np.int32]]
    lora: Lora | None = None
    wanted: NDArray[np.int64] | None = None


@dataclass(frozen=True, eq=False)
class BlockOutputs:
    """What a pass gives, float32.

    Attributes:
        residual: `[tokens, hidden_size]`, behind the last block of the pass.
        qkv: `[tokens, qkv_size]`, projections of the block behind it; empty where there is none.
        keys: of the tokens, `[blocks, kv_heads, tokens, head_dim]`.
        values: likewise.
        final: `[wanted, hidden_size]`.
    """

    residual: Float
    qkv: Float
    keys: Float
    values: Float
    final: Float


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
        self._library, self._weights = library, weights
        #: Of the model.
        self.config: LanguageModelConfig = manifest.config
        self._calling = CallingThread(threads)
        self._handle = weights.opened(library.blocks_open, threads, _cpu_sets(threads))
        self.close = weakref.finalize(self, library.blocks_close, self._handle)

    def run(self, one: BlockPass) -> BlockOutputs:
        """Run texts through some blocks, each attending to itself and to its rows in front.

        Raises:
            EngineError: it is closed, or there is no memory.
        """
        self._check_open()
        config, (first, stop) = self.config, one.blocks
        tokens, count = int(one.offsets[-1]), stop - first
        is_last = stop == config.num_blocks
        shape = (count, config.num_kv_heads, tokens, config.head_dim)
        chosen = np.zeros(0, np.int64) if one.wanted is None else one.wanted
        wanted = chosen.astype(np.int32)
        made = BlockOutputs(
            # Written in place.
            np.array(one.residual, np.float32, order="C").reshape(tokens, -1),
            np.empty((0 if is_last else tokens, config.qkv_size), np.float32),
            np.empty(shape, np.float32),
            np.empty(shape, np.float32),
            np.empty((len(wanted), config.hidden_size), np.float32),
        )
        # What a structure points at must live until the call is over.
        wanted_offsets = np.searchsorted(wanted, one.offsets).astype(np.int32)
        qkv = None if one.qkv is None else np.ascontiguousarray(one.qkv, np.float32)
        fronts, rows = (_Front * count)(), 0
        for block, (keys, values) in one.fronts.items():
            fronts[block - first] = _Front(keys.ctypes.data, values.ctypes.data)
            rows = keys.shape[1]
        lora_a, lora_b = ((ctypes.c_void_p * (count + 1))() for _ in range(2))
        ranks = 0
        for block, (a, b) in ({} if one.lora is None else one.lora.packed).items():
            if first <= block <= stop:
                lora_a[block - first], lora_b[block - first] = a.ctypes.data, b.ctypes.data
                ranks = len(b)
        starts, stops = one.seen
        given = _Pass(
            texts=len(one.offsets) - 1,
            tokens=tokens,
            first_block=first,
            stop_block=stop,
            finals=len(wanted),
            ranks=ranks,
            offsets=one.offsets.ctypes.data,
            positions=one.positions.ctypes.data,
            front_first=starts.ctypes.data,
            front_stop=stops.ctypes.data,
            wanted=wanted.ctypes.data,
            wanted_offsets=wanted_offsets.ctypes.data,
            front_rows=rows,
            fronts=ctypes.addressof(fronts),
            qkv=None if qkv is None else qkv.ctypes.data,
            lora_a=ctypes.addressof(lora_a),
            lora_b=ctypes.addressof(lora_b),
            residual=made.residual.ctypes.data,
            next=None if is_last else made.qkv.ctypes.data,
            keys=made.keys.ctypes.data,
            values=made.values.ctypes.data,
            final=made.final.ctypes.data,
        )
        with self._calling.kept():
            failed = self._library.blocks_run(self._handle, ctypes.byref(given))
        if failed:
            raise EngineError(
                f"no memory for {tokens} tokens", field="question", remedy="ask less at once"
            )
        return made

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


def processor_is_tuned_for() -> bool:
    """Whether the processor has the products that blocks in C are fast with, as Linux tells."""
    try:
        return "avx512_vnni" in Path("/proc/cpuinfo").read_text(errors="replace").split()
    except OSError:
        return False


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
