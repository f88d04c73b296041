"""OpenVINO GenAI on a GGUF file; see `worker_loop.py` for how it is asked."""

from __future__ import annotations

import sys
import time
from typing import Any

from worker_loop import serve  # pyright: ignore[reportMissingImports]

_CACHE_GB = 1


def load() -> tuple[dict[str, Any], dict[str, Any]]:
    """The pipeline with paged attention and prefix caching, its strongest form."""
    import numpy as np
    import openvino as ov  # pyright: ignore[reportMissingImports]
    import openvino_genai as genai  # pyright: ignore[reportMissingImports]

    path, threads = sys.argv[1], int(sys.argv[2])
    scheduler = genai.SchedulerConfig()
    scheduler.enable_prefix_caching = True
    scheduler.cache_size = _CACHE_GB
    pipeline = genai.LLMPipeline(
        path, "CPU", scheduler_config=scheduler, INFERENCE_NUM_THREADS=threads
    )
    state: dict[str, Any] = {}

    def generate(prompts: list[list[int]], tokens: int) -> tuple[float, Any]:
        """Greedy tokens behind each prompt; prompts are padded on the left."""
        longest = max(map(len, prompts))
        ids = np.zeros((len(prompts), longest), np.int64)
        mask = np.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt) :] = prompt
            mask[row, longest - len(prompt) :] = 1
        inputs = genai.TokenizedInputs(ov.Tensor(ids), ov.Tensor(mask))
        config = genai.GenerationConfig()
        config.max_new_tokens, config.do_sample, config.ignore_eos = tokens, False, True
        start = time.perf_counter()
        found = pipeline.generate(inputs, config)
        return (time.perf_counter() - start) * 1e3, found

    def decode(request: dict[str, Any]) -> dict[str, Any]:
        _, found = generate([request["prompt"]], request["tokens"])
        # The pipeline's own times of each token, without the first one.
        micros = list(found.perf_metrics.raw_metrics.m_durations)
        times = [one / 1e3 for one in micros][1:] if micros else []
        return {
            "ms": times or [found.perf_metrics.get_tpot().mean],
            "tokens": list(found.tokens[0]),
        }

    def prepare(request: dict[str, Any]) -> dict[str, Any]:
        state.update(request)
        return {}

    def frame(request: dict[str, Any]) -> dict[str, Any]:
        sensor = request["sensor"]
        if state["order"] == "text_first":
            prompts = [text[:-1] + sensor + text[-1:] for text in state["texts"]]
        else:
            prompts = [sensor + text for text in state["texts"]]
        elapsed, found = generate(prompts, 1)
        return {"ms": elapsed, "tokens": [int(row[0]) for row in found.tokens]}

    def following(request: dict[str, Any]) -> dict[str, Any]:
        return {"tokens": [int(generate([p], 1)[1].tokens[0][0]) for p in request["prompts"]]}

    about = {"version": ov.__version__, "orders": ["text_first", "sensor_first"]}
    return about, {"decode": decode, "prepare": prepare, "frame": frame, "next": following}


if __name__ == "__main__":
    serve(load)
