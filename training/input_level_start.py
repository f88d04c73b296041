"""A first pack in the form as published, whose questions look to their directions.

What `direction_start.py` solves for, said by the parts that the published form has. A connector
makes rows of a few directions of the stream: one a sixth of the surroundings, one a kind for its
evidence, and one for the learned tokens before and behind. The branches of key and value
projections turn these into the keys and values that were solved for; a row is so long that what
blocks add to it hardly counts. Inputs lie side by side (`DecoupledModel.answers_each`), so that the
row of a direction has the same place in each. Each pack draws its own directions of the stream,
among those that text uses least.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..export.input_level import AFFIXES, TEXT, Connector, InputLevelModelParts, Strategy
from ..kernels.direction_tokens import DIRECTION_WIDTH, DIRECTIONS, PRESENCE
from ..runtime.adaptation.tail_model import TailModel
from ..runtime.adaptation.tail_weights import TailWeights
from ..runtime.errors import ConfigError
from ..runtime.low_rank import PROJECTIONS, LowRankChange, Place, projection_shape
from .direction_start import (
    Evidence,
    SolvedStart,
    Wanted,
    last_queries,
    missing_evidence,
    solve_start,
)

Float = NDArray[np.float32]
#: Margins of all questions, of rows that these parts make of one token a direction.
Ask = Callable[[InputLevelModelParts], Tensor]

#: A first connector and its branches, from evidence and from what calibration adds to it.
Begin = Callable[[Evidence, Tensor], InputLevelModelParts]

#: Before the gelu, so that it passes.
_PASSED = 4.0
#: Length of a row beside the longest state of text, and of one unit of evidence beside a row.
_LENGTH, _EVIDENCE = 8.0, 0.03
_NOISE = 0.01
_LONG = DIRECTIONS + 2 * AFFIXES
_LEAST_NORM = 0.05
#: Between both factors of a branch: with this, a step of training changes either by little.
_BALANCE = np.float32(30.0)
#: Tried on held-out radar: as in `direction_start.py`, questions look past the rows here.
_WANTED = Wanted(attended=20.0, strength=40.0)


@dataclass(frozen=True, eq=False)
class Questions:
    """What is asked, and of what.

    Attributes:
        tail: the blocks.
        weights: of the same blocks.
        states: head states of the questions `[texts, tokens, hidden_size]`, padded on the right.
        lengths: of each.
        asked: kind and direction of each.
        answers: tokens of yes and no.
    """

    tail: TailModel
    weights: TailWeights
    states: Tensor
    lengths: Tensor
    asked: Sequence[tuple[int, int]]
    answers: tuple[int, int]


def first_parts(
    questions: Questions,
    base_sha256: str,
    strategy: Strategy,
    evidence: Mapping[str, Evidence],
    rank: int,
    seed: int,
    ask: Ask,
) -> InputLevelModelParts:
    """Connectors and branches to begin with; with one branch a pack knows one modality.

    Args:
        questions: that will be asked.
        base_sha256: of the language model's checkpoint.
        strategy: of the branches.
        evidence: by modality, what its tokens say of the kinds.
        rank: of the branches.
        seed: of all that is drawn.
        ask: asks what the parts say, to make no evidence say neither yes nor no.

    Raises:
        ConfigError: the rank is too small for directions and kinds, or one branch shall serve
            several modalities.
    """
    kinds = 1 + max(kind for kind, _ in questions.asked)
    if rank < DIRECTIONS + kinds + 1:
        raise ConfigError(
            f"a rank of {rank} has no room for {DIRECTIONS} directions and {kinds} kinds",
            field="--lora-rank",
            remedy=f"give {DIRECTIONS + kinds + 1} or more",
        )
    if strategy == "single" and len(evidence) > 1:
        raise ConfigError(
            "one branch cannot begin with several modalities",
            field="strategy",
            remedy="use decoupled branches",
        )
    rng = np.random.default_rng(seed)
    solved = _solved(questions)
    text = first_branch(questions.weights, rank, rng)
    connectors: dict[str, Connector] = {}
    branches: dict[str, LowRankChange] = {TEXT: text}
    for modality, known in sorted(evidence.items()):
        axes = free_axes(questions, DIRECTIONS + kinds + 1, rng)
        drawn = int(rng.integers(2**31))

        def begin(
            what: Evidence,
            missing: Tensor,
            axes: Float = axes,
            drawn: int = drawn,
            modality: str = modality,
        ) -> InputLevelModelParts:
            own = np.random.default_rng(drawn)
            branch = _direction_branch(questions.weights, solved, missing, axes, rank, own)
            length = _LENGTH * float(questions.states.norm(dim=-1).max())
            connector = _connector(what, axes * np.float32(length), own)
            both = {modality: branch, TEXT: branch if strategy == "single" else text}
            return InputLevelModelParts(base_sha256, strategy, {modality: connector}, both)

        def margins(level: float, known: Evidence = known, begin: Begin = begin) -> Tensor:
            constant = Evidence(
                torch.zeros_like(known.w1),
                torch.zeros_like(known.b1),
                torch.zeros_like(known.w2),
                torch.full_like(known.b2, level),
            )
            return ask(begin(constant, torch.zeros(DIRECTIONS, kinds)))

        made = begin(known, missing_evidence(margins, questions.asked, kinds))
        connectors |= made.connectors
        branches |= made.branches
    return InputLevelModelParts(base_sha256, strategy, connectors, branches)


def first_branch(weights: TailWeights, rank: int, rng: np.random.Generator) -> LowRankChange:
    """LoRA in all projections, which changes nothing yet."""
    factors: dict[Place, tuple[Float, Float]] = {}
    for block in range(len(weights.blocks)):
        for projection in PROJECTIONS:
            inputs, outputs = projection_shape(weights.config, projection)
            a = rng.normal(0, inputs**-0.5, (inputs, rank)).astype(np.float32)
            factors[block, projection] = (a, np.zeros((rank, outputs), np.float32))
    return LowRankChange(factors)


@torch.no_grad()
def free_axes(questions: Questions, count: int, rng: np.random.Generator) -> Float:
    """Drawn directions of the stream in which text has least, orthonormal `[count, hidden_size]`.

    Args:
        questions: whose texts count.
        count: directions.
        rng: draws them.
    """
    blocks = range(len(questions.weights.blocks))
    streams = questions.tail.streams(questions.states, questions.lengths, list(blocks))
    there = torch.arange(questions.states.shape[1]) < questions.lengths[:, None]
    rows = torch.cat([stream[there] for stream in streams]).double()
    rows = rows / rows.norm(dim=1, keepdim=True)
    # Ascending: the first half is what text uses least.
    basis = torch.linalg.eigh(rows.mT @ rows).eigenvectors
    basis = basis[:, : max(count, len(basis) // 2)].numpy()
    mixed, _ = np.linalg.qr(rng.normal(size=(basis.shape[1], count)))
    return (basis @ mixed).T.astype(np.float32)


def _solved(questions: Questions) -> SolvedStart:
    """What `solve_start` solves for, for rows with rotary positions before the question's."""
    queries = last_queries(questions.tail, questions.states, questions.lengths)
    blocks, config = len(questions.weights.blocks), questions.weights.config
    asked, answers = list(questions.asked), questions.answers
    exact = solve_start(questions.tail, queries, asked, answers, blocks, _WANTED)
    # A direction's row lies at a place of its own; what all rows have is solved for all places.
    distances = range(1, _LONG + 1)
    turned = torch.cat([_turned(queries, at, questions.weights) for at in distances], 1)
    spread = solve_start(
        *(questions.tail, turned, asked * len(distances), answers, blocks, _WANTED, exact.places)
    )
    shape = (DIRECTIONS, blocks, config.num_kv_heads, config.head_dim)
    keys = [
        _turned(key, _LONG - AFFIXES - direction, questions.weights)
        for direction, key in enumerate(exact.keys.view(shape))
    ]
    return replace(
        exact, keys=torch.stack(keys).flatten(1), doubt=spread.doubt, ignored=spread.ignored
    )


def _turned(x: Tensor, places: int, weights: TailWeights) -> Tensor:
    """As rotary positions turn it that are so many places further on."""
    cos, sin = (torch.from_numpy(table)[places] for table in weights.rotary)
    low, high = x.chunk(2, -1)
    return torch.cat([low * cos - high * sin, high * cos + low * sin], -1)


def _direction_branch(
    weights: TailWeights,
    solved: SolvedStart,
    missing: Tensor,
    axes: Float,
    rank: int,
    rng: np.random.Generator,
) -> LowRankChange:
    """A branch that makes of rows along some axes the keys and values that were solved for."""
    config, blocks = weights.config, len(weights.blocks)
    size = config.num_kv_heads * config.head_dim
    nothing = torch.zeros_like(solved.ignored)[None]
    scale = 1 / _EVIDENCE
    wanted = {
        "key": torch.cat([solved.keys, scale * solved.doubt, solved.ignored[None]]),
        "value": torch.cat([missing @ solved.values, scale * solved.values, nothing]),
    }
    factors = dict(first_branch(weights, rank, rng).factors)
    first = config.num_heads * config.head_dim
    for block, content in enumerate(weights.blocks):
        # What an axis is behind the norm, and what reads it there again.
        stretch = content.attention_norm * np.float32(config.hidden_size**0.5)
        readable = np.where(np.abs(stretch) < _LEAST_NORM, _LEAST_NORM, stretch)
        normed, reader = axes * stretch, (axes / readable).T
        for at, side in enumerate(("key", "value")):
            rows = content.qkv[first + at * size :][:size]
            made = wanted[side].view(-1, blocks, size)[:, block].numpy() - normed @ rows.T
            a, b = (np.array(one) for one in factors[block, side])
            a[:, : len(axes)], b[: len(axes)] = reader * _BALANCE, made / _BALANCE
            factors[block, side] = (a, b)
    return LowRankChange(factors)


def _connector(evidence: Evidence, axes: Float, rng: np.random.Generator) -> Connector:
    """Rows of a direction's axis and of evidence along the axes of kinds.

    Args:
        evidence: what tokens say of the kinds.
        axes: of directions, kinds, and learned tokens, as long as rows shall be.
        rng: draws the rest of the first layer.
    """
    own, hidden = evidence.w1.shape[1], axes.shape[1]
    sectors, kinds, plain = axes[:DIRECTIONS], axes[DIRECTIONS:-1] * _EVIDENCE, axes[-1]
    w1 = rng.normal(0, DIRECTION_WIDTH**-0.5, (DIRECTION_WIDTH, hidden)).astype(np.float32)
    w2 = np.zeros((hidden, hidden), np.float32)
    b1 = np.zeros(hidden, np.float32)
    w1[:, :own], b1[:own] = evidence.w1.numpy(), evidence.b1.numpy()
    w2[:own] = evidence.w2.numpy() @ kinds
    w1[:, own : own + DIRECTIONS] = 0
    for direction in range(DIRECTIONS):
        w1[PRESENCE + 1 + direction, own + direction] = _PASSED
        w2[own + direction] = sectors[direction] / _PASSED
    noise = _NOISE * float(np.abs(plain).mean())
    prefix, suffix = (
        plain + rng.normal(0, noise, (AFFIXES, hidden)).astype(np.float32) for _ in range(2)
    )
    return Connector(w1, b1, w2, (evidence.b2.numpy() @ kinds).astype(np.float32), prefix, suffix)
