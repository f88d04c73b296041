"""Runtimes on exported graphs: chosen by the configuration, equal to the tuned ones."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import onnxruntime as ort
import pytest

from tailwire import open_runtime
from tailwire.export.portable.manifest import MANIFEST_NAME, ExportManifest, hashes_of
from tailwire.exported_assembly import WithCpu
from tailwire.runtime.backends.onnxruntime_cpu import OnnxRuntimeEngine
from tailwire.runtime.backends.onnxruntime_gpu import check_provider, load_cuda
from tailwire.runtime.config import RuntimeConfig
from tailwire.runtime.errors import ConfigError, EngineError
from tailwire.runtime.machine_report import backend_findings

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


def test_a_provider_that_does_not_start_is_no_silent_cpu(
    exports: Exports, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = exports.get("fp32") / "connection.onnx"
    cuda = "CUDAExecutionProvider"
    # As with onnxruntime-gpu where a library is missing: it would go on without the provider.
    with pytest.warns(UserWarning, match=cuda), pytest.raises(EngineError, match="does not start"):
        OnnxRuntimeEngine(path, threads=1, providers=[cuda, "CPUExecutionProvider"])
    there = [cuda, *ort.get_available_providers()]
    monkeypatch.setattr(ort, "get_available_providers", lambda: there)
    said: list[str] = []
    with pytest.warns(UserWarning, match=cuda):
        for start in (
            lambda: check_provider(cuda),
            lambda: open_runtime(
                config(exports, backend="onnxruntime-cuda", engines=str(path.parent))
            ),
        ):
            with pytest.raises(EngineError, match=f"does not start {cuda}"):
                start()
        found = {one.name: one for one in backend_findings()}
        engine = WithCpu(load_cuda, said.append)(path, threads=1)
    assert found["onnxruntime-cuda"].works is False
    assert found["onnxruntime-cuda"].lacks == "no CUDA provider"
    assert engine.device == "cpu" and "does not start" in said[0]
    engine.close()


def test_an_engine_that_computes_something_else_is_refused_at_once(
    exports: Exports, tmp_path: Path
) -> None:
    folder = tmp_path / "wrong"
    shutil.copytree(exports.get("fp32"), folder)
    path = folder / "connection.onnx"
    model = onnx.load(str(path))
    for node in model.graph.node:
        if node.op_type == "Softmax":
            node.op_type = "Sigmoid"
            del node.attribute[:]
    onnx.save(model, str(path))
    rewrite_hashes(folder)
    wrong = config(exports, backend="onnx-portable", engines=str(folder))
    with pytest.raises(EngineError, match="the engine of 'connection' gives other numbers"):
        open_runtime(wrong)
    shutil.copy(exports.get("fp32") / "connection.onnx", path)
    (folder / "connection.known.safetensors").write_bytes(b"broken")
    rewrite_hashes(folder)
    with pytest.raises(EngineError, match="should give cannot be read"):
        open_runtime(wrong)


@pytest.mark.parametrize("precision", ["fp16", "int8", "int4"])
def test_engines_of_every_precision_know_their_own_numbers(
    exports: Exports, precision: str
) -> None:
    folder = exports.get(precision)
    fused = config(exports, backend="onnxruntime-portable", engines=str(folder))
    assert answers(fused)[0] in ("yes", "no")


def rewrite_hashes(folder: Path) -> None:
    """As if it had been exported so."""
    manifest = ExportManifest.model_validate_json((folder / MANIFEST_NAME).read_bytes())
    manifest = manifest.model_copy(update={"files": hashes_of(folder)})
    (folder / MANIFEST_NAME).write_text(manifest.model_dump_json())
