"""Head states computed by torch where training runs, for machines without our engines.

On a GPU the heads of all questions take seconds, and nothing but the checkpoint is needed. They are
float32 throughout, where the engines of the robot may be int8: connections read them all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ..export.checkpoint import Checkpoint
from ..export.tail_weights import tail_weights
from ..runtime.adaptation.samples import HeadTexts
from ..runtime.adaptation.tail_model import TailModel

#: Texts of one pass.
_BATCH = 256


@torch.no_grad()
def device_head_texts(
    checkpoint: Checkpoint,
    texts: Sequence[Sequence[int]],
    depths: Sequence[int],
    device: torch.device | str,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[int, HeadTexts]:
    """Head states of distinct texts.

    Args:
        checkpoint: of the language model, of the Llama or Qwen2 kind.
        texts: by their tokens.
        depths: of tails.
        device: computes them.
        progress: told texts done and texts in all.

    Returns:
        By depth, the float16 stream that enters a tail so deep.

    Raises:
        ConfigError: the model is of another kind, or a depth does not fit.
    """
    blocks = checkpoint.config.num_blocks
    for depth in depths:
        tail_weights(checkpoint, depth)
    model = TailModel(tail_weights(checkpoint, blocks), torch.float32, device)
    embedding = torch.from_numpy(checkpoint.embedding().dense()).to(device)
    offsets = np.concatenate([[0], np.cumsum([len(text) for text in texts])])
    hidden = checkpoint.config.hidden_size
    found = {depth: np.empty((offsets[-1], hidden), np.float16) for depth in depths}
    entered = sorted({blocks - depth for depth in depths})
    # Texts of like length together, so that little is padded.
    order = np.argsort(np.diff(offsets), kind="stable")
    for first in range(0, len(texts), _BATCH):
        part = order[first : first + _BATCH]
        ids, lengths = _padded([texts[place] for place in part])
        there = torch.from_numpy(lengths).to(device)
        rows = embedding[torch.from_numpy(ids).to(device)]
        for boundary, stream in zip(entered, model.streams(rows, there, entered), strict=True):
            made = stream.half().cpu().numpy()
            for row, place in enumerate(part):
                start, stop = offsets[place], offsets[place + 1]
                found[blocks - boundary][start:stop] = made[row, : lengths[row]]
        progress(first + len(part), len(texts))
    return {depth: HeadTexts(states, offsets) for depth, states in found.items()}


def _padded(texts: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    lengths = np.array([len(text) for text in texts], np.int64)
    ids = np.zeros((len(texts), int(lengths.max())), np.int64)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = text
    return ids, lengths
