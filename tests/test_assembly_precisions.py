"""Tails of several precisions in one runtime: the plan says which one answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import save_file

from tailwire import open_runtime
from tailwire.assembly import load_language_model
from tailwire.export.range_encoder import random_weights
from tailwire.runtime.answering import reply_to_all
from tailwire.runtime.asking import Preparer
from tailwire.runtime.config import RuntimeConfig
from tailwire.runtime.connections import ConnectionSpec
from tailwire.runtime.errors import ConfigError, EngineError
from tailwire.runtime.frames import SensorFrame
from tailwire.runtime.model_config import Precision
from tailwire.runtime.plan_costs import tail_part
from tailwire.runtime.plans import Plan, SensorAction
from tailwire.runtime.questions import Question
from tailwire.runtime.scheduler import PlanRequest

from .detector_packs import frames
from .exports import Exports
from .packs import RANGE_LIDAR, write_small_pack

if TYPE_CHECKING:
    from .built_models import TinyModels

ASKED = Question("Is there a bus behind me?", ("yes", "no"))


@pytest.fixture
def config(tiny: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RuntimeConfig:
    monkeypatch.setenv("TAILWIRE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TAILWIRE_OFFLINE", "1")
    folder = tmp_path / "pack"
    folder.mkdir()
    save_file(random_weights(0), folder / RANGE_LIDAR.file)
    spec = ConnectionSpec(kind="plain", tail_blocks=3, hidden=8, width=8, layers=1, heads=2)
    sizes = tiny.model("llama").config
    write_small_pack(
        folder, sizes, spec, {"lidar": RANGE_LIDAR}, {"lidar_top": "lidar"}, name="one"
    )
    return RuntimeConfig(
        model=str(tiny.folder("llama")),
        precision="fp32",
        precisions=("int8", "fp32", "int8"),
        pack=str(folder),
        threads=1,
    )


def cloud(stamp_ns: int = 1) -> SensorFrame:
    points = np.random.default_rng(stamp_ns).normal(0, 10, (200, 5)).astype(np.float32)
    return SensorFrame("lidar_top", "lidar", stamp_ns, "lidar_link", points)


@dataclass
class AtPrecision:
    """Runs everything, with the tail at one precision."""

    precision: Precision
    sensors: tuple[str, ...] = ("lidar_top",)
    seen: PlanRequest | None = None

    def choose(self, request: PlanRequest) -> Plan:
        self.seen = request
        actions: dict[str, SensorAction] = dict.fromkeys(self.sensors, "run")
        cost = request.cost(actions, request.tail_blocks, self.precision)
        return Plan(
            sensors=actions,
            tail_blocks=request.tail_blocks,
            precision=self.precision,
            flops=cost.flops,
            policy="test",
        )


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_tail_is_that_of_the_plan(config: RuntimeConfig, precision: Precision) -> None:
    with open_runtime(config) as rt:
        policy = rt.parts.policy = AtPrecision(precision)
        answer = rt.ask([cloud()], ASKED)
        assert policy.seen is not None
        assert policy.seen.precisions == ("fp32", "int8")
        assert answer.plan.precision == precision
        rows = rt.parts.perception.rows(["lidar_top"], rt.connection)
        connection, depth = rt.connection, rt.tail_blocks
        asked = Preparer(rt.model, rt.pack.prompt).prepare(ASKED, (depth, 3))
        other = load_language_model(config.model, precision, threads=1, depths=(3, depth))
        prefix = connection.connect(rows, [asked.head], depth)
        result = other.tail([asked.head], prefix, depth, connection.lora(depth))
        (expected,) = reply_to_all(other, result, [asked])
        other.close()
        assert (answer.text, answer.confidence) == (expected.text, expected.confidence)
        # Of the head's own precision, the other tail gives something else.
        if precision != "fp32":
            policy.precision = "fp32"
            assert rt.ask([cloud()], ASKED).confidence != answer.confidence


def test_all_precisions_are_measured(config: RuntimeConfig) -> None:
    with open_runtime(config) as rt:
        rt.measure()
        known = rt._loop.experience.times.parts.snapshot()
        depth = rt.tail_blocks
        assert {tail_part(depth, "fp32"), tail_part(depth, "int8")} <= known.keys()


@pytest.fixture(scope="module")
def exports(
    export_cache: None, tiny: TinyModels, tmp_path_factory: pytest.TempPathFactory
) -> Exports:
    return Exports(tiny, tmp_path_factory.mktemp("tails"), "conditioned")


def of_exports(exports: Exports, **changes: object) -> RuntimeConfig:
    # A tail as deep as the connection: stages from there on have the tail's precision.
    first = {"backend": "onnxruntime-portable", "engines": str(exports.get("fp32"))}
    return exports.config.model_copy(update={**first, "tail_blocks": 3, **changes})


def test_the_tail_of_another_export_answers_where_the_plan_says_so(exports: Exports) -> None:
    further = str(exports.get("fp32,tail=int4"))
    found: dict[str, tuple[float, ...]] = {}
    with open_runtime(of_exports(exports, tail_engines={"int4": further})) as rt:
        for precision in ("fp32", "int4"):
            policy = rt.parts.policy = AtPrecision(precision, tuple(rt.sensors))
            answers = rt.answer([rt.prepare(ASKED)], frames(0))
            assert policy.seen is not None and policy.seen.precisions == ("fp32", "int4")
            assert answers[0].plan.precision == precision
            found[precision] = tuple(answer.confidence for answer in answers)
    # Of the head's own export, and of the whole of the other one: its head is the same.
    for precision, folder in (("fp32", str(exports.get("fp32"))), ("int4", further)):
        with open_runtime(of_exports(exports, engines=folder)) as rt:
            alone = rt.answer([rt.prepare(ASKED)], frames(0))
        assert tuple(answer.confidence for answer in alone) == found[precision]
    assert found["fp32"] != found["int4"]


def test_exports_whose_tails_cannot_be_chosen_are_refused(
    exports: Exports, config: RuntimeConfig
) -> None:
    other = exports.get("fp32,tail=int4")
    for changes, message in (
        ({"precisions": ("int8",)}, "name further exports in tail_engines"),
        ({"tail_engines": {"fp32": str(other)}}, "is called fp32 in plans itself"),
        ({"tail_engines": {"int4": "nowhere"}}, "the export cannot be read"),
    ):
        with pytest.raises((ConfigError, EngineError), match=message):
            open_runtime(of_exports(exports, **changes))
    with pytest.raises(ConfigError, match="runs no exports"):
        open_runtime(config.model_copy(update={"tail_engines": {"int4": str(other)}}))
