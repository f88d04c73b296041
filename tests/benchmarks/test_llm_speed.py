"""What the language model's benchmark runs is what it counts, at two precisions of one model."""

from __future__ import annotations

import numpy as np
import pytest

from tailwire.benchmarks.fidelity import agreement, likeliest, ordinary_ids, windows
from tailwire.benchmarks.llm_speed import bench_llm
from tailwire.benchmarks.machine_probes import MachinePeaks
from tailwire.runtime.cost import LanguageModelCost
from tailwire.runtime.head_state import HeadState
from tailwire.runtime.language_model import LanguageModel
from tailwire.runtime.model_config import Precision

from ..built_models import TinyModels

PEAKS = MachinePeaks({"fp32": 1e9, "int8": 2e9, "int4": 1e9}, 1e9, 2e9, "given")


def _models(tiny: TinyModels) -> dict[Precision, LanguageModel]:
    return {"fp32": tiny.model("llama"), "int8": tiny.model("llama", "int8")}


def test_figures_follow_from_times_and_counts(tiny: TinyModels) -> None:
    models, rounds = _models(tiny), 2
    result = bench_llm(
        models,
        PEAKS,
        prompts=[5, 9],
        decode_tokens=4,
        tail_blocks=2,
        sensor_tokens=3,
        rounds=rounds,
        threads=2,
        fidelity={"int8": 0.5},
    )
    for precision, model in models.items():
        found = result["by_precision"][precision]
        cost = LanguageModelCost(model.config, precision)
        one = found["prefill"]["9"]
        boundary = model.boundary(2)
        assert one["flops"] == cost.embed(9) + cost.tail([9], 0, 0) + cost.logits(1)
        seconds = one["ttft_ms"] / 1e3
        assert one["mfu"] == pytest.approx(one["flops"] / seconds / PEAKS.flops_per_s[precision])
        assert found["standing"]["flops"] == cost.tail([5], boundary, 3) + cost.logits(1)
        decode = found["decode"]
        assert decode["ms"]["runs"] == 4 * rounds
        assert decode["mbu"] == pytest.approx(
            decode["bytes_per_token"] * decode["tokens_per_s"] / PEAKS.bytes_per_s
        )
        assert decode["bytes_per_token"] > cost.weight_bytes(precision)
    assert result["by_precision"]["int8"]["top1_agreement_with_fp32"] == 0.5
    assert result["by_precision"]["fp32"]["top1_agreement_with_fp32"] is None
    assert all(_has(result, path) for path in result["figures"])


def _has(result: object, path: str) -> bool:
    for key in path.split("."):
        if not isinstance(result, dict) or key not in result:
            return False
        result = result[key]
    return True


def test_agreement_reads_the_text_that_ships(tiny: TinyModels) -> None:
    model = tiny.model("llama")
    ids = ordinary_ids(model, 70)
    assert len(ids) == 70
    assert [len(part) for part in windows(ids, 32)] == [32, 32, 6]
    found = likeliest(model, ids, 32)
    # Position by position, from the start of its window.
    head: HeadState = model.encode(ids[32:40], [model.config.num_blocks])
    last = model.tail([head], None, model.config.num_blocks).final
    assert found[39] == model.logits(last)[0].argmax()
    assert agreement(found, found) == 1.0
    other = np.where(np.arange(70) < 7, found + 1, found)
    assert agreement(other, found) == pytest.approx(0.9)
