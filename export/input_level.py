"""Packs in the form of the paper on model composition, and their composition, as published.

A modality's tokens are input embeddings here: a connector of two layers and learned tokens before
and behind them; and every projection has a low-rank branch for the modality's own tokens and one
for text (DAMC), or one for all tokens (NaiveMC; both 2402.12750). `training.decoupled_model` runs
and trains them in torch; the runtime does not. For what Tailwire's own packs are, see
`runtime/pack.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ..runtime.composition_specs import Method
from ..runtime.errors import ConfigError, PackError
from ..runtime.files import write_atomic
from ..runtime.low_rank import LowRankChange, change_of, join
from .merging import DEFAULT_WEIGHT, MergeOptions, merge

Float = NDArray[np.float32]
#: `decoupled`: branches by type of token; `single`: one branch for all tokens.
Strategy = Literal["decoupled", "single"]

TEXT = "text"
#: Learned tokens before and behind those of a modality.
AFFIXES = 5
_FORMAT = "tailwire input-level 1"


@dataclass(frozen=True, eq=False)
class Connector:
    """From an encoder's tokens to input embeddings, float32.

    Attributes:
        w1: `[width, hidden_size]`.
        b1: `[hidden_size]`.
        w2: `[hidden_size, hidden_size]`.
        b2: `[hidden_size]`.
        prefix: `[5, hidden_size]`, learned tokens before them.
        suffix: `[5, hidden_size]`, learned tokens behind them.
    """

    w1: Float
    b1: Float
    w2: Float
    b2: Float
    prefix: Float
    suffix: Float

    def arrays(self) -> dict[str, Float]:
        """By name of the attribute."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, eq=False)
class InputLevelModelParts:
    """What stands beside the frozen language model: of one pack, or of a composition.

    Attributes:
        base_sha256: of the checkpoint of the language model.
        strategy: of its branches.
        connectors: by modality.
        branches: by type of token, a modality or `text`. With the strategy `single` they are all
            the same object.
    """

    base_sha256: str
    strategy: Strategy
    connectors: Mapping[str, Connector]
    branches: Mapping[str, LowRankChange]

    @property
    def modalities(self) -> list[str]:
        return sorted(self.connectors)


def compose_input_level(
    parts: Sequence[InputLevelModelParts],
    method: Method = "damc",
    weights: Sequence[float] | None = None,
    options: MergeOptions | None = None,
) -> InputLevelModelParts:
    """Compose packs of one modality each, or compositions of one method.

    DAMC keeps the branches of the modalities and merges those of text; the other methods merge
    single branches. The order of the parts does not matter.

    Args:
        parts: two or more, with different modalities.
        method: `damc` for decoupled branches; with single ones any other.
        weights: of the parts, None for those of the method.
        options: of the method.

    Raises:
        ConfigError: the parts do not fit together or to the method, or weights do not fit.
    """
    _check(parts, method, weights)
    default = DEFAULT_WEIGHT[method]
    each = 1 / len(parts) if default is None else default
    given = [each] * len(parts) if weights is None else list(weights)
    connectors: dict[str, Connector] = {}
    branches: dict[str, LowRankChange] = {}
    for part in parts:
        connectors |= part.connectors
        branches |= {name: one for name, one in part.branches.items() if name != TEXT}
    # Named by what they know, so that their order does not matter.
    named = {
        "+".join(part.modalities): (weight, part.branches[TEXT])
        for part, weight in zip(parts, given, strict=True)
    }
    text = merge(method, named, options or MergeOptions()).change
    if method != "damc":
        branches = dict.fromkeys(branches, text)
    strategy: Strategy = "decoupled" if method == "damc" else "single"
    return InputLevelModelParts(
        parts[0].base_sha256, strategy, dict(sorted(connectors.items())), {**branches, TEXT: text}
    )


def folded_branches(parts: InputLevelModelParts) -> dict[str, LowRankChange]:
    """Branches for a language model into whose weights the branch of text was folded.

    Text then needs none, so a token that is decoded costs what it costs in the language model
    alone. Tokens of a modality, which are there once, have what was folded taken off again.
    """
    text = parts.branches[TEXT]
    return {
        name: LowRankChange({}) if branch is text else join([(1.0, branch), (-1.0, text)])
        for name, branch in parts.branches.items()
    }


def _check(
    parts: Sequence[InputLevelModelParts], method: Method, weights: Sequence[float] | None
) -> None:
    if len(parts) < 2:
        raise ConfigError("there is nothing to compose", field="parts", remedy="give two or more")
    wanted: Strategy = "decoupled" if method == "damc" else "single"
    seen: set[str] = set()
    for part in parts:
        name = "+".join(part.modalities)
        if part.strategy != wanted:
            raise ConfigError(
                f"the branches of '{name}' are {part.strategy}, {method} composes {wanted} ones",
                field="method",
                remedy="use damc for decoupled branches and another method for single ones",
            )
        if part.base_sha256 != parts[0].base_sha256:
            raise ConfigError(
                f"'{name}' was made for another language model",
                field="base_sha256",
                remedy="compose what was made for the same one",
            )
        if seen & set(part.modalities):
            raise ConfigError(
                f"'{name}' knows a modality that another part knows",
                field="modality",
                remedy="compose parts of different modalities",
            )
        seen |= set(part.modalities)
    if weights is not None and (
        len(weights) != len(parts) or not np.isfinite(weights).all() or not any(weights)
    ):
        raise ConfigError(
            f"weights {list(weights)} for {len(parts)} parts",
            field="weights",
            remedy="give one finite number a part, not all 0",
        )


def write_input_level(path: Path, parts: InputLevelModelParts) -> None:
    """Write one file.

    Raises:
        CacheError: see `files.write_atomic`.
    """
    arrays: dict[str, Float] = {}
    for modality, connector in parts.connectors.items():
        arrays |= {f"connector.{modality}.{n}": a for n, a in connector.arrays().items()}
    stored = parts.branches if parts.strategy == "decoupled" else {TEXT: parts.branches[TEXT]}
    for name, branch in stored.items():
        arrays |= {f"branch.{name}.{n}": a for n, a in branch.arrays().items()}
    metadata = {
        "format": _FORMAT,
        "strategy": parts.strategy,
        "base_sha256": parts.base_sha256,
        "modalities": json.dumps(parts.modalities),
    }
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write_atomic(path, save(contiguous, metadata))


def read_input_level(path: Path) -> InputLevelModelParts:
    """Read what `write_input_level` wrote.

    Raises:
        PackError: it is broken, of another format, or has values that are not finite.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise PackError(
            f"the weights cannot be read: {error}", field=str(path), remedy="copy the file again"
        ) from error
    strategy = metadata.get("strategy")
    if metadata.get("format") != _FORMAT or strategy not in ("decoupled", "single"):
        raise PackError(
            "this is no file of an input-level pack", field=str(path), remedy="name another file"
        )
    for name, array in arrays.items():
        if array.dtype != np.float32 or not np.isfinite(array).all():
            raise PackError(
                "the weights are not finite float32",
                field=f"{path}: {name}",
                remedy="training diverged; use an earlier checkpoint",
            )
    try:
        modalities = [str(name) for name in json.loads(metadata["modalities"])]
        connectors = {
            modality: Connector(
                **{n: arrays[f"connector.{modality}.{n}"] for n in Connector.__dataclass_fields__}
            )
            for modality in modalities
        }
    except (KeyError, ValueError, TypeError) as error:
        raise PackError(
            f"a part is missing: {error}", field=str(path), remedy="make the file again"
        ) from error
    names = [TEXT, *modalities] if strategy == "decoupled" else [TEXT]
    branches: dict[str, LowRankChange] = {}
    for name in names:
        begin = f"branch.{name}."
        own = {n.removeprefix(begin): a for n, a in arrays.items() if n.startswith(begin)}
        branches[name] = change_of(own, path)
    if strategy == "single":
        branches = dict.fromkeys([*modalities, TEXT], branches[TEXT])
    return InputLevelModelParts(metadata.get("base_sha256", ""), strategy, connectors, branches)
