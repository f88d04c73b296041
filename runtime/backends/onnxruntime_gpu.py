"""ONNX Runtime's CUDA and TensorRT providers for portable graphs: the second way to a GPU.

This file has not run on a GPU yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnxruntime as ort

from ..errors import EngineError
from ..files import cache_dir
from .onnxruntime_cpu import OnnxRuntimeEngine, Provider, does_not_start
from .portable import PortableEngine

#: A graph of one node, to see whether a provider starts: `y = Identity(x)`.
_SMALLEST = (
    b'\x08\x08\x12\x00:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01'
    b"\x12\x04\n\x02\x08\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)

CUDA, TENSORRT, _CPU = (f"{name}ExecutionProvider" for name in ("CUDA", "Tensorrt", "CPU"))


def check_provider(provider: str) -> None:
    """Refuse a provider that this ONNX Runtime does not have, or that does not start here.

    Raises:
        EngineError: it has not, or a driver or library is missing.
    """
    if provider not in ort.get_available_providers():
        raise EngineError(
            f"ONNX Runtime {ort.__version__} has no {provider}",
            field="backend",
            remedy="install an onnxruntime-gpu for this board (JetPack 6: wheel of the Jetson AI "
            "Lab; JetPack 7: Microsoft's feed for CUDA 13), or use onnxruntime-cpu",
        )
    try:
        session = ort.InferenceSession(_SMALLEST, providers=[provider, _CPU], enable_fallback=0)
    except Exception as error:
        raise does_not_start(provider, str(error)) from error
    # Where a library is missing, ONNX Runtime goes on without the provider and says so in its log.
    if provider not in session.get_providers():
        raise does_not_start(provider, "its log says what is missing")


def load_cuda(path: Path, *, threads: int) -> PortableEngine:
    """A portable graph through the CUDA provider.

    Raises:
        EngineError: the provider is missing, or the graph cannot be loaded.
    """
    check_provider(CUDA)
    return _opened(path, threads, [CUDA, _CPU])


def load_tensorrt_provider(path: Path, *, threads: int) -> PortableEngine:
    """A portable graph through the TensorRT provider, which keeps engines and timings.

    Raises:
        EngineError: the provider is missing, or the graph cannot be loaded.
    """
    check_provider(TENSORRT)
    kept = str(cache_dir() / "engines" / "onnxruntime-tensorrt")
    options = {
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": kept,
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": kept,
    }
    return _opened(path, threads, [(TENSORRT, options), CUDA, _CPU])


def _opened(path: Path, threads: int, providers: Sequence[Provider]) -> PortableEngine:
    engine = OnnxRuntimeEngine(path, threads=threads, providers=providers)
    engine.device = "cuda:0"
    return PortableEngine(engine, empty_rows=False)
