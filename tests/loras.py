"""LoRAs for tests, and transformers with the same change merged into its weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from tailwire.runtime.lora import Lora
from tailwire.runtime.model_config import LanguageModelConfig

if TYPE_CHECKING:
    from .reference import Reference


def random_lora(
    config: LanguageModelConfig, blocks: tuple[int, ...], rank: int = 3, seed: int = 0
) -> Lora:
    """A LoRA about as large as the projections that it changes."""
    rng = np.random.default_rng(seed)
    hidden, out = config.hidden_size, config.num_kv_heads * config.head_dim

    def matrix(rows: int, columns: int) -> Any:
        return (rng.standard_normal((rows, columns)) / max(rows, 1) ** 0.5).astype(np.float32)

    return Lora(
        config,
        {
            block: (
                matrix(hidden, rank),
                matrix(rank, out),
                matrix(hidden, rank),
                matrix(rank, out),
            )
            for block in blocks
        },
    )


@contextmanager
def merged(reference: Reference, lora: Lora) -> Iterator[Reference]:
    """The reference with `W + (A B)^T` for keys and values of the LoRA's blocks."""
    import torch

    changed: list[tuple[Any, Any]] = []

    def add(rows: Any, a: Any, b: Any) -> None:
        rows += torch.from_numpy((a @ b).T.copy()).reshape(rows.shape)

    try:
        with torch.no_grad():
            for block, (key_a, key_b, value_a, value_b) in lora.blocks.items():
                for weight, keys, values in _weights(reference.model, block, lora.config):
                    changed.append((weight, weight.clone()))
                    if keys is not None:
                        add(weight[keys], key_a, key_b)
                    if values is not None:
                        add(weight[values], value_a, value_b)
        yield reference
    finally:
        with torch.no_grad():
            for weight, before in reversed(changed):
                weight.copy_(before)


def _weights(model: Any, block: int, config: LanguageModelConfig) -> Iterator[tuple[Any, Any, Any]]:
    """Weights of a block, and where keys and values lie in them."""
    everything = slice(None)
    if config.architecture == "bloom":
        # Of every head: its query, its key, its value.
        packed = model.transformer.h[block].self_attention.query_key_value.weight
        split = packed.view(config.num_heads, 3, config.head_dim, config.hidden_size)
        yield split, (everything, 1), (everything, 2)
        return
    layers = model.model.decoder.layers if config.architecture == "opt" else model.model.layers
    attention = layers[block].self_attn
    yield attention.k_proj.weight, everything, None
    yield attention.v_proj.weight, None, everything
