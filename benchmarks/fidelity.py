"""Top-1 agreement with fp32: how often the likeliest next token of ordinary text is the same one.

A faster engine says little without it: whoever rounds more decodes faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..runtime.language_model import LanguageModel

METHOD = (
    "share of positions of ordinary English text ({positions} of them, windows of {window} tokens, "
    "each from its start) at which the likeliest next token is that of fp32 engines of the same "
    "checkpoint"
)
WINDOW = 128


def ordinary_ids(model: LanguageModel, positions: int = 1000) -> list[int]:
    """The first tokens of the text that ships with the benchmarks."""
    text = Path(__file__).with_name("ordinary_text.txt").read_text(encoding="utf-8")
    return model.tokenizer.encode(text).ids[:positions]


def windows(ids: Sequence[int], window: int = WINDOW) -> list[list[int]]:
    """The text in pieces that are read one by one."""
    return [list(ids[start : start + window]) for start in range(0, len(ids), window)]


def likeliest(model: LanguageModel, ids: Sequence[int], window: int = WINDOW) -> NDArray[np.int64]:
    """The likeliest token behind every position, `[positions]`."""
    depth = model.config.num_blocks
    found: list[NDArray[np.int64]] = []
    for part in windows(ids, window):
        result = model.tail([model.encode(part, [depth])], None, depth, every_token=True)
        found.append(model.logits(result.final).argmax(-1))
    return np.concatenate(found)


def agreement(these: Sequence[int] | NDArray[np.int64], those: NDArray[np.int64]) -> float:
    """Share of positions at which both are the same."""
    return float(np.mean(np.asarray(these) == those))
