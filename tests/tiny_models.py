"""Small random-weight checkpoints of every family, as transformers writes them.

Biases and norm scales are random too (transformers starts them at 0 and 1), so that a layer that
forgets one is found out. Everything is seeded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

BLOCKS = 6
#: Cuts the six blocks into groups that start at 0, 2 and 4.
DEPTHS = (2, 4)
VOCABULARY = 320
MAX_POSITIONS = 256

_ROPE_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}

#: By family: class of the configuration, its values, and how the folder is saved.
FAMILIES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "llama": (
        "LlamaConfig",
        {
            "hidden_size": 64,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 96,
            "tie_word_embeddings": True,
        },
        {},
    ),
    # Stretched rotary positions, heads wider than hidden / heads, an output matrix of its own,
    # biases everywhere, stored as bfloat16.
    "llama3": (
        "LlamaConfig",
        {
            "hidden_size": 64,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "head_dim": 32,
            "intermediate_size": 96,
            "tie_word_embeddings": False,
            "attention_bias": True,
            "mlp_bias": True,
            "rope_parameters": _ROPE_LLAMA3,
        },
        {"dtype": "bfloat16"},
    ),
    "qwen2": (
        "Qwen2Config",
        {
            "hidden_size": 64,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 96,
            "tie_word_embeddings": False,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
        },
        {"dtype": "float16"},
    ),
    "opt": (
        "OPTConfig",
        {"hidden_size": 64, "num_attention_heads": 4, "ffn_dim": 96, "word_embed_proj_dim": 64},
        {"max_shard_size": "100KB"},
    ),
    # As OPT-350M: norms after the residual, embeddings narrower than the hidden states.
    "opt_post_norm": (
        "OPTConfig",
        {
            "hidden_size": 64,
            "num_attention_heads": 4,
            "ffn_dim": 96,
            "word_embed_proj_dim": 32,
            "do_layer_norm_before": False,
        },
        {},
    ),
    "bloom": ("BloomConfig", {"hidden_size": 64, "n_head": 4}, {}),
    # ALiBi slopes follow another rule where the number of heads is no power of two.
    "bloom_6_heads": ("BloomConfig", {"hidden_size": 96, "n_head": 6}, {}),
    # No matrix of it splits into blocks of 32.
    "odd_columns": (
        "LlamaConfig",
        {
            "hidden_size": 48,
            "num_attention_heads": 3,
            "num_key_value_heads": 3,
            "intermediate_size": 80,
            "tie_word_embeddings": True,
        },
        {},
    ),
}


def save_tiny_model(family: str, folder: Path, **changes: Any) -> Path:
    """Save a random model of `family` with its tokenizer and return the folder.

    Args:
        family: key of `FAMILIES`.
        folder: made if missing.
        changes: values of the configuration that differ.
    """
    torch = pytest.importorskip("torch", reason="tiny reference models are made with torch")
    transformers = pytest.importorskip("transformers", reason="transformers is the reference")
    kind, values, saved = FAMILIES[family]
    saved = dict(saved)
    count = "n_layer" if kind == "BloomConfig" else "num_hidden_layers"
    length = "seq_length" if kind == "BloomConfig" else "max_position_embeddings"
    config = getattr(transformers, kind)(
        **{
            "vocab_size": VOCABULARY,
            count: BLOCKS,
            length: MAX_POSITIONS,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": None,
            **values,
            **changes,
        }
    )
    model = transformers.AutoModelForCausalLM.from_config(config)
    generator = torch.Generator().manual_seed(sorted(FAMILIES).index(family))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1:
                centre = 0.0 if name.endswith("bias") else 1.0
                parameter.copy_(centre + 0.2 * noise)
            elif "embed" in name:
                parameter.copy_(0.4 * noise)
            else:
                parameter.copy_(0.8 * noise / parameter.shape[1] ** 0.5)
    if dtype := saved.pop("dtype", None):
        model = model.to(getattr(torch, dtype))
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder, **saved)
    save_tiny_tokenizer(folder)
    return folder


def save_tiny_tokenizer(folder: Path) -> None:
    """Write a byte-level BPE tokenizer of `VOCABULARY` tokens, trained on the test text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    text = Path(__file__).parents[1] / "benchmarks" / "ordinary_text.txt"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(text.read_text(encoding="utf-8").splitlines(), trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
