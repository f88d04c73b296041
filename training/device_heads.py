"""Head states computed by torch where training runs, for machines without our engines.

On a GPU the heads of all questions take seconds, and nothing but the checkpoint is needed. They are
float32 throughout, where the engines of the robot may be int8: connections read them all the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ..export.checkpoint import Checkpoint
from ..export.tail_weights import tail_weights
from ..runtime.adaptation.samples import HeadTexts
from ..runtime.adaptation.tail_model import TailModel
from .head_store import TEXTS_PER_FILE, HeadStore, key_of

#: Texts of one pass.
_BATCH = 256


class HeadFiles(NamedTuple):
    """Where head states are kept.

    Attributes:
        folder: made when the first ones are kept.
        model_sha256: of the checkpoint that they are of.
    """

    folder: Path
    model_sha256: str


@torch.no_grad()
def device_head_texts(
    checkpoint: Checkpoint,
    texts: Sequence[Sequence[int]],
    depths: Sequence[int],
    device: torch.device | str,
    progress: Callable[[int, int], None] = lambda done, total: None,
    files: HeadFiles | None = None,
) -> dict[int, HeadTexts]:
    """Head states of distinct texts: those that files hold already, and the others computed now.

    Args:
        checkpoint: of the language model, of the Llama or Qwen2 kind.
        texts: by their tokens.
        depths: of tails.
        device: computes them.
        progress: told texts done and texts in all.
        files: that keep them, if any.

    Returns:
        By depth, the float16 stream that enters a tail so deep.

    Raises:
        ConfigError: the model is of another kind, or a depth does not fit.
        CacheError: a file cannot be read.
    """
    blocks = checkpoint.config.num_blocks
    for depth in depths:
        tail_weights(checkpoint, depth)
    keys = [key_of(text) for text in texts]
    stores = {blocks - depth: _store(files, blocks - depth, keys) for depth in depths}
    missing = [n for n, key in enumerate(keys) if any(key not in one for one in stores.values())]
    # Texts of like length together, so that little is padded.
    missing.sort(key=lambda number: len(texts[number]))
    heads = Heads(checkpoint, sorted(stores), device) if missing else None
    for first in range(0, len(missing), TEXTS_PER_FILE):
        part = missing[first : first + TEXTS_PER_FILE]
        done = len(texts) - len(missing) + first
        made: dict[int, list[NDArray[np.float16]]] = {boundary: [] for boundary in stores}
        for start in range(0, len(part), _BATCH):
            batch = [texts[number] for number in part[start : start + _BATCH]]
            assert heads is not None
            for boundary, states in heads(batch).items():
                made[boundary] += states
            progress(done + start + len(batch), len(texts))
        for boundary, store in stores.items():
            new = [place for place, number in enumerate(part) if keys[number] not in store]
            store.add([keys[part[place]] for place in new], [made[boundary][n] for n in new])
    # Each store goes when its states are in one array: all of them take gigabytes.
    return {depth: stores.pop(blocks - depth).texts(keys) for depth in dict.fromkeys(depths)}


class Heads:
    """All blocks, and what enters some of them."""

    def __init__(
        self, checkpoint: Checkpoint, boundaries: Sequence[int], device: torch.device | str
    ) -> None:
        """Read the weights.

        Args:
            checkpoint: of the language model.
            boundaries: blocks whose input is wanted, rising.
            device: computes it.
        """
        weights = tail_weights(checkpoint, checkpoint.config.num_blocks)
        self._model = TailModel(weights, torch.float32, device)
        self._embedding = torch.from_numpy(checkpoint.embedding().dense()).to(device)
        self._boundaries, self._device = boundaries, device

    def __call__(self, texts: Sequence[Sequence[int]]) -> dict[int, list[NDArray[np.float16]]]:
        """By boundary, the states of each text, float16 `[tokens, hidden_size]`."""
        ids, lengths = _padded(texts)
        rows = self._embedding[torch.from_numpy(ids).to(self._device)]
        there = torch.from_numpy(lengths).to(self._device)
        streams = self._model.streams(rows, there, self._boundaries)
        found: dict[int, list[NDArray[np.float16]]] = {}
        for boundary, stream in zip(self._boundaries, streams, strict=True):
            made = stream.half().cpu().numpy()
            found[boundary] = [row[:n].copy() for row, n in zip(made, lengths, strict=True)]
        return found


def _store(files: HeadFiles | None, boundary: int, wanted: Sequence[str]) -> HeadStore:
    if files is None:
        return HeadStore(None, "", wanted)
    text = f"{files.model_sha256} torch float32 {boundary}"
    return HeadStore(files.folder, hashlib.sha256(text.encode()).hexdigest()[:16], wanted)


def _padded(texts: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    lengths = np.array([len(text) for text in texts], np.int64)
    ids = np.zeros((len(texts), int(lengths.max())), np.int64)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = text
    return ids, lengths
