"""llama.cpp on a GGUF file; see `worker_loop.py` for how it is asked. Imports nothing of Tailwire.

Standing questions are sequences of one context, so that all of them go through in one batch: text
first keeps the text of each and goes back to it, sensor first shares the sensor's tokens.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from worker_loop import serve  # pyright: ignore[reportMissingImports]

_CONTEXT, _SEQUENCES = 2048, 16
#: A token of a batch: id, position, sequences, whether its scores are wanted.
_Token = tuple[int, int, list[int], bool]


def load() -> tuple[dict[str, Any], dict[str, Any]]:
    """Load the model named in the arguments, with one context to decode and one for questions."""
    import llama_cpp  # pyright: ignore[reportMissingImports]
    import numpy as np

    path, threads = sys.argv[1], int(sys.argv[2])
    model = llama_cpp.Llama(
        model_path=path, n_ctx=1024, n_threads=threads, n_threads_batch=threads, verbose=False
    )
    vocabulary = model.n_vocab()
    state: dict[str, Any] = {}

    def questions_context() -> Any:
        if "context" not in state:
            params = llama_cpp.llama_context_default_params()
            params.n_ctx, params.n_batch, params.n_ubatch = _CONTEXT, _CONTEXT, 512
            params.n_seq_max, params.kv_unified = _SEQUENCES, True
            params.n_threads = params.n_threads_batch = threads
            state["context"] = llama_cpp.llama_init_from_model(model.model, params)
            state["memory"] = llama_cpp.llama_get_memory(state["context"])
        return state["context"]

    def run(tokens: list[_Token]) -> list[int]:
        """The likeliest tokens behind those whose scores are wanted."""
        context = questions_context()
        batch = llama_cpp.llama_batch_init(len(tokens), 0, _SEQUENCES)
        try:
            batch.n_tokens = len(tokens)
            for place, (token, position, sequences, wanted) in enumerate(tokens):
                batch.token[place], batch.pos[place] = token, position
                batch.n_seq_id[place] = len(sequences)
                for number, sequence in enumerate(sequences):
                    batch.seq_id[place][number] = sequence
                batch.logits[place] = int(wanted)
            code = llama_cpp.llama_decode(context, batch)
            if code:
                raise RuntimeError(f"llama_decode gives {code}")
            return [likeliest(context, place) for place, one in enumerate(tokens) if one[3]]
        finally:
            llama_cpp.llama_batch_free(batch)

    def likeliest(context: Any, place: int) -> int:
        logits = llama_cpp.llama_get_logits_ith(context, place)
        return int(np.ctypeslib.as_array(logits, shape=(vocabulary,)).argmax())

    def read(prompt: list[int]) -> int:
        model.reset()
        model.eval(prompt)
        return likeliest(model.ctx, -1)

    def decode(request: dict[str, Any]) -> dict[str, Any]:
        token, times, tokens = read(request["prompt"]), [], []
        for _ in range(request["tokens"]):
            tokens.append(token)
            start = time.perf_counter()
            model.eval([token])
            token = likeliest(model.ctx, -1)
            times.append((time.perf_counter() - start) * 1e3)
        return {"ms": times, "tokens": tokens}

    def prepare(request: dict[str, Any]) -> dict[str, Any]:
        questions_context()
        llama_cpp.llama_memory_clear(state["memory"], True)
        state.update(order=request["order"], texts=request["texts"])
        if request["order"] == "text_first":
            for number, text in enumerate(request["texts"]):
                run([(token, at, [number], False) for at, token in enumerate(text[:-1])])
        return {}

    def frame(request: dict[str, Any]) -> dict[str, Any]:
        sensor, texts = request["sensor"], state["texts"]
        start = time.perf_counter()
        tokens: list[_Token] = []
        if state["order"] == "text_first":
            for number, text in enumerate(texts):
                kept = len(text) - 1
                llama_cpp.llama_memory_seq_rm(state["memory"], number, kept, -1)
                behind = [*sensor, text[-1]]
                tokens += [
                    (token, kept + at, [number], at == len(sensor))
                    for at, token in enumerate(behind)
                ]
        else:
            llama_cpp.llama_memory_clear(state["memory"], False)
            everyone = list(range(len(texts)))
            tokens += [(token, at, everyone, False) for at, token in enumerate(sensor)]
            for number, text in enumerate(texts):
                tokens += [
                    (token, len(sensor) + at, [number], at == len(text) - 1)
                    for at, token in enumerate(text)
                ]
        found = run(tokens)
        return {"ms": (time.perf_counter() - start) * 1e3, "tokens": found}

    def following(request: dict[str, Any]) -> dict[str, Any]:
        return {"tokens": [read(prompt) for prompt in request["prompts"]]}

    about = {"version": llama_cpp.__version__, "orders": ["text_first", "sensor_first"]}
    return about, {"decode": decode, "prepare": prepare, "frame": frame, "next": following}


if __name__ == "__main__":
    serve(load)
