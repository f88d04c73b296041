"""The language model alone: reading a prompt, the first token, and every token after it.

Reading is bound by products, so it is set beside the peak FLOP/s of the machine (MFU); decoding is
bound by reading the weights, so it is set beside the bandwidth (MBU).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..runtime.cost import WEIGHT_BYTES, LanguageModelCost
from ..runtime.kv_prefix import KvPrefix
from ..runtime.language_model import LanguageModel
from ..runtime.model_config import Precision
from ..runtime.text_cache import TextCache
from .machine_probes import MachinePeaks
from .measure import Timings, interleave, machine_card
from .result_file import figure

METHOD = (
    "All precisions in one run, rounds interleaved in rotating order. prefill: a prompt through "
    "all blocks and the scores of its next token, which is the time to first token of a question "
    "without sensors. standing: the same for a standing question whose head is cached, through "
    "the tail behind the rows of all sensors. decode: greedy, full vocabulary scored, no stop; "
    "median over all tokens of all rounds. MFU: counted FLOPs over time, over the measured peak "
    "of that precision. MBU: bytes of weights (blocks and output matrix) and of keys and values, "
    "each read once a token, over time, over the measured bandwidth. Random tokens, as values do "
    "not change the time."
)
_KV_BYTES = 4


def bench_llm(
    models: Mapping[Precision, LanguageModel],
    peaks: MachinePeaks | None,
    *,
    prompts: Sequence[int],
    decode_tokens: int,
    tail_blocks: int,
    sensor_tokens: int,
    rounds: int,
    threads: int,
    fidelity: Mapping[str, float | None],
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Measure reading and decoding.

    Args:
        models: the same weights at several precisions.
        peaks: of this machine; None leaves MFU and MBU out.
        prompts: lengths of prompts, tokens.
        decode_tokens: per round.
        tail_blocks: depth of the tail of a standing question.
        sensor_tokens: rows of its prefix.
        rounds: counted runs.
        threads: that the models were loaded with, for the record.
        fidelity: top-1 agreement of each precision with fp32, where it was measured.
        progress: called with (rounds done, rounds in all).
    """
    readers = {
        (precision, length): _Reader(model, length)
        for precision, model in models.items()
        for length in prompts
    }
    standing = {
        precision: _Standing(model, prompts[0], tail_blocks, sensor_tokens)
        for precision, model in models.items()
    }
    decoders = {
        precision: _Decoder(model, prompts[0], decode_tokens) for precision, model in models.items()
    }
    variants: dict[str, Callable[[], object]] = {
        f"prefill {precision} {length}": reader.run
        for (precision, length), reader in readers.items()
    }
    variants |= {f"standing {precision}": one.run for precision, one in standing.items()}
    variants |= {f"decode {precision}": one.run for precision, one in decoders.items()}
    timings = interleave(variants, rounds=rounds, warm_up=1, progress=progress)
    rows: dict[str, Any] = {}
    for precision in models:
        rows[precision] = {
            "prefill": {
                str(length): readers[precision, length].figures(
                    timings[f"prefill {precision} {length}"], peaks
                )
                for length in prompts
            },
            "standing": standing[precision].figures(timings[f"standing {precision}"], peaks),
            "decode": decoders[precision].figures(peaks, skip=decode_tokens),
            "top1_agreement_with_fp32": fidelity.get(precision),
        }
    first = next(iter(models.values()))
    main = next(iter(rows))
    return {
        "benchmark": "llm",
        "ttft_ms": rows[main]["prefill"][str(prompts[0])]["ttft_ms"],
        "ttft_standing_ms": rows[main]["standing"]["ttft_ms"],
        "decode_tokens_per_s": rows[main]["decode"]["tokens_per_s"],
        "by_precision": rows,
        "peaks": None if peaks is None else peaks.as_json(),
        "settings": {
            "model": first.manifest.name,
            "precisions": list(models),
            "prompt_tokens": list(prompts),
            "decode_tokens": decode_tokens,
            "tail_blocks": tail_blocks,
            "sensor_tokens": sensor_tokens,
            "rounds": rounds,
        },
        "figures": _figures(rows, prompts),
        "machine": machine_card(threads),
        "method": METHOD,
    }


def _figures(rows: Mapping[str, Any], prompts: Sequence[int]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for precision in rows:
        base = f"by_precision.{precision}"
        for length in prompts:
            found[f"{base}.prefill.{length}.ttft_ms"] = figure("lower")
            found[f"{base}.prefill.{length}.flops"] = figure("lower", counted=True)
        found[f"{base}.standing.ttft_ms"] = figure("lower")
        found[f"{base}.standing.flops"] = figure("lower", counted=True)
        found[f"{base}.decode.tokens_per_s"] = figure("higher")
        found[f"{base}.decode.bytes_per_token"] = figure("lower", counted=True)
    return found


def _random_ids(model: LanguageModel, tokens: int) -> list[int]:
    config = model.config
    low = min(100, config.vocab_size // 2)
    return np.random.default_rng(0).integers(low, config.vocab_size, tokens).tolist()


def _speed(
    timing: Timings, flops: int, precision: Precision, peaks: MachinePeaks | None
) -> dict[str, Any]:
    median = timing.summary()["median"]
    mfu = None if peaks is None else flops / (median / 1e3) / peaks.flops_per_s[precision]
    return {
        "ttft_ms": median,
        "ms": timing.summary(),
        "flops": flops,
        "gflop_per_s": flops / median / 1e6,
        "mfu": mfu,
    }


class _Reader:
    """Reads one prompt through all blocks."""

    def __init__(self, model: LanguageModel, tokens: int) -> None:
        self._model, self._ids = model, _random_ids(model, tokens)

    def run(self) -> int:
        depth = self._model.config.num_blocks
        result = self._model.tail([self._model.encode(self._ids, [depth])], None, depth)
        return int(self._model.logits(result.final)[0].argmax())

    def figures(self, timing: Timings, peaks: MachinePeaks | None) -> dict[str, Any]:
        precision = self._model.manifest.precision
        cost, tokens = LanguageModelCost(self._model.config, precision), len(self._ids)
        flops = cost.embed(tokens) + cost.tail([tokens], 0, 0) + cost.logits(1)
        found = _speed(timing, flops, precision, peaks)
        return {**found, "tokens_per_s": tokens / timing.summary()["median"] * 1e3}


class _Standing:
    """Answers one standing question behind a prefix, up to its first token."""

    def __init__(self, model: LanguageModel, tokens: int, tail_blocks: int, rows: int) -> None:
        config, rng = model.config, np.random.default_rng(0)
        self._model, self._depth, self._tokens, self._rows = model, tail_blocks, tokens, rows
        self._head = model.encode(_random_ids(model, tokens), [tail_blocks])
        shape = (tail_blocks, config.num_kv_heads, rows, config.head_dim)
        self._prefix = KvPrefix(
            tuple(range(config.num_blocks - tail_blocks, config.num_blocks)),
            rng.standard_normal(shape).astype(np.float32),
            rng.standard_normal(shape).astype(np.float32),
        )

    def run(self) -> int:
        result = self._model.tail([self._head], self._prefix, self._depth)
        return int(self._model.logits(result.final)[0].argmax())

    def figures(self, timing: Timings, peaks: MachinePeaks | None) -> dict[str, Any]:
        precision = self._model.manifest.precision
        cost = LanguageModelCost(self._model.config, precision)
        boundary = self._model.boundary(self._depth)
        flops = cost.tail([self._tokens], boundary, self._rows) + cost.logits(1)
        return _speed(timing, flops, precision, peaks)


class _Decoder:
    """Decodes greedily behind a prompt that was read before."""

    def __init__(self, model: LanguageModel, prompt: int, tokens: int) -> None:
        self._model, self._prompt, self._tokens = model, prompt, tokens
        depth = model.config.num_blocks
        self._result = model.tail([model.encode(_random_ids(model, prompt), [depth])], None, depth)
        self._ms: list[float] = []

    def run(self) -> None:
        model = self._model
        cache = TextCache(model, self._result, 0, room=self._tokens)
        token = int(model.logits(self._result.final)[0].argmax())
        for _ in range(self._tokens):
            start = time.perf_counter()
            token = int(model.logits(cache.extend(token))[0].argmax())
            self._ms.append((time.perf_counter() - start) * 1e3)

    def figures(self, peaks: MachinePeaks | None, *, skip: int) -> dict[str, Any]:
        """Speeds; `skip` tokens of the warm-up are left out."""
        timing = Timings(np.asarray(self._ms[skip:]))
        config, precision = self._model.config, self._model.manifest.precision
        cost = LanguageModelCost(config, precision)
        context = self._prompt + self._tokens // 2
        keys = 2 * config.num_blocks * config.num_kv_heads * config.head_dim * context * _KV_BYTES
        # The output matrix stays at 8 bits where blocks have fewer.
        scored = "fp32" if precision == "fp32" else "int8"
        output = round(config.vocab_size * config.embedding_size * WEIGHT_BYTES[scored])
        read = cost.weight_bytes(precision) + output + keys
        median = timing.summary()["median"]
        mbu = None if peaks is None else read / (median / 1e3) / peaks.bytes_per_s
        native, reason = self._model.native
        return {
            "tokens_per_s": 1e3 / median,
            "ms": timing.summary(),
            "bytes_per_token": read,
            "flops_per_token": cost.decode_step(1, context, 0, 0) + cost.logits(1),
            "mbu": mbu,
            "decoder": "native C" if native is not None else f"engines ({reason})",
        }
