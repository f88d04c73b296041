"""A back end of engines, as a contestant of `parity.py`: whatever runs the graphs of a pack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..runtime.connections import Connection
from ..runtime.encoders import Encoder, Prepared
from ..runtime.head_state import HeadState
from ..runtime.kv_prefix import KvPrefix
from ..runtime.language_model import LanguageModel
from ..runtime.text_cache import TextCache
from .parity import Float, SensorTokens, TextState


class EngineContestant:
    """Engines of one pack at one tail depth."""

    def __init__(
        self,
        name: str,
        model: LanguageModel,
        encoders: Mapping[str, Encoder],
        connection: Connection,
        modality_of: Mapping[str, str],
        tail_blocks: int,
    ) -> None:
        """Compare these engines, which stay the caller's.

        Args:
            name: of the back end.
            model: the language model.
            encoders: by name.
            connection: of the pack.
            modality_of: what the connection calls a sensor's encoder.
            tail_blocks: depth of the tail.
        """
        self.name = name
        self._model, self._encoders, self._connection = model, encoders, connection
        self._modality_of, self._depth = modality_of, tail_blocks
        self._depths = sorted({tail_blocks, connection.spec.tail_blocks})
        self._lora = connection.lora(tail_blocks)

    def encode(self, encoder: str, prepared: Prepared) -> Float:
        """See `Contestant.encode`."""
        return np.asarray(self._encoders[encoder].encode([prepared])[0])

    def head(self, token_ids: NDArray[np.int64]) -> TextState:
        """See `Contestant.head`."""
        head = self._model.encode(token_ids.tolist(), self._depths)
        residual, _ = head.states[self._model.boundary(self._depth)]
        return TextState(token_ids, residual[0], head)

    def connect(self, tokens: SensorTokens, texts: Sequence[TextState]) -> list[KvPrefix]:
        """See `Contestant.connect`."""
        rows = [
            self._connection.prepare(sensor, self._modality_of[sensor], one)
            for sensor, one in tokens.items()
        ]
        made = self._connection.connect(rows, self._heads(texts), self._depth)
        if made is None:
            return []
        return [made] * len(texts) if isinstance(made, KvPrefix) else made

    def tail(self, texts: Sequence[TextState], prefixes: Sequence[KvPrefix]) -> Float:
        """See `Contestant.tail`."""
        return self._model.tail(self._heads(texts), prefixes, self._depth, self._lora).final

    def logits(self, final: Float) -> Float:
        """See `Contestant.logits`."""
        return self._model.logits(final)

    def decode(self, text: TextState, prefix: KvPrefix, tokens: int) -> list[int]:
        """See `Contestant.decode`; by the engines, not the decoder in C."""
        result = self._model.tail(self._heads([text]), [prefix], self._depth, self._lora)
        cache = TextCache(self._model, result, 0, room=tokens, native=False)
        final, chosen = result.final[:1], []
        for _ in range(tokens):
            chosen.append(int(self._model.logits(final)[0].argmax()))
            final = cache.extend(chosen[-1])
        return chosen

    def _heads(self, texts: Sequence[TextState]) -> list[HeadState]:
        return [text.engine or self.head(text.token_ids).engine for text in texts]
