"""Head states of many texts in packed passes, at one or several boundaries; no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..language_model import LanguageModel
from ..native_passes import native_head
from ..packing import pack_lengths, packed_bias


def packed_states(
    model: LanguageModel,
    texts: Sequence[Sequence[int]],
    boundaries: Sequence[int],
    *,
    background: bool = False,
) -> list[NDArray[np.float32]]:
    """Residual streams that enter blocks, without any sensor.

    Args:
        model: whose head runs.
        texts: by their tokens; one packed pass.
        boundaries: first blocks of groups of the model.
        background: whether frames are answered meanwhile, which must not wait for this.

    Returns:
        By boundary `[tokens of all texts, hidden_size]`.
    """
    lengths = [len(text) for text in texts]
    ids = np.concatenate([np.asarray(text, np.int64) for text in texts])
    native, _ = model.background_blocks if background else model.native_blocks
    if native is not None:
        rows = model.embedding.rows(ids)
        states, _ = native_head(native, rows, lengths, sorted(set(boundaries)))
        return [states[boundary][0][0] for boundary in boundaries]
    layout = pack_lengths(lengths)
    residual, qkv = model.embed_tokens(ids, layout.position_ids)
    found = {0: residual[0]}
    config = model.config
    bias = packed_bias(config, layout, np.zeros(0, np.int64))
    empty = np.zeros((1, config.num_kv_heads, 0, config.head_dim), np.float32)
    for group, engine in model.groups:
        if group.start >= max(boundaries):
            break
        blocks = range(group.start, group.stop)
        outputs = model.run_group(
            group,
            engine,
            residual,
            qkv,
            layout,
            dict.fromkeys(blocks, (empty, empty)),
            dict.fromkeys(blocks, bias),
        )
        residual, qkv = outputs["residual"], outputs["qkv"]
        found[group.stop] = residual[0]
    return [found[boundary] for boundary in boundaries]
