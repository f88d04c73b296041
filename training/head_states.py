"""Head states of many questions, computed once and kept in a file.

Questions repeat: an epoch over a hundred thousand of them needs a few thousand distinct texts.
They are packed like the questions of a frame, so their heads run at the speed of large products.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save

from ..runtime.adaptation.samples import HeadTexts
from ..runtime.errors import ConfigError
from ..runtime.files import open_atomic
from ..runtime.language_model import LanguageModel
from ..runtime.packing import pack_lengths, packed_bias
from ..runtime.passes import split_passes

#: A text's tokens.
TokenIds = tuple[int, ...]


def head_texts(
    model: LanguageModel,
    texts: Sequence[TokenIds],
    tail_blocks: int,
    folder: Path,
    progress: Callable[[int, int], None] | None = None,
) -> HeadTexts:
    """States that enter the tail, from the file that holds them or computed now.

    Args:
        model: whose head runs.
        texts: distinct ones, by their tokens.
        tail_blocks: depth of the tail.
        folder: of the cache; made if it is not there.
        progress: told texts done and texts in all.

    Raises:
        ConfigError: there is no text, or the depth is no cut of the model.
    """
    boundary = model.config.num_blocks - tail_blocks
    if model.boundary(tail_blocks) != boundary:
        raise ConfigError(
            f"the engines have no cut at a tail of {tail_blocks} blocks",
            field="tail",
            remedy="load the language model with this depth",
        )
    if not texts:
        raise ConfigError("there is no question", field="questions", remedy="give some")
    path = folder / f"heads-{_key(model, texts, boundary)}.safetensors"
    if path.is_file():
        kept = load_file(path)
        return HeadTexts(kept["states"], kept["offsets"])
    offsets = np.concatenate([[0], np.cumsum([len(text) for text in texts])])
    states = np.empty((int(offsets[-1]), model.config.hidden_size), np.float16)
    for part in split_passes([len(text) for text in texts]):
        made = encode_packed(model, texts[part], boundary)
        states[offsets[part.start] : offsets[part.stop]] = made
        if progress is not None:
            progress(part.stop, len(texts))
    folder.mkdir(parents=True, exist_ok=True)
    with open_atomic(path) as file:
        file.write(save({"states": states, "offsets": offsets}))
    return HeadTexts(states, offsets)


def encode_packed(model: LanguageModel, texts: Sequence[TokenIds], boundary: int) -> np.ndarray:
    """Residual stream `[tokens of all texts, hidden_size]` that enters block `boundary`."""
    layout = pack_lengths([len(text) for text in texts])
    ids = np.concatenate([np.asarray(text, np.int64) for text in texts])
    residual, qkv = model.embed_tokens(ids, layout.position_ids)
    config = model.config
    bias = packed_bias(config, layout, np.zeros(0, np.int64))
    empty = np.zeros((1, config.num_kv_heads, 0, config.head_dim), np.float32)
    for group, engine in model.groups:
        if group.start >= boundary:
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
    return residual[0]


def _key(model: LanguageModel, texts: Sequence[TokenIds], boundary: int) -> str:
    manifest = model.manifest
    found = hashlib.sha256(f"{manifest.content_hash} {manifest.precision} {boundary}".encode())
    for text in texts:
        found.update(np.asarray(text, np.int32).tobytes() + b"|")
    return found.hexdigest()[:24]
