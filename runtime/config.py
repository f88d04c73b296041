"""The configuration of a runtime: one object, from YAML or arguments, written beside results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .errors import ConfigError, PackError
from .model_config import Precision
from .model_specs import DEFAULT_LANGUAGE_MODEL
from .plans import Budget
from .policies import PolicyName

#: The pack that is made here when none is given; its connections know nothing.
STARTER_PACK = "starter"

#: The same with a question-conditioned connection.
CONDITIONED_STARTER_PACK = "starter-conditioned"


#: The trained pack that ships with the project, for the default language model.
DRIVING_PACK = "driving"

# The same place in a checkout, an editable installation and a wheel.
_SHIPPED_PACKS = Path(__file__).resolve().parents[1] / "packs"


def shipped_pack(name: str) -> Path | None:
    """The folder of a pack that ships with the project; None if this installation lacks it."""
    folder = _SHIPPED_PACKS / name
    return folder if (folder / "pack.yaml").is_file() else None


def pack_folder(pack: str) -> Path:
    """Where the pack of a configuration lies; not for those that are made here.

    Args:
        pack: `driving`, or a path; `./driving` is a folder of this name.

    Raises:
        PackError: this installation lacks the shipped pack.
    """
    if pack != DRIVING_PACK:
        return Path(pack)
    folder = shipped_pack(pack)
    if folder is None:
        raise PackError(
            f"the pack '{pack}' does not come with this installation",
            field="pack",
            remedy=f"name the folder of a pack, or '{STARTER_PACK}'",
        )
    return folder


def default_pack(model: object) -> str:
    """What to load where no pack is named: the trained one, if it is here and fits the model."""
    fits = model == DEFAULT_LANGUAGE_MODEL and shipped_pack(DRIVING_PACK) is not None
    return DRIVING_PACK if fits else STARTER_PACK


class RuntimeConfig(BaseModel):
    """What to load and how to run it.

    Attributes:
        model: name in the model registry, a GGUF file, or a Hugging Face folder.
        precision: of the language model.
        precisions: of further ones whose tails a policy may choose; each is loaded whole, beside
            the first.
        pack: `driving`, folder of a pack, `starter`, or `starter-conditioned`; left out, see
            `default_pack`.
        sensors: sensors switched on, or None for all of the pack.
        tail_blocks: tail depth, or None for the pack's own.
        threads: threads of one engine.
        max_age_ms: frames older than this, against the newest, are not used.
        backend: what executes engines: `onnxruntime-cpu` those of the cache, the others
            (`exported_assembly.LOADERS`) the graphs of `engines`.
        engines: folder that `tailwire export` wrote.
        tail_engines: further exports of the same pack whose tails a policy may choose, by the
            precision to call them; each is loaded whole, beside the first, whose head serves all.
        policy: what chooses the encoders of a frame; `fixed` runs them all.
        budget: limits per frame.
        depths: tail depths that a policy may choose; None for all that engines and pack allow.
        measure: whether to measure at the start what parts of a frame take; None where the policy
            or a limit needs it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    model: str = DEFAULT_LANGUAGE_MODEL
    precision: Precision = "int8"
    precisions: tuple[Precision, ...] = ()
    pack: str = STARTER_PACK
    sensors: tuple[str, ...] | None = None
    tail_blocks: int | None = Field(default=None, gt=0)
    threads: int = Field(default=2, gt=0, le=256)
    max_age_ms: float = Field(default=1000.0, gt=0)
    backend: str = "onnxruntime-cpu"
    engines: str | None = None
    tail_engines: dict[Precision, str] = Field(default_factory=dict)
    policy: PolicyName = "fixed"
    budget: Budget = Budget()
    depths: tuple[Annotated[int, Field(gt=0)], ...] | None = None
    measure: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _choose_pack(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "pack" in data:
            return data
        return {**data, "pack": default_pack(data.get("model", DEFAULT_LANGUAGE_MODEL))}


def read_config(path: Path | None, **overrides: object) -> RuntimeConfig:
    """Read a YAML configuration; arguments that are not None win over the file.

    Raises:
        ConfigError: the file cannot be read, or a key is unknown or wrong.
    """
    data: dict[str, object] = {}
    if path is not None:
        try:
            loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
            # ValueError: no UTF-8, or a date or number that YAML recognises and Python has not.
            raise ConfigError(
                f"the configuration cannot be read: {error}",
                field=str(path),
                remedy="give a YAML file",
            ) from error
        if loaded is not None and not isinstance(loaded, dict):
            raise ConfigError(
                "the configuration is no mapping of keys to values",
                field=str(path),
                remedy="write lines such as 'precision: int8'",
            )
        data.update(loaded or {})
    given = {key: value for key, value in overrides.items() if value is not None}
    limits, of_file = given.get("budget"), data.get("budget")
    if isinstance(limits, dict) and isinstance(of_file, dict):
        # A limit that is given leaves those of the file in place.
        given["budget"] = {**of_file, **limits}
    data.update(given)
    try:
        return RuntimeConfig.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        known = ", ".join(RuntimeConfig.model_fields)
        raise ConfigError(
            f"{first['msg']} (got {first['input']!r})",
            field=where if path is None or first["loc"][0] in given else f"{path}: {where}",
            remedy=f"known keys are {known}",
        ) from error
