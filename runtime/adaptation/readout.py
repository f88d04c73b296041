"""Keys and values in closed form: what the summary row knows becomes the tail's answer at once.

While only the summary row is trained, a linear layer of training reads the answer off it. Here that
layer is moved into the connection: the last block attends to the summary row, whose value adds to
the residual stream what makes the right tokens likely. Gradients start from there instead of
having to find out how the frozen tail is spoken to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .connection_model import ConnectionModel
from .tail_model import TailModel

#: Attention logits of the summary row in the last block, and of rows that shall be left alone.
_ATTENDED, _IGNORED = 8.0, -8.0
#: Gates (before the sigmoid): open, and closed.
OPEN_GATE, _SHUT = 4.0, -8.0
_GATE = 1 / (1 + math.exp(-OPEN_GATE))
_RIDGE = 1e-4
#: Of the answer against what the language model says by itself; training goes on from there.
_STRENGTH = 40.0

#: Beginnings of the names of the weights that this is about.
READOUT = ("key.", "value.", "gate.")


@torch.no_grad()
def token_scores(heads: Tensor, choices: Sequence[Sequence[int]]) -> tuple[list[int], Tensor]:
    """One score layer over all tokens that are ever allowed.

    Sets of allowed tokens may share tokens and still score them differently: only differences
    within a set count, so a token keeps its scores of the first set that has it, and those of the
    others are shifted to fit.

    Args:
        heads: `[sets, width, most tokens]`, the linear layers of training.
        choices: allowed tokens of each set.

    Returns:
        The tokens, and `[width, tokens]`.
    """
    tokens: list[int] = []
    columns: list[Tensor] = []
    for number, allowed in enumerate(choices):
        own = heads[number, :, : len(allowed)]
        shared = [place for place, token in enumerate(allowed) if token in tokens]
        shift = torch.zeros(heads.shape[1], device=heads.device)
        if shared:
            known = torch.stack([columns[tokens.index(allowed[place])] for place in shared], 1)
            shift = (known - own[:, shared]).mean(1)
        for place, token in enumerate(allowed):
            if token not in tokens:
                tokens.append(token)
                columns.append(own[:, place] + shift)
    return tokens, torch.stack(columns, 1)


@torch.no_grad()
def ignored_key(query: Tensor, kv_heads: int) -> Tensor:
    """The key of a row that a block shall leave alone, behind an open gate.

    Args:
        query: `[heads, head_dim]`, the mean query of last tokens.
        kv_heads: of the language model.

    Returns:
        `[kv_heads, head_dim]`.
    """
    return _key_for(query, kv_heads, _IGNORED)


def _key_for(query: Tensor, kv_heads: int, logit: float) -> Tensor:
    """The shortest key that a query meets with this attention logit."""
    mean = query.view(kv_heads, -1, query.shape[-1]).mean(1)
    length = (mean * mean).sum(-1, keepdim=True)
    return logit * query.shape[-1] ** 0.5 * mean / length / _GATE


@torch.no_grad()
def write_readout(
    model: ConnectionModel,
    tail: TailModel,
    tokens: Sequence[int],
    scores: Tensor,
    queries: Sequence[Tensor],
    strength: float = _STRENGTH,
) -> None:
    """Set keys, values and gates so that the last block reads the summary row.

    The value is the smallest addition to the residual stream (least squares) whose products with
    the tokens' output embeddings are `strength` times the scores.

    Args:
        model: of the conditioned kind; its `key.*`, `value.*` and gates are overwritten.
        tail: as deep as the connection.
        tokens: see `token_scores`.
        scores: `[width, tokens]`.
        queries: by block `[heads, head_dim]`, the mean query of last tokens.
        strength: of the answer against what the language model says by itself.
    """
    config = tail.config
    kv_heads, size = config.num_kv_heads, config.head_dim
    groups = config.num_heads // kv_heads
    blocks = model.spec.tail_blocks
    for name in ("key.w", "key.b", "value.w", "value.b"):
        model[name].zero_()
    keys = model["key.b"].view(blocks, kv_heads, size)
    for block, query in enumerate(queries):
        keys[block] = _key_for(query, kv_heads, _ATTENDED if block == blocks - 1 else _IGNORED)
    for name in model.gate_names():
        model[name].fill_(OPEN_GATE)
        if name != "gate.summary":
            model[name][-1] = _SHUT
    output = tail.output_projection(blocks - 1).float()
    spoken = output.view(-1, kv_heads, groups, size).sum(2).flatten(1)
    into_logits = tail.rows_of(tokens) * tail.final_scale() @ spoken
    effort = spoken.mT @ spoken
    effort += _RIDGE * effort.diagonal().mean() * torch.eye(len(effort), device=effort.device)
    cheapest = torch.linalg.solve(effort, into_logits.mT)
    ridge = _RIDGE * torch.eye(len(tokens), device=scores.device)
    value = cheapest @ torch.linalg.solve(into_logits @ cheapest + ridge, strength * scores.mT)
    values = model["value.w"].view(-1, blocks, kv_heads * size)
    values[:, -1] = value.mT / _GATE
