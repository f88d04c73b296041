"""Sizes of a Llama without weights, for what reads the sizes alone."""

from __future__ import annotations

from typing import Any

from tailwire.runtime.model_config import LanguageModelConfig

_SMALL = LanguageModelConfig(
    architecture="llama",
    num_blocks=6,
    hidden_size=64,
    embedding_size=64,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    ffn_size=96,
    vocab_size=320,
    max_positions=256,
    norm_eps=1e-5,
    position="rope",
    norm="rms",
    activation="silu_gate",
)
#: Those of SmolLM2-135M.
_SMOLLM2: dict[str, Any] = {
    "num_blocks": 30,
    "hidden_size": 576,
    "embedding_size": 576,
    "num_heads": 9,
    "num_kv_heads": 3,
    "head_dim": 64,
    "ffn_size": 1536,
    "vocab_size": 49152,
    "max_positions": 2048,
}


def llama_sizes(**changes: Any) -> LanguageModelConfig:
    """A small one, but for these."""
    return LanguageModelConfig.model_validate({**_SMALL.model_dump(), **changes})


def smollm2_sizes() -> LanguageModelConfig:
    """Those of SmolLM2-135M."""
    return llama_sizes(**_SMOLLM2)
