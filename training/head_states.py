"""Head states of many questions, computed once and kept in a file.

Questions repeat: an epoch over a hundred thousand of them needs a few thousand distinct texts.
They are packed like the questions of a frame, so their heads run at the speed of large products.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..runtime.adaptation.samples import HeadTexts
from ..runtime.adaptation.text_states import packed_states
from ..runtime.errors import ConfigError
from ..runtime.language_model import LanguageModel
from ..runtime.passes import split_passes
from .head_store import TEXTS_PER_FILE, HeadStore, key_of

#: A text's tokens.
TokenIds = tuple[int, ...]


def head_texts(
    model: LanguageModel,
    texts: Sequence[TokenIds],
    tail_blocks: int,
    folder: Path,
    progress: Callable[[int, int], None] | None = None,
) -> HeadTexts:
    """States that enter the tail: those that files hold already, and the others computed now.

    What is computed is written every few thousand texts, so that an interruption costs little.

    Args:
        model: whose head runs.
        texts: distinct ones, by their tokens.
        tail_blocks: depth of the tail.
        folder: of the cache; made if it is not there.
        progress: told texts done and texts in all.

    Raises:
        ConfigError: there is no text, or the depth is no cut of the model.
        CacheError: a file of the cache cannot be read.
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
    keys = [key_of(text) for text in texts]
    store = HeadStore(folder, _identity(model, boundary), keys)
    missing = [place for place, key in enumerate(keys) if key not in store]
    for first in range(0, len(missing), TEXTS_PER_FILE):
        part = missing[first : first + TEXTS_PER_FILE]
        done = len(texts) - len(missing) + first
        made: list[NDArray[np.float16]] = []
        for batch in split_passes([len(texts[place]) for place in part]):
            chosen = [texts[place] for place in part[batch]]
            states = encode_packed(model, chosen, boundary).astype(np.float16)
            made += np.split(states, np.cumsum([len(text) for text in chosen])[:-1])
            if progress is not None:
                progress(done + batch.stop, len(texts))
        store.add([keys[place] for place in part], made)
    return store.texts(keys)


def encode_packed(model: LanguageModel, texts: Sequence[TokenIds], boundary: int) -> np.ndarray:
    """Residual stream `[tokens of all texts, hidden_size]` that enters block `boundary`."""
    return packed_states(model, texts, (boundary,))[0]


def _identity(model: LanguageModel, boundary: int) -> str:
    manifest = model.manifest
    text = f"{manifest.content_hash} {manifest.precision} {boundary}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
