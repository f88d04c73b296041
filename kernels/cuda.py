"""Compiles the CUDA sources of this folder with NVIDIA's compiler, for one kind of GPU at a time.

Compiled modules (cubin) are kept; their name covers the sources, the compiler and the architecture.
Where there is no compiler, as in a small image, modules can lie ready that were compiled elsewhere.
How they are launched is in `cuda_arrays.py`. Nothing but the standard library is needed here.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

_FOLDER = Path(__file__).parent

#: The sources; each has the body of its threads in a header of the same name.
CUDA_SOURCES = ("bev_grid", "image_input", "prefix_pack", "range_image", "token_rows", "top_rows")

#: Jetson Orin and Jetson Thor.
JETSON_ARCHITECTURES = ("sm_87", "sm_110")

#: No fused multiply-adds: results are the bits of the CPU twins.
FLAGS = ("-std=c++17", "-O3", "--fmad=false", "-Werror", "all-warnings", "-cubin")

#: Names the folder of modules that lie ready, see `compile_ready`.
READY = "TAILWIRE_KERNELS"

_TIMEOUT_S = 300


def find_nvcc() -> Path | None:
    """NVIDIA's compiler: on the path, below `$CUDA_HOME` or /usr/local, or from a wheel of PyPI."""
    on_path = shutil.which("nvcc")
    if on_path:
        return Path(on_path)
    folders = [Path(os.environ[name]) for name in ("CUDA_HOME", "CUDA_PATH") if name in os.environ]
    folders += [Path("/usr/local/cuda"), *sorted(Path("/usr/local").glob("cuda-*"), reverse=True)]
    wheels = importlib.util.find_spec("nvidia")
    for place in () if wheels is None else wheels.submodule_search_locations or ():
        # `nvidia-cuda-nvcc` puts it into cu13, its forerunners into cuda_nvcc.
        folders += sorted(Path(place).glob("cu*"), reverse=True)
    for folder in folders:
        if os.access(folder / "bin" / "nvcc", os.X_OK):
            return folder / "bin" / "nvcc"
    return None


def compile_kernel(name: str, architecture: str, folder: Path) -> Path:
    """The compiled module of one source: one that lies ready, or made now if it is not there.

    Args:
        name: one of `CUDA_SOURCES`.
        architecture: e.g. `sm_87`.
        folder: where modules are kept; made if missing.

    Returns:
        The `.cubin` file.

    Raises:
        RuntimeError: there is no compiler, or it does not compile the source for this architecture.
    """
    ready = os.environ.get(READY)
    if ready and (module := _ready_path(Path(ready), name, architecture)).exists():
        return module
    nvcc = _compiler()
    version = _run([str(nvcc), "--version"]).stdout
    target = folder / f"{name}-{architecture}-{_digest(name, architecture, version)}.cubin"
    if not target.exists():
        _compile(nvcc, name, architecture, target)
    return target


def compile_ready(folder: Path, architectures: Sequence[str]) -> list[Path]:
    """Compile all sources for machines without a compiler, which are told of the folder by `READY`.

    Args:
        folder: made if missing.
        architectures: e.g. `sm_87`.

    Returns:
        The `.cubin` files.

    Raises:
        RuntimeError: as `compile_kernel`.
    """
    nvcc, made = _compiler(), list[Path]()
    for architecture in architectures:
        for name in CUDA_SOURCES:
            made.append(_ready_path(folder, name, architecture))
            _compile(nvcc, name, architecture, made[-1])
    return made


def _ready_path(folder: Path, name: str, architecture: str) -> Path:
    """Of a module of these very sources, whatever compiled it."""
    return folder / f"{name}-{architecture}-ready-{_digest(name, architecture)}.cubin"


def _digest(name: str, architecture: str, version: str = "") -> str:
    digest = hashlib.sha256("\n".join([architecture, version, *FLAGS]).encode())
    for path in (_FOLDER / f"{name}.cu", _FOLDER / f"{name}.h", _FOLDER / "device.h"):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _compiler() -> Path:
    nvcc = find_nvcc()
    if nvcc is None:
        raise RuntimeError(
            "no nvcc was found on the path, below $CUDA_HOME or /usr/local, or from PyPI; "
            "install the CUDA toolkit (on a Jetson: apt install cuda-nvcc-12-6 or -13-2)"
        )
    return nvcc


def _compile(nvcc: Path, name: str, architecture: str, target: Path) -> None:
    source = _FOLDER / f"{name}.cu"
    target.parent.mkdir(parents=True, exist_ok=True)
    made = target.with_name(f".partial-{os.getpid()}-{target.name}")
    try:
        done = _run([str(nvcc), *FLAGS, f"-arch={architecture}", str(source), "-o", str(made)])
        if done.returncode:
            message = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["no message"]
            raise RuntimeError(
                f"{nvcc} does not compile {name}.cu for {architecture}: {message[0]}"
            )
        # Complete or absent: the rename is the last step.
        made.replace(target)
    finally:
        made.unlink(missing_ok=True)


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, check=False
    )
