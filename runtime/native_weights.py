"""A model's weights as the C code reads them: mapped from `decode.bin`, in the order of its passes.

For models of the Llama kind at 8 and 4 bits. What is never read costs no memory.
"""

from __future__ import annotations

import ctypes
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels import native
from .engine_key import machine_identity
from .errors import CacheError
from .files import cache_dir
from .head_state import Float
from .model_manifest import ModelManifest
from .vocabulary import BLOCK

WEIGHTS_NAME = "decode.bin"
INDEX_NAME = "decode.json"

#: Names of a block's matrices, in the index and in `export.weights.Block`.
MATRICES = ("qkv", "output", "ffn_in", "ffn_out")

#: Rows that are computed side by side.
ROW_GROUP = 16

#: Architectures with vector code of their own.
_TUNED_FOR = ("x86_64", "AMD64")


class ModelShape(ctypes.Structure):
    """`Shape` of `kernels/block_weights.h`."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("blocks", "hidden", "heads", "kv_heads")),
        *((name, ctypes.c_int32) for name in ("head_dim", "ffn", "bits", "threads")),
        ("norm_epsilon", ctypes.c_float),
    )


class BlockWeights(ctypes.Structure):
    """`Block` of `kernels/block_weights.h`."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in MATRICES),
        *((f"{name}_bias", ctypes.c_void_p) for name in MATRICES),
        *((name, ctypes.c_void_p) for name in ("attention_norm", "ffn_norm")),
        *((f"{name}_factor", ctypes.c_float) for name in MATRICES),
    )


class NativeWeights:
    """Addresses of one model's weights; they hold as long as this object lives.

    Attributes:
        addresses: by name in the index.
        blocks: array of `BlockWeights`.
        codes: of the output matrix, int8 `[vocab_size, hidden_size]`.
        scales: of its blocks of 32, float32 `[vocab_size, hidden_size / 32]`.
    """

    def __init__(self, folder: Path, manifest: ModelManifest) -> None:
        """Map the weights in `folder`.

        Raises:
            OSError, ValueError, KeyError: a file is missing or corrupt.
        """
        self._manifest = manifest
        config = manifest.config
        index: dict[str, dict[str, Any]] = json.loads((folder / INDEX_NAME).read_bytes())
        self._weights = np.memmap(folder / WEIGHTS_NAME, dtype=np.uint8, mode="r")
        if any(e["offset"] + e["bytes"] > len(self._weights) for e in index.values()):
            raise ValueError(f"{WEIGHTS_NAME} is cut off")
        self.codes, self.scales = _map_head(folder / manifest.head_table)
        if self.codes.shape != (config.vocab_size, config.hidden_size):
            raise ValueError("the output matrix does not fit the model")
        start = self._weights.ctypes.data
        self.addresses = {name: start + int(entry["offset"]) for name, entry in index.items()}
        self.blocks = (BlockWeights * config.num_blocks)(
            *(_block(number, index, self.addresses) for number in range(config.num_blocks))
        )

    def opened(self, opens: Callable[..., int | None], threads: int, *more: object) -> int:
        """The handle that a function of a library makes of these weights.

        Args:
            opens: takes shape, blocks, final norm, cosines and sines.
            threads: of the handle.
            more: what it takes behind them.

        Raises:
            MemoryError: it gave none.
        """
        shape, addresses = self._shape(threads), self.addresses
        tables = (addresses[name] for name in ("final_norm", "cosines", "sines"))
        handle = opens(ctypes.byref(shape), self.blocks, *tables, *more)
        if not handle:
            raise MemoryError("no memory for the buffers")
        return handle

    def _shape(self, threads: int) -> ModelShape:
        """The model's sizes, for so many threads."""
        config = self._manifest.config
        return ModelShape(
            config.num_blocks,
            config.hidden_size,
            config.num_heads,
            config.num_kv_heads,
            config.head_dim,
            config.ffn_size,
            8 if self._manifest.precision == "int8" else 4,
            threads,
            config.norm_eps,
        )


def load_for(
    folder: Path, manifest: ModelManifest, sources: Sequence[Path]
) -> tuple[ctypes.CDLL | None, str]:
    """The library that `sources` compile to, if `folder` has weights for it; else why not."""
    if platform.machine() not in _TUNED_FOR:
        # The portable C path is correct there, but nobody has measured it against the engines.
        return None, f"native decoding has not been tuned for {platform.machine()}"
    if not (folder / INDEX_NAME).exists():
        return None, f"{manifest.name} at {manifest.precision} has no weights for native decoding"
    try:
        cache = cache_dir() / "native"
    except CacheError as error:
        return None, str(error)
    return native.load_native(sources, cache, machine_identity())


def _map_head(stem: Path) -> tuple[NDArray[np.int8], Float]:
    codes = np.load(stem.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
    scales_path = stem.with_name(f"{stem.name}.scales.npy")
    scales = np.load(scales_path, mmap_mode="r", allow_pickle=False)
    fits = scales.shape == (codes.shape[0], codes.shape[1] // BLOCK)
    if codes.dtype != np.int8 or scales.dtype != np.float32 or not fits:
        raise ValueError("the output matrix has no 8-bit codes")
    return codes, scales


def _block(
    number: int, index: Mapping[str, Mapping[str, Any]], addresses: Mapping[str, int]
) -> BlockWeights:
    names = [*MATRICES, *(f"{name}_bias" for name in MATRICES), "attention_norm", "ffn_norm"]
    values: dict[str, Any] = {name: addresses.get(f"{number}.{name}") for name in names}
    for name in (*MATRICES, "attention_norm", "ffn_norm"):
        if values[name] is None:
            raise ValueError(f"{name} of block {number} is missing")
    for name in MATRICES:
        values[f"{name}_factor"] = float(index[f"{number}.{name}"]["factor"])
    return BlockWeights(**values)
