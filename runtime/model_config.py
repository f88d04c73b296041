"""The shape of a language model: what the runtime must know about the graphs it runs.

Read from checkpoints by `export/`, stored beside the engines, holds no weights.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Precision = Literal["fp32", "int8", "int4"]
Architecture = Literal["llama", "qwen2", "opt", "bloom"]


class RopeScaling(BaseModel):
    """Llama 3's stretched rotary frequencies (Hugging Face `rope_type: llama3`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_positions: int


class LanguageModelConfig(BaseModel):
    """Sizes and conventions of a decoder-only language model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: Architecture
    num_blocks: int = Field(gt=0)
    hidden_size: int = Field(gt=0)
    embedding_size: int = Field(gt=0, description="differs from hidden_size in OPT-350M only")
    num_heads: int = Field(gt=0)
    num_kv_heads: int = Field(gt=0)
    head_dim: int = Field(gt=0)
    ffn_size: int = Field(gt=0)
    vocab_size: int = Field(gt=0)
    max_positions: int = Field(gt=0)
    norm_eps: float = Field(gt=0)
    position: Literal["rope", "learned", "alibi"]
    norm: Literal["rms", "layer"]
    activation: Literal["silu_gate", "relu", "gelu", "gelu_tanh"]
    post_norm: bool = Field(default=False, description="norm after the residual (OPT-350M)")
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    eos_token_ids: tuple[int, ...] = ()
    bos_token_id: int | None = None

    @model_validator(mode="after")
    def _heads_divide(self) -> LanguageModelConfig:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads {self.num_heads} is no multiple of num_kv_heads {self.num_kv_heads}"
            )
        return self

    @property
    def qkv_size(self) -> int:
        """Columns of the packed query, key and value projection."""
        return (self.num_heads + 2 * self.num_kv_heads) * self.head_dim
