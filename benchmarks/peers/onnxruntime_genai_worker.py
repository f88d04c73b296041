"""onnxruntime-genai on a folder of its model builder; see `worker_loop.py` for how it is asked."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from worker_loop import serve  # pyright: ignore[reportMissingImports]

_LONGEST = 512


def load() -> tuple[dict[str, Any], dict[str, Any]]:
    """The model, and a generator for each question whose text is kept."""
    import numpy as np
    import onnxruntime_genai as genai  # pyright: ignore[reportMissingImports]

    path, threads = sys.argv[1], int(sys.argv[2])
    config = genai.Config(path)
    options = {"intra_op_num_threads": threads, "inter_op_num_threads": 1}
    config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
    model = genai.Model(config)
    state: dict[str, Any] = {}

    def generator(batch: int = 1) -> Any:
        params = genai.GeneratorParams(model)
        params.set_search_options(max_length=_LONGEST, batch_size=batch, do_sample=False)
        return genai.Generator(model, params)

    def append(one: Any, ids: Any) -> list[int]:
        one.append_tokens(np.asarray(ids, np.int32))
        logits = np.asarray(one.get_logits())
        return logits.reshape(-1, logits.shape[-1]).argmax(-1).tolist()

    def decode(request: dict[str, Any]) -> dict[str, Any]:
        one, times, tokens = generator(), [], []
        token = append(one, request["prompt"])[-1]
        for _ in range(request["tokens"]):
            tokens.append(token)
            start = time.perf_counter()
            token = append(one, [token])[-1]
            times.append((time.perf_counter() - start) * 1e3)
        return {"ms": times, "tokens": tokens}

    def prepare(request: dict[str, Any]) -> dict[str, Any]:
        state.clear()
        state.update(request, kept=[])
        if request["order"] == "text_first":
            for text in request["texts"]:
                one = generator()
                append(one, text[:-1])
                state["kept"].append(one)
        return {}

    def frame(request: dict[str, Any]) -> dict[str, Any]:
        sensor, texts = request["sensor"], state["texts"]
        start = time.perf_counter()
        if state["order"] == "text_first":
            # Going back is for one sequence only, so questions go one after the other.
            tokens = []
            for one, text in zip(state["kept"], texts, strict=True):
                one.rewind_to(len(text) - 1)
                tokens.append(append(one, sensor + text[-1:])[-1])
        else:
            one = generator(len(texts))
            ids = np.asarray([sensor + text for text in texts], np.int32)
            one.append_tokens(ids)
            logits = np.asarray(one.get_logits())
            last = logits.reshape(len(texts), -1, logits.shape[-1])[:, -1]
            tokens = last.argmax(-1).tolist()
        return {"ms": (time.perf_counter() - start) * 1e3, "tokens": tokens}

    def following(request: dict[str, Any]) -> dict[str, Any]:
        return {"tokens": [append(generator(), prompt)[-1] for prompt in request["prompts"]]}

    about = {"version": genai.__version__, "orders": ["text_first", "sensor_first"]}
    return about, {"decode": decode, "prepare": prepare, "frame": frame, "next": following}


if __name__ == "__main__":
    serve(load)
