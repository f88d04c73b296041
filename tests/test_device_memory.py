"""Devices whose memory is used up while engines run: nothing is lost, and it is said.

Stand-ins for TensorRT and PyCUDA, see `fake_tensorrt.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tailwire import open_runtime
from tailwire.exported_assembly import WithCpu
from tailwire.runtime.backends.onnxruntime_cpu import OnnxRuntimeEngine
from tailwire.runtime.backends.tensorrt_context import TensorRtContext
from tailwire.runtime.backends.with_spare import EngineWithSpare
from tailwire.runtime.engine_store import EngineStore
from tailwire.runtime.errors import DeviceMemoryError, EngineError
from tailwire.tensorrt_store import TensorRtLoader

from .detector_packs import frames
from .exports import Exports
from .fake_tensorrt import FakeDriver, FakeStreams, FakeTensorRt

if TYPE_CHECKING:
    from tailwire.runtime.engine import Engine

    from .built_models import TinyModels

GRID = np.random.default_rng(3).normal(size=(1, 12, 40, 40)).astype(np.float32)


@pytest.fixture(scope="module")
def exports(
    export_cache: None, tiny: TinyModels, tmp_path_factory: pytest.TempPathFactory
) -> Exports:
    return Exports(tiny, tmp_path_factory.mktemp("device-memory"), "conditioned")


@pytest.fixture
def driver() -> Iterator[FakeDriver]:
    FakeStreams.capturing.clear()
    yield FakeDriver()
    FakeStreams.capturing.clear()


def opened(
    exports: Exports, driver: FakeDriver, store: Path, said: list[str]
) -> tuple[Engine, TensorRtContext]:
    """The LiDAR encoder on the device, with the CPU to go on on."""
    folder = exports.get("fp32", "tensorrt")
    context = TensorRtContext(FakeTensorRt(driver), driver)
    loader = TensorRtLoader(folder, context=context, store=EngineStore(store))
    return WithCpu(loader, said.append)(folder / "encoders" / "lidar.onnx", threads=1), context


def wanted_tokens(exports: Exports) -> np.ndarray:
    path = exports.get("fp32", "tensorrt") / "encoders" / "lidar.onnx"
    return OnnxRuntimeEngine(path, threads=1).run({"grid": GRID})["tokens"]


def test_a_full_device_hands_the_graph_to_the_cpu_for_good(
    exports: Exports, driver: FakeDriver, tmp_path: Path
) -> None:
    said: list[str] = []
    engine, context = opened(exports, driver, tmp_path, said)
    engine.run({"grid": GRID})
    assert engine.device == "cuda:0" and context.workspace_bytes and said == []
    # Another need than before, and other processes have taken the rest.
    context.trt.workspace, driver.room = 5000, 10
    first = engine.run({"grid": GRID})["tokens"]
    assert engine.device == "cpu" and context.workspace_bytes == 0 and driver.used == 0
    driver.room = 1 << 40
    second = engine.run({"grid": GRID})["tokens"]
    for tokens in (first, second):
        np.testing.assert_allclose(tokens, wanted_tokens(exports), atol=1e-5)
    (line,) = said
    assert line.startswith("lidar.onnx goes on on the CPU:") and "no room for" in line
    engine.close()


def test_memory_that_was_only_kept_is_given_back_first(
    exports: Exports, driver: FakeDriver, tmp_path: Path
) -> None:
    said: list[str] = []
    engine, context = opened(exports, driver, tmp_path, said)
    # Another engine of the process had needed a larger workspace than is left now.
    context.workspace(1 << 20)
    driver.room = driver.used + 10
    np.testing.assert_allclose(
        engine.run({"grid": GRID})["tokens"], wanted_tokens(exports), atol=1e-5
    )
    assert engine.device == "cuda:0" and said == [] and context.workspace_bytes == 1000


class Breaking:
    """An engine that fails in a chosen way."""

    input_specs = output_specs = ()

    def __init__(self, error: EngineError, device: str = "cuda:0") -> None:
        self._error, self.device, self.closed = error, device, False

    def run(self, inputs: Any) -> Any:
        raise self._error

    def bind(self, buffers: Any) -> Any:
        return self

    def close(self) -> None:
        self.closed = True


def with_cpu(loader: Any) -> tuple[Any, Any]:
    maker = WithCpu(loader, lambda _: None)
    return maker, maker.spares


def test_other_faults_are_raised_and_a_full_cpu_too(exports: Exports) -> None:
    path = exports.get("fp32") / "encoders" / "lidar.onnx"
    broken = Breaking(EngineError("the engine failed"))
    maker, spares = with_cpu(lambda path, threads: broken)
    engine = maker(path, threads=1)
    with pytest.raises(EngineError, match="the engine failed"):
        engine.run({"grid": GRID})
    assert engine.device == "cuda:0" and not broken.closed and not spares.used

    full = Breaking(DeviceMemoryError("no room"))
    spare = Breaking(DeviceMemoryError("no room here either"), device="cpu")
    engine = EngineWithSpare(full, lambda: spare, "lidar.onnx", spares)
    with pytest.raises(DeviceMemoryError, match="here either"):
        engine.run({"grid": GRID})
    with pytest.raises(DeviceMemoryError, match="here either"):
        engine.run({"grid": GRID})
    assert full.closed and engine.device == "cpu" and set(spares.used) == {"lidar.onnx"}


def test_a_spare_that_cannot_be_opened_leaves_the_engine_where_it_was() -> None:
    def none() -> Engine:
        raise EngineError("the graph is gone")

    full = Breaking(DeviceMemoryError("no room"))
    _, spares = with_cpu(lambda path, threads: full)
    engine = EngineWithSpare(full, none, "lidar.onnx", spares)
    with pytest.raises(EngineError, match="the graph is gone"):
        engine.run({})
    assert engine.device == "cuda:0" and not full.closed and not spares.used


@pytest.mark.parametrize(
    "message",
    [
        "BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 99",
        "Available memory of 5 is smaller than requested bytes of 99",
        "CUDA failure 2: out of memory ; GPU=0 ; hostname=robot",
    ],
)
def test_a_provider_of_onnx_runtime_that_is_full_is_known_by_its_words(
    exports: Exports, message: str
) -> None:
    """The words are those of ONNX Runtime's sources; no GPU has said them here."""
    path = exports.get("fp32") / "encoders" / "lidar.onnx"

    class Full:
        def run(self, *_: Any) -> Any:
            raise RuntimeError(message)

    def on_device(path: Path, *, threads: int) -> Engine:
        engine = OnnxRuntimeEngine(path, threads=threads)
        engine._session = Full()  # pyright: ignore[reportAttributeAccessIssue]
        engine.device = "cuda:0"
        return engine

    maker, spares = with_cpu(on_device)
    engine = maker(path, threads=1)
    found = engine.run({"grid": GRID})["tokens"]
    np.testing.assert_allclose(found, wanted_tokens(exports), atol=1e-5)
    assert engine.device == "cpu" and message in spares.used["lidar.onnx"]


def test_a_runtime_goes_on_answering_and_says_what_runs_where(
    exports: Exports, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = TensorRtContext(FakeTensorRt(driver), driver)
    monkeypatch.setattr("tailwire.tensorrt_store.open_context", lambda: context)
    folder = exports.get("fp32", "tensorrt")
    config = exports.config.model_copy(update={"backend": "tensorrt", "engines": str(folder)})
    said: list[str] = []
    with open_runtime(config, said.append) as runtime:
        wanted = runtime.ask(frames(), "Is there a bus behind me?", ("yes", "no"))
        assert runtime.engines_on_cpu == {}
        context.trt.workspace, driver.room = 5000, 10
        found = runtime.ask(frames(1), "Is there a bus behind me?", ("yes", "no"))
        runtime.forget_frames()
        again = runtime.ask(frames(), "Is there a bus behind me?", ("yes", "no"))
        on_cpu = runtime.engines_on_cpu
    assert found.sensors.keys() == wanted.sensors.keys() and not found.dropped
    assert again.text == wanted.text
    assert again.confidence == pytest.approx(wanted.confidence, abs=1e-3)
    assert {"camera.onnx", "lidar.onnx", "connection.onnx"} <= on_cpu.keys()
    for graph in on_cpu:
        assert sum(line.startswith(f"{graph} goes on on the CPU") for line in said) == 1
