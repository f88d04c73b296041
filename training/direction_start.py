"""A first connection for direction tokens, without the tail: evidence is learned, keys are solved.

A frozen tail asks with queries that nobody taught it to ask, and finding by gradients which keys
answer them takes tens of thousands of samples. Where all questions are known beforehand (one a
kind and direction), their last tokens' queries are too, so keys can be solved for: a few heads for
each kind, whose keys let a question about a direction attend to that direction's token and to no
other. What tokens say of the kinds is learned by a small network of the aligners' own shape, which
takes seconds, and becomes values that lead to the words yes and no. A token that says no draws
more attention than one that says yes, since what several inputs have in common holds in each of
them. Training through the tail goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ..kernels.direction_tokens import DIRECTION_WIDTH, DIRECTIONS, PRESENCE
from ..runtime.adaptation.connection_model import ConnectionModel
from ..runtime.adaptation.tail_model import TailModel

#: Attention logits wanted of the token that a question is about, and of all others.
_ATTENDED, _IGNORED = 9.0, -6.0
#: What one unit of evidence takes off them: of several inputs, the one that says no is heard.
_DOUBT = 0.4
_RIDGE = 1e-3
#: Heads that look for the tokens of one kind.
_PLACES = 3
#: Before the gelu, so that it passes: gelu(4) is 3.9999.
_PASSED = 4.0
_GATE_BEFORE, _GATE = 4.0, 0.98201379
#: See `Wanted`.
_STRENGTH = 12.0
#: Logits that evidence of one adds at least, and the most evidence that a question is given.
_LEAST_GAIN, _MOST = 0.2, 6.0
_STEPS, _ROWS, _RATE, _DECAY = 400, 512, 3e-3, 1e-2


@dataclass(frozen=True, eq=False)
class Evidence:
    """A network of one hidden layer (gelu): from a direction token to each kind's log odds.

    Attributes:
        w1: `[64, hidden]`.
        b1: `[hidden]`.
        w2: `[hidden, kinds]`.
        b2: `[kinds]`.
    """

    w1: Tensor
    b1: Tensor
    w2: Tensor
    b2: Tensor

    def __call__(self, rows: Tensor) -> Tensor:
        """Log odds `[..., kinds]` of rows `[..., 64]`."""
        return functional.gelu(rows @ self.w1 + self.b1) @ self.w2 + self.b2


def learn_evidence(
    tokens: Sequence[NDArray[np.floating]], facts: NDArray[np.int8], hidden: int, seed: int
) -> Evidence:
    """Learn what rows say of their own direction; yes and no count equally.

    Args:
        tokens: of each sensor, `[views, 6, 64]`; rows of zeros are none.
        facts: `[views, kinds, 6]`: 1 holds, 0 does not, -1 is open.
        hidden: of the network.
        seed: of its first weights and of the order.
    """
    rows, wanted = _rows_with_facts(tokens, facts)
    kinds = wanted.shape[1]
    generator = torch.Generator().manual_seed(seed)
    parameters = [
        (torch.randn(shape, generator=generator) * scale).requires_grad_()
        for shape, scale in (
            ((DIRECTION_WIDTH, hidden), DIRECTION_WIDTH**-0.5),
            ((hidden,), 0.0),
            ((hidden, kinds), hidden**-0.5),
            ((kinds,), 0.0),
        )
    ]
    network = Evidence(*parameters)
    known = wanted >= 0
    share = ((wanted == 1).sum(0) / known.sum(0).clamp(min=1)).clamp(0.01, 0.99)
    weight = torch.where(wanted == 1, 0.5 / share, 0.5 / (1 - share)) * known
    optimizer = torch.optim.AdamW(parameters, lr=_RATE, weight_decay=_DECAY)
    for step in range(_STEPS):
        chosen = torch.randint(len(rows), (min(_ROWS, len(rows)),), generator=generator)
        loss = functional.binary_cross_entropy_with_logits(
            network(rows[chosen]), wanted[chosen].clamp(min=0), weight[chosen]
        )
        optimizer.param_groups[0]["lr"] = _RATE * (1 - step / _STEPS)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return Evidence(*(one.detach() for one in parameters))


def _rows_with_facts(
    tokens: Sequence[NDArray[np.floating]], facts: NDArray[np.int8]
) -> tuple[Tensor, Tensor]:
    """Rows that are there `[rows, 64]`, and what holds in their direction `[rows, kinds]`."""
    found: list[NDArray[np.float32]] = []
    held: list[NDArray[np.float32]] = []
    for sensor in tokens:
        view, place = np.nonzero(sensor.any(axis=-1))
        rows = sensor[view, place].astype(np.float32)
        found.append(rows)
        held.append(facts[view, :, rows[:, PRESENCE + 1 :].argmax(axis=1)].astype(np.float32))
    return torch.from_numpy(np.concatenate(found)), torch.from_numpy(np.concatenate(held))


@dataclass(frozen=True)
class KeyPlace:
    """A head in which the questions about one kind find their tokens.

    Attributes:
        kind: its number.
        block: of the tail.
        head: of its keys and values.
        error: mean square of what the attention logits miss, over all questions and directions.
    """

    kind: int
    block: int
    head: int
    error: float


@torch.no_grad()
def write_direction_start(
    model: ConnectionModel,
    tail: TailModel,
    modality: str,
    texts: tuple[Tensor, Tensor],
    asked: Sequence[tuple[int, int]],
    answers: tuple[int, int],
    evidence: Evidence,
) -> list[KeyPlace]:
    """Set the aligners and gates of a modality.

    Args:
        model: of the plain kind with keys and values per block; its aligners are overwritten.
        tail: as deep as the connection.
        modality: whose tokens are direction tokens.
        texts: head states of the questions `[texts, tokens, hidden_size]`, and their lengths.
        asked: kind and direction of each question.
        answers: the tokens of yes and no.
        evidence: what the tokens say; its hidden layer leaves one unit a direction free.

    Returns:
        Where keys are.
    """
    solved = solve_start(tail, last_queries(tail, *texts), asked, answers, model.spec.tail_blocks)
    keys, values, doubt = (side / _GATE for side in (solved.keys, solved.values, solved.doubt))
    _write(model, modality, keys, values, doubt, evidence)
    _calibrate(model, tail, modality, texts, asked, answers, values)
    return solved.places


@dataclass(frozen=True)
class Wanted:
    """What is solved for.

    Attributes:
        attended: attention logit of the token that a question is about.
        strength: of yes against no for evidence of one, before the last norm divides by the length
            of the stream.
    """

    attended: float = _ATTENDED
    strength: float = _STRENGTH


@dataclass(frozen=True, eq=False)
class SolvedStart:
    """Keys and values of all blocks, side by side: `[..., blocks * kv_heads * head_dim]`.

    Attributes:
        places: where keys are.
        keys: of the token of each direction.
        doubt: by kind, what one unit of evidence adds to a key.
        values: by kind, what one unit of evidence is.
        ignored: the key of a token that nothing looks at.
    """

    places: list[KeyPlace]
    keys: Tensor
    doubt: Tensor
    values: Tensor
    ignored: Tensor


def solve_start(
    tail: TailModel,
    queries: Tensor,
    asked: Sequence[tuple[int, int]],
    answers: tuple[int, int],
    blocks: int,
    wish: Wanted = Wanted(),
    places: list[KeyPlace] | None = None,
) -> SolvedStart:
    """Solve for keys that questions find, and for values that lead to yes.

    Args:
        tail: that asks.
        queries: `[blocks, texts, kv_heads, groups, head_dim]`, see `last_queries`.
        asked: kind and direction of each text.
        answers: the tokens of yes and no.
        blocks: of the tail.
        wish: what is solved for.
        places: where keys shall be, None for where they can best be solved for.
    """
    config = tail.config
    heads, size = config.num_kv_heads, config.head_dim
    groups = config.num_heads // heads
    places = places or key_places(queries, asked)
    keys = torch.zeros(DIRECTIONS, blocks, heads, size)
    ignored = torch.zeros(blocks, heads, size)
    values = torch.zeros(1 + max(one.kind for one in places), blocks, heads, size)
    doubt = torch.zeros_like(values)
    count = len(places) / len(values)
    wanted = tail.rows_of(answers) * tail.final_scale()
    taken = {(one.block, one.head): one.kind for one in places}
    for block in range(blocks):
        output = tail.output_projection(block).float().view(-1, heads, groups, size)
        for head in range(heads):
            kind = taken.get((block, head))
            # Where nothing is to be found, nothing is to be looked at.
            keys[:, block, head] = _solved(queries[block, :, head], asked, kind, wish.attended)[1]
            ignored[block, head] = _solved(queries[block, :, head], asked, None)[1][0]
            if kind is not None:
                of_kind = [float(one == kind) for one, _ in asked]
                solved = _keys(queries[block, :, head], torch.tensor(of_kind)[:, None])
                doubt[kind, block, head] = -_DOUBT * solved[0]
                toward = (wanted[0] - wanted[1]) @ output[:, head].sum(1)
                values[kind, block, head] = wish.strength / count * toward / (toward @ toward)
    return SolvedStart(
        *(places, keys.flatten(1), doubt.flatten(1), values.flatten(1), ignored.flatten())
    )


def _calibrate(
    model: ConnectionModel,
    tail: TailModel,
    modality: str,
    texts: tuple[Tensor, Tensor],
    asked: Sequence[tuple[int, int]],
    answers: tuple[int, int],
    values: Tensor,
) -> None:
    """Have no evidence say neither yes nor no, whatever the language model likes to say.

    What each question says without evidence, and what one more of it changes, is tried; what is
    missing becomes part of the values, by direction and kind.
    """
    rows = torch.zeros(1, DIRECTIONS, DIRECTION_WIDTH)
    rows[0, :, PRESENCE] = 1
    rows[0, :, PRESENCE + 1 :] = torch.eye(DIRECTIONS)
    tokens = rows.expand(len(asked), -1, -1)
    name = next(one for one in model.sensors if model.sensors[one] == modality)
    first, second = model[f"{modality}.value.w1"], model[f"{modality}.value.w2"]
    kept, bias = second.clone(), model[f"{modality}.value.b2"].clone()
    said = tail.rows_of(answers)

    def margins(level: float) -> Tensor:
        second.zero_()
        model[f"{modality}.value.b2"].copy_(level * values.sum(0))
        prefix, _ = model({name: tokens}, *texts)
        scores = tail(*texts, prefix) @ said.T
        return scores[:, 0] - scores[:, 1]

    missing = missing_evidence(margins, asked, len(values))
    second.copy_(kept)
    model[f"{modality}.value.b2"].copy_(bias)
    # The last hidden units pass the direction on, as the first ones of the keys do.
    for direction in range(DIRECTIONS):
        first[PRESENCE + 1 + direction, direction - DIRECTIONS] = _PASSED
    second[-DIRECTIONS:] = missing @ values / _PASSED


def missing_evidence(
    margins: Callable[[float], Tensor], asked: Sequence[tuple[int, int]], kinds: int
) -> Tensor:
    """Evidence by direction and kind `[6, kinds]` that makes what is said without any neutral.

    Args:
        margins: of yes above no for all questions, with so much evidence for everything.
        asked: kind and direction of each question.
        kinds: that there are.
    """
    below, above = margins(-1.0), margins(1.0)
    neutral, gain = margins(0.0), (above - below) / 2
    missing = torch.zeros(DIRECTIONS, kinds)
    for number, (kind, direction) in enumerate(asked):
        missing[direction, kind] = -neutral[number] / gain[number].clamp(min=_LEAST_GAIN)
    return missing.clamp(-_MOST, _MOST)


def key_places(queries: Tensor, asked: Sequence[tuple[int, int]]) -> list[KeyPlace]:
    """Heads for each kind, those first where keys miss least; each kind gets as many.

    Args:
        queries: `[blocks, texts, kv_heads, groups, head_dim]`.
        asked: kind and direction of each text.
    """
    kinds = sorted({kind for kind, _ in asked})
    blocks, _, heads = queries.shape[:3]
    tried = [
        KeyPlace(kind, block, head, _solved(queries[block, :, head], asked, kind)[0])
        for kind in kinds
        for block in range(blocks)
        for head in range(heads)
    ]
    most = min(_PLACES, blocks * heads // len(kinds))
    found: list[KeyPlace] = []
    for one in sorted(tried, key=lambda place: place.error):
        is_taken = any((other.block, other.head) == (one.block, one.head) for other in found)
        if not is_taken and sum(other.kind == one.kind for other in found) < most:
            found.append(one)
    return sorted(found, key=lambda place: (place.kind, place.block, place.head))


@torch.no_grad()
def last_queries(tail: TailModel, residual: Tensor, lengths: Tensor) -> Tensor:
    """Of the last token of each text, `[blocks, texts, kv_heads, groups, head_dim]`."""
    config = tail.config
    found: list[Tensor] = []
    for at in range(len(residual)):
        length = lengths[at : at + 1]
        by_block = tail.mean_queries(residual[at : at + 1, : int(length)], length)
        found.append(torch.stack(by_block))
    return torch.stack(found, 1).unflatten(2, (config.num_kv_heads, -1))


def _solved(
    queries: Tensor,
    asked: Sequence[tuple[int, int]],
    kind: int | None,
    attended: float = _ATTENDED,
) -> tuple[float, Tensor]:
    """Keys of all directions `[directions, head_dim]` for one head, and what they miss.

    Args:
        queries: `[texts, groups, head_dim]`.
        asked: kind and direction of each text.
        kind: whose questions shall attend, None for none.
        attended: logit wanted of those that attend.
    """
    wanted = torch.full((len(queries), DIRECTIONS), _IGNORED)
    for text, (of, direction) in enumerate(asked):
        if of == kind:
            wanted[text, direction] = attended
    keys = _keys(queries, wanted)
    missed = _logits(queries) @ keys.mT - wanted[:, None]
    return float(missed.square().mean()), keys


def _keys(queries: Tensor, wanted: Tensor) -> Tensor:
    """Keys `[keys, head_dim]` whose attention logits are as near to these as can be.

    Args:
        queries: `[texts, groups, head_dim]`.
        wanted: logits of each text, `[texts, keys]`.
    """
    rows, target = _logits(queries).flatten(0, 1), wanted.repeat_interleave(queries.shape[1], 0)
    square = rows.mT @ rows
    square += _RIDGE * square.diagonal().mean() * torch.eye(rows.shape[1])
    return torch.linalg.solve(square, rows.mT @ target).mT


def _logits(queries: Tensor) -> Tensor:
    """Queries as attention multiplies keys with them."""
    return queries * queries.shape[-1] ** -0.5


def _write(
    model: ConnectionModel,
    modality: str,
    keys: Tensor,
    values: Tensor,
    doubt: Tensor,
    evidence: Evidence,
) -> None:
    """Put keys behind the columns of direction, and values and doubt behind what rows say."""
    for side in ("key", "value"):
        for part in ("w1", "b1", "w2", "b2"):
            model[f"{modality}.{side}.{part}"].zero_()
    # A hidden unit a direction, and those of the evidence.
    first, own = model[f"{modality}.key.w1"], evidence.w1.shape[1]
    first[:, DIRECTIONS : DIRECTIONS + own] = evidence.w1
    for direction in range(DIRECTIONS):
        first[PRESENCE + 1 + direction, direction] = _PASSED
    model[f"{modality}.key.b1"][DIRECTIONS : DIRECTIONS + own] = evidence.b1
    model[f"{modality}.key.w2"][:DIRECTIONS] = keys / _PASSED
    model[f"{modality}.key.w2"][DIRECTIONS : DIRECTIONS + own] = evidence.w2 @ doubt
    model[f"{modality}.key.b2"].copy_(evidence.b2 @ doubt)
    model[f"{modality}.value.w1"][:, :own] = evidence.w1
    model[f"{modality}.value.b1"][:own] = evidence.b1
    model[f"{modality}.value.w2"][:own] = evidence.w2 @ values
    model[f"{modality}.value.b2"].copy_(evidence.b2 @ values)
    model[f"gate.{modality}"].fill_(_GATE_BEFORE)
