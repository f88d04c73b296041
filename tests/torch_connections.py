"""Both kinds of connection written in torch, for one question, without padding or masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tailwire.runtime.connections import ConnectionSpec
from tailwire.runtime.language_model import HeadState, LanguageModel

from .fakes import MODALITIES

Float = NDArray[np.float32]
#: Keys and values by block of the model, each `[kv_heads, rows, head_dim]`.
Prefix = dict[int, tuple[Float, Float]]


def torch_weights(weights: Mapping[str, Float]) -> dict[str, Any]:
    return {name: torch.from_numpy(array) for name, array in weights.items()}


def torch_blocks(rows: Any, spec: ConnectionSpec, model: LanguageModel) -> Any:
    """`[rows, blocks * kv_heads * head_dim]` to one `[kv_heads, rows, head_dim]` per block."""
    heads, size = model.config.num_kv_heads, model.config.head_dim
    blocks = torch.stack(
        [
            torch.stack(
                [
                    rows[:, (block * heads + head) * size : (block * heads + head + 1) * size]
                    for head in range(heads)
                ]
            )
            for block in range(spec.blocks_out)
        ]
    )
    return blocks.expand(spec.tail_blocks, -1, -1, -1)


def torch_plain(
    spec: ConnectionSpec,
    weights: Mapping[str, Float],
    model: LanguageModel,
    tokens: Mapping[str, Float],
) -> Prefix:
    """The paper: gate * (GELU(X W1 + b1) W2 + b2), by block of the model."""
    w = torch_weights(weights)
    parts: dict[str, list[Any]] = {"key": [], "value": []}
    for sensor, made_of in tokens.items():
        modality = MODALITIES[sensor]
        x = torch.from_numpy(made_of) + w[f"sensor.{sensor}"]
        gate = torch.sigmoid(w[f"gate.{modality}"])[:, None, None, None]
        for side, made in parts.items():
            name = f"{modality}.{side}"
            inner = torch.nn.functional.gelu(x @ w[f"{name}.w1"] + w[f"{name}.b1"])
            rows = inner @ w[f"{name}.w2"] + w[f"{name}.b2"]
            made.append(gate * torch_blocks(rows, spec, model))
    return by_block(spec, model, parts)


def torch_conditioned(
    spec: ConnectionSpec,
    weights: Mapping[str, Float],
    model: LanguageModel,
    tokens: Mapping[str, Float],
    head: HeadState,
) -> Prefix:
    """torch's own encoder layers over one question, without padding or masks."""
    w = torch_weights(weights)
    state = torch.from_numpy(head.states[model.config.num_blocks - spec.tail_blocks][0][0])
    scale = torch.sqrt((state**2).mean(-1, keepdim=True) + 1e-5)
    question = (state / scale * w["question.norm"]) @ w["question.w"] + w["question.b"]
    scene, gates = [w["summary"]], [w["gate.summary"][:, None]]
    for sensor, made_of in tokens.items():
        modality = MODALITIES[sensor]
        x = torch.from_numpy(made_of) + w[f"sensor.{sensor}"]
        scene.append(x @ w[f"{modality}.in.w"] + w[f"{modality}.in.b"])
        gates.append(w[f"gate.{modality}"][:, None].expand(-1, len(x)))
    kept = sum(len(part) for part in scene)
    x = torch.cat([*scene, question])[None]
    for index in range(spec.layers):
        x = torch_layer(spec, w, f"layer{index}")(x)
    final = torch.nn.functional.layer_norm(
        x[0, :kept], (spec.width,), w["final.norm.w"], w["final.norm.b"]
    )
    gate = torch.sigmoid(torch.cat(gates, 1))[:, None, :, None]
    parts = {
        side: [gate * torch_blocks(final @ w[f"{side}.w"] + w[f"{side}.b"], spec, model)]
        for side in ("key", "value")
    }
    return by_block(spec, model, parts)


def torch_layer(spec: ConnectionSpec, w: Mapping[str, Any], name: str) -> Any:
    layer = torch.nn.TransformerEncoderLayer(
        spec.width,
        spec.heads,
        4 * spec.width,
        dropout=0.0,
        activation="gelu",
        batch_first=True,
        norm_first=True,
    ).eval()
    named = {
        "self_attn.in_proj_weight": w[f"{name}.qkv.w"].T,
        "self_attn.in_proj_bias": w[f"{name}.qkv.b"],
        "self_attn.out_proj.weight": w[f"{name}.out.w"].T,
        "self_attn.out_proj.bias": w[f"{name}.out.b"],
        "linear1.weight": w[f"{name}.ffn1.w"].T,
        "linear1.bias": w[f"{name}.ffn1.b"],
        "linear2.weight": w[f"{name}.ffn2.w"].T,
        "linear2.bias": w[f"{name}.ffn2.b"],
    }
    for norm in ("norm1", "norm2"):
        named |= {f"{norm}.weight": w[f"{name}.{norm}.w"], f"{norm}.bias": w[f"{name}.{norm}.b"]}
    layer.load_state_dict(named)
    return layer


def by_block(spec: ConnectionSpec, model: LanguageModel, parts: Mapping[str, list[Any]]) -> Prefix:
    first = model.config.num_blocks - spec.tail_blocks
    keys, values = (torch.cat(parts[side], 2).detach().numpy() for side in ("key", "value"))
    return {first + i: (keys[i], values[i]) for i in range(spec.tail_blocks)}
