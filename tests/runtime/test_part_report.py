"""Where parts of a pack run, for machines with and without devices."""

from __future__ import annotations

import pytest

from tailwire.runtime.config import DRIVING_PACK, pack_folder
from tailwire.runtime.machine_report import Finding
from tailwire.runtime.pack import PackManifest, load_pack
from tailwire.runtime.part_report import Placed, best_device, placed_parts

COMPILED = [Finding("compiled kernels", True, "compiled with cc")]
CPU = Finding("onnxruntime-cpu", True, "ONNX Runtime")
NOTHING = [
    CPU,
    Finding("onnxruntime-cuda", False, "install it", "no CUDA provider"),
    Finding("onnxruntime-tensorrt", False, "install it", "no TensorRT provider"),
    Finding("tensorrt", False, "install it", "no module pycuda"),
]
ORIN = [*NOTHING[:3], Finding("tensorrt", True, "10.3.0 Orin sm_87")]
CUDA_ALONE = [CPU, Finding("onnxruntime-cuda", True, "ONNX Runtime"), *NOTHING[2:]]


@pytest.fixture(autouse=True)
def processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """One without products of 8 bits, unless a test has another."""
    monkeypatch.setattr("tailwire.runtime.part_report.processor_is_tuned_for", lambda: False)


@pytest.fixture(scope="module")
def pack() -> PackManifest:
    return load_pack(pack_folder(DRIVING_PACK)).manifest


def by_part(placed: list[Placed]) -> dict[str, Placed]:
    return {one.part: one for one in placed}


def test_without_a_device_every_part_says_why_it_is_on_the_cpu(pack: PackManifest) -> None:
    placed = by_part(placed_parts(pack, COMPILED, NOTHING))
    assert {"encoder camera", "encoder lidar", "connection", "head", "tail"} <= placed.keys()
    for part in ("encoder camera", "connection", "tail"):
        assert placed[part].by_default == "CPU, onnxruntime-cpu"
        assert placed[part].exported == (
            "CPU, onnxruntime-portable: no module pycuda, no TensorRT provider, no CUDA provider"
        )
    assert "no engine" in placed["encoder objects"].by_default


def test_with_a_device_exports_run_there_and_the_default_does_not(pack: PackManifest) -> None:
    placed = by_part(placed_parts(pack, COMPILED, ORIN))
    assert placed["tail"].by_default == "CPU, onnxruntime-cpu"
    assert placed["tail"].exported == "device, tensorrt (10.3.0 Orin sm_87)"
    assert placed["gates and prefixes"].exported.startswith("device")
    # Their kernels are launched by nothing that a frame runs.
    assert placed["pictures and sweeps"].exported.startswith("CPU")


def test_the_native_back_end_comes_before_the_providers(pack: PackManifest) -> None:
    assert best_device(ORIN).backend == "tensorrt"
    provider = best_device(CUDA_ALONE)
    assert provider.works and provider.backend == "onnxruntime-cuda"
    placed = by_part(placed_parts(pack, COMPILED, CUDA_ALONE))
    assert placed["gates and prefixes"].exported == "as by default"


def test_kernels_without_a_compiler_are_numpy(pack: PackManifest) -> None:
    placed = by_part(placed_parts(pack, [Finding("compiled kernels", False, "no cc")], NOTHING))
    assert placed["pictures and sweeps"].by_default.startswith("CPU, numpy")


def test_blocks_run_in_c_where_the_processor_and_a_compiler_allow_it(
    pack: PackManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailwire.runtime.part_report.processor_is_tuned_for", lambda: True)
    placed = by_part(placed_parts(pack, COMPILED, NOTHING))
    for part in ("head", "tail", "logits"):
        assert placed[part].by_default.startswith("CPU, compiled blocks")
    assert placed["connection"].by_default == "CPU, onnxruntime-cpu"
    without = by_part(placed_parts(pack, [Finding("compiled kernels", False, "no cc")], NOTHING))
    assert without["tail"].by_default == "CPU, onnxruntime-cpu"
