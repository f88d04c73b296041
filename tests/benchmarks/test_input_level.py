"""The baselines must be what they claim: a full pass with the sensor's tokens in the sequence.

Tokens of text stand in for the sensor, so that the model's own text pass is the reference.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tailwire.benchmarks.input_level import InputLevelModel
from tailwire.runtime.language_model import LanguageModel

SENSOR = [7, 91, 33, 120, 64]
QUESTIONS = [[11, 12, 13], [201, 45, 7, 80, 9, 31], [100]]


def _last_state(model: LanguageModel, tokens: list[int]) -> NDArray[np.float32]:
    depth = model.config.num_blocks
    return model.tail([model.encode(tokens, [depth])], None, depth).final[0]


def _embeddings(model: LanguageModel) -> NDArray[np.float32]:
    return model.embedding.rows(np.asarray(SENSOR))


def test_sensor_first_equals_a_pass_per_question(tiny_model: LanguageModel) -> None:
    finals = InputLevelModel(tiny_model).sensor_first(_embeddings(tiny_model), QUESTIONS)
    expected = [_last_state(tiny_model, SENSOR + question) for question in QUESTIONS]
    np.testing.assert_allclose(finals, expected, atol=1e-4)


def test_text_first_equals_a_pass_per_question(tiny_model: LanguageModel) -> None:
    baseline = InputLevelModel(tiny_model)
    text = baseline.cache_text([[3, *question] for question in QUESTIONS])
    last = [17, 18, 19]
    finals = baseline.text_first(text, _embeddings(tiny_model), last)
    expected = [
        _last_state(tiny_model, [3, *question, *SENSOR, end])
        for question, end in zip(QUESTIONS, last, strict=True)
    ]
    np.testing.assert_allclose(finals, expected, atol=1e-4)


def test_a_frame_does_not_change_the_cached_text(tiny_model: LanguageModel) -> None:
    baseline = InputLevelModel(tiny_model)
    text = baseline.cache_text(QUESTIONS)
    first = baseline.text_first(text, _embeddings(tiny_model), [1, 2, 3])
    again = baseline.text_first(text, _embeddings(tiny_model), [1, 2, 3])
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("count", [1, 3])
def test_result_of_the_benchmark_has_what_readers_need(
    tiny_model: LanguageModel, count: int
) -> None:
    from tailwire.benchmarks.standing import bench_standing

    result = bench_standing(
        tiny_model,
        questions=count,
        tail_blocks=2,
        text_tokens=6,
        sensor_tokens=4,
        rounds=3,
        threads=1,
    )
    assert set(result["ms"]) == {"cached_head", "text_first", "sensor_first"}
    best = result["best_input_level"]
    assert result["speedup_vs_best_input_level"] == round(result["speedup"][best]["median"], 3)
    assert all(summary["runs"] == 3 for summary in result["ms"].values())
    assert result["flops"]["cached_head"] < min(
        result["flops"]["text_first"], result["flops"]["sensor_first"]
    )
    assert result["machine"]["versions"]["onnxruntime"]
