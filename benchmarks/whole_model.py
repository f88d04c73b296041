"""All blocks of a language model in torch, to be trained with all weights or with a LoRA.

What baselines of `adaptation.py` have in common; where sensors enter is theirs to say.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..runtime.adaptation.tail_model import LowRank, TailModel
from ..runtime.adaptation.tail_weights import TailWeights
from ..runtime.errors import ConfigError
from .input_level_methods import LORA_ALPHA, LORA_RANK


class WholeModel(TailModel):
    """A tail of all blocks, with the embedding of its tokens."""

    def __init__(
        self,
        weights: TailWeights,
        embedding: NDArray[np.float32],
        *,
        trains_all: bool,
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> None:
        """Copy the weights.

        Args:
            weights: of all blocks.
            embedding: of tokens, `[vocab_size, hidden_size]`.
            trains_all: whether all weights are trained; they are float32 then, and rounded for
                each product.
            dtype: of products. Norms and the residual stream stay float32.
            device: where it lies.

        Raises:
            ConfigError: these are not all blocks, or the model is not of the Llama or Qwen2 kind.
        """
        if len(weights.blocks) != weights.config.num_blocks:
            raise ConfigError(
                f"{len(weights.blocks)} of {weights.config.num_blocks} blocks are there",
                field="weights",
                remedy="give all blocks",
            )
        super().__init__(weights, torch.float32 if trains_all else dtype, device)
        self.dtype = dtype
        self._tied = np.array_equal(embedding, weights.vocabulary)
        self.embedding = nn.Parameter(torch.tensor(embedding, device=device), requires_grad=False)
        if not self._tied:
            rows = torch.tensor(weights.vocabulary, dtype=torch.float32, device=device)
            self.unembedding = nn.Parameter(rows, requires_grad=False)
        if trains_all:
            for parameter in self.parameters():
                parameter.requires_grad_(True)
        self.branches = nn.ParameterDict()

    def rows_of(self, token_ids: Sequence[int]) -> Tensor:
        """Output embeddings of a few tokens, `[len(token_ids), hidden_size]`, trained with all."""
        rows = self.embedding if self._tied else self.unembedding
        return rows[torch.as_tensor(list(token_ids), device=self.device)]

    def low_rank(self) -> LowRank | None:
        """The branches of all blocks, None without any."""
        if not self.branches:
            return None
        scale = LORA_ALPHA / LORA_RANK
        return {
            (index, side): (
                self.branches[f"{index}/{side}/a"],
                scale * self.branches[f"{index}/{side}/b"],
            )
            for index in range(self.num_blocks)
            for side in ("key", "value")
        }

    def _begin_branches(self, rng: torch.Generator) -> None:
        """A LoRA on keys and values of all blocks that changes nothing yet."""
        hidden, config = self.config.hidden_size, self.config
        out = config.num_kv_heads * config.head_dim
        for index in range(self.num_blocks):
            for side in ("key", "value"):
                a = hidden**-0.5 * torch.randn(hidden, LORA_RANK, generator=rng)
                zeros = torch.zeros(LORA_RANK, out, device=self.device)
                self.branches[f"{index}/{side}/a"] = nn.Parameter(a.to(self.device))
                self.branches[f"{index}/{side}/b"] = nn.Parameter(zeros)

    def _parameter(self, name: str, index: int) -> Tensor:
        # Trained weights are float32 and rounded for each product.
        found = getattr(self, f"{name}{index}")
        return None if found is None else found.to(self.dtype)  # pyright: ignore[reportReturnType]
