"""Building and running TensorRT engines: the order of things, with stand-ins for both libraries.

Nothing here says that TensorRT takes or computes anything; that has to be shown on a device.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tailwire.cli import main
from tailwire.export.portable.manifest import read_export
from tailwire.parity import run_parity
from tailwire.runtime.backends.onnxruntime_cpu import OnnxRuntimeEngine
from tailwire.runtime.backends.tensorrt_build import build_plan
from tailwire.runtime.backends.tensorrt_context import TensorRtContext, open_context
from tailwire.runtime.backends.tensorrt_engine import TensorRtEngine
from tailwire.runtime.engine_store import EngineStore
from tailwire.runtime.errors import DeviceMemoryError, EngineError
from tailwire.runtime.machine_report import (
    backend_findings,
    find_jetson,
    machine_findings,
    python_fits,
)
from tailwire.runtime.questions import Question
from tailwire.tensorrt_store import TensorRtLoader

from .exports import Exports, moments
from .fake_tensorrt import FakeDriver, FakeGraphs, FakeStreams, FakeTensorRt, plan_of

if TYPE_CHECKING:
    from .built_models import TinyModels


@pytest.fixture(scope="module")
def exports(
    export_cache: None, tiny: TinyModels, tmp_path_factory: pytest.TempPathFactory
) -> Exports:
    return Exports(tiny, tmp_path_factory.mktemp("tensorrt"), "conditioned")


@pytest.fixture
def driver() -> Iterator[FakeDriver]:
    FakeStreams.capturing.clear()
    yield FakeDriver()
    FakeStreams.capturing.clear()


def context_of(trt: FakeTensorRt) -> TensorRtContext:
    context = TensorRtContext(trt, trt.driver)
    context.graphs = FakeGraphs(trt.driver, context.stream)
    return context


def loader_of(exports: Exports, trt: FakeTensorRt, store: Path) -> TensorRtLoader:
    folder = exports.get("fp32", "tensorrt")
    return TensorRtLoader(folder, context=context_of(trt), store=EngineStore(store))


def test_engines_are_built_once_for_the_sizes_of_the_export(
    exports: Exports, driver: FakeDriver, tmp_path: Path
) -> None:
    trt = FakeTensorRt(driver)
    loader = loader_of(exports, trt, tmp_path)
    assert not any(map(loader.is_built, loader.manifest.graphs))
    folders = loader.build_all()
    assert all(map(loader.is_built, loader.manifest.graphs))
    assert len(set(folders)) == len(trt.built) == len(loader.manifest.graphs)
    assert set(trt.flags) == {1 << 2}  # Strongly typed.
    graph = loader.manifest.graph("encoder camera")
    profile = plan_of(loader.build(graph) / "engine.plan")["profile"]
    assert profile["image"] == [list(graph.inputs[0].least)] * 3
    loader.build_all()
    assert len(trt.built) == len(folders)
    assert next((tmp_path / "timings").glob("tensorrt-10.3.0-sm_87*")).read_bytes() == b"timings"


def test_what_a_device_cannot_take_is_said_and_the_rest_is_built(
    exports: Exports,
    driver: FakeDriver,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, trt = exports.get("fp32", "tensorrt"), FakeTensorRt(driver)
    monkeypatch.setattr("tailwire.tensorrt_store.open_context", lambda: context_of(trt))
    before = build_plan

    def build(trt: object, logger: object, graph: Path, *others: object, **named: object) -> None:
        if graph.name == "lidar.onnx":
            raise EngineError("no kernel for it", field=str(graph), remedy="none")
        before(trt, logger, graph, *others, **named)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr("tailwire.tensorrt_store.build_plan", build)
    assert main(["build", str(folder)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(read_export(folder).graphs)
    refused = [line for line in lines if "will run on the CPU" in line]
    assert len(refused) == 1 and "encoder lidar" in refused[0] and "no kernel" in refused[0]


def test_another_tensorrt_or_profile_is_another_engine(
    exports: Exports, driver: FakeDriver, tmp_path: Path
) -> None:
    trt = FakeTensorRt(driver)
    loader = loader_of(exports, trt, tmp_path)
    graph = loader.manifest.graph("connection")
    newer = FakeTensorRt(driver)
    newer.__version__ = "10.16.0"
    other = loader_of(exports, newer, tmp_path)
    wider = graph.model_copy(
        update={"inputs": tuple(t.model_copy(update={"most": t.usual}) for t in graph.inputs)}
    )
    keys = {
        loader.key(graph).folder_name,
        other.key(graph).folder_name,
        loader.key(wider).folder_name,
    }
    assert len(keys) == 3


def test_a_device_with_little_memory_gets_a_smaller_workspace(
    exports: Exports, driver: FakeDriver, tmp_path: Path
) -> None:
    trt = FakeTensorRt(driver, needs_workspace=300 << 20)
    loader = loader_of(exports, trt, tmp_path)
    loader.build(loader.manifest.graph("connection"))
    assert [one["workspace"] >> 20 for one in trt.built] == [1024, 512, 256]
    full = FakeTensorRt(driver, needs_workspace=1)
    loader = loader_of(exports, full, tmp_path / "other")
    with pytest.raises(EngineError, match="not even with 32 MiB"):
        loader.build(loader.manifest.graph("connection"))
    assert not list((tmp_path / "other").glob("connection*"))


def test_what_the_parser_says_is_passed_on(
    exports: Exports, driver: FakeDriver, tmp_path: Path
) -> None:
    loader = loader_of(exports, FakeTensorRt(driver, refuses="no importer for Foo"), tmp_path)
    with pytest.raises(EngineError, match="no importer for Foo"):
        loader.build(loader.manifest.graph("connection"))


def test_timings_of_another_version_are_left_aside(
    exports: Exports, driver: FakeDriver, tmp_path: Path
) -> None:
    trt = FakeTensorRt(driver)
    folder = exports.get("fp32", "tensorrt")
    loader = loader_of(exports, trt, tmp_path)
    graph, cache = loader.manifest.graph("connection"), tmp_path / "timings.cache"
    cache.write_bytes(b"other version")
    plan = tmp_path / "plan"
    build_plan(trt, None, folder / graph.file, graph.inputs, plan, cache)
    assert cache.read_bytes() == b"timings"


def test_a_damaged_engine_is_built_again(
    exports: Exports, driver: FakeDriver, tmp_path: Path
) -> None:
    trt = FakeTensorRt(driver)
    loader = loader_of(exports, trt, tmp_path)
    graph = loader.manifest.graph("encoder lidar")
    plan = loader.build(graph) / "engine.plan"
    plan.write_bytes(b"x" * plan.stat().st_size)
    engine = loader(exports.get("fp32", "tensorrt") / graph.file, threads=1)
    assert len(trt.built) == 2 and [s.name for s in engine.input_specs] == ["grid"]


def test_an_engine_of_another_machine_is_refused(driver: FakeDriver, tmp_path: Path) -> None:
    plan = tmp_path / "engine.plan"
    plan.write_bytes(b"of another device")
    with pytest.raises(EngineError, match=r"TensorRT 10\.3\.0 on sm_87 does not take the plan"):
        TensorRtEngine(plan, context_of(FakeTensorRt(driver)))
    with pytest.raises(EngineError, match="cannot be loaded"):
        TensorRtEngine(tmp_path / "none.plan", context_of(FakeTensorRt(driver)))


def opened(exports: Exports, trt: FakeTensorRt, tmp_path: Path, role: str) -> TensorRtEngine:
    loader = loader_of(exports, trt, tmp_path)
    plan = loader.build(loader.manifest.graph(role)) / "engine.plan"
    return TensorRtEngine(plan, loader.context)


def test_runs_give_what_the_graph_gives_and_repeat_as_cuda_graphs(
    exports: Exports, driver: FakeDriver, tmp_path: Path
) -> None:
    engine = opened(exports, FakeTensorRt(driver), tmp_path, "encoder lidar")
    folder = exports.get("fp32", "tensorrt")
    reference = OnnxRuntimeEngine(folder / "encoders" / "lidar.onnx", threads=1)
    for seed in range(3):
        grid = np.random.default_rng(seed).normal(size=(1, 12, 40, 40)).astype(np.float32)
        (wanted,) = reference.run({"grid": grid}).values()
        np.testing.assert_array_equal(engine.run({"grid": grid})["tokens"], wanted)
    # Run as it comes, once more while it is captured, and from then on replayed.
    assert driver.graphs_launched == 1


def test_results_stay_on_the_device_between_engines(
    exports: Exports, driver: FakeDriver, tmp_path: Path
) -> None:
    trt = FakeTensorRt(driver)
    engine = opened(exports, trt, tmp_path, "encoder lidar")
    given = {"grid": engine._sent("grid", np.ones((1, 12, 40, 40), np.float32))}
    copies = len(driver.copies)
    first = engine.run_on_device(given)["tokens"]
    assert driver.copies[copies:] == [] and first.shape == (1, 5, 64)
    again = engine.run_on_device(given)["tokens"]
    assert int(first.memory) == int(again.memory)


def test_wrong_inputs_are_named(exports: Exports, driver: FakeDriver, tmp_path: Path) -> None:
    engine = opened(exports, FakeTensorRt(driver), tmp_path, "encoder lidar")
    grid = np.ones((1, 12, 40, 40), np.float32)
    with pytest.raises(EngineError, match=r"missing: \['grid'\], unknown: \['nose'\]"):
        engine.run({"nose": grid})
    with pytest.raises(EngineError, match="float64, not float32"):
        engine.run({"grid": grid.astype(np.float64)})
    with pytest.raises(EngineError, match="outside of the sizes"):
        engine.run({"grid": np.ones((2, 12, 40, 40), np.float32)})
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.run({"grid": grid})


def test_a_full_device_is_told_from_other_faults(
    exports: Exports, driver: FakeDriver, tmp_path: Path
) -> None:
    engine = opened(exports, FakeTensorRt(driver), tmp_path, "encoder lidar")
    driver.room = 10
    with pytest.raises(DeviceMemoryError, match="no room for"):
        engine.run({"grid": np.ones((1, 12, 40, 40), np.float32)})


def test_parity_goes_through_all_stages(
    exports: Exports, driver: FakeDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = FakeTensorRt(driver)
    monkeypatch.setattr("tailwire.tensorrt_store.open_context", lambda: context_of(trt))
    config = exports.config.model_copy(update={"precision": "fp32"})
    questions = (Question("Is there a bus?", ("yes", "no")),)
    (found,) = run_parity(
        config,
        ("onnx-cpu", "tensorrt"),
        moments,
        export=exports.get("fp32", "tensorrt"),
        questions=questions,
        new_tokens=2,
    )
    assert found.missing == [] and found.same_answers == found.answers == 3
    assert max(stage.largest for stage in found.stages.values()) < 1e-2
    assert found.same_tokens == found.tokens == 6


def test_without_the_libraries_the_error_says_what_to_install() -> None:
    with pytest.raises(EngineError, match=r"needs the module (pycuda|tensorrt)") as caught:
        open_context()
    assert "python3-libnvinfer" in str(caught.value)


def test_without_a_device_the_error_says_so() -> None:
    none = FakeDriver(devices=0)
    with pytest.raises(EngineError, match="no device that can be used"):
        TensorRtContext(FakeTensorRt(none), none)


class TestDoctor:
    def test_it_says_why_a_back_end_cannot_run(self) -> None:
        found = {one.name: one for one in backend_findings()}
        assert found["onnxruntime-cpu"].works
        assert not found["tensorrt"].works and "python3-libnvinfer" in found["tensorrt"].detail
        assert not found["onnxruntime-tensorrt"].works

    def test_it_names_a_device_that_is_there(self, driver: FakeDriver) -> None:
        found = backend_findings(lambda: context_of(FakeTensorRt(driver)))
        assert found[-1].works and found[-1].detail == "10.3.0 Orin sm_87"

    def test_a_jetson_is_known_by_its_files(self, tmp_path: Path) -> None:
        assert find_jetson(tmp_path) is None
        model = tmp_path / "proc/device-tree/model"
        model.parent.mkdir(parents=True)
        model.write_text("NVIDIA Jetson AGX Orin Developer Kit\0")
        found = find_jetson(tmp_path)
        assert found is not None and found.release == "of an unknown release"
        release = tmp_path / "etc/nv_tegra_release"
        release.parent.mkdir()
        release.write_text("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n")
        found = find_jetson(tmp_path)
        assert found is not None and found.release == "36.4.3"
        assert python_fits(found, (3, 10)) == "" and "Python 3.10" in python_fits(found, (3, 12))
        assert python_fits(None, (3, 9)) == ""
        names = [one.name for one in machine_findings(tmp_path)]
        assert names[:2] == ["python", "jetson"]
