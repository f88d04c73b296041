"""transformers as the independent reference, with and without a prefix in chosen blocks.

The prefix is added inside transformers' own attention modules by plain torch operations; nothing
of Tailwire is used. A prefix row is seen by every token, carries no position, and with ALiBi is at
distance 0 from every token.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import gguf
import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from transformers.models.bloom.modeling_bloom import BloomAttention, build_alibi_tensor

Float = NDArray[np.float32]
#: By block: keys and values, each `[kv_heads, rows, head_dim]`.
Prefix = Mapping[int, tuple[Float, Float]]

_WITH_PREFIX = "tailwire_reference"


class Reference:
    """A float32 causal model of transformers that answers with numpy logits."""

    def __init__(self, folder: Path, gguf_file: str | None = None) -> None:
        with _gguf_read_once():
            self.model: Any = transformers.AutoModelForCausalLM.from_pretrained(
                folder, gguf_file=gguf_file, dtype=torch.float32
            ).eval()
        self.model.generation_config.eos_token_id = None

    def logits(self, token_ids: Sequence[int], prefix: Prefix | None = None) -> Float:
        """Logits of all positions, `[tokens, vocab_size]`; without a prefix nothing is patched."""
        ids = torch.as_tensor(list(token_ids))[None]
        with _quietly():
            if prefix is None:
                return self.model(ids).logits[0].numpy()
            with _attention_with(self.model, prefix):
                return self.model(ids, use_cache=False).logits[0].numpy()

    def logits_behind_cache(self, token_ids: Sequence[int], prefix: Prefix) -> Float:
        """As `logits`, by a cache of transformers; needs a prefix of equal rows in every block."""
        ids = torch.as_tensor(list(token_ids))[None]
        cache = transformers.DynamicCache()
        for block, (keys, values) in prefix.items():
            cache.update(torch.from_numpy(keys)[None], torch.from_numpy(values)[None], block)
        positions = torch.arange(ids.shape[1])[None]
        mask = torch.ones(1, cache.get_seq_length() + ids.shape[1])
        with _quietly():
            outputs = self.model(
                ids, past_key_values=cache, position_ids=positions, attention_mask=mask
            )
        return outputs.logits[0].numpy()

    def greedy(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> list[list[int]]:
        """What `generate` appends to each prompt; it does not stop at end tokens.

        The prompts are padded on the left to one batch.
        """
        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(p)) + list(p) for p in prompts])
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
        config = transformers.GenerationConfig(
            do_sample=False, max_new_tokens=new_tokens, pad_token_id=0
        )
        with _quietly():
            grown = self.model.generate(ids, attention_mask=mask, generation_config=config)
        return grown[:, longest:].tolist()


@contextmanager
def _gguf_read_once() -> Iterator[None]:
    """transformers parses the file twice and builds its table of names for each module anew."""
    with (
        mock.patch.object(gguf, "GGUFReader", functools.cache(gguf.GGUFReader)),
        mock.patch.object(gguf, "get_tensor_name_map", functools.cache(gguf.get_tensor_name_map)),
    ):
        yield


@contextmanager
def _quietly() -> Iterator[None]:
    """No gradients, and one thread: torch's threads wait spinning where cores are shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _attention_with(model: Any, prefix: Prefix) -> Iterator[None]:
    """Let the model attend to `[prefix ; text]` in the blocks that have a prefix."""
    tensors = {
        block: (torch.from_numpy(keys), torch.from_numpy(values))
        for block, (keys, values) in prefix.items()
    }
    bloom = [m for m in model.modules() if isinstance(m, BloomAttention)]
    before = model.config._attn_implementation
    try:
        for module in bloom:
            module.forward = _bloom_forward(module, tensors.get(module.layer_idx or 0))
        if not bloom:
            transformers.AttentionInterface.register(_WITH_PREFIX, _interface(tensors))
            model.set_attn_implementation(_WITH_PREFIX)
        yield
    finally:
        for module in bloom:
            del module.forward
        if not bloom:
            model.set_attn_implementation(before)


def _interface(prefix: Mapping[int, tuple[torch.Tensor, torch.Tensor]]) -> Any:
    def attend(
        module: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: object,
        scaling: float,
        **_: object,
    ) -> tuple[torch.Tensor, None]:
        # The mask is left aside: the texts here are whole and unpadded, so causality is all of it.
        out = _attend(query[0], key[0], value[0], prefix.get(module.layer_idx), scaling, None)
        return out.transpose(0, 1)[None], None

    return attend


def _bloom_forward(module: Any, prefix: tuple[torch.Tensor, torch.Tensor] | None) -> Any:
    def forward(hidden_states: torch.Tensor, residual: torch.Tensor, **_: object) -> Any:
        tokens = hidden_states.shape[1]
        query, key, value = module._reshape(module.query_key_value(hidden_states))
        # transformers' bias of the keys 0 … tokens - 1; its second column is the slope itself.
        biases = build_alibi_tensor(torch.ones(1, max(tokens, 2)), module.num_heads, torch.float32)
        scaling = 1 / math.sqrt(module.head_dim)
        out = _attend(query[0], key[0], value[0], prefix, scaling, biases[:, 0, 1])
        return module.dense(out.transpose(0, 1).reshape(1, tokens, -1)) + residual, None

    return forward


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    prefix: tuple[torch.Tensor, torch.Tensor] | None,
    scaling: float,
    slopes: torch.Tensor | None,
) -> torch.Tensor:
    """Attention of all heads `[heads, tokens, head_dim]`, one head and one query at a time."""
    heads, tokens, _ = query.shape
    group = heads // key.shape[0]
    out = torch.empty_like(query)
    for head in range(heads):
        keys, values = key[head // group], value[head // group]
        rows = torch.empty(0, keys.shape[1]), torch.empty(0, keys.shape[1])
        if prefix is not None:
            rows = prefix[0][head // group], prefix[1][head // group]
        for token in range(tokens):
            seen = torch.cat([rows[0], keys[: token + 1]])
            scores = seen @ query[head, token] * scaling
            if slopes is not None:
                distance = torch.arange(token + 1) - token
                scores[len(rows[0]) :] += slopes[head] * distance
            out[head, token] = scores.softmax(0) @ torch.cat([rows[1], values[: token + 1]])
    return out
