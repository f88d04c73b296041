"""What this machine can run, and why not the rest: looked up, never guessed."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnxruntime

from ..kernels.cuda import READY, find_nvcc
from .backends.onnxruntime_gpu import CUDA, TENSORRT, check_provider
from .compiled_kernels import compiled_arrays
from .errors import EngineError

#: What has run where, as it stands; printed, so that nobody takes a plan for a fact.
NOT_RUN_ON_A_GPU = (
    "Not yet run on a GPU: the back ends tensorrt, onnxruntime-tensorrt and onnxruntime-cuda, and "
    "the CUDA kernels. Proved without one: graphs against TensorRT's documentation and in ONNX "
    "Runtime, kernels compiled by nvcc and run body by body on the CPU, all calls of TensorRT "
    "against NVIDIA's Python bindings of 10.3 and 10.16 up to the first that needs a device, "
    "building and running code against stand-ins."
)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for.

    Attributes:
        name: of it.
        works: whether it can be used here; None for what is only information.
        detail: version or place, or why it cannot be used and what to do.
        lacks: the reason alone, in few words, of what cannot be used.
    """

    name: str
    works: bool | None
    detail: str
    lacks: str = ""


@dataclass(frozen=True)
class Jetson:
    """The board.

    Attributes:
        model: e.g. `NVIDIA Jetson AGX Orin Developer Kit`.
        release: of Jetson Linux, e.g. `36.4`, or what it says where that cannot be read.
    """

    model: str
    release: str


def find_jetson(root: Path = Path("/")) -> Jetson | None:
    """The board that this runs on, None where it is none; works in containers without the files."""
    model = _text(root / "proc/device-tree/model").replace("\0", "").strip()
    release = _text(root / "etc/nv_tegra_release")
    if "Jetson" not in model and not release:
        return None
    found = re.search(r"R(\d+).*?REVISION:\s*([\d.]+)", release)
    return Jetson(
        model or "a Jetson that does not say which",
        f"{found[1]}.{found[2]}" if found else "of an unknown release",
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def machine_findings(root: Path = Path("/")) -> list[Finding]:
    """What is installed, one finding each."""
    jetson = find_jetson(root)
    library, how = compiled_arrays()
    return [
        Finding("python", None, f"{platform.python_version()} on {platform.machine()}"),
        Finding(
            "jetson",
            None,
            "this is no Jetson"
            if jetson is None
            else f"{jetson.model}, Jetson Linux {jetson.release}",
        ),
        Finding("compiled kernels", library is not None, how),
        _nvcc(),
        _module("tensorrt", "apt install python3-libnvinfer, for the system's Python"),
        _module("pycuda", "pip install pycuda, which compiles with nvcc"),
        _module("torch", "needed for adaptation and training only"),
    ]


def _nvcc() -> Finding:
    nvcc, ready = find_nvcc(), os.environ.get(READY)
    if nvcc:
        return Finding("nvcc", True, str(nvcc))
    if ready and Path(ready).is_dir():
        return Finding("nvcc", False, f"not found; CUDA kernels lie compiled in {ready}")
    return Finding("nvcc", False, "not found; the CUDA kernels are compiled with it (CUDA toolkit)")


def _module(name: str, remedy: str) -> Finding:
    if importlib.util.find_spec(name) is None:
        return Finding(name, False, f"not installed: {remedy}")
    try:
        return Finding(name, True, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, True, "installed, without a version")


def backend_findings(open_context: Callable[[], object] | None = None) -> list[Finding]:
    """Which back ends can run here, and why not the others.

    Args:
        open_context: opens TensorRT and a device; None for `tensorrt_context.open_context`.
    """
    found = [Finding("onnxruntime-cpu", True, f"ONNX Runtime {onnxruntime.__version__}")]
    for name, provider, short in (
        ("onnxruntime-cuda", CUDA, "CUDA"),
        ("onnxruntime-tensorrt", TENSORRT, "TensorRT"),
    ):
        try:
            check_provider(provider)
        except EngineError as error:
            why = f"{error.problem}; {error.remedy}"
            found.append(Finding(name, False, why, f"no {short} provider"))
        else:
            found.append(Finding(name, True, f"ONNX Runtime {onnxruntime.__version__}"))
    try:
        if open_context is None:
            from .backends.tensorrt_context import open_context
        context = open_context()
    except EngineError as error:
        why = f"{error.problem}; {error.remedy}"
        module = error.__cause__ if isinstance(error.__cause__, ImportError) else None
        lacks = f"no module {module.name}" if module else error.problem.split(":")[0]
        found.append(Finding("tensorrt", False, why, lacks))
    else:
        trt, name = getattr(context, "trt", None), getattr(context, "name", "a device")
        architecture = getattr(context, "architecture", "")
        found.append(
            Finding("tensorrt", True, f"{getattr(trt, '__version__', '')} {name} {architecture}")
        )
    return found


def python_fits(jetson: Jetson | None, version: tuple[int, int] = sys.version_info[:2]) -> str:
    """A sentence where this Python is not the one that JetPack's TensorRT is for, else nothing."""
    if jetson is None:
        return ""
    wanted = (3, 10) if jetson.release.startswith("36") else (3, 12)
    if version == wanted:
        return ""
    return (
        f"JetPack's TensorRT is for Python {wanted[0]}.{wanted[1]}, and this is "
        f"{version[0]}.{version[1]}: make the environment with the system's Python and "
        "--system-site-packages"
    )
