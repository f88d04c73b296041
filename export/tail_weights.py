"""The last blocks of a checkpoint as float32 arrays, for training through them."""

from __future__ import annotations

from ..runtime.adaptation.tail_weights import BlockWeights, TailWeights
from ..runtime.errors import ConfigError
from .checkpoint import Checkpoint
from .llm_layers import rotary_tables


def tail_weights(checkpoint: Checkpoint, tail_blocks: int, max_tokens: int = 2048) -> TailWeights:
    """Read the last blocks.

    Args:
        checkpoint: of the language model.
        tail_blocks: how many.
        max_tokens: longest text; bounds the rotary tables.

    Raises:
        ConfigError: the model has fewer blocks, or is not of the Llama or Qwen2 kind.
    """
    config = checkpoint.config
    if not 0 < tail_blocks <= config.num_blocks:
        raise ConfigError(
            f"tail depth {tail_blocks} does not fit {config.num_blocks} blocks",
            field="tail",
            remedy=f"give 1 to {config.num_blocks}",
        )
    norm = checkpoint.final_norm()
    if norm is None or config.position != "rope":
        raise ConfigError(
            f"training goes through models of the Llama and Qwen2 kind, not {config.architecture}",
            field="base_model",
            remedy="train with another base model; running is not affected",
        )
    blocks: list[BlockWeights] = []
    for index in range(config.num_blocks - tail_blocks, config.num_blocks):
        block = checkpoint.block(index)
        blocks.append(
            BlockWeights(
                attention_norm=block.attention_norm.weight,
                qkv=block.qkv.weight.dense(),
                qkv_bias=block.qkv.bias,
                output=block.output.weight.dense(),
                ffn_norm=block.ffn_norm.weight,
                ffn_in=block.ffn_in.weight.dense(),
                ffn_out=block.ffn_out.weight.dense(),
            )
        )
    return TailWeights(
        config,
        tuple(blocks),
        norm.weight,
        rotary_tables(config, min(config.max_positions, max_tokens)),
        checkpoint.head().dense(),
    )
