"""What a manifest says of changes of the language model, and of the packs that one was made of."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

#: Of merging what packs change in the language model, see `export.merging`.
Method = Literal["naive", "damc", "task-arithmetic", "ties", "dare", "tsv"]
#: How much of a part's change counts.
Weight = Annotated[float, Field(allow_inf_nan=False)]
#: Names parts have in files and manifests.
PART_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_-]*$"


class TextChangeSpec(BaseModel):
    """A low-rank change of the language model's projections, for all text tokens.

    Attributes:
        file: `<block>.<projection>.<a|b>` by name, see `low_rank.read_change`.
        weight: the change counts so much; of several the sum is taken.
        part: that it came with, in a composed pack.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    weight: Weight = 1.0
    part: str | None = None


class LoraPart(BaseModel):
    """Columns of a connection's LoRA that came with one part.

    Attributes:
        name: of the part.
        rank: how many columns.
        weight: their change counts so much.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=PART_NAME)
    rank: int = Field(gt=0)
    weight: Weight


class PartSpec(BaseModel):
    """A pack that is part of a composed one.

    Attributes:
        name: tells it apart here.
        pack: name and version of the pack.
        manifest: its own manifest, as it was.
        files: by its own names, where its files lie here.
        weight: of its change of the language model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=PART_NAME)
    pack: str
    manifest: str
    files: dict[str, str]
    weight: Weight


class CompositionSpec(BaseModel):
    """How a pack was made of others.

    Attributes:
        method: of merging what they change in the language model.
        parts: by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method
    parts: tuple[PartSpec, ...]

    @property
    def files(self) -> set[str]:
        """Names of all that is kept of the parts; it must lie in the pack."""
        own = {name for part in self.parts for name in part.files.values()}
        return own | {part.manifest for part in self.parts}

    @model_validator(mode="after")
    def _names_differ(self) -> CompositionSpec:
        names = [part.name for part in self.parts]
        if len(set(names)) != len(names):
            raise ValueError("parts has a name twice")
        return self
