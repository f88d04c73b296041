"""All blocks trained behind a connection: the architecture that ships, fine-tuned as a whole.

Text runs through all blocks with gradients, the connection reads the residual stream at the tail's
boundary, and its prefix enters the blocks behind it. Baseline of `adaptation.py`: what the tail
trains a part of is trained here with all weights of the language model, or a LoRA on all blocks.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ..runtime.adaptation.tail_model import Prefix
from ..runtime.adaptation.tail_weights import TailWeights
from .input_level_methods import PrefixMethod
from .whole_model import WholeModel


class PrefixModel(WholeModel):
    """A whole language model whose last blocks take a prefix."""

    def __init__(
        self,
        weights: TailWeights,
        embedding: NDArray[np.float32],
        method: PrefixMethod,
        tail_blocks: int,
        *,
        dtype: torch.dtype = torch.bfloat16,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        """Copy the weights; they answer as a frozen model does until they are trained.

        Args:
            weights: of all blocks.
            embedding: of tokens, `[vocab_size, hidden_size]`.
            method: of training.
            tail_blocks: blocks that the prefix enters, counted from the end.
            dtype: of products. Trained weights, norms and the residual stream stay float32.
            device: where it lies.
            seed: of the LoRA.

        Raises:
            ConfigError: these are not all blocks, or the model is not of the Llama or Qwen2 kind.
        """
        trains_all = method == "prefix-full"
        super().__init__(weights, embedding, trains_all=trains_all, dtype=dtype, device=device)
        self.method: PrefixMethod = method
        self._boundary = self.num_blocks - tail_blocks
        if not trains_all:
            self._begin_branches(torch.Generator().manual_seed(seed))

    def trained(self) -> list[nn.Parameter]:
        """What is trained: the branches, or all weights."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def head(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """The residual stream of texts at the tail's boundary.

        Args:
            ids: int64 `[batch, tokens]`, padded on the right.
            lengths: int64 `[batch]`.

        Returns:
            float32 `[batch, tokens, hidden_size]`.
        """
        rows = functional.embedding(ids, self.embedding).float()
        boundary = (self._boundary,)
        return self.streams_with_gradients(rows, lengths, boundary, self.low_rank())[0]

    def answer(self, residual: Tensor, lengths: Tensor, prefix: Prefix) -> Tensor:
        """States behind the last token of each text.

        Args:
            residual: of `head`.
            lengths: int64 `[batch]`.
            prefix: what a connection made of the sensors and of `residual`.

        Returns:
            float32 `[batch, hidden_size]`, normed: logits are products with `rows_of`.
        """
        return self(residual, lengths, prefix, self.low_rank(), self._boundary)
