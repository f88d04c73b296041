"""transformers as the paper's code uses it: all text again behind a key/value prefix in all blocks.

mPnP-LLM (2312.07886) puts aligned keys and values into `past_key_values`: those of the sensors in
the last blocks, zeros below, and computes the whole text of every question in every frame. See
`worker_loop.py` for how the worker is asked.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from worker_loop import serve  # pyright: ignore[reportMissingImports]


def load() -> tuple[dict[str, Any], dict[str, Any]]:
    """The checkpoint of a GGUF file, dequantised to float32."""
    import torch
    import transformers

    path, threads, tail = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    )
    model.eval()
    config = model.config
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    kv_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    generator = torch.Generator().manual_seed(0)
    state: dict[str, Any] = {}

    def decode(request: dict[str, Any]) -> dict[str, Any]:
        cache = transformers.DynamicCache()
        token = int(_logits(torch.tensor([request["prompt"]]), cache).argmax(-1)[0])
        times, tokens = [], []
        for _ in range(request["tokens"]):
            tokens.append(token)
            start = time.perf_counter()
            token = int(_logits(torch.tensor([[token]]), cache).argmax(-1)[0])
            times.append((time.perf_counter() - start) * 1e3)
        return {"ms": times, "tokens": tokens}

    def _logits(ids: Any, cache: Any, mask: Any = None) -> Any:
        found = model(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return found.logits[:, -1]

    def prepare(request: dict[str, Any]) -> dict[str, Any]:
        state.update(request)
        return {}

    def frame(request: dict[str, Any]) -> dict[str, Any]:
        texts, rows = state["texts"], len(request["sensor"])
        longest = max(map(len, texts))
        ids = torch.zeros((len(texts), longest), dtype=torch.int64)
        mask = torch.ones((len(texts), rows + longest), dtype=torch.int64)
        for row, text in enumerate(texts):
            ids[row, longest - len(text) :] = torch.tensor(text)
            mask[row, rows : rows + longest - len(text)] = 0
        shape = (len(texts), kv_heads, rows, head)
        first = config.num_hidden_layers - tail
        seen = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
        none = torch.zeros(shape), torch.zeros(shape)
        start = time.perf_counter()
        cache = transformers.DynamicCache()
        for layer in range(config.num_hidden_layers):
            keys, values = seen if layer >= first else none
            cache.update(keys, values, layer)
        found = _logits(ids, cache, mask)
        return {"ms": (time.perf_counter() - start) * 1e3, "tokens": found.argmax(-1).tolist()}

    def following(request: dict[str, Any]) -> dict[str, Any]:
        found = [
            int(_logits(torch.tensor([prompt]), transformers.DynamicCache()).argmax(-1)[0])
            for prompt in request["prompts"]
        ]
        return {"tokens": found}

    version = f"{transformers.__version__} (torch {torch.__version__})"
    about = {"version": version, "orders": ["prefix"]}
    return about, {"decode": decode, "prepare": prepare, "frame": frame, "next": following}


if __name__ == "__main__":
    serve(load)
