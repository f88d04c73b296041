"""Decodes token by token in C, with weights that lie in the order in which they are read.

For models of the Llama kind at 8 and 4 bits, on machines with a C compiler. Everything is mapped
from disk, so what is never decoded costs no memory.
"""

from __future__ import annotations

import ctypes
import threading
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..kernels import native
from ..kernels.native import ADDRESS, COUNT
from .errors import EngineError
from .head_state import Float, KeyValue
from .model_manifest import ModelManifest
from .native_weights import WEIGHTS_NAME, NativeWeights, load_for
from .thread_choice import ThreadChoice

_SOURCES = native.sources(
    "decode_step.c", "decode_products.h", "decode_threads.h", "block_weights.h"
)

_FUNCTIONS: native.Signatures = {
    "decoder_open": ([ADDRESS] * 5, ADDRESS),
    "decoder_close": ([ADDRESS], None),
    "decoder_step": ([ADDRESS, ADDRESS, COUNT, ADDRESS, ADDRESS], ctypes.c_int),
    "decoder_logits": ([*[ADDRESS] * 4, COUNT, ADDRESS], None),
}


class _Rows(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("keys", "values")),
        *((name, ctypes.c_int64) for name in ("capacity", "first", "next", "ranks")),
        *((name, ctypes.c_void_p) for name in ("lora_a", "lora_b")),
    )


@dataclass(frozen=True)
class TextRows:
    """Keys and values of one text in one block.

    Attributes:
        buffers: keys and values `[1, kv_heads, capacity, head_dim]`, written in place.
        prefix_rows: rows in front of the text.
        sees_prefix: whether the block attends to them.
        lora: of the block, as in `Lora.packed`, or None.
    """

    buffers: KeyValue
    prefix_rows: int
    sees_prefix: bool
    lora: tuple[Float, Float] | None = None


class NativeDecoder:
    """One model's weights in the hands of the C code; calls from several threads take turns."""

    def __init__(
        self, library: ctypes.CDLL, folder: Path, manifest: ModelManifest, *, threads: int
    ) -> None:
        """Map the weights in `folder`.

        Raises:
            OSError, ValueError, KeyError: a file is missing or corrupt.
            MemoryError: there is no memory for the buffers.
        """
        native.declare(library, _FUNCTIONS)
        self._library = library
        self._config = manifest.config
        weights = NativeWeights(folder, manifest)
        self._weights = weights
        self._choice, self._turn = ThreadChoice(max(1, threads)), threading.Lock()
        #: By number of threads; the weights are shared.
        self._handles: dict[int, int] = {}
        self.close = weakref.finalize(self, _close, self._library, self._handles)
        for count in {max(1, threads), 1}:
            self._handles[count] = weights.opened(library.decoder_open, count)

    def text(self, rows: Mapping[int, TextRows]) -> NativeText:
        """Prepare to continue a text whose keys and values are in `rows`, by block."""
        return NativeText(self, [rows[block] for block in range(self._config.num_blocks)])

    def step(self, embedding: Float, position: int, rows: ctypes.Array[_Rows]) -> Float:
        """Final state `[1, hidden_size]` of the token at `position`."""
        self._check_open()
        embedding = np.ascontiguousarray(embedding, dtype=np.float32)
        final = np.empty((1, self._config.hidden_size), dtype=np.float32)
        with self._turn:
            threads, began = self._choice.next_count(), time.perf_counter()
            failed = self._library.decoder_step(
                self._handles[threads], embedding.ctypes.data, position, rows, final.ctypes.data
            )
            self._choice.note(threads, time.perf_counter() - began)
        if failed:
            raise EngineError("no memory for the attention scores", field="max_new_tokens")
        return final

    def logits(self, final: Float) -> Float:
        """Float32 `[1, vocab_size]` of one final state `[1, hidden_size]`."""
        self._check_open()
        final = np.ascontiguousarray(final, dtype=np.float32)
        logits = np.empty((1, self._config.vocab_size), dtype=np.float32)
        self._library.decoder_logits(
            self._handles[self._choice.count],
            final.ctypes.data,
            self._weights.codes.ctypes.data,
            self._weights.scales.ctypes.data,
            len(self._weights.codes),
            logits.ctypes.data,
        )
        return logits

    def _check_open(self) -> None:
        if not self.close.alive:
            raise EngineError("the engine is closed", field=WEIGHTS_NAME, remedy="load it again")


class NativeText:
    """A text that grows token by token."""

    def __init__(self, decoder: NativeDecoder, rows: list[TextRows]) -> None:
        self._decoder = decoder
        self._prefix_rows = [block.prefix_rows for block in rows]
        # The structure keeps addresses only, so the arrays must live as long as it does.
        self._buffers = [(*block.buffers, *(block.lora or ())) for block in rows]
        self._rows = (_Rows * len(rows))()
        for target, block in zip(self._rows, rows, strict=True):
            keys, values = block.buffers
            for array in (keys, values, *(block.lora or ())):
                if not array.flags.c_contiguous or array.dtype != np.float32:
                    raise EngineError("the buffer is not contiguous float32", field="rows")
            target.keys, target.values = keys.ctypes.data, values.ctypes.data
            target.capacity = keys.shape[2]
            target.first = 0 if block.sees_prefix else block.prefix_rows
            if block.lora is not None:
                a, b = block.lora
                target.ranks = len(b)
                target.lora_a, target.lora_b = a.ctypes.data, b.ctypes.data

    def extend(self, embedding: Float, position: int) -> Float:
        """Append the token at `position`; returns its final state `[1, hidden_size]`."""
        for target, prefix_rows in zip(self._rows, self._prefix_rows, strict=True):
            target.next = prefix_rows + position
            if target.next >= target.capacity:
                raise EngineError("the text has no room left", field="rows")
        return self._decoder.step(embedding, position, self._rows)


def open_decoder(
    folder: Path, manifest: ModelManifest, *, threads: int
) -> tuple[NativeDecoder | None, str]:
    """The native decoder of a folder of engines, or None and why there is none."""
    library, reason = load_for(folder, manifest, _SOURCES)
    if library is None:
        return None, reason
    try:
        return NativeDecoder(library, folder, manifest, threads=threads), reason
    except (OSError, ValueError, KeyError, TypeError, MemoryError) as error:
        return None, f"the weights for native decoding cannot be used: {error}"


def _close(library: ctypes.CDLL, handles: Mapping[int, int]) -> None:
    for handle in handles.values():
        library.decoder_close(handle)
