"""Standing questions over a stream of frames: cached head against sensors at the input.

Measures the language model alone, from sensor tokens (ours: keys and values) to the state behind
each question's last token. The encoders are the same for all variants and left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..runtime.cost import LanguageModelCost
from ..runtime.kv_prefix import KvPrefix
from ..runtime.language_model import LanguageModel
from .input_level import InputLevelModel, input_level_flops
from .measure import interleave, machine_card, paired_ratio

METHOD = (
    "Language-model time per frame, all variants in one run with the same engines, weights, "
    "precision and threads; rounds interleaved in rotating order. cached_head: all questions as "
    "one packed batch through the tail behind the sensor's keys and values. text_first: the "
    "sensor's tokens and one last prompt token behind each question's cached text, all blocks. "
    "sensor_first: the sensor's tokens once, then every question's text, all blocks. The "
    "baselines use the last block for last tokens only, like the tail. Encoders and the "
    "projection of sensor tokens are outside in all variants; random tokens, as values do not "
    "change the time."
)


def bench_standing(
    model: LanguageModel,
    *,
    questions: int,
    tail_blocks: int,
    text_tokens: int,
    sensor_tokens: int,
    rounds: int,
    threads: int,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Measure and compare.

    Args:
        model: the language model.
        questions: standing questions.
        tail_blocks: depth of the tail.
        text_tokens: tokens of each question.
        sensor_tokens: tokens of all sensors together.
        rounds: counted runs of each variant.
        threads: that the model was loaded with, for the record.
        progress: called with (rounds done, rounds in all).
    """
    rng = np.random.default_rng(0)
    # What the form of the input saves is measured on one engine; the C code is in `bench peers`.
    model = model.engines_only()
    config = model.config
    low, high = min(100, config.vocab_size // 2), config.vocab_size
    texts = rng.integers(low, high, (questions, text_tokens)).tolist()
    shape = (tail_blocks, config.num_kv_heads, sensor_tokens, config.head_dim)
    prefix = KvPrefix(
        tuple(range(config.num_blocks - tail_blocks, config.num_blocks)),
        rng.standard_normal(shape).astype(np.float32),
        rng.standard_normal(shape).astype(np.float32),
    )
    sensor = rng.standard_normal((sensor_tokens, config.embedding_size)).astype(np.float32) * 0.1
    heads = [model.encode(text, [tail_blocks]) for text in texts]
    baseline = InputLevelModel(model)
    cached = baseline.cache_text([text[:-1] for text in texts])
    last = [text[-1] for text in texts]
    timings = interleave(
        {
            "cached_head": lambda: model.tail(heads, prefix, tail_blocks),
            "text_first": lambda: baseline.text_first(cached, sensor, last),
            "sensor_first": lambda: baseline.sensor_first(sensor, texts),
        },
        rounds=rounds,
        progress=progress,
    )
    ratios = {
        name: paired_ratio(timings[name], timings["cached_head"])
        for name in ("text_first", "sensor_first")
    }
    best = min(ratios, key=lambda name: ratios[name]["median"])
    return {
        "benchmark": "standing",
        "speedup_vs_best_input_level": round(ratios[best]["median"], 3),
        "best_input_level": best,
        "speedup": ratios,
        "ms": {name: timing.summary() for name, timing in timings.items()},
        "flops": _flops(model, questions, tail_blocks, text_tokens, sensor_tokens),
        "settings": {
            "model": model.manifest.name,
            "precision": model.manifest.precision,
            "questions": questions,
            "tail_blocks": tail_blocks,
            "text_tokens": text_tokens,
            "sensor_tokens": sensor_tokens,
            "rounds": rounds,
        },
        "machine": machine_card(threads),
        "method": METHOD,
    }


def _flops(
    model: LanguageModel, questions: int, tail_blocks: int, text_tokens: int, sensor_tokens: int
) -> dict[str, int]:
    cost = LanguageModelCost(model.config, model.manifest.precision, model.attends_apart)
    lengths = [text_tokens] * questions
    return {
        "cached_head": cost.tail(lengths, model.boundary(tail_blocks), sensor_tokens),
        **input_level_flops(cost, lengths, sensor_tokens),
    }
