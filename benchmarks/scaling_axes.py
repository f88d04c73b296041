"""The axes along which a frame can grow: questions, sensors, depth, words, tokens of a sensor."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ..runtime.cost import LanguageModelCost
from ..runtime.frames import SensorFrame
from ..runtime.kv_prefix import KvPrefix
from ..runtime.language_model import LanguageModel
from ..runtime.passes import question_passes
from ..runtime.runtime import Runtime
from .scaling import Axis

#: Between two frames of one sensor.
_FRAME_NS = 500_000_000


def question_axis(
    runtime: Runtime,
    frames: Sequence[SensorFrame],
    questions: Sequence[tuple[str, Sequence[str]]],
    sizes: Sequence[int],
) -> Axis:
    """More standing questions about one frame, whose tokens are there already.

    Args:
        runtime: with its sensors on.
        frames: of all of them, seen once.
        questions: as many as the largest size.
        sizes: how many are asked.
    """
    asked = [runtime.prepare(text, answers) for text, answers in questions]
    runtime.answer(asked[:1], frames)

    def run(size: int) -> int:
        return runtime.answer(asked[:size])[0].flops

    return Axis(
        "questions",
        {size: lambda size=size: run(size) for size in sizes},
        "standing questions answered from tokens that are there: connection, tail, decoding",
    )


def sensor_axis(runtime: Runtime, frames: Sequence[SensorFrame], questions: int) -> Axis:
    """More sensors, every one encoded anew, with the standing questions that are watched.

    Args:
        runtime: with standing questions.
        frames: of the sensors, in the order in which they come.
        questions: how many are watched, for the record.
    """
    stamps = itertools.count(1)

    def run(some: Sequence[SensorFrame]) -> int:
        runtime.switch_sensors([frame.sensor for frame in some])
        shift = next(stamps) * _FRAME_NS
        given = [replace(one, stamp_ns=one.stamp_ns + shift) for one in some]
        return runtime.step(given)[0].flops

    sizes = range(1, len(frames) + 1)
    return Axis(
        "sensors",
        {size: lambda size=size: run(frames[:size]) for size in sizes},
        f"whole frames with {questions} standing questions; one of another kind costs another "
        "amount; sensors in the order " + ", ".join(frame.sensor for frame in frames),
        {size: lambda size=size: run(frames[max(size - 1, 0) : size]) for size in (0, *sizes)},
    )


def depth_axis(model: LanguageModel, *, questions: int, tokens: int, rows: int) -> Axis:
    """A deeper tail."""
    depths = sorted(model.config.num_blocks - group.start for group in model.manifest.groups)
    return Axis(
        "tail depth",
        {depth: tail_run(model, depth, questions, tokens, rows) for depth in depths},
        f"the tail alone: {questions} questions of {tokens} tokens behind {rows} rows",
    )


def length_axis(
    model: LanguageModel, *, depth: int, questions: int, rows: int, sizes: Sequence[int]
) -> Axis:
    """Longer questions."""
    return Axis(
        "question length",
        {size: tail_run(model, depth, questions, size, rows) for size in sizes},
        f"the tail alone: {questions} questions behind {rows} rows, {depth} blocks",
    )


def token_axis(
    model: LanguageModel,
    *,
    depth: int,
    questions: int,
    tokens: int,
    sensors: int,
    sizes: Sequence[int],
) -> Axis:
    """More tokens of each sensor."""
    return Axis(
        "tokens per sensor",
        {size: tail_run(model, depth, questions, tokens, sensors * size) for size in sizes},
        f"the tail alone: {questions} questions of {tokens} tokens, {sensors} sensors, {depth} "
        "blocks, one prefix for all questions",
    )


def tail_run(
    model: LanguageModel, depth: int, questions: int, tokens: int, rows: int
) -> Callable[[], int]:
    """Runs the tail on random questions behind random rows; values do not change the time."""
    config, rng = model.config, np.random.default_rng(0)
    low = min(100, config.vocab_size // 2)
    texts = rng.integers(low, config.vocab_size, (questions, tokens)).tolist()
    shape = (depth, config.num_kv_heads, rows, config.head_dim)
    prefix = KvPrefix(
        tuple(range(config.num_blocks - depth, config.num_blocks)),
        rng.standard_normal(shape).astype(np.float32),
        rng.standard_normal(shape).astype(np.float32),
    )
    heads = [model.encode(text, [depth]) for text in texts]
    lengths = [tokens] * questions
    # In as many passes as the runtime would take.
    passes = question_passes(lengths)
    cost = LanguageModelCost(config, model.manifest.precision, model.attends_apart)
    boundary = model.boundary(depth)
    flops = sum(cost.tail(lengths[part], boundary, rows) for part in passes)

    def run() -> int:
        for part in passes:
            model.tail(heads[part], prefix, depth)
        return flops

    return run
