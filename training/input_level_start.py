"""What packs in the form as published start from: connectors that say words, branches of nothing.

A connector's second layer is led to what the language model makes of words: each direction token
says its direction, and for or against each kind as far as evidence goes
(`direction_start.learn_evidence`). The paper trains connectors in a stage of their own; this start
takes its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..export.input_level import AFFIXES, TEXT, Connector, InputLevelModelParts, Strategy
from ..kernels.direction_tokens import DIRECTION_WIDTH, DIRECTIONS, PRESENCE
from ..runtime.low_rank import PROJECTIONS, LowRankChange, projection_shape
from ..runtime.model_config import LanguageModelConfig
from .direction_start import Evidence

Float = NDArray[np.float32]

#: Before the gelu, so that it passes.
_PASSED = 4.0
#: Of a kind's word for one unit of evidence.
_LOUDNESS = 0.25
_NOISE = 0.02


def first_connector(
    evidence: Evidence,
    kinds: Sequence[Float],
    directions: Sequence[Float],
    plain: Float,
    rng: np.random.Generator,
) -> Connector:
    """A connector whose rows are words.

    Args:
        evidence: what tokens say of the kinds.
        kinds: what each kind's words add, `[hidden_size]`.
        directions: what each direction's words are, in the order of direction tokens.
        plain: what the learned tokens before and behind are.
        rng: draws the rest of the first layer, and noise.

    Returns:
        float32 arrays.
    """
    hidden, own = len(plain), evidence.w1.shape[1]
    w1 = rng.normal(0, DIRECTION_WIDTH**-0.5, (DIRECTION_WIDTH, hidden)).astype(np.float32)
    scale = _NOISE * hidden**-0.5 * float(np.abs(plain).mean())
    w2 = rng.normal(0, scale, (hidden, hidden)).astype(np.float32)
    b1, b2 = (np.zeros(hidden, np.float32) for _ in range(2))
    words = np.stack(kinds) * np.float32(_LOUDNESS)
    w1[:, :own], b1[:own] = evidence.w1.numpy(), evidence.b1.numpy()
    w2[:own] = evidence.w2.numpy() @ words
    b2 += evidence.b2.numpy() @ words
    w1[:, own : own + DIRECTIONS] = 0
    for direction in range(DIRECTIONS):
        w1[PRESENCE + 1 + direction, own + direction] = _PASSED
        w2[own + direction] = directions[direction] / _PASSED
    noise = _NOISE * float(np.abs(plain).mean())
    prefix, suffix = (
        plain + rng.normal(0, noise, (AFFIXES, hidden)).astype(np.float32) for _ in range(2)
    )
    return Connector(w1, b1, w2, b2, prefix, suffix)


def first_branch(
    config: LanguageModelConfig, blocks: int, rank: int, rng: np.random.Generator
) -> LowRankChange:
    """LoRA in all projections of so many blocks, which changes nothing yet."""
    factors = {}
    for block in range(blocks):
        for projection in PROJECTIONS:
            inputs, outputs = projection_shape(config, projection)
            a = rng.normal(0, inputs**-0.5, (inputs, rank)).astype(np.float32)
            factors[block, projection] = (a, np.zeros((rank, outputs), np.float32))
    return LowRankChange(factors)


def first_parts(
    config: LanguageModelConfig,
    base_sha256: str,
    strategy: Strategy,
    connectors: Mapping[str, Connector],
    blocks: int,
    rank: int,
    seed: int,
) -> InputLevelModelParts:
    """Connectors with branches of nothing.

    Args:
        config: of the language model.
        base_sha256: of its checkpoint.
        strategy: of the branches.
        connectors: by modality.
        blocks: that branches are in.
        rank: of the branches.
        seed: of the branches.
    """
    rng = np.random.default_rng(seed)
    text = first_branch(config, blocks, rank, rng)
    branches = {TEXT: text}
    for modality in sorted(connectors):
        branches[modality] = (
            text if strategy == "single" else first_branch(config, blocks, rank, rng)
        )
    return InputLevelModelParts(base_sha256, strategy, dict(connectors), branches)


def state_words(
    states: Sequence[Float], asked: Sequence[tuple[int, int]]
) -> tuple[list[Float], list[Float], Float]:
    """Words as the questions' own states say them.

    Args:
        states: what enters the first block of each question's last token, `[hidden_size]`.
        asked: kind and direction of each question.

    Returns:
        What each kind adds to the mean of all, what each direction is, and that mean.
    """
    mean = np.mean(states, axis=0)
    kinds = [
        np.mean([state for state, (kind, _) in zip(states, asked, strict=True) if kind == one], 0)
        for one in sorted({kind for kind, _ in asked})
    ]
    directions = [
        np.mean([state for state, (_, at) in zip(states, asked, strict=True) if at == one], 0)
        for one in sorted({at for _, at in asked})
    ]
    return [kind - mean for kind in kinds], directions, mean
