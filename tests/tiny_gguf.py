"""Writes a tiny Hugging Face folder as a GGUF file, the way llama.cpp's converter does.

The permutation of rotary rows and the tensor names follow `convert_hf_to_gguf.py`; packing into
blocks is the `gguf` package's.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray
from safetensors import safe_open

Float = NDArray[np.float32]

_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_GLOBAL_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def write_tiny_gguf(
    folder: Path,
    path: Path,
    kind: GGMLQuantizationType = GGMLQuantizationType.F32,
    *,
    leave_out: str = "",
    architecture: str | None = None,
    header: dict[str, str | int | float] | None = None,
    extra: dict[str, Float] | None = None,
    reshape: dict[str, tuple[int, ...]] | None = None,
) -> Path:
    """Write the Llama or Qwen2 model in `folder` to `path`.

    Args:
        folder: with config.json, model.safetensors and tokenizer.json.
        path: of the GGUF file.
        kind: of all matrices; vectors stay F32.
        leave_out: name of a tensor or header key that the file lacks.
        architecture: written instead of the true one.
        header: more header fields; strings, integers and floats.
        extra: more tensors.
        reshape: other shapes for some tensors.
    """
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(path, architecture or config["model_type"])
    kind_of_tokenizer = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2"}
    header = {**kind_of_tokenizer, **(header or {})}
    _write_header(writer, config, leave_out, header)
    _write_tokenizer(writer, json.loads((folder / "tokenizer.json").read_text()), leave_out)
    tensors = {**_converted(folder, config), **(extra or {})}
    for name, values in tensors.items():
        if name == leave_out:
            continue
        values = np.ascontiguousarray(values.reshape((reshape or {}).get(name, values.shape)))
        if values.ndim == 2 and kind != GGMLQuantizationType.F32:
            writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _converted(folder: Path, config: dict[str, Any]) -> dict[str, Float]:
    tensors: dict[str, Float] = {}
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    with safe_open(folder / "model.safetensors", framework="np") as file:
        for name in file.keys():  # noqa: SIM118 - the handle is no mapping
            values = np.asarray(file.get_tensor(name)).astype(np.float32)
            if name in _GLOBAL_NAMES:
                tensors[_GLOBAL_NAMES[name]] = values
                continue
            _, _, layer, rest = name.split(".", 3)
            part, suffix = rest.rsplit(".", 1)
            projection = part.rsplit(".", 1)[-1]
            if config["model_type"] == "llama" and projection in heads:
                values = _interleaved(values, heads[projection])
            tensors[f"blk.{layer}.{_NAMES[part]}.{suffix}"] = values
    return tensors


def _interleaved(values: Float, heads: int) -> Float:
    """llama.cpp's order of rotary rows: partners of a rotation next to each other."""
    halves = values.reshape(heads, 2, -1, *values.shape[1:])
    return halves.swapaxes(1, 2).reshape(values.shape)


def _write_header(
    writer: gguf.GGUFWriter,
    config: dict[str, Any],
    leave_out: str,
    header: dict[str, str | int | float],
) -> None:
    arch = writer.arch
    fields: dict[str, str | int | float] = {
        f"{arch}.block_count": config["num_hidden_layers"],
        f"{arch}.context_length": config["max_position_embeddings"],
        f"{arch}.embedding_length": config["hidden_size"],
        f"{arch}.feed_forward_length": config["intermediate_size"],
        f"{arch}.attention.head_count": config["num_attention_heads"],
        f"{arch}.attention.head_count_kv": config["num_key_value_heads"],
        f"{arch}.attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        f"{arch}.rope.freq_base": float(config["rope_parameters"]["rope_theta"]),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }
    if config.get("head_dim"):
        fields[f"{arch}.attention.key_length"] = config["head_dim"]
        fields[f"{arch}.attention.value_length"] = config["head_dim"]
        fields[f"{arch}.rope.dimension_count"] = config["head_dim"]
    for key, value in (fields | header).items():
        if key == leave_out:
            continue
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        else:
            writer.add_uint32(key, value)


def _write_tokenizer(writer: gguf.GGUFWriter, tokenizer: dict[str, Any], leave_out: str) -> None:
    vocabulary = tokenizer["model"]["vocab"]
    special = {token["content"] for token in tokenizer["added_tokens"]}
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    fields: dict[str, list[Any]] = {
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if token in special else 1 for token in tokens],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in tokenizer["model"]["merges"]],
    }
    for key, values in fields.items():
        if key != leave_out:
            writer.add_array(key, values)
