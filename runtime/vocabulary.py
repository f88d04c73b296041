"""Embedding rows by token, read from a memory-mapped table; used at both ends of the model.

The same rows embed a question and score the few tokens that an answer may still start with, so
constrained answers never touch the full output matrix.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .errors import EngineError

BLOCK = 32


def write_table(
    stem: Path, values: NDArray[np.float32] | NDArray[np.int8], scales: NDArray[np.float32] | None
) -> None:
    """Write a table as `<stem>.npy`, and `<stem>.scales.npy` where it is quantised.

    Args:
        stem: path without suffix.
        values: `[vocab_size, size]` float32 values, or int8 codes.
        scales: float32 `[vocab_size, size / 32]` for codes, else None.
    """
    np.save(stem.with_suffix(".npy"), values, allow_pickle=False)
    if scales is not None:
        np.save(_scales_path(stem), scales, allow_pickle=False)


def _scales_path(stem: Path) -> Path:
    return stem.with_name(f"{stem.name}.scales.npy")


class VocabularyTable:
    """Rows of an embedding matrix, dequantised when asked for."""

    def __init__(self, stem: Path) -> None:
        """Map the table that `write_table` wrote.

        Raises:
            EngineError: a file is missing or corrupt.
        """
        try:
            self._values = np.load(stem.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
            self._scales = (
                np.load(_scales_path(stem), mmap_mode="r", allow_pickle=False)
                if _scales_path(stem).exists()
                else None
            )
        except (OSError, ValueError, EOFError) as error:
            raise self._unusable(stem, f"cannot be read: {error}") from error
        if not self._is_consistent():
            raise self._unusable(stem, "does not fit its scales, or they are missing")

    def _is_consistent(self) -> bool:
        if self._values.ndim != 2 or self._values.dtype not in (np.float32, np.int8):
            return False
        if self._scales is None:
            return self._values.dtype == np.float32
        return self._scales.shape == (self.shape[0], self.shape[1] // BLOCK)

    @staticmethod
    def _unusable(stem: Path, problem: str) -> EngineError:
        return EngineError(
            f"the vocabulary table {problem}",
            field=str(stem),
            remedy="remove the engine folder, it is then built again",
        )

    @property
    def shape(self) -> tuple[int, int]:
        return (self._values.shape[0], self._values.shape[1])

    @property
    def nbytes(self) -> int:
        """Bytes on disk, of which only touched pages become resident."""
        return self._values.nbytes + (0 if self._scales is None else self._scales.nbytes)

    def rows(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """Float32 `[len(tokens), size]`."""
        values = np.asarray(self._values[tokens], dtype=np.float32)
        if self._scales is None:
            return values
        blocks = values.reshape(len(tokens), -1, BLOCK)
        blocks *= np.asarray(self._scales[tokens], dtype=np.float32)[..., None]
        return blocks.reshape(values.shape)
