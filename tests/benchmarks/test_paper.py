"""The paper's measures: counts against what learners count and torch counts, memory, and runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tailwire.benchmarks.input_level_methods import BASELINES, METHODS, PREFIX_METHODS
from tailwire.benchmarks.paper_costs import (
    PaperTask,
    frame_table,
    head_flops,
    sample_flops,
    sample_table,
)
from tailwire.benchmarks.paper_numbers import TABLE, paper_json
from tailwire.benchmarks.paper_runs import accuracies, equal_accuracy, read_runs
from tailwire.export.checkpoint import open_checkpoint
from tailwire.runtime.connections import ConnectionSpec
from tailwire.runtime.cost import ConnectionCost, LanguageModelCost
from tailwire.runtime.errors import DataError
from tailwire.runtime.frame_cost import EncoderCost

if TYPE_CHECKING:
    from ..built_models import TinyModels

SPECS = {
    "plain": ConnectionSpec(kind="plain", tail_blocks=2, hidden=24),
    "conditioned": ConnectionSpec(kind="conditioned", tail_blocks=2, width=16, layers=2, heads=2),
}


def task_of(tiny: TinyModels, kind: str = "conditioned", **changes: Any) -> PaperTask:
    values: dict[str, Any] = {
        "checkpoint": tiny.folder("llama"),
        "config": open_checkpoint(tiny.folder("llama")).config,
        "spec": SPECS[kind],
        "modalities": {"cam_front": "camera", "cam_back": "camera", "lidar_top": "lidar"},
        "sizes": {"camera": (4, 8), "lidar": (6, 8)},
        "filled": {"cam_front": [4, 2, 3], "cam_back": [1, 0, 2], "lidar_top": [5, 6, 3]},
        "texts": [7, 4, 9, 5],
        "answers": 5,
        "base": ("cam_front", "cam_back"),
        "coming": ("lidar_top",),
        "batch": 6,
        "lora_rank": 2,
    }
    return PaperTask(**{**values, **changes})


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Products this small are no faster on more."""
    torch = pytest.importorskip("torch", reason="what is trained is in torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("method", ["tail-2", "tail-6", *BASELINES])
def test_a_sample_costs_what_its_learner_and_torch_count(
    one_thread: None, tiny: TinyModels, kind: str, method: str
) -> None:
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from tailwire.benchmarks.paper_training import build_learner, task_data

    task = task_of(tiny, kind)
    learner, _ = build_learner(task, method, "float32", task_data(task))
    samples = task_data(task).prepared.train
    step = sample_flops(task, method) * task.batch
    assert step == learner.step_flops(samples, task.sensors)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        learner.scores(samples, task.sensors).sum().backward()
    assert step == pytest.approx(counter.get_total_flops(), rel=0.04)


def test_rows_compare_with_full_fine_tuning(tiny: TinyModels) -> None:
    task = task_of(tiny)
    rows = {row["method"]: row for row in sample_table(task, [2, 4, 6])}
    assert list(rows) == ["tail-2", "tail-4", "tail-6", *BASELINES]
    costs = [rows[f"tail-{depth}"]["flops_per_sample"] for depth in (2, 4, 6)]
    assert costs == sorted(costs)
    full = rows["full"]["flops_per_sample"]
    for row in rows.values():
        assert row["flops_ratio_vs_full"] == pytest.approx(full / row["flops_per_sample"], rel=1e-3)
        depth = row["tail_blocks"]
        assert (depth is None) == (row["method"] in BASELINES)
        head = 0 if depth is None else head_flops(task, depth)
        assert row["flops_per_sample_heads_computed"] == round(
            sample_flops(task, row["method"]) + head
        )
    # As many samples as the paper's switch: 659, eight times.
    assert rows["full"]["pflops"] == pytest.approx(659 * 8 * full / 1e15, rel=1e-3)
    cost = LanguageModelCost(task.config)
    assert head_flops(task, 2) == sum(cost.head(n, 4) for n in [7, 4, 9, 5, 7, 4]) / 6


def test_a_frame_grows_with_depth_and_the_input_level_is_the_cheaper_form(tiny: TinyModels) -> None:
    task = task_of(tiny, "plain")
    encoders = {s: EncoderCost(999, *task.sizes[task.modalities[s]]) for s in task.sensors}
    rows = {row["method"]: row for row in frame_table(task, encoders, [2, 6])}
    model = LanguageModelCost(task.config)
    connection = ConnectionCost(task.spec_of(2).with_lora_rank(0), task.config)
    expected = model.tail(task.texts, 4, 4 + 4 + 6)
    expected += 2 * connection.prepare(4, 8) + connection.prepare(6, 8)
    assert rows["tail-2"]["flops"] == expected
    assert rows["tail-2"]["flops_one"] < rows["tail-2"]["flops"] < rows["tail-6"]["flops"]
    # Tokens that are there on average: (4+2+3 + 1+0+2 + 5+6+3) / 3, in front of all texts, once.
    tokens, texts = 9, sum(task.texts)
    blocks, words = task.config.num_blocks, tokens + texts
    linear = model.qkv(words) + model.after_attention(words)
    floor = (blocks - 1) * (linear + model.attention(words, words))
    assert floor < rows["input level"]["flops"] < 1.4 * floor
    assert rows["input level"]["ratio"] == 1
    assert rows["tail-2"]["ratio"] == rows["input level"]["flops"] / rows["tail-2"]["flops"]


def test_each_method_trains_in_a_process_of_its_own(one_thread: None, tiny: TinyModels) -> None:
    from tailwire.benchmarks.paper_training import TrainingSettings, measure_training

    settings = TrainingSettings(steps=2, threads=1, precision="float32")
    told: list[str] = []
    found = measure_training(task_of(tiny), ["tail-2"], settings, told.append)
    row = found["tail-2"]
    assert row["process_peak_bytes"] > row["peak_bytes"] >= row["step_peak_bytes"] > 0
    assert len(row["step_seconds"]) == 2 and row["samples_per_s"] > 0
    assert row["step_flops"] == sample_flops(task_of(tiny), "tail-2") * 6
    assert row["trained_weights"] > 0
    assert told == ["training tail-2, 3 steps"]
    broken = task_of(tiny, checkpoint=Path("no-such-model"))
    assert "no-such-model" in measure_training(broken, ["full"], settings)["full"]["failed"]


def switch(method: str, *points: tuple[float, int]) -> dict[str, Any]:
    return {
        "phase": "switch",
        "method": method,
        "condition": "night",
        "change": "C->C+L",
        "accuracy": points[-1][0],
        "points": [
            {"accuracy": share, "flops": flops, "standard_error": 0.02} for share, flops in points
        ],
    }


def test_equal_accuracy_takes_the_cheapest_tail_that_is_as_right() -> None:
    rows = [
        switch("full", (0.3, 100), (0.5, 200), (0.4, 300)),
        switch("prompt", (0.9, 50)),
        switch("tail-4", (0.2, 1), (0.3, 2)),
        switch("tail-6", (0.4, 10), (0.55, 40)),
        switch("tail-10", (0.5, 25), (0.6, 50)),
        {**switch("lora", (0.1, 1)), "failed": "it diverged"},
    ]
    found = equal_accuracy(rows, ["tail-4", "tail-6", "tail-10"], METHODS, "night")
    error = {"standard_error": 0.02}
    assert found["full"] == {"ratio": 8.0, "method": "tail-10", "accuracy": 0.5, **error}
    assert found["prompt"] == {"ratio": None, "method": None, "accuracy": 0.9, **error}
    assert "lora" not in found
    assert equal_accuracy(rows, ["tail-4"], METHODS, "rain") == {}
    table = accuracies(rows, ["tail-6"], "night")
    assert table["tail-6"]["added"] == 0.55 and table["tail-6"]["day"] is None


def test_a_whole_model_costs_more_than_the_tail_behind_the_same_connection(
    tiny: TinyModels,
) -> None:
    task = task_of(tiny)
    costs = {name: sample_flops(task, name) for name in ("tail-2", *PREFIX_METHODS)}
    assert costs["tail-2"] < costs["prefix-lora"] < costs["prefix-full"]
    # Text alone runs through the blocks before the tail, sensors too at the input.
    assert costs["prefix-full"] < sample_flops(task, "full")


def test_runs_are_read_as_far_as_they_go(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no runs can be read"):
        read_runs(tmp_path)
    (tmp_path / "adaptation-settings.json").write_text(json.dumps({"conditions": ["night"]}))
    lines = json.dumps(switch("full", (0.5, 1))) + '\n{"phase": "swi'
    (tmp_path / "adaptation-runs.jsonl").write_text(lines)
    settings, rows = read_runs(tmp_path)
    assert settings["conditions"] == ["night"] and len(rows) == 1
    (tmp_path / "adaptation-settings.json").write_text("[]")
    with pytest.raises(DataError, match="name no conditions"):
        read_runs(tmp_path)


def test_the_papers_rows_are_beside_its_full_fine_tuning() -> None:
    found = paper_json()
    rows = {row["method"]: row for row in found["table"]}
    assert len(rows) == len(TABLE)
    assert rows["N=10"]["flops_ratio_vs_full"] == pytest.approx(1.95, abs=0.005)
    assert rows["N=10"]["memory_ratio_vs_full"] == pytest.approx(0.82, abs=0.005)
    assert found["headlines"]["flops_ratio_equal_accuracy"] == 3.7
