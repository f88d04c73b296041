"""Runtimes on exported graphs: chosen by the configuration, equal to the tuned ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tailwire import open_runtime
from tailwire.exported_assembly import WithCpu
from tailwire.runtime.backends.onnxruntime_gpu import load_cuda
from tailwire.runtime.config import RuntimeConfig
from tailwire.runtime.errors import ConfigError, EngineError

from .detector_packs import frames
from .exports import Exports

if TYPE_CHECKING:
    from .built_models import TinyModels


@pytest.fixture(scope="module")
def exports(
    export_cache: None, tiny: TinyModels, tmp_path_factory: pytest.TempPathFactory
) -> Exports:
    return Exports(tiny, tmp_path_factory.mktemp("exported"), "conditioned")


def config(exports: Exports, **changes: object) -> RuntimeConfig:
    return RuntimeConfig.model_validate(
        {**exports.config.model_dump(), "precision": "fp32", **changes}
    )


def answers(config: RuntimeConfig) -> tuple[str, float, int]:
    runtime = open_runtime(config)
    try:
        one = runtime.ask(frames(), "Is there a bus behind me?", ("yes", "no"))
        assert set(one.sensors) == {"cam_front", "lidar_top"}
        return one.text, one.confidence, one.flops
    finally:
        runtime.close()


@pytest.mark.parametrize("backend", ["onnx-portable", "onnxruntime-portable"])
def test_an_exported_pack_answers_as_the_tuned_one(exports: Exports, backend: str) -> None:
    wanted = answers(config(exports))
    got = answers(config(exports, backend=backend, engines=str(exports.get("fp32"))))
    assert (got[0], got[2]) == (wanted[0], wanted[2])
    assert got[1] == pytest.approx(wanted[1], abs=1e-3)


def test_back_ends_that_are_not_here_say_what_to_install(exports: Exports) -> None:
    folder = str(exports.get("fp32"))
    for backend, message in (
        ("tensorrt", "python3-libnvinfer"),
        ("onnxruntime-cuda", "onnxruntime-gpu"),
        ("onnxruntime-tensorrt", "onnxruntime-gpu"),
    ):
        with pytest.raises(EngineError, match=message):
            open_runtime(config(exports, backend=backend, engines=folder))


def test_what_the_configuration_lacks_is_named(exports: Exports) -> None:
    with pytest.raises(ConfigError, match="none are named"):
        open_runtime(config(exports, backend="onnx-portable"))
    with pytest.raises(ConfigError, match="there is no back end 'abacus'"):
        open_runtime(config(exports, backend="abacus"))


def test_a_graph_that_the_device_cannot_take_goes_to_the_cpu(exports: Exports) -> None:
    said: list[str] = []
    path = exports.get("fp32") / "connection.onnx"
    engine = WithCpu(load_cuda, said.append)(path, threads=1)
    assert engine.device == "cpu" and "goes on on the CPU" in said[0]
    engine.close()
    with pytest.raises(EngineError):
        WithCpu(load_cuda, said.append)(Path("none.onnx"), threads=1)
