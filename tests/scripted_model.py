"""A language model with a script, for tests of decoding; made of numpy weights alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel

from tailwire.export.llm_graphs import build_language_model
from tailwire.export.weights import Block, DenseMatrix, Linear, Matrix, Norm
from tailwire.runtime.backends.onnxruntime_cpu import OnnxRuntimeEngine
from tailwire.runtime.language_model import LanguageModel
from tailwire.runtime.model_config import LanguageModelConfig

Float = NDArray[np.float32]


class ScriptedCheckpoint:
    """A language model that says a given text, whatever it is asked and sees.

    Blocks add nothing and embeddings are zero, so the state at a position is the learned position
    alone; each is the output row of the token that is to come next.
    """

    SIZE = 64
    BLOCKS = 2
    #: Rather the second than the first token, so that an end in position 0 is no accident.
    END = 1

    def __init__(self, script: Mapping[int, int], *, positions: int = 128) -> None:
        """Take the script.

        Args:
            script: by position, the token that follows; elsewhere the text ends.
            positions: longest text.
        """
        self._vocabulary = _byte_tokens()
        size = self.SIZE
        rng = np.random.default_rng(5)
        rows = rng.normal(size=(len(self._vocabulary), size))
        rows -= rows.mean(axis=1, keepdims=True)
        self._rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        self._positions = self._rows[[script.get(p, self.END) for p in range(positions)]]
        self.config = LanguageModelConfig(
            architecture="opt",
            num_blocks=self.BLOCKS,
            hidden_size=size,
            embedding_size=size,
            num_heads=4,
            num_kv_heads=4,
            head_dim=size // 4,
            ffn_size=size,
            vocab_size=len(self._vocabulary),
            max_positions=positions,
            norm_eps=1e-5,
            position="learned",
            norm="layer",
            activation="relu",
            eos_token_ids=(self.END,),
        )

    def embedding(self) -> Matrix:
        return DenseMatrix(np.zeros_like(self._rows))

    def positions(self) -> Float:
        return self._positions

    def embedding_norm(self) -> None:
        return None

    def project_in(self) -> None:
        return None

    def project_out(self) -> None:
        return None

    def block(self, index: int) -> Block:
        size = self.SIZE
        rng = np.random.default_rng(index)
        norm = Norm(np.ones(size, np.float32), np.zeros(size, np.float32))
        some = DenseMatrix(rng.normal(0, 0.1, (3 * size, size)).astype(np.float32))
        none = Linear(DenseMatrix(np.zeros((size, size), np.float32)))
        return Block(norm, Linear(some), none, norm, none, none)

    def final_norm(self) -> Norm:
        # Times 20, so that the scripted token is all but certain.
        return Norm(np.full(self.SIZE, 20.0, np.float32), np.zeros(self.SIZE, np.float32))

    def head(self) -> Matrix:
        return DenseMatrix(self._rows)

    def tokenizer_json(self) -> str:
        """One token per byte, as byte-level tokenizers have them before any merge."""
        level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
        return json.dumps(
            {
                "version": "1.0",
                "added_tokens": [
                    {
                        "id": index,
                        "content": token,
                        "single_word": False,
                        "lstrip": False,
                        "rstrip": False,
                        "normalized": False,
                        "special": True,
                    }
                    for index, token in enumerate(_SPECIAL)
                ],
                "pre_tokenizer": {**level, "use_regex": False},
                "decoder": {**level, "use_regex": False},
                "model": {"type": "BPE", "vocab": self._vocabulary, "merges": []},
            }
        )

    def chat_template(self) -> None:
        return None


_SPECIAL = ("<s>", "</s>")


def _byte_tokens() -> dict[str, int]:
    return {token: i for i, token in enumerate([*_SPECIAL, *sorted(ByteLevel.alphabet())])}


def scripted_model(folder: Path, prompt: str, reply: str, *, ends: bool = True) -> LanguageModel:
    """A language model that answers `prompt` with the bytes of `reply`.

    Args:
        folder: made for its engines.
        prompt: whole, as the model gets it.
        reply: what it says.
        ends: whether the text ends behind the reply; else the reply is said again and again.
    """
    tokenizer = Tokenizer.from_str(ScriptedCheckpoint({}).tokenizer_json())
    start = len(tokenizer.encode(prompt).ids) - 1
    tokens = tokenizer.encode(reply).ids * (1 if ends else 20)
    folder.mkdir(parents=True, exist_ok=True)
    build_language_model(
        ScriptedCheckpoint({start + i: token for i, token in enumerate(tokens)}),
        folder,
        name="scripted",
        content_hash="0" * 64,
        precision="fp32",
        depths=(1,),
    )
    return LanguageModel(folder, OnnxRuntimeEngine, threads=1)
