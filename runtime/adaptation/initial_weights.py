"""Weights that training starts from where there is nothing better; numpy only."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from ..connections import Connection
from ..errors import ConfigError
from ..pack import PackManifest

Float = NDArray[np.float32]
Weights = dict[str, Float]


def initial_weight(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> Float:
    """One weight of a connection: scaled normal matrices, neutral norms and LoRA, random gates.

    Gates are uniform in (-1, 1) before the sigmoid, as in mPnP-LLM (2312.07886).
    """
    if name.startswith("gate."):
        array = rng.uniform(-1, 1, shape)
    elif ".norm" in name and not name.endswith(".b"):
        array = np.ones(shape)
    elif name.startswith("sensor.") or name == "summary":
        array = rng.normal(0, 0.02, shape)
    elif len(shape) == 1 or (name.startswith("lora.") and name.endswith(".b")):
        array = np.zeros(shape)
    else:
        array = rng.normal(0, shape[0] ** -0.5, shape)
    return array.astype(np.float32)


def modality_weights(names: Collection[str], modality: str) -> list[str]:
    """Names of the weights that belong to one modality: aligners or input layer, and gate."""
    return [n for n in names if n.startswith(f"{modality}.") or n == f"gate.{modality}"]


def fresh_weights(
    weights: Mapping[str, Float],
    pack: PackManifest,
    coming: Collection[str],
    serving: Collection[str],
    seed: int,
) -> Weights:
    """Weights whose coming sensors know nothing yet.

    A modality that serves already is left alone. A new one whose encoder gives objects starts
    from a serving one that does too, since their tokens are laid out alike; any other starts from
    `initial_weight`. So do the offsets of coming sensors.
    """
    rng, encoder_of = np.random.default_rng(seed), pack.sensor_encoders
    known = {encoder_of[sensor] for sensor in serving}
    made: Weights = dict(weights)
    for modality in dict.fromkeys(encoder_of[sensor] for sensor in coming):
        if modality in known:
            continue
        alike = [one for one in sorted(known) if _are_alike(pack, modality, one)]
        for name in modality_weights(weights, modality):
            if alike:
                # `gate.<modality>`, or `<modality>.` and the rest.
                source = name.replace(modality, alike[0], 1)
                if name.startswith("gate."):
                    source = f"gate.{alike[0]}"
                made[name] = weights[source].copy()
            else:
                made[name] = initial_weight(name, weights[name].shape, rng)
    for sensor in coming:
        name = f"sensor.{sensor}"
        shape = weights[name].shape
        shared = encoder_of[sensor] in orderless(pack)
        offset = initial_weight(name, (1, *shape[1:]) if shared else shape, rng)
        made[name] = np.ascontiguousarray(np.broadcast_to(offset, shape))
    return made


def orderless(pack: PackManifest) -> set[str]:
    """Modalities whose tokens are objects, in no order; an offset is the same for all of them."""
    return {name for name, spec in pack.encoders.items() if spec.gives_objects}


def _are_alike(pack: PackManifest, one: str, other: str) -> bool:
    first, second = pack.encoders[one], pack.encoders[other]
    return first.gives_objects and second.gives_objects and first.width == second.width


def with_rank(connection: Connection, rank: int, seed: int) -> Connection:
    """The same function with a LoRA of this rank: what is added to it changes nothing yet.

    Raises:
        ConfigError: the rank is smaller than the one there is.
    """
    spec = connection.spec
    if rank < spec.lora_rank:
        raise ConfigError(
            f"the connection has a LoRA of rank {spec.lora_rank}, which cannot shrink to {rank}",
            field="lora_rank",
            remedy=f"give {spec.lora_rank} or more, or leave it out",
        )
    if rank == spec.lora_rank:
        return connection
    rng = np.random.default_rng([seed, 1])
    weights = dict(connection.weights)
    for name, shape in connection.lora_shapes(rank).items():
        made = initial_weight(name, shape, rng)
        old = weights.get(name)
        if old is not None:
            made[: old.shape[0], : old.shape[1]] = old
        weights[name] = made
    return connection.with_weights(weights, lora_rank=rank)
