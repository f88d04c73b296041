"""Turns a Hugging Face config.json into our description of a language model.

Every switch that would change the arithmetic and is not implemented is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..runtime.errors import ModelError
from ..runtime.model_config import LanguageModelConfig, RopeScaling

Config = dict[str, Any]


def read_config(config: Config, folder: Path) -> LanguageModelConfig:
    """Translate `config`.

    Args:
        config: the content of config.json.
        folder: where it lies, for messages.

    Raises:
        ModelError: the model type or one of its switches is not supported, or a key is missing.
    """
    readers: dict[str, Callable[[Config], dict[str, Any]]] = {
        "llama": _read_llama,
        "qwen2": _read_qwen2,
        "opt": _read_opt,
        "bloom": _read_bloom,
    }
    kind = str(config.get("model_type"))
    if kind not in readers:
        raise ModelError(
            f"model_type '{kind}' is not supported",
            field=str(folder / "config.json"),
            remedy=f"use one of {', '.join(readers)}",
        )
    if config.get("quantization_config") is not None:
        raise ModelError(
            "the weights are quantised",
            field=f"{folder / 'config.json'}: quantization_config",
            remedy="use the original folder (bfloat16, float16 or float32), or a GGUF file",
        )
    try:
        fields = readers[kind](config)
        eos, bos = config.get("eos_token_id"), config.get("bos_token_id")
        return LanguageModelConfig(
            architecture=kind,  # pyright: ignore[reportArgumentType] - checked above
            eos_token_ids=tuple(eos) if isinstance(eos, list) else () if eos is None else (eos,),
            bos_token_id=bos,
            vocab_size=config["vocab_size"],
            **fields,
        )
    except KeyError as error:
        raise ModelError(
            f"key {error} is missing",
            field=str(folder / "config.json"),
            remedy="copy the whole model folder",
        ) from error
    except ModelError as error:
        raise ModelError(
            error.problem, field=f"{folder / 'config.json'}: {error.field}", remedy=error.remedy
        ) from error
    except (ValueError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise ModelError(
            f"a value is wrong: {error}",
            field=str(folder / "config.json"),
            remedy="copy the whole model folder",
        ) from error


def is_tied(config: Config) -> bool:
    """Whether the output matrix is the embedding; each family has its own default."""
    default = config["model_type"] in ("opt", "bloom")
    return bool(config.get("tie_word_embeddings", default))


def _refuse(config: Config, key: str, allowed: tuple[Any, ...]) -> None:
    value = config.get(key, allowed[0])
    if value not in allowed:
        raise ModelError(
            f"'{key}: {value}' is not supported",
            field=key,
            remedy=f"supported: {', '.join(map(str, allowed))}",
        )


def _read_llama(config: Config) -> dict[str, Any]:
    _refuse(config, "hidden_act", ("silu",))
    for kind in config.get("layer_types") or ():
        _refuse({"layer_types": kind}, "layer_types", ("full_attention",))
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    theta, scaling = _read_rope(config)
    return {
        "num_blocks": config["num_hidden_layers"],
        "hidden_size": hidden,
        "embedding_size": hidden,
        "num_heads": heads,
        "num_kv_heads": config.get("num_key_value_heads") or heads,
        "head_dim": config.get("head_dim") or hidden // heads,
        "ffn_size": config["intermediate_size"],
        "max_positions": config["max_position_embeddings"],
        "norm_eps": config["rms_norm_eps"],
        "position": "rope",
        "norm": "rms",
        "activation": "silu_gate",
        "rope_theta": theta,
        "rope_scaling": scaling,
    }


def _read_qwen2(config: Config) -> dict[str, Any]:
    _refuse(config, "use_sliding_window", (False,))
    return _read_llama(config)


def _read_rope(config: Config) -> tuple[float, RopeScaling | None]:
    # transformers 5 writes `rope_parameters`; before, there were `rope_theta` and `rope_scaling`.
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = rope.get("rope_theta", config.get("rope_theta", 10000.0))
    kind = rope.get("rope_type", rope.get("type", "default"))
    _refuse({"rope_type": kind}, "rope_type", ("default", "llama3"))
    _refuse(rope, "partial_rotary_factor", (1.0, None))
    if kind == "default":
        return theta, None
    return theta, RopeScaling(
        factor=rope["factor"],
        low_freq_factor=rope["low_freq_factor"],
        high_freq_factor=rope["high_freq_factor"],
        original_max_positions=rope["original_max_position_embeddings"],
    )


def _read_opt(config: Config) -> dict[str, Any]:
    _refuse(config, "activation_function", ("relu", "gelu"))
    _refuse(config, "enable_bias", (True,))
    _refuse(config, "layer_norm_elementwise_affine", (True,))
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    return {
        "num_blocks": config["num_hidden_layers"],
        "hidden_size": hidden,
        "embedding_size": config.get("word_embed_proj_dim") or hidden,
        "num_heads": heads,
        "num_kv_heads": heads,
        "head_dim": hidden // heads,
        "ffn_size": config["ffn_dim"],
        "max_positions": config["max_position_embeddings"],
        "norm_eps": 1e-5,
        "position": "learned",
        "norm": "layer",
        "activation": config.get("activation_function", "relu"),
        "post_norm": not config.get("do_layer_norm_before", True),
    }


def _read_bloom(config: Config) -> dict[str, Any]:
    _refuse(config, "apply_residual_connection_post_layernorm", (False,))
    _refuse(config, "slow_but_exact", (False,))
    hidden = config.get("hidden_size") or config["n_embed"]
    heads = config.get("n_head") or config["num_attention_heads"]
    return {
        "num_blocks": config.get("n_layer") or config["num_hidden_layers"],
        "hidden_size": hidden,
        "embedding_size": hidden,
        "num_heads": heads,
        "num_kv_heads": heads,
        "head_dim": hidden // heads,
        "ffn_size": 4 * hidden,
        # ALiBi has no table; the length that BLOOM was trained at.
        "max_positions": config.get("seq_length") or 2048,
        "norm_eps": config["layer_norm_epsilon"],
        "position": "alibi",
        "norm": "layer",
        "activation": "gelu_tanh",
    }
