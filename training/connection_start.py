"""Weights that a training of connections starts from: fresh ones, or those of an earlier one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..export.starter_pack import initial_connection
from ..runtime.adaptation.trainer import Trainer
from ..runtime.errors import ConfigError
from ..runtime.pack import MANIFEST_NAME, read_manifest, read_weights
from ..simulation.annotated_objects import OBJECTS
from .run_folder import read_checkpoint

Weights = dict[str, NDArray[np.float32]]

_FILE = "connection.safetensors"


def start_weights(
    shapes: Mapping[str, tuple[int, ...]],
    modalities: Iterable[str],
    seed: int,
    start: Mapping[str, NDArray[np.float32]] | None = None,
) -> Weights:
    """Where training starts.

    Args:
        shapes: of all weights.
        modalities: whose tokens are objects, all laid out alike.
        seed: of fresh weights.
        start: weights of an earlier training. Modalities that it lacks begin as its `objects`,
            since their tokens mean the same.

    Raises:
        ConfigError: an earlier weight is of another shape.
    """
    weights = initial_connection(dict(shapes), seed)
    for name in weights:
        if name.startswith("sensor."):
            # Object tokens say themselves where they come from; a sensor is told apart later.
            weights[name][:] = 0
    if start is None:
        return weights
    for name, weight in _with_modalities(start, shapes, modalities).items():
        if name not in shapes:
            continue
        if weight.shape != shapes[name]:
            raise ConfigError(
                f"{name} is {list(weight.shape)} in the weights to start from, "
                f"and would be {list(shapes[name])}",
                field="--from",
                remedy="give the same --tail, --kind, --width, --layers and --lora-rank as there",
            )
        weights[name] = weight.copy()
    if not set(start) & set(shapes):
        raise ConfigError(
            "no weight of this connection is in the weights to start from",
            field="--from",
            remedy="name a folder of `train connections` or a pack of the same kind",
        )
    return weights


def _with_modalities(
    start: Mapping[str, NDArray[np.float32]],
    shapes: Mapping[str, tuple[int, ...]],
    modalities: Iterable[str],
) -> Weights:
    found = dict(start)
    if f"gate.{OBJECTS}" not in start:
        return found
    for modality in modalities:
        if f"gate.{modality}" in start:
            continue
        for name in shapes:
            if name == f"gate.{modality}" or name.startswith(f"{modality}."):
                source = name.replace(modality, OBJECTS, 1)
                if source in start:
                    found[name] = start[source]
    return found


def read_start(folder: Path) -> Weights:
    """The connection of a working folder or a pack.

    Raises:
        ConfigError: there is none.
        PackError: the file is broken.
    """
    file = folder / _FILE
    if (folder / MANIFEST_NAME).is_file():
        file = folder / read_manifest(folder).connection.file
    if not file.is_file():
        raise ConfigError(
            f"there is no {file.name} in the folder {folder}",
            field="--from",
            remedy="name a folder of `train connections`, or a pack",
        )
    return read_weights(file)


class ConnectionTrainer(Trainer):
    """A trainer that can take over what an earlier run supervised its rows with."""

    def take_layers(self, checkpoint: Path) -> None:
        """Take the layers that are thrown away at the end from a checkpoint, where they fit.

        A fresh one would disturb rows that know already what they stand for.
        """
        state = read_checkpoint(checkpoint)
        with torch.no_grad():
            for parameter, name in ((self._roles, "roles"), (self._summary, "summary")):
                found = state.get(name)
                if isinstance(found, torch.Tensor) and found.shape == parameter.shape:
                    parameter.copy_(found)
