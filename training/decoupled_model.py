"""Model composition as published, in torch: modality tokens as input embeddings, branches by type.

The language model is frozen. In each of its seven projections a token of modality m gets the
low-rank branch of m beside it, and a token of text the branch of text (DAMC, 2402.12750); NaiveMC
gives all of them the same. The reference that packs with prefixes are compared with; nothing that
runs on a robot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..export.input_level import AFFIXES, TEXT, Connector, InputLevelModelParts
from ..runtime.adaptation.attention import attend
from ..runtime.adaptation.tail_model import TailModel
from ..runtime.adaptation.tail_weights import Float, TailWeights
from ..runtime.errors import ConfigError
from ..runtime.low_rank import Factors, LowRankChange, Place, Projection

_MASKED = -1e30
_QKV: tuple[Projection, ...] = ("query", "key", "value")


class DecoupledModel(TailModel):
    """Blocks of a language model, with connectors in front and branches beside.

    All blocks behind an embedding, as published; or the tail alone, which modality tokens enter
    beside the text's head states.
    """

    def __init__(
        self,
        weights: TailWeights,
        embedding: Float | None,
        parts: InputLevelModelParts,
        *,
        branches: Mapping[str, LowRankChange] | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        """Copy the weights.

        Args:
            weights: of all blocks, or of the last ones; branches count from the first of these.
            embedding: of tokens, float32 `[vocab_size, hidden_size]`; None where text comes as
                states that enter the first block.
            parts: connectors and branches, to be trained or composed.
            branches: other ones than those of `parts`, e.g. of a model with folded weights.
            dtype: of products.
            device: where it lies.

        Raises:
            ConfigError: there is an embedding and these are not all blocks, or the model is not of
                the Llama or Qwen2 kind.
            PackError: a branch does not fit.
        """
        if embedding is not None and len(weights.blocks) != weights.config.num_blocks:
            raise ConfigError(
                f"{len(weights.blocks)} of {weights.config.num_blocks} blocks are there",
                field="weights",
                remedy="give all blocks, or no embedding",
            )
        super().__init__(weights, dtype, device)
        self._parts = parts
        self.embedding = None
        if embedding is not None:
            tensor = torch.tensor(embedding, device=device)
            self.embedding = nn.Parameter(tensor, requires_grad=False)
        self.connectors = nn.ParameterDict()
        for modality, connector in parts.connectors.items():
            for name, array in connector.arrays().items():
                tensor = torch.tensor(array, device=device)
                self.connectors[f"{modality}/{name}"] = nn.Parameter(tensor)
        given = parts.branches if branches is None else branches
        self.types = [TEXT, *parts.modalities]
        # A branch that several types share is one set of parameters.
        self._owner: dict[str, str] = {}
        self.branches = nn.ParameterDict()
        for name in self.types:
            branch = given[name]
            same = [one for one in self._owner.values() if given[one] is branch]
            self._owner[name] = same[0] if same else name
            if not same:
                branch.check_fits(weights.config, f"branch of {name}")
                for (block, projection), (a, b) in branch.factors.items():
                    key = f"{name}/{block}/{projection}"
                    for side, array in (("a", a), ("b", b)):
                        tensor = torch.tensor(array, device=device)
                        self.branches[f"{key}/{side}"] = nn.Parameter(tensor)

    def sequence(self, pieces: Sequence[tuple[str, Tensor]]) -> tuple[Tensor, Tensor]:
        """Embeddings and types of the tokens of one input.

        Args:
            pieces: in their order, a modality with the encoder's tokens `[tokens, width]`, or
                `text` with token ids `[tokens]`, or with states `[tokens, hidden_size]`.

        Returns:
            float32 `[tokens, hidden_size]`, and int64 `[tokens]`, places in `types`.

        Raises:
            ConfigError: a modality is not known.
        """
        rows: list[Tensor] = []
        kinds: list[Tensor] = []
        for name, content in pieces:
            if name not in self.types:
                raise ConfigError(
                    f"there is no modality '{name}'",
                    field="pieces",
                    remedy=f"use {', '.join(self.types)}",
                )
            if name == TEXT and content.ndim > 1:
                piece = content
            elif name == TEXT:
                if self.embedding is None:
                    raise ConfigError(
                        "there is no embedding for token ids",
                        field="pieces",
                        remedy="give head states, or load the embedding",
                    )
                piece = functional.embedding(content, self.embedding).float()
            else:
                part = {n: self.connectors[f"{name}/{n}"] for n in Connector.__dataclass_fields__}
                inner = functional.gelu(content @ part["w1"] + part["b1"])
                embedded = inner @ part["w2"] + part["b2"]
                piece = torch.cat([part["prefix"], embedded, part["suffix"]])
            rows.append(piece)
            kinds.append(torch.full((len(piece),), self.types.index(name), device=piece.device))
        return torch.cat(rows), torch.cat(kinds)

    def states(self, batch: Sequence[Sequence[tuple[str, Tensor]]]) -> tuple[Tensor, Tensor]:
        """Normed states behind all tokens of some inputs.

        Args:
            batch: of pieces, see `sequence`.

        Returns:
            float32 `[batch, tokens, hidden_size]`, padded on the right, and how many tokens each
            has, int64 `[batch]`. Logits are products with `rows_of`.
        """
        made = [self.sequence(pieces) for pieces in batch]
        lengths = torch.tensor([len(rows) for rows, _ in made], device=self.device)
        x = nn.utils.rnn.pad_sequence([rows for rows, _ in made], batch_first=True)
        kinds = nn.utils.rnn.pad_sequence([k for _, k in made], True, padding_value=-1)
        places = torch.arange(x.shape[1], device=self.device)
        return self._through(x, kinds, places, places <= places[:, None]), lengths

    def _through(self, x: Tensor, kinds: Tensor, places: Tensor, sees: Tensor) -> Tensor:
        """Normed states of embeddings `[batch, tokens, hidden_size]` behind all blocks.

        Args:
            x: embeddings.
            kinds: int64 `[batch, tokens]`, places in `types`, -1 for padding.
            places: for rotary positions, int64 `[tokens]` or `[batch, 1, tokens]`.
            sees: bool `[tokens, tokens]`, or one a sample `[batch, 1, tokens, tokens]`.
        """
        bias = torch.zeros(sees.shape, dtype=self.dtype, device=self.device)
        bias = bias.masked_fill(~sees, _MASKED)
        bias = bias[None, None] if bias.ndim == 2 else bias
        routes = {name: kinds == index for index, name in enumerate(self.types)}
        for index in range(self.num_blocks):
            x = self._block(x, index, routes, places, bias)
        return self._norm(x, "final_norm")

    def answers(self, batch: Sequence[Sequence[tuple[str, Tensor]]]) -> Tensor:
        """States behind the last token of each input, float32 `[batch, hidden_size]`."""
        states, lengths = self.states(batch)
        return states[torch.arange(len(lengths), device=self.device), lengths - 1]

    def answers_each(
        self,
        batch: Sequence[Sequence[tuple[str, Tensor]]],
        questions: Sequence[Sequence[Tensor]],
        *,
        side_by_side: bool = False,
    ) -> Tensor:
        """What `answers` gives for each question behind its input, which is run once.

        Args:
            batch: of pieces, see `sequence`.
            questions: for each input, token ids or states of one question or more.
            side_by_side: the rotary positions of each piece begin at 0 and questions are behind the
                longest, so that a modality's tokens lie where they lie without the others. As
                published, one piece is behind the other.

        Returns:
            float32 `[all questions, hidden_size]`, input by input.
        """
        rows: list[Tensor] = []
        kinds: list[Tensor] = []
        parts: list[Tensor] = []
        places: list[Tensor] = []
        last: list[tuple[int, int]] = []
        for number, (pieces, asked) in enumerate(zip(batch, questions, strict=True)):
            long = [self._tokens(name, content) for name, content in pieces]
            first = sum(long)
            row, kind = self.sequence([*pieces, *((TEXT, ids) for ids in asked)])
            sizes = [first, *(len(ids) for ids in asked)]
            own = torch.tensor(sizes, device=self.device)
            rows.append(row)
            kinds.append(kind)
            # Which question a token is of, 0 for the input itself.
            parts.append(torch.repeat_interleave(torch.arange(len(own), device=own.device), own))
            behind = max(long, default=0) if side_by_side else first
            before = [range(size) for size in long] if side_by_side else [range(first)]
            after = [range(behind, behind + len(ids)) for ids in asked]
            place = [at for piece in (*before, *after) for at in piece]
            places.append(torch.tensor(place, device=self.device))
            ends = torch.cumsum(own, 0)[1:] - 1
            last += [(number, int(end)) for end in ends]
        pad = nn.utils.rnn.pad_sequence
        part = pad(parts, True, padding_value=-1)
        same = (part[:, None] == part[:, :, None]) | (part[:, None] == 0)
        order = torch.arange(part.shape[1], device=self.device)
        sees = (same & (order <= order[:, None]))[:, None]
        states = self._through(
            *(pad(rows, True), pad(kinds, True, padding_value=-1), pad(places, True)[:, None], sees)
        )
        inputs, ends = (torch.tensor(side, device=self.device) for side in zip(*last, strict=True))
        return states[inputs, ends]

    def _tokens(self, name: str, content: Tensor) -> int:
        """How many tokens a piece becomes."""
        return len(content) + (0 if name == TEXT else 2 * AFFIXES)

    def trained_parts(self) -> InputLevelModelParts:
        """Connectors and branches as they are now."""
        connectors = {
            modality: Connector(
                **{
                    name: self.connectors[f"{modality}/{name}"].detach().cpu().numpy().copy()
                    for name in Connector.__dataclass_fields__
                }
            )
            for modality in self._parts.modalities
        }
        own = {name: self._change(name) for name in set(self._owner.values())}
        branches = {name: own[self._owner[name]] for name in self.types}
        parts = self._parts
        return InputLevelModelParts(parts.base_sha256, parts.strategy, connectors, branches)

    def _change(self, name: str) -> LowRankChange:
        factors: dict[Place, Factors] = {}
        for index in range(self.num_blocks):
            for projection in (*_QKV, "output", "gate", "up", "down"):
                key = f"{name}/{index}/{projection}"
                if f"{key}/a" in self.branches:
                    a, b = (self.branches[f"{key}/{side}"].detach().cpu() for side in ("a", "b"))
                    factors[index, projection] = (a.numpy().copy(), b.numpy().copy())
        return LowRankChange(factors)

    def _block(
        self,
        x: Tensor,
        index: int,
        routes: Mapping[str, Tensor],
        places: Tensor,
        bias: Tensor,
    ) -> Tensor:
        config = self.config
        normed = self._norm(x, f"attention_norm{index}").to(self.dtype)
        packed = functional.linear(
            normed, self._parameter("qkv", index), self._parameter("qkv_bias", index)
        )
        packed = packed + self._beside(normed, packed, index, _QKV, routes)
        sizes = [config.num_heads * config.head_dim, *[config.num_kv_heads * config.head_dim] * 2]
        query, key, value = packed.split(sizes, -1)
        query = self._rotate(self._heads(query, config.num_heads), places)
        key = self._rotate(self._heads(key, config.num_kv_heads), places)
        value = self._heads(value, config.num_kv_heads)
        attended = attend(query, key, value, bias).transpose(1, 2).flatten(2)
        out = functional.linear(attended, self._parameter("output", index))
        x = x + (out + self._beside(attended, out, index, ("output",), routes)).float()
        normed = self._norm(x, f"ffn_norm{index}").to(self.dtype)
        opened = functional.linear(normed, self._parameter("ffn_in", index))
        opened = opened + self._beside(normed, opened, index, ("gate", "up"), routes)
        gate, up = opened.chunk(2, -1)
        inner = functional.silu(gate) * up
        closed = functional.linear(inner, self._parameter("ffn_out", index))
        return x + (closed + self._beside(inner, closed, index, ("down",), routes)).float()

    def _heads(self, x: Tensor, heads: int) -> Tensor:
        return x.unflatten(-1, (heads, self.config.head_dim)).transpose(1, 2)

    def _beside(
        self,
        x: Tensor,
        like: Tensor,
        index: int,
        projections: Sequence[Projection],
        routes: Mapping[str, Tensor],
    ) -> Tensor:
        """What the branches add to projections that lie side by side in one matrix."""
        added = torch.zeros_like(like)
        width = like.shape[-1] // len(projections)
        for name, here in routes.items():
            rows, parts = x[here], []
            for projection in projections:
                key = f"{self._owner[name]}/{index}/{projection}"
                if f"{key}/a" in self.branches:
                    a, b = (self.branches[f"{key}/{side}"].to(self.dtype) for side in ("a", "b"))
                    parts.append(rows @ a @ b)
                else:
                    parts.append(rows.new_zeros(len(rows), self._outputs(projection, width)))
            added[here] = torch.cat(parts, -1)
        return added

    def _outputs(self, projection: Projection, width: int) -> int:
        heads = {"query": self.config.num_heads, "key": 0, "value": 0}
        if projection not in heads:
            return width
        return (heads[projection] or self.config.num_kv_heads) * self.config.head_dim
