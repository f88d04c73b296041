"""Runs llama.cpp in its own environment and decodes when told to, over standard input and output.

One JSON object per line: `{"prompt": [ids], "tokens": n}` is answered by the milliseconds of each
decoded token. Started by `benchmarks/decode.py`; imports nothing of Tailwire.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def main() -> None:
    """Load the model named in the arguments and serve requests until input ends."""
    import llama_cpp  # pyright: ignore[reportMissingImports]
    import numpy as np

    path, threads = sys.argv[1], int(sys.argv[2])
    model = llama_cpp.Llama(
        model_path=path, n_ctx=1024, n_threads=threads, n_threads_batch=threads, verbose=False
    )
    vocabulary = model.n_vocab()

    def likeliest() -> int:
        logits = llama_cpp.llama_get_logits(model.ctx)
        return int(np.ctypeslib.as_array(logits, shape=(vocabulary,)).argmax())

    def decode(request: dict[str, Any]) -> dict[str, Any]:
        model.reset()
        model.eval(request["prompt"])
        token, times, tokens = likeliest(), [], []
        for _ in range(request["tokens"]):
            tokens.append(token)
            start = time.perf_counter()
            model.eval([token])
            token = likeliest()
            times.append((time.perf_counter() - start) * 1e3)
        return {"ms": times, "tokens": tokens}

    ready = {"ready": True, "version": llama_cpp.__version__}
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(decode(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
