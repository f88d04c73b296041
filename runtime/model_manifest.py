"""What lies in a folder of built language-model engines, and how its stages are cut.

A stage is cut *after* the query/key/value projection of the block that follows: that projection
of text does not depend on any sensor, so with this cut it belongs to the cached head.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from .errors import EngineError
from .model_config import LanguageModelConfig, Precision

MANIFEST_NAME = "model.json"


class BlockGroup(BaseModel):
    """One engine that runs blocks `start` to `stop - 1`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: int
    stop: int
    file: str


class ModelManifest(BaseModel):
    """Index of the files of one language model at one precision."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    content_hash: str
    config: LanguageModelConfig
    precision: Precision
    max_text_tokens: int
    embed_file: str
    groups: tuple[BlockGroup, ...]
    group_norms_file: str
    logits_file: str
    embedding_table: str
    head_table: str
    tokenizer_file: str
    chat_template: str | None

    def boundary(self, tail_blocks: int) -> int:
        """First block of the group in which the tail of `tail_blocks` begins."""
        first = self.config.num_blocks - tail_blocks
        return max(group.start for group in self.groups if group.start <= first)


def read_manifest(folder: Path) -> ModelManifest:
    """Read `model.json` of a folder of engines.

    Raises:
        EngineError: the file is missing or does not fit this version of Tailwire.
    """
    path = folder / MANIFEST_NAME
    try:
        return ModelManifest.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise EngineError(
            f"the engine manifest cannot be read: {error}",
            field=str(path),
            remedy="remove the folder, the engines are then built again",
        ) from error
