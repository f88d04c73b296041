"""What every reader of language-model checkpoints offers, in one vocabulary.

`export/gguf_checkpoint.py` and `export/hf_checkpoint.py` implement it; the graph builder reads it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import ModelError
from ..runtime.model_config import LanguageModelConfig
from .weights import Block, Linear, Matrix, Norm


class Checkpoint(Protocol):
    """The weights of a decoder-only language model, block by block."""

    @property
    def config(self) -> LanguageModelConfig: ...

    def embedding(self) -> Matrix:
        """Token embeddings `[vocab_size, embedding_size]`."""
        ...

    def positions(self) -> NDArray[np.float32] | None:
        """Learned position embeddings `[max_positions, hidden_size]`, or None."""
        ...

    def embedding_norm(self) -> Norm | None:
        """Normalisation right after the embedding (BLOOM), or None."""
        ...

    def project_in(self) -> Linear | None:
        """Embedding to hidden size (OPT-350M), or None."""
        ...

    def project_out(self) -> Linear | None:
        """Hidden to embedding size before the logits (OPT-350M), or None."""
        ...

    def block(self, index: int) -> Block:
        """The weights of one block."""
        ...

    def final_norm(self) -> Norm | None:
        """Normalisation before the logits, or None (OPT-350M)."""
        ...

    def head(self) -> Matrix:
        """Output embeddings `[vocab_size, embedding_size]`; the embedding itself where tied."""
        ...

    def tokenizer_json(self) -> str:
        """The tokenizer in the format of the `tokenizers` library."""
        ...

    def chat_template(self) -> str | None:
        """The Jinja chat template, or None."""
        ...


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a `.gguf` file or a Hugging Face folder.

    Raises:
        ModelError: nothing is there, or it is neither, or it is corrupt or unsupported.
    """
    if path.is_dir():
        from .hf_checkpoint import HfCheckpoint

        return HfCheckpoint(path)
    if path.suffix == ".gguf" and path.is_file():
        from .gguf_checkpoint import GgufCheckpoint

        return GgufCheckpoint(path)
    raise ModelError(
        "this is neither a .gguf file nor a Hugging Face folder",
        field=str(path),
        remedy="give a folder with config.json, *.safetensors and tokenizer.json, or a .gguf file",
    )
