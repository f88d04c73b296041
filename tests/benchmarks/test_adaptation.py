"""The adaptation benchmark on a tiny task: rows, resumption, figures and the picture."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tailwire.export.checkpoint import open_checkpoint
from tailwire.runtime.adaptation.batch_order import BatchOrder
from tailwire.runtime.errors import ConfigError

if TYPE_CHECKING:
    from ..built_models import TinyModels

pytest.importorskip("torch", reason="what is trained is in torch")

import torch

from tailwire.benchmarks.adaptation import AdaptationBench
from tailwire.benchmarks.adaptation_data import BenchData, DeviceData
from tailwire.benchmarks.adaptation_figures import figures, flops_to_reach
from tailwire.benchmarks.adaptation_plan import BenchSettings
from tailwire.benchmarks.adaptation_plots import draw_adaptation
from tailwire.benchmarks.adaptation_record import BenchRecord
from tailwire.benchmarks.input_level_methods import METHODS

from .adaptation_task import CAMERAS, LIDAR, bench_data

CPU = torch.device("cpu")
SETTINGS: dict[str, Any] = {
    "steps": 24,
    "switch_steps": 8,
    "batch": 16,
    "depths": (2, 3),
    "ships": 2,
    "conditions": ("night",),
    "width": 16,
    "layers": 1,
    "heads": 2,
    "lora_rank": 2,
    "summary_steps": 12,
    "readout_steps": 4,
    "precision": "float32",
    "rates": {
        "tail": (1e-2, 0.0),
        "full": (1e-2, 1e-3),
        "lora": (1e-2, 0.0),
        "prompt": (1e-2, 0.0),
        "prefix-full": (1e-2, 1e-3),
        "prefix-lora": (1e-2, 1e-2),
    },
}


def bench_of(
    tiny: TinyModels,
    folder: Path,
    start: Any = None,
    progress: Callable[[str], None] = lambda text: None,
    **changes: Any,
) -> AdaptationBench:
    """The benchmark of a tiny model; `start` are weights that the day begins with."""
    settings = BenchSettings(**{**SETTINGS, **changes})
    return AdaptationBench(
        bench_data(),
        open_checkpoint(tiny.folder("llama")),
        settings,
        CPU,
        BenchRecord(folder, settings.as_json()),
        base=CAMERAS,
        coming=LIDAR,
        start=lambda spec: start,
        progress=progress,
    )


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Products this small are no faster on more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def finished(one_thread: None, tiny: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    assert bench_of(tiny, folder).run()
    return folder


def rows_of(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "adaptation-runs.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_every_method_has_its_rows(finished: Path) -> None:
    rows = rows_of(finished)
    assert not [row for row in rows if "failed" in row or row.get("diverged")]
    methods = ["tail-2", *METHODS, "tail-3"]
    assert [row["method"] for row in rows if row["phase"] == "day"] == methods
    for method in methods:
        changes = [r["change"] for r in rows if r["phase"] == "switch" and r["method"] == method]
        assert sorted(changes) == ["C", "C->C+L", "C->L"]
    for row in rows:
        if row["phase"] != "switch":
            continue
        flops = [point["flops"] for point in row["points"]]
        assert flops == sorted(flops) and flops[0] == 0 < flops[1]
        assert row["points"][0]["accuracy"] == row["accuracy_before"]
        assert flops[-1] == row["flops"] > row["head_flops"]
        assert row["points"][-1]["samples"] == 8 * 16
        assert row["head_flops"] > 0 if row["method"].startswith("tail") else not row["head_flops"]
    timing = next(row for row in rows if row["phase"] == "timing")
    assert timing["samples_per_second"] > 0
    assert set(timing["epoch_seconds"]) == {"cached", "recomputed"}


def test_the_coming_sensor_tells_what_cameras_do_not(finished: Path) -> None:
    rows = rows_of(finished)
    by = {(r["phase"], r["method"], r.get("change")): r for r in rows}
    for method in ("tail-2", "full"):
        assert by["day", method, None]["accuracy"] > 0.9
        assert by["switch", method, "C->L"]["accuracy"] > 0.8
        assert by["switch", method, "C"]["accuracy"] < 0.75


def test_an_interrupted_run_goes_on_where_it_stopped(tiny: TinyModels, tmp_path: Path) -> None:
    few: dict[str, Any] = {"depths": (2,), "baselines": ("prompt",), "steps": 4, "switch_steps": 2}
    few |= {"summary_steps": 0, "readout_steps": 0}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert bench_of(tiny, whole, **few).run()
    asked: list[int] = []

    def after_three() -> bool:
        asked.append(0)
        return len(asked) > 3

    assert not bench_of(tiny, cut, **few).run(after_three)
    assert len(rows_of(cut)) == 3
    # The machine goes while a line is written.
    with (cut / "adaptation-runs.jsonl").open("a") as file:
        file.write('{"phase": "swi')
    assert bench_of(tiny, cut, **few).run()
    lines = (cut / "adaptation-runs.jsonl").read_text("utf-8").splitlines()
    assert lines[3] == '{"phase": "swi'
    first, second = rows_of(whole), [json.loads(line) for line in lines[:3] + lines[4:]]
    for one, other in zip(first, second, strict=True):
        assert [one.get(key) for key in ("phase", "method", "change", "flops", "accuracy")] == [
            other.get(key) for key in ("phase", "method", "change", "flops", "accuracy")
        ]
    again = bench_of(tiny, cut, **few)
    assert again.run(lambda: True), "nothing is left to do"


def test_all_that_takes_long_tells_how_far_it_is(tiny: TinyModels, tmp_path: Path) -> None:
    told: list[str] = []
    few: dict[str, Any] = {"depths": (2,), "baselines": ("prompt",), "steps": 4, "switch_steps": 3}
    few |= {"summary_steps": 2, "readout_steps": 1}
    bench = bench_of(tiny, tmp_path, progress=told.append, **few)
    assert not bench.run(only=("tail-2",))
    heads, day = told.index("head states: 2 of 2 texts"), told.index("row 1 of 9: day tail-2")
    assert day < heads
    by_day = [text for text in told if text.endswith("left")]
    assert [text.split(",")[0] for text in by_day] == [f"step {n} of 4" for n in (1, 2, 3, 4)]
    assert all("samples/s" in text for text in by_day)
    assert [text for text in told if text.startswith("step 2 of 3")] == 3 * ["step 2 of 3"]


def test_what_the_rows_come_to(finished: Path, tiny: TinyModels) -> None:
    bench = bench_of(tiny, finished)
    rows = rows_of(finished)
    methods = ["tail-2", "tail-3", *METHODS]
    result = figures(rows, bench.exams, ("night",), 2, methods)
    by = {(r["method"], r.get("change")): r for r in rows if r["phase"] == "switch"}
    ours, full = by["tail-2", "C->C+L"], by["full", "C->C+L"]
    goal = max(point["accuracy"] for point in full["points"])
    needed = flops_to_reach(ours, goal)
    expected = None if needed is None else flops_to_reach(full, goal) / needed  # pyright: ignore[reportOptionalOperand]
    assert result["flops_ratio_vs_full"] == expected
    assert result["full_is"] == "full"
    equal = result["ratios"]["night"]["add"]["full"]["flops_equal_samples"]
    assert equal == pytest.approx(full["flops"] / ours["flops"])
    day = next(r for r in rows if r["phase"] == "day" and r["method"] == "tail-2")
    fall = day["by_condition"]["day"] - day["by_condition"]["night"]
    won = by["tail-2", "C->L"]["accuracy"] - day["by_condition"]["night"]
    assert result["night_recovery"]["replace"] == pytest.approx(won / fall)
    assert [line["method"] for line in result["table"]] == methods
    # Two questions of each moment have the same answer, which no word tells.
    assert 0.3 < result["baselines"]["night"]["blind"] < 0.8
    json.dumps(result, allow_nan=False)


def test_a_day_costs_its_steps_and_the_heads_of_its_texts(finished: Path) -> None:
    by_day = {r["method"]: r for r in rows_of(finished) if r["phase"] == "day"}
    assert set(by_day) == {"tail-2", "tail-3", *METHODS}
    samples = SETTINGS["steps"] * SETTINGS["batch"]
    assert {row["samples"] for row in by_day.values() if "samples" in row} == {samples}
    two, three = by_day["tail-2"], by_day["tail-3"]
    assert 0 < two["flops"] < three["flops"] < by_day["full"]["flops"]
    # A deeper tail leaves fewer blocks to the head.
    assert two["head_flops"] > three["head_flops"] > 0


def test_what_the_day_took_beside_input_level_models(finished: Path, tiny: TinyModels) -> None:
    rows = rows_of(finished)
    exams = bench_of(tiny, finished).exams
    result = figures(rows, exams, ("night",), 2, ["tail-2", *METHODS])
    days = {row["method"]: row for row in rows if row["phase"] == "day"}
    assert set(result["day_ratios"]) == set(METHODS)
    for method, one in result["day_ratios"].items():
        ours, points = days["tail-2"], days[method]["points"]
        best = max(point["accuracy"] for point in points)
        cost = next(p["flops"] for p in points if p["accuracy"] == best)
        as_right = ours["accuracy"] >= best and cost > 0
        expected = cost / ours["flops"] if as_right else None
        assert one["flops"] == pytest.approx(expected)
        assert one["accuracy_gain"] == pytest.approx(ours["accuracy"] - best)
        equal = (days[method]["flops"] / points[-1]["samples"]) / (ours["flops"] / ours["samples"])
        assert one["flops_equal_samples"] == pytest.approx(equal)
    started = [{**row, "flops": 0} if row["phase"] == "day" else row for row in rows]
    for one in figures(started, exams, ("night",), 2, ["tail-2", "full"])["day_ratios"].values():
        assert one["flops"] is None and one["accuracy_gain"] is None


def test_tails_may_take_more_steps_by_day(tiny: TinyModels, tmp_path: Path) -> None:
    few: dict[str, Any] = {"depths": (2,), "baselines": ("full",), "conditions": ()}
    few |= {"steps": 4, "day_times": 3, "summary_steps": 4, "readout_steps": 2}
    assert bench_of(tiny, tmp_path, **few).run()
    ours, full = rows_of(tmp_path)
    assert ours["samples"] == 3 * full["points"][-1]["samples"] == 12 * 16


def test_the_day_alone(tiny: TinyModels, tmp_path: Path) -> None:
    bench = bench_of(tiny, tmp_path, conditions=(), depths=(2,))
    assert bench.run()
    rows = rows_of(tmp_path)
    assert {row["phase"] for row in rows} == {"day"}
    result = figures(rows, bench.exams, (), 2, ["tail-2", *METHODS])
    assert result["night_recovery"] is None and result["flops_ratio_vs_full"] is None
    assert [line["day"] for line in result["table"]] == [
        next(row["accuracy"] for row in rows if row["method"] == method)
        for method in ("tail-2", *METHODS)
    ]


def test_the_picture_is_drawn(finished: Path, tiny: TinyModels, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures are drawn with matplotlib")
    rows = rows_of(finished)
    result = figures(rows, bench_of(tiny, finished).exams, ("night",), 2, ["tail-2", *METHODS])
    draw_adaptation(tmp_path / "a.png", rows, result["recovery"], "night", 0.5)
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"


def test_a_half_made_table_has_figures(tiny: TinyModels, tmp_path: Path) -> None:
    bench = bench_of(tiny, tmp_path)
    result = figures([], bench.exams, ("night",), 2, ["tail-2", "full"])
    assert result["flops_ratio_vs_full"] is None
    assert result["night_recovery"] == {"add": None, "replace": None}
    assert result["table"][0]["day"] is None


def test_the_folder_of_another_run_is_refused(tiny: TinyModels, tmp_path: Path) -> None:
    bench_of(tiny, tmp_path)
    with pytest.raises(ConfigError, match="switch_steps was 8 and is 9"):
        bench_of(tiny, tmp_path, switch_steps=9)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"depths": (7,)}, "a tail of 7 blocks does not fit 6"),
        ({"batch": 1000}, "decisions to learn by day, fewer than a batch of 1000"),
        ({"conditions": ("fog",)}, "0 decisions to learn by fog"),
    ],
)
def test_what_does_not_fit_is_refused(
    tiny: TinyModels, tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        bench_of(tiny, tmp_path, **changes)


def test_batches_hold_every_sample_once() -> None:
    size = np.random.default_rng(0).integers(1, 50, 103)
    order = BatchOrder(size, 10, seed=(1,))
    seen = np.concatenate([order(step) for step in range(order.steps_per_epoch)])
    assert len(seen) == len(set(seen.tolist())) == 100
    assert not np.array_equal(order(10), order(0)), "the next pass has another order"


def test_only_allowed_tokens_count() -> None:
    data: BenchData = bench_data()
    device = DeviceData(data, CPU)
    samples = data.prepared.train.take(np.arange(20))
    scores = device.masked(torch.zeros(20, len(device.answers)), samples)
    choices = [data.prepared.choices[number] for number in samples.allowed]
    for row, choice, target, column in zip(
        scores, choices, samples.target, device.wanted(samples), strict=True
    ):
        there = {device.answers[at] for at in torch.isfinite(row).nonzero()[:, 0].tolist()}
        assert there == set(choice)
        assert device.answers[int(column)] == choice[target]


def test_a_day_that_failed_fails_its_switches(
    tiny: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tailwire.runtime.adaptation.trainer import Trainer
    from tailwire.runtime.adaptation.training_config import TrainingError

    days: list[int] = []

    def diverge(self: Trainer, on_progress: Any) -> None:
        days.append(self.model.spec.tail_blocks)
        raise TrainingError("the loss is nan", field="learning_rate", remedy="a smaller one")

    monkeypatch.setattr(Trainer, "run", diverge)
    bench = bench_of(tiny, tmp_path, depths=(2,), baselines=())
    assert bench.run()
    rows = rows_of(tmp_path)
    assert days == [2], "it is not tried again for each change"
    assert len(rows) == 5 and all("failed" in row for row in rows)
    result = figures(rows, bench.exams, ("night",), 2, ["tail-2"])
    assert result["table"][0]["day"] is None and not result["timing"]
