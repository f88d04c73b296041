"""The language model and the connection in torch, as a contestant of `parity.py`.

Independent of all graphs: float32 weights straight from the checkpoint, no quantisation, no cache.
Encoders are left out; their torch modules are in `training/`, and tests compare their graphs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ..runtime.adaptation.connection_model import ConnectionModel
from ..runtime.adaptation.tail_model import Prefix, TailModel
from ..runtime.encoders import Prepared
from ..runtime.kv_prefix import KvPrefix
from ..runtime.pack import Pack
from .checkpoint import Checkpoint
from .parity import Float, SensorTokens, TextState
from .tail_weights import tail_weights


class TorchContestant:
    """All blocks of the checkpoint and the connection of a pack, in float32."""

    def __init__(self, pack: Pack, checkpoint: Checkpoint, tail_blocks: int) -> None:
        """Copy the weights.

        Args:
            pack: whose connection is compared.
            checkpoint: of the language model.
            tail_blocks: depth of the tail.

        Raises:
            ConfigError: the model is of another kind than Llama or Qwen2.
        """
        self.name = "torch"
        config, manifest = checkpoint.config, pack.manifest
        self._config = config
        self._model = TailModel(tail_weights(checkpoint, config.num_blocks), torch.float32)
        self._embedding = checkpoint.embedding().dense()
        self._vocabulary = torch.from_numpy(checkpoint.head().dense())
        self._boundary = config.num_blocks - tail_blocks
        self._deepest = config.num_blocks - manifest.connection.tail_blocks
        self._depth = tail_blocks
        self._connection = ConnectionModel(
            manifest.connection,
            config,
            {name: (spec.tokens, spec.width) for name, spec in manifest.encoders.items()},
            manifest.sensor_encoders,
            pack.connection_weights,
        )

    def encode(self, encoder: str, prepared: Prepared) -> Float:
        """Not here."""
        raise NotImplementedError

    @torch.no_grad()
    def head(self, token_ids: NDArray[np.int64]) -> TextState:
        """See `Contestant.head`."""
        (stream,) = self._streams(token_ids, [self._boundary])
        return TextState(token_ids, stream.numpy()[0])

    def _streams(self, token_ids: NDArray[np.int64], blocks: list[int]) -> list[torch.Tensor]:
        rows = torch.from_numpy(self._embedding[token_ids].astype(np.float32))[None]
        return self._model.streams(rows, torch.tensor([len(token_ids)]), blocks)

    @torch.no_grad()
    def connect(self, tokens: SensorTokens, texts: Sequence[TextState]) -> list[KvPrefix]:
        """See `Contestant.connect`."""
        blocks = tuple(range(self._boundary, self._config.num_blocks))
        # Rows of zeros at the end are no tokens.
        given = {
            sensor: torch.from_numpy(one[: int(one.any(axis=1).sum())])[None]
            for sensor, one in tokens.items()
        }
        made: list[KvPrefix] = []
        for text in texts:
            (states,) = self._streams(text.token_ids, [self._deepest])
            prefix, _ = self._connection(given, states, torch.tensor([states.shape[1]]))
            keys, values = (
                side[0].expand(self._connection.spec.tail_blocks, *side.shape[2:])
                for side in (prefix.keys, prefix.values)
            )
            last = (side[-self._depth :].contiguous().numpy() for side in (keys, values))
            made.append(KvPrefix(blocks, *last))
        return made

    @torch.no_grad()
    def tail(self, texts: Sequence[TextState], prefixes: Sequence[KvPrefix]) -> Float:
        """See `Contestant.tail`."""
        return np.concatenate(
            [
                self._behind(torch.from_numpy(text.residual)[None], prefix).numpy()
                for text, prefix in zip(texts, prefixes, strict=True)
            ]
        )

    def _behind(self, residual: torch.Tensor, prefix: KvPrefix) -> torch.Tensor:
        given = Prefix(
            torch.from_numpy(np.ascontiguousarray(prefix.keys))[None],
            torch.from_numpy(np.ascontiguousarray(prefix.values))[None],
            torch.ones((1, prefix.rows), dtype=torch.bool),
        )
        lengths = torch.tensor([residual.shape[1]])
        branches = self._connection.low_rank()
        if branches is not None:
            # Counted from the front of the connection's tail; here from that of the model.
            branches = {(self._deepest + block, side): ab for (block, side), ab in branches.items()}
        return self._model(residual, lengths, given, branches, self._boundary)

    @torch.no_grad()
    def logits(self, final: Float) -> Float:
        """See `Contestant.logits`."""
        return (torch.from_numpy(final) @ self._vocabulary.T).numpy()

    @torch.no_grad()
    def decode(self, text: TextState, prefix: KvPrefix, tokens: int) -> list[int]:
        """See `Contestant.decode`; every token runs the whole text again."""
        ids, chosen = list(text.token_ids), []
        for _ in range(tokens):
            (residual,) = self._streams(np.asarray(ids), [self._boundary])
            logits = self.logits(self._behind(residual, prefix).numpy())
            chosen.append(int(logits[0].argmax()))
            ids.append(chosen[-1])
        return chosen
