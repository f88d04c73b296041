"""Weights of an earlier training as a start for connections of another depth."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from ..runtime.connections import ConnectionSpec, weight_shapes
from ..runtime.model_config import LanguageModelConfig
from ..training.connection_start import start_weights

Weights = dict[str, NDArray[np.float32]]


def fitted_start(
    start: Mapping[str, NDArray[np.float32]],
    spec: ConnectionSpec,
    config: LanguageModelConfig,
    sizes: Mapping[str, tuple[int, int]],
    modalities: Mapping[str, str],
    coming: Collection[str],
    seed: int,
) -> Weights:
    """Where the day begins with weights that were trained for some depth.

    Keys, values and gates of blocks that the earlier tail had too are taken, counted from the end;
    those of other blocks are fresh. What it knows of modalities that come later is left out: they
    must be learned in the benchmark.

    Args:
        start: earlier weights.
        spec: of the connection that is wanted.
        config: of the language model.
        sizes: tokens and width, by modality.
        modalities: encoder name by sensor.
        coming: modalities that come later.
        seed: of fresh weights.

    Raises:
        ConfigError: the earlier connection is of another kind or width.
    """
    shapes = weight_shapes(spec, config, sizes, modalities)
    fresh = start_weights(shapes, sizes, seed)
    out = config.num_kv_heads * config.head_dim
    kept: Weights = {}
    for name, array in start.items():
        known = {f"gate.{one}" for one in coming}
        known |= {f"sensor.{sensor}" for sensor, one in modalities.items() if one in coming}
        if name in known or name.startswith((*(f"{one}." for one in coming), "lora.")):
            continue
        width = 1 if name.startswith("gate.") else out
        by_block = name.startswith(("gate.", "key.", "value."))
        # A gate of a modality that is not here may become that of one that is.
        target = fresh.get(name, fresh["gate.summary"] if name.startswith("gate.") else None)
        kept[name] = _last_blocks(array, target, width) if by_block else array
    found = start_weights(shapes, sizes, seed, kept)
    for name in shapes:
        if name == "gate.summary" or not name.startswith("gate."):
            continue
        # A modality that begins as another has that one's gates, of that one's depth.
        found[name] = _last_blocks(found[name], fresh[name], 1)
    return found


def depth_of_start(start: Mapping[str, NDArray[np.float32]]) -> int | None:
    """Blocks of the tail that earlier weights were trained for, None where they do not tell."""
    return next((len(a) for name, a in start.items() if name.startswith("gate.")), None)


def _last_blocks(
    array: NDArray[np.float32], fresh: NDArray[np.float32] | None, width: int
) -> NDArray[np.float32]:
    """The last blocks of what was trained, in an array of another depth."""
    if fresh is None or array.shape[:-1] != fresh.shape[:-1]:
        return array
    made = fresh.copy()
    shared = min(array.shape[-1], made.shape[-1]) // width * width
    made[..., -shared:] = array[..., -shared:]
    return made
