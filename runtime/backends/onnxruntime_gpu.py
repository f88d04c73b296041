"""ONNX Runtime's CUDA and TensorRT providers for portable graphs: the second way to a GPU.

This file has not run on a GPU yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnxruntime as ort

from ..errors import EngineError
from ..files import cache_dir
from .onnxruntime_cpu import OnnxRuntimeEngine, Provider
from .portable import PortableEngine

CUDA, TENSORRT, _CPU = (f"{name}ExecutionProvider" for name in ("CUDA", "Tensorrt", "CPU"))


def check_provider(provider: str) -> None:
    """Refuse a provider that this ONNX Runtime does not have.

    Raises:
        EngineError: it has not.
    """
    if provider not in ort.get_available_providers():
        raise EngineError(
            f"ONNX Runtime {ort.__version__} has no {provider}",
            field="backend",
            remedy="install an onnxruntime-gpu for this board (JetPack 6: wheel of the Jetson AI "
            "Lab; JetPack 7: Microsoft's feed for CUDA 13), or use onnxruntime-cpu",
        )


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
