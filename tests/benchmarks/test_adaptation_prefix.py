"""Whole models trained behind the tail's connection: answers, gradients, costs, and their rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tailwire.export.checkpoint import open_checkpoint
from tailwire.export.tail_weights import tail_weights
from tailwire.runtime.errors import ConfigError

if TYPE_CHECKING:
    from ..built_models import TinyModels

pytest.importorskip("torch", reason="what is trained is in torch")

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tailwire.benchmarks.adaptation import AdaptationBench
from tailwire.benchmarks.adaptation_data import DeviceData
from tailwire.benchmarks.adaptation_figures import figures
from tailwire.benchmarks.adaptation_learners import Learner, PrefixLearner
from tailwire.benchmarks.adaptation_methods import BenchMethods
from tailwire.benchmarks.adaptation_plan import BenchSettings
from tailwire.benchmarks.adaptation_plots import draw_adaptation
from tailwire.benchmarks.adaptation_runs import PeakMemory, RunSettings, learn
from tailwire.benchmarks.input_level_methods import PREFIX_METHODS
from tailwire.benchmarks.prefix_model import PrefixModel
from tailwire.runtime.adaptation.samples import Samples

from .adaptation_task import CAMERAS, LIDAR, MODALITIES, bench_data
from .test_adaptation import SETTINGS, bench_of, rows_of

CPU = torch.device("cpu")
AFTER = {"C->C+L": (*CAMERAS, *LIDAR), "C->L": LIDAR, "C": CAMERAS}
START: dict[str, Any] = {"steps": 0, "depths": (2,), "baselines": PREFIX_METHODS}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Products this small are no faster on more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def methods_of(tiny: TinyModels, **changes: Any) -> BenchMethods:
    settings, data = BenchSettings(**{**SETTINGS, **START, **changes}), bench_data()
    checkpoint = open_checkpoint(tiny.folder("llama"))
    here = DeviceData(data, CPU)
    return BenchMethods(data, checkpoint, settings, here, CAMERAS, AFTER, lambda text: None)


def day_of(methods: BenchMethods) -> dict[str, Any]:
    """A connection that matters: open gates, and keys and values of some size."""
    rng = np.random.default_rng(4)
    fresh = methods.fresh(methods.spec(2))
    return {
        name: np.full_like(array, 2)
        if name.startswith("gate.")
        else (array + 0.3 * rng.normal(size=array.shape)).astype(np.float32)
        for name, array in fresh.items()
    }


def samples_of(count: int = 12) -> Samples:
    return bench_data().prepared.train.take(np.arange(count))


def state(learner: Learner) -> dict[str, torch.Tensor]:
    assert isinstance(learner, PrefixLearner)
    named = {f"model {n}": p for n, p in learner.model.named_parameters()}
    named |= {f"connection {n}": p for n, p in learner.connection.named_parameters()}
    return {name: parameter.detach().clone() for name, parameter in named.items()}


@pytest.mark.parametrize("kind", ["conditioned", "plain", "per-block"])
@pytest.mark.parametrize("method", PREFIX_METHODS)
def test_untrained_it_answers_as_the_tail_does(tiny: TinyModels, method: str, kind: str) -> None:
    methods = methods_of(tiny, kind=kind)
    day, samples = day_of(methods), samples_of()
    for change, sensors in AFTER.items():
        # Cached head states are rounded to half precision; these are not.
        tail = methods.switching("tail-2", change, day, methods.head(2))
        whole = methods.switching(method, change, day)
        with torch.no_grad():
            expected, looked = tail.scores(samples, sensors), whole.scores(samples, sensors)
        # With gradients texts are not shared by questions.
        trained = whole.scores(samples, sensors).detach()
        np.testing.assert_allclose(looked.numpy(), expected.numpy(), atol=1e-4)
        np.testing.assert_allclose(trained.numpy(), looked.numpy(), atol=1e-4)
        assert expected.std() > 0.1
        without = day | {name: np.full_like(day[name], -30) for name in day if "gate" in name}
        with torch.no_grad():
            blind = methods.switching(method, change, without).scores(samples, sensors)
        assert (blind - looked).abs().max() > 0.05, "the prefix matters"


def test_it_is_the_model_of_transformers_where_there_is_no_prefix(tiny: TinyModels) -> None:
    checkpoint = open_checkpoint(tiny.folder("llama"))
    weights = tail_weights(checkpoint, checkpoint.config.num_blocks)
    embedding = checkpoint.embedding().dense()
    ids, lengths = torch.tensor([[11, 12, 13, 14, 0], [201, 45, 7, 80, 9]]), torch.tensor([4, 5])
    expected = [
        tiny.reference("llama").model(ids[row : row + 1, :count]).logits[0, -1, :300]
        for row, count in enumerate(lengths.tolist())
    ]
    for method in PREFIX_METHODS:
        ours = PrefixModel(weights, embedding, method, 2, dtype=torch.float32)
        with torch.no_grad():
            residual = ours.head(ids, lengths)
            final = ours(residual, lengths, None, ours.low_rank(), ours.num_blocks - 2)
            logits = final @ ours.rows_of(range(300)).T
        for row, logit in zip(expected, logits, strict=True):
            np.testing.assert_allclose(logit.numpy(), row.detach().numpy(), atol=5e-4)


def test_branches_are_low_rank_additions_in_all_blocks(tiny: TinyModels) -> None:
    methods = methods_of(tiny)
    day, samples, sensors = day_of(methods), samples_of(), AFTER["C->C+L"]
    lora, full = (methods.switching(name, "C->C+L", day) for name in ("prefix-lora", "prefix-full"))
    assert isinstance(lora, PrefixLearner) and isinstance(full, PrefixLearner)
    config = lora.model.config
    first, size = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    with torch.no_grad():
        before = lora.scores(samples, sensors)
        for name, branch in lora.model.branches.items():
            if name.endswith("/b"):
                rng = torch.Generator().manual_seed(1)
                branch.copy_(0.3 * torch.randn(branch.shape, generator=rng))
        for block in range(config.num_blocks):
            for side, at in (("key", first), ("value", first + size)):
                a, b = (lora.model.branches[f"{block}/{side}/{part}"] for part in "ab")
                getattr(full.model, f"qkv{block}")[at : at + size] += 4 * (a @ b).T
        scores = [one.scores(samples, sensors) for one in (lora, full)]
    np.testing.assert_allclose(scores[0].numpy(), scores[1].numpy(), atol=2e-3)
    assert (scores[0] - before).abs().max() > 0.05


def test_what_comes_begins_like_what_serves_or_at_random(tiny: TinyModels) -> None:
    known = {name: methods_of(tiny, coming=name) for name in ("like", "random")}
    day = day_of(known["like"])
    for method in ("tail-2", *PREFIX_METHODS):
        begun: dict[str, dict[str, np.ndarray]] = {}
        for name, methods in known.items():
            learner = methods.switching(method, "C->L", day)
            is_whole = isinstance(learner, PrefixLearner)
            model = learner.connection if is_whole else learner.model  # pyright: ignore[reportAttributeAccessIssue]
            begun[name] = model.weights()
        like, random = begun["like"], begun["random"]
        for part in ("lidar.in.w", "lidar.in.b", "gate.lidar"):
            served = day[part.replace("lidar", "camera")]
            np.testing.assert_array_equal(like[part], served)
            assert not np.array_equal(random[part], served)
        others = [name for name in like if "lidar" not in name]
        assert all(np.array_equal(like[name], random[name]) for name in others)


@pytest.mark.parametrize("trains", ["needed", "all"])
@pytest.mark.parametrize("change", ["C->C+L", "C->L", "C"])
@pytest.mark.parametrize("method", PREFIX_METHODS)
def test_training_changes_what_the_method_trains(
    tiny: TinyModels, method: str, change: str, trains: str
) -> None:
    methods = methods_of(tiny, switch_trains=trains)
    learner, sensors = methods.switching(method, change, day_of(methods)), AFTER[change]
    before, data = state(learner), bench_data()
    exam = data.exam("night", 20, 0)
    with PeakMemory(CPU) as memory:
        row = learn(
            learner,
            DeviceData(data, CPU),
            data.learned("night"),
            sensors,
            exam,
            RunSettings(4, 16, 0),
            memory,
        )
    after = state(learner)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    own = {name for name in before if name.startswith("model ")}
    branches = {name for name in own if "branches" in name}
    assert changed & own == (branches if method == "prefix-lora" else own)
    connection = {name.removeprefix("connection p.") for name in changed - own}
    lidar = {"lidar/in/w", "lidar/in/b", "gate/lidar", "sensor/lidar_top"}
    cameras = {"camera/in/w", "camera/in/b", "gate/camera"}
    cameras |= {f"sensor/{name}" for name in CAMERAS}
    # What is added lets what serves learn to say less.
    needed = {"C->C+L": lidar | cameras, "C->L": lidar, "C": cameras | {"gate/summary"}}
    if trains == "needed":
        assert connection == needed[change]
        assert row["trained_weights"] == sum(before[name].numel() for name in changed)
    else:
        assert connection > {"key/w", "value/w", "layer0/qkv/w", "question/w"}
    assert row["points"][0]["flops"] == 0 and row["head_flops"] == 0


@pytest.mark.parametrize("ships", [1, 2, 6])
@pytest.mark.parametrize("kind", ["conditioned", "per-block"])
@pytest.mark.parametrize("method", PREFIX_METHODS)
def test_a_step_costs_what_torch_counts(
    tiny: TinyModels, method: str, kind: str, ships: int
) -> None:
    for trains in ("needed", "all"):
        changes: dict[str, Any] = {"ships": ships, "depths": (ships,), "switch_trains": trains}
        methods = methods_of(tiny, kind=kind, **changes)
        day = methods.fresh(methods.spec(ships))
        for change, sensors in AFTER.items():
            learner, samples = methods.switching(method, change, day), samples_of()
            with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
                learner.scores(samples, sensors).sum().backward()
            counted = counter.get_total_flops()
            assert learner.step_flops(samples, sensors) == pytest.approx(counted, rel=0.005)


def bench_from(tiny: TinyModels, folder: Path, start: Any, **changes: Any) -> AdaptationBench:
    return bench_of(tiny, folder, start, **{**START, **changes})


@pytest.fixture(scope="module")
def learned(
    one_thread: None, tiny: TinyModels, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """Weights that know the day."""
    folder = tmp_path_factory.mktemp("learned")
    bench = bench_from(tiny, folder, None, steps=24, conditions=(), baselines=())
    assert bench.run()
    assert rows_of(folder)[0]["accuracy"] > 0.9
    return bench._day["tail-2"]


@pytest.fixture(scope="module")
def finished(
    learned: dict[str, Any], tiny: TinyModels, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    assert bench_from(tiny, folder, learned).run()
    return folder


def test_the_day_is_the_start(finished: Path) -> None:
    rows = rows_of(finished)
    days = {row["method"]: row for row in rows if row["phase"] == "day"}
    assert list(days) == ["tail-2", *PREFIX_METHODS]
    for row in days.values():
        assert row["flops"] == row["samples"] == 0
        assert row["accuracy"] == row["by_condition"]["day"] > 0.9
        assert row["by_condition"] == days["tail-2"]["by_condition"]
    switches = {(r["method"], r["change"]): r for r in rows if r["phase"] == "switch"}
    assert len(switches) == 9 and not any("failed" in row for row in switches.values())
    for change in AFTER:
        befores = {switches[method, change]["accuracy_before"] for method in days}
        assert len(befores) == 1, "all begin with the same weights"
    night = days["tail-2"]["by_condition"]["night"]
    assert switches["tail-2", "C"]["accuracy_before"] == night
    for method in days:
        assert switches[method, "C->L"]["accuracy"] > 0.8
    assert sorted(path.name for path in (finished / "weights").iterdir()) == ["tail-2.safetensors"]


def test_ratios_stand_beside_both(finished: Path, learned: Any, tiny: TinyModels) -> None:
    bench, rows = bench_from(tiny, finished, learned), rows_of(finished)
    methods = ["tail-2", *PREFIX_METHODS]
    result = figures(rows, bench.exams, ("night",), 2, methods)
    assert result["full_is"] == "prefix-full"
    by = {r["method"]: r for r in rows if r.get("change") == "C->C+L" and r["phase"] == "switch"}
    added = result["ratios"]["night"]["add"]
    assert set(added) == set(PREFIX_METHODS)
    assert result["flops_ratio_vs_full"] == added["prefix-full"]["flops"]
    for name, one in added.items():
        ours, theirs = by["tail-2"], by[name]
        samples = SETTINGS["switch_steps"] * SETTINGS["batch"]
        per_sample = theirs["flops"] / samples / (ours["flops"] / samples)
        assert one["flops_equal_samples"] == pytest.approx(per_sample)
        best = {key: max(p["accuracy"] for p in row["points"]) for key, row in by.items()}
        assert one["accuracy_gain"] == pytest.approx(best["tail-2"] - best[name])
        assert one["accuracy"] == {"ours": best["tail-2"], "theirs": best[name]}
        assert one["tolerance"] == 0 and 0 <= one["flops_reached"] <= 1
        assert one["accuracy_gain_error"] is not None
    json.dumps(result, allow_nan=False)
    pytest.importorskip("matplotlib", reason="pictures are drawn with matplotlib")
    draw_adaptation(finished / "a.png", rows, result["recovery"], "night", 0.5)
    assert (finished / "a.png").read_bytes()[:4] == b"\x89PNG"


def test_whole_models_start_where_a_trained_day_ended(tiny: TinyModels, tmp_path: Path) -> None:
    few = {"steps": 4, "switch_steps": 2, "summary_steps": 0, "readout_steps": 0}
    asked: list[int] = []

    def after_one() -> bool:
        asked.append(0)
        return len(asked) > 1

    assert not bench_from(tiny, tmp_path, None, **few).run(after_one)
    # Another process goes on, with the weights of the first one's day.
    assert bench_from(tiny, tmp_path, None, **few).run()
    days = {row["method"]: row for row in rows_of(tmp_path) if row["phase"] == "day"}
    assert days["tail-2"]["flops"] > 0
    for method in PREFIX_METHODS:
        assert days[method]["flops"] == 0 and days[method]["day_of"] == "tail-2"
        assert days[method]["by_condition"] == days["tail-2"]["by_condition"]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"baselines": ("full", "prefix-full")}, "full have none: the start is a conditioned"),
        ({"depths": (2, 3), "kind": "plain"}, "and tail-3 have none"),
    ],
)
def test_methods_without_a_start_are_refused(
    tiny: TinyModels, tmp_path: Path, learned: Any, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        bench_from(tiny, tmp_path, learned, **changes)


def test_no_start_is_no_day(tiny: TinyModels, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is none"):
        bench_from(tiny, tmp_path, None)


def test_what_the_lidar_tells_is_told_by_its_tokens_alone() -> None:
    """The task's own claim, on which the accuracies above rest."""
    data = bench_data().prepared
    night = np.flatnonzero(np.asarray(data.conditions) == "night")
    means = {s: data.tokens[s][night].astype(np.float32).mean(1) for s in MODALITIES}
    spread = {s: float(np.linalg.norm(rows, axis=1).mean()) for s, rows in means.items()}
    assert spread["lidar_top"] > 3 * max(spread[name] for name in CAMERAS)
