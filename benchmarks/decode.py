"""Decoding speed, token by token, beside llama.cpp on the same weights and threads in one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..runtime.cost import WEIGHT_BYTES, LanguageModelCost
from ..runtime.language_model import LanguageModel
from ..runtime.lora import Lora
from ..runtime.text_cache import TextCache
from .measure import machine_card
from .peers.llama_peer import LlamaCpp

METHOD = (
    "Greedy decoding behind the same prompt, full vocabulary scored for each token, no stop at "
    "end of text. A round decodes with every engine in turn; tokens per second is 1000 / the "
    "median milliseconds of all tokens of all rounds. llama.cpp is built on this machine from "
    "source by pip, with its default flags."
)


@dataclass(frozen=True)
class Contestant:
    """An engine that decodes.

    Attributes:
        name: e.g. `tailwire int8`.
        decode: milliseconds per token, and the tokens.
    """

    name: str
    decode: Callable[[Sequence[int], int], tuple[list[float], list[int]]]


def tailwire_contestant(
    model: LanguageModel, name: str | None = None, lora: Lora | None = None
) -> Contestant:
    """Our own engine.

    Args:
        model: of the engines.
        name: None takes that of the precision.
        lora: computed beside the projections, None for none.
    """

    def decode(prompt: Sequence[int], tokens: int) -> tuple[list[float], list[int]]:
        depth = model.config.num_blocks
        result = model.tail([model.encode(prompt, [depth])], None, depth, lora)
        token = int(model.logits(result.final)[0].argmax())
        cache = TextCache(model, result, 0, room=tokens)
        times, ids = [], []
        for _ in range(tokens):
            ids.append(token)
            start = time.perf_counter()
            token = int(model.logits(cache.extend(token))[0].argmax())
            times.append((time.perf_counter() - start) * 1e3)
        return times, ids

    return Contestant(name or f"tailwire {model.manifest.precision}", decode)


def llama_cpp_contestant(peer: LlamaCpp, name: str) -> Contestant:
    """A llama.cpp process."""

    def decode(prompt: Sequence[int], tokens: int) -> tuple[list[float], list[int]]:
        reply = peer.decode(prompt, tokens)
        return reply["ms"], reply["tokens"]

    return Contestant(name, decode)


def bench_decode(
    model: LanguageModel,
    contestants: Sequence[Contestant],
    *,
    prompt: Sequence[int],
    tokens: int,
    rounds: int,
    threads: int,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Decode with all contestants in turn.

    Args:
        model: any of ours, for the cost card.
        contestants: who decodes.
        prompt: token ids.
        tokens: decoded per round.
        rounds: counted rounds, after one that is not.
        threads: of every engine, for the record.
        progress: called with (rounds done, rounds in all).
    """
    times: dict[str, list[float]] = {one.name: [] for one in contestants}
    for number in range(-1, rounds):
        turn = number % len(contestants)
        for one in [*contestants[turn:], *contestants[:turn]]:
            ms, _ = one.decode(prompt, tokens)
            if number >= 0:
                times[one.name] += ms
        if progress is not None and number >= 0:
            progress(number + 1, rounds)
    cost = LanguageModelCost(model.config, model.manifest.precision)
    speeds = {name: round(1000 / float(np.median(ms)), 1) for name, ms in times.items()}
    return {
        "benchmark": "decode",
        "tokens_per_second": speeds,
        "ms_per_token": {
            name: {f"p{q}": float(np.percentile(ms, q)) for q in (10, 50, 90, 99)}
            for name, ms in times.items()
        },
        "weight_bytes_per_token": {
            precision: cost.weight_bytes(precision)
            + round(model.config.vocab_size * model.config.embedding_size * WEIGHT_BYTES["int8"])
            for precision in ("int8", "int4")
        },
        "settings": {
            "model": model.manifest.name,
            "prompt_tokens": len(prompt),
            "tokens": tokens,
            "rounds": rounds,
        },
        "machine": machine_card(threads),
        "method": METHOD,
    }
